/* Tickets: any process settles what another one holds, and a late ticket settles nothing. */
#include "tests/contract/message_contract.h"

#include "src/base/container.h"

enum { CREDIT = 1000, BYTES = 1 << 20 };

struct kind {
    const struct message_sink *sink;
    bool queue;
};

/* What the Consumer takes: a stream, else a queue. */
static struct kind need_tickets(struct message_fixture *fixture)
{
    const struct backend_interfaces *has = &fixture->kv.backend->has;
    const struct message_settling *settling = has->stream != NULL  ? &has->stream->settling
                                              : has->queue != NULL ? &has->queue->settling
                                                                   : NULL;

    if (settling == NULL || settling->tickets == NULL || !settling->single ||
        fixture->second == NULL)
        skip();
    return (struct kind){.sink = has->stream != NULL ? &has->stream->sink : &has->queue->sink,
                         .queue = has->stream == NULL};
}

static struct probe *reader(struct message_fixture *fixture, const struct kind *kind,
                            struct backend *backend, const char *topic)
{
    struct probe *probe = kind->queue ? probe_queue(fixture, backend, probe_want(topic, NULL))
                                      : probe_stream(fixture, backend, probe_want(topic, "g"));

    probe_grant(probe, CREDIT, BYTES);
    return probe;
}

/* ---- single operations ---- */

struct making {
    struct op op; /* first */
    struct probe *probe;
    uint64_t token;
    uint8_t bytes[TICKET_BYTES];
    size_t n;
};

static const struct message_tickets *tickets_of(const struct backend *backend)
{
    return backend->has.stream != NULL ? backend->has.stream->settling.tickets
                                       : backend->has.queue->settling.tickets;
}

static void start_make(struct backend *backend, struct op *op)
{
    struct making *making = CONTAINER_OF(op, struct making, op);

    making->n = tickets_of(backend)->make(backend, &making->probe->subscription, making->token,
                                          making->bytes);
    op_finish(op, ERR_NONE);
}

/* Of the i-th message. */
static struct slice ticket(struct probe *probe, size_t i)
{
    struct making making = {.probe = probe, .token = probe_got(probe, i)->m.token};
    struct kv_step step = {.start = start_make, .op = &making.op};

    kv_run(&probe->fixture->kv, probe->backend, &step, 1);
    assert_in_range(making.n, 1, TICKET_BYTES);
    return arena_copy(&probe->fixture->kv.arena, slice_of(making.bytes, making.n));
}

static void start_settle(struct backend *backend, struct op *op)
{
    tickets_of(backend)->settle(backend, CONTAINER_OF(op, struct settle_tickets, op));
}

static struct err settle(struct message_fixture *fixture, struct backend *backend,
                         const char *topic, struct slice bytes)
{
    struct ticket item = {.bytes = bytes};
    struct settle_tickets settle = {.topic = slice_str(topic),
                                    .group = backend->has.stream != NULL ? slice_str("g")
                                                                         : message_null(),
                                    .items = &item,
                                    .n = 1};
    struct kv_step step = {.start = start_settle, .op = &settle.op};

    kv_run(&fixture->kv, backend, &step, 1);
    kv_expect(settle.op.err, ERR_OK, NULL);
    return item.err;
}

static void start_recall(struct backend *backend, struct op *op)
{
    tickets_of(backend)->recall(backend, CONTAINER_OF(op, struct recall, op));
}

static struct err recall(struct probe *probe, size_t i, uint64_t *token)
{
    struct recalled item = {.token = probe_got(probe, i)->m.token};
    struct recall recall = {.subscription = &probe->subscription, .items = &item, .n = 1};
    struct kv_step step = {.start = start_recall, .op = &recall.op};

    kv_run(&probe->fixture->kv, probe->backend, &step, 1);
    kv_expect(recall.op.err, ERR_OK, NULL);
    *token = item.token;
    return item.err;
}

/* ---- tests ---- */

static void test_another_process_settles(void **state)
{
    struct message_fixture *fixture = *state;
    struct kind kind = need_tickets(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, &kind, fixture->kv.backend, topic);
    struct slice first, second;

    message_publish_ok(fixture, kind.sink, topic, NULL, 0, 3);
    probe_wait(probe, 3);
    first = ticket(probe, 0);
    second = ticket(probe, 1);
    kv_expect(settle(fixture, fixture->second, topic, first), ERR_OK, NULL);
    KV_UNTIL(&fixture->kv, probe_moves(probe).lost > 0); /* the holder hears of it */
    kv_expect(settle(fixture, fixture->second, topic, first), ERR_ABORTED, NULL);
    kv_expect(probe_settle(probe, 0, SETTLE_DONE, 0), ERR_ABORTED, NULL);
    kv_expect(settle(fixture, fixture->second, "another-topic", second), ERR_ABORTED, NULL);
    kv_expect(probe_settle(probe, 2, SETTLE_DONE, 0), ERR_OK, NULL);
    kv_expect(settle(fixture, fixture->kv.backend, topic, second), ERR_OK, NULL);
    probe_free(probe);
    probe = reader(fixture, &kind, fixture->second, topic);
    probe_quiet(probe, 0);
    probe_free(probe);
}

static void test_a_later_delivery_is_not_meant(void **state)
{
    struct message_fixture *fixture = *state;
    struct kind kind = need_tickets(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, &kind, fixture->kv.backend, topic);
    struct slice old;
    uint64_t token;

    message_publish_ok(fixture, kind.sink, topic, NULL, 0, 1);
    probe_wait(probe, 1);
    old = ticket(probe, 0);
    kv_expect(probe_settle(probe, 0, SETTLE_RETRY, 0), ERR_OK, NULL);
    probe_wait(probe, 2);
    kv_expect(settle(fixture, fixture->second, topic, old), ERR_ABORTED, NULL);

    old = ticket(probe, 1); /* recalled, and then released */
    kv_expect(recall(probe, 1, &token), ERR_OK, NULL);
    kv_expect(settle(fixture, fixture->second, topic, old), ERR_ABORTED, NULL);
    probe_free(probe);
    probe = reader(fixture, &kind, fixture->kv.backend, topic);
    probe_wait(probe, 1);
    kv_expect(settle(fixture, fixture->second, topic, old), ERR_ABORTED, NULL);
    kv_expect(settle(fixture, fixture->second, topic, ticket(probe, 0)), ERR_OK, NULL);
    probe_free(probe);
}

static void test_recall_tells_what_is_settled(void **state)
{
    struct message_fixture *fixture = *state;
    struct kind kind = need_tickets(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, &kind, fixture->kv.backend, topic);
    uint64_t token;

    message_publish_ok(fixture, kind.sink, topic, NULL, 0, 1);
    probe_wait(probe, 1);
    kv_expect(settle(fixture, fixture->second, topic, ticket(probe, 0)), ERR_OK, NULL);
    kv_expect(recall(probe, 0, &token), ERR_ABORTED, NULL);
    probe_free(probe);
}

static void test_what_is_no_ticket(void **state)
{
    struct message_fixture *fixture = *state;
    struct kind kind = need_tickets(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = reader(fixture, &kind, fixture->kv.backend, topic);
    uint8_t zeros[2 * TICKET_BYTES] = {0};
    struct slice good;

    message_publish_ok(fixture, kind.sink, topic, NULL, 0, 1);
    probe_wait(probe, 1);
    good = ticket(probe, 0);
    kv_expect(settle(fixture, fixture->second, topic, slice_of(zeros, 0)), ERR_INVALID_ARGUMENT,
              NULL);
    kv_expect(settle(fixture, fixture->second, topic, slice_of(zeros, sizeof zeros)),
              ERR_INVALID_ARGUMENT, NULL);
    kv_expect(settle(fixture, fixture->second, topic, slice_of(good.data, 3)), ERR_INVALID_ARGUMENT,
              NULL);
    kv_expect(settle(fixture, fixture->second, topic, good), ERR_OK, NULL);
    probe_free(probe);
}

int tickets_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_another_process_settles),
        KV_TEST(test_a_later_delivery_is_not_meant),
        KV_TEST(test_recall_tells_what_is_settled),
        KV_TEST(test_what_is_no_ticket),
    };

    return kv_group(name, "tickets", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
