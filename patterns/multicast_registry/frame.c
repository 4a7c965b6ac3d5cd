/* The frames in which messages leave. While a frame is on its way, others gather: the slower the
 * client, the fuller the frames.
 *
 * A payload is in a frame once for all identities that it is for, and a large one that is a block
 * is not copied: gRPC writes it from there, for each of the streams that it goes to. */
#include "patterns/multicast_registry/receiver.h"
#include "src/base/block.h"
#include "src/base/clock.h"
#include "src/base/decimal.h"
#include "src/base/utf8.h"

#include <string.h>
#include <time.h>

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
    int64_t now_ms; /* Unix time */
};

static char *text_of(struct arena *arena, struct slice bytes)
{
    bool text = utf8_valid(bytes) && (bytes.len == 0 || memchr(bytes.data, 0, bytes.len) == NULL);

    return arena_strdup(arena, text ? bytes : slice_of("", 0));
}

static void read_headers(struct framing *f, const struct incoming *from, pb_multicast_message *to)
{
    to->published_at_ms = travel_number(from, MULTICAST_HEADER_PUBLISHED);
    to->content_type = text_of(&f->arena, travel_header(from, MULTICAST_HEADER_TYPE));
    to->metadata = arena_array(&f->arena, from->n_headers, sizeof *to->metadata);
    for (size_t i = 0; i < from->n_headers; i++) {
        const struct header *header = &from->headers[i];
        schema_header *copy;

        if (travel_is_ours(header))
            continue;
        copy = arena_alloc(&f->arena, sizeof *copy);
        prism__patterns__schemas__header__init(copy);
        copy->name = text_of(&f->arena, header->name);
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
    to->message_id = text_of(&f->arena, travel_id(from));
    to->payload = pb_bytes(from->payload);
    to->attempt = from->attempt > 1 ? (int32_t)from->attempt : 1;
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

static bool is_full(const struct framing *f)
{
    return f->frame.n_messages == FRAME_MESSAGES ||
           (f->frame.n_messages > 0 && f->bytes >= FRAME_BYTES);
}

/* A kept message has a sequence of its own, to be confirmed by. */
static void add_kept(struct framing *f, struct incoming_batch *batch, size_t at)
{
    const struct incoming *from = &batch->items[at];
    struct lead *lead = lead_of(batch);
    struct attachment *a = lead->attachment;

    if (lead->subscription.state != SUB_RUNNING || a->leaving)
        return; /* it is given back */
    if (kept_is_replaced(batch, at) || kept_is_over(lead, from, f->now_ms)) {
        kept_discard(lead, from);
        return;
    }
    f->bytes += a->identity_len;
    add_message(f, from, arena_strdup(&f->arena, attachment_identity(a)));
    kept_sent(lead, from, f->receiver->sequence);
}

/* Messages up to the frame's bounds; returns how many. They stay until the frame is packed. */
static size_t gather(struct framing *f, int kind)
{
    struct receiver *r = f->receiver;
    struct inbox *inbox = &r->inboxes[kind];
    size_t at = inbox->at, n = 0;

    for (struct incoming_batch *b = inbox->first; b != NULL; b = inbox_next(b), at = 0) {
        for (; at < b->n; at++, n++) {
            if (is_full(f) || (kind == LEAD_QUEUE && !kept_has_room(r)))
                return n;
            if (kind == LEAD_QUEUE)
                add_kept(f, b, at);
            else
                add(f, &b->items[at], lead_of(b)->attachment);
        }
    }
    return n;
}

/* Of a topic, what has left makes room at once; of a queue, what is confirmed. */
static void grant_again(const struct incoming_batch *batch)
{
    struct lead *lead = lead_of(batch);

    if (lead->kind == LEAD_QUEUE) {
        lead->owed_bytes += batch->bytes;
        kept_grant(lead);
    } else if (lead->subscription.state == SUB_RUNNING) {
        lead_source(lead)->grant(lead_backend(lead), &lead->subscription, batch->n, batch->bytes);
    }
}

/* The packed frame holds copies: what was gathered goes back, and credit with it. */
static void release(struct receiver *r, int kind, size_t messages)
{
    struct inbox *inbox = &r->inboxes[kind];

    while (messages > 0) {
        struct incoming_batch *batch = inbox->first;
        size_t n = batch->left < messages ? batch->left : messages;

        messages -= n;
        inbox->at += n;
        if (n == batch->left) {
            inbox->first = inbox_next(batch);
            inbox->at = 0;
            r->waiting_bytes -= batch->bytes;
            grant_again(batch);
        }
        incoming_drop(batch, (uint32_t)n);
    }
    (void)inbox_hold(r);
}

bool frame_has_messages(const struct receiver *r)
{
    return r->inboxes[LEAD_TOPIC].first != NULL ||
           (r->inboxes[LEAD_QUEUE].first != NULL && kept_has_room(r));
}

static void frame_sent(struct op *op)
{
    struct receiver *r = CONTAINER_OF(op, struct receiver, sent);

    r->sending = false;
    r->sent_bytes = 0;
    (void)inbox_hold(r);
    if (op->err.code == ERR_OK && !r->manual)
        kept_through(r, r->sequence); /* no number was given meanwhile */
    if (op->err.code != ERR_OK)
        receiver_end(r, op->err);
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

static char *resume_token(const struct receiver *r, struct arena *arena)
{
    char *text = arena_alloc(arena, RECEIVER_ID_CHARS + 1 + DECIMAL_BYTES + 1), *at = text;

    memcpy(at, r->id, RECEIVER_ID_CHARS);
    at += RECEIVER_ID_CHARS;
    *at++ = ':';
    at += decimal_write(at, r->sequence);
    *at = '\0';
    return text;
}

/* What the frame says beside its messages. */
static void fill(struct framing *f)
{
    struct receiver *r = f->receiver;
    pb_receive_frame *frame = &f->frame;

    if (!r->started) {
        frame->subscription_id = r->id;
        if (r->resumes) {
            bool whole = r->leads > LEAD_QUEUE && r->manual;

            frame->_recovered_case = MULTICAST_PB(SUBSCRIBE_RESPONSE___RECOVERED_RECOVERED);
            frame->recovered = whole;
            frame->_missed_count_case =
                MULTICAST_PB(SUBSCRIBE_RESPONSE___MISSED_COUNT_MISSED_COUNT);
            frame->missed_count = whole ? 0 : -1;
        }
    }
    frame->dropped_count = r->dropped;
    frame->attached_count = (int32_t)r->open;
    frame->failures = r->failures.at;
    frame->n_failures = r->failures.n;
    frame->draining = r->draining;
    frame->resume_token = resume_token(r, &f->arena);
}

static void send(struct framing *f)
{
    struct receiver *r = f->receiver;

    fill(f);
    r->started = r->sending = true;
    r->has_news = false;
    r->dropped = 0;
    r->sent_bytes = f->referenced;
    if (f->referenced > 0)
        send_parts(f);
    else
        call_send(r->call, &f->frame.base, &r->sent, frame_sent);
    r->failures.n = r->failures.room = 0;
    arena_clear(&r->failures_arena);
}

void frame_send(struct receiver *r)
{
    struct framing f;
    struct timespec now;
    size_t kept, rest;

    if (r->sending || r->ended || (!frame_has_messages(r) && !r->has_news))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    f.receiver = r;
    f.bytes = f.referenced = 0;
    f.now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / (int64_t)NS_PER_MS;
    r->frames++;
    arena_init(&f.arena, NULL);
    prism__patterns__multicast_registry__subscribe_response__init(&f.frame);
    f.frame.messages = f.messages;
    kept = r->started ? gather(&f, LEAD_QUEUE) : 0; /* the first frame has none */
    rest = r->started ? gather(&f, LEAD_TOPIC) : 0;
    if (f.frame.n_messages > 0 || r->has_news)
        send(&f);
    release(r, LEAD_QUEUE, kept);
    release(r, LEAD_TOPIC, rest);
    arena_clear(&f.arena);
}
