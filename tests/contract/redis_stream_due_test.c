/* What is held for a time: it is found when it is due, by looking at little else. Counted in places
 * that are moved or looked at, so that it is the same on every machine. */
#include "backends/redis/redis_stream.h"
#include "src/base/container.h"
#include "tests/contract/redis_stream_fixture.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    HELD = 6000,
    TIMED = 400,
    BYTES = 1 << 20,
    STEPS = 2 * 13 /* of a heap of 2^13, either way */
};

static struct redis_server server;
static char address[128];

/* ---- by themselves ---- */

/* Set, moved, taken out and let go of in any order: what comes first is always the least. */
static void the_first_is_the_least(void **state)
{
    struct redis_holds holds = {.places = NULL};
    uint64_t at = 0;
    unsigned random = 1, timed = 0;

    (void)state;
    for (uint32_t i = 0; i < HELD; i++)
        redis_hold(&holds, (struct redis_id){1, i});
    for (uint32_t i = 0; i < 4 * HELD; i++) {
        struct redis_held *held = &holds.places[rand_r(&random) % HELD];

        if (held->state == HELD_FREE)
            continue;
        switch (rand_r(&random) % 8) {
        case 0:
            redis_let_go(&holds, held);
            break;
        case 1:
            redis_due_pause(&holds, held);
            break;
        default:
            redis_due_set(&holds, held, (uint64_t)rand_r(&random) % 5000 * NS_PER_MS);
        }
    }
    for (uint32_t i = 0; i < HELD; i++)
        timed += holds.places[i].due_at != 0;
    assert_true(timed > HELD / 4);
    assert_int_equal(holds.n_due, timed);
    holds.due_steps = 0;
    for (struct redis_held *held; (held = redis_due_first(&holds)) != NULL; timed--) {
        assert_true(held->state != HELD_FREE && redis_due_ns(held) >= at);
        at = redis_due_ns(held);
        redis_let_go(&holds, held);
    }
    assert_int_equal(timed, 0);
    assert_true(holds.due_steps < (uint64_t)HELD * STEPS);
    redis_holds_clear(&holds);
}

/* ---- of a subscription ---- */

static int open_fixture(void **state)
{
    redis_server_say(&server, "FLUSHALL");
    *state = stream_fixture_open(
        &server, (redis_settings){"address", address, "claim_idle_ms", "3600000", NULL});
    return 0;
}

static int close_fixture(void **state)
{
    stream_fixture_close(*state);
    return 0;
}

struct look {
    struct op op; /* first */
    struct probe *probe;
    uint64_t steps;
};

static void start_look(struct backend *backend, struct op *op)
{
    struct look *look = CONTAINER_OF(op, struct look, op);

    (void)backend;
    look->steps = redis_reader_of(&look->probe->subscription)->holds.due_steps;
    op_finish(op, ERR_NONE);
}

static uint64_t steps_of(struct probe *probe)
{
    struct look look = {.probe = probe};
    struct kv_step step = {.start = start_look, .op = &look.op};

    kv_run(&probe->fixture->kv, probe->backend, &step, 1);
    return look.steps;
}

/* Beside thousands that are held, retries that fall due one after the other. */
static void retries_cost_what_is_due(void **state)
{
    struct stream_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    struct probe *probe = probe_stream(messages, messages->kv.backend, probe_want(topic, "g"));
    struct settlement *items = calloc(TIMED, sizeof *items);
    uint64_t before;

    assert_non_null(items);
    for (unsigned n = 0; n < HELD; n += 500)
        message_publish_ok(messages, &messages->kv.backend->has.stream->sink, topic, NULL, n, 500);
    probe_grant(probe, HELD + TIMED, BYTES);
    probe_wait(probe, HELD);
    before = steps_of(probe);
    for (size_t i = 0; i < TIMED; i++)
        items[i] = (struct settlement){
            .token = probe_got(probe, i)->m.token, .how = SETTLE_RETRY, .delay_ms = 1 + i};
    kv_expect(probe_settle_all(probe, items, TIMED), ERR_OK, NULL);
    probe_wait(probe, HELD + TIMED);
    for (size_t i = 0; i < TIMED; i++) {
        kv_expect(items[i].err, ERR_OK, NULL);
        assert_int_equal(probe_got(probe, HELD + i)->m.attempt, 2);
    }
    assert_true(steps_of(probe) - before < TIMED * STEPS + 2 * HELD);
    free(items);
    probe_free(probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {KV_TEST(retries_cost_what_is_due)};
    const struct CMUnitTest alone[] = {cmocka_unit_test(the_first_is_the_least)};
    int failed = cmocka_run_group_tests_name("redis-stream, what is due", alone, NULL, NULL);

    if (!redis_server_installed())
        return failed != 0 ? 1 : redis_server_skip();
    redis_server_start(&server, NULL);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    failed += kv_group("redis-stream", "what is due", tests, ARRAY_LEN(tests), open_fixture,
                       close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
