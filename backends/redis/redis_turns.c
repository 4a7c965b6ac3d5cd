/* Turns of slow enumerations: a SCAN of 1000 buckets occupies redis for up to a millisecond, and
 * every other call of the connection waits behind it. So SCANs of AT_ONCE buckets together are on
 * the wire, one at least, and the others of all scans and counts wait in a line, one SCAN each,
 * first come, first served.
 *
 * A turn is given back when its call has left the line of calls, whatever became of the op: an
 * abandoned SCAN still occupies redis. */
#include "backends/redis/redis_call.h"

enum { AT_ONCE = 3000 };

static bool fits(const struct redis *redis, const struct redis_turn *turn)
{
    return redis->turns_held == 0 || redis->turns_held + turn->buckets <= AT_ONCE;
}

static void line_up(struct redis *redis, struct redis_turn *turn)
{
    turn->next = NULL;
    turn->at = redis->turns_last;
    *redis->turns_last = turn;
    redis->turns_last = &turn->next;
    redis->turns_waiting++;
}

static void leave_line(struct redis *redis, struct redis_turn *turn)
{
    *turn->at = turn->next;
    if (turn->next != NULL)
        turn->next->at = turn->at;
    else
        redis->turns_last = turn->at;
    turn->at = NULL;
    redis->turns_waiting--;
}

/* The op's backend_word is the turn; while that does not wait, a call has the op, or what the turn
 * says. */
static void cancel(struct op *op, struct err why)
{
    struct redis_turn *turn = (struct redis_turn *)(uintptr_t)op->backend_word;

    if (turn->elsewhere != NULL) {
        turn->elsewhere(turn, why);
        return;
    }
    if (turn->at == NULL && op->backend_data != NULL) {
        redis_abandon(op, why);
        return;
    }
    if (turn->at != NULL)
        leave_line(turn->redis, turn);
    redis_finish(turn->redis, op, why);
}

void redis_turn_take(struct redis *redis, struct redis_turn *turn, struct op *op,
                     void (*start)(struct redis_turn *))
{
    turn->redis = redis;
    turn->op = op;
    turn->start = start;
    turn->at = NULL;
    op->backend_data = NULL;
    if (op->backend_word == 0) {
        op->backend_word = (uintptr_t)turn;
        op_park(op, cancel);
    }
    if (op->state != OP_STARTED)
        return; /* cancelled before it began */
    if (redis->turns == NULL && fits(redis, turn))
        start(turn);
    else if (redis->turns_waiting >= redis_store_of(redis)->max_in_flight)
        redis_finish(redis, op, redis_too_many());
    else
        line_up(redis, turn);
}

/* One that is refused (no connection) leaves its turn to the next. */
static void go_on(struct redis *redis)
{
    while (redis->turns != NULL && fits(redis, redis->turns)) {
        struct redis_turn *turn = redis->turns;

        leave_line(redis, turn);
        turn->start(turn);
    }
}

static void give_back(struct redis *redis, uint32_t buckets)
{
    redis->turns_held -= buckets;
    go_on(redis);
}

struct redis_call *redis_begin_turn(struct redis_turn *turn, const struct redis_kind *kind,
                                    size_t bytes)
{
    struct redis_call *call = redis_begin(turn->redis, turn->op, kind, bytes);

    if (call != NULL) {
        call->left = give_back;
        call->left_word = turn->buckets;
        turn->redis->turns_held += turn->buckets;
    }
    return call;
}

void redis_fail_turns(struct redis *redis)
{
    go_on(redis);
}
