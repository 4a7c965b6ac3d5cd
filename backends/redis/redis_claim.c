/* Taking what others have given back, or left behind when they died: XAUTOCLAIM, a part of the
 * group's pending entries at a time, then XPENDING for how often each was handed over. */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"

enum { ENTRY_DEPTH = 2, SWEEP_IDLE_MS = 24 * 3600 * 1000 };
enum { SECTION_ENTRIES = 1, SECTION_DELETED = 2 };

static void count_attempts(struct redis_reader *reader);

/* ---- attempts ---- */

/* [[id, consumer, idle, attempts]], or nothing. */
static void attempts_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;
    struct redis_fetched *fetched = reader->fetched;
    bool of_before;

    if (node->type == REDIS_REPLY_ERROR) {
        redis_reader_refused(reader, node->text);
        return;
    }
    if (node->depth != 2 || node->index != 3 || fetched == NULL || call->answered >= fetched->n)
        return;

    struct incoming *item = &fetched->items[call->answered];
    struct redis_held *held = redis_held_by(&reader->holds, item->token, &of_before);

    item->attempt = node->number > 0 ? (uint32_t)node->number : 1;
    if (held != NULL)
        redis_held_count(held, item->attempt);
}

static void attempts_end(struct redis_call *call)
{
    redis_taken(call->state);
    redis_reader_answered(call->state, true);
}

static const struct redis_kind attempts_kind = {
    .item_errors = true, .node = attempts_node, .end = attempts_end, .lost = redis_taking_lost};

static void count_attempts(struct redis_reader *reader)
{
    struct redis_call *call = redis_reader_call(reader, &attempts_kind, true);

    for (uint32_t i = 0; i < reader->fetched->n; i++) {
        redis_command(call, 6, "XPENDING");
        redis_word(call, reader->key);
        redis_word(call, reader->group);
        redis_word(call, reader->fetched->items[i].position);
        redis_word(call, reader->fetched->items[i].position);
        redis_word_number(call, 1);
    }
}

/* ---- XAUTOCLAIM ---- */

static void claim_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;

    if (call->answered > 0)
        return; /* the sweep's */
    if (node->type == REDIS_REPLY_ERROR) {
        redis_reader_refused(reader, node->text);
        return;
    }
    if (node->depth == 1)
        reader->section = node->index;
    if (node->depth == 1 && node->index == 0)
        redis_id_parse(node->text, &reader->claim_at);
    else if (node->depth >= 2 && reader->section == SECTION_ENTRIES)
        redis_take_entry(reader, node, ENTRY_DEPTH);
    else if (node->depth == 2 && reader->section == SECTION_DELETED)
        reader->counted++;
}

static void claim_end(struct redis_call *call)
{
    struct redis_reader *reader = call->state;

    if (reader->refused == ERR_OK)
        reader->want_claim = reader->claim_at.ms != 0 || reader->claim_at.seq != 0;
    if (reader->invited) { /* meanwhile: this pass may have been over before */
        reader->want_claim = true;
        reader->claim_at = (struct redis_id){0};
    }
    if (reader->order != NULL && !reader->want_claim)
        reader->order->takes_over = false;
    if (reader->counted > 0)
        redis_reader_gap(reader, reader->counted,
                         "entries were removed from the stream before they were settled");
    if (redis_reader_at(reader) != call->redis) { /* the cluster has moved the topic meanwhile */
        redis_taking_lost(call, ERR_NONE);
        return;
    }
    redis_reader_answered(reader, true);
    if (reader->fetched != NULL && reader->fetched->n > 0 && !reader->closing)
        count_attempts(reader);
    else
        redis_taken(reader);
}

static const struct redis_kind claim_kind = {
    .item_errors = true, .node = claim_node, .end = claim_end, .lost = redis_taking_lost};

/* At the beginning of a pass. */
static void say_sweep(struct redis_call *call, const struct redis_reader *reader)
{
    redis_say_script(call, redis_script_sweep, 1, 3);
    redis_word(call, reader->key);
    redis_word(call, reader->group);
    redis_word(call, slice_str(REDIS_NOBODY));
    redis_word_number(call, SWEEP_IDLE_MS);
}

/* Who takes a group over from another takes all that is pending, so that nothing overtakes it. */
static uint64_t idle_ms(const struct redis_reader *reader)
{
    if (reader->order != NULL && reader->order->takes_over)
        return 0;
    return redis_store_of(&reader->streams->shared)->claim_idle_ms;
}

void redis_claim(struct redis_reader *reader)
{
    char at[REDIS_ID_BYTES];

    reader->asked = redis_may_ask(reader);
    if (reader->asked == 0)
        return;

    struct redis_call *call = redis_reader_call(reader, &claim_kind, true);

    reader->invited = false;
    reader->counted = 0;
    reader->section = 0;
    redis_command(call, 8, "XAUTOCLAIM");
    redis_word(call, reader->key);
    redis_word(call, reader->group);
    redis_word(call, reader->consumer);
    redis_word_number(call, idle_ms(reader));
    redis_word(call, redis_id_text(reader->claim_at, at));
    redis_word(call, slice_str("COUNT"));
    redis_word_number(call, reader->asked);
    if (reader->claim_at.ms == 0 && reader->claim_at.seq == 0 && !reader->swept) {
        reader->swept = true;
        say_sweep(call, reader);
    }
}
