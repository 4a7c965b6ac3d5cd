/* The server's capabilities: its answer as plain C, and for each thing a backend may lack whether
 * it is there. The answer's list of operations decides; where it says nothing (an older server),
 * its flags. */
#include "client/src/channel.h"
#include "client/src/error.h"
#include "client/src/keyvalue_priv.h"
#include "client/src/operations.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *word; /* for people */
    const char *operation, *variant;
    size_t flag; /* in struct prism_keyvalue_capabilities */
} known[FEATURE_COUNT] = {
#define FLAG(name) offsetof(struct prism_keyvalue_capabilities, supports_##name)
    [FEATURE_STORE_BATCH] = {"batch", "StoreBatch", "", FLAG(batch)},
    [FEATURE_RETRIEVE_BATCH] = {"batch", "RetrieveBatch", "", FLAG(batch)},
    [FEATURE_REMOVE_BATCH] = {"batch", "RemoveBatch", "", FLAG(batch)},
    [FEATURE_SCAN] = {"scan", "Scan", "", FLAG(scan)},
    [FEATURE_COUNT_KEYS] = {"count", "Count", "", FLAG(scan)},
    [FEATURE_SET_EXPIRATION] = {"expiration", "SetExpiration", "", FLAG(expiration)},
    [FEATURE_GET_EXPIRATION] = {"expiration", "GetExpiration", "", FLAG(expiration)},
    [FEATURE_CLEAR_EXPIRATION] = {"expiration", "ClearExpiration", "", FLAG(expiration)},
    [FEATURE_STORE_EXPIRATION] = {"expiration", "Store", "expiration", FLAG(expiration)},
    [FEATURE_IF_ABSENT] = {"if_absent", "Store", "if_absent", FLAG(preconditions)},
    [FEATURE_IF_VERSION] = {"if_version", "Store", "if_version", FLAG(preconditions)},
    [FEATURE_ATOMIC_STORE_BATCH] = {"atomic batch", "StoreBatch", "atomic", FLAG(transactions)},
    [FEATURE_ATOMIC_REMOVE_BATCH] = {"atomic batch", "RemoveBatch", "atomic", FLAG(transactions)},
#undef FLAG
};

static enum prism_performance scan_performance(int value)
{
    switch (value) {
    case PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_NATIVE:
        return PRISM_NATIVE;
    case PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_EMULATED:
        return PRISM_EMULATED;
    case PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_UNAVAILABLE:
        return PRISM_UNAVAILABLE_OPERATION;
    default:
        return PRISM_PERFORMANCE_UNKNOWN;
    }
}

static enum prism_performance batch_performance(int value)
{
    switch (value) {
    case PRISM__PATTERNS__KEYVALUE__BATCH_PERFORMANCE__BATCH_NATIVE:
        return PRISM_NATIVE;
    case PRISM__PATTERNS__KEYVALUE__BATCH_PERFORMANCE__BATCH_PIPELINE:
        return PRISM_PIPELINED;
    case PRISM__PATTERNS__KEYVALUE__BATCH_PERFORMANCE__BATCH_UNAVAILABLE:
        return PRISM_UNAVAILABLE_OPERATION;
    default:
        return PRISM_PERFORMANCE_UNKNOWN;
    }
}

static const struct prism_operation *find_operation(
    const struct prism_keyvalue_capabilities *capabilities, const char *name, const char *variant)
{
    for (size_t i = 0; i < capabilities->operation_count; i++) {
        const struct prism_operation *operation = &capabilities->operations[i];

        if (strcmp(operation->name, name) == 0 && strcmp(operation->variant, variant) == 0)
            return operation;
    }
    return NULL;
}

static void feature_init(struct feature *feature, enum keyvalue_feature which,
                         const struct prism_keyvalue_capabilities *capabilities)
{
    const struct prism_operation *operation =
        find_operation(capabilities, known[which].operation, known[which].variant);

    atomic_init(&feature->warned, false);
    feature->reason = feature->backend_calls = "";
    if (operation != NULL) {
        feature->available = operation->available;
        feature->emulated = operation->how == PRISM_EMULATED || operation->how == PRISM_CLIENT_SIDE;
        feature->reason = operation->reason;
        feature->backend_calls = operation->backend_calls;
        return;
    }
    memcpy(&feature->available, (const char *)capabilities + known[which].flag,
           sizeof feature->available);
    feature->emulated = (which == FEATURE_SCAN || which == FEATURE_COUNT_KEYS) &&
                        capabilities->scan_performance == PRISM_EMULATED;
}

static void copy_flags(struct prism_keyvalue_capabilities *to,
                       const Prism__Patterns__Keyvalue__Capabilities *from)
{
    to->backend_type = from->slots ? from->slots->primary_backend_type : "";
    to->interfaces = from->slots ? (const char *const *)from->slots->primary_interfaces : NULL;
    to->interface_count = from->slots ? from->slots->n_primary_interfaces : 0;
    to->supports_batch = from->supports_batch;
    to->supports_scan = from->supports_scan;
    to->supports_expiration = from->supports_expiration;
    to->supports_transactions = from->supports_transactions;
    to->supports_preconditions = from->supports_preconditions;
    to->scan_performance = scan_performance((int)from->scan_performance);
    to->batch_performance = batch_performance((int)from->batch_performance);
    to->max_key_bytes = from->max_key_size;
    to->max_value_bytes = from->max_value_size;
}

void capabilities_init(struct prism_keyvalue *keyvalue,
                       Prism__Patterns__Keyvalue__Capabilities *answer)
{
    struct prism_keyvalue_capabilities *capabilities = &keyvalue->capabilities;

    keyvalue->answer = answer;
    copy_flags(capabilities, answer);
    capabilities->operations = operations_from(answer->operations, answer->n_operations);
    capabilities->operation_count = answer->n_operations;
    for (int i = 0; i < FEATURE_COUNT; i++)
        feature_init(&keyvalue->features[i], (enum keyvalue_feature)i, capabilities);
}

void capabilities_clear(struct prism_keyvalue *keyvalue)
{
    operations_free(keyvalue->capabilities.operations);
    prism__patterns__keyvalue__capabilities__free_unpacked(keyvalue->answer, NULL);
    keyvalue->answer = NULL;
}

const struct prism_keyvalue_capabilities *prism_keyvalue_capabilities(
    const struct prism_keyvalue *keyvalue)
{
    return &keyvalue->capabilities;
}

enum prism_code feature_require(struct prism_keyvalue *keyvalue, enum keyvalue_feature feature,
                                struct prism_error *error)
{
    static const char repeated[] = "not supported: ";
    struct feature *f = &keyvalue->features[feature];
    const char *reason = strstr(f->reason, repeated);

    if (!f->available) {
        /* The server's text begins with "scan not supported: "; we have said that already. */
        reason = reason != NULL ? reason + sizeof repeated - 1 : f->reason;
        return error_set(error, PRISM_UNIMPLEMENTED, "%s not supported by backend (%s)%s%s",
                         known[feature].word, keyvalue->capabilities.backend_type,
                         *reason != '\0' ? ": " : "", reason);
    }
    if (f->emulated && !atomic_exchange_explicit(&f->warned, true, memory_order_relaxed))
        channel_log(keyvalue->channel, PRISM_LOG_WARNING,
                    "%s%s%s is emulated for backend %s%s%s: slower, and perhaps weaker in "
                    "atomicity and order (see its capabilities)",
                    known[feature].operation, *known[feature].variant != '\0' ? " with " : "",
                    known[feature].variant, keyvalue->capabilities.backend_type,
                    *f->backend_calls != '\0' ? ", backend calls " : "", f->backend_calls);
    return PRISM_OK;
}
