/* The connection that waits: one XREAD BLOCK for the notes and for all topics of which the readers
 * have fetched everything. It says no more than that there is something.
 *
 *   a reader is done     redis_wait_for: its topic belongs to the next XREAD
 *   one is under way     CLIENT UNBLOCK, from the other connection, ends it; again until it has,
 *                        because the XREAD may still be on its way
 *   its answer comes     the readers of these topics fetch; the others are asked for again
 *
 * Asking for many topics costs redis a microsecond or two for each, so the next XREAD comes a
 * little later for each of them: what happens meanwhile shares it.
 *
 * Where CLIENT ID or UNBLOCK is not permitted, an XREAD blocks for a short time only. */
#include "backends/redis/redis_stream.h"

#include <stdio.h>
#include <stdlib.h>

enum { BLOCK_MS = 10000, SHORT_MS = 50, POKE_MS = 1, REFUSED_MS = 200, KEY_US = 20 };

static void look(struct redis_streams *streams)
{
    if (streams->wait_landed)
        return;
    streams->wait_landed = true;
    worker_land(streams->shared.base.home, &streams->wait_job);
}

static struct redis_streams *streams_of(const struct redis_call *call)
{
    return call->state;
}

static struct timer_wheel *timers_of(struct redis_streams *streams)
{
    return &streams->shared.base.home->timers;
}

static bool waits(const struct redis_reader *reader)
{
    return reader->waiting && !reader->closing && subscription_may_take(reader->subscription);
}

static void wake_all(struct redis_streams *streams)
{
    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next) {
        if (!reader->waiting)
            continue;
        reader->waiting = false;
        reader->want_fetch = true;
        redis_reader_wake(reader);
    }
}

/* ---- what has come ---- */

static void wake_readers(struct redis_streams *streams, struct redis_id id)
{
    struct slice key = slice_of(streams->read.key, streams->read.key_len);

    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next) {
        if (!reader->waiting || !slice_equal(reader->key, key))
            continue;
        reader->waiting = false;
        reader->want_fetch = true;
        reader->woken = id;
        redis_reader_wake(reader);
    }
}

static void act_on_note(struct redis_streams *streams)
{
    struct slice topic = slice_of(streams->read.topic, streams->read.topic_len);
    struct slice group = slice_of(streams->read.group, streams->read.group_len);

    if (streams->read.is_ours)
        return;
    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next) {
        if (!slice_equal(reader->key, topic) || !slice_equal(reader->group, group))
            continue;
        if (!streams->read.is_seek) {
            redis_reader_invite(reader);
        } else if (reader->rewound > 0) {
            reader->rewound--; /* it has seen this for itself */
        } else {
            redis_reader_seeked(reader);
        }
        redis_reader_wake(reader);
    }
}

static void keep_word(uint8_t *to, uint8_t *len, struct slice word)
{
    *len = (uint8_t)(word.len < 256 ? word.len : 255);
    memcpy(to, word.data, *len);
}

enum field { FIELD_FROM, FIELD_TOPIC, FIELD_GROUP, FIELD_WHAT, FIELD_OTHER };

static void take_note(struct redis_streams *streams, size_t index, struct slice word)
{
    static const char *const names[] = {"from", "topic", "group", "what"};

    if (index % 2 == 0) {
        streams->read.field = FIELD_FROM;
        while (streams->read.field < FIELD_OTHER &&
               !slice_equal(word, slice_str(names[streams->read.field])))
            streams->read.field++;
        return;
    }
    if (streams->read.field == FIELD_FROM)
        streams->read.is_ours = slice_equal(word, slice_str(streams->origin));
    else if (streams->read.field == FIELD_TOPIC)
        keep_word(streams->read.topic, &streams->read.topic_len, word);
    else if (streams->read.field == FIELD_GROUP)
        keep_word(streams->read.group, &streams->read.group_len, word);
    else if (streams->read.field == FIELD_WHAT)
        streams->read.is_seek = slice_equal(word, slice_str("seek"));
    if (streams->read.field == FIELD_WHAT)
        act_on_note(streams);
}

/* [[key, [[id, [word ..]]]] ..] */
static void read_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_streams *streams = streams_of(call);
    struct redis_id id;

    if (node->type == REDIS_REPLY_ERROR) {
        streams->read.refused = true;
    } else if (node->depth == 2 && node->index == 0 && node->type == REDIS_REPLY_STRING) {
        keep_word(streams->read.key, &streams->read.key_len, node->text);
        streams->read.is_note = slice_equal(node->text, streams->notes);
    } else if (node->depth == 4 && node->index == 0 && redis_id_parse(node->text, &id)) {
        if (streams->read.is_note)
            streams->noted = id;
        else
            wake_readers(streams, id);
    } else if (node->depth == 5 && streams->read.is_note) {
        take_note(streams, node->index, node->text);
    }
}

static void on_refused_over(struct timer *timer)
{
    struct redis_streams *streams = CONTAINER_OF(timer, struct redis_streams, guard);

    wake_all(streams);
    look(streams);
}

/* One topic that is no stream any more has it refused for all: each reader finds out for itself. */
static void read_end(struct redis_call *call)
{
    struct redis_streams *streams = streams_of(call);

    streams->asked = false;
    timer_disarm(timers_of(streams), &streams->guard);
    if (!streams->read.refused) {
        look(streams);
        return;
    }
    streams->changed = false;
    timer_arm(timers_of(streams), &streams->guard,
              streams->shared.base.home->now_ns + REFUSED_MS * NS_PER_MS, on_refused_over);
}

static void read_lost(struct redis_call *call, struct err why)
{
    struct redis_streams *streams = streams_of(call);

    (void)why;
    streams->asked = false;
    timer_disarm(timers_of(streams), &streams->guard);
}

static const struct redis_kind read_kind = {
    .item_errors = true, .node = read_node, .end = read_end, .lost = read_lost};

/* ---- asking ---- */

static void on_silence(struct timer *timer)
{
    struct redis_streams *streams = CONTAINER_OF(timer, struct redis_streams, guard);

    redis_drop(&streams->waiting, redis_unavailable("redis did not end a wait"));
}

static unsigned block_ms(const struct redis_streams *streams)
{
    return streams->client != 0 && streams->may_poke ? BLOCK_MS : SHORT_MS;
}

static void say_read(struct redis_streams *streams, unsigned keys)
{
    struct redis_call *call = redis_begin_own(&streams->waiting, &read_kind, streams);
    char text[REDIS_ID_BYTES];

    redis_command(call, 6 + 2 * keys, "XREAD");
    redis_word(call, slice_str("BLOCK"));
    redis_word_number(call, block_ms(streams));
    redis_word(call, slice_str("COUNT"));
    redis_word_number(call, 1);
    redis_word(call, slice_str("STREAMS"));
    if (streams->notes_known)
        redis_word(call, streams->notes);
    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next) {
        if (waits(reader))
            redis_word(call, reader->key);
    }
    if (streams->notes_known)
        redis_word(call, redis_id_text(streams->noted, text));
    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next) {
        if (waits(reader))
            redis_word(call, redis_id_text(reader->seen, text));
    }
}

static void ask(struct redis_streams *streams)
{
    uint64_t now = streams->shared.base.home->now_ns;
    unsigned keys = streams->notes_known && streams->n_readers > 0;

    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next)
        keys += waits(reader);
    streams->changed = false;
    if (keys == 0)
        return;
    streams->asked = true;
    streams->rest_ns = now + keys * KEY_US * 1000ull;
    streams->read.refused = false;
    say_read(streams, keys);
    timer_arm(timers_of(streams), &streams->guard,
              now + BLOCK_MS * NS_PER_MS + redis_store_of(&streams->shared)->command_timeout_ns,
              on_silence);
}

/* ---- ending a wait ---- */

static void on_poke_again(struct timer *timer)
{
    look(CONTAINER_OF(timer, struct redis_streams, poke_again));
}

static void poke_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_ERROR)
        streams_of(call)->may_poke = false;
}

static void poke_end(struct redis_call *call)
{
    struct redis_streams *streams = streams_of(call);

    streams->poking = false;
    if (streams->changed)
        timer_arm(timers_of(streams), &streams->poke_again,
                  streams->shared.base.home->now_ns + POKE_MS * NS_PER_MS, on_poke_again);
}

static void poke_lost(struct redis_call *call, struct err why)
{
    (void)why;
    streams_of(call)->poking = false;
}

static const struct redis_kind poke_kind = {
    .item_errors = true, .node = poke_node, .end = poke_end, .lost = poke_lost};

static void poke(struct redis_streams *streams)
{
    if (streams->poking || streams->client == 0 || !streams->may_poke ||
        streams->shared.phase != REDIS_READY)
        return;
    streams->poking = true;

    struct redis_call *call = redis_begin_own(&streams->shared, &poke_kind, streams);

    redis_command(call, 3, "CLIENT");
    redis_word(call, slice_str("UNBLOCK"));
    redis_word_number(call, streams->client);
}

static void run(struct job *job)
{
    struct redis_streams *streams = CONTAINER_OF(job, struct redis_streams, wait_job);

    streams->wait_landed = false;
    if (streams->waiting.phase != REDIS_READY || streams->introducing)
        return;
    if (streams->rest_ns > streams->shared.base.home->now_ns)
        timer_arm(timers_of(streams), &streams->poke_again, streams->rest_ns, on_poke_again);
    else if (!streams->asked)
        ask(streams);
    else if (streams->changed)
        poke(streams);
}

void redis_wait_for(struct redis_reader *reader)
{
    if (reader->waiting)
        return;
    reader->waiting = true;
    reader->streams->changed = true;
    look(reader->streams);
}

/* ---- the connection ---- */

static void introduce_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_streams *streams = streams_of(call);

    if (call->answered == 0 && node->type == REDIS_REPLY_INTEGER)
        streams->client = (uint64_t)node->number;
    else if (call->answered == 1 && node->depth == 0 && node->type == REDIS_REPLY_ARRAY)
        streams->notes_known = true;
    else if (call->answered == 1 && node->depth == 2 && node->index == 0)
        redis_id_parse(node->text, &streams->noted);
}

/* What was given back before the first note was known was told by notes that nobody here has read.
 */
static void introduce_end(struct redis_call *call)
{
    struct redis_streams *streams = streams_of(call);

    streams->introducing = false;
    if (streams->notes_known && !streams->caught_up) {
        streams->caught_up = true;
        for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next)
            redis_reader_invite(reader);
    }
    look(streams);
}

static void introduce_lost(struct redis_call *call, struct err why)
{
    (void)why;
    streams_of(call)->introducing = false;
}

static const struct redis_kind introduce_kind = {
    .item_errors = true, .node = introduce_node, .end = introduce_end, .lost = introduce_lost};

/* Notes are read on from the last one that was seen, also over a lost connection. */
static void on_ready(struct redis *redis)
{
    struct redis_streams *streams = CONTAINER_OF(redis, struct redis_streams, waiting);
    struct redis_call *call = redis_begin_own(redis, &introduce_kind, streams);

    streams->introducing = true;
    streams->client = 0;
    streams->may_poke = true;
    redis_command(call, 2, "CLIENT");
    redis_word(call, slice_str("ID"));
    wake_all(streams);
    if (streams->notes_known)
        return;
    redis_command(call, 6, "XREVRANGE");
    redis_word(call, streams->notes);
    redis_word(call, slice_str("+"));
    redis_word(call, slice_str("-"));
    redis_word(call, slice_str("COUNT"));
    redis_word_number(call, 1);
}

void redis_wait_start(struct redis_streams *streams)
{
    if (streams->waiting_started)
        return;
    streams->waiting_started = true;
    streams->wait_job.run = run;
    streams->waiting.on_ready = on_ready;
    redis_start(&streams->waiting, streams->shared.base.store, streams->shared.base.home, true);
}

void redis_wait_stop(struct redis_streams *streams)
{
    timer_disarm(timers_of(streams), &streams->guard);
    timer_disarm(timers_of(streams), &streams->poke_again);
}
