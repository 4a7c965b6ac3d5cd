/* Topics, publishing and single operations for the suites of messaging. */
#include "tests/contract/message_contract.h"

#include "src/base/container.h"

/* ---- names, publishing ---- */

const char *message_topic(struct message_fixture *fixture)
{
    char *name =
        arena_printf(&fixture->kv.arena, "%scontract-%u", fixture->prefix, ++fixture->topics);

    if (fixture->make_topic != NULL)
        fixture->make_topic(fixture, name, 1);
    return name;
}

struct sink_call {
    struct publish publish; /* first: kv_start_fn gets its op */
    const struct message_sink *sink;
};

static void start_publish(struct backend *backend, struct op *op)
{
    struct sink_call *call = CONTAINER_OF(op, struct sink_call, publish.op);

    call->sink->publish(backend, &call->publish);
}

struct err message_publish(struct message_fixture *fixture, const struct message_sink *sink,
                           struct outgoing *items, size_t n)
{
    struct sink_call call = {.publish = {.items = items, .n = n}, .sink = sink};

    return kv_do(&fixture->kv, start_publish, &call.publish.op);
}

struct err message_publish_atomic(struct message_fixture *fixture, const struct message_sink *sink,
                                  struct outgoing *items, size_t n, uint32_t *culprit)
{
    struct sink_call call = {
        .publish = {.items = items, .n = n, .atomic = true, .culprit = PUBLISH_ALL}, .sink = sink};
    struct err err = kv_do(&fixture->kv, start_publish, &call.publish.op);

    *culprit = call.publish.culprit;
    for (size_t i = 0; i < n && err.code == ERR_OK; i++)
        kv_expect(items[i].err, ERR_OK, NULL);
    return err;
}

void message_publish_ok(struct message_fixture *fixture, const struct message_sink *sink,
                        const char *topic, const char *key, unsigned from, unsigned n)
{
    struct outgoing *items = arena_array(&fixture->kv.arena, n, sizeof *items);

    for (unsigned i = 0; i < n; i++) {
        items[i].topic = slice_str(topic);
        items[i].key = slice_str(key);
        items[i].payload = slice_str(arena_printf(&fixture->kv.arena, "%u", from + i));
    }
    for (unsigned done = 0; done < n;) {
        unsigned some = n - done < sink->max_items ? n - done : sink->max_items;

        kv_expect(message_publish(fixture, sink, items + done, some), ERR_OK, NULL);
        for (unsigned i = 0; i < some; i++)
            kv_expect(items[done + i].err, ERR_OK, NULL);
        done += some;
    }
}

/* ---- single operations ---- */

const struct stream *message_need_stream(struct message_fixture *fixture)
{
    if (fixture->kv.backend->has.stream == NULL)
        skip();
    return fixture->kv.backend->has.stream;
}

const struct queue *message_need_queue(struct message_fixture *fixture)
{
    if (fixture->kv.backend->has.queue == NULL)
        skip();
    return fixture->kv.backend->has.queue;
}

const struct topic *message_need_topic(struct message_fixture *fixture)
{
    if (fixture->kv.backend->has.topic == NULL)
        skip();
    return fixture->kv.backend->has.topic;
}

static void start_position(struct backend *backend, struct op *op)
{
    backend->has.stream->position(backend, CONTAINER_OF(op, struct stream_position, op));
}

struct stream_position message_position(struct message_fixture *fixture, const char *topic,
                                        const char *group)
{
    struct stream_position position = {.topic = slice_str(topic), .group = slice_str(group)};

    kv_expect(kv_do(&fixture->kv, start_position, &position.op), ERR_OK, NULL);
    return position;
}

int message_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    return topic_contract(name, setup, teardown) + stream_contract(name, setup, teardown) +
           stream_settle_contract(name, setup, teardown) +
           stream_place_contract(name, setup, teardown) + queue_contract(name, setup, teardown) +
           atomic_contract(name, setup, teardown) + tickets_contract(name, setup, teardown);
}
