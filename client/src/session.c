/* The SessionStore client object. */
#include "prism/session.h"

#include "client/src/channel.h"
#include "client/src/error.h"
#include "client/src/operations.h"
#include "client/src/rpc.h"

#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "prism/patterns/session_store/session_store_pattern.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define WIRE(name) PRISM__PATTERNS__SESSION_STORE__##name

typedef Google__Protobuf__Timestamp wire_time;
typedef Prism__Patterns__SessionStore__CreateSessionRequest wire_create;
typedef Prism__Patterns__SessionStore__CreateSessionResponse wire_created;
typedef Prism__Patterns__SessionStore__ListSessionsRequest wire_list;
typedef Prism__Patterns__SessionStore__ListSessionsResponse wire_listed;
typedef Prism__Patterns__SessionStore__SessionData wire_session;
typedef Prism__Patterns__SessionStore__UpdateSessionRequest wire_update;
typedef Prism__Patterns__SessionStore__UpdateSessionResponse wire_updated;
typedef Prism__Patterns__SessionStore__UpdateSessionRequest__SetEntry wire_set;
typedef Prism__Patterns__SessionStore__CreateSessionRequest__DataEntry wire_data;

enum session_method {
    SESSION_GET_CAPABILITIES,
    SESSION_CREATE,
    SESSION_GET,
    SESSION_UPDATE,
    SESSION_ROTATE,
    SESSION_EXTEND,
    SESSION_DELETE,
    SESSION_DELETE_USER,
    SESSION_LIST,
    SESSION_METHOD_COUNT
};

#define METHOD(name_, response_, reads_only_)                                                      \
    {                                                                                              \
        .name = name_, .path = "/prism.patterns.session_store.SessionStorePattern/" name_,         \
        .response = &prism__patterns__session_store__##response_##__descriptor,                    \
        .reads_only = (reads_only_)                                                                \
    }

static const struct rpc_method methods[SESSION_METHOD_COUNT] = {
    [SESSION_GET_CAPABILITIES] = METHOD("GetCapabilities", capabilities, true),
    [SESSION_CREATE] = METHOD("CreateSession", create_session_response, false),
    [SESSION_GET] = METHOD("GetSession", get_session_response, true),
    [SESSION_UPDATE] = METHOD("UpdateSession", update_session_response, false),
    [SESSION_ROTATE] = METHOD("RotateSession", rotate_session_response, false),
    [SESSION_EXTEND] = METHOD("ExtendSession", extend_session_response, false),
    [SESSION_DELETE] = METHOD("DeleteSession", delete_session_response, false),
    [SESSION_DELETE_USER] = METHOD("DeleteUserSessions", delete_user_sessions_response, false),
    [SESSION_LIST] = METHOD("ListSessions", list_sessions_response, true),
};

enum { PAGE = 1000, MS_PER_S = 1000, NS_PER_MILLI = 1000000 };

struct prism_sessions {
    struct prism_channel *channel;
    void *registered[SESSION_METHOD_COUNT];
    Prism__Patterns__SessionStore__Capabilities *answer;
    struct prism_sessions_capabilities capabilities; /* its texts are the answer's */
};

/* ---- the client object ---- */

static enum prism_code run(struct prism_sessions *sessions, struct rpc *rpc,
                           enum session_method method, const ProtobufCMessage *request)
{
    rpc_init(rpc, sessions->channel, &methods[method], sessions->registered[method], 0);
    rpc_set_request(rpc, request);
    return rpc_run(rpc);
}

static enum prism_code end(struct rpc *rpc, struct prism_error *error)
{
    rpc_clear(rpc);
    return error_copy(error, &rpc->error);
}

/* What the answer says of the one thing that the call was about. */
static void take_outcome(struct rpc *rpc, int32_t code, const char *text)
{
    if (code == PRISM_OK)
        return;
    error_set(&rpc->error,
              code > 0 && code <= PRISM_UNAUTHENTICATED ? (enum prism_code)code : PRISM_UNKNOWN,
              "%s", text != NULL ? text : "the server gives no reason");
}

static void take_capabilities(struct prism_sessions *sessions, struct rpc *rpc)
{
    Prism__Patterns__SessionStore__Capabilities *answer =
        (Prism__Patterns__SessionStore__Capabilities *)rpc->response;

    rpc->response = NULL;
    sessions->answer = answer;
    sessions->capabilities = (struct prism_sessions_capabilities){
        .backend_type = answer->slots != NULL ? answer->slots->store_backend_type : "",
        .operations = operations_from(answer->operations, answer->n_operations),
        .operation_count = answer->n_operations};
}

enum prism_code prism_sessions_open(struct prism_channel *channel, struct prism_sessions **sessions,
                                    struct prism_error *error)
{
    Prism__Patterns__SessionStore__GetCapabilitiesRequest request =
        WIRE(GET_CAPABILITIES_REQUEST__INIT);
    struct prism_sessions *made = alloc_zeroed(1, sizeof *made);
    struct rpc rpc;

    *sessions = NULL;
    made->channel = channel;
    for (int i = 0; i < SESSION_METHOD_COUNT; i++)
        made->registered[i] =
            grpc_channel_register_call(channel->grpc, methods[i].path, NULL, NULL);
    if (run(made, &rpc, SESSION_GET_CAPABILITIES, &request.base) == PRISM_OK) {
        take_capabilities(made, &rpc);
        *sessions = made;
    } else {
        free(made);
    }
    return end(&rpc, error);
}

void prism_sessions_close(struct prism_sessions *sessions)
{
    if (sessions == NULL)
        return;
    operations_free(sessions->capabilities.operations);
    prism__patterns__session_store__capabilities__free_unpacked(sessions->answer, NULL);
    free(sessions);
}

const struct prism_sessions_capabilities *prism_sessions_capabilities(
    const struct prism_sessions *sessions)
{
    return &sessions->capabilities;
}

const char *prism_sessions_backend_type(const struct prism_sessions *sessions)
{
    return sessions->capabilities.backend_type;
}

/* ---- texts, times, values ---- */

/* Packing only reads; unpacked texts are never NULL. */
static char *text_of(const char *text)
{
    return (char *)(uintptr_t)(text != NULL ? text : "");
}

static int64_t ms_of(const wire_time *time)
{
    return time != NULL ? time->seconds * MS_PER_S + time->nanos / NS_PER_MILLI : 0;
}

static void copy_id(struct rpc *rpc, char *to, const char *id)
{
    size_t len = strlen(id);

    if (len < PRISM_SESSION_ID_BYTES)
        memcpy(to, id, len + 1);
    else
        error_set(&rpc->error, PRISM_INTERNAL, "the server gives an identifier that is too long");
}

/* The entries of a map, which borrow the caller's values. */
struct packing {
    Google__Protobuf__Any *values;
    void *entries;
    void **list;
};

static void pack_value(Google__Protobuf__Any *to, const struct prism_session_value *from)
{
    google__protobuf__any__init(to);
    to->type_url = text_of(from->type);
    to->value.len = from->bytes.len;
    to->value.data = (uint8_t *)(uintptr_t)from->bytes.data;
}

static struct packing packing_new(size_t n, size_t entry_bytes)
{
    return (struct packing){.values = alloc_zeroed(n, sizeof(Google__Protobuf__Any)),
                            .entries = alloc_zeroed(n, entry_bytes),
                            .list = alloc_zeroed(n, sizeof(void *))};
}

static void packing_free(struct packing *packing)
{
    free(packing->values);
    free(packing->entries);
    free(packing->list);
}

/* ---- create ---- */

static struct packing pack_data(const struct prism_session_options *options)
{
    struct packing packing = packing_new(options->value_count, sizeof(wire_data));
    wire_data *entries = packing.entries;

    for (size_t i = 0; i < options->value_count; i++) {
        prism__patterns__session_store__create_session_request__data_entry__init(&entries[i]);
        pack_value(&packing.values[i], &options->values[i]);
        entries[i].key = text_of(options->values[i].name);
        entries[i].value = &packing.values[i];
        packing.list[i] = &entries[i];
    }
    return packing;
}

enum prism_code prism_session_create(struct prism_sessions *sessions,
                                     const struct prism_session_options *options,
                                     struct prism_session_created *created,
                                     struct prism_error *error)
{
    static const struct prism_session_options defaults = {0};
    Prism__Patterns__SessionStore__SessionMetadata metadata = WIRE(SESSION_METADATA__INIT);
    wire_create request = WIRE(CREATE_SESSION_REQUEST__INIT);
    struct packing packing;
    struct rpc rpc;

    if (options == NULL)
        options = &defaults;
    *created = (struct prism_session_created){0};
    packing = pack_data(options);
    metadata.user_id = text_of(options->user);
    metadata.region = text_of(options->region);
    metadata.client_id = text_of(options->client);
    request.metadata = &metadata;
    request.ttl_seconds = options->ttl_s;
    request.n_data = options->value_count;
    request.data = (wire_data **)packing.list;
    if (run(sessions, &rpc, SESSION_CREATE, &request.base) == PRISM_OK) {
        const wire_created *answer = (const wire_created *)rpc.response;

        take_outcome(&rpc, answer->code, answer->error);
        copy_id(&rpc, created->id, answer->session_id);
        created->expires_at_ms = ms_of(answer->expires_at);
        created->ended_count = (int32_t)answer->n_evicted_session_ids;
    }
    packing_free(&packing);
    return end(&rpc, error);
}

/* ---- get ---- */

static struct prism_session session_of(const wire_session *from)
{
    static const Prism__Patterns__SessionStore__SessionMetadata nobody =
        WIRE(SESSION_METADATA__INIT);
    const Prism__Patterns__SessionStore__SessionMetadata *owner =
        from->metadata != NULL ? from->metadata : &nobody;

    return (struct prism_session){.id = from->session_id,
                                  .user = owner->user_id,
                                  .region = owner->region,
                                  .client = owner->client_id,
                                  .created_at_ms = ms_of(from->created_at),
                                  .used_at_ms = ms_of(from->last_accessed),
                                  .expires_at_ms = ms_of(from->expires_at),
                                  .version = from->version};
}

static int64_t version_of(const wire_session *from, size_t at, const char *name)
{
    /* A server of ours sends both maps in the same order. */
    if (at < from->n_value_versions && strcmp(from->value_versions[at]->key, name) == 0)
        return from->value_versions[at]->value;
    for (size_t i = 0; i < from->n_value_versions; i++) {
        if (strcmp(from->value_versions[i]->key, name) == 0)
            return from->value_versions[i]->value;
    }
    return 0;
}

static void tell(const wire_session *from, prism_session_fn *read, void *context)
{
    struct prism_session session = session_of(from);
    struct prism_session_value *values = alloc_zeroed(from->n_data, sizeof *values);

    for (size_t i = 0; i < from->n_data; i++) {
        const Google__Protobuf__Any *value = from->data[i]->value;

        values[i].name = from->data[i]->key;
        values[i].type = value != NULL ? value->type_url : "";
        if (value != NULL)
            values[i].bytes = prism_bytes_of(value->value.data, value->value.len);
        values[i].version = version_of(from, i, values[i].name);
    }
    session.values = values;
    session.value_count = from->n_data;
    read(context, &session);
    free(values);
}

static void set_absent(struct rpc *rpc)
{
    error_set(&rpc->error, PRISM_NOT_FOUND, "the session does not exist, or has expired");
}

enum prism_code prism_session_get(struct prism_sessions *sessions, const char *id, bool touch,
                                  prism_session_fn *read, void *context, struct prism_error *error)
{
    Prism__Patterns__SessionStore__GetSessionRequest request = WIRE(GET_SESSION_REQUEST__INIT);
    struct rpc rpc;

    request.session_id = text_of(id);
    request.no_touch = !touch;
    if (run(sessions, &rpc, SESSION_GET, &request.base) == PRISM_OK) {
        const Prism__Patterns__SessionStore__GetSessionResponse *answer =
            (const Prism__Patterns__SessionStore__GetSessionResponse *)rpc.response;

        if (answer->found && answer->session != NULL)
            tell(answer->session, read, context);
        else
            set_absent(&rpc);
    }
    return end(&rpc, error);
}

/* ---- update ---- */

static struct packing pack_set(const struct prism_session_update *update)
{
    struct packing packing = packing_new(update->set_count, sizeof(wire_set));
    wire_set *entries = packing.entries;

    for (size_t i = 0; i < update->set_count; i++) {
        prism__patterns__session_store__update_session_request__set_entry__init(&entries[i]);
        pack_value(&packing.values[i], &update->set[i]);
        entries[i].key = text_of(update->set[i].name);
        entries[i].value = &packing.values[i];
        packing.list[i] = &entries[i];
    }
    return packing;
}

enum prism_code prism_session_update(struct prism_sessions *sessions, const char *id,
                                     const struct prism_session_update *update, int64_t *version,
                                     struct prism_error *error)
{
    struct packing packing = pack_set(update);
    wire_update request = WIRE(UPDATE_SESSION_REQUEST__INIT);
    struct rpc rpc;

    request.session_id = text_of(id);
    request.n_set = update->set_count;
    request.set = (wire_set **)packing.list;
    request.n_remove = update->remove_count;
    request.remove = (char **)(uintptr_t)update->remove;
    if (update->if_version > 0) {
        request._if_version_case = WIRE(UPDATE_SESSION_REQUEST___IF_VERSION_IF_VERSION);
        request.if_version = update->if_version;
    }
    if (run(sessions, &rpc, SESSION_UPDATE, &request.base) == PRISM_OK) {
        const wire_updated *answer = (const wire_updated *)rpc.response;

        if (version != NULL)
            *version = answer->version;
        take_outcome(&rpc, answer->code, answer->error);
    }
    packing_free(&packing);
    return end(&rpc, error);
}

/* ---- rotate, extend, delete ---- */

enum prism_code prism_session_rotate(struct prism_sessions *sessions, const char *id, char *new_id,
                                     struct prism_error *error)
{
    Prism__Patterns__SessionStore__RotateSessionRequest request =
        WIRE(ROTATE_SESSION_REQUEST__INIT);
    struct rpc rpc;

    new_id[0] = '\0';
    request.session_id = text_of(id);
    if (run(sessions, &rpc, SESSION_ROTATE, &request.base) == PRISM_OK)
        copy_id(&rpc, new_id,
                ((const Prism__Patterns__SessionStore__RotateSessionResponse *)rpc.response)
                    ->session_id);
    return end(&rpc, error);
}

enum prism_code prism_session_extend(struct prism_sessions *sessions, const char *id,
                                     int64_t expires_at_ms, int64_t *now_at_ms,
                                     struct prism_error *error)
{
    Prism__Patterns__SessionStore__ExtendSessionRequest request =
        WIRE(EXTEND_SESSION_REQUEST__INIT);
    wire_time at;
    struct rpc rpc;

    google__protobuf__timestamp__init(&at);
    at.seconds = expires_at_ms / MS_PER_S;
    at.nanos = (int32_t)(expires_at_ms % MS_PER_S) * NS_PER_MILLI;
    request.session_id = text_of(id);
    request.until_case = WIRE(EXTEND_SESSION_REQUEST__UNTIL_EXPIRES_AT);
    request.expires_at = &at;
    if (run(sessions, &rpc, SESSION_EXTEND, &request.base) == PRISM_OK) {
        const Prism__Patterns__SessionStore__ExtendSessionResponse *answer =
            (const Prism__Patterns__SessionStore__ExtendSessionResponse *)rpc.response;

        if (now_at_ms != NULL)
            *now_at_ms = ms_of(answer->new_expires_at);
        take_outcome(&rpc, answer->code, answer->error);
    }
    return end(&rpc, error);
}

enum prism_code prism_session_delete(struct prism_sessions *sessions, const char *id, bool *existed,
                                     struct prism_error *error)
{
    Prism__Patterns__SessionStore__DeleteSessionRequest request =
        WIRE(DELETE_SESSION_REQUEST__INIT);
    struct rpc rpc;

    request.session_id = text_of(id);
    if (run(sessions, &rpc, SESSION_DELETE, &request.base) == PRISM_OK) {
        const Prism__Patterns__SessionStore__DeleteSessionResponse *answer =
            (const Prism__Patterns__SessionStore__DeleteSessionResponse *)rpc.response;

        if (existed != NULL)
            *existed = answer->existed;
        take_outcome(&rpc, answer->code, answer->error);
    }
    return end(&rpc, error);
}

enum prism_code prism_session_delete_user(struct prism_sessions *sessions, const char *user,
                                          const char *except, int64_t *deleted,
                                          struct prism_error *error)
{
    Prism__Patterns__SessionStore__DeleteUserSessionsRequest request =
        WIRE(DELETE_USER_SESSIONS_REQUEST__INIT);
    struct rpc rpc;

    request.user_id = text_of(user);
    request.except_session_id = text_of(except);
    if (run(sessions, &rpc, SESSION_DELETE_USER, &request.base) == PRISM_OK && deleted != NULL)
        *deleted = ((const Prism__Patterns__SessionStore__DeleteUserSessionsResponse *)rpc.response)
                       ->deleted_count;
    return end(&rpc, error);
}

/* ---- list ---- */

/* False: that was enough. */
static bool tell_page(const wire_listed *page, prism_session_fn *found, void *context)
{
    for (size_t i = 0; i < page->n_sessions; i++) {
        struct prism_session session = session_of(page->sessions[i]);

        if (!found(context, &session))
            return false;
    }
    return true;
}

enum prism_code prism_session_list(struct prism_sessions *sessions,
                                   const struct prism_session_filter *filter,
                                   prism_session_fn *found, void *context,
                                   struct prism_error *error)
{
    static const struct prism_session_filter all = {0};
    wire_list request = WIRE(LIST_SESSIONS_REQUEST__INIT);
    char *token = NULL;
    bool more;
    struct rpc rpc;

    if (filter == NULL)
        filter = &all;
    request.user_id = text_of(filter->user);
    request.region = text_of(filter->region);
    request.client_id = text_of(filter->client);
    request.page_size =
        filter->page_size > 0 && filter->page_size < PAGE ? (int32_t)filter->page_size : PAGE;
    do {
        more = false;
        request.page_token = text_of(token);
        if (run(sessions, &rpc, SESSION_LIST, &request.base) == PRISM_OK) {
            const wire_listed *page = (const wire_listed *)rpc.response;

            free(token);
            token = alloc_text(page->next_page_token);
            more = tell_page(page, found, context) && token[0] != '\0';
        }
        rpc_clear(&rpc);
    } while (more);
    free(token);
    return error_copy(error, &rpc.error);
}
