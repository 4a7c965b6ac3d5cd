/* JetStream against a real server: the contract of streams, then what is special to this backend.
 */
#include "src/base/container.h"
#include "tests/contract/nats_fixture.h"

#include <nats/nats.h>

#include <stdio.h>
#include <stdlib.h>

enum { CREDIT = 1000, BYTES = 1 << 20 };

static struct nats_server server;

/* Retention, as it removes the oldest. Streams that Prism makes are named as their topics. */
static void drop_before(struct message_fixture *fixture, const char *topic, int64_t offset)
{
    natsConnection *plain;
    char url[64];
    jsCtx *js;

    (void)fixture;
    snprintf(url, sizeof url, "nats://%s", server.address);
    assert_int_equal(natsConnection_ConnectTo(&plain, url), NATS_OK);
    assert_int_equal(natsConnection_JetStream(&js, plain, NULL), NATS_OK);
    for (int64_t i = 1; i < offset; i++)
        js_DeleteMsg(js, topic, (uint64_t)i, NULL, NULL);
    jsCtx_Destroy(js);
    natsConnection_Destroy(plain);
}

static int open_fixture(void **state)
{
    const char *const pairs[] = {
        "address", server.address, "create_streams", "true", "stream_storage", "memory", NULL};
    struct nats_fixture *fixture = nats_fixture_open(&backend_jetstream, pairs);
    static unsigned groups;

    nats_until(fixture, BACKEND_READY);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    fixture->messages.drop_before = drop_before;
    fixture->messages.lease_ms = 200;
    snprintf(fixture->messages.prefix, sizeof fixture->messages.prefix, "g%u-", ++groups);
    *state = fixture;
    return 0;
}

/* All of it, on one server. */
static int run_on(const char *name)
{
    int failed;

    nats_server_start(&server, "jetstream { store_dir: \"js\" }\nmax_payload: 8MB");
    failed = message_contract(name, open_fixture, nats_fixture_close);
    nats_server_stop(&server);
    return failed;
}

int main(void)
{
    int failed;

    if (!nats_server_installed())
        return nats_server_skip();
    failed = run_on("jetstream, packaged server");
    if (nats_server_newest())
        failed += run_on("jetstream, newest server");
    return failed != 0;
}
