/* GetCapabilities: the plan, printed. Built when the pattern is bound and again when the backend's
 * facts change, and kept as packed bytes, so that answering is one copy (encoding it each time cost
 * twice as much as all the rest of the call). */
#include "patterns/keyvalue/keyvalue_priv.h"

#include <stdlib.h>

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

static schema_acknowledgement acknowledgement_of(const struct keyvalue *kv)
{
    switch ((enum backend_ack)atomic_load(&kv->backend->store->ack)) {
    case BACKEND_ACK_MEMORY:
        return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__MEMORY;
    case BACKEND_ACK_DISK:
        return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__DISK;
    case BACKEND_ACK_QUORUM_MEMORY:
        return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__QUORUM_MEMORY;
    case BACKEND_ACK_QUORUM_DISK:
        return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__QUORUM_DISK;
    case BACKEND_ACK_UNKNOWN:
        break;
    }
    return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__UNKNOWN;
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

/* protobuf-c makes a one-member oneof of each optional field; its case is the field's number. */
#define SET(limits, field, NUMBER, value)                                                          \
    ((limits)->_##field##_case = PRISM__PATTERNS__SCHEMAS__OPERATION_LIMITS___##NUMBER,            \
     (limits)->field = (value))

static void set_batch_limits(struct schema_operation_limits *limits, const struct keyvalue *kv,
                             const struct keyvalue_operation *row)
{
    bool atomic = row->need == NEED_TXN;
    uint32_t items = atomic ? keyvalue_atomic_items(kv) : kv->settings.max_batch_items;

    SET(limits, max_items, MAX_ITEMS_MAX_ITEMS, items);
    if (!atomic)
        SET(limits, max_in_flight, MAX_IN_FLIGHT_MAX_IN_FLIGHT, (int32_t)kv->plan.width);
}

static struct schema_operation_limits *limits_of(const struct keyvalue *kv,
                                                 const struct keyvalue_operation *row,
                                                 struct arena *arena)
{
    const struct backend_limits *own = &kv->backend->limits;
    struct schema_operation_limits *limits = arena_alloc(arena, sizeof *limits);

    prism__patterns__schemas__operation_limits__init(limits);
    if ((row->limits & LIMIT_KEY) != 0 && own->key_bytes != 0)
        SET(limits, max_key_bytes, MAX_KEY_BYTES_MAX_KEY_BYTES, (int64_t)own->key_bytes);
    if ((row->limits & LIMIT_VALUE) != 0 && own->value_bytes != 0)
        SET(limits, max_value_bytes, MAX_VALUE_BYTES_MAX_VALUE_BYTES, (int64_t)own->value_bytes);
    if ((row->limits & LIMIT_ITEMS) != 0)
        set_batch_limits(limits, kv, row);
    if ((row->limits & LIMIT_PAGES) != 0) {
        SET(limits, default_limit, DEFAULT_LIMIT_DEFAULT_LIMIT, KEYVALUE_SCAN_DEFAULT_LIMIT);
        SET(limits, max_limit, MAX_LIMIT_MAX_LIMIT, (int32_t)kv->settings.scan_max_limit);
    }
    if ((row->limits & LIMIT_EXPIRATION) != 0)
        SET(limits, expiration_step_ms, EXPIRATION_STEP_MS_EXPIRATION_STEP_MS,
            (int64_t)kv->plan.ttl->step_ms);
    if ((row->limits & LIMIT_RESPONSE) != 0)
        SET(limits, max_response_bytes, MAX_RESPONSE_BYTES_MAX_RESPONSE_BYTES,
            kv->max_message_bytes);
    return row->limits != 0 ? limits : NULL;
}

/* ---- operations ---- */

static size_t count_types(void)
{
    size_t n = 0;

    while (backend_all()[n] != NULL)
        n++;
    return n;
}

static struct schema_unavailable_reason *reason_of(enum keyvalue_need need, struct arena *arena)
{
    struct schema_unavailable_reason *reason = arena_alloc(arena, sizeof *reason);
    enum backend_interface missing = keyvalue_interface_of(need);
    const struct backend_type *const *types = backend_all();

    prism__patterns__schemas__unavailable_reason__init(reason);
    reason->message = pb_text(keyvalue_unsupported(need).text);
    reason->missing_interface = pb_text(backend_interface_name(missing));
    reason->provided_by = arena_alloc(arena, (count_types() + 1) * sizeof *reason->provided_by);
    for (size_t i = 0; types[i] != NULL; i++) {
        if (backend_offers(&types[i]->interfaces, missing))
            reason->provided_by[reason->n_provided_by++] = pb_text(types[i]->name);
    }
    if (need == NEED_BATCH)
        reason->provided_by[reason->n_provided_by++] =
            arena_printf(arena, "emulate: [%s]", backend_interface_key(missing));
    return reason;
}

static struct schema_operation_capability *operation_of(const struct keyvalue *kv,
                                                        const struct keyvalue_operation *row,
                                                        struct arena *arena)
{
    static const schema_atomicity atomicity[] = {
        [ACTS_READ] = PRISM__PATTERNS__SCHEMAS__ATOMICITY__ATOMICITY_UNSPECIFIED,
        [ACTS_WRITE] = PRISM__PATTERNS__SCHEMAS__ATOMICITY__PER_ITEM,
        [ACTS_WRITE_ALL_OR_NOTHING] = PRISM__PATTERNS__SCHEMAS__ATOMICITY__ALL_OR_NOTHING,
    };
    static const schema_implementation implementations[] = {
        [PATTERN_NATIVE] = PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__NATIVE,
        [PATTERN_PIPELINED] = PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__PIPELINED,
        [PATTERN_EMULATED] = PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__EMULATED,
    };
    struct schema_operation_capability *operation = arena_alloc(arena, sizeof *operation);
    enum pattern_how how = keyvalue_how(&kv->plan, row->need);

    prism__patterns__schemas__operation_capability__init(operation);
    operation->operation = pb_text(row->name);
    if (row->variant != NULL)
        operation->variant = pb_text(row->variant);
    if (how == PATTERN_UNAVAILABLE) {
        operation->availability = PRISM__PATTERNS__SCHEMAS__AVAILABILITY__UNAVAILABLE;
        operation->unavailable_reason = reason_of(row->need, arena);
        return operation;
    }
    operation->availability = PRISM__PATTERNS__SCHEMAS__AVAILABILITY__AVAILABLE;
    operation->how = implementations[how];
    operation->backend_calls = pb_text(calls_of(kv, row, arena));
    operation->atomicity = atomicity[row->acts];
    operation->ordering = ordering_of(&kv->plan, row);
    if (row->acts != ACTS_READ)
        operation->acknowledgement = acknowledgement_of(kv);
    operation->limits = limits_of(kv, row, arena);
    return operation;
}

static void describe_operations(const struct keyvalue *kv, struct arena *arena,
                                struct pb_capabilities *caps)
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

static struct pb_slot_configuration *slot_of(const struct keyvalue *kv, struct arena *arena)
{
    struct pb_slot_configuration *slot = arena_alloc(arena, sizeof *slot);

    prism__patterns__keyvalue__slot_configuration__init(slot);
    slot->primary_backend_type = pb_text(kv->backend->type->name);
    slot->primary_interfaces =
        arena_alloc(arena, BACKEND_INTERFACE_COUNT * sizeof *slot->primary_interfaces);
    for (int i = 0; i < BACKEND_INTERFACE_COUNT; i++) {
        if (backend_offers(&kv->backend->has, (enum backend_interface)i))
            slot->primary_interfaces[slot->n_primary_interfaces++] =
                pb_text(backend_interface_name((enum backend_interface)i));
    }
    return slot;
}

static void describe_performance(const struct keyvalue_plan *plan, struct pb_capabilities *caps)
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

struct pb_capabilities *keyvalue_describe(const struct keyvalue *kv, struct arena *arena)
{
    const struct backend_limits *limits = &kv->backend->limits;
    struct pb_capabilities *caps = arena_alloc(arena, sizeof *caps);

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
    if (limits->value_bytes != 0) {
        caps->_max_value_size_case =
            PRISM__PATTERNS__KEYVALUE__CAPABILITIES___MAX_VALUE_SIZE_MAX_VALUE_SIZE;
        caps->max_value_size = (int64_t)limits->value_bytes;
    }
    describe_operations(kv, arena, caps);
    return caps;
}

/* An otherwise empty message whose one unknown field is all of the packed one: its first field's
 * tag, and as "data" the rest, length included. It is encoded to the very same bytes, by a copy. */
static struct pb_capabilities *freeze(const struct pb_capabilities *caps, struct arena *arena)
{
    enum { SLOTS = 1 };
    size_t bytes = protobuf_c_message_get_packed_size(&caps->base);
    uint8_t *packed = arena_alloc(arena, bytes);
    ProtobufCMessageUnknownField *all = arena_zalloc(arena, sizeof *all);
    struct pb_capabilities *frozen = arena_alloc(arena, sizeof *frozen);

    protobuf_c_message_pack(&caps->base, packed);
    if (packed[0] != (SLOTS << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED))
        abort(); /* `slots` is always present and always first */
    all->tag = SLOTS;
    all->wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    all->data = packed + 1;
    all->len = bytes - 1;
    prism__patterns__keyvalue__capabilities__init(frozen);
    frozen->base.n_unknown_fields = 1;
    frozen->base.unknown_fields = all;
    return frozen;
}

void keyvalue_caps_build(struct keyvalue *kv)
{
    struct arena scratch;

    arena_clear(&kv->caps_memory);
    arena_init(&scratch, NULL);
    kv->caps = freeze(keyvalue_describe(kv, &scratch), &kv->caps_memory);
    arena_clear(&scratch);
}

void keyvalue_get_capabilities(struct call *call)
{
    struct keyvalue *kv = keyvalue_of(call);

    if (kv->caps == NULL)
        keyvalue_caps_build(kv);
    call_reply(call, &kv->caps->base);
}
