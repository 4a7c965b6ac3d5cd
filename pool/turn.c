#include "pool/turn.h"

static void look_later(struct turn *turn)
{
    turn->look_at = turn->ran + (turn->pace->slow ? 1 : TURN_LOOK);
    if (turn->look_at > turn->max)
        turn->look_at = turn->max;
}

struct turn turn_begin(struct pace *pace, unsigned max)
{
    struct turn turn = {
        .pace = pace, .begun_ns = pace->slow ? clock_now_ns() : 0, .ran = 0, .max = max};

    look_later(&turn);
    return turn;
}

bool turn_look(struct turn *turn)
{
    uint64_t now_ns;

    if (turn->ran >= turn->max)
        return true;
    now_ns = clock_now_ns();
    if (turn->begun_ns == 0)
        turn->begun_ns = now_ns;
    if (now_ns - turn->begun_ns >= TURN_NS) {
        turn->pace->next = turn->pace->next || turn->ran <= TURN_FEW;
        return true;
    }
    look_later(turn);
    return false;
}
