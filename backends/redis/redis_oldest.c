/* Before anything is taken for the first time, by who wants the oldest first: what is pending with
 * others. One who lives tells redis every quarter of claim_idle_ms what it holds, and keeps it. One
 * who has died tells nothing more: all of that can be claimed once it has been idle for
 * claim_idle_ms, in the order of the queue, and only then do newer messages follow. What waits with
 * nobody for its retry is not waited for.
 *
 *   XPENDING .. IDLE   what nobody has spoken of since the first look, and cannot be claimed yet
 *   nothing            the reader goes on: it claims from the start, then it fetches
 *   something          it looks again: once the living must have spoken, then once the last of the
 *                      dead can be claimed, and as soon as somebody gives back
 *
 * It ends within claim_idle_ms: what is idle for so long can be claimed. */
#include "backends/redis/redis_stream.h"

enum { PAGE = 100, SPEAK_PARTS = 4, LATE_PARTS = 16 };

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

/* The least idle one decides: the others can be claimed before it. */
static uint64_t wait_ms(const struct redis_reader *reader)
{
    uint64_t most = claim_idle_ms(reader), left = most - reader->idlest_ms;
    uint64_t spoken = most / SPEAK_PARTS + most / LATE_PARTS, looked = looked_for_ms(reader);

    return looked < spoken && spoken - looked < left ? spoken - looked : left;
}

static void look_end(struct redis_call *call)
{
    struct redis_reader *reader = call->state;

    if (reader->refused == ERR_OK && reader->counted < PAGE) {
        reader->oldest_at = (struct redis_id){0};
        if (reader->idlest_ms >= claim_idle_ms(reader))
            reader->oldest_first = false;
        else if (!reader->invited)
            reader->again_ns = redis_reader_now(reader) + (wait_ms(reader) + 1) * NS_PER_MS;
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
