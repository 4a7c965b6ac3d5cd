/* Turns of what creates or ends sessions of the same user. */
#include "backends/dynamodb/dynamodb_session.h"

static struct session_turn **turns_of(const struct session_turn *turn)
{
    return &CONTAINER_OF(turn->task->client, struct dynamodb, aws)->turns;
}

void dynamodb_turn_take(struct session_turn *turn)
{
    struct session_turn **at = turns_of(turn);
    bool waits = false;

    for (; turn->user.len > 0 && *at != NULL; at = &(*at)->next)
        waits = waits || slice_equal((*at)->user, turn->user);
    if (turn->user.len > 0) {
        *at = turn;
        turn->taken = true;
    }
    if (!waits)
        turn->begin(turn);
}

void dynamodb_turn_end(struct session_turn *turn)
{
    struct session_turn **at = turns_of(turn), *next = turn->next;
    bool was_first = true;

    if (!turn->taken)
        return;
    for (; *at != turn; at = &(*at)->next)
        was_first = was_first && !slice_equal((*at)->user, turn->user);
    *at = turn->next;
    turn->taken = false;
    while (next != NULL && !slice_equal(next->user, turn->user))
        next = next->next;
    if (was_first && next != NULL)
        next->begin(next);
}
