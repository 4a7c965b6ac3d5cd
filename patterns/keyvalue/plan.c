/* The plan: made when the slot is bound, and again when the connected server turns out to offer
 * something else. RPCs follow it, GetCapabilities prints it, and `prismctl check` makes one from
 * the backend's descriptor alone. */
#include "patterns/keyvalue/batch.h"
#include "patterns/keyvalue/keyvalue_priv.h"

enum { WIDTH_DEFAULT = 10 };

static const struct need needs[NEED_COUNT] = {
    [NEED_TTL] = NEED("expiration", BACKEND_KV_TTL, "KeyValueTTLInterface"),
    [NEED_SCAN] = NEED("scan", BACKEND_KV_SCAN, "KeyValueScanInterface"),
    [NEED_BATCH] =
        NEED_OR_EMULATE("batch", BACKEND_KV_BATCH, "KeyValueBatchInterface", "keyvalue_batch"),
    [NEED_TXN] = NEED("atomic batch", BACKEND_KV_TXN, "KeyValueTransactionalInterface"),
    [NEED_CAS] = NEED("precondition", BACKEND_KV_CAS, "KeyValueCASInterface"),
};

static const struct need ttl_or_emulate =
    NEED_OR_EMULATE("expiration", BACKEND_KV_TTL, "KeyValueTTLInterface", "keyvalue_ttl");

static const struct need scan_or_emulate =
    NEED_OR_EMULATE("scan", BACKEND_KV_SCAN, "KeyValueScanInterface", "keyvalue_scan");

enum {
    LIMIT_ITEM = LIMIT_KEY | LIMIT_VALUE,
    LIMIT_KEYS = LIMIT_KEY | LIMIT_ITEMS,
};

const struct keyvalue_operation keyvalue_operation_table[] = {
    {"GetCapabilities", NULL, NEED_NOTHING, ACTS_READ, CALLS_NONE, 0},
    {"Store", NULL, NEED_NOTHING, ACTS_WRITE, CALLS_ONE, LIMIT_ITEM},
    {"Store", "expiration", NEED_TTL, ACTS_WRITE, CALLS_ONE, LIMIT_ITEM | LIMIT_EXPIRATION},
    {"Store", "if_absent", NEED_CAS, ACTS_WRITE, CALLS_ONE, LIMIT_ITEM},
    {"Store", "if_version", NEED_CAS, ACTS_WRITE, CALLS_ONE, LIMIT_ITEM},
    {"Retrieve", NULL, NEED_NOTHING, ACTS_READ, CALLS_ONE, LIMIT_KEY | LIMIT_RESPONSE},
    {"Remove", NULL, NEED_NOTHING, ACTS_WRITE, CALLS_ONE, LIMIT_KEY},
    {"Exists", NULL, NEED_NOTHING, ACTS_READ, CALLS_ONE, LIMIT_KEY},
    {"StoreBatch", NULL, NEED_BATCH, ACTS_WRITE, CALLS_BATCH, LIMIT_KEYS | LIMIT_VALUE},
    {"StoreBatch", "atomic", NEED_TXN, ACTS_WRITE_ALL_OR_NOTHING, CALLS_ONE,
     LIMIT_KEYS | LIMIT_VALUE},
    {"RetrieveBatch", NULL, NEED_BATCH, ACTS_READ, CALLS_BATCH, LIMIT_KEYS | LIMIT_RESPONSE},
    {"RemoveBatch", NULL, NEED_BATCH, ACTS_WRITE, CALLS_BATCH, LIMIT_KEYS},
    {"RemoveBatch", "atomic", NEED_TXN, ACTS_WRITE_ALL_OR_NOTHING, CALLS_ONE, LIMIT_KEYS},
    {"Scan", NULL, NEED_SCAN, ACTS_READ, CALLS_SCAN, LIMIT_KEY | LIMIT_PAGES | LIMIT_RESPONSE},
    {"SetExpiration", NULL, NEED_TTL, ACTS_WRITE, CALLS_ONE, LIMIT_KEY | LIMIT_EXPIRATION},
    {"GetExpiration", NULL, NEED_TTL, ACTS_READ, CALLS_ONE, LIMIT_KEY | LIMIT_EXPIRATION},
    {"ClearExpiration", NULL, NEED_TTL, ACTS_WRITE, CALLS_ONE, LIMIT_KEY},
    {"Count", NULL, NEED_SCAN, ACTS_READ, CALLS_SCAN, LIMIT_KEY},
    {.name = NULL},
};

static enum keyvalue_batching batching_of(const struct keyvalue_offer *offer)
{
    if (offer->has->kv_batch != NULL)
        return BATCHING_NATIVE;
    if (offer->inline_ok)
        return BATCHING_PIPELINED;
    return (offer->emulate & 1u << BACKEND_KV_BATCH) != 0 ? BATCHING_EMULATED : BATCHING_NONE;
}

struct keyvalue_plan keyvalue_plan_make(const struct keyvalue_offer *offer)
{
    const struct backend_interfaces *has = offer->has;
    enum keyvalue_batching batching = batching_of(offer);
    const struct kv_batch *many = has->kv_batch;
    const struct kv_ttl *ttl_emulated = offer->emulations->kv_ttl;
    bool emulate_ttl = (offer->emulate & 1u << BACKEND_KV_TTL) != 0 && has->kv_ttl == NULL;
    const struct kv_scan *scan_emulated = offer->emulations->kv_scan;
    bool emulate_scan = (offer->emulate & 1u << BACKEND_KV_SCAN) != 0 && has->kv_scan == NULL;
    batch_run_fn *run = NULL;

    if (batching == BATCHING_PIPELINED && has->kv_basic != NULL)
        many = has->kv_basic->window;
    if (batching != BATCHING_NONE)
        run = many != NULL ? batch_run_many : batch_run_singles;

    return (struct keyvalue_plan){
        .basic = has->kv_basic,
        .ttl = emulate_ttl ? ttl_emulated : has->kv_ttl,
        .ttl_emulated = emulate_ttl && ttl_emulated != NULL,
        .ttl_emulatable = has->kv_ttl == NULL && ttl_emulated != NULL,
        .scan = emulate_scan ? scan_emulated : has->kv_scan,
        .scan_emulatable = has->kv_scan == NULL && scan_emulated != NULL,
        .batch = many,
        .txn = has->kv_txn,
        .cas = has->kv_cas,
        .batching = batching,
        .run_batch = run,
        .width = offer->width != 0 ? offer->width : WIDTH_DEFAULT,
        .in_order = offer->ordered,
    };
}

bool keyvalue_plan_meets(const struct keyvalue_plan *plan, enum keyvalue_need need)
{
    switch (need) {
    case NEED_TTL:
        return plan->ttl != NULL;
    case NEED_SCAN:
        return plan->scan != NULL;
    case NEED_BATCH:
        return plan->run_batch != NULL;
    case NEED_TXN:
        return plan->txn != NULL;
    case NEED_CAS:
        return plan->cas != NULL;
    case NEED_NOTHING:
    case NEED_COUNT:
        break;
    }
    return true;
}

const struct need *keyvalue_need_of(const struct keyvalue_plan *plan, enum keyvalue_need need)
{
    if (need == NEED_TTL && plan->ttl_emulatable)
        return &ttl_or_emulate;
    if (need == NEED_SCAN && plan->scan_emulatable)
        return &scan_or_emulate;
    return need != NEED_NOTHING ? &needs[need] : NULL;
}

struct err keyvalue_unsupported(enum keyvalue_need need)
{
    return need_unmet(&needs[need]);
}

enum pattern_how keyvalue_how(const struct keyvalue_plan *plan, enum keyvalue_need need)
{
    static const enum pattern_how batches[] = {
        [BATCHING_NATIVE] = PATTERN_NATIVE,
        [BATCHING_PIPELINED] = PATTERN_PIPELINED,
        [BATCHING_EMULATED] = PATTERN_EMULATED,
    };

    if (plan->basic == NULL || !keyvalue_plan_meets(plan, need))
        return PATTERN_UNAVAILABLE;
    if (need == NEED_BATCH)
        return batches[plan->batching];
    if (need == NEED_TTL && plan->ttl_emulated)
        return PATTERN_EMULATED;
    return need == NEED_SCAN && plan->scan->emulated ? PATTERN_EMULATED : PATTERN_NATIVE;
}

size_t keyvalue_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                           struct pattern_operation *out, size_t max)
{
    static const struct backend_interfaces nothing;
    const struct backend_type *type = slots[0];
    struct keyvalue_plan plan = keyvalue_plan_make(&(struct keyvalue_offer){
        .has = type != NULL ? &type->interfaces : &nothing,
        .emulations = type != NULL ? &type->emulations : &nothing,
        .inline_ok = type != NULL && type->inline_ok,
        .ordered = type != NULL && type->ordered,
        .emulate = emulate[0],
    });
    size_t n = 0;

    for (const struct keyvalue_operation *row = keyvalue_operation_table; row->name; row++) {
        enum pattern_how how = keyvalue_how(&plan, row->need);

        if (n == max)
            break;
        out[n++] = (struct pattern_operation){
            .name = row->name,
            .variant = row->variant,
            .how = how,
            .why = how != PATTERN_UNAVAILABLE ? NULL
                   : plan.basic == NULL ? "no backend with KeyValueBasicInterface in slot `primary`"
                                        : keyvalue_need_of(&plan, row->need)->why,
        };
    }
    return n;
}
