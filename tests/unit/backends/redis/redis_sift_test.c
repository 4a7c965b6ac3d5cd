/* What waits to be sent for calls that are over is not sent, wherever it stands, and everything
 * else is: a socket that takes little at a time, and calls in both buffers of a connection. */
#include "tests/unit/backends/redis/line_rig.h"

enum {
    SIDE = 4,         /* calls in each buffer, behind the first call */
    CALLS = 2 * SIDE, /* that may be cancelled */
    LED = SIDE + 1,   /* of them the one that another command leads */
    FIRST_BYTES = 200 << 10
};

/* ECHO <number>, as it stands on the wire; and how it is queued. */
static void expect_echo(struct world *w, unsigned number)
{
    char text[64];

    expect(w, text,
           (size_t)snprintf(text, sizeof text, "*2\r\n$4\r\nECHO\r\n$1\r\n%u\r\n", number));
}

static void say_echo(struct world *w, unsigned number)
{
    char digit = (char)('0' + number);
    struct redis_call *call;

    if (number == LED)
        redis_command(redis_begin_own(&w->redis, &leading, NULL), 1, "ASKING");
    call = begin(w, &w->tasks[number], 0);
    redis_command(call, 2, "ECHO");
    redis_word(call, slice_of(&digit, 1));
}

/* The first call is sent in part. SIDE calls wait behind it in the same buffer, SIDE in the next
 * one. */
static void queue_all(struct world *w)
{
    struct redis_call *call = begin(w, &w->first, 0);
    char *large = test_malloc(FIRST_BYTES);
    char head[64];

    memset(large, 'x', FIRST_BYTES);
    redis_command(call, 2, "ECHO");
    redis_word(call, slice_of(large, FIRST_BYTES));
    expect(w, head,
           (size_t)snprintf(head, sizeof head, "*2\r\n$4\r\nECHO\r\n$%d\r\n", FIRST_BYTES));
    expect(w, large, FIRST_BYTES);
    expect(w, "\r\n", 2);
    test_free(large);
    for (unsigned i = 0; i < SIDE; i++)
        say_echo(w, i);
    redis_flush(&w->redis);
    assert_non_null(w->redis.unsent);
    for (unsigned i = SIDE; i < CALLS; i++)
        say_echo(w, i);
    assert_true(w->redis.sent_bytes > 0 && w->redis.sent_bytes < FIRST_BYTES);
}

static void cancel(struct task *task)
{
    op_group_cancel(&task->group, err_make(ERR_CANCELLED, "the caller has gone"));
}

/* All that redis is sent. */
static void read_all(struct world *w)
{
    for (;;) {
        ssize_t n = read(w->peer, w->got + w->got_bytes, ROOM - w->got_bytes);

        if (n > 0)
            w->got_bytes += (size_t)n;
        else if (w->redis.sent_bytes == w->redis.queued_bytes)
            return;
        redis_flush(&w->redis);
    }
}

static void answer(struct world *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_true(redis_parse(&w->redis, "+OK\r\n", 5));
}

/* gone: a bit for each call that is cancelled. */
static void expect_rest(struct world *w, unsigned gone)
{
    size_t left = 1;

    for (unsigned i = 0; i < CALLS; i++) {
        bool stays = (gone >> i & 1) == 0;

        if (stays && i == LED)
            expect(w, "*1\r\n$6\r\nASKING\r\n", 16);
        if (stays)
            expect_echo(w, i);
        left += stays ? 1 + (size_t)(i == LED) : 0;
    }
    assert_int_equal(w->redis.in_flight, left);
    read_all(w);
    assert_int_equal(w->got_bytes, w->expected_bytes);
    assert_memory_equal(w->got, w->expected, w->expected_bytes);
    assert_int_equal(w->redis.void_bytes, 0);
    assert_null(w->redis.unsent);
    assert_null(w->redis.waits);
    answer(w, left);
    assert_null(w->redis.first);
    assert_int_equal(w->redis.in_flight, 0);
    assert_false(redis_parse(&w->redis, "+OK\r\n", 5)); /* nobody asked for more */
}

static void expect_told(struct world *w, unsigned gone)
{
    worker_drain(&w->worker, 0);
    assert_true(w->first.done && w->first.op.err.code == ERR_OK);
    for (unsigned i = 0; i < CALLS; i++) {
        bool stayed = (gone >> i & 1) == 0;

        assert_true(w->tasks[i].done);
        assert_int_equal(w->tasks[i].op.err.code, stayed ? ERR_OK : ERR_CANCELLED);
        assert_int_equal(w->tasks[i].op.err.effect, EFFECT_NONE);
    }
    assert_int_equal(counter_read(&w->redis.stats->withdrawn), __builtin_popcount(gone));
}

/* Every choice of calls: the first, the last, some, all, none. */
static void without_any_of_them(bool backwards, bool at_once)
{
    for (unsigned gone = 0; gone < 1u << CALLS; gone++) {
        struct world *w = open_world();

        queue_all(w);
        for (unsigned i = 0; i < CALLS; i++) {
            unsigned number = backwards ? CALLS - 1 - i : i;

            if ((gone >> number & 1) == 0)
                continue;
            cancel(&w->tasks[number]);
            if (at_once)
                redis_sift_some(&w->redis);
        }
        expect_rest(w, gone);
        expect_told(w, gone);
        close_world(w);
    }
}

static void any_choice_of_calls_is_left_out(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 4; way++)
        without_any_of_them(way & 1, way & 2);
}

/* While the socket takes bytes between one cancellation and the next. */
static void calls_end_while_others_are_sent(void **state)
{
    (void)state;
    for (unsigned gone = 0; gone < 1u << CALLS; gone++) {
        struct world *w = open_world();

        queue_all(w);
        for (unsigned i = CALLS; i-- > 0;) {
            ssize_t n = read(w->peer, w->got + w->got_bytes, SMALL_BUFFER);

            w->got_bytes += n > 0 ? (size_t)n : 0;
            if ((gone >> i & 1) != 0)
                cancel(&w->tasks[i]);
            redis_flush(&w->redis);
        }
        expect_rest(w, gone);
        expect_told(w, gone);
        close_world(w);
    }
}

static void one_that_was_sent_in_part_is_sent_whole(void **state)
{
    struct world *w = open_world();

    (void)state;
    queue_all(w);
    cancel(&w->first);
    redis_sift_some(&w->redis);
    expect_rest(w, 0);
    worker_drain(&w->worker, 0);
    assert_int_equal(w->first.op.err.code, ERR_CANCELLED);
    assert_int_equal(w->first.op.err.effect, EFFECT_UNKNOWN);
    assert_int_equal(counter_read(&w->redis.stats->withdrawn), 0);
    close_world(w);
}

/* The command that leads it is out, and may have its answer: without its follower it would mean the
 * next one. */
static void one_whose_leader_was_sent_is_sent(void **state)
{
    static const char led[] = "*1\r\n$6\r\nASKING\r\n*2\r\n$4\r\nECHO\r\n$1\r\n0\r\n";

    (void)state;
    for (unsigned answered = 0; answered < 2; answered++) {
        struct world *w = open_world();
        struct redis_call *call;

        redis_command(redis_begin_own(&w->redis, &leading, NULL), 1, "ASKING");
        redis_flush(&w->redis);
        call = begin(w, &w->tasks[0], 0);
        redis_command(call, 2, "ECHO");
        redis_word(call, slice_str("0"));
        answer(w, answered);
        cancel(&w->tasks[0]);
        redis_sift_some(&w->redis);
        read_all(w);
        assert_int_equal(w->got_bytes, sizeof led - 1);
        assert_memory_equal(w->got, led, sizeof led - 1);
        worker_drain(&w->worker, 0);
        assert_int_equal(w->tasks[0].op.err.effect, EFFECT_UNKNOWN);
        answer(w, 2 - answered);
        assert_null(w->redis.first);
        close_world(w);
    }
}

static void a_lost_connection_ends_what_is_left(void **state)
{
    struct world *w = open_world();

    (void)state;
    queue_all(w);
    cancel(&w->tasks[1]);
    cancel(&w->tasks[CALLS - 1]);
    disconnect(w);
    redis_fail_calls(&w->redis);
    worker_drain(&w->worker, 0);
    assert_int_equal(w->first.op.err.effect, EFFECT_UNKNOWN);
    assert_int_equal(w->tasks[0].op.err.code, ERR_UNAVAILABLE);
    assert_int_equal(w->tasks[0].op.err.effect, EFFECT_NONE);
    assert_int_equal(w->tasks[1].op.err.code, ERR_CANCELLED);
    assert_null(w->redis.first);
    assert_null(w->redis.waits);
    assert_int_equal(w->redis.in_flight, 0);
    assert_int_equal(w->redis.void_bytes, 0);
    connect_pair(w); /* and the next one begins anew */
    queue_all(w);
    w->expected_bytes /= 2; /* of this connection alone */
    cancel(&w->tasks[2]);
    expect_rest(w, 1 << 2);
    close_world(w);
}

/* A redis that takes nothing, and callers that do not wait: what is void does not pile up. */
static void what_is_void_does_not_pile_up(void **state)
{
    enum { TIMES = 20000, LIVE = 6 };
    struct world *w = open_world();
    struct task *task = &w->tasks[0];
    uint64_t waits, most = 0;

    (void)state;
    queue_all(w);
    for (unsigned i = 0; i < CALLS - LIVE; i++)
        cancel(&w->tasks[i]);
    worker_drain(&w->worker, 0);
    for (unsigned i = 0; i < TIMES; i++) {
        struct redis_call *call = begin(w, task, 0);

        redis_command(call, 2, "ECHO");
        redis_word(call, slice_str("again"));
        cancel(task);
        redis_sift_some(&w->redis);
        worker_drain(&w->worker, 0);
        waits = w->redis.queued_bytes - w->redis.sent_bytes;
        most = waits > most ? waits : most;
    }
    assert_true(most < 2 * FIRST_BYTES);
    assert_true(sdsalloc(w->redis.link->out) < FIRST_BYTES);
    expect_rest(w, (1 << (CALLS - LIVE)) - 1);
    close_world(w);
}

static void one_that_was_over_before_it_began(void **state)
{
    struct world *w = open_world();

    (void)state;
    w->worker.now_ns = 1000;
    assert_null(begin(w, &w->tasks[0], 999));
    worker_drain(&w->worker, 0);
    assert_int_equal(w->tasks[0].op.err.code, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(w->tasks[0].op.err.effect, EFFECT_NONE);
    assert_int_equal(counter_read(&w->redis.stats->withdrawn), 1);
    assert_int_equal(w->redis.queued_bytes, 0);
    assert_null(w->redis.first);
    close_world(w);
}

/* A write that failed has left a gap: what is queued behind it stays here. */
static void nothing_follows_a_write_that_failed(void **state)
{
    struct world *w = open_world();
    uint64_t sent;

    (void)state;
    queue_all(w);
    shutdown(w->redis.link->fd, SHUT_WR);
    sent = w->redis.sent_bytes;
    redis_flush(&w->redis);
    assert_true(w->redis.link->mute);
    cancel(&w->tasks[3]);
    redis_sift_some(&w->redis);
    worker_drain(&w->worker, 0);
    say_echo(w, 3);
    redis_flush(&w->redis);
    assert_int_equal(w->redis.sent_bytes, sent);
    disconnect(w);
    redis_fail_calls(&w->redis);
    worker_drain(&w->worker, 0);
    assert_int_equal(w->redis.in_flight, 0);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_choice_of_calls_is_left_out),
        cmocka_unit_test(calls_end_while_others_are_sent),
        cmocka_unit_test(one_that_was_sent_in_part_is_sent_whole),
        cmocka_unit_test(one_whose_leader_was_sent_is_sent),
        cmocka_unit_test(a_lost_connection_ends_what_is_left),
        cmocka_unit_test(what_is_void_does_not_pile_up),
        cmocka_unit_test(one_that_was_over_before_it_began),
        cmocka_unit_test(nothing_follows_a_write_that_failed),
    };

    return cmocka_run_group_tests_name("redis_sift", tests, NULL, NULL);
}
