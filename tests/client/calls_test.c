/* What each call sends, and what it makes of the answer. */
#include "tests/client/fixture.h"

#include <grpc/status.h>
#include <stdlib.h>

typedef Prism__Patterns__Keyvalue__StoreRequest store_request;
typedef Prism__Patterns__Keyvalue__StoreResponse store_response;
typedef Prism__Patterns__Keyvalue__RetrieveResponse retrieve_response;
typedef Prism__Patterns__Keyvalue__StoreBatchRequest store_batch_request;

static ProtobufCBinaryData bytes(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static int before(void **state)
{
    static struct fixture f;

    fixture_open(&f, NULL);
    *state = &f;
    return 0;
}

static int after(void **state)
{
    fixture_close(*state);
    return 0;
}

static void answer_store(struct script_server *server, bool success, int32_t code, const char *text)
{
    store_response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;

    response.success = success;
    response.code = code;
    if (text != NULL) {
        response._error_case = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___ERROR_ERROR;
        response.error = (char *)(uintptr_t)text;
    }
    script_always(server, (struct script_step){.method = "Store", .messages = {&response.base}});
}

static void store_sends_what_it_was_given(void **state)
{
    struct fixture *f = *state;
    struct prism_store_options options = {.expiration_s = 60,
                                          .if_version = prism_bytes_of("v1", 2)};
    store_request *request;

    answer_store(f->server, true, 0, NULL);
    assert_ok(prism_keyvalue_store(f->keyvalue, "k", prism_bytes_of("a\0b", 3), &options, NULL,
                                   &f->error),
              f->error);
    request = (store_request *)script_request(
        f->server, "Store", &prism__patterns__keyvalue__store_request__descriptor);
    assert_string_equal(request->key, "k");
    assert_int_equal(request->value.len, 3);
    assert_memory_equal(request->value.data, "a\0b", 3);
    assert_int_equal(
        request->_expiration_seconds_case,
        PRISM__PATTERNS__KEYVALUE__STORE_REQUEST___EXPIRATION_SECONDS_EXPIRATION_SECONDS);
    assert_int_equal(request->expiration_seconds, 60);
    assert_non_null(request->precondition);
    assert_int_equal(request->precondition->condition_case,
                     PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_IF_VERSION);
    assert_memory_equal(request->precondition->if_version.data, "v1", 2);
    protobuf_c_message_free_unpacked(&request->base, NULL);
}

static void plain_store_sends_neither_expiry_nor_precondition(void **state)
{
    struct fixture *f = *state;
    store_request *request;

    answer_store(f->server, true, 0, NULL);
    assert_ok(
        prism_keyvalue_store(f->keyvalue, "k", prism_bytes_of(NULL, 0), NULL, NULL, &f->error),
        f->error);
    request = (store_request *)script_request(
        f->server, "Store", &prism__patterns__keyvalue__store_request__descriptor);
    assert_int_equal(request->_expiration_seconds_case, 0);
    assert_null(request->precondition);
    assert_int_equal(request->value.len, 0);
    protobuf_c_message_free_unpacked(&request->base, NULL);
}

static void errors_inside_an_answer_are_returned(void **state)
{
    struct fixture *f = *state;
    struct prism_bytes value = prism_bytes_of("v", 1);

    answer_store(f->server, false, GRPC_STATUS_RESOURCE_EXHAUSTED, "the store is full");
    assert_int_equal(prism_keyvalue_store(f->keyvalue, "k", value, NULL, NULL, &f->error),
                     PRISM_RESOURCE_EXHAUSTED);
    assert_string_equal(f->error.message, "the store is full");
    assert_false(f->error.retryable);

    /* A server may leave the number out, the text too, or know more numbers than we do. */
    answer_store(f->server, false, 0, "expiration not supported");
    assert_int_equal(prism_keyvalue_store(f->keyvalue, "k", value, NULL, NULL, &f->error),
                     PRISM_UNKNOWN);
    assert_string_equal(f->error.message, "expiration not supported");
    answer_store(f->server, false, 99, NULL);
    assert_int_equal(prism_keyvalue_store(f->keyvalue, "k", value, NULL, NULL, &f->error),
                     PRISM_UNKNOWN);
    assert_string_equal(f->error.message, "the server gives no reason");
}

static void version_comes_back_also_when_the_precondition_fails(void **state)
{
    struct fixture *f = *state;
    struct prism_store_options options = {.if_version = prism_bytes_of("v1", 2)};
    store_response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    struct prism_buffer version;

    response.code = GRPC_STATUS_FAILED_PRECONDITION;
    response._version_case = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___VERSION_VERSION;
    response.version = bytes("v2");
    script_always(f->server, (struct script_step){.method = "Store", .messages = {&response.base}});
    assert_int_equal(prism_keyvalue_store(f->keyvalue, "k", prism_bytes_of("v", 1), &options,
                                          &version, &f->error),
                     PRISM_FAILED_PRECONDITION);
    assert_int_equal(version.len, 2);
    assert_memory_equal(version.data, "v2", 2);
    prism_buffer_free(&version);
    assert_null(version.data);
}

static void absent_key_is_told_from_an_empty_value(void **state)
{
    struct fixture *f = *state;
    retrieve_response response = PRISM__PATTERNS__KEYVALUE__RETRIEVE_RESPONSE__INIT;
    struct prism_value value;

    script_once(f->server,
                (struct script_step){.method = "Retrieve", .messages = {&response.base}});
    assert_ok(prism_keyvalue_retrieve(f->keyvalue, "k", NULL, &value, &f->error), f->error);
    assert_false(value.found);
    response.found = true;
    script_once(f->server,
                (struct script_step){.method = "Retrieve", .messages = {&response.base}});
    assert_ok(prism_keyvalue_retrieve(f->keyvalue, "k", NULL, &value, &f->error), f->error);
    assert_true(value.found);
    assert_int_equal(value.data.len, 0);
    prism_value_free(&value);
}

static void details_of_a_status_reach_the_error(void **state)
{
    struct fixture *f = *state;
    struct prism_value value;

    script_once(f->server, (struct script_step){.method = "Retrieve",
                                                .status = GRPC_STATUS_INVALID_ARGUMENT,
                                                .text = "key: 2000 bytes, at most 1024",
                                                .field = "key"});
    assert_int_equal(prism_keyvalue_retrieve(f->keyvalue, "k", NULL, &value, &f->error),
                     PRISM_INVALID_ARGUMENT);
    assert_string_equal(f->error.field, "key");
    assert_string_equal(f->error.message, "key: 2000 bytes, at most 1024");

    script_once(f->server, (struct script_step){.method = "Retrieve",
                                                .status = GRPC_STATUS_INTERNAL,
                                                .text = "odd",
                                                .garbled_details = true});
    assert_int_equal(prism_keyvalue_retrieve(f->keyvalue, "k", NULL, &value, &f->error),
                     PRISM_INTERNAL);
    assert_string_equal(f->error.message, "odd");
    assert_string_equal(f->error.field, "");
}

static void long_texts_are_cut_between_characters(void **state)
{
    struct fixture *f = *state;
    char text[1201];

    /* Three bytes each; the field has room for 127, which is not a multiple. */
    for (size_t i = 0; i < 400; i++)
        memcpy(text + 3 * i, "\xe2\x82\xac", 3);
    text[1200] = '\0';
    script_once(f->server,
                (struct script_step){
                    .method = "Store", .status = GRPC_STATUS_INTERNAL, .text = "", .field = text});
    assert_int_equal(
        prism_keyvalue_store(f->keyvalue, "k", prism_bytes_of("v", 1), NULL, NULL, &f->error),
        PRISM_INTERNAL);
    assert_int_equal(strlen(f->error.field), 126);
    assert_memory_equal(f->error.field + 123, "\xe2\x82\xac", 3);
}

static void answer_that_does_not_decode_is_internal(void **state)
{
    struct fixture *f = *state;
    struct prism_value value;

    script_once(f->server, (struct script_step){.method = "Retrieve", .garbage = 7});
    assert_int_equal(prism_keyvalue_retrieve(f->keyvalue, "k", NULL, &value, &f->error),
                     PRISM_INTERNAL);
    assert_non_null(strstr(f->error.message, "does not decode"));
    /* Status OK, but no message at all. */
    script_once(f->server, (struct script_step){.method = "Retrieve"});
    assert_int_equal(prism_keyvalue_retrieve(f->keyvalue, "k", NULL, &value, &f->error),
                     PRISM_INTERNAL);
}

static void wrong_arguments_do_not_reach_the_server(void **state)
{
    struct fixture *f = *state;
    struct prism_store_options both = {.if_absent = true, .if_version = prism_bytes_of("v", 1)};
    struct prism_store_options negative = {.expiration_s = -1};
    const char *keys[] = {"a", ""};
    struct prism_batch batch;
    struct prism_bytes value = prism_bytes_of("v", 1);
    bool flag;

    assert_int_equal(prism_keyvalue_store(f->keyvalue, "", value, NULL, NULL, &f->error),
                     PRISM_INVALID_ARGUMENT);
    assert_string_equal(f->error.field, "key");
    assert_int_equal(prism_keyvalue_store(f->keyvalue, "k", value, &both, NULL, &f->error),
                     PRISM_INVALID_ARGUMENT);
    assert_string_equal(f->error.field, "precondition");
    assert_int_equal(prism_keyvalue_store(f->keyvalue, "k", value, &negative, NULL, &f->error),
                     PRISM_INVALID_ARGUMENT);
    assert_int_equal(prism_keyvalue_remove(f->keyvalue, NULL, NULL, NULL, NULL),
                     PRISM_INVALID_ARGUMENT);
    assert_int_equal(prism_keyvalue_exists(f->keyvalue, "", NULL, &flag, NULL),
                     PRISM_INVALID_ARGUMENT);
    assert_int_equal(prism_keyvalue_set_expiration(f->keyvalue, "k", -5, NULL, NULL, NULL),
                     PRISM_INVALID_ARGUMENT);
    assert_int_equal(prism_keyvalue_remove_batch(f->keyvalue, keys, 2, NULL, &batch, &f->error),
                     PRISM_INVALID_ARGUMENT);
    assert_string_equal(f->error.field, "keys[1]");
    assert_int_equal(script_calls(f->server, "Store") + script_calls(f->server, "Remove") +
                         script_calls(f->server, "Exists") +
                         script_calls(f->server, "RemoveBatch") +
                         script_calls(f->server, "SetExpiration"),
                     0);
}

static void batch_tells_each_item_its_outcome(void **state)
{
    struct fixture *f = *state;
    struct prism_store_item items[] = {
        {.key = "a", .value = prism_bytes_of("1", 1)},
        {.key = "b", .value = prism_bytes_of("2", 1), .expiration_s = 5},
    };
    store_response good = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    store_response bad = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    store_response *results[] = {&good, &bad};
    Prism__Patterns__Keyvalue__StoreBatchResponse response =
        PRISM__PATTERNS__KEYVALUE__STORE_BATCH_RESPONSE__INIT;
    const struct prism_batch_options atomic = {.atomic = true};
    store_batch_request *request;
    struct prism_batch batch;

    good.success = true;
    bad.code = GRPC_STATUS_INVALID_ARGUMENT;
    bad._error_case = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___ERROR_ERROR;
    bad.error = (char *)(uintptr_t) "value too large";
    response.n_results = 2;
    response.results = results;
    script_always(f->server,
                  (struct script_step){.method = "StoreBatch", .messages = {&response.base}});
    assert_ok(prism_keyvalue_store_batch(f->keyvalue, items, 2, &atomic, &batch, &f->error),
              f->error);
    assert_int_equal(batch.count, 2);
    assert_int_equal(batch.succeeded, 1);
    assert_int_equal(batch.items[0].code, PRISM_OK);
    assert_string_equal(batch.items[0].message, "");
    assert_int_equal(batch.items[1].code, PRISM_INVALID_ARGUMENT);
    assert_string_equal(batch.items[1].message, "value too large");
    prism_batch_free(&batch);
    assert_int_equal(batch.count, 0);

    request = (store_batch_request *)script_request(
        f->server, "StoreBatch", &prism__patterns__keyvalue__store_batch_request__descriptor);
    assert_int_equal(request->n_requests, 2);
    assert_true(request->atomic);
    assert_string_equal(request->requests[1]->key, "b");
    assert_int_equal(request->requests[1]->expiration_seconds, 5);
    protobuf_c_message_free_unpacked(&request->base, NULL);

    /* Results that cannot be matched to items. */
    assert_int_equal(prism_keyvalue_store_batch(f->keyvalue, items, 1, NULL, &batch, &f->error),
                     PRISM_INTERNAL);
    assert_int_equal(batch.count, 0);
    assert_null(batch.items);
}

static void namespace_and_numbers_travel(void **state)
{
    const struct prism_channel_options options = {.namespace_name = "billing"};
    Prism__Patterns__Keyvalue__CountResponse count =
        PRISM__PATTERNS__KEYVALUE__COUNT_RESPONSE__INIT;
    Prism__Patterns__Keyvalue__GetExpirationResponse left =
        PRISM__PATTERNS__KEYVALUE__GET_EXPIRATION_RESPONSE__INIT;
    struct fixture f;
    char name[64];
    int64_t number;

    (void)state;
    fixture_open(&f, &options);
    script_last_namespace(f.server, name, sizeof name);
    assert_string_equal(name, "billing");
    count.count = INT64_C(5000000000);
    script_always(f.server, (struct script_step){.method = "Count", .messages = {&count.base}});
    assert_ok(prism_keyvalue_count(f.keyvalue, "p", NULL, &number, &f.error), f.error);
    assert_true(number == INT64_C(5000000000));
    left.expiration_seconds = PRISM_NEVER_EXPIRES;
    script_always(f.server,
                  (struct script_step){.method = "GetExpiration", .messages = {&left.base}});
    assert_ok(prism_keyvalue_get_expiration(f.keyvalue, "k", NULL, &number, &f.error), f.error);
    assert_int_equal(number, PRISM_NEVER_EXPIRES);
    fixture_close(&f);
}

static void channel_checks_its_target(void **state)
{
    static const char *const good[] = {"a:1",
                                       "[::1]:65535",
                                       "unix:/s",
                                       "unix:s",
                                       "unix:///s",
                                       "dns:a:80",
                                       "dns://1.1.1.1/a:80",
                                       "ipv4:1.2.3.4:1",
                                       "ipv4:1.2.3.4:1,1.2.3.5:1",
                                       "ipv6:[::1]:1"};
    static const char *const bad[] = {
        "",           "a",     "a:",           "a:0",        "a:65536",  "a:http",
        ":8980",      "::1",   "[::1]",        "[::1",       "unix:",    "unix://host/s",
        "http://a:1", "a:1/b", "ipv4:1.2.3.4", "ipv6:::1:1", "dns:///a", "xds:///a:1/b"};
    char long_path[128] = "unix:";
    struct prism_channel *channel;
    struct prism_error error;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_ok(prism_channel_open(good[i], NULL, &channel, &error), error);
        prism_channel_close(channel);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (prism_channel_open(bad[i], NULL, &channel, &error) != PRISM_INVALID_ARGUMENT)
            fail_msg("%s is taken", bad[i]);
        assert_string_equal(error.field, "target");
        assert_null(channel);
    }
    long_path[5] = '/';
    memset(long_path + 6, 's', sizeof long_path - 7);
    assert_int_equal(prism_channel_open(long_path, NULL, &channel, &error), PRISM_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "107"));
}

static void channel_checks_its_options(void **state)
{
    const struct prism_channel_options spaced = {.namespace_name = "a b"};
    const struct prism_channel_options half = {.tls = {.enabled = true, .cert_file = "/x"}};
    const struct prism_channel_options missing = {
        .tls = {.enabled = true, .ca_file = "/nonexistent/ca.pem"}};
    const struct prism_channel_options no_pem = {
        .tls = {.enabled = true, .ca_file = "/proc/version"}};
    const struct prism_channel_options disabled = {.tls = {.ca_file = "/x"}};
    struct prism_channel *channel;
    struct prism_error error;

    (void)state;
    assert_int_equal(prism_channel_open("", NULL, &channel, &error), PRISM_INVALID_ARGUMENT);
    assert_string_equal(error.field, "target");
    assert_int_equal(prism_channel_open("a:1", &spaced, &channel, &error), PRISM_INVALID_ARGUMENT);
    assert_int_equal(prism_channel_open("a:1", &half, &channel, &error), PRISM_INVALID_ARGUMENT);
    assert_string_equal(error.field, "tls.key_file");
    assert_int_equal(prism_channel_open("a:1", &missing, &channel, &error), PRISM_INVALID_ARGUMENT);
    assert_string_equal(error.field, "tls.ca_file");
    assert_non_null(strstr(error.message, "/nonexistent/ca.pem"));
    assert_int_equal(prism_channel_open("a:1", &no_pem, &channel, &error), PRISM_INVALID_ARGUMENT);
    assert_string_equal(error.field, "tls.ca_file");
    assert_int_equal(prism_channel_open("a:1", &disabled, &channel, NULL), PRISM_INVALID_ARGUMENT);
    assert_null(channel);
    prism_channel_close(channel);
    assert_string_equal(prism_code_name(PRISM_ABORTED), "ABORTED");
    assert_string_equal(prism_code_name((enum prism_code)77), "UNKNOWN");
}

#define each(test_) cmocka_unit_test_setup_teardown(test_, before, after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        each(store_sends_what_it_was_given),
        each(plain_store_sends_neither_expiry_nor_precondition),
        each(errors_inside_an_answer_are_returned),
        each(version_comes_back_also_when_the_precondition_fails),
        each(absent_key_is_told_from_an_empty_value),
        each(details_of_a_status_reach_the_error),
        each(long_texts_are_cut_between_characters),
        each(answer_that_does_not_decode_is_internal),
        each(wrong_arguments_do_not_reach_the_server),
        each(batch_tells_each_item_its_outcome),
        cmocka_unit_test(namespace_and_numbers_travel),
        cmocka_unit_test(channel_checks_its_target),
        cmocka_unit_test(channel_checks_its_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
