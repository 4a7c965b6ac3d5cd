/* JetStream under faults, on a real server: it is killed and started again, it falls silent,
 * streams and consumers vanish. Acknowledged messages are in the stream, in the order of their key,
 * once. */
#include "src/base/container.h"
#include "tests/contract/jetstream_plain.h"

#include <stdio.h>
#include <stdlib.h>

enum { FRAMES = 40, ITEMS = 250, KEYS = 10 };

static struct nats_server server;

static int open_fixture(void **state)
{
    const char *const pairs[] = {
        "create_streams", "true", "ack_timeout_ms", "500", "publish_timeout_ms", "8000", NULL};
    static unsigned groups;
    struct nats_fixture *fixture = jetstream_open(&server, pairs);

    snprintf(fixture->messages.prefix, sizeof fixture->messages.prefix, "f%u-", ++groups);
    *state = fixture;
    return 0;
}

/* ---- frames that are under way while something happens ---- */

struct frame {
    struct job job;
    struct op_group group;
    struct arena arena;
    struct publish publish;
    struct outgoing items[ITEMS];
    char texts[ITEMS][24];
    struct nats_fixture *fixture;
    _Atomic bool done;
};

static void on_frame_done(struct op *op)
{
    atomic_store(&CONTAINER_OF(op, struct frame, publish.op)->done, true);
}

static void start_frame(struct job *job)
{
    struct frame *frame = CONTAINER_OF(job, struct frame, job);

    op_group_init(&frame->group, frame->fixture->messages.kv.worker, &frame->arena, 0);
    op_start(&frame->publish.op, &frame->group, on_frame_done);
    jetstream_sink(frame->fixture)->publish(frame->fixture->messages.kv.backend, &frame->publish);
}

/* Message i of all has the payload i and the key i % KEYS. */
static void fill(struct frame *frame, struct nats_fixture *fixture, const char *topic,
                 unsigned from)
{
    static const char *const keys[KEYS] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

    *frame = (struct frame){.fixture = fixture, .job.run = start_frame};
    frame->publish.items = frame->items;
    frame->publish.n = ITEMS;
    for (unsigned i = 0; i < ITEMS; i++) {
        snprintf(frame->texts[i], sizeof frame->texts[i], "%u", from + i);
        frame->items[i] = (struct outgoing){.topic = slice_str(topic),
                                            .key = slice_str(keys[(from + i) % KEYS]),
                                            .payload = slice_str(frame->texts[i])};
    }
}

static void free_frames(struct frame *frames, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        arena_clear(&frames[i].arena);
    free(frames);
}

static struct frame *start_frames(struct nats_fixture *fixture, const char *topic)
{
    struct frame *frames = calloc(FRAMES, sizeof *frames);

    assert_non_null(frames);
    for (unsigned i = 0; i < FRAMES; i++) {
        fill(&frames[i], fixture, topic, i * ITEMS);
        worker_land(fixture->messages.kv.worker, &frames[i].job);
    }
    return frames;
}

static struct err outcome(const struct frame *frame, unsigned i)
{
    return frame->publish.op.err.code != ERR_OK ? frame->publish.op.err : frame->items[i].err;
}

/* What the stream has of message `number`: its sequence; 0: nothing. Fails if it is there twice, or
 * behind a later one of its key. */
static uint64_t *read_stream(const char *stream)
{
    uint64_t *found = calloc(FRAMES * ITEMS, sizeof *found), count;
    unsigned next[KEYS] = {0};
    struct plain plain = plain_open(&server);

    count = plain_count(&plain, stream);
    for (uint64_t sequence = 1; sequence <= count; sequence++) {
        natsMsg *message = plain_get(&plain, stream, sequence);
        unsigned number = (unsigned)strtoul(natsMsg_GetData(message), NULL, 10);

        assert_true(number < FRAMES * ITEMS);
        assert_int_equal(found[number], 0);
        assert_true(number >= next[number % KEYS]);
        next[number % KEYS] = number;
        found[number] = sequence;
        natsMsg_Destroy(message);
    }
    plain_close(&plain);
    return found;
}

static unsigned check(struct nats_fixture *fixture, struct frame *frames, const char *topic)
{
    uint64_t *found;
    unsigned stored = 0;

    for (unsigned f = 0; f < FRAMES; f++)
        KV_UNTIL(&fixture->messages.kv, atomic_load(&frames[f].done));
    found = read_stream(topic);
    for (unsigned n = 0; n < FRAMES * ITEMS; n++) {
        struct err err = outcome(&frames[n / ITEMS], n % ITEMS);

        if (err.code == ERR_OK) {
            assert_int_equal(frames[n / ITEMS].items[n % ITEMS].offset, found[n]);
            assert_false(frames[n / ITEMS].items[n % ITEMS].deduplicated);
            stored++;
        } else if (err.effect == EFFECT_NONE) {
            assert_int_equal(found[n], 0);
        }
    }
    free(found);
    free_frames(frames, FRAMES);
    return stored;
}

/* The restart is short: what was under way is sent again, and nobody is told of it. */
static void a_restart_loses_nothing(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct frame *frames;

    frames = start_frames(fixture, topic);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&frames[FRAMES / 4].done));
    nats_server_kill(&server);
    nats_server_restart(&server);
    assert_int_equal(check(fixture, frames, topic), FRAMES * ITEMS);
}

/* Not one call waits for longer than its time, and the worker goes on with other things. */
static void silence_ends(void **state)
{
    const char *const pairs[] = {
        "create_streams", "true", "ack_timeout_ms", "300", "publish_timeout_ms", "1000", NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    struct kv_fixture *kv = &fixture->messages.kv;
    struct outgoing item = {.topic = slice_str("silence"), .payload = slice_str("0")};
    struct frame *frames;
    unsigned unknown = 0, none = 0;

    (void)state;
    kv_expect(jetstream_publish(fixture, &item), ERR_OK, NULL);
    nats_server_pause(&server);
    frames = start_frames(fixture, "silence");
    for (unsigned f = 0; f < FRAMES; f++) {
        KV_UNTIL(kv, atomic_load(&frames[f].done));
        for (unsigned i = 0; i < ITEMS; i++) {
            struct err err = outcome(&frames[f], i);

            assert_true(err.code == ERR_UNAVAILABLE || err.code == ERR_ABORTED);
            unknown += err.effect == EFFECT_UNKNOWN;
            none += err.effect == EFFECT_NONE;
        }
    }
    assert_true(unknown > 0 && none > 0);
    nats_server_resume(&server);
    nats_until(fixture, BACKEND_READY);
    kv_expect(jetstream_publish(fixture, &item), ERR_OK, NULL);
    free_frames(frames, FRAMES);
    nats_fixture_close((void **)&fixture);
}

/* ---- one stream that is away ---- */

/* All items of one frame have keys of their own, those of the next one have none. */
static void rekey(struct frame *frame, bool keyed)
{
    for (unsigned i = 0; i < ITEMS; i++)
        frame->items[i].key = keyed ? slice_str(frame->texts[i]) : message_null();
}

static struct frame *start_rekeyed(struct nats_fixture *fixture, const char *topic, unsigned n)
{
    struct frame *frames = calloc(n, sizeof *frames);

    assert_non_null(frames);
    for (unsigned i = 0; i < n; i++) {
        fill(&frames[i], fixture, topic, i * ITEMS);
        rekey(&frames[i], i % 2 == 0);
        worker_land(fixture->messages.kv.worker, &frames[i].job);
    }
    return frames;
}

/* P7: somebody listens to its subject and says nothing, so messages wait for an answer: more than
 * its part of the room, of the window and of what keys share. Another one takes messages of as many
 * keys meanwhile, and at once. */
static void a_stream_that_is_away_starves_no_other(void **state)
{
    const char *const pairs[] = {"create_streams",
                                 "true",
                                 "ack_timeout_ms",
                                 "500",
                                 "max_buffer_bytes",
                                 "8388608",
                                 "publish_timeout_ms",
                                 "5000",
                                 NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    struct plain plain = plain_open(&server);
    struct outgoing item = {.topic = slice_str("here"), .payload = slice_str("0")};
    struct frame *away, *here;
    natsSubscription *silent;

    (void)state;
    assert_int_equal(natsConnection_SubscribeSync(&silent, plain.connection, "away"), NATS_OK);
    assert_int_equal(natsConnection_Flush(plain.connection), NATS_OK);
    kv_expect(jetstream_publish(fixture, &item), ERR_OK, NULL);
    away = start_rekeyed(fixture, "away", FRAMES);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&away[FRAMES - 1].done));
    kv_expect(outcome(&away[FRAMES - 1], 0), ERR_RESOURCE_EXHAUSTED, "max_buffer_bytes");
    assert_int_equal(outcome(&away[FRAMES - 1], 0).effect, EFFECT_NONE);
    here = start_rekeyed(fixture, "here", FRAMES / 4);
    for (unsigned f = 0; f < FRAMES / 4; f++) {
        KV_UNTIL(&fixture->messages.kv, atomic_load(&here[f].done));
        for (unsigned i = 0; i < ITEMS; i++)
            assert_int_equal(outcome(&here[f], i).code, ERR_OK);
    }
    assert_false(atomic_load(&away[0].done));
    for (unsigned f = 0; f < FRAMES; f++)
        KV_UNTIL(&fixture->messages.kv, atomic_load(&away[f].done));
    assert_int_equal(outcome(&away[0], 0).effect, EFFECT_UNKNOWN);
    natsSubscription_Destroy(silent);
    plain_close(&plain);
    free_frames(away, FRAMES);
    free_frames(here, FRAMES / 4);
    nats_fixture_close((void **)&fixture);
}

enum { AWAY = 3 };

/* Several that are away, one after the other: each takes a part of what the ones before have left,
 * and something is left for one that moves. */
static void go_beside_silent_ones(const char *max_buffer_bytes, struct err last)
{
    static const char *const topics[AWAY] = {"away1", "away2", "away3"};
    const char *const pairs[] = {"create_streams",
                                 "true",
                                 "ack_timeout_ms",
                                 "500",
                                 "max_buffer_bytes",
                                 max_buffer_bytes,
                                 "publish_timeout_ms",
                                 "5000",
                                 NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    struct plain plain = plain_open(&server);
    struct outgoing item = {.topic = slice_str("beside"), .payload = slice_str("0")};
    struct frame *away[AWAY], *here;
    natsSubscription *silent[AWAY];

    for (unsigned t = 0; t < AWAY; t++)
        assert_int_equal(natsConnection_SubscribeSync(&silent[t], plain.connection, topics[t]),
                         NATS_OK);
    assert_int_equal(natsConnection_Flush(plain.connection), NATS_OK);
    kv_expect(jetstream_publish(fixture, &item), ERR_OK, NULL);
    for (unsigned t = 0; t < AWAY; t++)
        away[t] = start_rekeyed(fixture, topics[t], FRAMES);
    here = start_rekeyed(fixture, "beside", 1);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&here->done));
    for (unsigned i = 0; i < ITEMS; i++)
        assert_int_equal(outcome(here, i).code, ERR_OK);
    for (unsigned t = 0; t < AWAY; t++)
        assert_false(atomic_load(&away[t][0].done));
    for (unsigned t = 0; t < AWAY; t++) {
        for (unsigned f = 0; f < FRAMES; f++)
            KV_UNTIL(&fixture->messages.kv, atomic_load(&away[t][f].done));
        assert_int_equal(outcome(&away[t][0], 0).effect, EFFECT_UNKNOWN);
        assert_int_equal(outcome(&away[t][FRAMES - 1], 1).code, last.code);
        free_frames(away[t], FRAMES);
        natsSubscription_Destroy(silent[t]);
    }
    plain_close(&plain);
    free_frames(here, 1);
    nats_fixture_close((void **)&fixture);
}

static void silent_ones_leave_room(void **state)
{
    (void)state;
    go_beside_silent_ones("8388608", err_make(ERR_RESOURCE_EXHAUSTED, ""));
}

/* All of them are taken: what is short is what may be under way. */
static void silent_ones_leave_places(void **state)
{
    (void)state;
    go_beside_silent_ones("268435456", err_make(ERR_UNAVAILABLE, ""));
}

/* ---- reading ---- */

static bool has_come(struct probe *probe, unsigned number)
{
    for (size_t i = probe_count(probe); i-- > 0;) {
        if (probe_number(probe, i) == number)
            return true;
    }
    return false;
}

/* Deliveries outlive the server: what was handed over before can be settled after. A server that is
 * killed may have forgotten what a group had settled last: that comes again, under a new token. */
static void readers_go_on_after_a_restart(void **state)
{
    struct nats_fixture *fixture = *state;
    struct kv_fixture *kv = &fixture->messages.kv;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = jetstream_reader(fixture, topic, "g");

    message_publish_ok(&fixture->messages, jetstream_sink(fixture), topic, NULL, 0, 10);
    probe_wait(probe, 10);
    probe_done(probe, 0, 5);
    nats_server_kill(&server);
    nats_until(fixture, BACKEND_DOWN);
    kv_expect(probe_settle(probe, 5, SETTLE_DONE, 0), ERR_UNAVAILABLE, NULL);
    nats_server_restart(&server);
    nats_until(fixture, BACKEND_READY);
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), topic, NULL, 10, 5);
    KV_UNTIL(kv, has_come(probe, 14));
    for (size_t i = probe_count(probe); i-- > 0;) {
        struct err err = probe_settle(probe, i, SETTLE_DONE, 0);

        assert_true(err.code == ERR_OK || (err.code == ERR_ABORTED && i < 10));
    }
    probe_free(probe);
    probe = jetstream_reader(fixture, topic, "g");
    probe_quiet(probe, 0);
    probe_free(probe);
}

/* Opened while the server is away: it waits; and may be closed again. */
static void subscriptions_wait_for_the_server(void **state)
{
    struct nats_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct stream *stream = messages->kv.backend->has.stream;
    const char *topic = message_topic(messages);
    struct probe *probes[2];

    nats_server_kill(&server);
    nats_until(fixture, BACKEND_DOWN);
    for (unsigned i = 0; i < 2; i++)
        probes[i] = probe_start(messages, messages->kv.backend, &stream->source, &stream->settling,
                                probe_want(topic, "g"));
    probe_free(probes[1]);
    nats_server_restart(&server);
    KV_UNTIL(&messages->kv, probe_opened(probes[0]) == 1);
    probe_grant(probes[0], 10, 1 << 20);
    message_publish_ok(messages, jetstream_sink(fixture), topic, NULL, 0, 3);
    probe_wait(probes[0], 3);
    probe_free(probes[0]);
}

/* A consumer that an operator deletes is made again; a stream that goes ends its readers, unless
 * streams are made. */
static void what_is_deleted_is_made_again_or_told(void **state)
{
    const char *const pairs[] = {NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    struct plain plain = plain_open(&server);
    struct probe *probe;

    (void)state;
    plain_stream(&plain, "GOES", "goes", NULL);
    probe = jetstream_reader(fixture, "goes", "g");
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), "goes", NULL, 0, 2);
    probe_wait(probe, 2);
    assert_int_equal(js_DeleteConsumer(plain.js, "GOES", "g@goes", NULL, NULL), NATS_OK);
    probe_wait(probe, 4); /* the group begins anew */
    assert_int_equal(probe_moves(probe).lost, 1);
    assert_int_equal(js_DeleteStream(plain.js, "GOES", NULL, NULL), NATS_OK);
    KV_UNTIL(&fixture->messages.kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_NOT_FOUND, "topic");
    probe_free(probe);
    plain_close(&plain);
    nats_fixture_close((void **)&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(a_restart_loses_nothing),
        cmocka_unit_test(silence_ends),
        cmocka_unit_test(a_stream_that_is_away_starves_no_other),
        cmocka_unit_test(silent_ones_leave_room),
        cmocka_unit_test(silent_ones_leave_places),
        KV_TEST(readers_go_on_after_a_restart),
        KV_TEST(subscriptions_wait_for_the_server),
        cmocka_unit_test(what_is_deleted_is_made_again_or_told),
    };
    int failed;

    if (!nats_server_installed())
        return nats_server_skip();
    nats_server_start(&server, "jetstream { store_dir: \"js\" }");
    failed =
        cmocka_run_group_tests_name("jetstream, faults", tests, open_fixture, nats_fixture_close);
    nats_server_stop(&server);
    return failed != 0;
}
