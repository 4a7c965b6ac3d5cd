/* Where streams and their groups stand. */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"

static bool text_is(const struct redis_node *node, const char *text)
{
    return slice_equal(node->text, slice_str(text));
}

/* ---- describe ---- */

static void describe_node(struct redis_call *call, const struct redis_node *node)
{
    struct stream_describe *describe = CONTAINER_OF(call->op, struct stream_describe, op);

    if (node->type != REDIS_REPLY_STATUS)
        redis_unexpected(call);
    else if (text_is(node, "stream"))
        describe->found = true;
    else if (!text_is(node, "none"))
        call->err = redis_stream_error(op_arena(call->op), slice_str("WRONGTYPE"));
}

static void describe_at(struct redis *redis, struct op *op);

static const struct redis_kind describe_kind = {.node = describe_node, .again = describe_at};

static void set_retention(const struct redis_store *store, struct stream_describe *describe)
{
    int eviction = atomic_load(&store->base.eviction);

    describe->retention = RETENTION_KEEPS_UNREAD;
    if (eviction == BACKEND_EVICTION_POSSIBLE)
        describe->retention_text = "maxmemory-policy of redis";
    else if (store->trim_unread && store->max_length > 0)
        describe->retention_text = "max_length, trim_unread";
    else if (store->trim_unread && store->max_age_ms > 0)
        describe->retention_text = "max_age_ms, trim_unread";
    else if (eviction == BACKEND_EVICTION_UNKNOWN)
        describe->retention = RETENTION_UNKNOWN;
    if (describe->retention_text != NULL)
        describe->retention = RETENTION_LOSSY;
}

static void describe_at(struct redis *redis, struct op *op)
{
    const struct stream_describe *describe = CONTAINER_OF(op, struct stream_describe, op);
    struct redis_call *call =
        redis_begin(redis, op, &describe_kind, describe->topic.len + redis_words(2));

    if (call == NULL)
        return;
    redis_command(call, 2, "TYPE");
    redis_word(call, describe->topic);
}

void redis_stream_describe(struct backend *backend, struct stream_describe *describe)
{
    struct redis *redis = redis_of(backend);

    describe->found = false;
    describe->partitions = 0;
    describe->ack = atomic_load(&backend->store->ack);
    describe->max_message_bytes = 0;
    describe->retention_text = NULL;
    set_retention(redis_store_of(redis), describe);
    describe_at(redis_to_key(redis, describe->topic), &describe->op);
}

/* ---- position: XINFO GROUPS, XPENDING ---- */

enum { ANSWER_GROUPS, ANSWER_PENDING };
enum naming { NAMES_OTHER, NAMES_NAME, NAMES_LAG, NAMES_LAST };

struct place {
    enum naming naming;
    bool here; /* the group that is being told of is the one */
    int64_t lag, pending, nobodys;
    struct redis_id last, lowest;
    bool is_lowest, is_nobody;
};

static enum naming naming_of(const struct redis_node *node)
{
    if (text_is(node, "name"))
        return NAMES_NAME;
    if (text_is(node, "lag"))
        return NAMES_LAG;
    return text_is(node, "last-delivered-id") ? NAMES_LAST : NAMES_OTHER;
}

static void groups_node(struct stream_position *position, struct place *place,
                        const struct redis_node *node)
{
    if (node->depth != 2)
        return;
    if (node->index % 2 == 0)
        place->naming = naming_of(node);
    else if (place->naming == NAMES_NAME)
        place->here = slice_equal(node->text, position->group);
    if (node->index % 2 == 0 || !place->here)
        return;
    position->found = true;
    if (place->naming == NAMES_LAG && node->type == REDIS_REPLY_INTEGER)
        place->lag = node->number;
    else if (place->naming == NAMES_LAST)
        redis_id_parse(node->text, &place->last);
}

int64_t redis_count_of(const struct redis_node *node)
{
    int64_t n = 0;

    if (node->type == REDIS_REPLY_INTEGER)
        return node->number;
    for (size_t i = 0; i < node->text.len && i < 18; i++)
        n = 10 * n + (node->text.data[i] - '0');
    return n;
}

/* [how many, lowest, highest, [[consumer, how many] ..]] */
static void pending_node(struct place *place, const struct redis_node *node)
{
    if (node->depth == 1 && node->index == 0)
        place->pending = node->number;
    else if (node->depth == 1 && node->index == 1 && node->type == REDIS_REPLY_STRING)
        place->is_lowest = redis_id_parse(node->text, &place->lowest);
    else if (node->depth == 3 && node->index == 0)
        place->is_nobody = text_is(node, REDIS_NOBODY);
    else if (node->depth == 3 && place->is_nobody)
        place->nobodys = redis_count_of(node);
}

static void position_node(struct redis_call *call, const struct redis_node *node)
{
    struct stream_position *position = CONTAINER_OF(call->op, struct stream_position, op);
    bool absent = redis_error_is(node->text, "NOGROUP") ||
                  slice_starts_with(node->text, slice_str("ERR no such key"));

    if (node->type == REDIS_REPLY_ERROR && absent)
        return;
    if (node->type == REDIS_REPLY_ERROR)
        call->err = redis_stream_error(op_arena(call->op), node->text);
    else if (call->answered == ANSWER_GROUPS)
        groups_node(position, call->state, node);
    else
        pending_node(call->state, node);
}

static void position_end(struct redis_call *call)
{
    struct stream_position *position = CONTAINER_OF(call->op, struct stream_position, op);
    const struct place *place = call->state;
    struct redis_id at = place->is_lowest ? place->lowest : place->last;
    char text[REDIS_ID_BYTES];

    if (!place->is_lowest)
        at.seq++;
    position->unsettled = position->parked = -1;
    if (call->err.code == ERR_OK && position->found) {
        struct stream_partition *all = arena_array(op_arena(call->op), 1, sizeof *all);

        *all = (struct stream_partition){
            .partition = -1, .first = -1, .end = -1, .committed = -1, .lag = -1};
        all->position = arena_copy(op_arena(call->op), redis_id_text(at, text));
        if (place->lag >= 0)
            all->lag = place->lag + place->pending;
        position->partitions = all;
        position->n = 1;
        position->unsettled = place->pending - place->nobodys;
    }
    redis_finish(call->redis, call->op, call->err);
}

static const struct redis_kind position_kind = {
    .item_errors = true, .node = position_node, .end = position_end};

void redis_stream_position(struct backend *backend, struct stream_position *position)
{
    struct redis *redis = redis_to_key(redis_of(backend), position->topic);
    struct place *place = arena_zalloc(op_arena(&position->op), sizeof *place);
    struct redis_call *call =
        redis_begin(redis, &position->op, &position_kind, 2 * position->topic.len + 512);

    position->found = false;
    position->partitions = NULL;
    position->n = 0;
    if (call == NULL)
        return;
    place->lag = -1;
    call->state = place;
    redis_command(call, 3, "XINFO");
    redis_word(call, slice_str("GROUPS"));
    redis_word(call, position->topic);
    redis_command(call, 3, "XPENDING");
    redis_word(call, position->topic);
    redis_word(call, position->group);
}

/* ---- seek ---- */

static void seek_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->depth != 1 || node->index != 0)
        return;
    if (text_is(node, "absent"))
        call->err = err_about(ERR_NOT_FOUND, "topic", "there is no such stream in redis");
    else if (text_is(node, "range"))
        call->err = err_about(ERR_OUT_OF_RANGE, "offset",
                              "the stream has no entry at this position any more, or not yet");
}

/* Readers here know at once: what they asked for behind the seek has not been answered. */
static void seek_end(struct redis_call *call)
{
    const struct stream_seek *seek = CONTAINER_OF(call->op, struct stream_seek, op);
    const struct redis_streams *streams = redis_streams_at(call->redis);

    for (struct redis_reader *reader = streams->readers; reader != NULL; reader = reader->next) {
        if (call->err.code == ERR_OK && slice_equal(reader->key, seek->topic) &&
            slice_equal(reader->group, seek->group))
            redis_reader_seeked(reader);
    }
    redis_finish(call->redis, call->op, call->err);
}

static void seek_at(struct redis *redis, struct op *op);

static const struct redis_kind seek_kind = {
    .writes = true, .node = seek_node, .end = seek_end, .again = seek_at};

static void say_seek(struct redis_call *call, const struct stream_seek *seek, const char *id,
                     struct slice checked)
{
    const struct redis_streams *streams = redis_streams_at(call->redis);

    redis_say_script(call, redis_script_enter, 2, 6);
    redis_word(call, seek->topic);
    redis_word(call, redis_stream_key(streams, op_arena(&seek->op), "wake", seek->topic));
    redis_word(call, seek->group);
    redis_word(call, slice_str("seek"));
    redis_word(call, slice_str(id));
    redis_word(call, slice_str("none"));
    redis_word(call, checked);
    redis_word(call, slice_str(streams->origin));
}

static void seek_at(struct redis *redis, struct op *op)
{
    const struct stream_seek *seek = CONTAINER_OF(op, struct stream_seek, op);
    char text[REDIS_ID_BYTES];
    struct slice checked;
    struct err err = redis_start_id(seek->start, seek->at, seek->position, text, &checked);
    struct redis_call *call;

    if (err.code == ERR_OK)
        err = redis_stream_check_name(redis, seek->topic);
    if (err.code != ERR_OK) {
        redis_finish(redis, op, err);
        return;
    }
    call = redis_begin(redis, op, &seek_kind, 4096);
    if (call != NULL)
        say_seek(call, seek, text, checked);
}

void redis_stream_seek(struct backend *backend, struct stream_seek *seek)
{
    seek_at(redis_to_key(redis_of(backend), seek->topic), &seek->op);
}
