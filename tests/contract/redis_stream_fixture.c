#include "tests/contract/redis_stream_fixture.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { CREDIT = 1000, BYTES = 1 << 20 };

static const struct redis_server *server;

static void drop_before(struct message_fixture *messages, const char *topic, int64_t offset)
{
    (void)offset;
    stream_say((struct stream_fixture *)messages, "XTRIM %s MINID %.*s", topic,
               (int)messages->keep_from.len, (const char *)messages->keep_from.data);
}

struct stream_fixture *stream_fixture_open(const struct redis_server *on, redis_settings settings)
{
    struct stream_fixture *fixture = calloc(1, sizeof *fixture);
    struct message_fixture *messages = &fixture->messages;

    assert_non_null(fixture);
    server = on;
    redis_fixture_open_as(&fixture->redis, &backend_redis_stream, "tested", settings);
    redis_until(&fixture->redis, BACKEND_READY);
    messages->kv = (struct kv_fixture){
        .worker = fixture->redis.kv.worker, .threaded = true, .backend = fixture->redis.kv.backend};
    kv_fixture_init(&messages->kv);
    kv_expect(redis_fixture_store_of(&backend_redis_stream, &fixture->other, "tested", settings),
              ERR_OK, NULL);
    messages->second = kv_open(&messages->kv, fixture->other);
    KV_UNTIL(&messages->kv, atomic_load(&fixture->other->state) == BACKEND_READY);
    messages->drop_before = drop_before;
    messages->lease_ms = 100;
    messages->patience_ms = 100;
    return fixture;
}

void stream_fixture_close(struct stream_fixture *fixture)
{
    kv_close(&fixture->messages.kv, fixture->messages.second);
    backend_redis_stream.store_close(fixture->other);
    kv_fixture_clear(&fixture->messages.kv);
    redis_fixture_close(&fixture->redis);
    free(fixture);
}

static struct probe *reader(struct stream_fixture *fixture, struct backend *backend,
                            const char *topic)
{
    struct probe *probe = probe_stream(&fixture->messages, backend, probe_want(topic, "g"));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

struct probe *stream_reader(struct stream_fixture *fixture, const char *topic)
{
    return reader(fixture, fixture->messages.kv.backend, topic);
}

struct probe *stream_other_reader(struct stream_fixture *fixture, const char *topic)
{
    return reader(fixture, fixture->messages.second, topic);
}

struct err stream_publish(struct stream_fixture *fixture, const char *topic, unsigned number)
{
    struct message_fixture *messages = &fixture->messages;
    struct outgoing item = {.topic = slice_str(topic),
                            .payload = slice_str(arena_printf(&messages->kv.arena, "%u", number))};
    struct err err = message_publish(messages, &messages->kv.backend->has.stream->sink, &item, 1);

    return err.code != ERR_OK ? err : item.err;
}

const char *stream_say(struct stream_fixture *fixture, const char *format, ...)
{
    char command[512];
    va_list arguments;

    (void)fixture;
    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    return redis_server_say(server, command);
}
