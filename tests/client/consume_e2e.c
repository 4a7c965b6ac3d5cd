/* The Consumer client against the prismd at PRISM_SERVER, on its defaults. When it says "cut",
 * whoever started it cuts its connection, and answers with a line. */
#include "tests/client/assert_ok.h"

#include "prism/consumer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 20000, QUIET_MS = 200 };

struct fixture {
    struct prism_channel *channel;
    struct prism_producer *producer;
    struct prism_consumer *consumer;
    struct prism_error error;
};

static int set_up(void **state)
{
    static struct fixture f;

    assert_ok(prism_channel_open(getenv("PRISM_SERVER"), NULL, &f.channel, &f.error), f.error);
    assert_ok(prism_producer_open(f.channel, &f.producer, &f.error), f.error);
    assert_ok(prism_consumer_open(f.channel, &f.consumer, &f.error), f.error);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    prism_consumer_close(f->consumer);
    prism_producer_close(f->producer);
    prism_channel_close(f->channel);
    return 0;
}

static void publish(struct fixture *f, const char *topic, const char *text)
{
    const struct prism_header header = {"h", prism_bytes_of("\0v", 2)};
    const struct prism_message message = {.topic = topic,
                                          .payload = prism_bytes_of(text, strlen(text)),
                                          .ordering_key = prism_bytes_of("k", 1),
                                          .headers = &header,
                                          .header_count = 1};
    struct prism_published published;

    assert_ok(prism_publish(f->producer, &message, NULL, &published, &f->error), f->error);
    assert_int_equal(published.stored, 1);
    prism_published_free(&published);
}

static struct prism_subscription *subscribe(struct fixture *f, const char *topic,
                                            uint32_t max_in_flight)
{
    const struct prism_subscribe_options options = {.group = "g", .max_in_flight = max_in_flight};
    struct prism_subscription *s;

    assert_ok(prism_subscribe(f->consumer, topic, &options, &s, &f->error), f->error);
    return s;
}

static struct prism_delivery receive(struct fixture *f, struct prism_subscription *s,
                                     const char *text, int32_t attempt)
{
    struct prism_delivery delivery;

    assert_ok(prism_receive(s, PATIENCE_MS, &delivery, &f->error), f->error);
    assert_int_equal(delivery.payload.len, strlen(text));
    assert_memory_equal(delivery.payload.data, text, strlen(text));
    assert_int_equal(delivery.attempt, attempt);
    return delivery;
}

static void settle(struct fixture *f, struct prism_subscription *s, struct prism_receipt receipt,
                   enum prism_disposition disposition)
{
    assert_ok(prism_settle(s, receipt, disposition, NULL, &f->error), f->error);
}

static void close_it(struct fixture *f, struct prism_subscription *s)
{
    assert_ok(prism_subscription_close(s, &f->error), f->error);
}

/* What is done at once can be called done: the stream goes on. Anything else is too late. */
static void what_settles_by_itself_is_done(void **state)
{
    struct fixture *f = *state;
    const struct prism_subscribe_options options = {.group = "g", .settle_automatically = true};
    struct prism_subscription *s;
    struct prism_delivery d;

    assert_ok(prism_subscribe(f->consumer, "auto", &options, &s, &f->error), f->error);
    for (int i = 0; i < 3; i++) {
        publish(f, "auto", "x");
        d = receive(f, s, "x", 1);
        settle(f, s, d.receipt, PRISM_DONE);
        assert_int_equal(prism_settle(s, d.receipt, PRISM_RETRY, NULL, &f->error),
                         PRISM_FAILED_PRECONDITION);
        assert_int_equal(prism_extend(s, d.receipt, 1000, &f->error), PRISM_FAILED_PRECONDITION);
    }
    assert_int_equal(prism_subscription_stats(s).connections, 1);
    close_it(f, s);
}

static void each_part_arrives(void **state)
{
    struct fixture *f = *state;
    struct prism_subscription *s = subscribe(f, "parts", 0);
    struct prism_delivery d;

    publish(f, "parts", "p");
    d = receive(f, s, "p", 1);
    assert_string_equal(d.topic, "parts");
    assert_int_equal(d.offset, 0);
    assert_memory_equal(d.ordering_key.data, "k", 1);
    assert_int_equal(d.header_count, 1);
    assert_string_equal(d.headers[0].name, "h");
    assert_int_equal(d.headers[0].value.len, 2);
    assert_memory_equal(d.headers[0].value.data, "\0v", 2);
    assert_true(d.timestamp_ms > 0);
    assert_false(d.null_payload);
    settle(f, s, d.receipt, PRISM_DONE);
    close_it(f, s);
}

static void dispositions(void **state)
{
    const struct prism_settle_options soon = {.delay_ms = 1, .reason = "failed"};
    struct fixture *f = *state;
    struct prism_subscription *s = subscribe(f, "dispositions", 0);
    struct prism_delivery d;

    publish(f, "dispositions", "a");
    d = receive(f, s, "a", 1);
    assert_ok(prism_settle(s, d.receipt, PRISM_RETRY, &soon, &f->error), f->error);
    settle(f, s, receive(f, s, "a", 2).receipt, PRISM_RELEASE);
    settle(f, s, receive(f, s, "a", 2).receipt, PRISM_DROP);
    publish(f, "dispositions", "b");
    settle(f, s, receive(f, s, "b", 1).receipt, PRISM_DONE);
    close_it(f, s);
}

/* Settled in any order, some of them not at all: only those come again. */
static void what_is_not_settled_comes_again(void **state)
{
    struct fixture *f = *state;
    struct prism_subscription *s = subscribe(f, "again", 0);
    struct prism_receipt receipts[10];
    char text[2] = {0};

    for (int i = 0; i < 10; i++) {
        text[0] = (char)('0' + i);
        publish(f, "again", text);
        receipts[i] = receive(f, s, text, 1).receipt;
    }
    for (int i = 9; i >= 0; i--) {
        if (i % 3 != 0)
            settle(f, s, receipts[i], PRISM_DONE);
    }
    close_it(f, s);
    s = subscribe(f, "again", 0);
    for (int i = 0; i < 10; i += 3) {
        text[0] = (char)('0' + i);
        settle(f, s, receive(f, s, text, 1).receipt, PRISM_DONE);
    }
    assert_int_equal(prism_subscription_stats(s).settled, 4);
    close_it(f, s);
}

static void *stop_it(void *subscription)
{
    prism_subscription_stop(subscription);
    return NULL;
}

static void a_stop_ends_the_wait(void **state)
{
    struct fixture *f = *state;
    struct prism_subscription *s = subscribe(f, "stop", 0);
    struct prism_delivery d;
    pthread_t thread;

    assert_int_equal(prism_receive(s, QUIET_MS, &d, &f->error), PRISM_DEADLINE_EXCEEDED);
    assert_int_equal(pthread_create(&thread, NULL, stop_it, s), 0);
    assert_int_equal(prism_receive(s, UINT32_MAX, &d, &f->error), PRISM_CANCELLED);
    pthread_join(thread, NULL);
    publish(f, "stop", "x");
    assert_int_equal(prism_receive(s, 0, &d, &f->error), PRISM_CANCELLED);
    close_it(f, s);
}

struct settler {
    struct prism_subscription *subscription;
    struct prism_receipt receipt;
    pthread_t thread;
};

static void *settle_it(void *arg)
{
    struct settler *settler = arg;
    struct prism_error error;

    assert_ok(prism_extend(settler->subscription, settler->receipt, 30000, &error), error);
    assert_ok(prism_settle(settler->subscription, settler->receipt, PRISM_DONE, NULL, &error),
              error);
    return NULL;
}

static void many_threads_settle(void **state)
{
    enum { N = 200 };
    static struct settler settlers[N];
    struct fixture *f = *state;
    struct prism_subscription *s = subscribe(f, "threads", 0);

    for (int i = 0; i < N; i++) {
        publish(f, "threads", "m");
        settlers[i].subscription = s;
        settlers[i].receipt = receive(f, s, "m", 1).receipt;
        assert_int_equal(pthread_create(&settlers[i].thread, NULL, settle_it, &settlers[i]), 0);
    }
    for (int i = 0; i < N; i++)
        pthread_join(settlers[i].thread, NULL);
    close_it(f, s);
    s = subscribe(f, "threads", 0);
    publish(f, "threads", "last");
    settle(f, s, receive(f, s, "last", 1).receipt, PRISM_DONE);
    close_it(f, s);
}

static void faults_of_the_caller(void **state)
{
    const struct prism_subscribe_options group = {.group = "g"};
    struct fixture *f = *state;
    struct prism_subscription *s;
    struct prism_delivery d;

    assert_int_equal(prism_subscribe(f->consumer, "", &group, &s, &f->error),
                     PRISM_INVALID_ARGUMENT);
    assert_string_equal(f->error.field, "topic");
    assert_ok(prism_subscribe(f->consumer, "no\ttopic", &group, &s, &f->error), f->error);
    assert_int_equal(prism_receive(s, PATIENCE_MS, &d, &f->error), PRISM_INVALID_ARGUMENT);
    assert_int_equal(prism_receive(s, PATIENCE_MS, &d, &f->error), PRISM_INVALID_ARGUMENT);
    prism_subscription_close(s, NULL);
    s = subscribe(f, "faults", 0);
    assert_int_equal(prism_settle(s, (struct prism_receipt){.sequence = 1, .connection = 1},
                                  PRISM_DONE, NULL, &f->error),
                     PRISM_INVALID_ARGUMENT);
    close_it(f, s);
}

/* The old receipt settles nothing; what it named comes again, and what was settled before does not.
 */
static void a_lost_connection(void **state)
{
    struct fixture *f = *state;
    struct prism_subscription *s = subscribe(f, "lost", 1);
    struct prism_receipt before;
    char line[16];

    publish(f, "lost", "a");
    publish(f, "lost", "b");
    settle(f, s, receive(f, s, "a", 1).receipt, PRISM_DONE);
    before = receive(f, s, "b", 1).receipt;
    puts("cut");
    fflush(stdout);
    assert_non_null(fgets(line, sizeof line, stdin));
    settle(f, s, receive(f, s, "b", 2).receipt, PRISM_DONE);
    assert_int_equal(prism_settle(s, before, PRISM_DONE, NULL, &f->error), PRISM_ABORTED);
    assert_int_equal(prism_subscription_stats(s).connections, 2);
    close_it(f, s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_arrives),    cmocka_unit_test(what_settles_by_itself_is_done),
        cmocka_unit_test(dispositions),         cmocka_unit_test(what_is_not_settled_comes_again),
        cmocka_unit_test(a_stop_ends_the_wait), cmocka_unit_test(many_threads_settle),
        cmocka_unit_test(faults_of_the_caller), cmocka_unit_test(a_lost_connection),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
