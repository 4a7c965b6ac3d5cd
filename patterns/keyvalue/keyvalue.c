/* The pattern's instance: its slot, its settings, its methods, and how it is bound. */
#include "patterns/keyvalue/keyvalue.h"
#include "patterns/keyvalue/deprecated/deprecated.h"
#include "patterns/keyvalue/keyvalue_priv.h"

#include "pool/worker.h"
#include "src/base/container.h"

/* ---- slot and settings ---- */

static const enum backend_interface required[] = {BACKEND_KV_BASIC, BACKEND_INTERFACE_COUNT};
static const enum backend_interface used[] = {BACKEND_KV_TTL,   BACKEND_KV_SCAN,
                                              BACKEND_KV_BATCH, BACKEND_KV_TXN,
                                              BACKEND_KV_CAS,   BACKEND_INTERFACE_COUNT};
/* Not scan: without one in the store, keys that are not known cannot be found. Not expiration:
 * without one in the store, a key would outlive its time whenever nobody is there to remove it. */
static const enum backend_interface emulatable[] = {BACKEND_KV_BATCH, BACKEND_INTERFACE_COUNT};

static const struct slot_schema slots[] = {
    {
        .name = "primary",
        .doc = "The store that holds the keys, values and expiries.",
        .required = required,
        .used_if_offered = used,
        .emulatable = emulatable,
    },
};

enum behavior {
    EMULATION_WIDTH,
    EMULATION_PERMITS,
    MAX_BATCH_ITEMS,
    MAX_EXPIRATION_SECONDS,
    SCAN_PAGE_ITEMS,
    SCAN_MAX_LIMIT
};

static const struct backend_setting behavior[] = {
    [EMULATION_WIDTH] = {"emulation_width", SETTING_UINT, "0", 0, 10000,
                         "Backend calls in flight for one batch of single operations. 0: what the "
                         "backend advises, else 10."},
    [EMULATION_PERMITS] = {"emulation_permits", SETTING_UINT, "1024", 1, 1000000,
                           "Backend calls in flight for all batches of one worker together."},
    [MAX_BATCH_ITEMS] = {"max_batch_items", SETTING_UINT, "10000", 1, 1000000,
                         "Most items that one batch request may have."},
    [MAX_EXPIRATION_SECONDS] = {"max_expiration_seconds", SETTING_UINT, "3153600000", 1,
                                3153600000u,
                                "Longest expiration that is accepted, in seconds. 100 years."},
    [SCAN_PAGE_ITEMS] = {"scan_page_items", SETTING_UINT, "256", 1, 10000,
                         "Most keys in one message of a scan."},
    [SCAN_MAX_LIMIT] = {"scan_max_limit", SETTING_UINT, "100000", 1, INT32_MAX,
                        "Most keys of one scan; a request for more gets as many, and a cursor."},
    {.name = NULL},
};

/* ---- methods ---- */

#define METHOD(rpc, rpc_kind, often, request_name, response_name, handler)                         \
    {                                                                                              \
        .path = "/prism.patterns.keyvalue.KeyValuePattern/" rpc, .kind = (rpc_kind),               \
        .busy = (often), .request = &prism__patterns__keyvalue__##request_name##__descriptor,      \
        .response = &prism__patterns__keyvalue__##response_name##__descriptor, .handle = (handler) \
    }

static const struct method methods[] = {
    METHOD("GetCapabilities", METHOD_UNARY, false, get_capabilities_request, capabilities,
           keyvalue_get_capabilities),
    METHOD("Store", METHOD_UNARY, true, store_request, store_response, keyvalue_store),
    METHOD("Retrieve", METHOD_UNARY, true, retrieve_request, retrieve_response, keyvalue_retrieve),
    METHOD("Remove", METHOD_UNARY, true, remove_request, remove_response, keyvalue_remove),
    METHOD("Exists", METHOD_UNARY, true, exists_request, exists_response, keyvalue_exists),
    METHOD("StoreBatch", METHOD_UNARY, true, store_batch_request, store_batch_response,
           keyvalue_store_batch),
    METHOD("RetrieveBatch", METHOD_UNARY, true, retrieve_batch_request, retrieve_batch_response,
           keyvalue_retrieve_batch),
    METHOD("RemoveBatch", METHOD_UNARY, true, remove_batch_request, remove_batch_response,
           keyvalue_remove_batch),
    METHOD("Scan", METHOD_SERVER_STREAM, false, scan_request, scan_response, keyvalue_scan),
    METHOD("SetExpiration", METHOD_UNARY, false, set_expiration_request, set_expiration_response,
           keyvalue_set_expiration),
    METHOD("GetExpiration", METHOD_UNARY, false, get_expiration_request, get_expiration_response,
           keyvalue_get_expiration),
    METHOD("ClearExpiration", METHOD_UNARY, false, clear_expiration_request,
           clear_expiration_response, keyvalue_clear_expiration),
    METHOD("Count", METHOD_UNARY, false, count_request, count_response, keyvalue_count),
};

static const struct service service = {
    .name = "prism.patterns.keyvalue.KeyValuePattern",
    .pattern = "keyvalue",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};

static const struct service *const services[] = {
    &service, &keyvalue_old_basic, &keyvalue_old_ttl, &keyvalue_old_batch, &keyvalue_old_scan, NULL,
};

/* ---- where calls run ---- */

/* In the order of the methods. A batch that runs on the poller has some 16 items of the usual size
 * at most. */
enum { ONE_KEY = 16 * 1024, FEW_VALUES = 2560, FEW_KEYS = 384, NEVER = 0 };

static const uint32_t inline_pattern[] = {
    ONE_KEY,  ONE_KEY, ONE_KEY, ONE_KEY, ONE_KEY, FEW_VALUES, FEW_KEYS,
    FEW_KEYS, NEVER,   ONE_KEY, ONE_KEY, ONE_KEY, NEVER,
};
static const uint32_t inline_basic[] = {ONE_KEY, ONE_KEY, ONE_KEY, ONE_KEY};
static const uint32_t inline_ttl[] = {ONE_KEY, ONE_KEY, ONE_KEY};
static const uint32_t inline_batch[] = {FEW_VALUES, FEW_KEYS, FEW_KEYS};
static const uint32_t inline_scan[] = {NEVER, NEVER, NEVER};

static const uint32_t *const inline_tables[] = {inline_pattern, inline_basic, inline_ttl,
                                                inline_batch, inline_scan};

_Static_assert(ARRAY_LEN(inline_pattern) == ARRAY_LEN(methods), "a bound for each method");
_Static_assert(ARRAY_LEN(inline_tables) + 1 == ARRAY_LEN(services), "a table for each service");

static const uint32_t *keyvalue_inline_bytes(const struct pattern *pattern, size_t index)
{
    const struct keyvalue *kv = CONTAINER_OF(pattern, struct keyvalue, base);

    return kv->backend->type->inline_ok ? inline_tables[index] : NULL;
}

/* ---- the instance ---- */

/* An item of a batch and its tags, on the average of a batch: more is not worth its memory. */
enum { ELEMENTS_PER_ITEM = 16 };

static void read_settings(struct keyvalue *kv, const struct pattern_binding *binding)
{
    const struct backend_value *values = binding->behavior;
    struct keyvalue_settings *to = &kv->settings;
    /* A batch whose bare outcomes would overflow a message is refused by its number of items. */
    uint32_t fitting = binding->max_message_bytes / 16;
    int64_t longest = (int64_t)(kv->backend->limits.ttl_ms / 1000);

    to->emulation_width = (uint32_t)values[EMULATION_WIDTH].number;
    to->emulation_permits = (uint32_t)values[EMULATION_PERMITS].number;
    to->max_batch_items = (uint32_t)values[MAX_BATCH_ITEMS].number;
    to->scan_page_items = (uint32_t)values[SCAN_PAGE_ITEMS].number;
    to->scan_max_limit = (uint32_t)values[SCAN_MAX_LIMIT].number;
    to->max_expiration_seconds = (int64_t)values[MAX_EXPIRATION_SECONDS].number;
    if (to->max_batch_items > fitting)
        to->max_batch_items = fitting;
    if (longest != 0 && to->max_expiration_seconds > longest)
        to->max_expiration_seconds = longest;
}

static void make_plan(struct keyvalue *kv)
{
    uint32_t advised = kv->backend->limits.pipeline;
    uint32_t wanted = kv->settings.emulation_width;

    kv->facts = pattern_facts(&kv->binding);
    kv->plan = keyvalue_plan_make(&(struct keyvalue_offer){
        .has = &kv->backend->has,
        .emulations = &kv->backend->type->emulations,
        .inline_ok = kv->backend->type->inline_ok,
        .ordered = kv->backend->type->ordered,
        .emulate = kv->binding.emulate[0],
        .width = wanted != 0 ? wanted : advised,
    });
    kv->caps = NULL;
}

static struct pattern *keyvalue_bind(const struct pattern_binding *binding)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct keyvalue *kv = arena_zalloc(&memory, sizeof *kv);

    kv->base = (struct pattern){
        .type = &pattern_keyvalue,
        .namespace_name = arena_strdup(&memory, slice_str(binding->namespace_name)),
        .home = binding->worker,
    };
    kv->memory = memory;
    kv->backend = binding->slots[0];
    kv->binding = *binding;
    kv->max_message_bytes = binding->max_message_bytes;
    kv->scan_emulated = kv->scan_not_text = (struct log_budget)LOG_BUDGET(1, 60000);
    read_settings(kv, binding);
    kv->base.max_elements = kv->settings.max_batch_items * ELEMENTS_PER_ITEM;
    semaphore_init(&kv->semaphore, kv->settings.emulation_permits);
    arena_init(&kv->caps_memory, NULL);
    make_plan(kv);
    keyvalue_caps_build(kv);
    return &kv->base;
}

static void keyvalue_unbind(struct pattern *pattern)
{
    struct keyvalue *kv = CONTAINER_OF(pattern, struct keyvalue, base);
    struct arena memory = kv->memory;

    arena_clear(&kv->caps_memory);
    arena_clear(&memory);
}

struct keyvalue *keyvalue_of(const struct call *call)
{
    struct keyvalue *kv = call_pattern(call);

    if (pattern_facts(&kv->binding) != kv->facts)
        make_plan(kv);
    return kv;
}

uint32_t keyvalue_page_items(const struct keyvalue *kv)
{
    uint32_t wanted = kv->settings.scan_page_items;
    uint32_t most = kv->plan.scan->max_items;

    return most != 0 && most < wanted ? most : wanted;
}

uint32_t keyvalue_atomic_items(const struct keyvalue *kv)
{
    uint32_t wanted = kv->settings.max_batch_items;
    uint32_t most = kv->plan.txn->max_items;

    return most != 0 && most < wanted ? most : wanted;
}

const struct pattern_type pattern_keyvalue = {
    .name = "keyvalue",
    .service = "prism.patterns.keyvalue.KeyValuePattern",
    .embedded = true,
    .slots = slots,
    .slot_count = ARRAY_LEN(slots),
    .behavior = behavior,
    .services = services,
    .bind = keyvalue_bind,
    .unbind = keyvalue_unbind,
    .inline_bytes = keyvalue_inline_bytes,
    .operations = keyvalue_operations,
    .render = keyvalue_render,
};
