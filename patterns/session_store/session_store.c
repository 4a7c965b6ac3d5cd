/* The pattern's instance: its slot, its settings, its methods, and how it is bound. */
#include "patterns/session_store/session_store.h"
#include "patterns/session_store/session_store_priv.h"

#include "src/base/container.h"

#include <string.h>

/* ---- slot and settings ---- */

static const enum backend_interface keeps[] = {BACKEND_SESSION, BACKEND_INTERFACE_COUNT};

static const struct slot_schema slots[] = {
    {.name = "store", .doc = "Holds the sessions.", .required = keeps},
};

enum behavior {
    DEFAULT_TTL_SECONDS,
    MAX_TTL_SECONDS,
    MAX_LIFETIME_SECONDS,
    TOUCH_PERCENT,
    MAX_TOUCH_INTERVAL_SECONDS,
    MAX_SESSION_BYTES,
    MAX_SESSIONS_PER_USER,
    ON_USER_LIMIT,
    MAX_SESSIONS
};

enum { CENTURY_S = 3153600000u };

static const struct backend_setting behavior[] = {
    [DEFAULT_TTL_SECONDS] = {"default_ttl_seconds", SETTING_UINT, "86400", 1, CENTURY_S,
                             "How long a session that names no ttl lasts without use."},
    [MAX_TTL_SECONDS] = {"max_ttl_seconds", SETTING_UINT, "31536000", 1, CENTURY_S,
                         "Longest ttl, and the furthest that an expiry may be from now."},
    [MAX_LIFETIME_SECONDS] = {"max_lifetime_seconds", SETTING_UINT, "0", 0, CENTURY_S,
                              "A session ends this long after its creation, whatever its use. 0: "
                              "no bound."},
    [TOUCH_PERCENT] = {"touch_percent", SETTING_UINT, "10", 1, 100,
                       "Use of a session writes its expiry at most once in this percentage of its "
                       "ttl."},
    [MAX_TOUCH_INTERVAL_SECONDS] = {"max_touch_interval_seconds", SETTING_UINT, "300", 1, 86400,
                                    "And that interval is at most so long."},
    [MAX_SESSION_BYTES] = {"max_session_bytes", SETTING_UINT, "1048576", 1024, SESSION_MAX_BYTES,
                           "Largest session: its values with their names, and 64 bytes for each. "
                           "Lower where the backend or the size of messages asks for it."},
    [MAX_SESSIONS_PER_USER] = {"max_sessions_per_user", SETTING_UINT, "0", 0, 1000,
                               "Most sessions of one user. 0: no bound."},
    [ON_USER_LIMIT] = {"on_user_limit", SETTING_TEXT, "refuse", 0, 0,
                       "What a creation does beyond that: `refuse`, or `end_oldest`."},
    [MAX_SESSIONS] = {"max_sessions", SETTING_UINT, "0", 0, 2000000000,
                      "Most sessions of the namespace. 0: no bound."},
    {.name = NULL},
};

static const char refuse[] = "refuse", end_oldest[] = "end_oldest";

/* ---- methods ---- */

#define METHOD(rpc, often, request_name, response_name, handler)                                   \
    {                                                                                              \
        .path = "/prism.patterns.session_store.SessionStorePattern/" rpc, .kind = METHOD_UNARY,    \
        .busy = (often), .request = &prism__patterns__session_store__##request_name##__descriptor, \
        .response = &prism__patterns__session_store__##response_name##__descriptor,                \
        .handle = (handler)                                                                        \
    }

static const struct method methods[] = {
    METHOD("GetCapabilities", false, get_capabilities_request, capabilities,
           session_get_capabilities),
    METHOD("CreateSession", true, create_session_request, create_session_response, session_create),
    METHOD("GetSession", true, get_session_request, get_session_response, session_get),
    METHOD("SetSessionData", true, set_session_data_request, set_session_data_response,
           session_set_data),
    METHOD("GetSessionData", true, get_session_data_request, get_session_data_response,
           session_get_data),
    METHOD("DeleteSessionData", false, delete_session_data_request, delete_session_data_response,
           session_delete_data),
    METHOD("UpdateSession", true, update_session_request, update_session_response, session_update),
    METHOD("RotateSession", false, rotate_session_request, rotate_session_response, session_rotate),
    METHOD("DeleteSession", true, delete_session_request, delete_session_response, session_delete),
    METHOD("DeleteUserSessions", false, delete_user_sessions_request, delete_user_sessions_response,
           session_delete_user),
    METHOD("ExtendSession", false, extend_session_request, extend_session_response, session_extend),
    METHOD("ListSessions", false, list_sessions_request, list_sessions_response, session_list),
};

static const struct service service = {
    .name = "prism.patterns.session_store.SessionStorePattern",
    .pattern = "session_store",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};

static const struct service *const services[] = {&service, NULL};

/* What concerns one value or none; what concerns a whole session, or several, is left to workers.
 */
enum { ONE_VALUE = 16 * 1024, NEVER = 0 };

static const uint32_t inline_bytes[] = {ONE_VALUE, NEVER,     NEVER,     ONE_VALUE,
                                        ONE_VALUE, ONE_VALUE, ONE_VALUE, ONE_VALUE,
                                        ONE_VALUE, NEVER,     ONE_VALUE, NEVER};

_Static_assert(ARRAY_LEN(inline_bytes) == ARRAY_LEN(methods), "a bound for each method");

static const uint32_t *session_store_inline_bytes(const struct pattern *pattern, size_t index)
{
    const struct session_store *store = CONTAINER_OF(pattern, struct session_store, base);

    (void)index;
    return store->backend->type->inline_ok ? inline_bytes : NULL;
}

/* ---- the instance ---- */

enum {
    MS_PER_S = 1000,
    ELEMENTS = 2000, /* attributes, and values that take no room */
    ROOM = 32 << 10, /* of an answer, for what is not a value */
    WIRE_FACTOR = 2  /* a value in an answer by what it counts, at most: its name comes twice */
};

static void session_store_check(const struct pattern_proposal *proposal,
                                struct backend_faults *faults)
{
    static const char *const policies[] = {refuse, end_oldest, NULL};
    const struct backend_value *values = proposal->behavior;
    const char *on_limit = values[ON_USER_LIMIT].text;

    if (strcmp(on_limit, refuse) != 0 && strcmp(on_limit, end_oldest) != 0)
        backend_fault_add(faults, (struct backend_fault){.setting = behavior[ON_USER_LIMIT].name,
                                                         .text = "is neither refuse nor end_oldest",
                                                         .words = policies});
    if (values[DEFAULT_TTL_SECONDS].number > values[MAX_TTL_SECONDS].number)
        backend_fault_add(faults,
                          (struct backend_fault){.setting = behavior[DEFAULT_TTL_SECONDS].name,
                                                 .other = behavior[MAX_TTL_SECONDS].name,
                                                 .text = "is longer than max_ttl_seconds",
                                                 .fix = "shorten it, or raise max_ttl_seconds"});
}

static void read_settings(struct session_store *store)
{
    const struct backend_value *values = store->binding.behavior;
    struct session_settings *to = &store->settings;

    to->default_ttl_ms = values[DEFAULT_TTL_SECONDS].number * MS_PER_S;
    to->max_ttl_ms = values[MAX_TTL_SECONDS].number * MS_PER_S;
    to->max_life_ms = values[MAX_LIFETIME_SECONDS].number * MS_PER_S;
    to->use.percent = (uint32_t)values[TOUCH_PERCENT].number;
    to->use.max_interval_ms = values[MAX_TOUCH_INTERVAL_SECONDS].number * MS_PER_S;
    to->max_bytes = values[MAX_SESSION_BYTES].number;
    to->max_per_user = (uint32_t)values[MAX_SESSIONS_PER_USER].number;
    to->end_oldest = strcmp(values[ON_USER_LIMIT].text, end_oldest) == 0;
    to->max_sessions = values[MAX_SESSIONS].number;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A session that could not be read back as a whole is not written. */
static uint64_t max_bytes_of(const struct session_store *store)
{
    uint64_t message = store->binding.max_message_bytes;

    message = message > 2 * ROOM ? (message - ROOM) / WIRE_FACTOR : ROOM / WIRE_FACTOR;
    return least(store->settings.max_bytes, least(store->methods->max_bytes, message));
}

static void make_plan(struct session_store *store)
{
    store->facts = pattern_facts(&store->binding);
    store->methods = store->backend->has.session;
    store->max_bytes = max_bytes_of(store);
    store->caps = NULL;
}

static struct pattern *session_store_bind(const struct pattern_binding *binding)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct session_store *store = arena_zalloc(&memory, sizeof *store);

    store->base = (struct pattern){
        .type = &pattern_session_store,
        .namespace_name = arena_strdup(&memory, slice_str(binding->namespace_name)),
        .home = binding->worker,
    };
    store->memory = memory;
    store->binding = *binding;
    store->backend = binding->slots[0];
    read_settings(store);
    store->base.max_elements =
        (uint32_t)(store->settings.max_bytes / SESSION_VALUE_COST) + ELEMENTS;
    arena_init(&store->caps_memory, NULL);
    make_plan(store);
    session_caps_build(store);
    return &store->base;
}

static void session_store_unbind(struct pattern *pattern)
{
    struct session_store *store = CONTAINER_OF(pattern, struct session_store, base);
    struct arena memory = store->memory;

    arena_clear(&store->caps_memory);
    arena_clear(&memory);
}

struct session_store *session_store_of(const struct call *call)
{
    struct session_store *store = call_pattern(call);

    if (pattern_facts(&store->binding) != store->facts)
        make_plan(store);
    return store;
}

const struct pattern_type pattern_session_store = {
    .name = "session_store",
    .service = "prism.patterns.session_store.SessionStorePattern",
    .embedded = true,
    .slots = slots,
    .slot_count = ARRAY_LEN(slots),
    .behavior = behavior,
    .services = services,
    .check = session_store_check,
    .bind = session_store_bind,
    .unbind = session_store_unbind,
    .inline_bytes = session_store_inline_bytes,
    .operations = session_store_operations,
    .render = session_store_render,
};
