/* Frames: what a member is sent, gathered while the frames before it were under way. */
#include "patterns/consumer/member.h"
#include "patterns/consumer/object.h"
#include "patterns/consumer/token.h"
#include "patterns/messaging/dead.h"
#include "patterns/messaging/fields.h"
#include "patterns/messaging/message_id.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/prefetch.h"

/* ---- room ---- */

uint64_t member_room(const struct member *member)
{
    const struct settling *settling = &member->settling;
    uint64_t room = settling->max_unsettled - settling->unsettled;

    if (member->leaving || member->owes_drain || !settling_room(settling) ||
        settling->bytes >= member->max_in_flight_bytes)
        return 0;
    if (member->credited_bytes && member->credit_bytes <= 0)
        return 0;
    if (member->credited && member->credit < room)
        room = member->credit;
    return room;
}

static uint64_t through(const struct member *member)
{
    uint64_t through = settling_through(&member->settling);

    return member->leaving && through > member->last_through ? member->last_through : through;
}

bool member_has_news(const struct member *member)
{
    if (member->failures.n + member->revoked.n + member->gaps.n + member->extended.n > 0)
        return true;
    if (!member->started)
        return member->feed->opened && !member->leaving;
    if (member->owes_assigned && !member->leaving)
        return true;
    return (member->owes_drain && !member->told_drain && !member->leaving) ||
           through(member) != member->told_through;
}

/* ---- one message ---- */

struct slice feed_message_id(const struct feed *feed, const struct incoming *message)
{
    const struct message_sink *sink = feed->consumer->plan.sink;
    const char *moved = feed->letters ? DEAD_LETTER_ID : sink->dedups ? REDRIVEN_ID : NULL;

    for (size_t i = message->n_headers; moved != NULL && i-- > 0;) {
        if (slice_equal(message->headers[i].name, slice_str(moved)))
            return message->headers[i].value;
    }
    return message->id;
}

/* Empty: it is to be made up. */
static struct slice own_id(const struct feed *feed, const struct incoming *message)
{
    struct slice id = feed_message_id(feed, message);

    return field_is_text(id) ? id : slice_of(NULL, 0);
}

static struct slice topic_of(const struct member *member, struct arena *arena,
                             const struct incoming *message)
{
    if (slice_equal(message->topic, member->feed->topic))
        return slice_str(member->topic);
    return consumed_name(arena, topics_unmap(&member->feed->consumer->topics, message->topic));
}

const char *member_message_id(const struct member *member, struct arena *arena,
                              const struct incoming *message)
{
    struct slice id = own_id(member->feed, message);

    if (id.len > 0)
        return arena_strdup(arena, id);
    return message_id_made(arena, topic_of(member, arena, message), message->position,
                           message->partition, message->offset);
}

static struct slice told_claim(struct arena *arena, const struct claim *claim)
{
    Prism__Patterns__Schemas__ClaimReference to = PRISM__PATTERNS__SCHEMAS__CLAIM_REFERENCE__INIT;

    to.key = arena_strdup(arena, claim->key);
    to.size = (int64_t)claim->size;
    to.sha256 = pb_bytes(slice_of(claim->sha256.bytes, DIGEST_BYTES));
    to.encoding = pb_text(claim->stored > 0 ? "gzip" : "");

    uint8_t *out = arena_alloc(arena, protobuf_c_message_get_packed_size(&to.base));

    return slice_of(out, protobuf_c_message_pack(&to.base, out));
}

static bool is_told_where(const struct member *member, const struct delivery *delivery)
{
    const struct claim *claim = claim_of(delivery);

    return claim != NULL && (object_of(delivery) == NULL || claim->size > member->max_inline_bytes);
}

/* Empty: it is not there any more, as the source knows and is about to say. */
static struct slice ack_token(const struct member *member, struct arena *arena,
                              struct delivery *delivery)
{
    const struct feed *feed = member->feed;
    const struct consumer *consumer = feed->consumer;
    const struct token_scope scope = {.namespace_name = consumer->base.namespace_name,
                                      .backend = consumer->source->type->name};
    uint8_t ticket[TICKET_BYTES];
    size_t bytes = feed->from->settling->tickets->make(feed->backend, &feed->subscription,
                                                       message_of(delivery)->token, ticket);

    if (bytes == 0)
        return slice_of(NULL, 0);
    delivery->ticketed = true;
    return token_write(arena, &scope,
                       &(struct token){.topic = slice_str(member->topic),
                                       .group = feed->group_name,
                                       .ticket = slice_of(ticket, bytes)});
}

static void add_message(struct member *member, struct frame *frame, struct delivery *delivery)
{
    const struct incoming *message = message_of(delivery);
    struct consumed *to = &frame->messages[frame->n++];

    parcel_hold(parcel_of(delivery));
    to->parcel = parcel_of(delivery);
    to->object = object_ref(object_of(delivery));
    to->from = message;
    to->topic = topic_of(member, &frame->arena, message);
    to->id = own_id(member->feed, message);
    to->payload = message->payload;
    to->claim = is_told_where(member, delivery) ? told_claim(&frame->arena, claim_of(delivery))
                                                : message_null();
    to->subscription_id =
        member->outlet->bidi ? slice_of(NULL, 0) : slice_of(member->id, SUBSCRIPTION_ID_BYTES);
    to->ack_token =
        member->ack_tokens ? ack_token(member, &frame->arena, delivery) : slice_of(NULL, 0);
    to->sequence = (int64_t)member_sequence(member, delivery);
    to->attempt = (int32_t)message->attempt;
    to->claimed = claim_of(delivery) != NULL;
    consumed_measure(to, &frame->arena);
    frame->messages_bytes += consumed_bytes(to);
}

/* ---- a frame ---- */

static size_t wire_bytes(const struct incoming *message)
{
    size_t bytes = message->key.len + message->payload.len + 64;

    for (size_t i = 0; i < message->n_headers; i++)
        bytes += 2 * (message->headers[i].name.len + message->headers[i].value.len) + 16;
    return bytes;
}

/* At most: a frame is filled before its tokens are made. */
static size_t token_room(const struct member *member)
{
    const struct token token = {.topic = slice_str(member->topic),
                                .group = member->feed->group_name,
                                .ticket = {.len = TICKET_BYTES}};

    return member->ack_tokens ? token_bytes(&token) : 0;
}

static void set_lease(const struct member *member, struct delivery *delivery)
{
    const struct consumer *consumer = member->feed->consumer;
    uint64_t now = consumer->base.home->now_ns;

    struct delivery_more *more = more_of(delivery);

    if (member->lease_ms == 0) {
        if (more != NULL)
            more->expires_ns = 0;
        return;
    }
    more = delivery_more(delivery);
    more->expires_ns = now + member->lease_ms * NS_PER_MS;
    more->most_ns = now + consumer->settings.max_lease_ms * NS_PER_MS;
}

static void hand_out(struct member *member, struct delivery *delivery)
{
    struct consumer *consumer = member->feed->consumer;
    const struct incoming *message = message_of(delivery);
    size_t payload = message->key.len + message->payload.len;

    delivery->state = DELIVERY_OUT;
    delivery->member = member;
    delivery->sequence =
        (uint32_t)settling_add(&member->settling, delivery, message_in_bytes(message));
    set_lease(member, delivery);
    member->feed->out_count++;
    if (member->credited)
        member->credit--;
    member->credit_bytes -= (int64_t)payload;
    counter_add(&consumer->stats.unsettled, 1);
    counter_add(&consumer->stats.delivered, 1);
    counter_add(&consumer->stats.delivered_bytes, payload);
    if (message->attempt > 1) {
        counter_add(&consumer->stats.redelivered, 1);
        member->feed->redelivered++;
    }
}

size_t member_room_ahead(const struct member *member)
{
    const struct outlet *outlet = member->outlet;
    size_t ahead = 0;

    if (member->n_frames == CALL_SENDS || outlet->write != NULL || !call_sends_ahead(outlet->call))
        return 0;
    if (member->n_frames > 0)
        ahead = member->frames_bytes - member->frames[member->oldest]->bytes;
    return ahead < CALL_AHEAD_BYTES ? CALL_AHEAD_BYTES - ahead : 0;
}

/* Bytes for the next frame: one that goes alone takes one message of any size. Asked once for a
 * frame, since memory may become scarce at any time. */
static size_t room_of_frame(const struct member *member)
{
    return member->n_frames > 0 ? member_room_ahead(member) : SIZE_MAX;
}

bool member_fills_frame(const struct member *member, size_t n)
{
    const struct feed *feed = member->feed;

    if (n > feed->ready_count)
        n = feed->ready_count;
    if (n > member_room(member))
        n = member_room(member);
    return n >= member->max_frame_messages ||
           (n > 0 && n * wire_bytes(message_of(feed->ready)) >= member->max_frame_bytes);
}

/* What is ready came with many batches, and has left the cache since. */
PREFETCHING void look_ahead(const struct delivery *next)
{
    const struct incoming *messages;

    if (next == NULL)
        return;
    prefetch(next->next, 1);
    messages = parcel_of(next)->messages;
    if (messages != NULL)
        prefetch(&messages[next->index], sizeof *messages);
}

/* room: there is some for the first one. */
static void add_messages(struct member *member, struct frame *frame, size_t most, size_t room)
{
    struct feed *feed = member->feed;

    if (most > member->max_frame_messages)
        most = member->max_frame_messages;
    frame->messages = arena_alloc(&frame->arena, most * sizeof *frame->messages);
    while (frame->n < most && feed->ready != NULL && member_room(member) > 0) {
        size_t bytes = frame->bytes + wire_bytes(message_of(feed->ready)) + token_room(member);

        if (frame->n > 0 && (bytes > room || bytes > member->max_frame_bytes))
            break;

        struct delivery *delivery = feed_next_ready(feed);

        if (object_is_wanted(member, delivery)) {
            object_fetch(delivery);
            continue;
        }

        look_ahead(feed->ready);
        frame->bytes = bytes;
        hand_out(member, delivery);
        add_message(member, frame, delivery);
    }
}

/* So that a frame begins with a message that can be sent. */
static void fetch_first(struct member *member)
{
    struct feed *feed = member->feed;

    while (feed->ready != NULL && member_room(member) > 0 && object_is_wanted(member, feed->ready))
        object_fetch(feed_next_ready(feed));
}

/* The notes go with this frame. */
static void **take_notes(struct frame *frame, struct notes *notes, size_t *n)
{
    void **out = arena_alloc(&frame->arena, notes->n * sizeof *out);

    *n = 0;
    for (const struct note *note = notes->first; note != NULL; note = note->next)
        out[(*n)++] = note->message;
    *notes = (struct notes){.end = &notes->first};
    return out;
}

static void tell_started(struct member *member, struct frame *frame)
{
    pb_consume_started *started = arena_alloc(&frame->arena, sizeof *started);

    prism__patterns__consumer__consume_started__init(started);
    started->subscription_id = member->id;
    started->consumer_group = arena_strdup(&frame->arena, member->feed->group_name);
    started->consumer_id = pb_text(member->consumer_id);
    started->max_in_flight = (int32_t)member->settling.max_unsettled;
    started->max_in_flight_bytes = (int64_t)member->max_in_flight_bytes;
    if (member->lease_ms != 0) {
        started->_lease_ms_case = CONSUMER_PB(CONSUME_STARTED___LEASE_MS_LEASE_MS);
        started->lease_ms = (int64_t)member->lease_ms;
    }
    started->ack_mode = member->automatic ? PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO
                                          : PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_MANUAL;
    started->generation = consumer_generation(member->feed->consumer);
    frame->response.started = started;
    member->started = true;
}

/* More than others share a frame with. It has one of its own, so that whoever can read messages as
 * large as the server's requests can read it. */
static bool is_large(const struct member *member, size_t most)
{
    return most > 0 && member_room(member) > 0 &&
           wire_bytes(message_of(member->feed->ready)) > member->max_frame_bytes;
}

static bool owes(const struct member *member)
{
    return member->failures.n + member->revoked.n + member->gaps.n + member->extended.n > 0 ||
           !member->started || member->owes_assigned;
}

/* In the memory of what it is to tell, which goes with it. */
static struct frame *new_frame(struct member *member, bool tells)
{
    struct arena memory;

    arena_init(&memory, &member->feed->consumer->base.home->arenas);
    if (tells) {
        struct arena notes = member->notes_memory;

        member->notes_memory = memory;
        memory = notes;
    }

    struct frame *frame = arena_alloc(&memory, sizeof *frame);

    *frame = (struct frame){
        .outlet = member->outlet, .go.run = outlet_send, .sent.run = member_sent, .arena = memory};
    prism__patterns__consumer__consume_response__init(&frame->response);
    return frame;
}

/* Into a frame that is empty. */
static void tell(struct member *member, struct frame *frame)
{
    pb_consume_response *response = &frame->response;

    if (!member->started && !member->leaving)
        tell_started(member, frame);
    failures_tell(&member->failures, frame);
    response->revoked = (pb_revoked **)take_notes(frame, &member->revoked, &response->n_revoked);
    response->gaps = (pb_gap **)take_notes(frame, &member->gaps, &response->n_gaps);
    response->extended =
        (pb_extended **)take_notes(frame, &member->extended, &response->n_extended);
    member->n_extended = 0;
    if (member->owes_assigned)
        feed_tell_assigned(member->feed, frame);
    member->owes_assigned = false;
}

void member_send(struct member *member, size_t most)
{
    struct frame *frame;
    size_t room = room_of_frame(member);
    bool large, tells;

    if (most > 0)
        fetch_first(member);
    if (most > member->feed->ready_count) /* others were first */
        most = member->feed->ready_count;
    if (member->n_frames > 0 && (most == 0 || wire_bytes(message_of(member->feed->ready)) > room))
        return;
    if (most == 0 ? !member_has_news(member) : member_room(member) == 0 && !member_has_news(member))
        return;
    large = is_large(member, most);
    tells = !large || (owes(member) && (member->gaps.n > 0 || !member->told_alone));
    if (large && tells) /* it goes next, whatever there is to tell by then, unless it is a gap */
        most = 0;
    member->told_alone = large && tells;
    frame = new_frame(member, tells);
    if (tells)
        tell(member, frame);
    add_messages(member, frame, most, room);
    member->told_through = through(member);
    frame->response.settled_through = (int64_t)member->told_through;
    frame->response.draining = member->told_drain = member->owes_drain;
    member->frames[(member->oldest + member->n_frames++) % CALL_SENDS] = frame;
    member->frames_bytes += frame->bytes;
    worker_land(member->outlet->worker, &frame->go);
}

void member_clear_frame(struct member *member)
{
    struct frame *frame = member->frames[member->oldest];
    struct arena memory = frame->arena;

    member->oldest = (member->oldest + 1) % CALL_SENDS;
    member->n_frames--;
    member->frames_bytes -= frame->bytes;
    for (size_t i = 0; i < frame->n; i++) {
        object_unref(frame->messages[i].object);
        parcel_unhold(frame->messages[i].parcel);
    }
    arena_clear(&memory);
}

/* ---- how it leaves. thread: the outlet's worker ---- */

size_t member_frame_bytes(const struct frame *frame)
{
    return frame->messages_bytes + protobuf_c_message_get_packed_size(&frame->response.base);
}

void member_frame_write(uint8_t *out, const void *what)
{
    const struct frame *frame = what;

    for (size_t i = 0; i < frame->n; i++)
        out = consumed_write(out, &frame->messages[i]);
    protobuf_c_message_pack(&frame->response.base, out);
}
