/* The frames in which messages leave. While a frame is on its way, others gather: the slower the
 * client, the fuller the frames.
 *
 * A payload is in a frame once for all identities that it is for, and a large one that is a block
 * is not copied: gRPC writes it from there, for each of the streams that it goes to. */
#include "patterns/multicast_registry/receiver.h"
#include "src/base/block.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOOK_BACK = 8,
    REFERENCED_BYTES = 1024 /* a payload of so many is referenced: less is copied faster */
};

/* ---- what is gathered ---- */

struct framing {
    struct receiver *receiver;
    struct arena arena;
    pb_receive_frame frame;
    pb_multicast_message *messages[FRAME_MESSAGES];
    const struct incoming *sources[FRAME_MESSAGES]; /* of the messages */
    size_t rooms[FRAME_MESSAGES];
    uint64_t bytes, referenced;
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

static bool is_referenced(const struct incoming *from)
{
    return from->block != NULL && from->payload.len >= REFERENCED_BYTES;
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
    if (is_referenced(from))
        f->referenced += from->payload.len;
}

/* Where to look for the same message: not before the last one of this identity, which would turn
 * the order round, and not in that one, which the identity has had. */
static size_t first_place(const struct framing *f, const struct attachment *a)
{
    size_t n = f->frame.n_messages, first = n > LOOK_BACK ? n - LOOK_BACK : 0;

    return a->frame == f->receiver->frames && a->place >= first ? a->place + 1 : first;
}

static void add(struct framing *f, const struct incoming *from, struct attachment *a)
{
    char *identity = arena_strdup(&f->arena, slice_of(a->identity, a->identity_len));
    size_t at = first_place(f, a), n = f->frame.n_messages;

    f->bytes += a->identity_len;
    while (at < n && !is_same(from, f->sources[at]))
        at++;
    if (at < n)
        add_identity(f, at, identity);
    else
        add_message(f, from, identity);
    a->frame = f->receiver->frames;
    a->place = at;
}

/* Messages up to the frame's bounds; returns how many. They stay until the frame is packed. */
static size_t gather(struct framing *f)
{
    struct receiver *r = f->receiver;
    size_t at = r->inbox_at, n = 0;

    for (struct incoming_batch *batch = r->first; batch != NULL;
         batch = inbox_next(batch), at = 0) {
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
            r->first = inbox_next(batch);
            r->inbox_at = 0;
            r->waiting_bytes -= batch->bytes;
            grant_again(r, batch, batch->n);
        }
        incoming_drop(batch, (uint32_t)n);
    }
    (void)inbox_hold(r);
}

static void frame_sent(struct op *op)
{
    struct receiver *r = CONTAINER_OF(op, struct receiver, sent);

    r->sending = false;
    r->sent_bytes = 0;
    (void)inbox_hold(r);
    if (op->err.code != ERR_OK)
        receiver_end(r, op->err);
    else if (r->draining && !r->has_news && r->first == NULL)
        receiver_end(r, err_about(ERR_UNAVAILABLE, "draining", "the server is about to stop"));
    else
        receiver_look(r);
}

/* ---- how it is written ---- */

enum {
    MOST_PARTS = 2 * FRAME_MESSAGES + 1,
    FEWEST_BYTES = 4096,
    MESSAGES_FIELD = 1, /* of SubscribeResponse */
    PAYLOAD_FIELD = 2,  /* of MulticastMessage */
    WIRE_BYTES = 2
};

struct writing {
    struct arena *arena;
    uint8_t *bytes; /* all that is not referenced */
    size_t len, room;
    struct call_part parts[MOST_PARTS];
    size_t starts[MOST_PARTS]; /* of those that are copied, in `bytes` */
    size_t n, cut;             /* cut: what is behind it belongs to no part yet */
};

static uint8_t *room_for(struct writing *w, size_t bytes)
{
    if (w->len + bytes > w->room) {
        size_t room = w->room > 0 ? w->room : FEWEST_BYTES;
        uint8_t *grown;

        while (room < w->len + bytes)
            room *= 2;
        grown = arena_alloc(w->arena, room);
        if (w->len > 0)
            memcpy(grown, w->bytes, w->len);
        w->bytes = grown;
        w->room = room;
    }
    w->len += bytes;
    return w->bytes + w->len - bytes;
}

static size_t varint_bytes(uint64_t value)
{
    size_t n = 1;

    while ((value >>= 7) > 0)
        n++;
    return n;
}

/* A field of bytes: its number and its length. */
static void write_field(struct writing *w, unsigned number, uint64_t len)
{
    uint8_t *at = room_for(w, 1 + varint_bytes(len));

    *at++ = (uint8_t)(number << 3 | WIRE_BYTES);
    for (; len >= 0x80; len >>= 7)
        *at++ = (uint8_t)(len | 0x80);
    *at = (uint8_t)len;
}

/* What was written since the last part is one of its own. */
static void cut(struct writing *w)
{
    if (w->len == w->cut)
        return;
    w->starts[w->n] = w->cut;
    w->parts[w->n++] = (struct call_part){.bytes = slice_of(NULL, w->len - w->cut)};
    w->cut = w->len;
}

static void write_payload(struct writing *w, const struct incoming *from)
{
    if (from->payload.len == 0)
        return;
    write_field(w, PAYLOAD_FIELD, from->payload.len);
    if (is_referenced(from)) {
        cut(w);
        w->parts[w->n++] = (struct call_part){.bytes = from->payload, .block = from->block};
    } else {
        memcpy(room_for(w, from->payload.len), from->payload.data, from->payload.len);
    }
}

/* As the encoder does it, but for the payload, which comes last. */
static void write_message(struct writing *w, pb_multicast_message *message,
                          const struct incoming *from)
{
    size_t payload = from->payload.len, rest;

    message->payload = (ProtobufCBinaryData){0};
    rest = protobuf_c_message_get_packed_size(&message->base);
    write_field(w, MESSAGES_FIELD, rest + (payload > 0 ? 1 + varint_bytes(payload) + payload : 0));
    protobuf_c_message_pack(&message->base, room_for(w, rest));
    write_payload(w, from);
}

static void send_parts(struct framing *f)
{
    struct receiver *r = f->receiver;
    struct writing *w = arena_zalloc(&f->arena, sizeof *w);
    size_t messages = f->frame.n_messages;

    w->arena = &f->arena;
    f->frame.n_messages = 0;
    protobuf_c_message_pack(&f->frame.base,
                            room_for(w, protobuf_c_message_get_packed_size(&f->frame.base)));
    for (size_t i = 0; i < messages; i++)
        write_message(w, f->messages[i], f->sources[i]);
    cut(w);
    for (size_t i = 0; i < w->n; i++) {
        if (w->parts[i].block == NULL)
            w->parts[i].bytes.data = w->bytes + w->starts[i];
    }
    call_send_parts(r->call, w->parts, w->n, &r->sent, frame_sent);
}

void frame_send(struct receiver *r)
{
    struct framing f;
    size_t gathered;

    if (r->sending || r->ended || (r->first == NULL && !r->has_news))
        return;
    f.receiver = r;
    f.bytes = f.referenced = 0;
    r->frames++;
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
    r->sent_bytes = f.referenced;
    if (f.referenced > 0)
        send_parts(&f);
    else
        call_send(r->call, &f.frame.base, &r->sent, frame_sent);
    r->failures.n = r->failures.room = 0;
    arena_clear(&r->failures_arena);
    release(r, gathered);
    arena_clear(&f.arena);
}
