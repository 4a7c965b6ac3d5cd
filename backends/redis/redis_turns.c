/* Turns of slow enumerations: a SCAN occupies redis for up to a millisecond, and every other call
 * of the connection waits behind it. So only TURNS of them are on the wire at once, and the others
 * of all scans and counts wait in a line, one SCAN each, first come, first served.
 *
 * A turn is taken by redis_begin's caller (call->in_turn) and given back when the call has left the
 * line of calls, whatever became of its op: an abandoned SCAN still occupies redis. */
#include "backends/redis/redis_priv.h"

enum { TURNS = 2 };

static void unlink_turn(struct redis *redis, struct redis_turn *turn)
{
    *turn->at = turn->next;
    if (turn->next != NULL)
        turn->next->at = turn->at;
    else
        redis->turns_last = turn->at;
    turn->at = NULL;
    redis->turns_waiting--;
}

static void wait(struct redis *redis, struct redis_turn *turn)
{
    struct op *op = turn->op;
    bool parked = op->cancel != NULL;

    turn->next = NULL;
    turn->at = redis->turns_last;
    *redis->turns_last = turn;
    redis->turns_last = &turn->next;
    redis->turns_waiting++;
    op->backend_data = turn;
    op->backend_word = REDIS_OP_WAITS;
    if (!parked)
        redis_park(op);
}

void redis_turn_cancel(struct op *op, struct err why)
{
    struct redis_turn *turn = op->backend_data;

    unlink_turn(turn->redis, turn);
    redis_finish(turn->redis, op, why);
}

void redis_turn_take(struct redis *redis, struct redis_turn *turn, struct op *op,
                     void (*start)(struct redis_turn *))
{
    turn->redis = redis;
    turn->op = op;
    turn->start = start;
    if (redis->turns_held < TURNS && redis->turns == NULL)
        start(turn);
    else if (redis->phase == REDIS_READY &&
             redis->turns_waiting >= redis_store_of(redis)->max_in_flight)
        redis_finish(redis, op, redis_too_many());
    else
        wait(redis, turn);
}

/* A turn that starts may be refused (no connection); then the next one has it. */
void redis_turns_go_on(struct redis *redis)
{
    while (redis->turns_held < TURNS && redis->turns != NULL) {
        struct redis_turn *turn = redis->turns;

        unlink_turn(redis, turn);
        turn->op->backend_data = NULL;
        turn->op->backend_word = 0;
        turn->start(turn);
    }
}
