/* What the Producer client sends, what it makes of the answers, and what it never sends twice. */
#include "tests/client/assert_ok.h"
#include "tests/client/script_server.h"

#include "prism/patterns/producer/producer_pattern.pb-c.h"
#include "prism/patterns/schemas/messaging.pb-c.h"
#include "prism/patterns/schemas/slot_schema.pb-c.h"
#include "prism/producer.h"

#include <grpc/status.h>
#include <string.h>

typedef Prism__Patterns__Producer__Capabilities capabilities;
typedef Prism__Patterns__Producer__PublishRequest request;
typedef Prism__Patterns__Producer__PublishResponse response;

struct fixture {
    struct script_server *server;
    struct prism_channel *channel;
    struct prism_producer *producer;
    struct prism_published published;
    struct prism_error error;
};

static void open_with(struct fixture *f, const capabilities *answer)
{
    const struct prism_channel_options quick = {
        .deadline_ms = 20000, .retry = {.max_attempts = 3, .initial_ms = 10, .max_ms = 50}};

    memset(f, 0, sizeof *f);
    f->server = script_server_start(0);
    script_always(f->server,
                  (struct script_step){.method = "GetCapabilities", .messages = {&answer->base}});
    assert_ok(prism_channel_open(script_server_target(f->server), &quick, &f->channel, &f->error),
              f->error);
    assert_ok(prism_producer_open(f->channel, &f->producer, &f->error), f->error);
}

static void open_with_everything(struct fixture *f)
{
    capabilities all = PRISM__PATTERNS__PRODUCER__CAPABILITIES__INIT;

    all.supports_batching = all.supports_ordering = true;
    open_with(f, &all);
}

static void close_all(struct fixture *f)
{
    prism_published_free(&f->published);
    prism_producer_close(f->producer);
    prism_channel_close(f->channel);
    script_server_stop(f->server);
}

static response stored_at(int64_t offset)
{
    response stored = PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE__INIT;

    stored.success = true;
    stored.outcome = PRISM__PATTERNS__PRODUCER__OUTCOME__STORED;
    stored._offset_case = PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE___OFFSET_OFFSET;
    stored.offset = offset;
    return stored;
}

static response failed(int32_t code, Prism__Patterns__Producer__Outcome outcome)
{
    response answer = PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE__INIT;

    answer.code = code;
    answer.outcome = outcome;
    answer._error_case = PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE___ERROR_ERROR;
    answer.error = (char *)(uintptr_t) "reason";
    return answer;
}

static enum prism_code publish_one(struct fixture *f)
{
    const struct prism_message message = {.topic = "t", .payload = prism_bytes_of("x", 1)};

    return prism_publish(f->producer, &message, NULL, &f->published, &f->error);
}

static void every_part_of_a_message_is_sent(void **state)
{
    const struct prism_header headers[] = {{"a", prism_bytes_of("\0\xff", 2)}, {"a", {NULL, 0}}};
    const struct prism_message message = {.topic = "t",
                                          .payload = prism_bytes_of("p\0q", 3),
                                          .message_id = "id",
                                          .ordering_key = prism_bytes_of("", 0),
                                          .headers = headers,
                                          .header_count = 2};
    response answer = stored_at(7);
    struct fixture f;
    request *sent;

    (void)state;
    open_with_everything(&f);
    script_always(f.server, (struct script_step){.method = "Publish", .messages = {&answer.base}});
    assert_ok(prism_publish(f.producer, &message, NULL, &f.published, &f.error), f.error);
    assert_int_equal(f.published.stored, 1);
    assert_int_equal(f.published.results[0].offset, 7);
    assert_int_equal(f.published.results[0].partition, -1);
    sent = (request *)script_request(f.server, "Publish",
                                     &prism__patterns__producer__publish_request__descriptor);
    assert_string_equal(sent->topic, "t");
    assert_int_equal(sent->payload.len, 3);
    assert_memory_equal(sent->payload.data, "p\0q", 3);
    assert_string_equal(sent->message_id, "id");
    assert_int_equal(sent->_ordering_key_case,
                     PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST___ORDERING_KEY_ORDERING_KEY);
    assert_int_equal(sent->n_headers, 2);
    assert_memory_equal(sent->headers[0]->value.data, "\0\xff", 2);
    assert_int_equal(sent->headers[1]->_value_case, PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE);
    protobuf_c_message_free_unpacked(&sent->base, NULL);
    close_all(&f);
}

static void each_message_of_a_batch_has_its_outcome(void **state)
{
    const struct prism_message messages[3] = {{.topic = "t"}, {.topic = "t"}, {.topic = "t"}};
    Prism__Patterns__Producer__PublishBatchResponse answer =
        PRISM__PATTERNS__PRODUCER__PUBLISH_BATCH_RESPONSE__INIT;
    response results[] = {
        stored_at(1),
        failed(PRISM_RESOURCE_EXHAUSTED, PRISM__PATTERNS__PRODUCER__OUTCOME__NOT_STORED),
        failed(PRISM_UNAVAILABLE, PRISM__PATTERNS__PRODUCER__OUTCOME__OUTCOME_UNKNOWN)};
    response *list[] = {&results[0], &results[1], &results[2]};
    struct fixture f;

    (void)state;
    open_with_everything(&f);
    answer.n_results = 3;
    answer.results = list;
    script_always(f.server,
                  (struct script_step){.method = "PublishBatch", .messages = {&answer.base}});
    assert_ok(prism_publish_batch(f.producer, messages, 3, NULL, &f.published, &f.error), f.error);
    assert_int_equal(f.published.count, 3);
    assert_int_equal(f.published.stored, 1);
    assert_int_equal(f.published.results[0].outcome, PRISM_STORED);
    assert_int_equal(f.published.results[1].outcome, PRISM_NOT_STORED);
    assert_int_equal(f.published.results[1].code, PRISM_RESOURCE_EXHAUSTED);
    assert_string_equal(f.published.results[1].message, "reason");
    assert_int_equal(f.published.results[2].outcome, PRISM_OUTCOME_UNKNOWN);
    assert_int_equal(script_calls(f.server, "PublishBatch"), 1);
    prism_published_free(&f.published);
    assert_int_equal(prism_publish_batch(f.producer, messages, 2, NULL, &f.published, &f.error),
                     PRISM_INTERNAL);
    assert_int_equal(f.published.outcome, PRISM_OUTCOME_UNKNOWN);
    close_all(&f);
}

static void what_may_have_happened_is_not_repeated(void **state)
{
    response answer = stored_at(1);
    struct fixture f;

    (void)state;
    open_with_everything(&f);
    script_always(f.server, (struct script_step){.method = "Publish", .messages = {&answer.base}});
    script_once(f.server,
                (struct script_step){.method = "Publish", .status = GRPC_STATUS_UNAVAILABLE});
    assert_int_equal(publish_one(&f), PRISM_UNAVAILABLE);
    assert_int_equal(f.published.outcome, PRISM_OUTCOME_UNKNOWN);
    assert_int_equal(f.published.count, 0);
    assert_int_equal(script_calls(f.server, "Publish"), 1);
    close_all(&f);
}

/* gRPC's server says in words that it did not take the request; our own bound on answers sounds the
 * same, and then the message may be stored. */
static void what_the_server_did_not_take_is_not_stored(void **state)
{
    const struct {
        const char *text, *subject;
        enum prism_outcome outcome;
    } cases[] = {
        {"Received message larger than max (5000013 vs. 4194304)", NULL, PRISM_NOT_STORED},
        {"SERVER: Received message larger than max (5 vs. 4)", NULL, PRISM_NOT_STORED},
        {"Received message larger than max (70000000 vs. 67108864)", NULL, PRISM_OUTCOME_UNKNOWN},
        {"the request holds too many messages", "max_batch", PRISM_NOT_STORED},
        {"out of something", NULL, PRISM_OUTCOME_UNKNOWN},
    };
    struct fixture f;

    (void)state;
    open_with_everything(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        script_once(f.server, (struct script_step){.method = "Publish",
                                                   .status = GRPC_STATUS_RESOURCE_EXHAUSTED,
                                                   .text = cases[i].text,
                                                   .subject = cases[i].subject});
        assert_int_equal(publish_one(&f), PRISM_RESOURCE_EXHAUSTED);
        assert_int_equal(f.published.outcome, cases[i].outcome);
        assert_false(f.error.retryable);
    }
    assert_int_equal(script_calls(f.server, "Publish"), 5);
    close_all(&f);
}

static void what_did_not_happen_is_repeated(void **state)
{
    response answer = stored_at(1);
    struct fixture f;

    (void)state;
    open_with_everything(&f);
    script_always(f.server, (struct script_step){.method = "Publish", .messages = {&answer.base}});
    script_once(f.server, (struct script_step){.method = "Publish",
                                               .status = GRPC_STATUS_UNAVAILABLE,
                                               .effect = "none"});
    assert_ok(publish_one(&f), f.error);
    assert_int_equal(f.published.results[0].outcome, PRISM_STORED);
    assert_int_equal(script_calls(f.server, "Publish"), 2);
    close_all(&f);
}

static void faults_are_refused_before_the_call(void **state)
{
    capabilities none = PRISM__PATTERNS__PRODUCER__CAPABILITIES__INIT;
    const struct prism_message keyed = {.topic = "t", .ordering_key = prism_bytes_of("k", 1)};
    const struct prism_message messages[2] = {{.topic = "t"}, {.topic = ""}};
    struct fixture f;

    (void)state;
    open_with(&f, &none);
    assert_int_equal(prism_publish(f.producer, &keyed, NULL, &f.published, &f.error),
                     PRISM_UNIMPLEMENTED);
    assert_int_equal(f.published.outcome, PRISM_NOT_STORED);
    assert_int_equal(prism_publish_batch(f.producer, messages, 2, NULL, &f.published, NULL),
                     PRISM_UNIMPLEMENTED);
    close_all(&f);
    open_with_everything(&f);
    assert_int_equal(prism_publish_batch(f.producer, messages, 2, NULL, &f.published, &f.error),
                     PRISM_INVALID_ARGUMENT);
    assert_string_equal(f.error.field, "messages[1].topic");
    assert_int_equal(script_calls(f.server, "Publish") + script_calls(f.server, "PublishBatch"), 0);
    close_all(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_a_message_is_sent),
        cmocka_unit_test(each_message_of_a_batch_has_its_outcome),
        cmocka_unit_test(what_may_have_happened_is_not_repeated),
        cmocka_unit_test(what_the_server_did_not_take_is_not_stored),
        cmocka_unit_test(what_did_not_happen_is_repeated),
        cmocka_unit_test(faults_are_refused_before_the_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
