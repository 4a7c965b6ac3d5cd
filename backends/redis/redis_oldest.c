/* Before anything is taken for the first time, by who wants the oldest first: what is pending with
 * others. One who lives tells redis what it holds, every quarter of claim_idle_ms and when a note
 * asks for it, and keeps it. One who has died tells nothing more: all of that can be claimed once
 * it has been idle for claim_idle_ms, in the order of the queue, and only then do newer messages
 * follow. What waits with nobody for its retry is not waited for.
 *
 *   XPENDING .. IDLE   what nobody has spoken of since the first look, and cannot be claimed yet
 *   nothing            the reader goes on: it claims from the start, then it fetches
 *   something          it asks who holds it, and looks again: soon, a few times; once the living
 *                      must have spoken unasked; then once the last of the dead can be claimed; and
 *                      as soon as somebody gives back
 *
 * Asking makes the living speak earlier, and decides nothing: whoever does not hear of it loses no
 * more than by being silent for claim_idle_ms.
 *
 * It ends within claim_idle_ms: what is idle for so long can be claimed. */
#include "backends/redis/redis_stream.h"

enum { PAGE = 100, SPEAK_PARTS = 4, LATE_PARTS = 16 };

enum {
    ANSWER_MS = 10, /* then twice as long, and so on */
    ANSWER_LOOKS = 6,
    NOTE_EVERY_MS = 100 /* of an instance: others' notes have to be read as well */
};

static uint64_t claim_idle_ms(const struct redis_reader *reader)
{
    return redis_store_of(&reader->streams->shared)->claim_idle_ms;
}

static uint64_t looked_for_ms(const struct redis_reader *reader)
{
    return (redis_reader_now(reader) - reader->oldest_ns) / NS_PER_MS;
}

/* [[id, consumer, idle, attempts] ..] */
static void look_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;

    if (node->type == REDIS_REPLY_ERROR) {
        redis_reader_refused(reader, node->text);
    } else if (node->depth == 2 && node->index == 0) {
        reader->counted++;
        redis_id_parse(node->text, &reader->oldest_at);
    } else if (node->depth == 2 && node->index == 1) {
        reader->skips = slice_equal(node->text, slice_str(REDIS_NOBODY));
    } else if (node->depth == 2 && node->index == 2 && !reader->skips) {
        uint64_t idle_ms = node->number > 0 ? (uint64_t)node->number : 0;

        if (idle_ms < reader->idlest_ms)
            reader->idlest_ms = idle_ms;
    }
}

static void asked_node(struct redis_call *call, const struct redis_node *node)
{
    (void)call; /* where it is not permitted, they speak unasked */
    (void)node;
}

static void asked_end(struct redis_call *call)
{
    redis_reader_answered(call->state, false);
}

static void asked_lost(struct redis_call *call, struct err why)
{
    (void)why;
    asked_end(call);
}

static const struct redis_kind ask_kind = {
    .item_errors = true, .node = asked_node, .end = asked_end, .lost = asked_lost};

/* Of many who come at once a few ask others; the rest waits for them to speak unasked. */
static bool may_note(struct redis_streams *streams, uint64_t now_ns)
{
    if (now_ns < streams->note_ns)
        return false;
    streams->note_ns = now_ns + NOTE_EVERY_MS * NS_PER_MS;
    return true;
}

static void ask_others(struct redis_reader *reader)
{
    struct redis_call *call = redis_reader_call(reader, &ask_kind, false);
    const struct slice words[] = {
        reader->notes,      slice_str("MAXLEN"), slice_str("1000"),
        slice_str("*"),     slice_str("from"),   slice_str(reader->streams->origin),
        slice_str("topic"), reader->key,         slice_str("group"),
        reader->group,      slice_str("what"),   slice_str(REDIS_NOTE_ASK)};

    redis_command(call, 1 + ARRAY_LEN(words), "XADD");
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        redis_word(call, words[i]);
}

/* An instance does not listen to its own notes. */
static void ask(struct redis_reader *reader)
{
    if (may_note(reader->streams, redis_reader_now(reader)))
        ask_others(reader);
    for (struct redis_reader *r = reader->streams->readers; r != NULL; r = r->next) {
        if (r != reader && slice_equal(r->key, reader->key) && slice_equal(r->group, reader->group))
            redis_reader_speak(r);
    }
}

/* The least idle one decides: the others can be claimed before it. */
static uint64_t wait_ms(const struct redis_reader *reader)
{
    uint64_t most = claim_idle_ms(reader), left = most - reader->idlest_ms;
    uint64_t spoken = most / SPEAK_PARTS + most / LATE_PARTS, looked = looked_for_ms(reader);

    return looked < spoken && spoken - looked < left ? spoken - looked : left;
}

static void look_again(struct redis_reader *reader)
{
    uint64_t wait = wait_ms(reader);

    if (reader->looks < ANSWER_LOOKS) {
        uint64_t answered = (uint64_t)ANSWER_MS << reader->looks++;

        wait = answered < wait ? answered : wait;
        ask(reader);
    }
    reader->again_ns = redis_reader_now(reader) + (wait + 1) * NS_PER_MS;
}

static void look_end(struct redis_call *call)
{
    struct redis_reader *reader = call->state;

    if (reader->refused == ERR_OK && reader->counted < PAGE) {
        reader->oldest_at = (struct redis_id){0};
        if (reader->idlest_ms >= claim_idle_ms(reader))
            reader->oldest_first = false;
        else if (!reader->invited)
            look_again(reader);
    }
    redis_reader_answered(reader, true);
}

static const struct redis_kind look_kind = {
    .item_errors = true, .node = look_node, .end = look_end, .lost = redis_reader_lost};

void redis_oldest(struct redis_reader *reader)
{
    bool first = reader->oldest_at.ms == 0 && reader->oldest_at.seq == 0;
    struct redis_call *call = redis_reader_call(reader, &look_kind, true);
    char text[REDIS_ID_BYTES];

    if (first) {
        reader->idlest_ms = UINT64_MAX;
        reader->invited = false;
    }
    if (reader->oldest_ns == 0)
        reader->oldest_ns = redis_reader_now(reader);
    reader->counted = 0;
    redis_command(call, 8, "XPENDING");
    redis_word(call, reader->key);
    redis_word(call, reader->group);
    redis_word(call, slice_str("IDLE"));
    redis_word_number(call, looked_for_ms(reader));
    redis_word_joined(call, slice_str(first ? "" : "("),
                      redis_id_text(first ? (struct redis_id){0} : reader->oldest_at, text));
    redis_word(call, slice_str("+"));
    redis_word_number(call, PAGE);
}
