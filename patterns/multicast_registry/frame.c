/* The frames in which messages leave. While a frame is on its way, others gather: the slower the
 * client, the fuller the frames. A payload is in a frame once for all identities that it is for. */
#include "patterns/multicast_registry/frame_writer.h"
#include "patterns/multicast_registry/receiver.h"
#include "src/base/block.h"
#include "src/base/clock.h"
#include "src/base/decimal.h"

#include <string.h>
#include <time.h>

enum {
    LOOK_BACK = 8,
    FRAME_MOST_BYTES = 3 * FRAME_BYTES, /* of payloads, unless it is one message */
    TOKEN_BYTES = RECEIVER_ID_CHARS + 1 + DECIMAL_BYTES
};

/* ---- what is gathered ---- */

struct framing {
    struct receiver *receiver;
    struct arena arena; /* untouched by a frame with one small message */
    struct frame frame;
    struct frame_message messages[FRAME_MESSAGES];
    char token[TOKEN_BYTES];
    uint64_t bytes, referenced;
    int64_t now_ms; /* Unix time, where something kept waits */
};

/* The same message for another identity: one block, or one identifier and one payload. */
static bool is_same(const struct incoming *a, const struct incoming *b)
{
    if (a->id.len != b->id.len || !slice_equal(a->id, b->id))
        return false;
    if (a->block != NULL && a->block == b->block)
        return true;
    return a->id.len > 0 && slice_equal(a->payload, b->payload);
}

static void add_message(struct framing *f, const struct incoming *from, struct slice identity)
{
    frame_message_init(&f->messages[f->frame.n++], from, identity, ++f->receiver->sequence);
    f->bytes += from->payload.len + from->id.len;
    if (frame_references(from))
        f->referenced += from->payload.len;
}

static void add_identity(struct framing *f, size_t at, struct slice identity)
{
    struct frame_name *name = arena_alloc(&f->arena, sizeof *name);

    name->identity = identity;
    frame_message_add(&f->messages[at], name);
}

/* Where to look for the same message: not before the last one of this identity, which would turn
 * the order round, and not in that one, which the identity has had. */
static size_t first_place(const struct framing *f, const struct attachment *a)
{
    size_t n = f->frame.n, first = n > LOOK_BACK ? n - LOOK_BACK : 0;

    return a->frame == f->receiver->frames && a->place >= first ? a->place + 1u : first;
}

static void note_place(const struct framing *f, struct attachment *a, size_t at)
{
    a->frame = f->receiver->frames;
    a->place = (uint16_t)at;
}

/* Returns where it is. */
static size_t add(struct framing *f, const struct incoming *from, struct attachment *a)
{
    size_t at = first_place(f, a), n = f->frame.n;

    f->bytes += a->identity_len;
    while (at < n && !is_same(from, f->messages[at].from))
        at++;
    if (at < n)
        add_identity(f, at, attachment_identity(a));
    else
        add_message(f, from, attachment_identity(a));
    note_place(f, a, at);
    return at;
}

/* A large message has a frame of its own, so that whoever can read messages as large as the
 * server's requests can read it. */
static bool is_full(const struct framing *f, const struct incoming *next)
{
    size_t with_next = f->bytes + next->id.len + message_in_bytes(next);

    return f->frame.n == FRAME_MESSAGES ||
           (f->frame.n > 0 && (f->bytes >= FRAME_BYTES || with_next > FRAME_MOST_BYTES));
}

/* A kept message has a sequence of its own, to be confirmed by. */
static void add_kept(struct framing *f, struct incoming_batch *batch, size_t at)
{
    const struct incoming *from = &batch->items[at];
    struct lead *lead = lead_of(batch);
    struct attachment *a = attachment_of(lead);

    if (lead->subscription.state != SUB_RUNNING || a->leaving)
        return; /* it is given back */
    if (kept_is_replaced(batch, at) || kept_is_over(lead, from, f->now_ms)) {
        kept_discard(lead, from);
        return;
    }
    if (kept_has_failed(lead, from)) {
        kept_give_up(lead, from);
        return;
    }
    f->bytes += a->identity_len;
    add_message(f, from, attachment_identity(a));
    kept_sent(lead, from, f->receiver->sequence);
}

/* One message for many: looked for once. Returns how many of the batch's places are done with. */
static size_t gather_sharers(struct framing *f, const struct incoming_batch *batch, size_t begin)
{
    const struct incoming *from = batch->items;
    struct frame_name *names = arena_alloc(&f->arena, (batch->n - begin) * sizeof *names);
    size_t at, place = FRAME_MESSAGES; /* where it is, once it is */

    for (at = begin; at < batch->n; at++) {
        struct lead *lead = lead_at(batch, at);
        struct attachment *a = lead != NULL ? attachment_of(lead) : NULL;

        if (a == NULL)
            continue;
        if (place >= f->frame.n || first_place(f, a) > place) {
            if (is_full(f, from))
                break;
            place = add(f, from, a);
            continue;
        }
        if (f->bytes >= FRAME_BYTES)
            break;
        f->bytes += a->identity_len;
        names[at - begin].identity = attachment_identity(a);
        frame_message_add(&f->messages[place], &names[at - begin]);
        note_place(f, a, place);
    }
    return at - begin;
}

/* Messages up to the frame's bounds; returns how many. They stay until the frame is packed. */
static size_t gather(struct framing *f, int kind)
{
    struct receiver *r = f->receiver;
    struct inbox *inbox = &r->inboxes[kind];
    size_t at = inbox->at, n = 0;

    for (struct incoming_batch *b = inbox->first; b != NULL; b = inbox_next(b), at = 0) {
        if (b->sharers != NULL) {
            size_t done = gather_sharers(f, b, at);

            n += done;
            if (at + done < b->n)
                return n;
            continue;
        }
        for (; at < b->n; at++, n++) {
            if (is_full(f, &b->items[at]) || (kind == LEAD_QUEUE && !kept_has_room(r)))
                return n;
            if (kind == LEAD_QUEUE)
                add_kept(f, b, at);
            else
                add(f, &b->items[at], attachment_of(lead_of(b)));
        }
    }
    return n;
}

/* Of a topic, what has left makes room at once; of a queue, what is confirmed. */
static void grant_again(const struct receiver *r, const struct incoming_batch *batch)
{
    struct lead *lead;

    if (batch->sharers != NULL) {
        inbox_grant_sharers(r, batch);
        return;
    }
    lead = lead_of(batch);
    if (lead->kind == LEAD_QUEUE) {
        lead->owed_bytes += batch->bytes;
        kept_grant(lead);
    } else if (lead->subscription.state == SUB_RUNNING) {
        lead_source(lead)->grant(lead_backend(lead), &lead->subscription, batch->n, batch->bytes);
    }
}

void frame_release(struct receiver *r, int kind, size_t messages)
{
    struct inbox *inbox = &r->inboxes[kind];

    if (messages == 0)
        return;
    while (messages > 0) {
        struct incoming_batch *batch = inbox->first;
        size_t n = batch->left < messages ? batch->left : messages;

        messages -= n;
        inbox->at += n;
        if (n == batch->left) {
            inbox->first = inbox_next(batch);
            inbox->at = 0;
            r->waiting_bytes -= inbox_bytes(batch);
            grant_again(r, batch);
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
    if (r->sent_bytes > 0) {
        r->sent_bytes = 0;
        (void)inbox_hold(r);
    }
    if (op->err.code == ERR_OK && !r->manual)
        kept_through(r, r->sequence); /* no number was given meanwhile */
    if (op->err.code != ERR_OK)
        receiver_end(r, op->err);
    else
        receiver_look(r);
}

/* ---- how it leaves ---- */

static struct slice resume_token(struct framing *f)
{
    const struct receiver *r = f->receiver;
    char *at = f->token;

    memcpy(at, r->id, RECEIVER_ID_CHARS);
    at += RECEIVER_ID_CHARS;
    *at++ = ':';
    at += decimal_write(at, r->sequence);
    return slice_of(f->token, (size_t)(at - f->token));
}

/* Why messages were left out, for the general encoder; their number in all. */
static int64_t fill_dropped(struct framing *f, pb_receive_frame *frame)
{
    struct receiver *r = f->receiver;
    int64_t all = 0;

    for (int reason = DROP_NONE + 1; reason < DROP_REASONS; reason++) {
        pb_dropped_messages *dropped;

        if (r->dropped[reason] == 0)
            continue;
        if (frame->drops == NULL)
            frame->drops = arena_array(&f->arena, DROP_REASONS, sizeof *frame->drops);
        dropped = frame->drops[frame->n_drops++] = arena_alloc(&f->arena, sizeof *dropped);
        prism__patterns__multicast_registry__dropped_messages__init(dropped);
        dropped->reason = (Prism__Patterns__MulticastRegistry__DropReason)reason;
        dropped->count = r->dropped[reason];
        all += r->dropped[reason];
        r->dropped[reason] = 0;
    }
    return all;
}

/* The beginning of the stream, failures, and reasons: for the general encoder. */
static struct slice seldom(struct framing *f)
{
    struct receiver *r = f->receiver;
    pb_receive_frame frame = MULTICAST_PB(SUBSCRIBE_RESPONSE__INIT);
    uint8_t *packed;

    f->frame.news.dropped = fill_dropped(f, &frame);
    if (r->started && r->failures.n == 0 && frame.n_drops == 0)
        return slice_of(NULL, 0);
    if (!r->started) {
        frame.subscription_id = r->id;
        if (r->resumes) {
            bool whole = r->leads > LEAD_QUEUE && r->manual;

            frame._recovered_case = MULTICAST_PB(SUBSCRIBE_RESPONSE___RECOVERED_RECOVERED);
            frame.recovered = whole;
            frame._missed_count_case = MULTICAST_PB(SUBSCRIBE_RESPONSE___MISSED_COUNT_MISSED_COUNT);
            frame.missed_count = whole ? 0 : -1;
        }
    }
    frame.failures = r->failures.at;
    frame.n_failures = r->failures.n;
    packed = arena_alloc(&f->arena, protobuf_c_message_get_packed_size(&frame.base));
    return slice_of(packed, protobuf_c_message_pack(&frame.base, packed));
}

/* It refers to no payload: it is one part. */
static void write_whole(uint8_t *out, const void *frame)
{
    struct call_part part;

    frame_write(frame, out, &part);
}

static void send_parts(struct framing *f)
{
    struct receiver *r = f->receiver;
    struct call_part parts[2 * FRAME_MESSAGES + 1];
    size_t bytes = frame_bytes(&f->frame);

    if (f->referenced == 0) {
        call_send_written(r->call, bytes, write_whole, &f->frame, &r->sent, frame_sent);
        return;
    }
    call_send_parts(r->call, parts, frame_write(&f->frame, arena_alloc(&f->arena, bytes), parts),
                    &r->sent, frame_sent);
}

static void send(struct framing *f)
{
    struct receiver *r = f->receiver;

    f->frame.news = (struct frame_news){
        .attached = (int64_t)r->open, .draining = r->draining, .resume_token = resume_token(f)};
    f->frame.news.seldom = seldom(f);
    r->started = r->sending = true;
    r->has_news = false;
    r->sent_bytes = f->referenced;
    send_parts(f);
    r->failures.n = r->failures.room = 0;
    arena_clear(&r->failures_arena);
}

static int64_t unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / (int64_t)NS_PER_MS;
}

void frame_send(struct receiver *r)
{
    struct framing f;
    size_t kept, rest;

    if (r->sending || r->ended || (!frame_has_messages(r) && !r->has_news))
        return;
    f.receiver = r;
    f.bytes = f.referenced = 0;
    f.now_ms = r->inboxes[LEAD_QUEUE].first != NULL ? unix_ms() : 0;
    r->frames++;
    arena_init(&f.arena, NULL);
    f.frame = (struct frame){.messages = f.messages};
    kept = r->started ? gather(&f, LEAD_QUEUE) : 0; /* the first frame has none */
    rest = r->started ? gather(&f, LEAD_TOPIC) : 0;
    if (f.frame.n > 0 || r->has_news)
        send(&f);
    frame_release(r, LEAD_QUEUE, kept); /* the packed frame holds copies */
    frame_release(r, LEAD_TOPIC, rest);
    arena_clear(&f.arena);
}
