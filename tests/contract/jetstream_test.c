/* JetStream against a real server: the contract of streams, then what is special to this backend.
 */
#include "src/base/container.h"
#include "tests/contract/jetstream_plain.h"

#include <stdio.h>
#include <stdlib.h>

static struct nats_server server;

/* Retention, as it removes the oldest. Streams that Prism makes are named as their topics. */
static void drop_before(struct message_fixture *fixture, const char *topic, int64_t offset)
{
    struct plain plain = plain_open(&server);

    (void)fixture;
    for (int64_t i = 1; i < offset; i++)
        js_DeleteMsg(plain.js, topic, (uint64_t)i, NULL, NULL);
    plain_close(&plain);
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

/* ---- ordinary messages ---- */

static void plain_clients_understand_us(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages), *value;
    struct header header = {slice_str("a"), slice_str("1")};
    struct outgoing item = {.topic = slice_str(topic),
                            .key = slice_str("k"),
                            .id = slice_str("id-1"),
                            .payload = slice_of("\0x", 2),
                            .headers = &header,
                            .n_headers = 1};
    struct plain plain = plain_open(&server);
    struct probe *probe;
    natsMsg *message;

    kv_expect(jetstream_publish(fixture, &item), ERR_OK, NULL);
    message = plain_get(&plain, topic, (uint64_t)item.offset);
    assert_int_equal(natsMsg_GetDataLength(message), 2);
    assert_memory_equal(natsMsg_GetData(message), "\0x", 2);
    assert_int_equal(natsMsgHeader_Get(message, "a", &value), NATS_OK);
    assert_string_equal(value, "1");
    assert_int_equal(natsMsgHeader_Get(message, "Prism-Key", &value), NATS_OK);
    assert_string_equal(value, "k");
    assert_int_equal(natsMsgHeader_Get(message, "Nats-Msg-Id", &value), NATS_OK);
    assert_string_equal(value, "id-1");
    natsMsg_Destroy(message);
    assert_int_equal(js_Publish(NULL, plain.js, topic, "outside", 7, NULL, NULL), NATS_OK);
    probe = jetstream_reader(fixture, topic, "g");
    probe_wait(probe, 2);
    assert_true(slice_equal(probe_got(probe, 0)->m.id, slice_str("id-1")));
    assert_true(slice_equal(probe_got(probe, 1)->m.payload, slice_str("outside")));
    assert_true(message_is_null(probe_got(probe, 1)->m.key));
    assert_true(message_is_null(probe_got(probe, 1)->m.id));
    probe_done(probe, 0, 2);
    probe_free(probe);
    plain_close(&plain);
}

/* ---- ids ---- */

static void ids_are_remembered(void **state)
{
    struct nats_fixture *fixture = *state;
    const char *topic = message_topic(&fixture->messages);
    struct outgoing items[3];
    struct plain plain = plain_open(&server);

    for (unsigned i = 0; i < 3; i++) /* the third has no id: it is another message */
        items[i] = (struct outgoing){.topic = slice_str(topic),
                                     .id = i < 2 ? slice_str("same") : message_null(),
                                     .payload = slice_str("0")};
    kv_expect(message_publish(&fixture->messages, jetstream_sink(fixture), items, 3), ERR_OK, NULL);
    for (unsigned i = 0; i < 3; i++) {
        kv_expect(items[i].err, ERR_OK, NULL);
        assert_int_equal(items[i].deduplicated, i == 1);
    }
    assert_int_equal(items[0].offset, items[1].offset);
    items[2].id = message_null();
    kv_expect(jetstream_publish(fixture, &items[2]), ERR_OK, NULL);
    assert_false(items[2].deduplicated);
    assert_int_equal(plain_count(&plain, topic), 3);
    plain_close(&plain);
}

/* ---- streams that are not there, or full ---- */

static void small(jsStreamConfig *config)
{
    config->Discard = js_DiscardNew;
    config->MaxBytes = 4096;
    config->MaxMsgSize = 3000;
}

static void topics_without_a_stream(void **state)
{
    const char *const pairs[] = {NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    struct message_fixture *messages = &fixture->messages;
    const struct stream *stream = messages->kv.backend->has.stream;
    struct outgoing items[] = {
        {.topic = slice_str("absent.x"), .payload = slice_str("0")},
        {.topic = slice_str("there.x"), .payload = slice_str("1")},
    };
    struct plain plain = plain_open(&server);
    struct probe *probe = probe_start(messages, messages->kv.backend, &stream->source,
                                      &stream->settling, probe_want("absent.x", "g"));

    (void)state;
    KV_UNTIL(&messages->kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_NOT_FOUND, "topic");
    probe_free(probe);
    plain_stream(&plain, "THERE", "there.*", NULL);
    kv_expect(message_publish(messages, jetstream_sink(fixture), items, 2), ERR_OK, NULL);
    kv_expect(items[0].err, ERR_NOT_FOUND, "topic");
    assert_int_equal(items[0].err.effect, EFFECT_NONE);
    kv_expect(items[1].err, ERR_OK, NULL);
    plain_stream(&plain, "ABSENT", "absent.>", NULL);
    kv_expect(jetstream_publish(fixture, &items[0]), ERR_OK, NULL);
    plain_close(&plain);
    nats_fixture_close((void **)&fixture);
}

/* Nothing overtakes a message that was refused by the server; other keys pass. */
static void full_streams_refuse(void **state)
{
    const char *const pairs[] = {NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    struct plain plain = plain_open(&server);
    char *bytes = calloc(1, 4000);
    struct outgoing items[] = {
        {.key = slice_str("a"), .payload = slice_of(bytes, 1800)},
        {.key = slice_str("a"), .payload = slice_of(bytes, 4000)}, /* never */
        {.key = slice_str("a"), .payload = slice_of(bytes, 10)},
        {.key = slice_str("c"), .payload = slice_of(bytes, 2500)}, /* no room for it */
        {.key = slice_str("c"), .payload = slice_of(bytes, 10)},
        {.key = slice_str("b"), .payload = slice_of(bytes, 10)},
    };
    static const enum err_code expected[] = {
        ERR_OK, ERR_INVALID_ARGUMENT, ERR_ABORTED, ERR_RESOURCE_EXHAUSTED, ERR_ABORTED, ERR_OK};

    (void)state;
    plain_stream(&plain, "SMALL", "small", small);
    for (unsigned i = 0; i < ARRAY_LEN(items); i++)
        items[i].topic = slice_str("small");
    kv_expect(message_publish(&fixture->messages, jetstream_sink(fixture), items, 6), ERR_OK, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
        kv_expect(items[i].err, expected[i], NULL);
        assert_int_equal(items[i].err.effect, EFFECT_NONE);
    }
    assert_int_equal(plain_count(&plain, "SMALL"), 2);
    free(bytes);
    plain_close(&plain);
    nats_fixture_close((void **)&fixture);
}

/* ---- groups of others ---- */

static void add_consumer(struct plain *plain, const char *stream, const char *name,
                         const char *filter, const char *deliver)
{
    jsConsumerConfig config;

    jsConsumerConfig_Init(&config);
    config.Durable = name;
    config.FilterSubject = filter;
    config.DeliverSubject = deliver;
    config.AckPolicy = js_AckExplicit;
    assert_int_equal(js_AddConsumer(NULL, plain->js, stream, &config, NULL, NULL), NATS_OK);
}

/* Is there such a consumer, with nothing left to settle? */
static bool all_settled(struct plain *plain, const char *stream, const char *consumer)
{
    jsConsumerInfo *info = NULL;
    bool settled;

    if (js_GetConsumerInfo(&info, plain->js, stream, consumer, NULL, NULL) != NATS_OK)
        return false;
    settled = info->NumPending == 0 && info->NumAckPending == 0;
    jsConsumerInfo_Destroy(info);
    return settled;
}

/* A durable of the group's name that reads the topic is the group; two topics of one stream have
 * groups of their own. */
static void durables_are_groups(void **state)
{
    struct nats_fixture *fixture = *state;
    struct plain plain = plain_open(&server);
    struct probe *probe;

    plain_stream(&plain, "SHARED", "shared.*", NULL);
    add_consumer(&plain, "SHARED", "theirs", "shared.a", NULL);
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), "shared.a", NULL, 0, 2);
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), "shared.b", NULL, 2, 1);
    probe = jetstream_reader(fixture, "shared.a", "theirs");
    probe_wait(probe, 2);
    probe_done(probe, 0, 2);
    probe_quiet(probe, 2);
    probe_free(probe);
    assert_true(all_settled(&plain, "SHARED", "theirs"));
    probe = jetstream_reader(fixture, "shared.b", "theirs");
    probe_wait(probe, 1);
    assert_int_equal(probe_number(probe, 0), 2);
    probe_done(probe, 0, 1);
    probe_free(probe);
    assert_true(all_settled(&plain, "SHARED", "theirs@shared=2Eb"));
    plain_close(&plain);
}

static void push_consumers_are_refused(void **state)
{
    struct nats_fixture *fixture = *state;
    struct message_fixture *messages = &fixture->messages;
    const struct stream *stream = messages->kv.backend->has.stream;
    struct plain plain = plain_open(&server);
    struct probe *probe;

    plain_stream(&plain, "PUSHED", "pushed", NULL);
    add_consumer(&plain, "PUSHED", "g@pushed", "pushed", "somewhere");
    probe = probe_start(messages, messages->kv.backend, &stream->source, &stream->settling,
                        probe_want("pushed", "g"));
    KV_UNTIL(&messages->kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_FAILED_PRECONDITION, "consumer_group");
    probe_free(probe);
    plain_close(&plain);
}

/* ---- who may what ---- */

static void permissions_are_told(void **state)
{
    struct nats_server strict;
    const char *const pairs[] = {"username", "prism", "password", "secret", NULL};
    struct nats_fixture *fixture;
    const struct stream *stream;
    struct outgoing item = {.topic = slice_str("no.x"), .payload = slice_str("0")};
    struct probe *probe;

    (void)state;
    nats_server_start(&strict, "jetstream { store_dir: \"js\" }\n"
                               "authorization { users: [ { user: prism, password: secret, "
                               "permissions: { publish: { deny: [ \"no.>\", "
                               "\"$JS.API.STREAM.NAMES\" ] } } } ] }");
    fixture = jetstream_open(&strict, pairs);
    stream = fixture->messages.kv.backend->has.stream;
    kv_expect(jetstream_publish(fixture, &item), ERR_PERMISSION_DENIED, "topic");
    probe = probe_start(&fixture->messages, fixture->messages.kv.backend, &stream->source,
                        &stream->settling, probe_want("yes.x", "g"));
    KV_UNTIL(&fixture->messages.kv, probe_is_closed(probe));
    kv_expect(probe->closed_with, ERR_PERMISSION_DENIED, NULL);
    probe_free(probe);
    nats_fixture_close((void **)&fixture);
    nats_server_stop(&strict);
}

/* ---- facts ---- */

static void start_describe(struct backend *backend, struct op *op)
{
    backend->has.stream->describe(backend, (struct stream_describe *)(void *)op);
}

static void start_probe(struct backend *backend, struct op *op)
{
    backend->type->probe(backend, op);
}

static void lossy(jsStreamConfig *config)
{
    config->MaxMsgs = 100;
}

/* P9: the setting that may remove what nobody has read is named. */
static void streams_are_described(void **state)
{
    struct nats_fixture *fixture = *state;
    struct plain plain = plain_open(&server);
    struct stream_describe full = {.topic = slice_str("kept")}, old = {.topic = slice_str("lossy")};
    struct op op = {0};

    plain_stream(&plain, "KEPT", "kept", small);
    plain_stream(&plain, "LOSSY", "lossy", lossy);
    kv_expect(kv_do(&fixture->messages.kv, start_describe, &full.op), ERR_OK, NULL);
    kv_expect(kv_do(&fixture->messages.kv, start_describe, &old.op), ERR_OK, NULL);
    assert_true(full.found && old.found);
    assert_int_equal(full.retention, RETENTION_KEEPS_UNREAD);
    assert_int_equal(full.max_message_bytes, 3000);
    assert_int_equal(full.ack, BACKEND_ACK_MEMORY);
    assert_int_equal(old.retention, RETENTION_LOSSY);
    assert_string_equal(old.retention_text, "max_msgs with discard: old");
    kv_expect(kv_do(&fixture->messages.kv, start_probe, &op), ERR_OK, NULL);
    plain_close(&plain);
}

/* ---- leases ---- */

/* Looks for what was removed wake a reader before its leases are due. Without credit nothing else
 * wakes it then, and what it holds stays its own. */
static void what_is_in_hand_stays_there(void **state)
{
    enum { WAIT_MS = 5000, HELD = 2, BYTES = 1 << 20 };
    const char *const pairs[] = {"ack_wait_ms", "5000", NULL};
    struct nats_fixture *fixture = jetstream_open(&server, pairs);
    struct plain plain = plain_open(&server);
    struct probe *holder, *other;

    (void)state;
    KV_UNTIL(&fixture->messages.kv, atomic_load(&fixture->second->state) == BACKEND_READY);
    plain_stream(&plain, "held", "held", NULL);
    message_publish_ok(&fixture->messages, jetstream_sink(fixture), "held", NULL, 0, HELD);
    holder =
        probe_stream(&fixture->messages, fixture->messages.kv.backend, probe_want("held", "g"));
    probe_grant(holder, HELD, BYTES);
    probe_wait(holder, HELD);
    other = probe_stream(&fixture->messages, fixture->messages.second, probe_want("held", "g"));
    probe_grant(other, HELD, BYTES);
    assert_int_equal(js_DeleteMsg(plain.js, "held", 1, NULL, NULL), NATS_OK);
    kv_pass(&fixture->messages.kv, WAIT_MS + 2000);
    assert_int_equal(probe_count(other), 0);
    assert_int_equal(probe_moves(holder).lost, 0);
    probe_done(holder, 0, HELD);
    probe_free(holder);
    probe_free(other);
    plain_close(&plain);
    nats_fixture_close((void **)&fixture);
}

/* All of it, on one server. */
static int run_on(const char *name)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(plain_clients_understand_us),
        KV_TEST(ids_are_remembered),
        cmocka_unit_test(topics_without_a_stream),
        cmocka_unit_test(full_streams_refuse),
        KV_TEST(durables_are_groups),
        KV_TEST(push_consumers_are_refused),
        cmocka_unit_test(permissions_are_told),
        KV_TEST(streams_are_described),
        cmocka_unit_test(what_is_in_hand_stays_there),
    };
    int failed;

    nats_server_start(&server, "jetstream { store_dir: \"js\" }\nmax_payload: 8MB");
    failed = message_contract(name, open_fixture, nats_fixture_close) +
             cmocka_run_group_tests_name(name, tests, open_fixture, nats_fixture_close);
    nats_server_stop(&server);
    return failed;
}

int main(void)
{
    return nats_server_each("jetstream", run_on);
}
