/* Batches that wait, and the frames in which they leave. While a frame is on its way, others
 * gather: the slower the client, the fuller the frames. */
#include "patterns/multicast_registry/receiver.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK_BACK = 8, FEWEST_FAILURES = 16 };

static struct attachment *attachment_of(const struct incoming_batch *batch)
{
    return CONTAINER_OF(batch->subscription, struct attachment, subscription);
}

static struct incoming_batch *next_of(const struct incoming_batch *batch)
{
    return batch->holder;
}

void inbox_take(struct receiver *r, struct incoming_batch *batch)
{
    batch->holder = NULL;
    if (r->ending) {
        incoming_drop(batch, batch->n);
        return;
    }
    if (r->first == NULL)
        r->first = batch;
    else
        r->last->holder = batch;
    r->last = batch;
    r->waiting_bytes += batch->bytes;
    counter_add(&r->multicast->stats.received, batch->n);

    struct err err = call_hold(r->call, r->waiting_bytes);

    if (err.code != ERR_OK)
        receiver_end(r, err);
    else
        receiver_look(r);
}

void inbox_fail(struct receiver *r, const struct attachment *a, struct err err)
{
    pb_receive_failure *failure = arena_alloc(&r->failures_arena, sizeof *failure);

    if (r->failures.n == r->failures.room) {
        size_t room = r->failures.room > 0 ? r->failures.room * 2 : FEWEST_FAILURES;
        pb_receive_failure **at = arena_array(&r->failures_arena, room, sizeof *at);

        for (size_t i = 0; i < r->failures.n; i++)
            at[i] = r->failures.at[i];
        r->failures.at = at;
        r->failures.room = room;
    }
    prism__patterns__multicast_registry__receive_failure__init(failure);
    failure->identity = arena_strdup(&r->failures_arena, slice_of(a->identity, a->identity_len));
    failure->code = (int32_t)err.code;
    failure->error = arena_strdup(&r->failures_arena, slice_str(err.text));
    r->failures.at[r->failures.n++] = failure;
    r->why = err; /* of a Subscribe that has nothing left */
    r->has_news = true;
}

void inbox_forget(struct receiver *r, const struct attachment *a)
{
    struct incoming_batch *kept = NULL, *batch, *next;

    for (batch = r->first, r->first = NULL; batch != NULL; batch = next) {
        next = next_of(batch);
        if (attachment_of(batch) == a) {
            if (kept == NULL)
                r->inbox_at = 0;
            r->waiting_bytes -= batch->bytes;
            incoming_drop(batch, batch->left);
            continue;
        }
        batch->holder = NULL;
        if (kept == NULL)
            r->first = batch;
        else
            kept->holder = batch;
        kept = batch;
    }
    r->last = kept;
}

void inbox_drop(struct receiver *r)
{
    while (r->first != NULL) {
        struct incoming_batch *batch = r->first;

        r->first = next_of(batch);
        incoming_drop(batch, batch->left);
    }
    r->inbox_at = 0;
    r->waiting_bytes = 0;
}

/* ---- frames ---- */

struct framing {
    struct receiver *receiver;
    struct arena arena;
    pb_receive_frame frame;
    pb_multicast_message *messages[FRAME_MESSAGES];
    const struct incoming *sources[FRAME_MESSAGES]; /* of the messages */
    size_t rooms[FRAME_MESSAGES];
    uint64_t bytes;
};

static void read_headers(struct framing *f, const struct incoming *from, pb_multicast_message *to)
{
    to->metadata = arena_array(&f->arena, from->n_headers, sizeof *to->metadata);
    for (size_t i = 0; i < from->n_headers; i++) {
        const struct header *header = &from->headers[i];
        schema_header *copy;

        if (slice_equal(header->name, slice_str("prism-published-at-ms"))) {
            to->published_at_ms = strtoll(arena_strdup(&f->arena, header->value), NULL, 10);
            continue;
        }
        if (slice_equal(header->name, slice_str("content-type"))) {
            to->content_type = arena_strdup(&f->arena, header->value);
            continue;
        }
        copy = arena_alloc(&f->arena, sizeof *copy);
        prism__patterns__schemas__header__init(copy);
        copy->name = arena_strdup(&f->arena, header->name);
        copy->_value_case = PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE;
        copy->value = pb_bytes(header->value);
        to->metadata[to->n_metadata++] = copy;
    }
}

/* The same message for another identity: one block, or one identifier and one payload. */
static bool is_same(const struct incoming *a, const struct incoming *b)
{
    if (a->id.len != b->id.len || !slice_equal(a->id, b->id))
        return false;
    if (a->block != NULL && a->block == b->block)
        return true;
    return a->id.len > 0 && slice_equal(a->payload, b->payload);
}

static void add_identity(struct framing *f, size_t i, char *identity)
{
    pb_multicast_message *m = f->messages[i];

    if (m->n_identities == f->rooms[i]) {
        size_t room = f->rooms[i] * 2;
        char **identities = arena_array(&f->arena, room, sizeof *identities);

        memcpy(identities, m->identities, m->n_identities * sizeof *identities);
        m->identities = identities;
        f->rooms[i] = room;
    }
    m->identities[m->n_identities++] = identity;
}

static void add_message(struct framing *f, const struct incoming *from, char *identity)
{
    pb_multicast_message *to = arena_alloc(&f->arena, sizeof *to);
    size_t i = f->frame.n_messages++;

    prism__patterns__multicast_registry__multicast_message__init(to);
    to->message_id = arena_strdup(&f->arena, from->id);
    to->payload = pb_bytes(from->payload);
    to->attempt = 1;
    to->sequence = ++f->receiver->sequence;
    read_headers(f, from, to);
    f->messages[i] = to;
    f->sources[i] = from;
    f->rooms[i] = 4;
    to->identities = arena_array(&f->arena, f->rooms[i], sizeof *to->identities);
    add_identity(f, i, identity);
    f->bytes += from->payload.len + from->id.len;
}

static void add(struct framing *f, const struct incoming *from, const struct attachment *a)
{
    char *identity = arena_strdup(&f->arena, slice_of(a->identity, a->identity_len));
    size_t n = f->frame.n_messages, first = n > LOOK_BACK ? n - LOOK_BACK : 0;

    f->bytes += a->identity_len;
    for (size_t i = n; i-- > first;) {
        if (is_same(from, f->sources[i])) {
            add_identity(f, i, identity);
            return;
        }
    }
    add_message(f, from, identity);
}

/* Messages up to the frame's bounds; returns how many. They stay until the frame is packed. */
static size_t gather(struct framing *f)
{
    struct receiver *r = f->receiver;
    size_t at = r->inbox_at, n = 0;

    for (struct incoming_batch *batch = r->first; batch != NULL; batch = next_of(batch), at = 0) {
        for (; at < batch->n; at++, n++) {
            if (f->frame.n_messages == FRAME_MESSAGES ||
                (f->frame.n_messages > 0 && f->bytes >= FRAME_BYTES))
                return n;
            add(f, &batch->items[at], attachment_of(batch));
        }
    }
    return n;
}

static void grant_again(struct receiver *r, const struct incoming_batch *batch, uint32_t n)
{
    struct attachment *a = attachment_of(batch);

    if (a->receiver == r && a->subscription.state == SUB_RUNNING)
        r->multicast->plan.topic->source.grant(r->multicast->messaging, &a->subscription, n,
                                               batch->bytes);
}

/* The packed frame holds copies: what was gathered goes back, and credit with it. */
static void release(struct receiver *r, size_t messages)
{
    while (messages > 0) {
        struct incoming_batch *batch = r->first;
        size_t n = batch->left < messages ? batch->left : messages;

        messages -= n;
        r->inbox_at += n;
        if (n == batch->left) {
            r->first = next_of(batch);
            r->inbox_at = 0;
            r->waiting_bytes -= batch->bytes;
            grant_again(r, batch, batch->n);
        }
        incoming_drop(batch, (uint32_t)n);
    }
    call_hold(r->call, r->waiting_bytes);
}

static void frame_sent(struct op *op)
{
    struct receiver *r = CONTAINER_OF(op, struct receiver, sent);

    r->sending = false;
    if (op->err.code != ERR_OK)
        receiver_end(r, op->err);
    else if (r->draining && !r->has_news && r->first == NULL)
        receiver_end(r, err_about(ERR_UNAVAILABLE, "draining", "the server is about to stop"));
    else
        receiver_look(r);
}

void inbox_send(struct receiver *r)
{
    struct framing f;
    size_t gathered;

    if (r->sending || r->ended || (r->first == NULL && !r->has_news))
        return;
    f.receiver = r;
    f.bytes = 0;
    arena_init(&f.arena, NULL);
    prism__patterns__multicast_registry__subscribe_response__init(&f.frame);
    f.frame.messages = f.messages;
    gathered = gather(&f);
    if (!r->started)
        f.frame.subscription_id = r->id;
    f.frame.dropped_count = r->dropped;
    f.frame.attached_count = (int32_t)r->open;
    f.frame.failures = r->failures.at;
    f.frame.n_failures = r->failures.n;
    f.frame.draining = r->draining;
    r->started = r->sending = true;
    r->has_news = false;
    r->dropped = 0;
    call_send(r->call, &f.frame.base, &r->sent, frame_sent);
    r->failures.n = r->failures.room = 0;
    arena_clear(&r->failures_arena);
    release(r, gathered);
    arena_clear(&f.arena);
}
