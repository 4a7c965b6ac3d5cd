/* GetCapabilities: the plan, printed. Built when the pattern is bound and again when the backend's
 * facts change, and kept as packed bytes, so that answering is one copy. */
#include "patterns/caps.h"
#include "patterns/keyvalue/keyvalue_priv.h"

/* ---- parts of one operation ---- */

static const char *calls_of(const struct keyvalue *kv, const struct keyvalue_operation *row,
                            struct arena *arena)
{
    const struct keyvalue_plan *plan = &kv->plan;

    switch (row->calls) {
    case CALLS_NONE:
        return "0";
    case CALLS_BATCH:
        return plan->batching == BATCHING_NATIVE ? plan->batch->calls : "n";
    case CALLS_SCAN:
        if (strcmp(plan->scan->calls, "1") == 0)
            return arena_printf(arena, "ceil(m/%u)", keyvalue_page_items(kv));
        return arena_printf(arena, "ceil(m/%u) * (%s)", keyvalue_page_items(kv), plan->scan->calls);
    case CALLS_ONE:
        break;
    }
    return "1";
}

static schema_ordering ordering_of(const struct keyvalue_plan *plan,
                                   const struct keyvalue_operation *row)
{
    if ((row->limits & LIMIT_ITEMS) != 0)
        return PRISM__PATTERNS__SCHEMAS__ORDERING__REQUEST_ORDER;
    if ((row->limits & LIMIT_PAGES) == 0)
        return PRISM__PATTERNS__SCHEMAS__ORDERING__ORDERING_UNSPECIFIED;
    return plan->scan->ordered ? PRISM__PATTERNS__SCHEMAS__ORDERING__KEY_ORDER
                               : PRISM__PATTERNS__SCHEMAS__ORDERING__UNORDERED;
}

/* ---- limits ---- */

static void set_batch_limits(schema_operation_limits *limits, const struct keyvalue *kv,
                             const struct keyvalue_operation *row)
{
    bool atomic = row->need == NEED_TXN;
    uint32_t items = atomic ? keyvalue_atomic_items(kv) : kv->settings.max_batch_items;

    CAPS_LIMIT(limits, max_items, MAX_ITEMS, items);
    if (!atomic)
        CAPS_LIMIT(limits, max_in_flight, MAX_IN_FLIGHT, (int32_t)kv->plan.width);
}

static schema_operation_limits *limits_of(const struct keyvalue *kv,
                                          const struct keyvalue_operation *row, struct arena *arena)
{
    const struct backend_limits *own = &kv->backend->limits;
    schema_operation_limits *limits = caps_limits(arena);

    if ((row->limits & LIMIT_KEY) != 0 && own->key_bytes != 0)
        CAPS_LIMIT(limits, max_key_bytes, MAX_KEY_BYTES, (int64_t)own->key_bytes);
    if ((row->limits & LIMIT_VALUE) != 0)
        CAPS_LIMIT(limits, max_value_bytes, MAX_VALUE_BYTES, (int64_t)check_max_value(kv));
    if ((row->limits & LIMIT_ITEMS) != 0)
        set_batch_limits(limits, kv, row);
    if ((row->limits & LIMIT_PAGES) != 0) {
        CAPS_LIMIT(limits, default_limit, DEFAULT_LIMIT, KEYVALUE_SCAN_DEFAULT_LIMIT);
        CAPS_LIMIT(limits, max_limit, MAX_LIMIT, (int32_t)kv->settings.scan_max_limit);
    }
    if ((row->limits & LIMIT_EXPIRATION) != 0)
        CAPS_LIMIT(limits, expiration_step_ms, EXPIRATION_STEP_MS, (int64_t)kv->plan.ttl->step_ms);
    if ((row->limits & LIMIT_RESPONSE) != 0)
        CAPS_LIMIT(limits, max_response_bytes, MAX_RESPONSE_BYTES, kv->max_message_bytes);
    return row->limits != 0 ? limits : NULL;
}

/* ---- operations ---- */

static schema_operation_capability *operation_of(const struct keyvalue *kv,
                                                 const struct keyvalue_operation *row,
                                                 struct arena *arena)
{
    static const schema_atomicity atomicity[] = {
        [ACTS_READ] = PRISM__PATTERNS__SCHEMAS__ATOMICITY__ATOMICITY_UNSPECIFIED,
        [ACTS_WRITE] = PRISM__PATTERNS__SCHEMAS__ATOMICITY__PER_ITEM,
        [ACTS_WRITE_ALL_OR_NOTHING] = PRISM__PATTERNS__SCHEMAS__ATOMICITY__ALL_OR_NOTHING,
    };
    struct caps_operation operation = {
        .name = row->name,
        .variant = row->variant,
        .how = keyvalue_how(&kv->plan, row->need),
        .unmet = keyvalue_need_of(&kv->plan, row->need),
    };

    if (operation.how != PATTERN_UNAVAILABLE) {
        operation.calls = calls_of(kv, row, arena);
        operation.atomicity = atomicity[row->acts];
        operation.ordering = ordering_of(&kv->plan, row);
        if (row->acts != ACTS_READ) {
            operation.acknowledgement = caps_acknowledgement(kv->backend->store);
            operation.eviction = (enum backend_eviction)atomic_load(&kv->backend->store->eviction);
        }
        operation.limits = limits_of(kv, row, arena);
    }
    return caps_operation(&operation, arena);
}

static void describe_operations(const struct keyvalue *kv, struct arena *arena,
                                pb_capabilities *caps)
{
    size_t n = 0;

    while (keyvalue_operation_table[n].name != NULL)
        n++;
    caps->n_operations = n;
    caps->operations = arena_alloc(arena, n * sizeof *caps->operations);
    for (size_t i = 0; i < n; i++)
        caps->operations[i] = operation_of(kv, &keyvalue_operation_table[i], arena);
}

/* ---- the whole ---- */

static pb_slot_configuration *slot_of(const struct keyvalue *kv, struct arena *arena)
{
    pb_slot_configuration *slot = arena_alloc(arena, sizeof *slot);

    prism__patterns__keyvalue__slot_configuration__init(slot);
    slot->primary_backend_type = pb_text(kv->backend->type->name);
    slot->primary_interfaces = caps_interfaces(kv->backend, arena, &slot->n_primary_interfaces);
    return slot;
}

static void describe_performance(const struct keyvalue_plan *plan, pb_capabilities *caps)
{
    caps->scan_performance =
        plan->scan == NULL     ? PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_UNAVAILABLE
        : plan->scan->emulated ? PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_EMULATED
                               : PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_NATIVE;
    caps->batch_performance = PRISM__PATTERNS__KEYVALUE__BATCH_PERFORMANCE__BATCH_PIPELINE;
    if (plan->batching == BATCHING_NATIVE)
        caps->batch_performance = PRISM__PATTERNS__KEYVALUE__BATCH_PERFORMANCE__BATCH_NATIVE;
    if (plan->batching == BATCHING_NONE)
        caps->batch_performance = PRISM__PATTERNS__KEYVALUE__BATCH_PERFORMANCE__BATCH_UNAVAILABLE;
}

pb_capabilities *keyvalue_describe(const struct keyvalue *kv, struct arena *arena)
{
    const struct backend_limits *limits = &kv->backend->limits;
    pb_capabilities *caps = arena_alloc(arena, sizeof *caps);

    prism__patterns__keyvalue__capabilities__init(caps);
    caps->slots = slot_of(kv, arena);
    caps->supports_batch = keyvalue_plan_meets(&kv->plan, NEED_BATCH);
    caps->supports_scan = keyvalue_plan_meets(&kv->plan, NEED_SCAN);
    caps->supports_expiration = keyvalue_plan_meets(&kv->plan, NEED_TTL);
    caps->supports_transactions = keyvalue_plan_meets(&kv->plan, NEED_TXN);
    caps->supports_preconditions = keyvalue_plan_meets(&kv->plan, NEED_CAS);
    describe_performance(&kv->plan, caps);
    if (limits->key_bytes != 0) {
        caps->_max_key_size_case =
            PRISM__PATTERNS__KEYVALUE__CAPABILITIES___MAX_KEY_SIZE_MAX_KEY_SIZE;
        caps->max_key_size = (int64_t)limits->key_bytes;
    }
    caps->_max_value_size_case =
        PRISM__PATTERNS__KEYVALUE__CAPABILITIES___MAX_VALUE_SIZE_MAX_VALUE_SIZE;
    caps->max_value_size = (int64_t)check_max_value(kv);
    describe_operations(kv, arena, caps);
    caps->generation = caps_generation(&caps->base);
    return caps;
}

void keyvalue_caps_build(struct keyvalue *kv)
{
    struct arena scratch;

    arena_clear(&kv->caps_memory);
    arena_init(&scratch, NULL);
    kv->caps = caps_freeze(&keyvalue_describe(kv, &scratch)->base, &kv->caps_memory);
    arena_clear(&scratch);
}

void keyvalue_get_capabilities(struct call *call)
{
    struct keyvalue *kv = keyvalue_of(call);

    if (kv->caps == NULL)
        keyvalue_caps_build(kv);
    call_reply(call, kv->caps);
}
