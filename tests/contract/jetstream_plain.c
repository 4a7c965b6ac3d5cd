#include "tests/contract/jetstream_plain.h"

#include <stdio.h>

enum { CREDIT = 100000, BYTES = 256 << 20, MOST_PAIRS = 16 };

struct plain plain_open(const struct nats_server *server)
{
    struct plain plain;
    char url[64];

    snprintf(url, sizeof url, "nats://%s", server->address);
    assert_int_equal(natsConnection_ConnectTo(&plain.connection, url), NATS_OK);
    assert_int_equal(natsConnection_JetStream(&plain.js, plain.connection, NULL), NATS_OK);
    return plain;
}

void plain_close(struct plain *plain)
{
    jsCtx_Destroy(plain->js);
    natsConnection_Destroy(plain->connection);
}

void plain_stream(struct plain *plain, const char *name, const char *subject,
                  void (*change)(jsStreamConfig *))
{
    const char *subjects[] = {subject};
    jsStreamConfig config;

    jsStreamConfig_Init(&config);
    config.Name = name;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_MemoryStorage;
    if (change != NULL)
        change(&config);
    assert_int_equal(js_AddStream(NULL, plain->js, &config, NULL, NULL), NATS_OK);
}

natsMsg *plain_get(struct plain *plain, const char *stream, uint64_t sequence)
{
    natsMsg *message = NULL;

    return js_GetMsg(&message, plain->js, stream, sequence, NULL, NULL) == NATS_OK ? message : NULL;
}

uint64_t plain_count(struct plain *plain, const char *stream)
{
    jsStreamInfo *info = NULL;
    uint64_t count;

    assert_int_equal(js_GetStreamInfo(&info, plain->js, stream, NULL, NULL), NATS_OK);
    count = info->State.Msgs;
    jsStreamInfo_Destroy(info);
    return count;
}

struct nats_fixture *jetstream_open(const struct nats_server *server, const char *const *pairs)
{
    const char *all[MOST_PAIRS] = {"address", server->address};
    struct nats_fixture *fixture;

    for (size_t i = 0; pairs[i] != NULL; i++)
        all[i + 2] = pairs[i];
    fixture = nats_fixture_open(&backend_jetstream, all);
    nats_until(fixture, BACKEND_READY);
    return fixture;
}

const struct message_sink *jetstream_sink(struct nats_fixture *fixture)
{
    return &fixture->messages.kv.backend->has.stream->sink;
}

struct err jetstream_publish(struct nats_fixture *fixture, struct outgoing *item)
{
    struct err err = message_publish(&fixture->messages, jetstream_sink(fixture), item, 1);

    return err.code != ERR_OK ? err : item->err;
}

struct probe *jetstream_reader(struct nats_fixture *fixture, const char *topic, const char *group)
{
    struct probe *probe =
        probe_stream(&fixture->messages, fixture->messages.kv.backend, probe_want(topic, group));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}
