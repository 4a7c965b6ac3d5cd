/* Streams and queues on a real redis: the contract, other clients, and what can happen to a server
 * and to a stream. */
#include "src/base/container.h"
#include "tests/contract/message_contract.h"
#include "tests/contract/redis_fixture.h"

#include <stdio.h>

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct redis_server server;
static char address[128];

struct stream_fixture {
    struct message_fixture messages; /* first */
    struct redis_fixture redis;      /* its kv is not used but to open and close */
    struct backend_store *other;     /* another process, to the server */
};

static void drop_before(struct message_fixture *messages, const char *topic, int64_t offset)
{
    const char *command =
        arena_printf(&messages->kv.arena, "XTRIM %s MINID %.*s", topic,
                     (int)messages->keep_from.len, (const char *)messages->keep_from.data);

    (void)offset;
    redis_server_say(&server, command);
}

static void open_as(struct stream_fixture *fixture, redis_settings settings)
{
    struct message_fixture *messages = &fixture->messages;

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
}

/* As a user that may do what docs/backends/redis-stream.md asks for. */
static int open_fixture(void **state)
{
    struct stream_fixture *fixture = test_calloc(1, sizeof *fixture);

    redis_server_say(&server, "FLUSHALL");
    redis_server_say(&server, "ACL SETUSER prism reset on >secret ~contract-* ~prism:wake ~g* "
                              "+xadd +xread +xreadgroup +xack +xdel +xautoclaim +xclaim +xpending "
                              "+xgroup +xinfo +xlen +xrange +xrevrange +xtrim +type +exists +time "
                              "+multi +exec +eval +client|id +client|unblock +ping");
    open_as(fixture, (redis_settings){"address", address, "username", "prism", "password", "secret",
                                      "command_timeout_ms", "400", "claim_idle_ms", "1000", NULL});
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct stream_fixture *fixture = *state;

    kv_close(&fixture->messages.kv, fixture->messages.second);
    backend_redis_stream.store_close(fixture->other);
    kv_fixture_clear(&fixture->messages.kv);
    redis_fixture_close(&fixture->redis);
    test_free(fixture);
    return 0;
}

int main(void)
{
    int failed;

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    failed = message_contract("redis-stream", open_fixture, close_fixture);
    redis_server_stop(&server);
    return failed != 0;
}
