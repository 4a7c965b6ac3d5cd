/* The tables, and what a test does to them. */
#include "tests/fake/fake_log.h"

#include "src/base/container.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static char *text_of(struct slice from)
{
    char *out = must(malloc(from.len + 1));

    memcpy(out, from.data, from.len);
    out[from.len] = '\0';
    return out;
}

struct fake_world *fake_world_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct fake_world, base);
}

struct fake_log *fake_log_find(struct fake_world *world, enum fake_kind kind, struct slice name,
                               bool create)
{
    struct fake_log *log;

    for (log = world->messages.logs; log != NULL; log = log->next) {
        if (log->kind == kind && slice_equal(slice_str(log->name), name))
            return log;
    }
    if (!create)
        return NULL;
    log = must(calloc(1, sizeof *log));
    log->kind = kind;
    log->name = text_of(name);
    log->next = world->messages.logs;
    world->messages.logs = log;
    return log;
}

struct fake_group *fake_group_find(struct fake_log *log, struct slice name, bool create)
{
    struct fake_group *group;

    for (group = log->groups; group != NULL && !message_is_null(name); group = group->next) {
        if (group->name != NULL && slice_equal(slice_str(group->name), name))
            return group;
    }
    if (!create)
        return NULL;
    group = must(calloc(1, sizeof *group));
    group->name = message_is_null(name) ? NULL : text_of(name);
    group->from = log->first;
    group->next = log->groups;
    log->groups = group;
    return group;
}

struct fake_claim *fake_claim(struct fake_group *group, int64_t offset)
{
    size_t at = (size_t)offset;

    if (at >= group->n) {
        size_t n = (at + 64) * 2;

        group->claims = must(realloc(group->claims, n * sizeof *group->claims));
        memset(group->claims + group->n, 0, (n - group->n) * sizeof *group->claims);
        group->n = n;
    }
    return &group->claims[at];
}

bool fake_key_equal(const struct fake_kept *a, const struct fake_kept *b)
{
    return !message_is_null(a->m.key) && !message_is_null(b->m.key) &&
           slice_equal(a->m.key, b->m.key);
}

/* ---- messages ---- */

static struct slice own(struct slice from)
{
    uint8_t *copy;

    if (message_is_null(from))
        return from;
    copy = must(malloc(from.len + 1));
    memcpy(copy, from.data, from.len);
    return slice_of(copy, from.len);
}

static void disown(struct slice bytes)
{
    free((void *)bytes.data);
}

static int32_t partition_of(const struct fake_world *world, struct slice key)
{
    uint32_t h = 0;

    if (world->messages.partitions == 0)
        return -1;
    for (size_t i = 0; i < key.len; i++)
        h = h * 31 + key.data[i];
    return (int32_t)(h % world->messages.partitions);
}

int64_t fake_log_append(struct fake_world *world, struct fake_log *log, const struct outgoing *m)
{
    struct header *headers = must(calloc(m->n_headers + 1, sizeof *headers));
    struct fake_kept *kept;

    if (log->n == log->room) {
        log->room = log->room == 0 ? 64 : log->room * 2;
        log->kept = must(realloc(log->kept, log->room * sizeof *log->kept));
    }
    kept = &log->kept[log->n];
    *kept = (struct fake_kept){.m = *m, .timestamp_ms = world->now_ms};
    kept->m.topic = own(m->topic);
    kept->m.key = own(m->key);
    kept->m.id = own(m->id);
    kept->m.payload = own(m->payload);
    for (size_t i = 0; i < m->n_headers; i++)
        headers[i] = (struct header){own(m->headers[i].name), own(m->headers[i].value)};
    kept->m.headers = headers;
    kept->m.shared = NULL;
    kept->partition = partition_of(world, m->key);
    kept->due_ms = m->delay_ms > 0 ? world->now_ms + m->delay_ms : 0;
    return (int64_t)log->n++;
}

static void kept_clear(struct fake_kept *kept)
{
    disown(kept->m.topic);
    disown(kept->m.key);
    disown(kept->m.id);
    disown(kept->m.payload);
    for (size_t i = 0; i < kept->m.n_headers; i++) {
        disown(kept->m.headers[i].name);
        disown(kept->m.headers[i].value);
    }
    free((void *)kept->m.headers);
    free(kept->reason);
}

static void log_free(struct fake_log *log)
{
    struct fake_group *next;

    for (size_t i = 0; i < log->n; i++)
        kept_clear(&log->kept[i]);
    for (struct fake_group *g = log->groups; g != NULL; g = next) {
        next = g->next;
        free(g->name);
        free(g->claims);
        free(g);
    }
    free(log->kept);
    free(log->name);
    free(log);
}

/* ---- the world ---- */

static struct err check_topic(struct slice topic)
{
    if (memchr(topic.data, '*', topic.len) != NULL)
        return err_about(ERR_INVALID_ARGUMENT, "topic", "the fake knows no wildcards");
    return ERR_NONE;
}

static struct message_sink sink(void (*publish)(struct backend *, struct publish *),
                                uint32_t atomic_items)
{
    return (struct message_sink){
        .max_items = 100,
        .max_frame_bytes = 4u << 20,
        .atomic_items = atomic_items,
        .max_message_bytes = 1u << 20,
        .keyed = true,
        .null_payload = true,
        .null_header_values = true,
        .binary_headers = true,
        .many_topics = true,
        .ack_means = "the fake has it",
        .check_topic = check_topic,
        .publish = publish,
    };
}

static struct message_source source(void (*open)(struct backend *, struct subscription *),
                                    bool keeps)
{
    return (struct message_source){
        .keyed = keeps,
        .never_drops = keeps,
        .max_buffer = keeps ? 0 : FAKE_TOPIC_BUFFER,
        .open = open,
        .grant = fake_grant,
        .withdraw = fake_withdraw,
        .close = fake_close_subscription,
    };
}

static struct message_settling settling(const struct message_tickets *tickets)
{
    return (struct message_settling){
        .single = true,
        .delays = true,
        .counts_attempts = true,
        .release_is_free = true,
        .fences = true,
        .max_lease_ms = 3600000,
        .tickets = tickets,
        .settle = fake_settle,
        .extend = fake_extend,
    };
}

void fake_messages_init(struct fake_world *world)
{
    world->messages = (struct fake_messages){
        .topic = {.sink = sink(fake_publish_topic, 0), .source = source(fake_open_topic, false)},
        .stream = {.sink = sink(fake_publish_stream, 50),
                   .source = source(fake_open_stream, true),
                   .settling = settling(&fake_stream_tickets),
                   .offsets = true,
                   .describe = fake_describe,
                   .position = fake_position,
                   .seek = fake_seek},
        .queue = {.sink = sink(fake_publish_queue, 50),
                  .source = source(fake_open_queue, true),
                  .settling = settling(&fake_queue_tickets),
                  .delays = true,
                  .count = fake_count,
                  .dead_list = fake_dead_list,
                  .dead_move = fake_dead_move},
        .random = 1,
        .ack = BACKEND_ACK_MEMORY,
    };
}

void fake_messages_clear(struct fake_world *world)
{
    struct fake_messages *messages = &world->messages;
    struct fake_log *next;

    if (messages->subscriptions > 0 || messages->batches_out > 0) {
        fprintf(stderr, "fake world: %u subscriptions are open, %u batches not released\n",
                messages->subscriptions, messages->batches_out);
        abort();
    }
    for (struct fake_log *log = messages->logs; log != NULL; log = next) {
        next = log->next;
        log_free(log);
    }
}

/* ---- what a test does ---- */

/* A stream, else a queue. */
static struct fake_log *kept_as(struct fake_world *world, const char *topic)
{
    struct fake_log *log = fake_log_find(world, FAKE_KIND_STREAM, slice_str(topic), false);

    return log != NULL ? log : fake_log_find(world, FAKE_KIND_QUEUE, slice_str(topic), false);
}

size_t fake_published(struct fake_world *world, const char *topic)
{
    const struct fake_log *log = kept_as(world, topic);

    return log == NULL ? 0 : log->n;
}

const struct outgoing *fake_message(struct fake_world *world, const char *topic, size_t i)
{
    const struct fake_log *log = kept_as(world, topic);

    return log == NULL || i >= log->n ? NULL : &log->kept[i].m;
}

size_t fake_unsettled(struct fake_world *world, const char *topic, const char *group)
{
    struct fake_log *log = kept_as(world, topic);
    bool queue = log != NULL && log->kind == FAKE_KIND_QUEUE;
    struct fake_group *g =
        log == NULL || queue ? NULL : fake_group_find(log, slice_str(group), false);
    size_t n = 0;

    for (size_t i = 0; queue && i < log->n; i++)
        n += !log->kept[i].gone;
    for (size_t i = 0; g != NULL && i < log->n; i++)
        n += (int64_t)i >= g->from && fake_claim(g, (int64_t)i)->state != FAKE_DONE;
    return n;
}

void fake_revoke(struct fake_world *world, const char *topic, const char *group)
{
    for (struct fake_subscription *s = world->messages.open; s != NULL; s = s->next) {
        if (s->kind == FAKE_KIND_TOPIC || s->group == NULL || s->group->name == NULL ||
            strcmp(s->log->name, topic) != 0 || strcmp(s->group->name, group) != 0)
            continue;
        fake_give_back(s);
        s->revoked = true;
    }
    fake_messages_look(world);
}

void fake_leave(struct fake_world *world, const char *topic, int32_t partition, uint64_t ms)
{
    for (struct fake_subscription *s = world->messages.open; s != NULL; s = s->next) {
        if (s->kind != FAKE_KIND_STREAM || strcmp(s->log->name, topic) != 0)
            continue;
        s->leaves = true;
        s->told_leaving = false;
        s->leaving = partition;
        s->leaving_ms = world->now_ms + ms;
    }
    fake_messages_look(world);
}

void fake_lose(struct fake_world *world, const char *topic, int64_t before)
{
    struct fake_log *log = fake_log_find(world, FAKE_KIND_STREAM, slice_str(topic), false);

    if (log != NULL && log->first < before)
        log->first = before;
    fake_messages_look(world);
}

void fake_remove(struct fake_world *world, const char *topic)
{
    struct fake_log *log = fake_log_find(world, FAKE_KIND_STREAM, slice_str(topic), false);
    struct fake_log **at = &world->messages.logs;

    for (const struct fake_subscription *s = world->messages.open; s != NULL; s = s->next) {
        if (s->log == log)
            abort();
    }
    if (log == NULL)
        return;
    while (*at != log)
        at = &(*at)->next;
    *at = log->next;
    log_free(log);
}

void fake_close(struct fake_world *world, const char *topic, struct err err)
{
    for (struct fake_subscription *s = world->messages.open; s != NULL; s = s->next) {
        if (strcmp(s->log->name, topic) == 0 && s->subscription->state != SUB_CLOSING) {
            fake_give_back(s);
            s->ending = true;
            s->err = err;
        }
    }
    fake_messages_look(world);
}
