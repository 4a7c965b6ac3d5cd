/* An instance of redis-stream on a worker, and one of another store beside it. */
#ifndef PRISM_TESTS_CONTRACT_REDIS_STREAM_FIXTURE_H
#define PRISM_TESTS_CONTRACT_REDIS_STREAM_FIXTURE_H

#include "tests/contract/message_contract.h"
#include "tests/contract/redis_fixture.h"

/* What docs/backends/redis-stream.md asks for, for the topics of tests. */
#define STREAM_USER                                                                                \
    "ACL SETUSER prism reset on >secret ~contract-* ~another-* ~prism:wake ~prism:order:* "        \
    "~prism:void:* +hmget +hset +hlen +pexpire "                                                   \
    "+xadd +xread +xreadgroup +xack +xautoclaim +xclaim +xpending +xgroup +xinfo +xrevrange "      \
    "+get +set +del +type +exists +multi +exec +eval +ping +xlen +xdel +xtrim +xrange +time "

struct stream_fixture {
    struct message_fixture messages; /* first */
    struct redis_fixture redis;      /* its kv is not used but to open and close */
    struct backend_store *other;     /* another process, to the server */
};

/* Waits until both are connected. */
struct stream_fixture *stream_fixture_open(const struct redis_server *server,
                                           redis_settings settings);
void stream_fixture_close(struct stream_fixture *fixture);

static inline const struct message_sink *stream_sink(const struct stream_fixture *fixture)
{
    return &fixture->messages.kv.backend->has.stream->sink;
}

/* A reader in group "g" with much credit; on the instance under test, or the other one. */
struct probe *stream_reader(struct stream_fixture *fixture, const char *topic);
struct probe *stream_other_reader(struct stream_fixture *fixture, const char *topic);

/* One message "0", "1", ..; its error. */
struct err stream_publish(struct stream_fixture *fixture, const char *topic, unsigned number);

/* A command of another client, by printf. Valid until the next one. */
const char *stream_say(struct stream_fixture *fixture, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
