/* Messages that go out, what topics are, and a queue's dead letters. */
#include "backends/failed_keys.h"
#include "tests/fake/fake_log.h"

#include "src/base/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- publish ---- */

static struct err check(const struct fake_world *world, const struct message_sink *sink,
                        const struct outgoing *m)
{
    if (world->poison.len > 0 &&
        (slice_equal(world->poison, m->key) || slice_equal(world->poison, m->topic)))
        return world->fail_with;
    if (message_out_bytes(m) - m->topic.len > sink->max_message_bytes)
        return err_about(ERR_INVALID_ARGUMENT, "payload", "the message is too long");
    if (message_is_null(m->payload) && !sink->null_payload)
        return err_about(ERR_INVALID_ARGUMENT, "payload", "there is no null payload here");
    return sink->check_topic(m->topic);
}

static int32_t receivers(const struct fake_world *world, const struct fake_log *log)
{
    int32_t n = 0;

    for (const struct fake_subscription *s = world->messages.open; s != NULL; s = s->next)
        n += s->log == log;
    return n;
}

static struct err larger(void)
{
    return err_about(ERR_INVALID_ARGUMENT, "payload", "larger by itself than a queue may be");
}

/* A queue's bounds. What is taken and not settled is in it. `with`: what goes with m, of the same
 * publish, and is not there yet. */
static struct err check_room(const struct fake_world *world, const struct fake_log *log,
                             const struct outgoing *m, const struct outgoing *with, size_t n_with)
{
    uint64_t n = n_with, bytes = 0, oldest_ms = world->now_ms;
    const char *bound = NULL;

    for (size_t i = 0; i < n_with; i++)
        bytes += message_out_bytes(&with[i]);

    if (world->messages.bounds.bytes > 0 && message_out_bytes(m) > world->messages.bounds.bytes)
        return larger();
    for (size_t i = 0; i < log->n; i++) {
        if (log->kept[i].gone)
            continue;
        oldest_ms = n++ == n_with ? log->kept[i].timestamp_ms : oldest_ms;
        bytes += message_out_bytes(&log->kept[i].m);
    }
    if (world->messages.bounds.messages > 0 && n >= world->messages.bounds.messages)
        bound = "messages";
    else if (world->messages.bounds.bytes > 0 &&
             bytes + message_out_bytes(m) > world->messages.bounds.bytes)
        bound = "bytes";
    else if (world->messages.bounds.age_ms > 0 &&
             world->now_ms - oldest_ms >= world->messages.bounds.age_ms)
        bound = "age_ms";
    return bound == NULL ? ERR_NONE : err_about(ERR_RESOURCE_EXHAUSTED, bound, "the queue is full");
}

static void forget(struct outgoing *m)
{
    m->err = ERR_NONE;
    m->deduplicated = false;
    m->partition = m->receivers = -1;
    m->offset = -1;
    m->position = message_null();
}

static void append(struct fake_world *world, struct fake_log *log, struct outgoing *m)
{
    m->offset = fake_log_append(world, log, m);
    m->partition = log->kept[m->offset].partition;
}

/* Would an empty queue take them together? */
static struct err check_together(const struct fake_world *world, const struct publish *publish)
{
    uint64_t messages = world->messages.bounds.messages, most = world->messages.bounds.bytes;
    uint64_t bytes = 0;

    for (size_t i = 0; i < publish->n; i++)
        bytes += message_out_bytes(&publish->items[i]);
    if ((messages > 0 && publish->n > messages) || (most > 0 && bytes > most))
        return err_about(ERR_INVALID_ARGUMENT, "messages", "more than a queue may hold");
    return ERR_NONE;
}

/* All are looked at before any is appended. */
static struct err check_all(struct fake_world *world, struct publish *publish, enum fake_kind kind,
                            const struct message_sink *sink)
{
    const struct fake_log *log = fake_log_find(world, kind, publish->items[0].topic, true);
    struct outgoing *items = publish->items;
    bool bounded = kind == FAKE_KIND_QUEUE;
    struct err err = ERR_NONE;

    for (size_t i = 0; i < publish->n; i++) {
        uint64_t bytes = message_out_bytes(&items[i]), most = world->messages.bounds.bytes;

        forget(&items[i]);
        err = check(world, sink, &items[i]);
        if (err.code == ERR_OK && bounded && most > 0 && bytes > most)
            err = larger();
        if (err.code != ERR_OK) {
            publish->culprit = (uint32_t)i;
            return err;
        }
    }
    if (bounded)
        err = check_together(world, publish);
    for (size_t i = 0; bounded && i < publish->n && err.code == ERR_OK; i++)
        err = check_room(world, log, &items[i], items, i);
    return err;
}

static struct err publish_all(struct fake_world *world, struct publish *publish,
                              enum fake_kind kind, const struct message_sink *sink)
{
    struct outgoing *items = publish->items;
    struct err err = check_all(world, publish, kind, sink);
    struct fake_log *log = fake_log_find(world, kind, items[0].topic, true);

    world->items_sent += publish->n;
    if (err.code != ERR_OK)
        return err;
    for (size_t i = 0; i < publish->n; i++)
        append(world, log, &items[i]);
    fake_messages_look(world);
    return ERR_NONE;
}

static bool one_topic(const struct publish *publish)
{
    for (size_t i = 1; i < publish->n; i++) {
        if (!slice_equal(publish->items[i].topic, publish->items[0].topic))
            return false;
    }
    return true;
}

static void check_frame(const struct publish *publish, const struct message_sink *sink)
{
    bool whole = !publish->atomic || (publish->n <= sink->atomic_items && one_topic(publish));

    if (publish->n > 0 && publish->n <= sink->max_items && whole)
        return;
    fprintf(stderr, "fake world: a frame of %zu messages\n", publish->n);
    abort();
}

static struct err publish_items(struct fake_world *world, struct publish *publish,
                                enum fake_kind kind, const struct message_sink *sink)
{
    struct failed_keys failed;

    check_frame(publish, sink);
    if (publish->atomic)
        return publish_all(world, publish, kind, sink);
    failed_init(&failed, publish);
    for (size_t i = 0; i < publish->n; i++) {
        struct outgoing *m = &publish->items[i];
        struct fake_log *log;

        world->items_sent++;
        forget(m);
        if (sink->keyed && failed_stops(&failed, m))
            continue;
        m->err = fake_told(&publish->op, check(world, sink, m));
        if (m->err.code != ERR_OK) {
            failed_add(&failed, m);
            continue;
        }
        log = fake_log_find(world, kind, m->topic, true);
        if (kind == FAKE_KIND_QUEUE)
            m->err = fake_told(&publish->op, check_room(world, log, m, NULL, 0));
        if (m->err.code != ERR_OK)
            continue;
        if (kind == FAKE_KIND_TOPIC) {
            m->receivers = receivers(world, log);
            fake_log_append(world, log, m);
            continue;
        }
        append(world, log, m);
    }
    fake_messages_look(world);
    return ERR_NONE;
}

static struct err apply_topic(struct fake_world *world, struct op *op)
{
    return publish_items(world, CONTAINER_OF(op, struct publish, op), FAKE_KIND_TOPIC,
                         &world->messages.topic.sink);
}

static struct err apply_stream(struct fake_world *world, struct op *op)
{
    return publish_items(world, CONTAINER_OF(op, struct publish, op), FAKE_KIND_STREAM,
                         &world->messages.stream.sink);
}

static struct err apply_queue(struct fake_world *world, struct op *op)
{
    return publish_items(world, CONTAINER_OF(op, struct publish, op), FAKE_KIND_QUEUE,
                         &world->messages.queue.sink);
}

void fake_publish_topic(struct backend *backend, struct publish *publish)
{
    fake_arrive(fake_world_of(backend), &publish->op, apply_topic);
}

void fake_publish_stream(struct backend *backend, struct publish *publish)
{
    fake_arrive(fake_world_of(backend), &publish->op, apply_stream);
}

void fake_publish_queue(struct backend *backend, struct publish *publish)
{
    fake_arrive(fake_world_of(backend), &publish->op, apply_queue);
}

static struct err apply_describe(struct fake_world *world, struct op *op)
{
    struct stream_describe *request = CONTAINER_OF(op, struct stream_describe, op);

    request->found = fake_log_find(world, FAKE_KIND_STREAM, request->topic, false) != NULL;
    request->partitions = world->messages.partitions;
    request->retention = world->messages.lossy != NULL ? RETENTION_LOSSY : RETENTION_KEEPS_UNREAD;
    request->retention_text = world->messages.lossy;
    request->ack = world->messages.ack;
    request->max_message_bytes = 0;
    return ERR_NONE;
}

void fake_describe(struct backend *backend, struct stream_describe *request)
{
    struct fake_world *world = fake_world_of(backend);

    if (world->messages.describes_at_once)
        op_finish(&request->op, apply_describe(world, &request->op));
    else
        fake_arrive(world, &request->op, apply_describe);
}

/* ---- queues ---- */

static struct err apply_count(struct fake_world *world, struct op *op)
{
    struct queue_count *request = CONTAINER_OF(op, struct queue_count, op);
    struct fake_log *log = fake_log_find(world, FAKE_KIND_QUEUE, request->queue, false);
    struct fake_group *group = log == NULL ? NULL : fake_group_find(log, message_empty(), true);

    request->ready = request->taken = request->delayed = request->dead = 0;
    for (size_t i = 0; log != NULL && i < log->n; i++) {
        const struct fake_kept *kept = &log->kept[i];
        const struct fake_claim *claim = fake_claim(group, (int64_t)i);
        bool waits = claim->state == FAKE_WAITS || kept->due_ms > world->now_ms;

        request->dead += kept->dead;
        if (kept->gone)
            continue;
        request->taken += claim->state == FAKE_OUT;
        request->delayed += waits;
        request->ready += claim->state == FAKE_NEW && !waits;
    }
    return ERR_NONE;
}

void fake_count(struct backend *backend, struct queue_count *request)
{
    fake_arrive(fake_world_of(backend), &request->op, apply_count);
}

static bool number_of(struct slice text, int64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *number = *number * 10 + (text.data[i] - '0');
    }
    return text.len > 0 && text.len < 10;
}

static void list_one(struct arena *arena, struct fake_kept *kept, size_t number,
                     struct dead_letter *out)
{
    *out = (struct dead_letter){
        .message = {.topic = arena_copy(arena, kept->m.topic),
                    .key = message_copy(arena, kept->m.key),
                    .id = message_copy(arena, kept->m.id),
                    .payload = message_copy(arena, kept->m.payload),
                    .headers = kept->m.headers, /* as long as the world */
                    .n_headers = (uint32_t)kept->m.n_headers,
                    .partition = -1,
                    .offset = -1,
                    .timestamp_ms = kept->timestamp_ms},
        .handle = slice_str(arena_printf(arena, "%zu", number)),
        .reason = slice_str(arena_printf(arena, "%s", kept->reason)),
        .died_ms = kept->died_ms,
    };
}

static struct err apply_list(struct fake_world *world, struct op *op)
{
    struct dead_list *page = CONTAINER_OF(op, struct dead_list, op);
    struct fake_log *log = fake_log_find(world, FAKE_KIND_QUEUE, page->queue, false);
    int64_t from = 0;

    if (!message_is_null(page->cursor) && !number_of(page->cursor, &from))
        return err_about(ERR_INVALID_ARGUMENT, "cursor", "this is no cursor of the fake");
    page->n = 0;
    page->more = false;
    page->items = arena_array(op_arena(op), page->max_items, sizeof *page->items);
    for (size_t i = (size_t)from; log != NULL && i < log->n; i++) {
        if (!log->kept[i].dead)
            continue;
        if (page->n == page->max_items) {
            page->more = true;
            page->next_cursor = slice_str(arena_printf(op_arena(op), "%zu", i));
            break;
        }
        list_one(op_arena(op), &log->kept[i], i, &page->items[page->n++]);
    }
    return ERR_NONE;
}

void fake_dead_list(struct backend *backend, struct dead_list *request)
{
    fake_arrive(fake_world_of(backend), &request->op, apply_list);
}

static void move_one(struct fake_world *world, struct fake_log *log, size_t i,
                     struct dead_move *request)
{
    if (i >= log->n || !log->kept[i].dead)
        return;
    log->kept[i].dead = false;
    request->moved++;
    if (!request->purge) {
        struct outgoing m = log->kept[i].m;

        m.delay_ms = 0;
        fake_log_append(world, log, &m);
    }
}

static struct err apply_move(struct fake_world *world, struct op *op)
{
    struct dead_move *request = CONTAINER_OF(op, struct dead_move, op);
    struct fake_log *log = fake_log_find(world, FAKE_KIND_QUEUE, request->queue, false);
    size_t n = log != NULL ? log->n : 0;
    int64_t number;

    request->moved = 0;
    for (size_t i = 0; log != NULL && i < request->n; i++) {
        if (number_of(request->handles[i], &number))
            move_one(world, log, (size_t)number, request);
    }
    for (size_t i = 0; request->n == 0 && i < n; i++)
        move_one(world, log, i, request);
    fake_messages_look(world);
    return ERR_NONE;
}

void fake_dead_move(struct backend *backend, struct dead_move *request)
{
    fake_arrive(fake_world_of(backend), &request->op, apply_move);
}
