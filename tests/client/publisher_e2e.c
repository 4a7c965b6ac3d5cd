/* The publisher against the prismd at PRISM_SERVER, on its defaults.
 *
 *   publisher_e2e              the tests
 *   publisher_e2e --failed     a failure, and a server that is replaced when it says "go"
 *   publisher_e2e --flow       publishes until a line comes, then says as JSON what became of it */
#include "tests/client/assert_ok.h"

#include "prism/publisher.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 60000, MANY = 20000, NOBODY = 10 };

/* What settled() was told; the publisher's thread writes it. */
struct told {
    size_t n, misplaced, codes[PRISM_UNAUTHENTICATED + 1];
    int64_t last_offset;
    uintptr_t last_tag;
    enum prism_code last_code;
    enum prism_outcome last_outcome;
};

static void settled(void *context, void *tag, const struct prism_publish_result *result)
{
    struct told *told = context;

    if (result->code != PRISM_ABORTED) { /* which may come before its turn */
        told->misplaced += (uintptr_t)tag <= told->last_tag;
        told->last_tag = (uintptr_t)tag;
    }
    told->misplaced += result->offset >= 0 && result->offset < told->last_offset;
    if (result->offset >= 0)
        told->last_offset = result->offset;
    told->last_code = result->code;
    told->last_outcome = result->outcome;
    told->codes[result->code]++;
    told->n++;
}

struct fixture {
    struct prism_channel *channel;
    struct prism_producer *producer;
    struct prism_publisher *publisher;
    struct told told;
    struct prism_error error;
};

static struct fixture *open_publisher(const char *server, struct prism_publisher_options options)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->told.last_offset = -1;
    options.settled = settled;
    options.context = &f->told;
    assert_ok(prism_channel_open(server, NULL, &f->channel, &f->error), f->error);
    assert_ok(prism_producer_open(f->channel, &f->producer, &f->error), f->error);
    assert_ok(prism_publisher_open(f->producer, &options, &f->publisher, &f->error), f->error);
    return f;
}

static void close_publisher(struct fixture *f)
{
    assert_ok(prism_publisher_close(f->publisher, PATIENCE_MS, &f->error), f->error);
    assert_int_equal(f->told.misplaced, 0);
    prism_producer_close(f->producer);
    prism_channel_close(f->channel);
    free(f);
}

static struct prism_message message_of(const char *topic, const char *key)
{
    return (struct prism_message){.topic = topic,
                                  .payload = prism_bytes_of("payload", 7),
                                  .ordering_key = prism_bytes_of(key, key ? strlen(key) : 0)};
}

static void put(struct fixture *f, const struct prism_message *message, uintptr_t tag)
{
    assert_ok(prism_publisher_put(f->publisher, message, (void *)tag, PATIENCE_MS, &f->error),
              f->error);
}

static void flush(struct fixture *f)
{
    assert_ok(prism_publisher_flush(f->publisher, PATIENCE_MS, &f->error), f->error);
}

/* More than the window, small and large ones, so frames of all kinds. */
static void many_are_stored_in_their_order(void **state)
{
    struct fixture *f =
        open_publisher(getenv("PRISM_SERVER"), (struct prism_publisher_options){.positions = true});
    static char large[300000];
    struct prism_publisher_stats stats;

    (void)state;
    for (uintptr_t i = 1; i <= MANY; i++) {
        struct prism_message message = message_of("many", i % 3 == 0 ? "k" : NULL);

        if (i % 1000 == 0)
            message.payload = prism_bytes_of(large, sizeof large);
        put(f, &message, i);
    }
    flush(f);
    stats = prism_publisher_stats(f->publisher);
    assert_int_equal(stats.stored, MANY);
    assert_int_equal(stats.unsettled, 0);
    assert_int_equal(stats.streams, 1);
    assert_int_equal(f->told.codes[PRISM_OK], MANY);
    assert_int_equal(f->told.last_offset, MANY - 1);
    close_publisher(f);
}

static void behind_a_failure_comes_nothing_until_resumed(void **state)
{
    struct fixture *f = open_publisher(getenv("PRISM_SERVER"), (struct prism_publisher_options){0});
    const struct prism_header reserved = {"prism-x", prism_bytes_of("v", 1)};
    struct prism_message bad = message_of("failures", "k"), good = message_of("failures", "k");
    struct prism_message other = message_of("failures", "other");

    (void)state;
    bad.headers = &reserved;
    bad.header_count = 1;
    put(f, &bad, 1);
    flush(f);
    assert_int_equal(f->told.last_code, PRISM_INVALID_ARGUMENT);
    assert_int_equal(f->told.last_outcome, PRISM_NOT_STORED);
    put(f, &good, 2);
    flush(f);
    assert_int_equal(f->told.last_code, PRISM_ABORTED);
    put(f, &other, 3);
    flush(f);
    assert_int_equal(f->told.last_code, PRISM_OK);
    prism_publisher_resume(f->publisher);
    put(f, &good, 4);
    flush(f);
    assert_int_equal(f->told.last_code, PRISM_OK);
    assert_int_equal(f->told.n, 4);
    close_publisher(f);
}

/* The stream ends between the failure and what is put behind it. */
static void a_new_stream_forgets_no_failure(struct fixture *f)
{
    const struct prism_header reserved = {"prism-x", prism_bytes_of("v", 1)};
    struct prism_message bad = message_of("flow", "failed"), good = message_of("flow", "failed");

    bad.headers = &reserved;
    bad.header_count = 1;
    put(f, &bad, 1);
    flush(f);
    puts("go");
    fflush(stdout);
    assert_int_equal(getchar(), '\n'); /* the server was replaced */
    /* Until the library has noticed, the old stream takes it in and says ABORTED, or is lost. */
    for (uintptr_t tag = 2;
         prism_publisher_put(f->publisher, &good, (void *)tag, PATIENCE_MS, &f->error) == PRISM_OK;
         tag++)
        flush(f);
    assert_int_equal(f->error.code, PRISM_ABORTED);
    assert_int_equal(prism_publisher_stats(f->publisher).stored, 0);
    prism_publisher_resume(f->publisher);
    put(f, &good, f->told.last_tag + 1);
    flush(f);
    assert_int_equal(prism_publisher_stats(f->publisher).stored, 1);
}

static void faults_are_found_before_it_is_taken(void **state)
{
    struct fixture *f = open_publisher(getenv("PRISM_SERVER"), (struct prism_publisher_options){0});
    struct prism_message message = message_of("", NULL);
    enum prism_code code = prism_publisher_put(f->publisher, &message, NULL, 0, &f->error);

    (void)state;
    assert_int_equal(code, PRISM_INVALID_ARGUMENT);
    assert_string_equal(f->error.field, "topic");
    message = message_of("t", NULL);
    message.payload.len = SIZE_MAX / 2;
    assert_int_equal(prism_publisher_put(f->publisher, &message, NULL, 0, &f->error),
                     PRISM_INVALID_ARGUMENT);
    assert_string_equal(f->error.field, "payload");
    assert_int_equal(prism_publisher_stats(f->publisher).put, 0);
    close_publisher(f);
}

/* Who started this program stops the server when it says "go", and answers with a line. */
static void without_a_server_it_is_full_and_can_be_closed(void **state)
{
    struct fixture *f = open_publisher(getenv("PRISM_SERVER"),
                                       (struct prism_publisher_options){.max_messages = NOBODY});
    struct prism_message message = message_of("t", NULL);

    (void)state;
    puts("go");
    fflush(stdout);
    assert_int_equal(getchar(), '\n'); /* it is gone */
    for (uintptr_t i = 1; i <= NOBODY; i++)
        put(f, &message, i);
    assert_int_equal(prism_publisher_put(f->publisher, &message, NULL, 0, &f->error),
                     PRISM_RESOURCE_EXHAUSTED);
    assert_int_equal(prism_publisher_flush(f->publisher, 1, &f->error), PRISM_DEADLINE_EXCEEDED);
    assert_int_equal(prism_publisher_close(f->publisher, 100, &f->error), PRISM_DEADLINE_EXCEEDED);
    assert_int_equal(f->told.n, NOBODY);
    assert_int_equal(f->told.codes[PRISM_CANCELLED], NOBODY);
    assert_int_equal(f->told.last_outcome, PRISM_NOT_STORED);
    prism_producer_close(f->producer);
    prism_channel_close(f->channel);
    free(f);
}

/* ---- flow ---- */

static atomic_bool stopped;

static void *wait_for_line(void *arg)
{
    (void)arg;
    (void)getchar();
    atomic_store(&stopped, true);
    return NULL;
}

static int flow(void)
{
    struct fixture *f = open_publisher(getenv("PRISM_SERVER"), (struct prism_publisher_options){0});
    struct prism_publisher_stats stats;
    uint64_t resumed = 0;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, wait_for_line, NULL), 0);
    for (uintptr_t i = 1; !atomic_load(&stopped); i++) {
        struct prism_message message = message_of("flow", i % 2 == 0 ? "k" : NULL);
        enum prism_code code;

        while ((code = prism_publisher_put(f->publisher, &message, (void *)i, PATIENCE_MS,
                                           &f->error)) == PRISM_ABORTED) {
            prism_publisher_resume(f->publisher);
            resumed++;
        }
        assert_ok(code, f->error);
    }
    pthread_join(thread, NULL);
    flush(f);
    stats = prism_publisher_stats(f->publisher);
    printf("{\"put\":%llu,\"stored\":%llu,\"not_stored\":%llu,\"unknown\":%llu,\"streams\":%llu,"
           "\"resumed\":%llu,\"aborted\":%zu,\"told\":%zu}\n",
           (unsigned long long)stats.put, (unsigned long long)stats.stored,
           (unsigned long long)stats.not_stored, (unsigned long long)stats.unknown,
           (unsigned long long)stats.streams, (unsigned long long)resumed,
           f->told.codes[PRISM_ABORTED], f->told.n);
    close_publisher(f);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_are_stored_in_their_order),
        cmocka_unit_test(behind_a_failure_comes_nothing_until_resumed),
        cmocka_unit_test(faults_are_found_before_it_is_taken),
        cmocka_unit_test(without_a_server_it_is_full_and_can_be_closed),
    };

    if (argc > 1 && strcmp(argv[1], "--flow") == 0)
        return flow();
    if (argc > 1 && strcmp(argv[1], "--failed") == 0) {
        struct fixture *f =
            open_publisher(getenv("PRISM_SERVER"), (struct prism_publisher_options){0});

        a_new_stream_forgets_no_failure(f);
        close_publisher(f);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
