#include "patterns/consumer/attempts.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/number.h"

#include <inttypes.h>
#include <stdio.h>

enum { VERSION = 'B', ROW_BYTES = 20 };

/* A message that has failed. A topic that is made anew gives the same offsets to others: the
 * timestamp tells them apart. */
struct row {
    int64_t offset;
    uint64_t timestamp_ms;
    uint32_t attempt; /* of its next delivery */
};

struct ledger {
    struct ledger *next;
    struct arena memory; /* holds this struct */
    struct feed *feed;
    int32_t partition;
    struct slice key;
    struct row *rows;
    uint32_t n, cap;
    struct delivery *waiting, **end; /* ARRIVING */
    uint64_t again_ns;               /* not read before */
    bool known, asking, writing, dirty;
    bool stale; /* the partition went while it was being read */
    struct arena answer;
    union {
        struct kv_get get;
        struct kv_put put;
        struct kv_del del;
    };
};

static void tell(struct ledger *ledger);
static void ask(struct ledger *ledger);

bool attempts_are_kept(const struct feed *feed)
{
    return feed->shared && !feed->letters && feed->group_name.len > 0 &&
           feed->consumer->plan.state != NULL;
}

bool attempts_are_idle(const struct feed *feed)
{
    return feed->tallies.pending == 0;
}

void attempts_clear(struct feed *feed)
{
    for (struct ledger *ledger = feed->ledgers, *next; ledger != NULL; ledger = next) {
        struct arena memory = ledger->memory;

        next = ledger->next;
        arena_clear(&memory);
    }
    feed->ledgers = NULL;
}

/* ---- ledgers ---- */

/* Begins with NUL, as no key of a client does: one store may serve both. */
static struct slice key_of(struct arena *arena, const struct feed *feed, int32_t partition)
{
    static const char name[] = "\0attempts";
    char number[16];
    size_t digits = (size_t)snprintf(number, sizeof number, "%" PRId32, partition);
    const struct slice parts[] = {slice_of(name, sizeof name),
                                  feed->topic,
                                  slice_of("", 1),
                                  feed->group_name,
                                  slice_of("", 1),
                                  slice_of(number, digits)};
    uint8_t *out =
        arena_alloc(arena, sizeof name + feed->topic.len + feed->group_name.len + 2 + digits);
    size_t n = 0;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        memcpy(out + n, parts[i].data, parts[i].len);
        n += parts[i].len;
    }
    return slice_of(out, n);
}

static struct ledger *find_ledger(const struct feed *feed, int32_t partition)
{
    struct ledger *ledger = feed->ledgers;

    while (ledger != NULL && ledger->partition != partition)
        ledger = ledger->next;
    return ledger;
}

static struct ledger *ledger_of(struct feed *feed, int32_t partition)
{
    struct ledger *ledger = find_ledger(feed, partition);
    struct arena memory;

    if (ledger != NULL)
        return ledger;
    arena_init(&memory, NULL);
    ledger = arena_zalloc(&memory, sizeof *ledger);
    ledger->memory = memory;
    ledger->feed = feed;
    ledger->partition = partition;
    ledger->key = key_of(&ledger->memory, feed, partition);
    ledger->end = &ledger->waiting;
    ledger->next = feed->ledgers;
    feed->ledgers = ledger;
    return ledger;
}

static struct row *find_row(struct ledger *ledger, int64_t offset)
{
    for (uint32_t i = 0; i < ledger->n; i++) {
        if (ledger->rows[i].offset == offset)
            return &ledger->rows[i];
    }
    return NULL;
}

static void grow(struct ledger *ledger)
{
    uint32_t cap = ledger->cap == 0 ? ATTEMPTS_MOST / 64 : 2 * ledger->cap;
    struct row *rows = arena_array(&ledger->memory, cap, sizeof *rows);

    if (ledger->n > 0)
        memcpy(rows, ledger->rows, ledger->n * sizeof *rows);
    ledger->rows = rows;
    ledger->cap = cap;
}

/* By time first: what a topic of the past has left behind goes before all of this one. */
static bool is_older(const struct row *a, const struct row *b)
{
    return a->timestamp_ms != b->timestamp_ms ? a->timestamp_ms < b->timestamp_ms
                                              : a->offset < b->offset;
}

/* A free row, or that of the oldest message. */
static struct row *take_row(struct ledger *ledger)
{
    struct row *oldest;

    if (ledger->n == ledger->cap && ledger->cap < ATTEMPTS_MOST)
        grow(ledger);
    if (ledger->n < ledger->cap)
        return &ledger->rows[ledger->n++];
    oldest = &ledger->rows[0];
    for (uint32_t i = 1; i < ledger->n; i++) {
        if (is_older(&ledger->rows[i], oldest))
            oldest = &ledger->rows[i];
    }
    return oldest;
}

static void drop_row(struct ledger *ledger, struct row *row)
{
    *row = ledger->rows[--ledger->n];
    tell(ledger);
}

static bool is_of(const struct row *row, const struct incoming *message)
{
    return row->offset == message->offset && row->timestamp_ms == message->timestamp_ms;
}

static void raise_row(struct ledger *ledger, const struct incoming *message)
{
    struct row *row = find_row(ledger, message->offset);

    if (row == NULL)
        row = take_row(ledger);
    else if (is_of(row, message) && row->attempt >= message->attempt)
        return;
    *row = (struct row){.offset = message->offset,
                        .timestamp_ms = message->timestamp_ms,
                        .attempt = message->attempt};
}

static void look_up(struct ledger *ledger, struct incoming *message)
{
    struct row *row = find_row(ledger, message->offset);

    if (row == NULL)
        return;
    if (!is_of(row, message))
        drop_row(ledger, row);
    else if (row->attempt > message->attempt)
        message->attempt = row->attempt;
}

/* ---- bytes ---- */

static struct slice encode(const struct ledger *ledger, struct arena *arena)
{
    uint8_t *out = arena_alloc(arena, 1 + (size_t)ledger->n * ROW_BYTES), *at = out + 1;

    out[0] = VERSION;
    for (uint32_t i = 0; i < ledger->n; i++, at += ROW_BYTES) {
        number_put(at, (uint64_t)ledger->rows[i].offset, 8);
        number_put(at + 8, ledger->rows[i].timestamp_ms, 8);
        number_put(at + 16, ledger->rows[i].attempt, 4);
    }
    return slice_of(out, (size_t)(at - out));
}

/* What is there already is newer: it was raised while this was being read. */
static void take_in(struct ledger *ledger, struct row read)
{
    struct row *row = find_row(ledger, read.offset);

    if (row == NULL)
        *take_row(ledger) = read;
    else if (row->timestamp_ms == read.timestamp_ms && row->attempt < read.attempt)
        row->attempt = read.attempt;
}

static void decode(struct ledger *ledger, struct slice value)
{
    if (value.len == 0 || value.data[0] != VERSION)
        return;
    for (size_t at = 1; at + ROW_BYTES <= value.len; at += ROW_BYTES)
        take_in(ledger, (struct row){.offset = (int64_t)number_get(value.data + at, 8),
                                     .timestamp_ms = number_get(value.data + at + 8, 8),
                                     .attempt = (uint32_t)number_get(value.data + at + 16, 4)});
}

/* ---- reading and writing ---- */

static void start(struct ledger *ledger, struct op *op, op_done_fn *done)
{
    struct feed *feed = ledger->feed;

    arena_init(&ledger->answer, NULL);
    feed->tallies.deadline_ns =
        feed->consumer->base.home->now_ns + ATTEMPTS_PATIENCE_MS * NS_PER_MS;
    op_start(op, &feed->tallies, done);
    op->arena = &ledger->answer;
}

static void count(struct ledger *ledger, struct err err)
{
    struct consumer *consumer = ledger->feed->consumer;

    if (err.code == ERR_OK) {
        trouble_over(&consumer->state_trouble);
        return;
    }
    counter_add(&consumer->stats.state_failures, 1);
    trouble_met(&consumer->state_trouble, "attempts cannot be kept");
    ledger->again_ns = consumer->base.home->now_ns + ATTEMPTS_AGAIN_MS * NS_PER_MS;
    log_limited(&consumer->state_log, LOG_WARN, "attempts_not_kept",
                (const struct log_field[]){LOG_S("namespace", consumer->base.namespace_name),
                                           LOG_S("error", err.text)},
                2);
}

static void written(struct ledger *ledger, struct op *op)
{
    count(ledger, op->err);
    ledger->writing = false;
    arena_clear(&ledger->answer);
    if (!ledger->known && ledger->waiting != NULL)
        ask(ledger); /* the partition went, and came again */
    else if (ledger->known && op->err.code != ERR_OK)
        ledger->dirty = true; /* with the next change */
    else if (ledger->dirty)
        tell(ledger);
    feed_wake(ledger->feed);
}

static void put_done(struct op *op)
{
    struct kv_put *put = CONTAINER_OF(op, struct kv_put, op);

    written(CONTAINER_OF(put, struct ledger, put), op);
}

static void del_done(struct op *op)
{
    struct kv_del *del = CONTAINER_OF(op, struct kv_del, op);

    written(CONTAINER_OF(del, struct ledger, del), op);
}

/* What changes meanwhile is told by the next write. */
static void tell(struct ledger *ledger)
{
    struct consumer *consumer = ledger->feed->consumer;

    ledger->dirty = true;
    if (!ledger->known || ledger->asking || ledger->writing || consumer->plan.state == NULL)
        return;
    ledger->dirty = false;
    ledger->writing = true;
    if (ledger->n == 0) {
        ledger->del = (struct kv_del){.key = ledger->key};
        start(ledger, &ledger->del.op, del_done);
        consumer->plan.state->del(consumer->states, &ledger->del);
        return;
    }
    ledger->put = (struct kv_put){.key = ledger->key};
    start(ledger, &ledger->put.op, put_done);
    ledger->put.value = encode(ledger, &ledger->answer);
    consumer->plan.state->put(consumer->states, &ledger->put);
}

static void let_go(struct ledger *ledger)
{
    while (ledger->waiting != NULL) {
        struct delivery *delivery = ledger->waiting;

        ledger->waiting = delivery->next;
        if (ledger->waiting == NULL)
            ledger->end = &ledger->waiting;
        look_up(ledger, message_of(delivery));
        delivery_arrived(delivery);
    }
}

static void got(struct op *op)
{
    struct kv_get *get = CONTAINER_OF(op, struct kv_get, op);
    struct ledger *ledger = CONTAINER_OF(get, struct ledger, get);
    struct feed *feed = ledger->feed;

    ledger->asking = false;
    count(ledger, op->err);
    if (ledger->stale) { /* who wrote it meanwhile is not in this answer */
        ledger->stale = false;
        arena_clear(&ledger->answer);
        if (ledger->waiting != NULL)
            ask(ledger);
        feed_wake(feed);
        return;
    }
    ledger->known = op->err.code == ERR_OK;
    if (ledger->known && get->found)
        decode(ledger, get->value);
    arena_clear(&ledger->answer);
    let_go(ledger);
    if (ledger->known && ledger->dirty)
        tell(ledger);
    feed_wake(feed);
}

static void ask(struct ledger *ledger)
{
    struct consumer *consumer = ledger->feed->consumer;

    ledger->asking = true;
    ledger->get = (struct kv_get){.key = ledger->key};
    start(ledger, &ledger->get.op, got);
    consumer->plan.state->get(consumer->states, &ledger->get);
}

/* ---- deliveries ---- */

static void wait_for(struct ledger *ledger, struct delivery *delivery)
{
    delivery->state = DELIVERY_ARRIVING;
    delivery->next = NULL;
    *ledger->end = delivery;
    ledger->end = &delivery->next;
}

bool attempts_hold(struct delivery *delivery)
{
    struct feed *feed = parcel_of(delivery)->feed;
    struct ledger *ledger;

    if (!attempts_are_kept(feed) || message_of(delivery)->offset < 0)
        return false;
    ledger = ledger_of(feed, message_of(delivery)->partition);
    if (!ledger->known && !ledger->asking && !ledger->writing &&
        feed->consumer->base.home->now_ns >= ledger->again_ns)
        ask(ledger);
    if (ledger->asking || (ledger->writing && !ledger->known)) {
        wait_for(ledger, delivery);
        return true;
    }
    look_up(ledger, message_of(delivery));
    return false;
}

void attempts_take_out(struct delivery *delivery)
{
    struct ledger *ledger = find_ledger(parcel_of(delivery)->feed, message_of(delivery)->partition);
    struct delivery **at = &ledger->waiting;

    while (*at != delivery)
        at = &(*at)->next;
    *at = delivery->next;
    if (*at == NULL)
        ledger->end = at;
}

void attempts_raised(const struct delivery *delivery)
{
    struct feed *feed = parcel_of(delivery)->feed;
    struct ledger *ledger;

    if (!attempts_are_kept(feed) || message_of(delivery)->offset < 0 || delivery->leaving)
        return;
    ledger = ledger_of(feed, message_of(delivery)->partition);
    raise_row(ledger, message_of(delivery));
    tell(ledger);
}

void attempts_settled(const struct delivery *delivery)
{
    struct feed *feed = parcel_of(delivery)->feed;
    struct ledger *ledger;
    struct row *row = NULL;

    if (feed->ledgers == NULL)
        return;
    ledger = find_ledger(feed, delivery_partition(delivery));
    if (ledger != NULL && ledger->n > 0)
        row = find_row(ledger, delivery_offset(delivery));
    if (row != NULL)
        drop_row(ledger, row);
}

static bool is_meant(const struct ledger *ledger, const int32_t *partitions, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (partitions[i] == ledger->partition)
            return true;
    }
    return n == 0;
}

void attempts_forget(struct feed *feed, const int32_t *partitions, size_t n)
{
    for (struct ledger *ledger = feed->ledgers; ledger != NULL; ledger = ledger->next) {
        if (!is_meant(ledger, partitions, n))
            continue;
        ledger->known = ledger->dirty = false;
        ledger->stale = ledger->asking;
        ledger->n = 0;
        ledger->again_ns = 0;
    }
}
