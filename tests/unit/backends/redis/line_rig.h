/* A connection of the redis backend over a pair of sockets, without libuv: what is queued, what its
 * end of the pair takes, and what comes out at the other, which the test reads. */
#ifndef PRISM_TESTS_UNIT_BACKENDS_REDIS_LINE_RIG_H
#define PRISM_TESTS_UNIT_BACKENDS_REDIS_LINE_RIG_H

#include "backends/redis/redis_call.h"
#include "src/base/container.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { TASKS = 8, SMALL_BUFFER = 4096, ROOM = 1 << 20 };

struct task {
    struct op op;
    struct op_group group;
    bool done;
};

struct world {
    struct worker worker;
    struct arena arena;
    struct redis_store store;
    struct redis redis;
    int peer;
    struct task first, tasks[TASKS];
    char *got, *expected;
    size_t got_bytes, expected_bytes;
};

static inline void wake(struct worker *worker)
{
    (void)worker;
}

static inline void node(struct redis_call *call, const struct redis_node *node)
{
    (void)call;
    (void)node;
}

static inline void end_nothing(struct redis_call *call)
{
    (void)call;
}

static const struct redis_kind plain = {.writes = true, .node = node};
static const struct redis_kind leading = {.node = node, .end = end_nothing, .leads = true};

static inline void connect_pair(struct world *w)
{
    int pair[2], small = SMALL_BUFFER;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    w->redis.link = redis_link_new(&w->redis);
    w->redis.link->fd = pair[0];
    w->redis.phase = REDIS_READY;
    redis_take_answers(&w->redis);
    w->peer = pair[1];
}

static inline void disconnect(struct world *w)
{
    redis_output_clear(&w->redis);
    redis_link_close(w->redis.link);
    free(w->redis.link);
    w->redis.link = NULL;
    close(w->peer);
}

static inline struct world *open_world(void)
{
    static struct world the_one; /* a worker is aligned as no allocation is */
    struct world *w = &the_one;

    *w = (struct world){.peer = -1};
    worker_init(&w->worker, 0, wake);
    worker_set_current(&w->worker);
    w->worker.now_ns = 1;
    arena_init(&w->arena, NULL);
    w->store.max_in_flight = 1000;
    w->store.max_buffer_bytes = 1 << 30;
    w->redis.base.home = &w->worker;
    w->redis.base.store = &w->store.base;
    w->redis.stats = &w->redis.base.stats;
    w->redis.last = &w->redis.first;
    w->redis.turns_last = &w->redis.turns;
    w->got = test_malloc(ROOM);
    w->expected = test_malloc(ROOM);
    connect_pair(w);
    return w;
}

static inline void close_world(struct world *w)
{
    if (w->redis.link != NULL)
        disconnect(w);
    redis_free_calls(&w->redis);
    arena_clear(&w->arena);
    worker_drain(&w->worker, 0);
    worker_set_current(NULL);
    worker_clear(&w->worker);
    test_free(w->got);
    test_free(w->expected);
}

static inline void on_done(struct op *op)
{
    CONTAINER_OF(op, struct task, op)->done = true;
}

static inline struct redis_call *begin(struct world *w, struct task *task, uint64_t deadline_ns)
{
    op_group_init(&task->group, &w->worker, &w->arena, deadline_ns);
    op_start(&task->op, &task->group, on_done);
    return redis_begin(&w->redis, &task->op, &plain, 100);
}

static inline void expect(struct world *w, const char *text, size_t len)
{
    memcpy(w->expected + w->expected_bytes, text, len);
    w->expected_bytes += len;
}

#endif
