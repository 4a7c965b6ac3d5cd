/* One message for many topics: who listens in a bundle gets it with the others of the bundle, and
 * everything else is as it is without: order, credit, what it is charged for, and the end. */
#include "backends/memstore/tail.h"
#include "src/base/block.h"
#include "tests/unit/backends/memstore/desk.h"

enum { LISTENERS = 100, NAME_BYTES = 16, CREDIT = 2, MOST = 64 };

/* What a test looks at: the listeners' own messages, and how they came. */
struct ear {
    struct subscription subscription; /* first */
    struct room *room;
    const void *bundle;
    char topic[NAME_BYTES], got[MOST]; /* got: the first bytes of payloads */
    size_t n, alone, closed;
};

struct room {
    struct rig rig;
    struct desk desk;
    struct ear ears[LISTENERS];
    struct incoming_batch *held[2 * LISTENERS]; /* shared ones */
    size_t shared, sharers;
    struct publish publish;
    struct outgoing items[2 * LISTENERS];
};

static struct ear *ear_of(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct ear, subscription);
}

static void hear(struct ear *ear, const struct incoming *message)
{
    assert_true(ear->n < MOST);
    ear->got[ear->n++] = (char)message->payload.data[0];
}

static void on_opened(struct subscription *subscription)
{
    (void)subscription;
}

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    struct ear *ear = ear_of(subscription);

    for (uint32_t i = 0; i < batch->n; i++) {
        assert_true(slice_equal(batch->items[i].topic, slice_str(ear->topic)));
        hear(ear, &batch->items[i]);
    }
    ear->alone += batch->n;
    incoming_drop(batch, batch->n);
}

static void on_shared(struct incoming_batch *batch)
{
    struct room *room = ear_of(batch->sharers[0])->room;

    for (uint32_t i = 0; i < batch->n; i++) {
        assert_ptr_equal(ear_of(batch->sharers[i])->bundle, ear_of(batch->sharers[0])->bundle);
        hear(ear_of(batch->sharers[i]), batch->items);
    }
    room->sharers += batch->n;
    room->held[room->shared++] = batch;
}

static void on_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    fail_msg("%s: %s", ear_of(subscription)->topic, gap->text);
}

static void ear_closed(struct subscription *subscription, struct err err)
{
    assert_int_equal(err.code, ERR_OK);
    ear_of(subscription)->closed++;
}

static const void *bundle_of(const struct subscription *subscription)
{
    return CONTAINER_OF(subscription, const struct ear, subscription)->bundle;
}

static const struct subscription_events events = {.opened = on_opened,
                                                  .batch = on_batch,
                                                  .gap = on_gap,
                                                  .closed = ear_closed,
                                                  .bundle = bundle_of,
                                                  .shared = on_shared};

static const struct message_source *source(void)
{
    return &memstore_topic.source;
}

/* bundles: ears are dealt out to so many; 0: to none. */
static struct room *enter(unsigned bundles)
{
    static const char names[LISTENERS];
    struct room *room = calloc(1, sizeof *room);

    assert_non_null(room);
    rig_open(&room->rig, 64, 0, 0);
    desk_open(&room->desk, &room->rig, 0);
    for (unsigned i = 0; i < LISTENERS; i++) {
        struct ear *ear = &room->ears[i];

        snprintf(ear->topic, sizeof ear->topic, "topic-%03u", i);
        ear->room = room;
        ear->bundle = bundles > 0 ? &names[i % bundles] : NULL;
        subscription_init(&ear->subscription, &room->desk.worker, &events);
        ear->subscription.want.topic = slice_str(ear->topic);
        source()->open(room->desk.backend, &ear->subscription);
        source()->grant(room->desk.backend, &ear->subscription, CREDIT, 1 << 20);
    }
    drain(&room->desk);
    return room;
}

static void release_shared(struct room *room)
{
    for (size_t i = 0; i < room->shared; i++)
        incoming_drop(room->held[i], room->held[i]->n);
    room->shared = 0;
}

static void leave(struct room *room)
{
    release_shared(room);
    for (unsigned i = 0; i < LISTENERS; i++) {
        if (room->ears[i].subscription.state == SUB_RUNNING)
            source()->close(room->desk.backend, &room->ears[i].subscription);
    }
    drain(&room->desk);
    for (unsigned i = 0; i < LISTENERS; i++)
        assert_int_equal(room->ears[i].closed, 1);
    assert_int_equal(atomic_load(&room->rig.store->bytes), 0); /* nothing is charged any more */
    assert_int_equal(names_count(room->rig.store->messaging), 0);
    desk_close(&room->desk);
    rig_close(&room->rig);
    free(room);
}

static void published(struct op *op)
{
    assert_int_equal(op->err.code, ERR_OK);
}

/* The same payload to the topics of all ears, `times` each; returns how many receivers were told.
 * What that has landed has not run. */
static size_t tell(struct room *room, char what, unsigned times)
{
    struct block *payload = block_copy(slice_of(&what, 1));
    struct publish *publish = &room->publish;
    size_t receivers = 0;

    *publish = (struct publish){.items = room->items};
    for (unsigned i = 0; i < times * LISTENERS; i++)
        room->items[publish->n++] =
            (struct outgoing){.topic = slice_str(room->ears[i % LISTENERS].topic),
                              .payload = payload->bytes,
                              .shared = payload};
    worker_set_current(&room->desk.worker);
    op_start(&publish->op, &room->desk.group, published);
    memstore_topic.sink.publish(room->desk.backend, publish);
    block_unref(payload); /* what is kept has references of its own */
    for (size_t i = 0; i < publish->n; i++) {
        assert_int_equal(room->items[i].err.code, ERR_OK);
        receivers += (size_t)room->items[i].receivers;
    }
    return receivers;
}

static size_t tell_all(struct room *room, char what, unsigned times)
{
    size_t receivers = tell(room, what, times);

    drain(&room->desk);
    return receivers;
}

static void expect_all(const struct room *room, const char *heard)
{
    for (unsigned i = 0; i < LISTENERS; i++)
        assert_string_equal(room->ears[i].got, heard);
}

static void test_once_for_a_bundle(void **state)
{
    struct room *room = enter(3);

    (void)state;
    assert_int_equal(tell_all(room, 'a', 1), LISTENERS);
    assert_int_equal(room->shared, 3);
    assert_int_equal(room->sharers, LISTENERS);
    expect_all(room, "a");
    for (unsigned i = 0; i < 3; i++)
        assert_true(message_is_null(room->held[i]->items->topic));
    leave(room);
}

/* More bundles than are filled at a time. */
static void test_many_bundles(void **state)
{
    struct room *room = enter(40);

    (void)state;
    assert_int_equal(tell_all(room, 'a', 1), LISTENERS);
    assert_true(room->shared >= 40);
    assert_int_equal(room->sharers, LISTENERS);
    expect_all(room, "a");
    leave(room);
}

static void test_without_a_bundle(void **state)
{
    struct room *room = enter(0);

    (void)state;
    assert_int_equal(tell_all(room, 'a', 1), LISTENERS);
    assert_int_equal(room->shared, 0);
    expect_all(room, "a");
    leave(room);
}

/* Twice in one publish, then again while there is no credit: in order, and no more than granted. */
static void test_order_and_credit(void **state)
{
    struct room *room = enter(1);

    (void)state;
    assert_int_equal(tell_all(room, 'a', 2), 2 * LISTENERS);
    expect_all(room, "aa");
    assert_int_equal(tell_all(room, 'b', 1), LISTENERS);
    expect_all(room, "aa");
    for (unsigned i = 0; i < LISTENERS; i++)
        source()->grant(room->desk.backend, &room->ears[i].subscription, CREDIT, 1 << 20);
    drain(&room->desk);
    expect_all(room, "aab");
    assert_int_equal(tell_all(room, 'c', 1), LISTENERS); /* and shared again */
    expect_all(room, "aabc");
    assert_int_equal(room->sharers, 2 * LISTENERS);
    leave(room);
}

/* A second listener of one topic: both get it, each in a batch of its own. */
static void test_two_of_a_topic(void **state)
{
    struct room *room = enter(1);
    struct ear *second = &room->ears[1];

    (void)state;
    source()->close(room->desk.backend, &second->subscription);
    drain(&room->desk);
    snprintf(second->topic, sizeof second->topic, "%s", room->ears[0].topic);
    second->closed = 0;
    subscription_init(&second->subscription, &room->desk.worker, &events);
    second->subscription.want.topic = slice_str(second->topic);
    source()->open(room->desk.backend, &second->subscription);
    source()->grant(room->desk.backend, &second->subscription, CREDIT, 1 << 20);
    drain(&room->desk);
    assert_int_equal(tell_all(room, 'a', 1), LISTENERS + 2); /* the topic is named twice */
    assert_string_equal(room->ears[0].got, "aa");
    assert_string_equal(second->got, "aa");
    assert_int_equal(room->ears[0].alone, 2);
    assert_int_equal(second->alone, 2);
    assert_int_equal(room->sharers, LISTENERS - 2);
    leave(room);
}

static const struct tail *tail_of(const struct room *room, size_t ear)
{
    const struct listener *listener = room->ears[ear].subscription.backend_data;

    return listener->tail;
}

/* A stream's topics, opened one after the other, have few locks together, and not one for all. */
static void test_neighbours_share_a_lock(void **state)
{
    struct room *room = enter(1);
    struct messaging *m = room->rig.store->messaging;
    size_t locks = 1;

    (void)state;
    for (unsigned i = 1; i < LISTENERS; i++)
        locks += tail_lock(m, tail_of(room, i)) != tail_lock(m, tail_of(room, i - 1));
    assert_int_equal(locks, (LISTENERS + TOPICS_A_LOCK - 1) / TOPICS_A_LOCK);
    leave(room);
}

/* Closed between the publish and the job that it has landed: each `step`-th. */
static void close_on_the_way(unsigned step)
{
    struct room *room = enter(1);

    assert_int_equal(tell(room, 'a', 1), LISTENERS);
    for (unsigned i = 0; i < LISTENERS; i += step)
        source()->close(room->desk.backend, &room->ears[i].subscription);
    drain(&room->desk);
    assert_int_equal(room->sharers, LISTENERS - LISTENERS / step);
    assert_int_equal(room->shared, step > 1);
    for (unsigned i = 0; i < LISTENERS; i++) {
        assert_string_equal(room->ears[i].got, i % step == 0 ? "" : "a");
        assert_int_equal(room->ears[i].closed, i % step == 0);
    }
    leave(room);
}

static void test_closed_on_the_way(void **state)
{
    (void)state;
    close_on_the_way(2);
    close_on_the_way(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once_for_a_bundle),       cmocka_unit_test(test_many_bundles),
        cmocka_unit_test(test_without_a_bundle),        cmocka_unit_test(test_order_and_credit),
        cmocka_unit_test(test_two_of_a_topic),          cmocka_unit_test(test_closed_on_the_way),
        cmocka_unit_test(test_neighbours_share_a_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
