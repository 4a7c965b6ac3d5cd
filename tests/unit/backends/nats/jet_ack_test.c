/* What JetStream says: answers to a publish, and the subjects that deliveries are settled by. */
#include "backends/nats/jet_priv.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct jet_ack read_ack(const char *json)
{
    natsMsg *message;
    struct jet_ack ack;

    assert_int_equal(natsMsg_Create(&message, "s", NULL, json, (int)strlen(json)), NATS_OK);
    ack = jet_ack_read(message);
    natsMsg_Destroy(message);
    return ack;
}

static void test_stored(void **state)
{
    struct jet_ack ack = read_ack("{\"stream\":\"S\",\"seq\":18446744073709551615}");

    (void)state;
    assert_true(ack.stored && !ack.duplicate);
    assert_true(ack.sequence == UINT64_MAX);
    ack = read_ack("{\"type\":\"x\",\"stream\":\"a\\\"seq\\\":9\",\"domain\":\"d\",\"seq\": 7,"
                   "\"duplicate\": true}");
    assert_true(ack.stored && ack.duplicate);
    assert_int_equal(ack.sequence, 7);
}

static void test_refused(void **state)
{
    static const struct {
        const char *json;
        enum err_code code;
        const char *subject;
    } cases[] = {
        {"{\"error\":{\"code\":400,\"err_code\":10054,\"description\":\"message size exceeds "
         "maximum "
         "allowed\"},\"stream\":\"S\",\"seq\":0}",
         ERR_INVALID_ARGUMENT, "payload"},
        {"{\"error\":{\"code\":503,\"err_code\":10077,\"description\":\"max \\\"bytes\"},"
         "\"stream\":\"S\",\"seq\":0}",
         ERR_RESOURCE_EXHAUSTED, "topic"},
        {"{\"error\":{\"code\":503,\"err_code\":10047,\"description\":\"\"}}",
         ERR_RESOURCE_EXHAUSTED, "topic"},
        {"{\"error\":{\"code\":429,\"err_code\":10167}}", ERR_RESOURCE_EXHAUSTED, "topic"},
        {"{\"error\":{\"code\":400,\"err_code\":10109}}", ERR_FAILED_PRECONDITION, "topic"},
        {"{\"error\":{\"code\":503,\"err_code\":1}}", ERR_UNAVAILABLE, NULL},
        {"{\"error\":{\"code\":400,\"err_code\":1}}", ERR_FAILED_PRECONDITION, "topic"},
        {"{\"error\":{\"code\":500}}", ERR_UNAVAILABLE, NULL},
        {"hello", ERR_FAILED_PRECONDITION, "topic"}, /* somebody else's answer */
        {"{\"seq\"", ERR_FAILED_PRECONDITION, "topic"},
        {"\"", ERR_FAILED_PRECONDITION, "topic"},
        {"\"\\", ERR_FAILED_PRECONDITION, "topic"},
        {"", ERR_FAILED_PRECONDITION, "topic"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct jet_ack ack = read_ack(cases[i].json);

        assert_false(ack.stored || ack.absent);
        assert_int_equal(ack.err.code, cases[i].code);
        assert_int_equal(ack.err.effect, EFFECT_NONE);
        assert_non_null(ack.err.text);
        if (cases[i].subject != NULL)
            assert_string_equal(ack.err.subject, cases[i].subject);
    }
}

static void test_sources(void **state)
{
    static const char *const good[] = {
        "$JS.ACK.stream.g@orders=2Eeu.3.12.40.1700000000000000001.5",
        "$JS.ACK.hub.A1b2.stream.g@orders=2Eeu.3.12.40.1700000000000000001.5",
        "$JS.ACK.hub.A1b2.stream.g@orders=2Eeu.3.12.40.1700000000000000001.5.random",
    };
    static const char *const bad[] = {"",
                                      "_INBOX.x.1",
                                      "$JS.ACK.stream",
                                      "$JS.ACK.s.c.1.2.3.4",
                                      "$JS.ACK.s.c.x.2.3.4.5",
                                      "$JS.ACK.s.c.1.2.3..5",
                                      "$JS.ACK.s.c.1.2.3.4.5.6",
                                      "$JS.ACK.a.b.s.c.1.2.3.4.5.6.7"};
    struct jet_source source;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(jet_source_read(&source, good[i]));
        assert_int_equal(source.deliveries, 3);
        assert_int_equal(source.stream_sequence, 12);
        assert_int_equal(source.consumer_sequence, 40);
        assert_true(source.time_ns == 1700000000000000001ull);
        assert_true(strncmp(good[i] + source.prefix, "3.12.", 5) == 0);
        assert_int_equal(good[i][source.prefix - 1], '.');
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(jet_source_read(&source, bad[i]));
}

static void test_names(void **state)
{
    char name[JET_NAME_BYTES], wide[250];

    (void)state;
    assert_true(jet_name(name, slice_str("my group"), slice_str("orders.eu_1-A")));
    assert_string_equal(name, "my=20group@orders=2Eeu_1-A");
    assert_true(jet_name(name, message_null(), slice_str("a=b")));
    assert_string_equal(name, "a=3Db");
    assert_true(jet_name(name, slice_str("g"), message_null()));
    assert_string_equal(name, "g");
    memset(wide, '.', sizeof wide);
    for (size_t len = 0; len < sizeof wide; len++) {
        bool fits = jet_name(name, slice_of(wide, len), slice_str("t"));

        assert_int_equal(fits, 3 * len + 2 - (len == 0) < JET_NAME_BYTES);
        assert_true(memchr(name, '\0', sizeof name) != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_names),
    };

    int failed;

    if (nats_Open(-1) != NATS_OK)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    nats_Close();
    return failed;
}
