/* A reader as those know it who work for it: it is woken, what is due is remembered, and its calls
 * are counted. What it does next is redis_reader.c's. */
#include "backends/redis/redis_stream.h"

enum { AGAIN_MS = 500 };

/* ---- waking ---- */

void redis_reader_wake(struct redis_reader *reader)
{
    if (reader->landed)
        return;
    reader->landed = true;
    worker_land(reader->subscription->home, &reader->job);
}

void redis_reader_invite(struct redis_reader *reader)
{
    if (reader->order != NULL) {
        reader->order->lock_ns = 0; /* the group may be free */
    } else {
        reader->invited = reader->want_claim = true;
        if (reader->oldest_first)
            reader->again_ns = 0; /* what it waits for may be back */
        reader->claim_at = (struct redis_id){0};
    }
    redis_reader_wake(reader);
}

void redis_reader_speak(struct redis_reader *reader)
{
    if (reader->holds.count == 0)
        return;
    for (uint32_t i = 0; i < reader->holds.used; i++)
        redis_held_told(&reader->holds.places[i], 0, false);
    reader->tend_ns = reader->keep_ns = redis_reader_now(reader);
    redis_reader_wake(reader);
}

/* ---- what is due ---- */

void redis_reader_due(struct redis_reader *reader, uint64_t due_ns)
{
    if (due_ns == 0 || (reader->tend_ns != 0 && reader->tend_ns <= due_ns))
        return;
    reader->tend_ns = due_ns;
    redis_reader_wake(reader);
}

uint64_t redis_claim_idle_ns(const struct redis_reader *reader)
{
    return redis_store_of(&reader->streams->shared)->claim_idle_ms * NS_PER_MS;
}

uint64_t redis_keep_due(const struct redis_reader *reader, const struct redis_held *held)
{
    return redis_told_ns(held) + redis_claim_idle_ns(reader) / 4;
}

void redis_reader_holds(struct redis_reader *reader, const struct redis_held *held)
{
    reader->keep_ns = redis_earlier(reader->keep_ns, redis_keep_due(reader, held));
    redis_reader_due(reader, redis_earlier(reader->keep_ns, redis_due_ns(held)));
}

/* ---- calls ---- */

struct redis_call *redis_reader_call(struct redis_reader *reader, const struct redis_kind *kind,
                                     bool busy)
{
    struct redis *redis = redis_reader_at(reader);

    counter_add(&redis->stats->calls, 1);
    reader->calls++;
    if (busy) {
        reader->busy = true;
        reader->refused = ERR_OK;
        reader->no_group = false;
        reader->sent_ns = redis_reader_now(reader);
    }
    return redis_begin_own(redis, kind, reader);
}

void redis_reader_answered(struct redis_reader *reader, bool busy)
{
    reader->calls--;
    if (busy)
        reader->busy = false;
    redis_reader_wake(reader);
}

/* What it had taken all the same is claimed later. */
void redis_reader_lost(struct redis_call *call, struct err why)
{
    struct redis_reader *reader = call->state;

    (void)why;
    reader->entered = false;
    redis_reader_answered(reader, true);
}

void redis_reader_end(struct redis_reader *reader, struct err err)
{
    if (reader->closing)
        return;
    reader->closing = true;
    reader->err = err;
    redis_reader_wake(reader);
}

/* Errors that pass are waited for. */
void redis_reader_refused(struct redis_reader *reader, struct slice error)
{
    struct err err = redis_stream_error(&reader->texts, error);

    counter_add(&reader->streams->shared.stats->errors, 1);
    reader->refused = err.code;
    reader->no_group = redis_error_is(error, "NOGROUP");
    if (reader->no_group)
        reader->entered = false;
    else if (err.code == ERR_PERMISSION_DENIED || redis_error_is(error, "WRONGTYPE"))
        redis_reader_end(reader, err);
    else
        reader->again_ns = redis_reader_now(reader) + AGAIN_MS * NS_PER_MS;
}
