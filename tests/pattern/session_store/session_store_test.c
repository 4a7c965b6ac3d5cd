/* The session store on a fake whose operations fail, are lost, wait and are cancelled, in virtual
 * time. */
#include "patterns/messages.h"
#include "patterns/session_store/messages.h"
#include "patterns/session_store/session_store.h"
#include "src/base/container.h"
#include "tests/fake/fake_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct fake_rig *unbound(void)
{
    struct fake_rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    fake_rig_init(rig, &pattern_session_store, FAKE_SESSION);
    return rig;
}

static struct fake_rig *bound(void)
{
    struct fake_rig *rig = unbound();

    fake_rig_bind(rig);
    return rig;
}

static void free_rig(struct fake_rig *rig)
{
    fake_rig_clear(rig);
    free(rig);
}

static char *text(const char *text)
{
    return (char *)(uintptr_t)text;
}

static struct call *called(struct fake_rig *rig, const char *method,
                           const ProtobufCMessage *request)
{
    struct call *call = fake_call(rig, method, request);

    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    return call;
}

/* The answer; NULL: the call failed with this code. */
static const void *answer(const struct call *call, enum err_code code)
{
    if (call->status.code != code)
        fail_msg("%s: %s", err_code_name(call->status.code), call->status.text);
    return call->reply;
}

static void create(struct fake_rig *rig, const char *user, char id[SESSION_ID_BYTES + 1])
{
    pb_create_session_request request = SESSION_PB(CREATE_SESSION_REQUEST__INIT);
    pb_session_metadata metadata = SESSION_PB(SESSION_METADATA__INIT);
    const pb_create_session_response *response;
    struct call *call;

    metadata.user_id = text(user);
    request.metadata = &metadata;
    call = called(rig, "CreateSession", &request.base);
    response = answer(call, ERR_OK);
    assert_int_equal(response->code, 0);
    assert_int_equal(strlen(response->session_id), 37);
    snprintf(id, SESSION_ID_BYTES + 1, "%s", response->session_id);
    fake_call_free(call);
}

static pb_any any_of(const char *type, const char *content)
{
    pb_any any = GOOGLE__PROTOBUF__ANY__INIT;

    any.type_url = text(type);
    any.value = pb_bytes(slice_str(content));
    return any;
}

/* ---- what is handed on to the backend ---- */

static void test_settings_reach_the_backend(void **state)
{
    struct fake_rig *rig = unbound();
    char first[SESSION_ID_BYTES + 1], second[SESSION_ID_BYTES + 1];
    const struct fake_stay *kept;

    (void)state;
    fake_rig_set(rig, "default_ttl_seconds", 100);
    fake_rig_set(rig, "max_lifetime_seconds", 50);
    fake_rig_set(rig, "max_sessions_per_user", 1);
    fake_rig_set_text(rig, "on_user_limit", "end_oldest");
    fake_rig_bind(rig);
    create(rig, "alice", first);
    create(rig, "alice", second);
    assert_string_not_equal(first, second);
    assert_int_equal(rig->world.sessions.n, 1);
    kept = &rig->world.sessions.items[0];
    assert_true(slice_equal(kept->id, slice_str(second)));
    assert_int_equal(kept->ttl_ms, 100000);
    assert_int_equal(kept->times.expires_ms - kept->times.created_ms, 50000);
    free_rig(rig);
}

/* The last entry of a map with two of the same name counts, as everywhere in the protocol. */
static void test_repeated_names(void **state)
{
    struct fake_rig *rig = bound();
    pb_create_session_request request = SESSION_PB(CREATE_SESSION_REQUEST__INIT);
    Prism__Patterns__SessionStore__CreateSessionRequest__DataEntry entries[3], *list[3];
    pb_any values[3] = {any_of("t", "1"), any_of("t", "2"), any_of("u", "3")};
    static const char *const names[] = {"b", "a", "b"};
    const struct fake_stay *kept;
    struct call *call;

    (void)state;
    for (int i = 0; i < 3; i++) {
        prism__patterns__session_store__create_session_request__data_entry__init(&entries[i]);
        entries[i].key = text(names[i]);
        entries[i].value = &values[i];
        list[i] = &entries[i];
    }
    request.n_data = 3;
    request.data = list;
    call = called(rig, "CreateSession", &request.base);
    answer(call, ERR_OK);
    kept = &rig->world.sessions.items[0];
    assert_int_equal(kept->n, 2);
    for (size_t i = 0; i < 2; i++) {
        if (slice_equal(kept->values[i].name, slice_str("b")))
            assert_memory_equal(kept->values[i].value.data, "\1\0u3", 4);
    }
    fake_call_free(call);
    free_rig(rig);
}

/* ---- outcomes ---- */

static const void *set(struct fake_rig *rig, const char *id, enum err_code code, struct call **call)
{
    pb_set_data_request request = SESSION_PB(SET_SESSION_DATA_REQUEST__INIT);
    pb_any value = any_of("type", "content");

    request.session_id = text(id);
    request.key = text("k");
    request.value = &value;
    *call = called(rig, "SetSessionData", &request.base);
    return answer(*call, code);
}

/* What is about one of our limits or conditions is told in the answer, all else is the call's. */
static void test_where_errors_are_told(void **state)
{
    static const struct {
        struct err err;
        bool in_band;
    } cases[] = {
        {{.code = ERR_RESOURCE_EXHAUSTED, .text = "full", .subject = "max_session_size"}, true},
        {{.code = ERR_ABORTED, .text = "moved on", .subject = "if_version"}, true},
        {{.code = ERR_RESOURCE_EXHAUSTED, .text = "full", .subject = "max_bytes"}, false},
        {{.code = ERR_RESOURCE_EXHAUSTED, .text = "full"}, false},
        {{.code = ERR_UNAVAILABLE, .text = "away"}, false},
        {{.code = ERR_NOT_FOUND, .text = "gone"}, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fake_rig *rig = bound();
        char id[SESSION_ID_BYTES + 1];
        const pb_set_data_response *response;
        struct call *call;

        create(rig, "alice", id);
        rig->world.fail_at = rig->world.ops + 1;
        rig->world.fail_with = cases[i].err;
        response = set(rig, id, cases[i].in_band ? ERR_OK : cases[i].err.code, &call);
        if (cases[i].in_band) {
            assert_false(response->success);
            assert_int_equal(response->code, cases[i].err.code);
            assert_string_equal(response->error, cases[i].err.text);
        }
        fake_call_free(call);
        free_rig(rig);
    }
}

/* A write whose answer is lost may have happened; and it is never repeated here. */
static void test_a_lost_answer(void **state)
{
    struct fake_rig *rig = bound();
    char id[SESSION_ID_BYTES + 1];
    struct call *call;

    (void)state;
    create(rig, "alice", id);
    rig->world.messages.faults.lose_at = rig->world.ops + 1;
    set(rig, id, ERR_UNAVAILABLE, &call);
    assert_int_equal(call->status.effect, EFFECT_UNKNOWN);
    assert_int_equal(rig->world.ops, 2);
    assert_int_equal(rig->world.sessions.items[0].n, 1);
    fake_call_free(call);
    free_rig(rig);
}

/* ---- lists ---- */

static const pb_list_sessions_response *list(struct fake_rig *rig, int32_t size, const char *token,
                                             struct call **call)
{
    pb_list_sessions_request request = SESSION_PB(LIST_SESSIONS_REQUEST__INIT);

    request.page_size = size;
    request.page_token = text(token);
    *call = called(rig, "ListSessions", &request.base);
    return answer(*call, ERR_OK);
}

/* Short and empty pages of the backend are gathered; a bounded number of them. */
static void test_pages_are_gathered(void **state)
{
    enum { SESSIONS = 25 };
    struct fake_rig *rig = bound();
    char id[SESSION_ID_BYTES + 1], token[32];
    const pb_list_sessions_response *response;
    struct call *call;

    (void)state;
    for (int i = 0; i < SESSIONS; i++)
        create(rig, "", id);
    rig->world.page_limit = 3;
    response = list(rig, 10, "", &call);
    assert_int_equal(response->n_sessions, 10);
    snprintf(token, sizeof token, "%s", response->next_page_token);
    fake_call_free(call);
    rig->world.empty_pages = 5;
    response = list(rig, 100, token, &call);
    assert_int_equal(response->n_sessions, SESSIONS - 10);
    assert_string_equal(response->next_page_token, "");
    fake_call_free(call);
    rig->world.empty_pages = 100;
    response = list(rig, 100, "", &call);
    assert_int_equal(response->n_sessions, 0);
    assert_string_equal(response->next_page_token, "s:0"); /* where it was */
    fake_call_free(call);
    free_rig(rig);
}

static void test_a_page_fails(void **state)
{
    struct fake_rig *rig = bound();
    pb_list_sessions_request request = SESSION_PB(LIST_SESSIONS_REQUEST__INIT);
    char id[SESSION_ID_BYTES + 1];
    struct call *call;

    (void)state;
    create(rig, "", id);
    create(rig, "", id);
    rig->world.page_limit = 1;
    rig->world.fail_at = rig->world.ops + 2;
    call = called(rig, "ListSessions", &request.base);
    assert_null(answer(call, ERR_UNAVAILABLE));
    fake_call_free(call);
    free_rig(rig);
}

/* ---- every method, while the backend fails and while the client goes ---- */

struct requests {
    pb_create_session_request create;
    pb_get_session_request get;
    pb_get_data_request get_data;
    pb_set_data_request set;
    pb_delete_data_request unset;
    pb_update_session_request update;
    pb_rotate_request rotate;
    pb_extend_request extend;
    pb_delete_session_request end;
    pb_delete_user_request end_user;
    pb_list_sessions_request list;
    pb_any value;
};

enum { METHODS = 11 };

static const ProtobufCMessage *request_of(struct requests *r, int method, const char *id)
{
    *r = (struct requests){.create = SESSION_PB(CREATE_SESSION_REQUEST__INIT),
                           .get = SESSION_PB(GET_SESSION_REQUEST__INIT),
                           .get_data = SESSION_PB(GET_SESSION_DATA_REQUEST__INIT),
                           .set = SESSION_PB(SET_SESSION_DATA_REQUEST__INIT),
                           .unset = SESSION_PB(DELETE_SESSION_DATA_REQUEST__INIT),
                           .update = SESSION_PB(UPDATE_SESSION_REQUEST__INIT),
                           .rotate = SESSION_PB(ROTATE_SESSION_REQUEST__INIT),
                           .extend = SESSION_PB(EXTEND_SESSION_REQUEST__INIT),
                           .end = SESSION_PB(DELETE_SESSION_REQUEST__INIT),
                           .end_user = SESSION_PB(DELETE_USER_SESSIONS_REQUEST__INIT),
                           .list = SESSION_PB(LIST_SESSIONS_REQUEST__INIT),
                           .value = any_of("", "x")};
    const ProtobufCMessage *const all[METHODS] = {
        &r->create.base, &r->get.base,      &r->get_data.base, &r->set.base,
        &r->unset.base,  &r->update.base,   &r->rotate.base,   &r->extend.base,
        &r->end.base,    &r->end_user.base, &r->list.base};

    r->get.session_id = r->get_data.session_id = r->set.session_id = r->unset.session_id =
        r->update.session_id = r->rotate.session_id = r->extend.session_id = r->end.session_id =
            text(id);
    r->get_data.key = r->set.key = r->unset.key = text("k");
    r->set.value = &r->value;
    r->extend.until_case = SESSION_PB(EXTEND_SESSION_REQUEST__UNTIL_ADDITIONAL_SECONDS);
    r->extend.additional_seconds = 1;
    r->end_user.user_id = text("alice");
    return all[method];
}

static const char *const method_names[METHODS] = {
    "CreateSession",     "GetSession",         "GetSessionData", "SetSessionData",
    "DeleteSessionData", "UpdateSession",      "RotateSession",  "ExtendSession",
    "DeleteSession",     "DeleteUserSessions", "ListSessions"};

static void test_every_method_fails_once(void **state)
{
    (void)state;
    for (int i = 0; i < METHODS; i++) {
        struct fake_rig *rig = bound();
        char id[SESSION_ID_BYTES + 1];
        struct requests requests;
        struct call *call;

        create(rig, "alice", id);
        rig->world.fail_at = rig->world.ops + 1;
        call = called(rig, method_names[i], request_of(&requests, i, id));
        assert_null(answer(call, ERR_UNAVAILABLE));
        fake_call_free(call);
        call = called(rig, method_names[i], request_of(&requests, i, id));
        assert_non_null(answer(call, ERR_OK));
        fake_call_free(call);
        free_rig(rig);
    }
}

static void test_every_method_is_cancelled(void **state)
{
    (void)state;
    for (int i = 0; i < METHODS; i++) {
        struct fake_rig *rig = bound();
        char id[SESSION_ID_BYTES + 1];
        struct requests requests;
        struct call *call;

        create(rig, "alice", id);
        rig->world.mode = FAKE_PARKED;
        call = fake_call(rig, method_names[i], request_of(&requests, i, id));
        fake_rig_drain(rig);
        fake_call_cancel(call);
        fake_rig_drain(rig);
        assert_int_equal(call->ends, 1);
        assert_int_equal(rig->world.cancelled, 1);
        fake_call_free(call);
        free_rig(rig);
    }
}

/* ---- capabilities ---- */

/* The bound of a session is the least of three. */
static void test_capabilities(void **state)
{
    static const struct {
        uint64_t setting, backend;
        uint32_t message;
        int64_t expected;
    } cases[] = {
        {100000, 16 << 20, 4 << 20, 100000},
        {1 << 20, 350000, 4 << 20, 350000},
        {1 << 20, 16 << 20, 1 << 20, ((1 << 20) - (32 << 10)) / 2},
        {1 << 20, 16 << 20, 4096, 16 << 10},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fake_rig *rig = unbound();
        Prism__Patterns__SessionStore__GetCapabilitiesRequest request =
            SESSION_PB(GET_CAPABILITIES_REQUEST__INIT);
        const pb_session_capabilities *caps;
        struct call *call;

        fake_rig_set(rig, "max_session_bytes", cases[i].setting);
        rig->world.sessions.methods.max_bytes = cases[i].backend;
        rig->max_message_bytes = cases[i].message;
        fake_rig_bind(rig);
        call = called(rig, "GetCapabilities", &request.base);
        caps = answer(call, ERR_OK);
        assert_int_equal(caps->max_session_size, cases[i].expected);
        assert_int_equal(caps->n_operations, METHODS + 1);
        assert_int_equal(caps->expiration_performance,
                         SESSION_PB(EXPIRATION_PERFORMANCE__EXPIRATION_EMULATED));
        assert_true(caps->generation != 0);
        fake_call_free(call);
        fake_world_offer(&rig->world, FAKE_SESSION); /* the plan is made again */
        call = called(rig, "GetCapabilities", &request.base);
        answer(call, ERR_OK);
        fake_call_free(call);
        free_rig(rig);
    }
}

static void test_operations_offline(void **state)
{
    struct pattern_operation operations[20];
    const struct backend_type *slots[PATTERN_MAX_SLOTS] = {NULL};
    struct fake_rig *rig = unbound();

    (void)state;
    assert_int_equal(pattern_session_store.operations(slots, NULL, operations, 20), METHODS + 1);
    assert_int_equal(operations[0].how, PATTERN_UNAVAILABLE);
    assert_non_null(operations[0].why);
    slots[0] = &rig->world.type;
    assert_int_equal(pattern_session_store.operations(slots, NULL, operations, 20), METHODS + 1);
    assert_int_equal(operations[METHODS].how, PATTERN_NATIVE);
    free_rig(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_reach_the_backend),
        cmocka_unit_test(test_repeated_names),
        cmocka_unit_test(test_where_errors_are_told),
        cmocka_unit_test(test_a_lost_answer),
        cmocka_unit_test(test_pages_are_gathered),
        cmocka_unit_test(test_a_page_fails),
        cmocka_unit_test(test_every_method_fails_once),
        cmocka_unit_test(test_every_method_is_cancelled),
        cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_operations_offline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
