/* A watch: a connection that waits, with one XREAD BLOCK for the notes and for all of its topics of
 * which the readers have fetched everything. It says no more than that there is something. On one
 * server there is one; in a cluster, one for each hash tag, from the first reader to the last.
 *
 *   a reader is done     redis_wait_for: its topic belongs to the next XREAD
 *   one is under way     CLIENT UNBLOCK, from the other connection, ends it; again until it has,
 *                        because the XREAD may still be on its way
 *   its answer comes     the readers of these topics fetch; the others are asked for again
 *
 * Asking for many topics costs redis a microsecond or two for each, so the next XREAD comes a
 * little later for each of them: what happens meanwhile shares it.
 *
 * Where CLIENT ID or UNBLOCK is not permitted, an XREAD blocks for a short time only.
 *
 * In a cluster, a watch whose slot has gone to another node is told so (MOVED) or finds out by the
 * map. Then its connection is given up, and the next one goes where the slot is. */
#include "backends/redis/redis_watch.h"

enum {
    BLOCK_MS = 10000,
    SHORT_MS = 50,
    POKE_MS = 1,
    REFUSED_MS = 200,
    KEY_US = 20,
    POLL_MS = 200, /* for readers without a watch */
};

static bool waits(const struct redis_watch *watch, const struct redis_reader *reader)
{
    return reader->watch == watch && reader->waiting && !reader->closing &&
           subscription_may_take(reader->subscription);
}

/* ---- what has come ---- */

static void wake_readers(struct redis_watch *watch, struct redis_id id)
{
    struct slice key = slice_of(watch->read.key, watch->read.key_len);

    for (struct redis_reader *reader = watch->streams->readers; reader != NULL;
         reader = reader->next) {
        if (reader->watch != watch || !reader->waiting || !slice_equal(reader->key, key))
            continue;
        reader->waiting = false;
        reader->want_fetch = true;
        reader->woken = id;
        redis_reader_wake(reader);
    }
}

static bool is_noted(const struct redis_watch *watch, const struct redis_reader *reader)
{
    return !watch->read.is_ours &&
           slice_equal(reader->key, slice_of(watch->read.topic, watch->read.topic_len)) &&
           slice_equal(reader->group, slice_of(watch->read.group, watch->read.group_len));
}

static void act_on_id(struct redis_watch *watch, struct slice text)
{
    struct redis_id id;

    for (struct redis_reader *reader = watch->streams->readers; reader != NULL;
         reader = reader->next) {
        if (is_noted(watch, reader) && redis_id_parse(text, &id))
            redis_ticket_noted(reader, id);
    }
}

static void act_on_note(struct redis_watch *watch)
{
    for (struct redis_reader *reader = watch->streams->readers; reader != NULL;
         reader = reader->next) {
        if (!is_noted(watch, reader))
            continue;
        if (watch->read.is_ask) {
            redis_reader_speak(reader);
            continue;
        }
        if (!watch->read.is_seek) {
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

enum field { FIELD_FROM, FIELD_TOPIC, FIELD_GROUP, FIELD_WHAT, FIELD_ID, FIELD_OTHER };

static void take_note(struct redis_watch *watch, size_t index, struct slice word)
{
    static const char *const names[] = {"from", "topic", "group", "what", "id"};

    if (index % 2 == 0) {
        watch->read.field = FIELD_FROM;
        while (watch->read.field < FIELD_OTHER &&
               !slice_equal(word, slice_str(names[watch->read.field])))
            watch->read.field++;
        return;
    }
    if (watch->read.field == FIELD_FROM)
        watch->read.is_ours = slice_equal(word, slice_str(watch->streams->origin));
    else if (watch->read.field == FIELD_TOPIC)
        keep_word(watch->read.topic, &watch->read.topic_len, word);
    else if (watch->read.field == FIELD_GROUP)
        keep_word(watch->read.group, &watch->read.group_len, word);
    else if (watch->read.field == FIELD_WHAT) {
        watch->read.is_seek = slice_equal(word, slice_str("seek"));
        watch->read.is_ask = slice_equal(word, slice_str(REDIS_NOTE_ASK));
    } else if (watch->read.field == FIELD_ID)
        act_on_id(watch, word);
    if (watch->read.field == FIELD_WHAT && !slice_equal(word, slice_str("settled")))
        act_on_note(watch);
}

/* [[key, [[id, [word ..]]]] ..] */
static void read_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_watch *watch = redis_watch_of(call);
    struct redis_id id;

    if (node->type == REDIS_REPLY_ERROR) {
        watch->read.refused = true;
    } else if (node->depth == 2 && node->index == 0 && node->type == REDIS_REPLY_STRING) {
        keep_word(watch->read.key, &watch->read.key_len, node->text);
        watch->read.is_note = slice_equal(node->text, watch->notes);
    } else if (node->depth == 4 && node->index == 0 && redis_id_parse(node->text, &id)) {
        if (watch->read.is_note)
            watch->noted = id;
        else
            wake_readers(watch, id);
    } else if (node->depth == 5 && watch->read.is_note) {
        take_note(watch, node->index, node->text);
    }
}

static void on_refused_over(struct timer *timer)
{
    struct redis_watch *watch = CONTAINER_OF(timer, struct redis_watch, guard);

    watch->refused_over = true;
    redis_watch_look(watch);
}

/* One topic that is no stream any more has it refused for all: each reader finds out for itself. */
static void read_end(struct redis_call *call)
{
    struct redis_watch *watch = redis_watch_of(call);

    watch->asked = false;
    timer_disarm(redis_watch_timers(watch), &watch->guard);
    if (!watch->read.refused) {
        redis_watch_look(watch);
        return;
    }
    watch->changed = false;
    timer_arm(redis_watch_timers(watch), &watch->guard,
              redis_watch_now(watch) + REFUSED_MS * NS_PER_MS, on_refused_over);
}

static void read_lost(struct redis_call *call, struct err why)
{
    struct redis_watch *watch = redis_watch_of(call);

    (void)why;
    watch->asked = false;
    timer_disarm(redis_watch_timers(watch), &watch->guard);
}

static const struct redis_kind read_kind = {
    .item_errors = true, .node = read_node, .end = read_end, .lost = read_lost};

/* ---- asking ---- */

static void on_silence(struct timer *timer)
{
    struct redis_watch *watch = CONTAINER_OF(timer, struct redis_watch, guard);

    redis_drop(&watch->connection, redis_unavailable("redis did not end a wait"));
}

static unsigned block_ms(const struct redis_watch *watch)
{
    return watch->client != 0 && watch->may_poke ? BLOCK_MS : SHORT_MS;
}

static void say_read(struct redis_watch *watch, unsigned keys)
{
    struct redis_call *call = redis_begin_own(&watch->connection, &read_kind, watch);
    char text[REDIS_ID_BYTES];

    redis_command(call, 6 + 2 * keys, "XREAD");
    redis_word(call, slice_str("BLOCK"));
    redis_word_number(call, block_ms(watch));
    redis_word(call, slice_str("COUNT"));
    redis_word_number(call, 1);
    redis_word(call, slice_str("STREAMS"));
    if (watch->notes_known)
        redis_word(call, watch->notes);
    for (struct redis_reader *reader = watch->streams->readers; reader != NULL;
         reader = reader->next) {
        if (waits(watch, reader))
            redis_word(call, reader->key);
    }
    if (watch->notes_known)
        redis_word(call, redis_id_text(watch->noted, text));
    for (struct redis_reader *reader = watch->streams->readers; reader != NULL;
         reader = reader->next) {
        if (waits(watch, reader))
            redis_word(call, redis_id_text(reader->seen, text));
    }
}

static void ask(struct redis_watch *watch)
{
    uint64_t now = redis_watch_now(watch);
    unsigned keys = watch->notes_known && watch->readers > 0;

    for (struct redis_reader *reader = watch->streams->readers; reader != NULL;
         reader = reader->next)
        keys += waits(watch, reader);
    watch->changed = false;
    if (keys == 0)
        return;
    watch->asked = true;
    watch->rest_ns = now + keys * KEY_US * 1000ull;
    watch->read.refused = false;
    say_read(watch, keys);
    timer_arm(redis_watch_timers(watch), &watch->guard,
              now + BLOCK_MS * NS_PER_MS + redis_store_of(&watch->connection)->command_timeout_ns,
              on_silence);
}

/* ---- ending a wait ---- */

static void on_poke_again(struct timer *timer)
{
    redis_watch_look(CONTAINER_OF(timer, struct redis_watch, poke_again));
}

static void poke_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_ERROR)
        redis_watch_of(call)->may_poke = false;
}

static void poke_end(struct redis_call *call)
{
    struct redis_watch *watch = redis_watch_of(call);

    watch->poking = false;
    if (watch->closing)
        redis_watch_over(watch);
    else if (watch->changed)
        timer_arm(redis_watch_timers(watch), &watch->poke_again,
                  redis_watch_now(watch) + POKE_MS * NS_PER_MS, on_poke_again);
}

static void poke_lost(struct redis_call *call, struct err why)
{
    (void)why;
    redis_watch_of(call)->poking = false;
    redis_watch_over(redis_watch_of(call));
}

static const struct redis_kind poke_kind = {
    .item_errors = true, .node = poke_node, .end = poke_end, .lost = poke_lost};

static void poke(struct redis_watch *watch)
{
    struct redis *owner = redis_watch_owner(watch);

    if (watch->poking || watch->client == 0 || !watch->may_poke || owner->phase != REDIS_READY)
        return;
    watch->poking = true;

    struct redis_call *call = redis_begin_own(owner, &poke_kind, watch);

    redis_command(call, 3, "CLIENT");
    redis_word(call, slice_str("UNBLOCK"));
    redis_word_number(call, watch->client);
}

void redis_watch_run(struct job *job)
{
    struct redis_watch *watch = CONTAINER_OF(job, struct redis_watch, job);

    watch->landed = false;
    if (watch->closing) {
        redis_watch_over(watch);
        return;
    }
    if (watch->refused_over)
        redis_watch_wake(watch);
    watch->refused_over = false;
    if (watch->connection.phase != REDIS_READY || watch->introducing)
        return;
    if (redis_watch_strayed(watch))
        redis_drop(&watch->connection, redis_unavailable("the slot has gone to another node"));
    else if (watch->rest_ns > redis_watch_now(watch))
        timer_arm(redis_watch_timers(watch), &watch->poke_again, watch->rest_ns, on_poke_again);
    else if (!watch->asked)
        ask(watch);
    else if (watch->changed)
        poke(watch);
}

void redis_wait_for(struct redis_reader *reader)
{
    if (reader->waiting)
        return;
    if (reader->watch == NULL) {
        reader->want_fetch = true;
        reader->again_ns = redis_reader_now(reader) + POLL_MS * NS_PER_MS;
        return;
    }
    reader->waiting = true;
    reader->watch->changed = true;
    redis_watch_look(reader->watch);
}
