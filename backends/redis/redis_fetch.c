/* Taking new messages: XREADGROUP, within the credit. Redis bounds an answer in messages only, so
 * their number follows from the size of those that came last. */
#include "backends/redis/redis_stream.h"

enum { MOST = BATCH_MESSAGES };

/* ---- entries of an answer ---- */

static struct redis_held *hold(struct redis_reader *reader, struct redis_id id)
{
    struct redis_held *held = redis_hold(&reader->holds, id);

    redis_held_told(held, reader->sent_ns, true);
    redis_reader_holds(reader, held);
    return held;
}

/* NULL: the reader has it already. */
static struct redis_held *take_held(struct redis_reader *reader, struct redis_id id)
{
    struct redis_held *held = reader->order != NULL ? redis_order_retake(reader, id) : NULL;

    if (held != NULL) {
        redis_held_told(held, reader->sent_ns, true);
        return held;
    }
    return redis_held_find(&reader->holds, id) == NULL ? hold(reader, id) : NULL;
}

static void begin_entry(struct redis_reader *reader, struct slice text)
{
    int64_t credit = reader->subscription->credit_bytes;
    uint64_t most = REDIS_STREAM_HOLD_BYTES + (credit > 0 ? (uint64_t)credit : 0);
    struct redis_id id;

    reader->skips = true;
    if (!redis_id_parse(text, &id))
        return;

    struct redis_held *held = take_held(reader, id);

    if (held == NULL)
        return;
    if (reader->fetched == NULL)
        reader->fetched = redis_fetched_new(reader->key, reader->asked);
    if (reader->fetched->n == reader->fetched->room || reader->fetched->total > most) {
        held->state = HELD_REFUSED;
        return;
    }
    redis_fetched_entry(reader->fetched, id, redis_token(&reader->holds, held));
    reader->fetched->item->attempt = held->attempt;
    reader->skips = false;
}

void redis_take_entry(struct redis_reader *reader, const struct redis_node *node, unsigned depth)
{
    bool text = node->type == REDIS_REPLY_STRING;

    if (node->depth == depth + 1 && node->index == 0 && text)
        begin_entry(reader, node->text);
    else if (reader->skips)
        return;
    else if (node->depth == depth + 1 && node->index == 1 && node->type == REDIS_REPLY_ARRAY)
        redis_fetched_fields(reader->fetched, (size_t)node->number);
    else if (node->depth == depth + 2 && text)
        redis_fetched_word(reader->fetched, node->index, node->text);
}

/* ---- XREADGROUP ---- */

enum { ENTRY_DEPTH = 3 };

static void note_id(struct redis_reader *reader, struct slice text)
{
    struct redis_id id;

    if (!redis_id_parse(text, &id))
        return;
    if (redis_id_compare(id, reader->last) <= 0) {
        /* Somebody has moved the group back. */
        redis_reader_seeked(reader);
        reader->rewound++;
    }
    reader->last = id;
    reader->counted++;
}

static void fetch_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;
    bool tail = call->answers == 2 && call->answered == 0;

    if (node->type == REDIS_REPLY_ERROR) {
        redis_reader_refused(reader, node->text);
    } else if (tail && node->depth == 2 && node->index == 0) {
        redis_id_parse(node->text, &reader->woken);
    } else if (!tail) {
        if (node->depth == ENTRY_DEPTH + 1 && node->index == 0 && node->type == REDIS_REPLY_STRING)
            note_id(reader, node->text);
        redis_take_entry(reader, node, ENTRY_DEPTH);
    }
}

static void learn_sizes(struct redis_reader *reader)
{
    const struct redis_fetched *fetched = reader->fetched;

    reader->largest -= reader->largest / 8;
    for (uint32_t i = 0; fetched != NULL && i < fetched->n; i++) {
        if (fetched->bytes[i] > reader->largest)
            reader->largest = fetched->bytes[i];
    }
}

static void raise_to(struct redis_id *to, struct redis_id id)
{
    if (redis_id_compare(*to, id) < 0)
        *to = id;
}

/* What came, and was not all that was asked for, is all there is. */
static void look_further(struct redis_reader *reader)
{
    if (reader->counted == reader->asked) {
        reader->most = 2 * reader->most < MOST ? 2 * reader->most : MOST;
        return;
    }
    reader->want_fetch = false;
    if (reader->counted > 0) {
        reader->want_tail = false;
        raise_to(&reader->seen, reader->last);
        return;
    }
    if (redis_id_compare(reader->seen, reader->woken) < 0 && !reader->want_tail)
        reader->want_fetch = reader->want_tail = true; /* others were faster: how far are they? */
    raise_to(&reader->seen, reader->woken);
}

void redis_taken(struct redis_reader *reader)
{
    learn_sizes(reader);
    if (reader->order != NULL)
        redis_order_sort(reader);
    if (reader->fetched != NULL && reader->fetched->n == 0) {
        redis_fetched_drop(reader->fetched);
        reader->fetched = NULL;
    }
    if (reader->subscription->credit_messages == 0 && reader->fetched != NULL) {
        redis_fetched_drop(reader->fetched); /* the credit was withdrawn meanwhile */
        reader->fetched = NULL;
        redis_give_back(reader, GIVE_UNREAD);
    } else {
        redis_give_back(reader, GIVE_REFUSED);
    }
}

static void fetch_end(struct redis_call *call)
{
    struct redis_reader *reader = call->state;

    if (reader->refused == ERR_OK)
        look_further(reader);
    redis_taken(reader);
    redis_reader_answered(reader, true);
}

/* Half an answer is none: redis_recover.c finds what was given. */
void redis_taking_lost(struct redis_call *call, struct err why)
{
    struct redis_reader *reader = call->state;

    if (reader->fetched != NULL)
        redis_fetched_drop(reader->fetched);
    reader->fetched = NULL;
    redis_give_back(reader, GIVE_UNREAD);
    redis_reader_lost(call, why);
}

static const struct redis_kind fetch_kind = {
    .item_errors = true, .node = fetch_node, .end = fetch_end, .lost = redis_taking_lost};

uint32_t redis_may_ask(const struct redis_reader *reader)
{
    const struct subscription *subscription = reader->subscription;
    uint64_t n = reader->most;

    if (n > subscription->credit_messages)
        n = subscription->credit_messages;
    if (reader->largest > 0 && n > (uint64_t)subscription->credit_bytes / reader->largest)
        n = (uint64_t)subscription->credit_bytes / reader->largest;
    if (!redis_hold_room(&reader->holds, (uint32_t)n))
        return 0;
    return n > 0 ? (uint32_t)n : 1;
}

void redis_fetch(struct redis_reader *reader)
{
    reader->asked = redis_may_ask(reader);
    if (reader->asked == 0)
        return;

    struct redis_call *call = redis_reader_call(reader, &fetch_kind, true);

    reader->counted = 0;
    if (reader->want_tail)
        redis_say_newest(call, reader->key);
    redis_command(call, 9, "XREADGROUP");
    redis_word(call, slice_str("GROUP"));
    redis_word(call, reader->group);
    redis_word(call, reader->consumer);
    redis_word(call, slice_str("COUNT"));
    redis_word_number(call, reader->asked);
    redis_word(call, slice_str("STREAMS"));
    redis_word(call, reader->key);
    redis_word(call, slice_str(">"));
}
