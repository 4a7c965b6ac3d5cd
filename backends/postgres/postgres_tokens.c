/* The deliveries of a listener that are not settled: a table with linear probing. */
#include "backends/postgres/postgres_queue.h"

#include <stdlib.h>

enum { ROOM_MIN = 64 };

static size_t place_of(const struct postgres_listener *listener, uint64_t token)
{
    size_t at = (size_t)(token * 0x9e3779b97f4a7c15u >> 20) & (listener->room - 1);

    while (listener->tokens[at] != 0 && listener->tokens[at] != token)
        at = (at + 1) & (listener->room - 1);
    return at;
}

static void grow(struct postgres_listener *listener)
{
    uint64_t *old = listener->tokens;
    size_t room = listener->room;

    listener->room = room > 0 ? 2 * room : ROOM_MIN;
    listener->tokens = calloc(listener->room, sizeof *listener->tokens);
    if (listener->tokens == NULL)
        abort();
    for (size_t i = 0; i < room; i++) {
        if (old[i] != 0)
            listener->tokens[place_of(listener, old[i])] = old[i];
    }
    free(old);
}

void postgres_tokens_add(struct postgres_listener *listener, uint64_t token)
{
    if (2 * (listener->n + 1) > listener->room)
        grow(listener);
    listener->tokens[place_of(listener, token)] = token;
    listener->n++;
}

bool postgres_tokens_has(const struct postgres_listener *listener, uint64_t token)
{
    return listener->room > 0 && token != 0 && listener->tokens[place_of(listener, token)] == token;
}

/* Those behind it move up, so that they are still found. */
void postgres_tokens_remove(struct postgres_listener *listener, uint64_t token)
{
    size_t at, next;

    if (!postgres_tokens_has(listener, token))
        return;
    at = place_of(listener, token);
    listener->tokens[at] = 0;
    listener->n--;
    for (next = (at + 1) & (listener->room - 1); listener->tokens[next] != 0;
         next = (next + 1) & (listener->room - 1)) {
        uint64_t moved = listener->tokens[next];

        listener->tokens[next] = 0;
        listener->tokens[place_of(listener, moved)] = moved;
    }
}
