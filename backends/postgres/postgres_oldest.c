/* Before anything is taken for the first time, by who wants the oldest first: what others hold. One
 * who lives renews its leases, and keeps what it has. One who has died renews nothing: what it held
 * goes to its old place when its lease is over, and only then do newer messages follow.
 *
 *   SQL_OLDEST   what is held with a lease that is over goes to its place. What is held with one
 *                that was given before the first look is waited for
 *   nothing      the listener takes, from the first message on
 *   something    it looks again: when its lease is over, when somebody gives back or pushes, and
 *                after queue_poll_ms at the latest
 *
 * It ends within queue_lease_ms: until then each lease has been renewed, settled, or is over. */
#include "backends/postgres/postgres_queue.h"

enum column { BOUND, LEFT_MS };

static uint64_t lease_ms(const struct postgres_listener *listener)
{
    return postgres_store_of(listener->postgres)->queue_lease_ms;
}

static void look_result(struct postgres_call *call, const PGresult *result)
{
    struct postgres_listener *listener = call->state;

    if (PQntuples(result) != 1) {
        postgres_unexpected(call);
        return;
    }
    listener->oldest_until = postgres_int8(result, 0, BOUND);
    listener->due_ms = (uint64_t)postgres_int8(result, 0, LEFT_MS);
    listener->oldest_first = listener->due_ms > 0;
}

static void look_end(struct postgres_call *call)
{
    struct postgres_listener *listener = call->state;
    uint64_t poll_ns = postgres_store_of(listener->postgres)->queue_poll_ns;
    uint64_t left_ns = (listener->due_ms + 1) * NS_PER_MS;

    if (call->err.code != ERR_OK)
        postgres_look_in(listener, POSTGRES_RETRY_MS * NS_PER_MS);
    else if (listener->again || !listener->oldest_first)
        postgres_look_in(listener, 0);
    else
        postgres_look_in(listener, left_ns < poll_ns ? left_ns : poll_ns);
}

static const struct postgres_kind look_kind = {
    .writes = true, .result = look_result, .end = look_end};

void postgres_oldest(struct postgres_listener *listener, struct postgres_conn *conn)
{
    struct postgres_params params;
    struct arena scratch;

    listener->again = false;
    listener->asking = true;
    arena_init(&scratch, &listener->postgres->base.home->arenas);
    postgres_params_init(&params, &scratch);
    postgres_add_int4(&params, listener->postgres->space);
    postgres_add(&params, listener->subscription->want.topic);
    postgres_add_int8(&params, listener->oldest_until);
    postgres_add_int8(&params, (int64_t)lease_ms(listener));
    postgres_run_own(conn, &look_kind, listener, SQL_OLDEST, &params);
    arena_clear(&scratch);
}
