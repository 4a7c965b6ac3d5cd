/* Dead letters: read, and published again. */
#include "patterns/messaging/dead.h"
#include "tests/pattern/consumer/consumer.h"

static struct fake_rig *letters_rig(void)
{
    struct fake_rig *rig = mortal(0);

    return rig;
}

/* n messages of t, "a", "b", .., that group g has failed on. */
static void bury(struct fake_rig *rig, int n)
{
    struct call *call = member(rig);
    struct header header = {.name = slice_str("h"), .value = slice_str("v")};

    for (int i = 0; i < n; i++) {
        const char payload[] = {(char)('a' + i), '\0'};
        struct outgoing item = {.topic = slice_str("t"),
                                .key = slice_str("k"),
                                .id = slice_str(payload),
                                .payload = slice_str(payload),
                                .headers = &header,
                                .n_headers = 1};

        put_item(rig, item);
        reject(rig, call, i + 1, CONSUMER_PB(DISPOSITION__DEAD_LETTER), 0);
    }
    leave(rig, call);
    assert_int_equal(fake_published(&rig->world, "t.g.dead"), n);
}

static void reject_with(struct fake_rig *rig, struct call *call, int64_t sequence,
                        const char *reason)
{
    Prism__Patterns__Consumer__ConsumeReject which =
        PRISM__PATTERNS__CONSUMER__CONSUME_REJECT__INIT;
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;

    which.sequences = &sequence;
    which.n_sequences = 1;
    which.disposition = CONSUMER_PB(DISPOSITION__DEAD_LETTER);
    which.reason = pb_text(reason);
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_REJECT);
    request.reject = &which;
    say(rig, call, &request);
}

static pb_redrive_request wanted(void)
{
    pb_redrive_request request = PRISM__PATTERNS__CONSUMER__REDRIVE_REQUEST__INIT;

    request.topic = pb_text("t");
    request.consumer_group = pb_text("g");
    return request;
}

/* Redrives; the answer is in `out`. */
static void redrive_with(struct fake_rig *rig, const pb_redrive_request *request,
                         pb_redrive_response *out)
{
    struct call *call = fake_call(rig, "Redrive", &request->base);

    fake_rig_run(rig);
    while (call->ends == 0) {
        fake_rig_advance(rig, 1000);
        fake_rig_run(rig);
    }
    assert_int_equal(call->status.code, ERR_OK);
    *out = *(const pb_redrive_response *)call->reply;
    out->error = NULL;
    fake_call_free(call);
}

static pb_redrive_response redrive(struct fake_rig *rig)
{
    pb_redrive_request request = wanted();
    pb_redrive_response response;

    redrive_with(rig, &request, &response);
    return response;
}

static void test_letters_go_back_as_they_were(void **state)
{
    struct fake_rig *rig = letters_rig();
    const struct outgoing *again;
    struct call *call;

    (void)state;
    bury(rig, 2);
    assert_int_equal(redrive(rig).redriven_count, 2);
    assert_int_equal(fake_published(&rig->world, "t"), 4);
    again = fake_message(&rig->world, "t", 2);
    assert_true(slice_equal(again->payload, slice_str("a")));
    assert_true(slice_equal(again->key, slice_str("k")));
    assert_true(slice_equal(again->id, slice_str("a")));
    assert_int_equal(again->n_headers, 1);
    assert_true(slice_equal(again->headers[0].value, slice_str("v")));
    call = member(rig);
    expect_delivery(call, 0, "a", 1);
    expect_delivery(call, 1, "b", 1);
    assert_string_equal(delivery_at(call, 0)->message_id, "a");
    leave(rig, call);
    assert_int_equal(fake_unsettled(&rig->world, "t.g.dead", "g"), 0);
    assert_int_equal(redrive(rig).redriven_count, 0);
    consumer_free(rig);
}

/* It was written without its payload: whoever gets it can tell. */
static void test_what_a_letter_lacks_is_said_again(void **state)
{
    struct fake_rig *rig = letters_rig();
    const struct header headers[] = {
        {.name = slice_str(DEAD_LETTER_HEADER "topic"), .value = slice_str("t")},
        {.name = slice_str(DEAD_LETTER_OMITTED), .value = slice_str("7")}};
    const struct outgoing *again;

    (void)state;
    put_item(rig, (struct outgoing){.topic = slice_str("t.g.dead"),
                                    .payload = message_empty(),
                                    .headers = headers,
                                    .n_headers = ARRAY_LEN(headers)});
    assert_int_equal(redrive(rig).redriven_count, 1);
    again = fake_message(&rig->world, "t", 0);
    assert_int_equal(again->n_headers, 1);
    assert_true(slice_equal(again->headers[0].name, slice_str(DEAD_LETTER_OMITTED)));
    assert_true(slice_equal(again->headers[0].value, slice_str("7")));
    consumer_free(rig);
}

/* Some backends refuse empty header values, line ends, and spaces at the ends. */
static void test_reasons_are_plain_text(void **state)
{
    static const struct {
        const char *said, *kept;
    } rows[] = {{"", NULL},
                {" \n", NULL},
                {"\tTrace:\n at x\r\n", "Trace:  at x"},
                {"\xc3\xa9", "\xc3\xa9"}};
    struct fake_rig *rig = letters_rig();
    struct call *call = member(rig);
    struct slice name = slice_str("prism-dead-letter-reason");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct outgoing *letter;

        put(rig, NULL, "x");
        reject_with(rig, call, (int64_t)i + 1, rows[i].said);
        letter = fake_message(&rig->world, "t.g.dead", i);
        assert_int_equal(slice_equal(letter->headers[0].name, name), rows[i].kept != NULL);
        if (rows[i].kept != NULL)
            assert_true(slice_equal(letter->headers[0].value, slice_str(rows[i].kept)));
    }
    leave(rig, call);
    consumer_free(rig);
}

static void test_the_oldest_come_first(void **state)
{
    struct fake_rig *rig = letters_rig();
    pb_redrive_request request = wanted();
    pb_redrive_response response;

    (void)state;
    bury(rig, 3);
    request._max_messages_case = CONSUMER_PB(REDRIVE_REQUEST___MAX_MESSAGES_MAX_MESSAGES);
    request.max_messages = 2;
    redrive_with(rig, &request, &response);
    assert_int_equal(response.redriven_count, 2);
    assert_true(slice_equal(fake_message(&rig->world, "t", 4)->payload, slice_str("b")));
    assert_int_equal(fake_unsettled(&rig->world, "t.g.dead", "g"), 1);
    assert_int_equal(redrive(rig).redriven_count, 1);
    consumer_free(rig);
}

/* An identifier that the sink remembers must not swallow the message. */
static void test_it_goes_past_deduplication(void **state)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    const struct outgoing *again;
    struct call *call;

    (void)state;
    rig->slots = WITH_DEAD_LETTERS;
    rig->world.messages.stream.sink.dedups = true;
    fake_rig_bind(rig);
    bury(rig, 1);
    assert_int_equal(redrive(rig).redriven_count, 1);
    again = fake_message(&rig->world, "t", 1);
    assert_true(message_is_null(again->id));
    call = member(rig);
    assert_string_equal(delivery_at(call, 0)->message_id, "a");
    reject(rig, call, 1, CONSUMER_PB(DISPOSITION__DEAD_LETTER), 0);
    leave(rig, call);
    assert_int_equal(redrive(rig).redriven_count, 1);
    assert_int_equal(fake_message(&rig->world, "t", 2)->n_headers, again->n_headers);
    consumer_free(rig);
}

static bool is_there(struct fake_rig *rig, const char *payload)
{
    for (size_t i = 3; i < fake_published(&rig->world, "t"); i++) {
        if (slice_equal(fake_message(&rig->world, "t", i)->payload, slice_str(payload)))
            return true;
    }
    return false;
}

/* Whichever operation fails, a letter is in one place or in both, never in neither. */
static void test_nothing_is_lost_whatever_fails(void **state)
{
    (void)state;
    for (uint64_t fail = 1; fail < 8; fail++) {
        struct fake_rig *rig = letters_rig();
        pb_redrive_request request = wanted();
        struct call *call;

        bury(rig, 3);
        rig->world.fail_at = rig->world.ops + fail;
        rig->world.fail_with = err_make(ERR_UNAVAILABLE, "the fake is away");
        call = fake_call(rig, "Redrive", &request.base);
        fake_rig_run(rig);
        assert_int_equal(call->ends, 1);
        fake_call_free(call);
        rig->world.fail_at = 0;
        redrive(rig);
        assert_true(is_there(rig, "a") && is_there(rig, "b") && is_there(rig, "c"));
        assert_int_equal(fake_unsettled(&rig->world, "t.g.dead", "g"), 0);
        consumer_free(rig);
    }
}

static void test_what_cannot_be_published_stays(void **state)
{
    struct fake_rig *rig = letters_rig();
    pb_redrive_response response;

    (void)state;
    bury(rig, 3);
    rig->world.fail_with = err_about(ERR_PERMISSION_DENIED, "topic", "no");
    rig->world.poison = slice_str("t");
    response = redrive(rig);
    assert_int_equal(response.redriven_count, 0);
    assert_int_equal(response.failed_count, 3);
    assert_int_equal(response.code, ERR_PERMISSION_DENIED);
    rig->world.poison = message_null();
    assert_int_equal(redrive(rig).redriven_count, 3);
    consumer_free(rig);
}

static void put_letter(struct fake_rig *rig, const char *topic, const char *group,
                       const char *payload)
{
    const struct header headers[] = {
        {.name = slice_str(DEAD_LETTER_HEADER "topic"), .value = slice_str(topic)},
        {.name = slice_str(DEAD_LETTER_HEADER "group"), .value = slice_str(group)}};

    put_item(rig, (struct outgoing){.topic = slice_str("t.g.dead"),
                                    .payload = slice_str(payload),
                                    .headers = headers,
                                    .n_headers = ARRAY_LEN(headers)});
}

/* Topic and group "t.g" without a group, say: it is no message of this topic, and stays. */
static void test_what_has_strayed_stays(void **state)
{
    struct fake_rig *rig = letters_rig();
    pb_redrive_response response;

    (void)state;
    put_letter(rig, "t.g", "", "a");
    put_letter(rig, "t", "g", "b");
    put_letter(rig, "t", "h", "c");
    put_letter(rig, "t", "g", "d");
    response = redrive(rig);
    assert_int_equal(response.redriven_count, 2);
    assert_int_equal(response.failed_count, 2);
    assert_int_equal(response.code, ERR_FAILED_PRECONDITION);
    assert_int_equal(fake_published(&rig->world, "t"), 2);
    assert_true(slice_equal(fake_message(&rig->world, "t", 0)->payload, slice_str("b")));
    assert_true(slice_equal(fake_message(&rig->world, "t", 1)->payload, slice_str("d")));
    assert_int_equal(fake_unsettled(&rig->world, "t.g.dead", "g"), 2);
    response = redrive(rig);
    assert_int_equal(response.redriven_count, 0);
    assert_int_equal(response.failed_count, 2);
    assert_int_equal(fake_published(&rig->world, "t"), 2);
    consumer_free(rig);
}

/* Where one position is kept, nothing behind it is published: it could not be settled. */
static void test_what_has_strayed_stops_where_one_position_is_kept(void **state)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    pb_redrive_response response;

    (void)state;
    rig->slots = WITH_DEAD_LETTERS;
    rig->world.messages.stream.settling.single = false;
    fake_rig_bind(rig);
    put_letter(rig, "t", "g", "a");
    put_letter(rig, "t", "h", "b");
    put_letter(rig, "t", "g", "c");
    response = redrive(rig);
    assert_int_equal(response.redriven_count, 1);
    assert_int_equal(response.failed_count, 1);
    assert_int_equal(fake_published(&rig->world, "t"), 1);
    assert_true(slice_equal(fake_message(&rig->world, "t", 0)->payload, slice_str("a")));
    consumer_free(rig);
}

static void test_each_group_has_its_own(void **state)
{
    struct fake_rig *rig = letters_rig();
    pb_redrive_request request = wanted();
    pb_redrive_response response;

    (void)state;
    bury(rig, 2);
    request.consumer_group = pb_text("h");
    redrive_with(rig, &request, &response);
    assert_int_equal(response.redriven_count, 0);
    assert_int_equal(redrive(rig).redriven_count, 2);
    consumer_free(rig);
}

static struct call *letter_reader(struct fake_rig *rig)
{
    pb_subscribe_request subscribe = subscription();

    subscribe.dead_letters = true;
    return join(rig, &subscribe);
}

static void test_letters_are_read_and_stay(void **state)
{
    struct fake_rig *rig = letters_rig();
    struct call *reader;

    (void)state;
    bury(rig, 2);
    reader = letter_reader(rig);
    expect_delivery(reader, 0, "a", 1);
    assert_string_equal(delivery_at(reader, 0)->message_id, "a");
    assert_string_equal(delivery_at(reader, 0)->topic, "t");
    assert_string_equal(delivery_at(reader, 0)->headers[1]->name, "prism-dead-letter-reason");
    reject(rig, reader, 1, CONSUMER_PB(DISPOSITION__DEAD_LETTER), 0);
    assert_int_equal(last_failure(reader), ERR_FAILED_PRECONDITION);
    ack(rig, reader, 2);
    leave(rig, reader);
    assert_int_equal(redrive(rig).redriven_count, 1);
    consumer_free(rig);
}

/* What somebody reads is not waited for without end. */
static void test_letters_in_other_hands_are_left_to_them(void **state)
{
    struct fake_rig *rig = letters_rig();
    struct call *reader;

    (void)state;
    bury(rig, 2);
    reader = letter_reader(rig);
    assert_int_equal(deliveries(reader), 2);
    assert_int_equal(redrive(rig).redriven_count, 0);
    leave(rig, reader);
    assert_int_equal(redrive(rig).redriven_count, 2);
    consumer_free(rig);
}

static void test_letters_that_are_given_back_meanwhile_are_taken(void **state)
{
    struct fake_rig *rig = letters_rig();
    pb_redrive_request request = wanted();
    struct call *reader, *call;

    (void)state;
    bury(rig, 2);
    reader = letter_reader(rig);
    call = fake_call(rig, "Redrive", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 0);
    leave(rig, reader);
    assert_int_equal(call->ends, 1);
    assert_int_equal(((const pb_redrive_response *)call->reply)->redriven_count, 2);
    fake_call_free(call);
    consumer_free(rig);
}

static void test_a_client_that_goes_away_ends_it(void **state)
{
    struct fake_rig *rig = letters_rig();
    pb_redrive_request request = wanted();
    struct call *call;

    (void)state;
    bury(rig, 3);
    rig->world.mode = FAKE_PARKED;
    call = fake_call(rig, "Redrive", &request.base);
    fake_release(&rig->world, 1);
    fake_rig_drain(rig);
    assert_int_equal(call->ends, 0);
    fake_call_cancel(call);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_CANCELLED);
    fake_call_free(call);
    assert_int_equal(redrive(rig).failed_count, 0);
    assert_true(is_there(rig, "a") && is_there(rig, "b") && is_there(rig, "c"));
    consumer_free(rig);
}

static void expect_refusal(struct fake_rig *rig, const pb_redrive_request *request, int code)
{
    struct call *call = fake_call(rig, "Redrive", &request->base);

    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, code);
    fake_call_free(call);
}

static void test_requests_are_checked(void **state)
{
    struct fake_rig *rig = consumer_rig(FAKE_STREAM);
    pb_redrive_request request = wanted();

    (void)state;
    expect_refusal(rig, &request, ERR_UNIMPLEMENTED);
    consumer_free(rig);
    rig = letters_rig();
    request.consumer_group = pb_text("");
    expect_refusal(rig, &request, ERR_INVALID_ARGUMENT);
    request = wanted();
    request._max_messages_case = CONSUMER_PB(REDRIVE_REQUEST___MAX_MESSAGES_MAX_MESSAGES);
    expect_refusal(rig, &request, ERR_INVALID_ARGUMENT);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_letters_go_back_as_they_were),
        cmocka_unit_test(test_what_a_letter_lacks_is_said_again),
        cmocka_unit_test(test_reasons_are_plain_text),
        cmocka_unit_test(test_the_oldest_come_first),
        cmocka_unit_test(test_it_goes_past_deduplication),
        cmocka_unit_test(test_nothing_is_lost_whatever_fails),
        cmocka_unit_test(test_what_cannot_be_published_stays),
        cmocka_unit_test(test_what_has_strayed_stays),
        cmocka_unit_test(test_what_has_strayed_stops_where_one_position_is_kept),
        cmocka_unit_test(test_each_group_has_its_own),
        cmocka_unit_test(test_letters_are_read_and_stay),
        cmocka_unit_test(test_letters_in_other_hands_are_left_to_them),
        cmocka_unit_test(test_letters_that_are_given_back_meanwhile_are_taken),
        cmocka_unit_test(test_a_client_that_goes_away_ends_it),
        cmocka_unit_test(test_requests_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
