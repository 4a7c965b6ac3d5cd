/* GetState and Seek: what the source knows of a group, and what this server adds. */
#include "patterns/consumer/member.h"
#include "patterns/errand.h"

#include "pool/worker.h"
#include "src/base/clock.h"

struct state {
    struct call *call;
    struct stream_position position;
    struct stream_seek seek;
    const Prism__Patterns__Schemas__PartitionPositions *places; /* Seek: NULL: `seek` is all */
    size_t moved;                                               /* of places */
    struct errand errand;
    struct consumer *home;
    const char *consumer_id;
    struct slice topic, group;
    struct arena memory; /* of what the home tells */
    pb_get_state_response response;
};

static struct state *state_new(struct call *call, const char *topic, const char *group)
{
    struct state *state = arena_zalloc(call_arena(call), sizeof *state);
    struct consumer *consumer = consumer_of(call);
    struct err err = consumer_meets(&consumer->plan, NEED_POSITION)
                         ? ERR_NONE
                         : need_unmet(consumer_need_of(NEED_POSITION));

    state->call = call;
    if (err.code == ERR_OK)
        err = consumer_read_group(consumer, call_arena(call), topic, group, &state->topic,
                                  &state->group);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return NULL;
    }
    state->position.topic = state->topic;
    state->position.group = state->group;
    return state;
}

static void ask_position(struct state *state, op_done_fn *done)
{
    struct consumer *consumer = consumer_of(state->call);

    call_start(state->call, &state->position.op, done);
    consumer->plan.from.stream->position(consumer->source, &state->position);
}

static int32_t partition_of(const struct stream_partition *partition)
{
    return partition->partition < 0 ? 0 : partition->partition;
}

/* ---- GetState ---- */

static void add_member(struct state *state, const struct member *member)
{
    pb_member *to = arena_alloc(&state->memory, sizeof *to);

    prism__patterns__consumer__member__init(to);
    to->consumer_id = arena_strdup(&state->memory, slice_str(member->consumer_id));
    to->subscription_id = arena_strdup(&state->memory, slice_str(member->id));
    to->in_flight = (int32_t)member->settling.unsettled;
    to->in_flight_bytes = (int64_t)member->settling.bytes;
    if (member->credited) {
        to->_credit_case = CONSUMER_PB(MEMBER___CREDIT_CREDIT);
        to->credit = (int64_t)member->credit;
    }
    state->response.in_flight += to->in_flight;
    state->response.members[state->response.n_members++] = to;
}

/* Has it failed at what it is at: its dead letter, or its object? */
static bool is_troubled(const struct delivery *delivery)
{
    if (delivery->state == DELIVERY_DYING)
        return delivery->more && more_of(delivery)->dying_of != NULL;
    return delivery->state == DELIVERY_FETCHING && more_of(delivery)->vain > 0;
}

/* Is one of the feed's in this state, and troubled? */
static bool has_troubled(const struct feed *feed, enum delivery_state state)
{
    for (struct parcel *parcel = feed->parcels; parcel != NULL; parcel = parcel->next) {
        for (uint32_t i = 0; i < parcel->n; i++) {
            if (parcel_at(parcel, i)->state == state && is_troubled(parcel_at(parcel, i)))
                return true;
        }
    }
    return false;
}

/* What keeps messages of it back until it is mended. NULL: nothing that is known. The consumer's
 * troubles may be those of other groups. */
static const char *trouble_of(const struct feed *feed)
{
    const struct consumer *consumer = feed->consumer;
    const char *letters = trouble_text(&consumer->letters.trouble);
    const char *objects = trouble_text(&consumer->object_trouble);

    if (letters != NULL && has_troubled(feed, DELIVERY_DYING))
        return letters;
    if (objects != NULL && has_troubled(feed, DELIVERY_FETCHING))
        return objects;
    return feed_stalled(feed);
}

/* Which bound keeps them back until some are settled. To be at one says nothing of messages that
 * wait. */
static const char *bound_of(const struct feed *feed, const struct stream_position *position)
{
    if ((!feed->full && !feed->starved) || feed_waiting(position) == 0)
        return NULL;
    return feed->full ? "the messages that are held fill max_group_bytes"
                      : "the messages that are held fill max_message_memory";
}

static void add_feed(struct state *state, const struct feed *feed)
{
    pb_get_state_response *response = &state->response;
    const char *trouble = trouble_of(feed);
    const char *reason = trouble != NULL ? trouble : bound_of(feed, &state->position);
    size_t n = 0;

    for (const struct member *member = feed->members; member != NULL; member = member->next)
        n++;
    response->members = arena_alloc(&state->memory, n * sizeof *response->members);
    for (const struct member *member = feed->members; member != NULL; member = member->next) {
        if (!member->leaving &&
            (state->consumer_id[0] == '\0' || strcmp(state->consumer_id, member->consumer_id) == 0))
            add_member(state, member);
    }
    response->running = response->n_members > 0;
    response->parked += (int64_t)feed->parked_count;
    response->dead_lettered = (int64_t)feed->dead_lettered;
    response->retry_count = feed->redelivered < INT32_MAX ? (int32_t)feed->redelivered : INT32_MAX;
    response->last_updated_ms = (int64_t)feed->last_settled_ms;
    response->stuck = trouble != NULL;
    if (reason != NULL)
        response->stalled_reason = pb_text(reason);
}

static void tell_there(struct errand *errand)
{
    struct state *state = CONTAINER_OF(errand, struct state, errand);

    for (const struct feed *feed = state->home->feeds; feed != NULL; feed = feed->next) {
        if (feed->shared && !feed->letters && !feed->going &&
            slice_equal(feed->topic, state->topic) && slice_equal(feed->group_name, state->group)) {
            add_feed(state, feed);
            break;
        }
    }
    op_finish(&state->errand.op, ERR_NONE);
}

static void add_partition(struct state *state, const struct stream_partition *from)
{
    pb_get_state_response *response = &state->response;
    pb_partition_state *to = arena_alloc(&state->memory, sizeof *to);

    prism__patterns__consumer__partition_state__init(to);
    to->partition = partition_of(from);
    if (from->committed >= 0) {
        to->_committed_offset_case =
            CONSUMER_PB(PARTITION_STATE___COMMITTED_OFFSET_COMMITTED_OFFSET);
        to->committed_offset = from->committed;
        response->offset += from->committed;
    }
    if (from->lag >= 0) {
        to->_lag_case = CONSUMER_PB(PARTITION_STATE___LAG_LAG);
        to->lag = from->lag;
        response->_lag_case = CONSUMER_PB(GET_STATE_RESPONSE___LAG_LAG);
        response->lag += from->lag;
    }
    if (!message_is_null(from->position))
        to->committed_position = arena_strdup(&state->memory, from->position);
    else if (from->committed >= 0)
        to->committed_position = arena_decimal(&state->memory, from->committed);
    response->partitions[response->n_partitions++] = to;
}

static void reply(struct state *state)
{
    call_reply(state->call, &state->response.base);
    arena_clear(&state->memory);
}

static void told(struct op *op)
{
    struct errand *errand = CONTAINER_OF(op, struct errand, op);

    reply(CONTAINER_OF(errand, struct state, errand));
}

static void position_known(struct op *op)
{
    struct stream_position *position = CONTAINER_OF(op, struct stream_position, op);
    struct state *state = CONTAINER_OF(position, struct state, position);

    if (op->err.code != ERR_OK) {
        call_fail(state->call, op->err);
        return;
    }
    arena_init(&state->memory, NULL);
    if (position->found) {
        state->response.partitions =
            arena_alloc(&state->memory, position->n * sizeof *state->response.partitions);
        for (size_t i = 0; i < position->n; i++)
            add_partition(state, &position->partitions[i]);
        state->response.parked = position->parked > 0 ? position->parked : 0;
    }
    state->home = shared_home_of_group(consumer_of(state->call), state->topic, state->group);
    if (state->home == NULL) {
        reply(state);
        return;
    }
    state->errand.there = tell_there;
    errand_start(&state->errand, call_group(state->call), state->home->base.home, told);
}

void consumer_get_state(struct call *call)
{
    const pb_get_state_request *request = call_request(call);
    struct state *state = state_new(call, request->topic, request->consumer_group);

    if (state == NULL)
        return;
    prism__patterns__consumer__get_state_response__init(&state->response);
    state->consumer_id = request->consumer_id;
    ask_position(state, position_known);
}

/* ---- Seek ---- */

static void add_previous(struct state *state, pb_seek_response *response)
{
    struct arena *arena = call_arena(state->call);
    Prism__Patterns__Schemas__PartitionPositions *previous = arena_alloc(arena, sizeof *previous);

    prism__patterns__schemas__partition_positions__init(previous);
    previous->partitions = arena_alloc(arena, state->position.n * sizeof *previous->partitions);
    for (size_t i = 0; state->position.found && i < state->position.n; i++) {
        const struct stream_partition *from = &state->position.partitions[i];
        pb_partition_position *to = arena_alloc(arena, sizeof *to);

        if (from->committed < 0)
            continue;
        prism__patterns__schemas__partition_position__init(to);
        to->partition = partition_of(from);
        to->place_case = PRISM__PATTERNS__SCHEMAS__PARTITION_POSITION__PLACE_OFFSET;
        to->offset = from->committed;
        previous->partitions[previous->n_partitions++] = to;
    }
    response->previous = previous;
}

static void reply_seek(struct state *state, struct err err)
{
    pb_seek_response response;

    prism__patterns__consumer__seek_response__init(&response);
    response.success = err.code == ERR_OK;
    response.code = (int32_t)err.code;
    if (err.code != ERR_OK) {
        response._error_case = CONSUMER_PB(SEEK_RESPONSE___ERROR_ERROR);
        response.error = pb_text(err.text);
    }
    add_previous(state, &response);
    call_reply(state->call, &response.base);
}

/* Of several partitions some were moved, and then one could not be. */
static struct err moved_in_part(const struct state *state, struct err err)
{
    if (state->places == NULL || state->moved == 0)
        return err;
    err.text = arena_printf(call_arena(state->call),
                            "%zu of %zu partitions were moved; then %d: %s", state->moved,
                            state->places->n_partitions, (int)state->seek.partition, err.text);
    return err;
}

static void seek_next(struct state *state);

static void sought(struct op *op)
{
    struct stream_seek *seek = CONTAINER_OF(op, struct stream_seek, op);
    struct state *state = CONTAINER_OF(seek, struct state, seek);
    struct err err = op->err;

    if (err.code == ERR_OK && state->places != NULL &&
        ++state->moved < state->places->n_partitions) {
        seek_next(state);
        return;
    }
    err = moved_in_part(state, err);
    if (err.code == ERR_UNAVAILABLE || err.code == ERR_CANCELLED ||
        err.code == ERR_DEADLINE_EXCEEDED || err.code == ERR_INVALID_ARGUMENT)
        call_fail(state->call, err);
    else
        reply_seek(state, err);
}

static struct err read_place(const pb_partition_position *place, struct stream_seek *seek)
{
    seek->partition = place->partition;
    switch (place->place_case) {
    case PRISM__PATTERNS__SCHEMAS__PARTITION_POSITION__PLACE_OFFSET:
        seek->start = START_OFFSET;
        seek->at = place->offset;
        return place->offset < 0
                   ? err_about(ERR_INVALID_ARGUMENT, "positions.offset", "offset is negative")
                   : ERR_NONE;
    case PRISM__PATTERNS__SCHEMAS__PARTITION_POSITION__PLACE_POSITION:
        seek->start = START_POSITION;
        seek->position = slice_str(place->position);
        return ERR_NONE;
    default:
        return err_about(ERR_INVALID_ARGUMENT, "positions", "a place has to be set");
    }
}

/* One partition after the other: the source moves a group within one. */
static void seek_next(struct state *state)
{
    struct consumer *consumer = consumer_of(state->call);

    state->seek = (struct stream_seek){.topic = state->topic, .group = state->group};
    read_place(state->places->partitions[state->moved], &state->seek);
    call_start(state->call, &state->seek.op, sought);
    consumer->plan.from.stream->seek(consumer->source, &state->seek);
}

static void previous_known(struct op *op)
{
    struct stream_position *position = CONTAINER_OF(op, struct stream_position, op);
    struct state *state = CONTAINER_OF(position, struct state, position);
    struct consumer *consumer = consumer_of(state->call);

    if (op->err.code != ERR_OK && op->err.code != ERR_NOT_FOUND) {
        call_fail(state->call, op->err);
        return;
    }
    if (state->places != NULL) {
        seek_next(state);
        return;
    }
    state->seek.topic = state->topic;
    state->seek.group = state->group;
    call_start(state->call, &state->seek.op, sought);
    consumer->plan.from.stream->seek(consumer->source, &state->seek);
}

/* All of them, before the first is moved. */
static struct err read_places(struct state *state,
                              const Prism__Patterns__Schemas__PartitionPositions *places)
{
    if (places->n_partitions == 0)
        return err_about(ERR_INVALID_ARGUMENT, "positions", "a place has to be set");
    for (size_t i = 0; i < places->n_partitions; i++) {
        struct err err = read_place(places->partitions[i], &state->seek);

        if (err.code != ERR_OK)
            return err;
        for (size_t j = 0; j < i; j++) {
            if (places->partitions[j]->partition == places->partitions[i]->partition)
                return err_about(ERR_INVALID_ARGUMENT, "positions",
                                 "a partition is named more than once");
        }
    }
    state->places = places;
    return ERR_NONE;
}

static struct err read_target(struct state *state, const pb_seek_request *request)
{
    struct stream_seek *seek = &state->seek;

    seek->partition = request->_partition_case == CONSUMER_PB(SEEK_REQUEST___PARTITION_PARTITION)
                          ? request->partition
                          : -1;
    switch (request->target_case) {
    case CONSUMER_PB(SEEK_REQUEST__TARGET_OFFSET):
        seek->start = START_OFFSET;
        seek->at = request->offset;
        break;
    case CONSUMER_PB(SEEK_REQUEST__TARGET_TIMESTAMP_MS):
        seek->start = START_TIME;
        seek->at = request->timestamp_ms;
        break;
    case CONSUMER_PB(SEEK_REQUEST__TARGET_POSITION):
        if (request->position != CONSUMER_PB(START_POSITION__EARLIEST) &&
            request->position != CONSUMER_PB(START_POSITION__LATEST))
            return err_about(ERR_INVALID_ARGUMENT, "position",
                             "position has to be EARLIEST or LATEST");
        seek->start = request->position == CONSUMER_PB(START_POSITION__EARLIEST) ? START_EARLIEST
                                                                                 : START_LATEST;
        break;
    case CONSUMER_PB(SEEK_REQUEST__TARGET_POSITIONS):
        return read_places(state, request->positions);
    default:
        return err_about(ERR_INVALID_ARGUMENT, "target", "a target has to be set");
    }
    return seek->at < 0 ? err_about(ERR_INVALID_ARGUMENT, "target", "the target is negative")
                        : ERR_NONE;
}

void consumer_seek(struct call *call)
{
    const pb_seek_request *request = call_request(call);
    struct consumer *consumer = consumer_of(call);
    struct state *state;
    struct err err;

    if (!consumer_meets(&consumer->plan, NEED_REPLAY)) {
        call_fail(call, need_unmet(consumer_need_of(NEED_REPLAY)));
        return;
    }
    if (request->subscription_id[0] != '\0') {
        call_fail(call, err_make(ERR_UNIMPLEMENTED, "Seek of a subscription without a group not "
                                                    "supported: subscribe anew"));
        return;
    }
    state = state_new(call, request->topic, request->consumer_group);
    if (state == NULL)
        return;
    err = read_target(state, request);
    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        ask_position(state, previous_known);
}
