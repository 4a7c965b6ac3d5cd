/* Topics: who listens gets it, at most once; who is too slow is told. */
#include "src/base/block.h"
#include "src/base/container.h"
#include "tests/contract/message_contract.h"

enum { CREDIT = 100000, BYTES = 256 << 20 };

static struct probe *listener(struct message_fixture *fixture, const char *topic)
{
    return probe_topic(fixture, fixture->kv.backend, probe_want(topic, NULL));
}

static void test_who_listens_gets_it(void **state)
{
    struct message_fixture *fixture = *state;
    const struct topic *interface = message_need_topic(fixture);
    const char *topic = message_topic(fixture), *other = message_topic(fixture);
    struct probe *probes[3];

    message_publish_ok(fixture, &interface->sink, topic, NULL, 100, 3); /* nobody listens */
    for (unsigned i = 0; i < 3; i++) {
        probes[i] = listener(fixture, i < 2 ? topic : other);
        probe_grant(probes[i], CREDIT, BYTES);
    }
    message_publish_ok(fixture, &interface->sink, topic, NULL, 0, 20);
    for (unsigned i = 0; i < 2; i++) {
        probe_wait(probes[i], 20);
        for (unsigned k = 0; k < 20; k++) {
            assert_int_equal(probe_number(probes[i], k), k);
            assert_true(slice_equal(probe_got(probes[i], k)->m.topic, slice_str(topic)));
            assert_int_equal(probe_got(probes[i], k)->m.token, 0);
        }
    }
    probe_quiet(probes[2], 0);
    probe_free(probes[0]);
    message_publish_ok(fixture, &interface->sink, topic, NULL, 20, 5);
    probe_wait(probes[1], 25);
    probe_free(probes[1]);
    probe_free(probes[2]);
}

static void test_bytes_as_they_are(void **state)
{
    struct message_fixture *fixture = *state;
    const struct topic *interface = message_need_topic(fixture);
    const char *topic = message_topic(fixture);
    static const uint8_t wild[] = {0, 255, 1, 254, '\n', 0};
    struct outgoing items[] = {
        {.topic = slice_str(topic), .payload = slice_of(wild, sizeof wild)},
        {.topic = slice_str(topic), .payload = message_empty()},
    };
    struct probe *probe = listener(fixture, topic);

    probe_grant(probe, CREDIT, BYTES);
    kv_expect(message_publish(fixture, &interface->sink, items, 2), ERR_OK, NULL);
    probe_wait(probe, 2);
    for (unsigned i = 0; i < 2; i++) {
        kv_expect(items[i].err, ERR_OK, NULL);
        assert_true(slice_equal(probe_got(probe, i)->m.payload, items[i].payload));
    }
    probe_free(probe);
}

static bool has_header(const struct incoming *m, const struct header *header)
{
    size_t i = 0;

    while (i < m->n_headers && !(slice_equal(m->headers[i].name, header->name) &&
                                 slice_equal(m->headers[i].value, header->value)))
        i++;
    return i < m->n_headers;
}

/* What a server cannot carry is refused and named, never dropped, and takes no neighbour with it.
 */
static void test_carried_or_refused(void **state)
{
    struct message_fixture *fixture = *state;
    const struct topic *interface = message_need_topic(fixture);
    const char *topic = message_topic(fixture);
    static const char *const subjects[] = {"key", "message_id", "headers", NULL};
    const struct header headers[] = {{slice_str("x-identity"), slice_str("who")},
                                     {slice_str("x-id"), slice_str("what")}};
    struct slice name = slice_str(topic), payload = slice_str("p");
    struct outgoing items[] = {
        {.topic = name, .payload = payload, .key = slice_str("key")},
        {.topic = name, .payload = payload, .id = slice_str("id")},
        {.topic = name, .payload = payload, .headers = headers, .n_headers = 2},
        {.topic = name, .payload = payload},
    };
    struct probe *probe = listener(fixture, topic);
    size_t n = 0;

    probe_grant(probe, CREDIT, BYTES);
    kv_expect(message_publish(fixture, &interface->sink, items, 4), ERR_OK, NULL);
    kv_expect(items[3].err, ERR_OK, NULL);
    for (size_t i = 0; i < 4; i++) {
        if (items[i].err.code != ERR_OK) {
            kv_expect(items[i].err, ERR_INVALID_ARGUMENT, subjects[i]);
            continue;
        }
        probe_wait(probe, ++n);

        const struct incoming *got = &probe_got(probe, n - 1)->m;

        assert_true(slice_equal(got->key, items[i].key));
        assert_true(slice_equal(got->id, items[i].id));
        assert_int_equal(got->n_headers, items[i].n_headers);
        for (size_t h = 0; h < items[i].n_headers; h++)
            assert_true(has_header(got, &headers[h]));
    }
    probe_quiet(probe, n);
    probe_free(probe);
}

/* What goes to many with the same bytes, as a multicast does: each topic gets its own, and no
 * other.
 */
static void test_alike_but_for_the_topic(void **state)
{
    struct message_fixture *fixture = *state;
    const struct topic *interface = message_need_topic(fixture);
    const struct header header = {.name = slice_str("name"), .value = slice_str("value")};
    const char *topics[] = {message_topic(fixture), message_topic(fixture), NULL};
    static const unsigned order[] = {0, 1, 2, 1, 0, 1}, counts[] = {2, 3, 1};
    struct block *payload = block_copy(slice_str("p"));
    struct outgoing items[ARRAY_LEN(order)];
    struct probe *probes[3];

    topics[2] = arena_printf(&fixture->kv.arena, "%s-longer", topics[0]);
    if (fixture->make_topic != NULL)
        fixture->make_topic(fixture, topics[2], 1);
    for (unsigned i = 0; i < 3; i++) {
        probes[i] = listener(fixture, topics[i]);
        probe_grant(probes[i], CREDIT, BYTES);
    }
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        items[i] = (struct outgoing){.topic = slice_str(topics[order[i]]),
                                     .payload = payload->bytes,
                                     .shared = payload,
                                     .headers = &header,
                                     .n_headers = interface->sink.bare ? 0 : 1};
    kv_expect(message_publish(fixture, &interface->sink, items, ARRAY_LEN(order)), ERR_OK, NULL);
    for (unsigned i = 0; i < 3; i++) {
        probe_wait(probes[i], counts[i]);
        probe_quiet(probes[i], counts[i]);
        for (unsigned k = 0; k < probe_count(probes[i]); k++) {
            const struct incoming *got = &probe_got(probes[i], k)->m;

            assert_true(slice_equal(got->topic, slice_str(topics[i])));
            assert_true(slice_equal(got->payload, slice_str("p")));
            assert_int_equal(got->n_headers, items[0].n_headers);
        }
        probe_free(probes[i]);
    }
    block_unref(payload);
}

/* Receivers, where they are known. */
static void test_receivers(void **state)
{
    struct message_fixture *fixture = *state;
    const struct topic *interface = message_need_topic(fixture);
    const char *topic = message_topic(fixture);
    struct outgoing item = {.topic = slice_str(topic), .payload = slice_str("0")};

    kv_expect(message_publish(fixture, &interface->sink, &item, 1), ERR_OK, NULL);
    kv_expect(item.err, ERR_OK, NULL);
    if (item.receivers < 0)
        skip();
    assert_int_equal(item.receivers, 0);
    if (interface->may_be_heard != NULL) /* no name here has a dot: it is its last level */
        assert_false(interface->may_be_heard(fixture->kv.backend, slice_str(topic)));

    struct probe *a = listener(fixture, topic), *b = listener(fixture, topic);

    kv_expect(message_publish(fixture, &interface->sink, &item, 1), ERR_OK, NULL);
    assert_true(item.receivers >= 1);
    if (interface->may_be_heard != NULL)
        assert_true(interface->may_be_heard(fixture->kv.backend, slice_str(topic)));
    probe_free(a);
    probe_free(b);
}

static void test_credit(void **state)
{
    struct message_fixture *fixture = *state;
    const struct topic *interface = message_need_topic(fixture);
    const char *topic = message_topic(fixture);
    struct probe *probe = listener(fixture, topic);

    message_publish_ok(fixture, &interface->sink, topic, NULL, 0, 20);
    probe_quiet(probe, 0);
    probe_grant(probe, 7, BYTES);
    probe_wait(probe, 7);
    probe_quiet(probe, 7);
    probe_withdraw(probe);
    probe_grant(probe, CREDIT, BYTES);
    probe_wait(probe, 20);
    assert_int_equal(probe_gaps(probe), 0);
    probe_free(probe);
}

/* C19: what does not fit the buffer is dropped, oldest first, and each of it is told. A second
 * listener that keeps up misses nothing. */
static void test_too_slow(void **state)
{
    struct message_fixture *fixture = *state;
    const struct topic *interface = message_need_topic(fixture);
    const char *topic = message_topic(fixture);
    enum { FRAME = 10 };
    struct outgoing items[FRAME];
    struct probe *slow, *fast;
    size_t n = 0, buffer = interface->source.max_buffer;
    size_t size = buffer / (4 * FRAME) < 65536 ? buffer / (4 * FRAME) : 65536;

    if (buffer == 0 || interface->source.never_drops)
        skip();
    slow = listener(fixture, topic);
    fast = listener(fixture, topic);
    probe_grant(fast, CREDIT, BYTES);
    memset(items, 0, sizeof items);
    for (unsigned i = 0; i < FRAME; i++) {
        items[i].topic = slice_str(topic);
        items[i].payload = slice_of(arena_zalloc(&fixture->kv.arena, size), size);
    }
    while (n * size < 3 * buffer) {
        kv_expect(message_publish(fixture, &interface->sink, items, FRAME), ERR_OK, NULL);
        n += FRAME;
        probe_wait(fast, n);
    }
    probe_grant(slow, CREDIT, BYTES);
    KV_UNTIL(&fixture->kv, probe_gaps(slow) > 0);
    if (slow->gap.count > 0)
        KV_UNTIL(&fixture->kv, probe_count(slow) + slow->missed == n);
    assert_int_equal(probe_gaps(fast), 0);
    probe_free(slow);
    probe_free(fast);
}

int topic_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_who_listens_gets_it),
        KV_TEST(test_bytes_as_they_are),
        KV_TEST(test_carried_or_refused),
        KV_TEST(test_alike_but_for_the_topic),
        KV_TEST(test_receivers),
        KV_TEST(test_credit),
        KV_TEST(test_too_slow),
    };

    return kv_group(name, "topic", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
