/* Reading of requests, before the first effect. */
#include "patterns/check.h"
#include "patterns/consumer/consumer_priv.h"

static struct err fault(const char *field, const char *text)
{
    return err_about(ERR_INVALID_ARGUMENT, field, text);
}

struct err consumer_check_delay(int64_t delay_ms)
{
    if (delay_ms < 0 || delay_ms > CONSUMER_MAX_DELAY_MS)
        return fault("delay_ms", "delay_ms is out of range");
    return ERR_NONE;
}

struct err consumer_check_disposition(pb_disposition disposition)
{
    if (!check_is_known(&prism__patterns__consumer__disposition__descriptor, (int)disposition))
        return fault("disposition", "disposition has to be a number of Disposition");
    return ERR_NONE;
}

static struct err check_name(const char *name, const char *field)
{
    if (strlen(name) > MESSAGE_TOPIC_BYTES)
        return fault(field, "the name is too long");
    for (; *name != '\0'; name++) {
        if ((unsigned char)*name <= ' ' || *name == 0x7f || *name == '*' || *name == '>')
            return fault(field, "the name holds a blank, a control character or a wildcard");
    }
    return ERR_NONE;
}

static struct err read_names(const struct consumer *consumer, struct arena *arena,
                             const char *topic, const char *group, struct slice *full,
                             struct slice *name)
{
    struct err err = topics_map(&consumer->topics, arena, slice_str(topic), full);

    if (err.code == ERR_OK)
        err = check_name(group, "consumer_group");
    *name = slice_str(group[0] != '\0' ? group : consumer->settings.default_group);
    return err;
}

struct err consumer_read_group(const struct consumer *consumer, struct arena *arena,
                               const char *topic, const char *group, struct slice *full,
                               struct slice *name)
{
    struct err err = read_names(consumer, arena, topic, group, full, name);

    if (err.code == ERR_OK && name->len == 0 && consumer->plan.from.queue == NULL)
        err = fault("consumer_group", "consumer_group is empty, and there is no default_group");
    return err;
}

/* ---- where to begin ---- */

enum { MOST_PLACES = 1024 };

static struct err read_place(const pb_partition_position *from, struct feed_place *to)
{
    *to = (struct feed_place){.partition = from->partition};
    if (from->place_case == PRISM__PATTERNS__SCHEMAS__PARTITION_POSITION__PLACE_OFFSET) {
        to->start = START_OFFSET;
        to->at = from->offset;
        return from->offset < 0 ? fault("positions.offset", "offset is negative") : ERR_NONE;
    }
    if (from->place_case != PRISM__PATTERNS__SCHEMAS__PARTITION_POSITION__PLACE_POSITION)
        return fault("positions", "a place has to be set");
    to->start = START_POSITION;
    to->position = slice_str(from->position);
    return ERR_NONE;
}

/* The group is moved there before the subscription begins. */
static struct err read_several(struct arena *arena,
                               const Prism__Patterns__Schemas__PartitionPositions *from,
                               struct feed_want *want)
{
    struct feed_place *places = arena_array(arena, from->n_partitions, sizeof *places);

    if (want->group.len == 0)
        return err_make(ERR_UNIMPLEMENTED, "start in several partitions without a group not "
                                           "supported: a group has the positions");
    for (size_t i = 0; i < from->n_partitions; i++) {
        struct err err = read_place(from->partitions[i], &places[i]);

        if (err.code != ERR_OK)
            return err;
        for (size_t j = 0; j < i; j++) {
            if (places[j].partition == places[i].partition)
                return fault("positions", "a partition is named more than once");
        }
    }
    want->places = places;
    want->n_places = from->n_partitions;
    return ERR_NONE;
}

static struct err read_positions(struct arena *arena, const pb_subscribe_request *request,
                                 struct feed_want *want)
{
    struct feed_place place;
    struct err err;

    if (request->positions->n_partitions == 0)
        return fault("positions", "a place has to be set");
    if (request->positions->n_partitions > MOST_PLACES)
        return fault("positions", "at most 1024 partitions can be named");
    if (request->positions->n_partitions > 1)
        return read_several(arena, request->positions, want);
    err = read_place(request->positions->partitions[0], &place);
    want->partition = place.partition;
    want->start = place.start;
    want->at = place.at;
    want->position = place.position;
    return err;
}

static struct err read_named(pb_start_position position, struct feed_want *want)
{
    switch (position) {
    case CONSUMER_PB(START_POSITION__EARLIEST):
        want->start = START_EARLIEST;
        return ERR_NONE;
    case CONSUMER_PB(START_POSITION__LATEST):
        want->start = START_LATEST;
        return ERR_NONE;
    case CONSUMER_PB(START_POSITION__START_POSITION_UNSPECIFIED):
    case CONSUMER_PB(START_POSITION__COMMITTED):
        want->start = START_COMMITTED;
        return ERR_NONE;
    default:
        return fault("position", "no such position");
    }
}

static const struct origin *origin_of(const struct consumer *consumer, const struct feed_want *want)
{
    return want->letters ? &consumer->plan.letters : &consumer->plan.from;
}

static bool can_replay(const struct origin *from)
{
    return from->stream != NULL && from->stream->seek != NULL;
}

static struct err read_start(const struct consumer *consumer, struct arena *arena,
                             const pb_subscribe_request *request, struct feed_want *want)
{
    struct err err = ERR_NONE;

    want->start = START_COMMITTED;
    want->partition = -1;
    switch (request->start_case) {
    case CONSUMER_PB(SUBSCRIBE_REQUEST__START_OFFSET):
        want->start = START_OFFSET;
        want->at = request->offset;
        break;
    case CONSUMER_PB(SUBSCRIBE_REQUEST__START_TIMESTAMP_MS):
        want->start = START_TIME;
        want->at = request->timestamp_ms;
        break;
    case CONSUMER_PB(SUBSCRIBE_REQUEST__START_POSITION):
        err = read_named(request->position, want);
        break;
    case CONSUMER_PB(SUBSCRIBE_REQUEST__START_POSITIONS):
        err = read_positions(arena, request, want);
        break;
    default:
        break;
    }
    if (err.code == ERR_OK && want->at < 0)
        return fault("start", "the start is negative");
    if (err.code == ERR_OK && want->start != START_LATEST &&
        (want->start != START_COMMITTED || want->n_places > 0) &&
        !can_replay(origin_of(consumer, want)))
        return need_unmet(consumer_need_of(NEED_REPLAY));
    return err;
}

static struct err read_if_none(const pb_subscribe_request *request, struct feed_want *want)
{
    bool latest = want->group.len == 0;

    if (request->if_none == CONSUMER_PB(START_POSITION__COMMITTED))
        return fault("if_none", "if_none has to be EARLIEST or LATEST");
    if (request->if_none != CONSUMER_PB(START_POSITION__START_POSITION_UNSPECIFIED))
        latest = request->if_none == CONSUMER_PB(START_POSITION__LATEST);
    want->if_none = latest ? START_LATEST : START_EARLIEST;
    want->on_gap = request->on_gap == CONSUMER_PB(GAP_POLICY__GAP_FAIL)     ? GAP_FAIL
                   : request->on_gap == CONSUMER_PB(GAP_POLICY__GAP_LATEST) ? GAP_LATEST
                                                                            : GAP_EARLIEST;
    return ERR_NONE;
}

/* ---- bounds ---- */

enum { MAX_WAIT_MS = 60000 };

static struct err read_bounds(const struct consumer *consumer, const pb_subscribe_request *request,
                              struct member_want *want)
{
    const struct consumer_settings *settings = &consumer->settings;

    want->max_in_flight = settings->max_in_flight;
    want->max_in_flight_bytes = settings->max_in_flight_bytes;
    want->max_frame_messages = settings->max_frame_messages;
    want->max_frame_bytes = settings->max_frame_bytes;
    if (request->_max_in_flight_case != 0 && request->max_in_flight < 1)
        return fault("max_in_flight", "max_in_flight has to be 1 or more");
    if (request->_max_in_flight_bytes_case != 0 && request->max_in_flight_bytes < 1)
        return fault("max_in_flight_bytes", "max_in_flight_bytes has to be 1 or more");
    if (request->_max_frame_messages_case != 0 && request->max_frame_messages < 1)
        return fault("max_frame_messages", "max_frame_messages has to be 1 or more");
    if (request->_max_frame_bytes_case != 0 && request->max_frame_bytes < 1)
        return fault("max_frame_bytes", "max_frame_bytes has to be 1 or more");
    if (request->_max_inline_bytes_case != 0 && request->max_inline_bytes < 0)
        return fault("max_inline_bytes", "max_inline_bytes is negative");
    if (request->_max_wait_ms_case != 0 &&
        (request->max_wait_ms < 0 || request->max_wait_ms > MAX_WAIT_MS))
        return fault("max_wait_ms", "max_wait_ms has to be 0 to 60000");
    /* The server's bounds hold; ConsumeStarted tells what came of it. */
    if (request->_max_in_flight_case != 0 && (uint32_t)request->max_in_flight < want->max_in_flight)
        want->max_in_flight = (uint32_t)request->max_in_flight;
    if (request->_max_in_flight_bytes_case != 0 &&
        (uint64_t)request->max_in_flight_bytes < want->max_in_flight_bytes)
        want->max_in_flight_bytes = (uint64_t)request->max_in_flight_bytes;
    if (request->_max_frame_messages_case != 0 &&
        (uint32_t)request->max_frame_messages < want->max_frame_messages)
        want->max_frame_messages = (uint32_t)request->max_frame_messages;
    if (request->_max_frame_bytes_case != 0 &&
        (uint64_t)request->max_frame_bytes < want->max_frame_bytes)
        want->max_frame_bytes = (uint64_t)request->max_frame_bytes;
    if (request->_max_wait_ms_case != 0)
        want->max_wait_ms = (uint64_t)request->max_wait_ms;
    want->max_inline_bytes = settings->max_inline_bytes;
    if (request->_max_inline_bytes_case != 0 &&
        (uint64_t)request->max_inline_bytes < want->max_inline_bytes)
        want->max_inline_bytes = (uint64_t)request->max_inline_bytes;
    return ERR_NONE;
}

static struct err read_lease(const struct consumer *consumer, const pb_subscribe_request *request,
                             struct member_want *want)
{
    if (request->_lease_ms_case == 0)
        return ERR_NONE;
    if (request->lease_ms < 1 || (uint64_t)request->lease_ms > consumer->settings.max_lease_ms)
        return fault("lease_ms", "lease_ms has to be 1 to max_lease_ms of the capabilities");
    want->lease_ms = (uint64_t)request->lease_ms;
    return ERR_NONE;
}

static struct err read_tokens(const struct consumer *consumer, const pb_subscribe_request *request,
                              struct member_want *want)
{
    want->ack_tokens = request->ack_tokens;
    if (!want->ack_tokens)
        return ERR_NONE;
    if (!consumer_meets(&consumer->plan, NEED_ANYWHERE))
        return need_unmet(consumer_need_of(NEED_ANYWHERE));
    if (want->automatic)
        return fault("ack_tokens", "ACK_AUTO settles by itself");
    if (want->feed.letters)
        return fault("ack_tokens", "dead letters are settled by the subscription that has them");
    if (want->feed.group.len == 0 && consumer->plan.from.queue == NULL)
        return fault("ack_tokens", "a subscription of no group has its messages for itself");
    return ERR_NONE;
}

/* Both need a source that hands over in the log's order what comes again. */
static struct err read_order(const struct origin *from, pb_order_mode order, struct feed_want *want)
{
    bool kept = from->settling != NULL && from->source->keyed;

    if (order == CONSUMER_PB(ORDER_MODE__ORDER_PER_KEY)) {
        want->order = ORDER_BY_KEY;
        return kept ? ERR_NONE : need_unmet(consumer_need_of(NEED_KEYED));
    }
    if (order == CONSUMER_PB(ORDER_MODE__ORDER_PARTITION)) {
        want->order = ORDER_BY_PARTITION;
        return kept ? ERR_NONE : need_unmet(consumer_need_of(NEED_PARTITION_ORDER));
    }
    return ERR_NONE;
}

static struct err check_modes(const pb_subscribe_request *request)
{
    if (!check_is_known(&prism__patterns__schemas__ack_mode__descriptor, (int)request->ack_mode))
        return fault("ack_mode", "ack_mode has to be a number of AckMode");
    if (!check_is_known(&prism__patterns__consumer__order_mode__descriptor, (int)request->order))
        return fault("order", "order has to be a number of OrderMode");
    if (!check_is_known(&prism__patterns__consumer__start_position__descriptor,
                        (int)request->if_none))
        return fault("if_none", "if_none has to be EARLIEST or LATEST");
    if (!check_is_known(&prism__patterns__consumer__gap_policy__descriptor, (int)request->on_gap))
        return fault("on_gap", "on_gap has to be a number of GapPolicy");
    return ERR_NONE;
}

static struct err read_modes(const struct consumer *consumer, const pb_subscribe_request *request,
                             struct member_want *want)
{
    const struct origin *from = origin_of(consumer, &want->feed);

    want->automatic = request->ack_mode == PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO ||
                      (from->settling == NULL &&
                       request->ack_mode != PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_MANUAL);
    if (!want->automatic && from->settling == NULL)
        return need_unmet(consumer_need_of(NEED_SETTLING));
    return read_order(from, request->order, &want->feed);
}

/* Where dead letters go, or, with `dead_letters`, come from. */
static struct err read_dead(const struct consumer *consumer, struct arena *arena,
                            const pb_subscribe_request *request, struct feed_want *want)
{
    struct slice topic = message_null();
    struct err err = ERR_NONE;

    if (request->dead_letters && !consumer_meets(&consumer->plan, NEED_REDRIVE))
        return need_unmet(consumer_need_of(NEED_REDRIVE));
    if (consumer_meets(&consumer->plan, NEED_DEAD_LETTER))
        err = dead_topic_of(consumer, arena, want->topic, want->group, &topic);
    want->letters = request->dead_letters;
    if (want->letters)
        want->topic = topic;
    else
        want->dead_topic = topic;
    return err;
}

struct err consumer_read(const struct consumer *consumer, struct arena *arena,
                         const pb_subscribe_request *request, struct member_want *want)
{
    struct err err = read_names(consumer, arena, request->topic, request->consumer_group,
                                &want->feed.topic, &want->feed.group);

    *want = (struct member_want){
        .feed = {.topic = want->feed.topic, .group = want->feed.group},
        .topic = request->topic,
        .consumer_id = request->consumer_id,
        .alone = want->alone,
    };
    /* A queue has one group: all who take from it. */
    if (consumer->plan.from.queue != NULL || want->alone)
        want->feed.group = message_empty();
    if (err.code == ERR_OK)
        err = check_name(request->consumer_id, "consumer_id");
    if (err.code == ERR_OK)
        err = check_modes(request);
    if (err.code == ERR_OK)
        err = read_dead(consumer, arena, request, &want->feed);
    if (err.code == ERR_OK)
        err = read_modes(consumer, request, want);
    if (err.code == ERR_OK)
        err = read_tokens(consumer, request, want);
    if (err.code == ERR_OK)
        err = read_start(consumer, arena, request, &want->feed);
    if (err.code == ERR_OK)
        err = read_if_none(request, &want->feed);
    if (err.code == ERR_OK)
        err = read_bounds(consumer, request, want);
    if (err.code == ERR_OK)
        err = read_lease(consumer, request, want);
    want->feed.shared = origin_of(consumer, &want->feed)->queue != NULL || want->feed.group.len > 0;
    return err;
}
