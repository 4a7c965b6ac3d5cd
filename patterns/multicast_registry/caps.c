/* GetCapabilities: the plan in the words of the protocol. */
#include "patterns/caps.h"
#include "patterns/multicast_registry/multicast_priv.h"
#include "src/base/container.h"

typedef Prism__Patterns__MulticastRegistry__FilterOperator pb_filter_operator;

static const char *calls_of(const struct multicast *multicast,
                            const struct multicast_operation *row, struct arena *arena)
{
    const struct registry *registry = multicast->plan.registry;

    if (row->need == NEED_SORTING)
        return arena_printf(arena, "%s for each 1000 identities that match, and %s",
                            registry->page_calls, registry->calls);
    if (row->sends)
        return arena_printf(arena, "%s for each page, and 1 publish for each page",
                            registry->page_calls);
    if (row->many && !row->writes)
        return registry->page_calls;
    return row->writes ? registry->calls : "0";
}

static schema_operation_limits *limits_of(const struct multicast *multicast,
                                          const struct multicast_operation *row,
                                          struct arena *arena)
{
    schema_operation_limits *limits = caps_limits(arena);

    if (row->sends) {
        CAPS_LIMIT(limits, max_value_bytes, MAX_VALUE_BYTES,
                   (int64_t)multicast->plan.max_payload_bytes);
        CAPS_LIMIT(limits, max_items, MAX_ITEMS, REGISTRY_BATCH);
        CAPS_LIMIT(limits, max_in_flight, MAX_IN_FLIGHT, (int32_t)multicast->settings.permits);
    } else if (row->writes) {
        CAPS_LIMIT(limits, max_key_bytes, MAX_KEY_BYTES, REGISTRY_IDENTITY_BYTES);
        CAPS_LIMIT(limits, max_value_bytes, MAX_VALUE_BYTES, REGISTRY_DOCUMENT_BYTES);
        if (row->many)
            CAPS_LIMIT(limits, max_items, MAX_ITEMS, REGISTRY_BATCH);
    } else if (row->many) {
        CAPS_LIMIT(limits, max_items, MAX_ITEMS, (int32_t)multicast->settings.max_attached);
    }
    return limits;
}

static schema_operation_capability *operation_of(const struct multicast *multicast,
                                                 const struct multicast_operation *row,
                                                 struct arena *arena)
{
    struct caps_operation operation = {
        .name = row->name,
        .variant = row->variant,
        .how = multicast_how(&multicast->plan, row),
        .unmet = multicast_need_of(row->need),
    };

    if (operation.how == PATTERN_UNAVAILABLE)
        return caps_operation(&operation, arena);
    operation.calls = calls_of(multicast, row, arena);
    operation.limits = limits_of(multicast, row, arena);
    if (row->writes || row->sends)
        operation.atomicity = PRISM__PATTERNS__SCHEMAS__ATOMICITY__PER_ITEM;
    if (row->writes)
        operation.acknowledgement = caps_acknowledgement(multicast->registry->store);
    else if (row->sends)
        operation.acknowledgement = multicast->durability != NULL
                                        ? caps_acknowledgement(multicast->durability->store)
                                        : PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__MEMORY;
    return caps_operation(&operation, arena);
}

static void describe_operations(const struct multicast *multicast, struct arena *arena,
                                pb_multicast_capabilities *caps)
{
    size_t n = 0;

    while (multicast_operation_table[n].name != NULL)
        n++;
    caps->operations = arena_array(arena, n, sizeof *caps->operations);
    for (; caps->n_operations < n; caps->n_operations++)
        caps->operations[caps->n_operations] =
            operation_of(multicast, &multicast_operation_table[caps->n_operations], arena);
}

static pb_multicast_slots *slots_of(const struct multicast *multicast, struct arena *arena)
{
    pb_multicast_slots *slots = arena_alloc(arena, sizeof *slots);

    prism__patterns__multicast_registry__slot_configuration__init(slots);
    slots->registry_backend_type = pb_text(multicast->registry->type->name);
    slots->registry_interfaces =
        caps_interfaces(multicast->registry, arena, &slots->n_registry_interfaces);
    slots->messaging_backend_type = pb_text(multicast->messaging->type->name);
    slots->messaging_interfaces =
        caps_interfaces(multicast->messaging, arena, &slots->n_messaging_interfaces);
    if (multicast->durability == NULL)
        return slots;
    slots->_durability_backend_type_case =
        MULTICAST_PB(SLOT_CONFIGURATION___DURABILITY_BACKEND_TYPE_DURABILITY_BACKEND_TYPE);
    slots->durability_backend_type = pb_text(multicast->durability->type->name);
    slots->durability_interfaces =
        caps_interfaces(multicast->durability, arena, &slots->n_durability_interfaces);
    return slots;
}

/* Returns the operators of a set of FILTER_BITs. */
static pb_filter_operator *operators_of(uint32_t set, struct arena *arena, size_t *n)
{
    pb_filter_operator *operators = arena_array(arena, FILTER_OP_COUNT, sizeof *operators);

    *n = 0;
    for (int op = FILTER_OP_NONE + 1; op < FILTER_OP_COUNT; op++) {
        if ((set & FILTER_BIT(op)) != 0)
            operators[(*n)++] = (pb_filter_operator)op;
    }
    return operators;
}

static void describe_filters(const struct multicast *multicast, struct arena *arena,
                             pb_multicast_capabilities *caps)
{
    uint32_t native = multicast->plan.registry->native;

    caps->supports_filtering = true;
    caps->supports_wildcard_filters = true;
    caps->filter_performance = native == 0 ? MULTICAST_PB(FILTER_PERFORMANCE__FILTER_CLIENT_SIDE)
                               : native == FILTER_ALL_OPS
                                   ? MULTICAST_PB(FILTER_PERFORMANCE__FILTER_NATIVE)
                                   : MULTICAST_PB(FILTER_PERFORMANCE__FILTER_MIXED);
    caps->filter_operators = operators_of(FILTER_ALL_OPS, arena, &caps->n_filter_operators);
    caps->native_filter_operators = operators_of(native, arena, &caps->n_native_filter_operators);
    caps->max_filter_depth = (int32_t)multicast->settings.filter.max_depth;
    caps->max_filter_clauses = (int32_t)multicast->settings.filter.max_clauses;
}

static pb_multicast_capabilities *describe(const struct multicast *multicast, struct arena *arena)
{
    pb_multicast_capabilities *caps = arena_alloc(arena, sizeof *caps);

    prism__patterns__multicast_registry__capabilities__init(caps);
    caps->slots = slots_of(multicast, arena);
    describe_filters(multicast, arena, caps);
    caps->supports_streaming = true;
    caps->supports_durability = multicast->plan.kept_sink != NULL;
    caps->multicast_performance = caps->supports_durability
                                      ? MULTICAST_PB(MULTICAST_PERFORMANCE__MULTICAST_QUEUED)
                                      : MULTICAST_PB(MULTICAST_PERFORMANCE__MULTICAST_FANOUT);
    if (multicast->settings.max_identities > 0 && multicast->settings.max_identities <= INT32_MAX) {
        caps->_max_identities_case = MULTICAST_PB(CAPABILITIES___MAX_IDENTITIES_MAX_IDENTITIES);
        caps->max_identities = (int32_t)multicast->settings.max_identities;
    }
    describe_operations(multicast, arena, caps);
    caps->generation = caps_generation(&caps->base);
    return caps;
}

void multicast_caps_build(struct multicast *multicast)
{
    struct arena scratch;

    arena_clear(&multicast->caps_memory);
    arena_init(&scratch, NULL);

    const pb_multicast_capabilities *caps = describe(multicast, &scratch);

    multicast->caps = caps_freeze(&caps->base, &multicast->caps_memory);
    arena_clear(&scratch);
}

void multicast_get_capabilities(struct call *call)
{
    struct multicast *multicast = multicast_of(call);

    if (multicast->caps == NULL)
        multicast_caps_build(multicast);
    call_reply(call, multicast->caps);
}
