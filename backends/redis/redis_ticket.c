/* Tickets: a delivery is settled by whoever knows its entry, its consumer and how often redis had
 * handed it over. The consumer is one subscription's, so another subscription's delivery never
 * matches, and neither does the next one of the same, which is counted.
 *
 * Two things that redis does not count make a delivery anew for the same consumer: what goes to
 * somebody else within the process, or was released; and a group that a seek has made anew. So each
 * ticket has a number of its subscription's, and a hash, <key_prefix>:void:<consumer> (in a cluster
 * <key_prefix>:void:{tag}:<consumer>), says up to which number tickets are void: for an entry, or
 * for all. It lives as long as the subscription; what a process that has died leaves goes after
 * VOID_MS.
 *
 *   wire   version, 8 bytes of the entry's time, then varints: its sequence, how often it was
 *          handed over, the ticket's number; the rest is the consumer */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"
#include "src/base/varint.h"

#include <stdlib.h>

enum { VERSION = 1, VOID_MS = 48 * 3600 * 1000, VOID_ENTRIES = 10000, ID_BYTES = 8 };

_Static_assert(TICKET_BYTES >= 1 + ID_BYTES + 3 * VARINT_BYTES + MESSAGE_TOPIC_BYTES + 64,
               "a ticket takes the longest consumer");

struct ticket_of {
    struct redis_id id;
    uint64_t attempt, number;
    struct slice consumer;
};

/* ---- on the wire ---- */

static size_t write_ticket(uint8_t *to, const struct ticket_of *ticket)
{
    uint8_t *at = to;

    *at++ = VERSION;
    for (unsigned i = 0; i < ID_BYTES; i++)
        *at++ = (uint8_t)(ticket->id.ms >> (8 * (ID_BYTES - 1 - i)));
    at = varint_write(at, ticket->id.seq);
    at = varint_write(at, ticket->attempt);
    at = varint_write(at, ticket->number);
    memcpy(at, ticket->consumer.data, ticket->consumer.len);
    return (size_t)(at - to) + ticket->consumer.len;
}

static bool read_ticket(struct slice bytes, struct ticket_of *ticket)
{
    uint64_t *const numbers[] = {&ticket->id.seq, &ticket->attempt, &ticket->number};
    size_t at = 1 + ID_BYTES;

    if (bytes.len <= at || bytes.len > TICKET_BYTES || bytes.data[0] != VERSION)
        return false;
    ticket->id.ms = 0;
    for (unsigned i = 1; i <= ID_BYTES; i++)
        ticket->id.ms = ticket->id.ms << 8 | bytes.data[i];
    for (unsigned i = 0; i < 3; i++) {
        size_t used = varint_read(slice_of(bytes.data + at, bytes.len - at), numbers[i]);

        if (used == 0)
            return false;
        at += used;
    }
    ticket->consumer = slice_of(bytes.data + at, bytes.len - at);
    return slice_starts_with(ticket->consumer, slice_str("prism:")) &&
           !slice_equal(ticket->consumer, slice_str(REDIS_NOBODY));
}

static struct slice voids_key(const struct redis_streams *streams, struct arena *arena,
                              struct slice topic, struct slice consumer)
{
    struct slice name = redis_stream_key(streams, arena, "void", topic);
    uint8_t *key = arena_alloc(arena, name.len + 1 + consumer.len);

    memcpy(key, name.data, name.len);
    key[name.len] = ':';
    memcpy(key + name.len + 1, consumer.data, consumer.len);
    return slice_of(key, name.len + 1 + consumer.len);
}

static struct err over(void)
{
    return err_make(ERR_ABORTED, "the delivery is over: settled, or somebody else's");
}

/* ---- making ---- */

static size_t make(struct backend *backend, const struct subscription *subscription, uint64_t token,
                   uint8_t *to)
{
    struct redis_reader *reader = redis_reader_of(subscription);
    bool of_before;
    const struct redis_held *held =
        reader != NULL ? redis_held_by(&reader->holds, token, &of_before) : NULL;

    (void)backend;
    if (held == NULL || held->state != HELD_OUT)
        return 0;
    return write_ticket(to, &(struct ticket_of){.id = held->id,
                                                .attempt = held->attempt,
                                                .number = ++reader->tickets,
                                                .consumer = reader->consumer});
}

/* ---- settling ---- */

/* One script: tickets of one consumer. */
struct group_of {
    uint32_t first, n;
};

struct ticketing {
    struct settle_tickets *settle;
    struct ticket_of *read;
    uint32_t *order; /* items, by consumer */
    struct group_of *parts;
    uint32_t n, n_parts;
    bool settled;
};

/* Those who hold them here are told by redis, as those elsewhere: see redis_ticket_noted. */
static void tell_readers(const struct redis_streams *streams, const struct ticketing *ticketing,
                         const struct ticket_of *ticket)
{
    const struct settle_tickets *settle = ticketing->settle;

    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next) {
        if (slice_equal(reader->key, settle->topic) && slice_equal(reader->group, settle->group))
            redis_ticket_noted(reader, ticket->id);
    }
}

static void part_failed(const struct ticketing *ticketing, const struct group_of *part,
                        struct err err)
{
    for (uint32_t i = 0; i < part->n; i++)
        ticketing->settle->items[ticketing->order[part->first + i]].err = err;
}

static void ticket_node(struct redis_call *call, const struct redis_node *node)
{
    struct ticketing *ticketing = call->state;
    const struct group_of *part = &ticketing->parts[call->answered];

    if (node->type == REDIS_REPLY_ERROR) {
        part_failed(ticketing, part,
                    redis_error_is(node->text, "NOGROUP")
                        ? over()
                        : redis_stream_error(op_arena(call->op), node->text));
    } else if (node->depth == 1 && node->type == REDIS_REPLY_INTEGER && node->index < part->n) {
        uint32_t item = ticketing->order[part->first + node->index];

        ticketing->settle->items[item].err = node->number == 1 ? ERR_NONE : over();
        if (node->number == 1)
            tell_readers(redis_streams_at(call->redis), ticketing, &ticketing->read[item]);
    }
}

static void ticket_end(struct redis_call *call)
{
    redis_finish(call->redis, call->op, call->err);
}

static void ticket_lost(struct redis_call *call, struct err why)
{
    const struct ticketing *ticketing = call->state;

    if (ticketing == NULL) {
        redis_finish(call->redis, call->op, why);
        return;
    }
    for (uint32_t p = call->answered; p < ticketing->n_parts; p++)
        part_failed(ticketing, &ticketing->parts[p], why);
    redis_finish(call->redis, call->op, ERR_NONE);
}

static const struct redis_kind ticket_kind = {.writes = true,
                                              .item_errors = true,
                                              .node = ticket_node,
                                              .end = ticket_end,
                                              .lost = ticket_lost};

struct sorted {
    struct slice consumer;
    uint32_t item;
};

static int by_consumer(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    int order = slice_compare(x->consumer, y->consumer);

    return order != 0 ? order : x->item < y->item ? -1 : 1;
}

static void make_parts(struct ticketing *ticketing, const struct sorted *sorted)
{
    struct group_of *part = NULL;

    for (uint32_t i = 0; i < ticketing->n; i++) {
        ticketing->order[i] = sorted[i].item;
        if (part == NULL || part->n == REDIS_STEP_IDS ||
            !slice_equal(sorted[i].consumer, sorted[i - 1].consumer)) {
            part = &ticketing->parts[ticketing->n_parts++];
            *part = (struct group_of){.first = i};
        }
        part->n++;
    }
}

/* Those that are none have their outcome. */
static struct ticketing *read_all(struct settle_tickets *settle)
{
    struct arena *arena = op_arena(&settle->op);
    struct ticketing *ticketing = arena_zalloc(arena, sizeof *ticketing);
    struct sorted *sorted = arena_array(arena, settle->n, sizeof *sorted);

    ticketing->settle = settle;
    ticketing->read = arena_array(arena, settle->n, sizeof *ticketing->read);
    ticketing->order = arena_array(arena, settle->n, sizeof *ticketing->order);
    ticketing->parts = arena_array(arena, settle->n, sizeof *ticketing->parts);
    for (uint32_t i = 0; i < settle->n; i++) {
        struct ticket *item = &settle->items[i];

        item->err = ERR_NONE;
        if (read_ticket(item->bytes, &ticketing->read[i]))
            sorted[ticketing->n++] =
                (struct sorted){.consumer = ticketing->read[i].consumer, .item = i};
        else
            item->err = err_make(ERR_INVALID_ARGUMENT, "no ticket of this source");
    }
    qsort(sorted, ticketing->n, sizeof *sorted, by_consumer);
    make_parts(ticketing, sorted);
    return ticketing;
}

static void say_part(struct redis_call *call, const struct ticketing *ticketing,
                     const struct group_of *part)
{
    const struct redis_streams *streams = redis_streams_at(call->redis);
    const struct settle_tickets *settle = ticketing->settle;
    struct slice consumer = ticketing->read[ticketing->order[part->first]].consumer;
    struct arena *arena = op_arena(&settle->op);
    char text[REDIS_ID_BYTES];

    redis_say_script(call, redis_script_ticket, 3, 3 + 3 * part->n);
    redis_word(call, settle->topic);
    redis_word(call, redis_stream_key(streams, arena, "wake", settle->topic));
    redis_word(call, voids_key(streams, arena, settle->topic, consumer));
    redis_word(call, settle->group);
    redis_word(call, consumer);
    redis_word(call, slice_str(streams->origin));
    for (uint32_t i = 0; i < part->n; i++) {
        const struct ticket_of *ticket = &ticketing->read[ticketing->order[part->first + i]];

        redis_word(call, redis_id_text(ticket->id, text));
        redis_word_number(call, ticket->attempt);
        redis_word_number(call, ticket->number);
    }
}

static void settle(struct backend *backend, struct settle_tickets *settle)
{
    struct redis *redis = redis_to_key(redis_of(backend), settle->topic);
    struct err err = redis_stream_check_name(redis, settle->topic);
    struct ticketing *ticketing = read_all(settle);

    if (err.code != ERR_OK || ticketing->n == 0) {
        redis_finish(redis, &settle->op, err);
        return;
    }

    size_t bytes = ticketing->n * 3 * redis_words(2) + ticketing->n_parts * 3072;
    struct redis_call *call = redis_begin(redis, &settle->op, &ticket_kind, bytes);

    if (call == NULL)
        return;
    call->state = ticketing;
    for (uint32_t p = 0; p < ticketing->n_parts; p++)
        say_part(call, ticketing, &ticketing->parts[p]);
}

/* ---- recalling ---- */

struct recalling {
    struct redis_reader *reader;
    struct recall *recall;
    uint32_t *order;
    uint32_t n;
};

static void recall_node(struct redis_call *call, const struct redis_node *node)
{
    const struct recalling *recalling = call->state;
    struct redis_reader *reader = recalling->reader;
    size_t at = call->answered * (size_t)REDIS_STEP_IDS + node->index;
    bool of_before;

    if (node->type == REDIS_REPLY_ERROR && !redis_error_is(node->text, "NOGROUP"))
        call->err = redis_stream_error(op_arena(call->op), node->text);
    if (node->depth != 1 || node->type != REDIS_REPLY_INTEGER || at >= recalling->n)
        return;

    struct recalled *item = &recalling->recall->items[recalling->order[at]];
    struct redis_held *held = redis_held_by(&reader->holds, item->token, &of_before);

    if (held != NULL && node->number == 1) {
        item->err = ERR_NONE;
        return;
    }
    if (held != NULL)
        redis_let_go(&reader->holds, held);
}

static void recall_end(struct redis_call *call)
{
    const struct recalling *recalling = call->state;

    redis_finish(call->redis, call->op, call->err);
    redis_reader_answered(recalling->reader, false);
}

static void recall_lost(struct redis_call *call, struct err why)
{
    const struct recalling *recalling = call->state;

    redis_finish(call->redis, call->op, why);
    if (recalling != NULL)
        redis_reader_answered(recalling->reader, false);
}

static const struct redis_kind recall_kind = {.writes = true,
                                              .item_errors = true,
                                              .node = recall_node,
                                              .end = recall_end,
                                              .lost = recall_lost};

static void say_recall(struct redis_call *call, struct redis_reader *reader, unsigned n)
{
    if (message_is_null(reader->voids))
        reader->voids = voids_key(reader->streams, &reader->texts, reader->key, reader->consumer);
    redis_say_script(call, redis_script_recall, 2, 5 + n);
    redis_word(call, reader->key);
    redis_word(call, reader->voids);
    redis_word(call, reader->group);
    redis_word(call, reader->consumer);
    redis_word_number(call, reader->tickets);
    redis_word_number(call, VOID_MS);
    redis_word_number(call, VOID_ENTRIES);
}

static struct recalling *look(struct redis_reader *reader, struct recall *recall)
{
    struct arena *arena = op_arena(&recall->op);
    struct recalling *recalling = arena_zalloc(arena, sizeof *recalling);

    *recalling = (struct recalling){.reader = reader, .recall = recall};
    recalling->order = arena_array(arena, recall->n, sizeof *recalling->order);
    for (uint32_t i = 0; i < recall->n; i++) {
        bool of_before;

        recall->items[i].err = over();
        if (redis_held_by(&reader->holds, recall->items[i].token, &of_before) != NULL)
            recalling->order[recalling->n++] = i;
    }
    return recalling;
}

static void recall(struct backend *backend, struct recall *recall)
{
    struct redis_reader *reader = redis_reader_of(recall->subscription);
    struct redis *redis = redis_reader_at(reader);
    struct recalling *recalling = look(reader, recall);
    struct redis_call *call;
    char text[REDIS_ID_BYTES];
    bool of_before;

    (void)backend;
    if (recalling->n == 0) {
        redis_finish(redis, &recall->op, ERR_NONE);
        return;
    }
    call = redis_begin(redis, &recall->op, &recall_kind, recalling->n * redis_words(2) + 2048);
    if (call == NULL)
        return;
    call->state = recalling;
    reader->calls++;
    for (uint32_t i = 0; i < recalling->n; i++) {
        uint32_t left = recalling->n - i;
        uint64_t token = recall->items[recalling->order[i]].token;

        if (i % REDIS_STEP_IDS == 0)
            say_recall(call, reader, left < REDIS_STEP_IDS ? left : REDIS_STEP_IDS);
        redis_word(call, redis_id_text(redis_held_by(&reader->holds, token, &of_before)->id, text));
    }
}

const struct message_tickets redis_tickets = {.make = make, .settle = settle, .recall = recall};

/* ---- all deliveries of a reader are void ---- */

static void void_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;

    if (node->type == REDIS_REPLY_ERROR)
        redis_reader_refused(reader, node->text);
}

static void void_end(struct redis_call *call)
{
    redis_reader_answered(call->state, false);
}

static void void_lost(struct redis_call *call, struct err why)
{
    struct redis_reader *reader = call->state;

    (void)why;
    reader->void_tickets = true;
    redis_reader_answered(reader, false);
}

static const struct redis_kind void_kind = {
    .item_errors = true, .node = void_node, .end = void_end, .lost = void_lost};

void redis_ticket_void_all(struct redis_reader *reader)
{
    struct redis_call *call = redis_reader_call(reader, &void_kind, false);

    reader->void_tickets = false;
    say_recall(call, reader, 0);
}

/* ---- what others have settled ---- */

void redis_ticket_noted(struct redis_reader *reader, struct redis_id id)
{
    struct redis_held *held = redis_held_find(&reader->holds, id);

    if (held == NULL || reader->tickets == 0 || held->state == HELD_SETTLING || held->noted)
        return;
    held->noted = true;
    redis_reader_doubt(reader, held);
}
