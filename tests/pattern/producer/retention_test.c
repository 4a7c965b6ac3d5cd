/* What a topic's retention may do reaches the capabilities; strict_retention refuses. */
#include "tests/pattern/producer/producer.h"

enum {
    UNKNOWN = PRISM__PATTERNS__SCHEMAS__RETENTION__RETENTION_UNKNOWN,
    LOSSY = PRISM__PATTERNS__SCHEMAS__RETENTION__RETENTION_LOSSY
};

static struct call *capabilities(struct fake_rig *rig)
{
    Prism__Patterns__Producer__GetCapabilitiesRequest request =
        PRISM__PATTERNS__PRODUCER__GET_CAPABILITIES_REQUEST__INIT;
    struct call *call = fake_call(rig, "GetCapabilities", &request.base);

    fake_rig_run(rig);
    assert_int_equal(call->status.code, ERR_OK);
    return call;
}

static int retention(struct fake_rig *rig)
{
    struct call *call = capabilities(rig);
    int told = (int)((const pb_capabilities *)(const void *)call->reply)->retention;

    fake_call_free(call);
    return told;
}

/* Of Publish. */
static int acknowledgement(struct fake_rig *rig, int64_t *generation)
{
    struct call *call = capabilities(rig);
    const pb_capabilities *caps = (const void *)call->reply;
    int told = -1;

    for (size_t i = 0; i < caps->n_operations && told < 0; i++) {
        if (strcmp(caps->operations[i]->operation, "Publish") == 0)
            told = (int)caps->operations[i]->acknowledgement;
    }
    *generation = caps->generation;
    fake_call_free(call);
    return told;
}

static struct err publish(struct fake_rig *rig, const char *topic)
{
    pb_publish_request request = message_to(topic, "x");
    struct call *call = fake_call(rig, "Publish", &request.base);
    static char kept[ERR_KEPT_BYTES];
    struct err err;

    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);

    const pb_publish_response *response = (const void *)call->reply;

    if (response->success) {
        err = ERR_NONE;
    } else {
        assert_int_equal(response->outcome, PB(OUTCOME__NOT_STORED));
        err = err_keep(err_make((enum err_code)response->code, response->error), kept);
    }
    fake_call_free(call);
    return err;
}

static struct fake_rig *strict_rig(void)
{
    struct fake_rig *rig = producer_unbound(FAKE_STREAM);

    fake_rig_set(rig, "strict_retention", 1);
    fake_rig_bind(rig);
    return rig;
}

/* P9 */
static void test_p9_a_lossy_topic_is_told(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);

    (void)state;
    assert_int_equal(publish(rig, "keeps").code, ERR_OK);
    assert_int_equal(retention(rig), UNKNOWN);
    rig->world.messages.lossy = "max_age";
    assert_int_equal(publish(rig, "keeps").code, ERR_OK); /* asked about once */
    assert_int_equal(retention(rig), UNKNOWN);
    assert_int_equal(publish(rig, "loses").code, ERR_OK);
    assert_int_equal(retention(rig), LOSSY);
    producer_free(rig);
}

/* Topics differ in it: what is told holds for all of them. One that does not say leaves nothing to
 * tell. */
static void test_what_an_acknowledgement_means_is_learnt(void **state)
{
    static const struct {
        int is;
        schema_acknowledgement told;
    } topics[] = {
        {BACKEND_ACK_QUORUM_MEMORY, PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__QUORUM_MEMORY},
        {BACKEND_ACK_MEMORY, PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__MEMORY},
        {BACKEND_ACK_QUORUM_MEMORY, PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__MEMORY},
        {BACKEND_ACK_UNKNOWN, PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__UNKNOWN},
        {BACKEND_ACK_MEMORY, PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__UNKNOWN},
    };
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    int64_t before, after;
    int told = acknowledgement(rig, &before);

    (void)state;
    assert_int_equal(told, PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__UNKNOWN);
    for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
        char topic[] = {'t', (char)('0' + i), '\0'};
        struct outgoing first = {.topic = slice_str(topic), .payload = slice_str("x")};
        bool same = told == (int)topics[i].told;

        assert_int_equal(fake_rig_publish(rig, &first).code, ERR_OK); /* it is there */
        rig->world.messages.ack = topics[i].is;
        assert_int_equal(publish(rig, topic).code, ERR_OK);
        told = acknowledgement(rig, &after);
        assert_int_equal(told, topics[i].told);
        assert_true((after == before) == same);
        before = after;
    }
    producer_free(rig);
}

/* P9: the message is stored while the question is open, and the end of the server ends it. */
static void test_p9_no_message_waits_for_the_answer(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    pb_publish_request request = message_to("t", "x");
    struct call *call;

    (void)state;
    rig->world.messages.describes_at_once = false;
    rig->world.mode = FAKE_PARKED;
    rig->world.order = FAKE_LAST_FIRST;
    rig->world.messages.lossy = "max_age";
    call = fake_call(rig, "Publish", &request.base);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, 2); /* the question and the message */
    fake_release(&rig->world, 1);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_OK);
    assert_int_equal(rig->world.in_flight, 1);
    fake_call_free(call);
    producer_free(rig);
}

/* P9: where no answer came, the topic is asked about again, a second later. */
static void test_p9_a_question_without_answer_is_asked_again(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);

    (void)state;
    rig->world.messages.describes_at_once = false;
    rig->world.messages.lossy = "max_age";
    rig->world.fail_at = 1; /* the question */
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    assert_int_equal(publish(rig, "t").code, ERR_OK);
    assert_int_equal(publish(rig, "t").code, ERR_OK);
    assert_int_equal(retention(rig), UNKNOWN);
    fake_rig_advance(rig, 1001);
    assert_int_equal(publish(rig, "t").code, ERR_OK);
    assert_int_equal(retention(rig), LOSSY);
    producer_free(rig);
}

/* P9: names that clients make up do not fill the memory, and topics that were forgotten are asked
 * about again. */
static void test_p9_many_topics(void **state)
{
    struct fake_rig *rig = producer_rig(FAKE_STREAM);
    char topic[16];

    (void)state;
    for (int i = 0; i < 3000; i++) {
        snprintf(topic, sizeof topic, "t%d", i);
        assert_int_equal(publish(rig, topic).code, ERR_OK);
    }
    assert_int_equal(retention(rig), UNKNOWN);
    rig->world.messages.lossy = "max_age";
    for (int i = 0; i < 3000; i++) {
        snprintf(topic, sizeof topic, "t%d", i);
        assert_int_equal(publish(rig, topic).code, ERR_OK);
    }
    assert_int_equal(retention(rig), LOSSY);
    producer_free(rig);
}

/* P9: strict_retention. */
static void test_p9_strict_refuses_what_may_be_lost(void **state)
{
    struct fake_rig *rig = strict_rig();
    struct err err;

    (void)state;
    rig->world.messages.describes_at_once = false;
    assert_int_equal(publish(rig, "keeps").code, ERR_OK);
    rig->world.messages.lossy = "max_age";
    assert_int_equal(publish(rig, "keeps").code, ERR_OK);
    err = publish(rig, "loses");
    assert_int_equal(err.code, ERR_FAILED_PRECONDITION);
    assert_non_null(strstr(err.text, "\"loses\""));
    assert_non_null(strstr(err.text, "max_age"));
    assert_int_equal(retention(rig), LOSSY);
    assert_null(fake_message(&rig->world, "loses", 0));
    rig->world.messages.lossy = NULL; /* the operator has mended it */
    assert_int_equal(publish(rig, "loses").code, ERR_OK);
    producer_free(rig);
}

static void test_p9_strict_refuses_what_is_not_known(void **state)
{
    struct fake_rig *rig = strict_rig();
    struct err err;

    (void)state;
    rig->world.messages.describes_at_once = false;
    rig->world.fail_at = 1;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    err = publish(rig, "t");
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_null(fake_message(&rig->world, "t", 0));
    assert_int_equal(publish(rig, "t").code, ERR_OK);
    producer_free(rig);
}

/* P9: of a batch each message has its own topic's outcome, and those of one topic one question. */
static void test_p9_strict_refuses_by_message(void **state)
{
    struct fake_rig *rig = strict_rig();
    struct messages messages = {.n = 0};
    static const char *const topics[] = {"keeps", "loses", "loses", "keeps", "loses"};
    struct call *call;

    (void)state;
    assert_int_equal(publish(rig, "keeps").code, ERR_OK);
    rig->world.messages.lossy = "max_age";
    for (size_t i = 0; i < 5; i++)
        add(&messages, message_to(topics[i], "y"));
    call = publish_batch(rig, &messages);
    fake_rig_run(rig);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(answers_of(call)->results[i]->success, strcmp(topics[i], "keeps") == 0);
    assert_int_equal(answers_of(call)->results[4]->code, ERR_FAILED_PRECONDITION);
    fake_call_free(call);
    expect_payload(rig, "keeps", 2, "y");
    assert_null(fake_message(&rig->world, "loses", 0));
    producer_free(rig);
}

/* ---- at the start ---- */

struct vetted {
    unsigned times;
    struct err err;
    char text[ERR_KEPT_BYTES];
};

static void vetted(void *arg, struct err err)
{
    struct vetted *at = arg;

    at->times++;
    at->err = err.code == ERR_OK ? err : err_keep(err, at->text);
}

static struct fake_rig *vetted_rig(unsigned mask, const char *allowed, bool strict)
{
    struct fake_rig *rig = producer_unbound(mask);

    fake_rig_set(rig, "strict_retention", strict);
    fake_rig_set_text(rig, "allowed_topics", allowed);
    rig->world.messages.lossy = "max_age";
    fake_rig_bind(rig);
    return rig;
}

static void expect_vetted(unsigned mask, const char *allowed, bool strict, enum err_code code,
                          const char *text)
{
    struct fake_rig *rig = vetted_rig(mask, allowed, strict);
    struct vetted result = {0};

    pattern_producer.vet(rig->pattern, vetted, &result);
    assert_int_equal(result.times, 0);
    fake_rig_run(rig);
    assert_int_equal(result.times, 1);
    assert_int_equal(result.err.code, code);
    if (text != NULL)
        assert_non_null(strstr(result.text, text));
    producer_free(rig);
}

static void test_p9_what_is_known_at_the_start(void **state)
{
    (void)state;
    expect_vetted(FAKE_STREAM, "a*, orders", true, ERR_FAILED_PRECONDITION, "\"orders\"");
    expect_vetted(FAKE_STREAM, "a*, orders", true, ERR_FAILED_PRECONDITION, "max_age");
    expect_vetted(FAKE_STREAM, "a*, orders", false, ERR_OK, NULL);
    expect_vetted(FAKE_STREAM, "*", true, ERR_OK, NULL);
    expect_vetted(FAKE_QUEUE, "orders", true, ERR_OK, NULL);
    expect_vetted(FAKE_TOPIC, "*", true, ERR_FAILED_PRECONDITION, "at most once");
    expect_vetted(FAKE_TOPIC, "*", false, ERR_OK, NULL);
}

/* P9: a backend that is away is asked for some seconds, and the first use asks again. */
static void test_p9_the_start_waits_for_an_answer_but_not_for_ever(void **state)
{
    struct fake_rig *rig = vetted_rig(FAKE_STREAM, "orders", true);
    struct vetted result = {0};

    (void)state;
    rig->world.messages.describes_at_once = false;
    rig->world.fail_at = 1;
    rig->world.fail_last = 1000;
    rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
    pattern_producer.vet(rig->pattern, vetted, &result);
    for (int i = 0; i < 120 && result.times == 0; i++) {
        fake_rig_run(rig);
        fake_rig_advance(rig, 50);
    }
    assert_int_equal(result.times, 1);
    assert_int_equal(result.err.code, ERR_OK);
    rig->world.fail_at = rig->world.fail_last = 0;
    assert_int_equal(publish(rig, "orders").code, ERR_FAILED_PRECONDITION);
    producer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p9_a_lossy_topic_is_told),
        cmocka_unit_test(test_what_an_acknowledgement_means_is_learnt),
        cmocka_unit_test(test_p9_no_message_waits_for_the_answer),
        cmocka_unit_test(test_p9_a_question_without_answer_is_asked_again),
        cmocka_unit_test(test_p9_many_topics),
        cmocka_unit_test(test_p9_strict_refuses_what_may_be_lost),
        cmocka_unit_test(test_p9_strict_refuses_what_is_not_known),
        cmocka_unit_test(test_p9_strict_refuses_by_message),
        cmocka_unit_test(test_p9_what_is_known_at_the_start),
        cmocka_unit_test(test_p9_the_start_waits_for_an_answer_but_not_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
