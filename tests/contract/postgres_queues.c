#include "tests/contract/postgres_queues.h"

#include <stdio.h>
#include <string.h>

struct queue_fixture {
    struct message_fixture messages; /* first */
    struct redis_fixture first;
    struct backend_store *second;
};

int postgres_queues_open(void **state, redis_settings settings)
{
    static unsigned opened;
    struct queue_fixture *fixture = test_calloc(1, sizeof *fixture);
    struct message_fixture *messages = &fixture->messages;

    postgres_fixture_open(&fixture->first, "a", settings);
    redis_until(&fixture->first, BACKEND_READY);
    messages->kv = (struct kv_fixture){
        .worker = fixture->first.kv.worker, .threaded = true, .backend = fixture->first.kv.backend};
    kv_fixture_init(&messages->kv);
    fixture->second = postgres_fixture_store("a", settings);
    messages->second = kv_open(&messages->kv, fixture->second);
    KV_UNTIL(&messages->kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    snprintf(messages->prefix, sizeof messages->prefix, "%u-", ++opened); /* no name twice */
    messages->lease_ms = 300;
    messages->patience_ms = 300;
    *state = fixture;
    return 0;
}

int postgres_queues_close(void **state)
{
    struct queue_fixture *fixture = *state;

    kv_close(&fixture->messages.kv, fixture->messages.second);
    backend_postgres.store_close(fixture->second);
    kv_fixture_clear(&fixture->messages.kv);
    redis_fixture_close(&fixture->first);
    test_free(fixture);
    return 0;
}

void postgres_queues_push(struct message_fixture *fixture, struct slice queue, uint64_t delay_ms)
{
    struct outgoing item = {.topic = queue, .payload = slice_str("0"), .delay_ms = delay_ms};

    kv_expect(message_publish(fixture, &fixture->kv.backend->has.queue->sink, &item, 1), ERR_OK,
              NULL);
}

void postgres_queues_push_silently(const struct probe *probe, unsigned ago_ms, const char *then)
{
    struct slice name = probe->subscription.want.topic;
    char sql[512];

    snprintf(sql, sizeof sql,
             "INSERT INTO prism.messages (space, queue, payload, headers, pushed_at, available_at)"
             " SELECT id, '%.*s', '0', '', at, at FROM prism.spaces,"
             " CAST(extract(epoch FROM now()) * 1000 - %u AS int8) AS at WHERE name = 'a'; %s",
             (int)name.len, (const char *)name.data, ago_ms, then);
    postgres_fixture_sql(sql);
}
