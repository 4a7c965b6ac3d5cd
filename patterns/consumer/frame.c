/* Frames: what a member is sent, gathered while the frames before it were under way. */
#include "patterns/consumer/member.h"
#include "patterns/consumer/object.h"
#include "patterns/messaging/message_id.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/utf8.h"

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

static bool is_text(struct slice bytes)
{
    return utf8_valid(bytes) && (bytes.len == 0 || memchr(bytes.data, 0, bytes.len) == NULL);
}

/* A name that is not UTF-8 is written with %XX for each byte that is not plain. */
static char *name_of(struct arena *arena, struct slice name)
{
    static const char digits[] = "0123456789ABCDEF";

    if (is_text(name))
        return arena_strdup(arena, name);

    char *out = arena_alloc(arena, 3 * name.len + 1), *at = out;

    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];

        if (c > ' ' && c < 0x7f && c != '%') {
            *at++ = (char)c;
            continue;
        }
        *at++ = '%';
        *at++ = digits[c >> 4];
        *at++ = digits[c & 15];
    }
    *at = '\0';
    return out;
}

static bool occurs_once(const struct incoming *message, size_t i)
{
    for (size_t j = 0; j < message->n_headers; j++) {
        if (j != i && slice_equal(message->headers[j].name, message->headers[i].name))
            return false;
    }
    return true;
}

static void fill_metadata(struct arena *arena, pb_consumed_message *to,
                          const struct incoming *message, size_t i)
{
    const struct header *header = &message->headers[i];

    if (!is_text(header->name) || !is_text(header->value) || message_is_null(header->value) ||
        !occurs_once(message, i))
        return;

    pb_consumed_metadata *entry = arena_alloc(arena, sizeof *entry);

    prism__patterns__consumer__consumed_message__metadata_entry__init(entry);
    entry->key = to->headers[i]->name;
    entry->value = arena_strdup(arena, header->value);
    to->metadata[to->n_metadata++] = entry;
}

/* Without the one that tells where the payload lies, which is ours. */
static const struct incoming *own_headers(struct arena *arena, const struct incoming *message)
{
    struct incoming *copy = arena_alloc(arena, sizeof *copy);
    struct header *headers = arena_array(arena, message->n_headers, sizeof *headers);

    *copy = *message;
    copy->headers = headers;
    copy->n_headers = 0;
    for (size_t i = 0; i < message->n_headers; i++) {
        if (!slice_equal(message->headers[i].name, slice_str(CLAIM_HEADER)))
            headers[copy->n_headers++] = message->headers[i];
    }
    return copy;
}

static void fill_headers(struct arena *arena, pb_consumed_message *to,
                         const struct incoming *message)
{
    if (message->n_headers == 0)
        return;
    to->headers = arena_alloc(arena, message->n_headers * sizeof *to->headers);
    to->metadata = arena_alloc(arena, message->n_headers * sizeof *to->metadata);
    for (size_t i = 0; i < message->n_headers; i++) {
        pb_header *header = arena_alloc(arena, sizeof *header);

        prism__patterns__schemas__header__init(header);
        header->name = name_of(arena, message->headers[i].name);
        if (!message_is_null(message->headers[i].value)) {
            header->_value_case = PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE;
            header->value = pb_bytes(message->headers[i].value);
        }
        to->headers[to->n_headers++] = header;
    }
    for (size_t i = 0; i < message->n_headers; i++)
        fill_metadata(arena, to, message, i);
}

static void fill_place(struct arena *arena, pb_consumed_message *to, const struct incoming *message)
{
    if (message->partition >= 0) {
        to->_partition_case = CONSUMER_PB(CONSUMED_MESSAGE___PARTITION_PARTITION);
        to->partition = message->partition;
    }
    if (message->offset >= 0) {
        to->_offset_case = CONSUMER_PB(CONSUMED_MESSAGE___OFFSET_OFFSET);
        to->offset = message->offset;
    }
    if (!message_is_null(message->position))
        to->position = arena_strdup(arena, message->position);
    else if (message->offset >= 0)
        to->position = arena_decimal(arena, message->offset);
    if (message->timestamp_ms != 0) {
        to->_timestamp_ms_case = CONSUMER_PB(CONSUMED_MESSAGE___TIMESTAMP_MS_TIMESTAMP_MS);
        to->timestamp_ms = (int64_t)message->timestamp_ms;
    }
    if (message->attempt != 0) {
        to->_attempt_case = CONSUMER_PB(CONSUMED_MESSAGE___ATTEMPT_ATTEMPT);
        to->attempt = (int32_t)message->attempt;
    }
}

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

const char *member_message_id(const struct member *member, struct arena *arena,
                              const struct incoming *message)
{
    const struct topics *topics = &member->feed->consumer->topics;
    struct slice id = feed_message_id(member->feed, message);

    if (id.len > 0 && is_text(id))
        return arena_strdup(arena, id);
    return message_id_made(arena, topics_unmap(topics, message->topic), message->position,
                           message->partition, message->offset);
}

static Prism__Patterns__Schemas__ClaimReference *claim_of(struct arena *arena,
                                                          const struct claim *claim)
{
    Prism__Patterns__Schemas__ClaimReference *to = arena_alloc(arena, sizeof *to);

    prism__patterns__schemas__claim_reference__init(to);
    to->key = arena_strdup(arena, claim->key);
    to->size = (int64_t)claim->size;
    to->sha256 = pb_bytes(slice_of(claim->sha256.bytes, DIGEST_BYTES));
    return to;
}

static pb_consumed_message *message_of(const struct member *member, struct arena *arena,
                                       const struct delivery *delivery)
{
    const struct incoming *message = delivery->message;
    pb_consumed_message *to = arena_alloc(arena, sizeof *to);

    prism__patterns__consumer__consumed_message__init(to);
    to->message_id = pb_text(member_message_id(member, arena, message));
    to->topic = slice_equal(message->topic, member->feed->topic)
                    ? pb_text(member->topic)
                    : name_of(arena, topics_unmap(&member->feed->consumer->topics, message->topic));
    if (delivery->claim != NULL &&
        (delivery->object == NULL || delivery->claim->size > member->max_inline_bytes)) {
        to->_claim_case = CONSUMER_PB(CONSUMED_MESSAGE___CLAIM_CLAIM);
        to->claim = claim_of(arena, delivery->claim);
    } else if (!message_is_null(message->payload)) {
        to->_payload_case = CONSUMER_PB(CONSUMED_MESSAGE___PAYLOAD_PAYLOAD);
        to->payload = pb_bytes(message->payload);
    }
    if (!message_is_null(message->key)) {
        to->_ordering_key_case = CONSUMER_PB(CONSUMED_MESSAGE___ORDERING_KEY_ORDERING_KEY);
        to->ordering_key = pb_bytes(message->key);
    }
    if (!member->outlet->bidi)
        to->subscription_id = pb_text(member->id);
    to->sequence = (int64_t)delivery->sequence;
    fill_place(arena, to, message);
    fill_headers(arena, to, delivery->claim != NULL ? own_headers(arena, message) : message);
    return to;
}

/* ---- a frame ---- */

static size_t bytes_of(const struct incoming *message)
{
    size_t bytes = message->key.len + message->payload.len + 64;

    for (size_t i = 0; i < message->n_headers; i++)
        bytes += 2 * (message->headers[i].name.len + message->headers[i].value.len) + 16;
    return bytes;
}

static void hand_out(struct member *member, struct delivery *delivery)
{
    struct consumer *consumer = member->feed->consumer;
    uint64_t now = consumer->base.home->now_ns;
    size_t payload = delivery->message->key.len + delivery->message->payload.len;

    delivery->state = DELIVERY_OUT;
    delivery->member = member;
    delivery->sequence =
        settling_add(&member->settling, delivery->parcel->batch, delivery->message);
    delivery->expires_ns = member->lease_ms != 0 ? now + member->lease_ms * NS_PER_MS : 0;
    delivery->most_ns = now + consumer->settings.max_lease_ms * NS_PER_MS;
    member->feed->out_count++;
    if (member->credited)
        member->credit--;
    member->credit_bytes -= (int64_t)payload;
    counter_add(&consumer->stats.unsettled, 1);
    counter_add(&consumer->stats.delivered, 1);
    counter_add(&consumer->stats.delivered_bytes, payload);
    if (delivery->message->attempt > 1) {
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
        ahead = member->frames_bytes - member->frames[member->oldest].bytes;
    return ahead < CALL_AHEAD_BYTES ? CALL_AHEAD_BYTES - ahead : 0;
}

/* A frame that goes alone takes one message of any size. */
static bool fits(const struct member *member, const struct frame *frame, size_t bytes)
{
    if (member->n_frames > 0 && bytes > member_room_ahead(member))
        return false;
    return frame->n == 0 || bytes <= member->max_frame_bytes;
}

bool member_fills_frame(const struct member *member, size_t n)
{
    const struct feed *feed = member->feed;

    if (n > feed->ready_count)
        n = feed->ready_count;
    if (n > member_room(member))
        n = member_room(member);
    return n >= member->max_frame_messages ||
           (n > 0 && n * bytes_of(feed->ready->message) >= member->max_frame_bytes);
}

static void add_messages(struct member *member, struct frame *frame, size_t most)
{
    struct feed *feed = member->feed;

    if (most > member->max_frame_messages)
        most = member->max_frame_messages;
    frame->parcels = arena_alloc(&frame->arena, most * sizeof(struct parcel *));
    frame->objects = arena_alloc(&frame->arena, most * sizeof(struct object *));
    frame->sequences = arena_alloc(&frame->arena, most * sizeof *frame->sequences);
    frame->response.messages = arena_alloc(&frame->arena, most * sizeof(pb_consumed_message *));
    while (frame->n < most && feed->ready != NULL && member_room(member) > 0) {
        size_t bytes = frame->bytes + bytes_of(feed->ready->message);

        if (!fits(member, frame, bytes))
            break;

        struct delivery *delivery = feed_next_ready(feed);

        if (object_is_wanted(member, delivery)) {
            object_fetch(delivery);
            continue;
        }

        frame->bytes = bytes;
        hand_out(member, delivery);
        parcel_hold(delivery->parcel);
        frame->parcels[frame->n] = delivery->parcel;
        frame->objects[frame->n] = object_ref(delivery->object);
        frame->sequences[frame->n++] = delivery->sequence;
        frame->response.messages[frame->response.n_messages++] =
            message_of(member, &frame->arena, delivery);
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

void member_send(struct member *member, size_t most)
{
    struct frame *frame = &member->frames[(member->oldest + member->n_frames) % CALL_SENDS];
    pb_consume_response *response = &frame->response;

    if (most > 0)
        fetch_first(member);
    if (most > member->feed->ready_count) /* others were first */
        most = member->feed->ready_count;
    if (member->n_frames > 0 &&
        (most == 0 || !fits(member, &(struct frame){0}, bytes_of(member->feed->ready->message))))
        return;
    if (most == 0 ? !member_has_news(member) : member_room(member) == 0 && !member_has_news(member))
        return;
    *frame = (struct frame){.outlet = member->outlet,
                            .go.run = outlet_send,
                            .sent.run = member_sent,
                            .arena = member->notes_memory};
    arena_init(&member->notes_memory, &member->feed->consumer->base.home->arenas);
    prism__patterns__consumer__consume_response__init(response);
    if (!member->started && !member->leaving)
        tell_started(member, frame);
    response->failures =
        (pb_settlement_failure **)take_notes(frame, &member->failures, &response->n_failures);
    response->revoked = (pb_revoked **)take_notes(frame, &member->revoked, &response->n_revoked);
    response->gaps = (pb_gap **)take_notes(frame, &member->gaps, &response->n_gaps);
    response->extended =
        (pb_extended **)take_notes(frame, &member->extended, &response->n_extended);
    if (member->owes_assigned)
        feed_tell_assigned(member->feed, frame);
    member->owes_assigned = false;
    add_messages(member, frame, most);
    member->told_through = through(member);
    response->settled_through = (int64_t)member->told_through;
    response->draining = member->told_drain = member->owes_drain;
    member->n_frames++;
    member->frames_bytes += frame->bytes;
    worker_land(member->outlet->worker, &frame->go);
}

void member_clear_frame(struct member *member)
{
    struct frame *frame = &member->frames[member->oldest];

    member->oldest = (member->oldest + 1) % CALL_SENDS;
    member->n_frames--;
    member->frames_bytes -= frame->bytes;
    for (size_t i = 0; i < frame->n; i++) {
        object_unref(frame->objects[i]);
        parcel_unhold(frame->parcels[i]);
    }
    arena_clear(&frame->arena);
    *frame = (struct frame){0};
}
