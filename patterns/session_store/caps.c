/* GetCapabilities: the plan in the words of the protocol. */
#include "patterns/caps.h"
#include "patterns/session_store/session_store_priv.h"

#include <string.h>

enum { MS_PER_S = 1000 };

static schema_operation_limits *limits_of(const struct session_store *store,
                                          const struct session_operation *row, struct arena *arena)
{
    schema_operation_limits *limits = caps_limits(arena);

    if (strcmp(row->name, "ListSessions") == 0) {
        CAPS_LIMIT(limits, default_limit, DEFAULT_LIMIT, SESSIONS_DEFAULT_LIMIT);
        CAPS_LIMIT(limits, max_limit, MAX_LIMIT, SESSION_PAGE_ITEMS);
    } else if (row->writes && !row->many) {
        CAPS_LIMIT(limits, max_key_bytes, MAX_KEY_BYTES, SESSION_TEXT_BYTES);
        CAPS_LIMIT(limits, max_value_bytes, MAX_VALUE_BYTES,
                   (int64_t)(store->max_bytes - SESSION_VALUE_COST));
    }
    return limits;
}

static schema_operation_capability *operation_of(const struct session_store *store,
                                                 const struct session_operation *row,
                                                 struct arena *arena)
{
    struct caps_operation operation = {
        .name = row->name, .how = PATTERN_NATIVE, .limits = limits_of(store, row, arena)};

    operation.calls = strcmp(row->name, "GetCapabilities") == 0 ? "0"
                      : row->many                               ? "1 for each page of sessions"
                                                                : "1";
    if (row->writes) {
        operation.atomicity = row->many ? PRISM__PATTERNS__SCHEMAS__ATOMICITY__PER_ITEM
                                        : PRISM__PATTERNS__SCHEMAS__ATOMICITY__ALL_OR_NOTHING;
        operation.acknowledgement = caps_acknowledgement(store->backend->store);
        operation.eviction = (enum backend_eviction)atomic_load(&store->backend->store->eviction);
    } else if (row->many) {
        operation.ordering = PRISM__PATTERNS__SCHEMAS__ORDERING__TOTAL_ORDER;
    }
    return caps_operation(&operation, arena);
}

static void describe_operations(const struct session_store *store, struct arena *arena,
                                pb_session_capabilities *caps)
{
    size_t n = 0;

    while (session_operation_table[n].name != NULL)
        n++;
    caps->operations = arena_array(arena, n, sizeof *caps->operations);
    for (; caps->n_operations < n; caps->n_operations++)
        caps->operations[caps->n_operations] =
            operation_of(store, &session_operation_table[caps->n_operations], arena);
}

static void describe_limits(const struct session_store *store, pb_session_capabilities *caps)
{
    const struct session_settings *settings = &store->settings;

    caps->_max_session_size_case = SESSION_PB(CAPABILITIES___MAX_SESSION_SIZE_MAX_SESSION_SIZE);
    caps->max_session_size = (int64_t)store->max_bytes;
    caps->default_ttl_seconds = (int64_t)(settings->default_ttl_ms / MS_PER_S);
    caps->max_ttl_seconds = (int64_t)(settings->max_ttl_ms / MS_PER_S);
    caps->touch_percent = (int32_t)settings->use.percent;
    caps->max_touch_interval_seconds = (int64_t)(settings->use.max_interval_ms / MS_PER_S);
    caps->on_limit = settings->end_oldest ? SESSION_PB(LIMIT_POLICY__LIMIT_END_OLDEST)
                                          : SESSION_PB(LIMIT_POLICY__LIMIT_REFUSE);
    if (settings->max_life_ms > 0) {
        caps->_max_lifetime_seconds_case =
            SESSION_PB(CAPABILITIES___MAX_LIFETIME_SECONDS_MAX_LIFETIME_SECONDS);
        caps->max_lifetime_seconds = (int64_t)(settings->max_life_ms / MS_PER_S);
    }
    if (settings->max_per_user > 0) {
        caps->_max_sessions_per_user_case =
            SESSION_PB(CAPABILITIES___MAX_SESSIONS_PER_USER_MAX_SESSIONS_PER_USER);
        caps->max_sessions_per_user = settings->max_per_user;
    }
    if (settings->max_sessions > 0) {
        caps->_max_sessions_case = SESSION_PB(CAPABILITIES___MAX_SESSIONS_MAX_SESSIONS);
        caps->max_sessions = (int64_t)settings->max_sessions;
    }
}

static pb_session_slots *slots_of(const struct session_store *store, struct arena *arena)
{
    pb_session_slots *slots = arena_alloc(arena, sizeof *slots);

    prism__patterns__session_store__slot_configuration__init(slots);
    slots->store_backend_type = pb_text(store->backend->type->name);
    slots->store_interfaces = caps_interfaces(store->backend, arena, &slots->n_store_interfaces);
    return slots;
}

static pb_session_capabilities *describe(const struct session_store *store, struct arena *arena)
{
    pb_session_capabilities *caps = arena_alloc(arena, sizeof *caps);

    prism__patterns__session_store__capabilities__init(caps);
    caps->slots = slots_of(store, arena);
    caps->supports_expiration = true;
    caps->supports_sliding_ttl = true;
    caps->supports_listing = true;
    caps->supports_replication = store->methods->replicated;
    caps->list_performance = SESSION_PB(LIST_PERFORMANCE__LIST_NATIVE);
    caps->expiration_performance = store->methods->native_expiry
                                       ? SESSION_PB(EXPIRATION_PERFORMANCE__EXPIRATION_NATIVE)
                                       : SESSION_PB(EXPIRATION_PERFORMANCE__EXPIRATION_EMULATED);
    describe_limits(store, caps);
    describe_operations(store, arena, caps);
    caps->generation = caps_generation(&caps->base);
    return caps;
}

void session_caps_build(struct session_store *store)
{
    struct arena scratch;

    arena_clear(&store->caps_memory);
    arena_init(&scratch, NULL);

    const pb_session_capabilities *caps = describe(store, &scratch);

    store->caps = caps_freeze(&caps->base, &store->caps_memory);
    arena_clear(&scratch);
}

void session_get_capabilities(struct call *call)
{
    struct session_store *store = session_store_of(call);

    if (store->caps == NULL)
        session_caps_build(store);
    call_reply(call, store->caps);
}
