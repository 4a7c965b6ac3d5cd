/* Removes what expired sessions leave behind in the sorted sets, also where nobody asks for them
 * any more. From the first session operation of an instance on: a script now and then, at once
 * again while it finds as many as it may remove; it rests when there are no sessions left. In a
 * cluster, one partition after the other. Several instances sweep the same sets, and the second
 * finds nothing to do. */
#include "backends/redis/redis_topic.h"

static void on_timer(struct timer *timer);

static void rest(struct redis_session_sweep *sweep, uint64_t ms)
{
    struct worker *home = sweep->redis->base.home;

    timer_arm(&home->timers, &sweep->timer, home->now_ns + ms * NS_PER_MS, on_timer);
}

static void on_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_session_sweep *sweep = call->state;

    if (node->type == REDIS_REPLY_ERROR) /* a replica, full, moving: later */
        counter_add(&sweep->redis->stats->errors, 1);
    if (node->depth != 1 || node->type != REDIS_REPLY_INTEGER)
        return;
    if (sweep->parts++ == 0)
        sweep->due = node->number;
    else
        sweep->left = node->number;
}

/* On to the next partition; behind the last one it rests. */
static void go_on(struct redis_session_sweep *sweep)
{
    struct redis_store *store = redis_store_of(sweep->redis);
    const struct redis_tags *tags = atomic_load(&store->tags);
    bool empty = sweep->sessions == 0 && !sweep->missed && !sweep->used;

    if (sweep->stopped)
        return;
    if (++sweep->part < (tags != NULL ? tags->n : 1)) {
        rest(sweep, 1);
        return;
    }
    if (!sweep->missed)
        atomic_store(&store->sessions, sweep->sessions);
    sweep->part = 0;
    sweep->sessions = 0;
    sweep->missed = sweep->used = false;
    if (empty)
        sweep->running = false;
    else
        rest(sweep, REDIS_SESSION_SWEEP_MS);
}

static void on_end(struct redis_call *call)
{
    struct redis_session_sweep *sweep = call->state;

    if (sweep->parts != 2) {
        sweep->missed = true;
        go_on(sweep);
    } else if (sweep->due < REDIS_SESSION_SWEEP) {
        sweep->sessions += (uint64_t)sweep->left;
        go_on(sweep);
    } else if (!sweep->stopped) {
        rest(sweep, 1);
    }
}

static void on_lost(struct redis_call *call, struct err why)
{
    struct redis_session_sweep *sweep = call->state;

    (void)why;
    sweep->missed = true;
    go_on(sweep);
}

static const struct redis_kind kind = {
    .writes = true, .item_errors = true, .node = on_node, .end = on_end, .lost = on_lost};

static void on_timer(struct timer *timer)
{
    struct redis_session_sweep *sweep = CONTAINER_OF(timer, struct redis_session_sweep, timer);
    static const char *const names[] = {"due", "all", "place"};
    struct arena arena;
    struct redis *redis;

    arena_init(&arena, NULL);
    redis = redis_to_key(
        sweep->redis, redis_scripted_key(sweep->redis, &arena, sweep->part, "session:", names[0]));
    if (redis->phase != REDIS_READY) {
        arena_clear(&arena);
        sweep->missed = true;
        go_on(sweep);
        return;
    }
    sweep->parts = 0;

    struct redis_call *call = redis_begin_own(redis, &kind, sweep);

    redis_command(call, 3 + ARRAY_LEN(names) + 1, "EVAL");
    redis_word(call, slice_str(redis_session_sweep_script));
    redis_word_number(call, ARRAY_LEN(names));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        redis_word(call,
                   redis_scripted_key(sweep->redis, &arena, sweep->part, "session:", names[i]));
    redis_word_number(call, REDIS_SESSION_SWEEP);
    arena_clear(&arena);
}

void redis_session_sweep_start(struct redis_session_sweep *sweep, struct redis *redis)
{
    sweep->used = true;
    if (sweep->running || sweep->stopped)
        return;
    sweep->redis = redis;
    sweep->running = true;
    rest(sweep, REDIS_SESSION_SWEEP_MS);
}

void redis_session_sweep_stop(struct redis_session_sweep *sweep)
{
    sweep->stopped = true;
    if (sweep->redis != NULL)
        timer_disarm(&sweep->redis->base.home->timers, &sweep->timer);
}
