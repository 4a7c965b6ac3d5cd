/* Entering: the group is made if it is not there, moved where the subscription wants to begin, and
 * looked at for messages that it has missed. Again after each connection, and while it reads. */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"

#include <stdio.h>

static void take_place(struct redis_reader *reader, size_t index, struct slice text)
{
    if (index == 0) {
        reader->absent = slice_equal(text, slice_str("absent"));
        if (slice_equal(text, slice_str("range")))
            reader->refused = ERR_OUT_OF_RANGE;
    } else if (index == 1) {
        redis_id_parse(text, &reader->seen);
    } else if (index == 3) {
        redis_id_parse(text, &reader->missing_from);
    } else if (index == 4 && !redis_id_parse(text, &reader->goes_on_at)) {
        reader->goes_on_at = (struct redis_id){0};
    }
}

static void enter_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;

    if (node->type == REDIS_REPLY_ERROR)
        redis_reader_refused(reader, node->text);
    else if (node->depth == 1 && node->index == 2)
        reader->missing = node->number;
    else if (node->depth == 1 && node->type == REDIS_REPLY_STRING)
        take_place(reader, node->index, node->text);
}

/* The group was there before, and is not any more. */
static void start_over(struct redis_reader *reader)
{
    if (!reader->queue && reader->subscription->want.on_gap == GAP_FAIL) {
        redis_reader_end(reader, err_about(ERR_DATA_LOSS, "topic",
                                           "the stream or its group was removed from redis"));
        return;
    }
    redis_reader_void(reader, MOVED_BY_SOURCE);
    reader->last = reader->claim_at = (struct redis_id){0};
    reader->want_fetch = true; /* the stream may be there, with all that it had */
    reader->waiting = false;
    if (!reader->queue)
        redis_reader_gap(reader, 0, "the stream or its group was removed from redis");
    reader->absent = true; /* the next entering makes it */
}

static void look_at_gap(struct redis_reader *reader)
{
    char text[200], from[REDIS_ID_BYTES], to[REDIS_ID_BYTES];

    if (reader->missing <= 0)
        return;
    if (reader->subscription->want.on_gap != GAP_FAIL) {
        redis_reader_gap(reader, (uint64_t)reader->missing,
                         "entries were removed from the stream before the group had read them");
        return;
    }
    redis_id_text(reader->missing_from, from);
    redis_id_text(reader->goes_on_at, to);
    snprintf(text, sizeof text,
             "%lld entries behind %s were removed from the stream before the group had read them; "
             "the first that is there is %s",
             (long long)reader->missing, from, to);
    redis_reader_end(reader, err_about(ERR_DATA_LOSS, "position",
                                       arena_strdup(&reader->texts, slice_str(text))));
}

static void enter_end(struct redis_call *call)
{
    struct redis_reader *reader = call->state;

    if (reader->refused == ERR_OUT_OF_RANGE)
        redis_reader_end(reader, err_about(ERR_OUT_OF_RANGE, "offset",
                                           "the stream has no entry at this position any more, or "
                                           "not yet"));
    else if (reader->refused == ERR_OK && reader->absent)
        start_over(reader);
    else if (reader->refused == ERR_OK) {
        reader->entered = reader->entered_once = true;
        reader->check_ns = reader->sent_ns;
        look_at_gap(reader);
    } else if (reader->queue && reader->refused == ERR_RESOURCE_EXHAUSTED)
        reader->stands = true;
    redis_reader_answered(reader, true);
}

static const struct redis_kind enter_kind = {
    .item_errors = true, .node = enter_node, .end = enter_end, .lost = redis_reader_lost};

/* ---- where to begin ---- */

/* What is read first is the next after the one where a group stands. */
static struct redis_id before(struct redis_id id)
{
    if (id.seq > 0)
        return (struct redis_id){id.ms, id.seq - 1};
    return id.ms > 0 ? (struct redis_id){id.ms - 1, UINT64_MAX} : (struct redis_id){0, 0};
}

struct err redis_start_id(enum stream_start start, int64_t at, struct slice position,
                          char text[REDIS_ID_BYTES], struct slice *checked)
{
    struct redis_id id = {0, 0};

    *checked = slice_of("", 0);
    switch (start) {
    case START_COMMITTED:
    case START_EARLIEST:
        memcpy(text, "0", 2);
        return ERR_NONE;
    case START_LATEST:
        memcpy(text, "$", 2);
        return ERR_NONE;
    case START_OFFSET:
        return err_about(ERR_INVALID_ARGUMENT, "offset",
                         "messages of redis streams have positions and no offsets");
    case START_TIME:
        id.ms = at > 0 ? (uint64_t)at : 0;
        break;
    case START_POSITION:
        if (!redis_id_parse(position, &id))
            return err_about(ERR_INVALID_ARGUMENT, "position",
                             "this is no position of a redis stream");
        *checked = position;
        break;
    }
    redis_id_text(before(id), text);
    return ERR_NONE;
}

static const char *policy_of(const struct redis_reader *reader)
{
    static const char *const names[] = {
        [GAP_EARLIEST] = "earliest", [GAP_LATEST] = "latest", [GAP_FAIL] = "fail"};

    return reader->queue ? "none" : names[reader->subscription->want.on_gap];
}

/* Where it begins at first, and once its group has gone. */
static struct err begin_at(const struct redis_reader *reader, const char **mode,
                           char text[REDIS_ID_BYTES], struct slice *checked)
{
    const struct subscription_want *want = &reader->subscription->want;
    enum stream_start start = reader->queue ? START_EARLIEST : want->start;

    *mode = "make";
    if (reader->entered_once)
        start = !reader->queue && want->on_gap == GAP_LATEST ? START_LATEST : START_EARLIEST;
    else if (start == START_COMMITTED)
        start = want->if_none;
    else if (!reader->queue)
        *mode = "move";
    return redis_start_id(start, want->at, want->position, text, checked);
}

void redis_enter(struct redis_reader *reader)
{
    const char *mode = "keep";
    char text[REDIS_ID_BYTES] = "0";
    struct slice checked = slice_of("", 0);

    if (!reader->entered_once || reader->absent) {
        struct err err = begin_at(reader, &mode, text, &checked);

        if (err.code != ERR_OK) {
            redis_reader_end(reader, err);
            return;
        }
    }
    reader->absent = false;
    reader->missing = -1;

    struct redis_call *call = redis_reader_call(reader, &enter_kind, true);

    redis_say_script(call, redis_script_enter, 2, 6);
    redis_word(call, reader->key);
    redis_word(call, reader->notes);
    redis_word(call, reader->group);
    redis_word(call, slice_str(mode));
    redis_word(call, slice_str(text));
    redis_word(call, slice_str(policy_of(reader)));
    redis_word(call, checked);
    redis_word(call, slice_str(reader->streams->origin));
}
