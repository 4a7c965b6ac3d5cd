/* What a test does beside Prism, with the plain client library: the operator, and other clients. */
#ifndef PRISM_TESTS_CONTRACT_JETSTREAM_PLAIN_H
#define PRISM_TESTS_CONTRACT_JETSTREAM_PLAIN_H

#include "tests/contract/nats_fixture.h"

#include <nats/nats.h>

struct plain {
    natsConnection *connection;
    jsCtx *js;
};

struct plain plain_open(const struct nats_server *server);
void plain_close(struct plain *plain);

/* A stream in memory of this name and one subject; change: may set more, or be NULL. */
void plain_stream(struct plain *plain, const char *name, const char *subject,
                  void (*change)(jsStreamConfig *));

/* The message of this sequence; the caller destroys it. NULL: it is not there. */
natsMsg *plain_get(struct plain *plain, const char *stream, uint64_t sequence);

/* How many messages the stream has. */
uint64_t plain_count(struct plain *plain, const char *stream);

/* A store alone without create_streams, and so on: a fixture with these settings, connected. */
struct nats_fixture *jetstream_open(const struct nats_server *server, const char *const *pairs);

const struct message_sink *jetstream_sink(struct nats_fixture *fixture);
struct err jetstream_publish(struct nats_fixture *fixture, struct outgoing *item);
struct probe *jetstream_reader(struct nats_fixture *fixture, const char *topic, const char *group);

#endif
