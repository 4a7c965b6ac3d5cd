/* Core NATS against a real server: the contract of topics, then what is special to this backend:
 * ordinary messages both ways, what cannot be carried, permissions, and a server that dies or
 * falls silent. */
#include "src/base/container.h"
#include "tests/contract/nats_fixture.h"

#include <nats/nats.h>

#include <stdio.h>
#include <stdlib.h>

enum { CREDIT = 100000, BYTES = 256 << 20, MANY = 20000 };

static struct nats_server server;

static int open_fixture(void **state)
{
    const char *const pairs[] = {"address", server.address, NULL};
    struct nats_fixture *fixture = nats_fixture_open(&backend_nats, pairs);

    nats_until(fixture, BACKEND_READY);
    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    *state = fixture;
    return 0;
}

static const struct message_sink *sink_of(struct nats_fixture *fixture)
{
    return &fixture->messages.kv.backend->has.topic->sink;
}

static struct err publish_one(struct nats_fixture *fixture, struct outgoing *item)
{
    struct err err = message_publish(&fixture->messages, sink_of(fixture), item, 1);

    return err.code != ERR_OK ? err : item->err;
}

static struct probe *listen_to(struct nats_fixture *fixture, const char *topic)
{
    struct probe *probe =
        probe_topic(&fixture->messages, fixture->messages.kv.backend, probe_want(topic, NULL));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

/* ---- ordinary messages ---- */

static const struct header edges[] = {
    {{(const uint8_t *)"a", 1}, {(const uint8_t *)"1", 1}},
    {{(const uint8_t *)"a", 1}, {(const uint8_t *)"2: x", 4}},
    {{(const uint8_t *)"Mixed-Case_!", 12}, {(const uint8_t *)"\xc3\xa4\xff\x01", 4}},
    {{(const uint8_t *)"z", 1}, {(const uint8_t *)"a\tb  c", 6}},
};

static bool has_header(const struct incoming *m, const struct header *h)
{
    for (size_t i = 0; i < m->n_headers; i++) {
        if (slice_equal(m->headers[i].name, h->name) && slice_equal(m->headers[i].value, h->value))
            return true;
    }
    return false;
}

static void headers_key_and_id_travel(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = listen_to(fixture, topic);
    struct outgoing item = {.topic = slice_str(topic),
                            .key = slice_str("a key"),
                            .id = slice_str("id-1"),
                            .payload = slice_str("p"),
                            .headers = edges,
                            .n_headers = ARRAY_LEN(edges)};

    kv_expect(publish_one(fixture, &item), ERR_OK, NULL);
    item.key = message_empty();
    kv_expect(publish_one(fixture, &item), ERR_INVALID_ARGUMENT, "key");
    item.key = item.id = message_null();
    kv_expect(publish_one(fixture, &item), ERR_OK, NULL);
    probe_wait(probe, 2);

    const struct incoming *m = &probe_got(probe, 0)->m;

    assert_true(slice_equal(m->key, slice_str("a key")));
    assert_true(slice_equal(m->id, slice_str("id-1")));
    assert_int_equal(m->n_headers, ARRAY_LEN(edges));
    for (size_t i = 0; i < ARRAY_LEN(edges); i++)
        assert_true(has_header(m, &edges[i]));
    m = &probe_got(probe, 1)->m;
    assert_true(message_is_null(m->key) && message_is_null(m->id));
    probe_free(probe);
}

static struct outgoing bad_header(const char *topic, const struct header *header)
{
    return (struct outgoing){
        .topic = slice_str(topic), .payload = slice_str("p"), .headers = header, .n_headers = 1};
}

/* What cannot be carried is refused, alone: its neighbour goes through. */
static void what_cannot_be_carried_is_refused(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    static const char *const values[] = {"a\nb", "a\rb", " a", "a ", "a\tb\t", ""};
    static const char *const names[] = {"",         "a b",       "a:b",     "Nats-Msg-Id",
                                        "nats-ttl", "prism-key", "\xc3\xa4"};
    static const char *const topics[] = {"a..b", ".a",        "a.",       "a.*", "a.>",
                                         "a b",  "$JS.API.x", "_INBOX.x", "a\n"};
    struct probe *probe = listen_to(fixture, topic);

    for (size_t i = 0; i < ARRAY_LEN(values) + ARRAY_LEN(names); i++) {
        struct header h = {slice_str("n"), slice_str("v")};
        struct outgoing items[2] = {bad_header(topic, &h), bad_header(topic, NULL)};

        if (i < ARRAY_LEN(values))
            h.value = slice_str(values[i]);
        else
            h.name = slice_str(names[i - ARRAY_LEN(values)]);
        items[1].n_headers = 0;
        kv_expect(message_publish(&fixture->messages, sink_of(fixture), items, 2), ERR_OK, NULL);
        kv_expect(items[0].err, ERR_INVALID_ARGUMENT, "headers");
        kv_expect(items[1].err, ERR_OK, NULL);
    }
    for (size_t i = 0; i < ARRAY_LEN(topics); i++)
        kv_expect(sink_of(fixture)->check_topic(slice_str(topics[i])), ERR_INVALID_ARGUMENT,
                  "topic");

    struct outgoing large = {.topic = slice_str(topic),
                             .payload = slice_of(calloc(1, 2 << 20), 2 << 20)};

    kv_expect(publish_one(fixture, &large), ERR_INVALID_ARGUMENT, "payload");
    free((void *)large.payload.data);
    probe_wait(probe, ARRAY_LEN(values) + ARRAY_LEN(names));
    probe_free(probe);
}

static void plain_clients_understand_us(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = listen_to(fixture, topic);
    natsConnection *plain;
    natsSubscription *subscription;
    natsMsg *message;
    const char *value;
    char url[64];
    struct outgoing item = {.topic = slice_str(topic),
                            .key = slice_str("k"),
                            .payload = slice_of("\0x", 2),
                            .headers = edges,
                            .n_headers = 1};

    snprintf(url, sizeof url, "nats://%s", server.address);
    assert_int_equal(natsConnection_ConnectTo(&plain, url), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&subscription, plain, topic), NATS_OK);
    assert_int_equal(natsConnection_Flush(plain), NATS_OK);
    kv_expect(publish_one(fixture, &item), ERR_OK, NULL);
    assert_int_equal(natsSubscription_NextMsg(&message, subscription, KV_PATIENCE_MS), NATS_OK);
    assert_int_equal(natsMsg_GetDataLength(message), 2);
    assert_memory_equal(natsMsg_GetData(message), "\0x", 2);
    assert_int_equal(natsMsgHeader_Get(message, "a", &value), NATS_OK);
    assert_string_equal(value, "1");
    assert_int_equal(natsMsgHeader_Get(message, "Prism-Key", &value), NATS_OK);
    assert_string_equal(value, "k");
    natsMsg_Destroy(message);
    assert_int_equal(natsConnection_PublishString(plain, topic, "from outside"), NATS_OK);
    assert_int_equal(natsConnection_Flush(plain), NATS_OK);
    probe_wait(probe, 2);
    assert_true(slice_equal(probe_got(probe, 1)->m.payload, slice_str("from outside")));
    assert_true(message_is_null(probe_got(probe, 1)->m.key));
    natsSubscription_Destroy(subscription);
    natsConnection_Destroy(plain);
    probe_free(probe);
}

static void wildcards_show_the_subject(void **state)
{
    struct nats_fixture *fixture = *state;
    struct probe *probe = listen_to(fixture, "wild.*.x");

    message_publish_ok(&fixture->messages, sink_of(fixture), "wild.a.x", NULL, 0, 1);
    message_publish_ok(&fixture->messages, sink_of(fixture), "wild.a.y", NULL, 0, 1);
    message_publish_ok(&fixture->messages, sink_of(fixture), "wild.b.x", NULL, 0, 1);
    probe_wait(probe, 2);
    probe_quiet(probe, 2);
    assert_true(slice_equal(probe_got(probe, 0)->m.topic, slice_str("wild.a.x")));
    assert_true(slice_equal(probe_got(probe, 1)->m.topic, slice_str("wild.b.x")));
    probe_free(probe);

    struct probe *all =
        probe_start(&fixture->messages, fixture->messages.kv.backend,
                    &fixture->messages.kv.backend->has.topic->source, NULL, probe_want(">", NULL));

    KV_UNTIL(&fixture->messages.kv, probe_is_closed(all));
    kv_expect(all->closed_with, ERR_INVALID_ARGUMENT, "topic");
    probe_free(all);
}

static void order_is_kept(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct probe *probe = listen_to(fixture, topic);

    message_publish_ok(&fixture->messages, sink_of(fixture), topic, "k", 0, MANY);
    probe_wait(probe, MANY);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(probe_number(probe, i), i);
    assert_int_equal(probe_gaps(probe), 0);
    probe_free(probe);
}

/* ---- a server that dies ---- */

static void a_restart_is_survived_and_told(void **state)
{
    struct nats_fixture *fixture = *state;
    struct kv_fixture *kv = &fixture->messages.kv;
    const char *topic = message_topic(&fixture->messages);
    struct outgoing item = {.topic = slice_str(topic), .payload = slice_str("0")};
    struct probe *probe = listen_to(fixture, topic);

    nats_server_kill(&server);
    nats_until(fixture, BACKEND_DOWN);

    struct err err = publish_one(fixture, &item);

    kv_expect(err, ERR_UNAVAILABLE, NULL);
    assert_int_equal(err.effect, EFFECT_NONE);
    nats_server_restart(&server);
    nats_until(fixture, BACKEND_READY);
    KV_UNTIL(kv, probe_gaps(probe) == 1);
    assert_int_equal(probe->gap.count, 0);
    message_publish_ok(&fixture->messages, sink_of(fixture), topic, NULL, 7, 1);
    probe_wait(probe, 1);
    assert_int_equal(probe_number(probe, 0), 7);
    probe_free(probe);
}

/* Opened while the server is away: it waits; and may be closed again. */
static void subscriptions_wait_for_the_server(void **state)
{
    struct nats_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const char *topic = message_topic(messages);
    const struct message_source *source = &messages->kv.backend->has.topic->source;
    struct probe *probes[2];

    nats_server_kill(&server);
    nats_until(fixture, BACKEND_DOWN);
    for (unsigned i = 0; i < 2; i++)
        probes[i] =
            probe_start(messages, messages->kv.backend, source, NULL, probe_want(topic, NULL));
    probe_free(probes[1]);
    nats_server_restart(&server);
    KV_UNTIL(&messages->kv, probe_opened(probes[0]) == 1);
    assert_int_equal(probe_gaps(probes[0]), 0);
    probe_grant(probes[0], CREDIT, BYTES);
    message_publish_ok(messages, sink_of(fixture), topic, NULL, 0, 3);
    probe_wait(probes[0], 3);
    probe_free(probes[0]);
}

/* ---- a server that falls silent ---- */

static void touch(void *arg)
{
    *(bool *)arg = true;
}

struct frame {
    struct job job;
    struct op_group group;
    struct arena arena;
    struct publish publish;
    struct outgoing items[8];
    struct nats_fixture *fixture;
    _Atomic bool done;
};

static void on_frame_done(struct op *op)
{
    atomic_store(&CONTAINER_OF(op, struct frame, publish.op)->done, true);
}

static void start_frame(struct job *job)
{
    struct frame *frame = CONTAINER_OF(job, struct frame, job);

    op_group_init(&frame->group, frame->fixture->messages.kv.worker, &frame->arena, 0);
    op_start(&frame->publish.op, &frame->group, on_frame_done);
    sink_of(frame->fixture)->publish(frame->fixture->messages.kv.backend, &frame->publish);
}

/* Every message gets one outcome, and the worker goes on with other things. 512 KiB of payload do
 * not fit the socket for long, so writes block as well. */
static void silence_blocks_nobody(void **state)
{
    struct nats_fixture *fixture = *state;
    struct kv_fixture *kv = &fixture->messages.kv;
    const char *topic = message_topic(&fixture->messages);
    enum { FRAMES = 40, SIZE = 512 << 10 };
    struct frame *frames = calloc(FRAMES, sizeof *frames);
    char *payload = calloc(1, SIZE);
    unsigned unknown = 0;

    nats_server_pause(&server);
    for (unsigned i = 0; i < FRAMES; i++) {
        struct frame *frame = &frames[i];

        *frame = (struct frame){.fixture = fixture, .job.run = start_frame};
        frame->publish.items = frame->items;
        frame->publish.n = ARRAY_LEN(frame->items);
        for (unsigned k = 0; k < frame->publish.n; k++)
            frame->items[k] =
                (struct outgoing){.topic = slice_str(topic), .payload = slice_of(payload, SIZE)};
        worker_land(kv->worker, &frame->job);
    }

    bool answered = false;

    kv_on_worker(kv, touch, &answered);
    assert_true(answered);
    assert_false(atomic_load(&frames[0].done)); /* while the server owes an answer */
    for (unsigned i = 0; i < FRAMES; i++) {
        KV_UNTIL(kv, atomic_load(&frames[i].done));
        for (unsigned k = 0; k < frames[i].publish.n; k++) {
            struct err err = frames[i].publish.op.err;

            err = err.code != ERR_OK ? err : frames[i].items[k].err;
            if (err.code != ERR_UNAVAILABLE && err.code != ERR_RESOURCE_EXHAUSTED)
                fail_msg("frame %u, message %u: %s", i, k, err_code_name(err.code));
            assert_true(err.code == ERR_UNAVAILABLE || err.effect == EFFECT_NONE);
            unknown += err.effect == EFFECT_UNKNOWN;
        }
    }
    assert_true(unknown > 0); /* what was sent */
    assert_true(unknown < FRAMES * 8);
    nats_server_resume(&server);
    nats_until(fixture, BACKEND_READY);
    message_publish_ok(&fixture->messages, sink_of(fixture), topic, NULL, 0, 1);
    free(payload);
    free(frames);
}

/* ---- who may what ---- */

static void permissions_are_told(void **state)
{
    struct nats_server strict;
    const char *pairs[] = {"address", NULL, "username", "prism", "password", "secret", NULL};
    struct nats_fixture *fixture;
    struct outgoing item = {.topic = slice_str("no.x"), .payload = slice_str("0")};

    (void)state;
    nats_server_start(&strict, "authorization { users: [ { user: prism, password: secret, "
                               "permissions: { publish: { deny: \"no.>\" }, "
                               "subscribe: { deny: \"no.>\" } } } ] }");
    pairs[1] = strict.address;
    fixture = nats_fixture_open(&backend_nats, pairs);
    nats_until(fixture, BACKEND_READY);
    for (unsigned i = 0; i < 2; i++) {
        kv_expect(publish_one(fixture, &item), ERR_PERMISSION_DENIED, "topic");
        message_publish_ok(&fixture->messages, sink_of(fixture), "yes.x", NULL, 0, 3);
    }

    for (unsigned i = 0; i < 50; i++) { /* each for the first time: in its own call */
        item.topic = slice_str(arena_printf(&fixture->messages.kv.arena, "no.%u", i));
        kv_expect(publish_one(fixture, &item), ERR_PERMISSION_DENIED, "topic");
    }

    struct probe *probe = probe_start(&fixture->messages, fixture->messages.kv.backend,
                                      &fixture->messages.kv.backend->has.topic->source, NULL,
                                      probe_want("no.y", NULL));

    KV_UNTIL(&fixture->messages.kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_PERMISSION_DENIED, "topic");
    probe_free(probe);
    probe_free(listen_to(fixture, "yes.y"));
    nats_fixture_close((void **)&fixture);

    pairs[5] = "wrong";
    fixture = nats_fixture_open(&backend_nats, pairs);
    nats_until(fixture, BACKEND_DOWN);
    assert_string_equal(backend_health(fixture->store).text, "NATS refused the login");
    nats_fixture_close((void **)&fixture);
    nats_server_stop(&strict);
}

/* The library answers the server's PINGs through the buffer in which our frames leave: what waits
 * there behind a PONG is no sign of a broken connection. */
static void the_server_s_pings_are_no_loss(void **state)
{
    enum { FRAMES = 3000 };
    struct nats_server curious;
    const char *pairs[] = {"address", NULL, NULL};
    struct nats_fixture *fixture;

    (void)state;
    nats_server_start(&curious, "ping_interval: \"1ms\"\nping_max: 1000000");
    pairs[1] = curious.address;
    fixture = nats_fixture_open(&backend_nats, pairs);
    nats_until(fixture, BACKEND_READY);
    for (unsigned i = 0; i < FRAMES; i++)
        message_publish_ok(&fixture->messages, sink_of(fixture), "t", NULL, i, 1);
    nats_fixture_close((void **)&fixture);
    nats_server_stop(&curious);
}

static void start_probe(struct backend *backend, struct op *op)
{
    backend->type->probe(backend, op);
}

static void the_probe_asks_the_server(void **state)
{
    struct nats_fixture *fixture = *state;
    struct op op = {0};

    kv_expect(kv_do(&fixture->messages.kv, start_probe, &op), ERR_OK, NULL);
    nats_server_pause(&server);
    kv_expect(kv_do(&fixture->messages.kv, start_probe, &op), ERR_UNAVAILABLE, NULL);
    nats_server_resume(&server);
    nats_until(fixture, BACKEND_READY);
}

static void contradictions_are_refused(void **state)
{
    static const char *const wrong[][7] = {
        {"address", "", NULL},
        {"address", "a,,b", NULL},
        {"address", "nats://user:secret@host", NULL},
        {"password", "p", NULL},
        {"username", "u", "token", "t", NULL},
        {"username", "u", "credentials_file", "/x", NULL},
        {"tls_ca", "/x", NULL},
        {"tls", "true", NULL},
        {"tls", "true", "tls_ca", "/x", "tls_cert", "/y", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err;

        assert_null(nats_fixture_store(&backend_nats, wrong[i], &err));
        assert_int_equal(err.code, ERR_INVALID_ARGUMENT);
        assert_non_null(err.subject);
    }
}

/* The second server of the list answers. */
static void servers_are_tried_in_turn(void **state)
{
    char address[64];
    const char *const pairs[] = {"address", address, NULL};
    struct nats_fixture *fixture;

    (void)state;
    snprintf(address, sizeof address, "127.0.0.1:1, nats://%s", server.address);
    fixture = nats_fixture_open(&backend_nats, pairs);
    nats_until(fixture, BACKEND_READY);
    nats_fixture_close((void **)&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(headers_key_and_id_travel),
        KV_TEST(what_cannot_be_carried_is_refused),
        KV_TEST(plain_clients_understand_us),
        KV_TEST(wildcards_show_the_subject),
        KV_TEST(order_is_kept),
        KV_TEST(a_restart_is_survived_and_told),
        KV_TEST(subscriptions_wait_for_the_server),
        KV_TEST(silence_blocks_nobody),
        KV_TEST(the_probe_asks_the_server),
        cmocka_unit_test(the_server_s_pings_are_no_loss),
        cmocka_unit_test(permissions_are_told),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(servers_are_tried_in_turn),
    };

    if (!nats_server_installed())
        return nats_server_skip();
    nats_server_start(&server, "");

    int failed = message_contract("nats", open_fixture, nats_fixture_close) +
                 cmocka_run_group_tests_name("nats", tests, open_fixture, nats_fixture_close);

    nats_server_stop(&server);
    return failed != 0;
}
