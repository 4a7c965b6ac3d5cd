/* What a flush does to those who share the worker, and what an operation of several calls is told.
 */
#include "backends/redis/redis_scripted.h"
#include "tests/unit/backends/redis/line_rig.h"

enum { SMALL = 400, EVERY = 4, FIRST_BYTES = 200 << 10, LARGE_BUFFER = 1 << 20 };

static void say(struct world *w, struct task *task, char with, size_t n)
{
    struct redis_call *call = begin(w, task, 0);
    char *word = test_malloc(n);

    memset(word, with, n);
    redis_command(call, 2, "ECHO");
    redis_word(call, slice_of(word, n));
    test_free(word);
}

static void read_some(struct world *w)
{
    ssize_t n = read(w->peer, w->got + w->got_bytes, ROOM - w->got_bytes);

    w->got_bytes += n > 0 ? (size_t)n : 0;
}

/* Each run between calls that are left out is a write of its own: of many, some wait for the next
 * turn of the loop. */
static void many_writes_are_made_in_turns(void **state)
{
    static struct task small[SMALL];
    struct world *w = open_world();
    unsigned turns = 0;
    int large = LARGE_BUFFER;

    (void)state;
    say(w, &w->first, 'x', FIRST_BYTES);
    for (unsigned i = 0; i < SMALL; i++)
        say(w, &small[i], 's', 1);
    redis_flush(&w->redis);
    for (unsigned i = 0; i < SMALL; i += EVERY)
        op_group_cancel(&small[i].group, err_make(ERR_CANCELLED, "gone"));
    while (w->redis.sent_bytes < FIRST_BYTES) {
        read_some(w);
        redis_flush(&w->redis);
    }
    setsockopt(w->redis.link->fd, SOL_SOCKET, SO_SNDBUF, &large, sizeof large);
    for (; w->redis.unsent != NULL; turns++) {
        read_some(w);
        redis_flush(&w->redis);
    }
    assert_true(turns > 1);
    read_some(w);
    assert_int_equal(w->got_bytes, w->redis.sent_bytes -
                                       SMALL / EVERY * strlen("*2\r\n$4\r\nECHO\r\n$1\r\ns\r\n"));
    assert_int_equal(w->redis.in_flight, 1 + SMALL - SMALL / EVERY);
    redis_fail_calls(&w->redis);
    worker_drain(&w->worker, 0);
    close_world(w);
}

static void say_nothing(struct redis_call *call, struct redis_scripted *work)
{
    (void)call;
    (void)work;
}

/* Of an operation of several calls, of which an earlier one has written. */
static void a_later_step_is_not_all_of_it(void **state)
{
    static const struct redis_scripted_text script = {"return 1", true};
    static const struct redis_scripted_name name;
    struct world *w = open_world();
    struct task *task = &w->tasks[0];
    struct redis_scripted work = {.redis = &w->redis,
                                  .op = &task->op,
                                  .script = &script,
                                  .name = &name,
                                  .say = say_nothing,
                                  .wrote = true};

    (void)state;
    op_group_init(&task->group, &w->worker, &w->arena, 0);
    op_start(&task->op, &task->group, on_done);
    redis_scripted_run(&work);
    op_group_cancel(&task->group, err_make(ERR_CANCELLED, "not sent"));
    worker_drain(&w->worker, 0);
    assert_int_equal(task->op.err.effect, EFFECT_UNKNOWN);
    assert_string_equal(task->op.err.text,
                        "a part of it was carried out, and of the rest: not sent");
    redis_sift_some(&w->redis);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_writes_are_made_in_turns),
        cmocka_unit_test(a_later_step_is_not_all_of_it),
    };

    return cmocka_run_group_tests_name("redis_flush", tests, NULL, NULL);
}
