/* Seek in several partitions: all or an answer that says how far it came. */
#include "tests/pattern/consumer/consumer.h"

#include "patterns/consumer/feed.h"
#include "prism/patterns/schemas/messaging.pb-c.h"

enum { PARTITIONS = 2, MESSAGES = 6 };

typedef Prism__Patterns__Schemas__PartitionPositions pb_partition_positions;

static struct fake_rig *rig_of(void)
{
    struct fake_rig *rig = consumer_unbound(FAKE_STREAM);
    char key[] = "a";

    rig->world.messages.partitions = PARTITIONS;
    fake_rig_bind(rig);
    for (int i = 0; i < MESSAGES; i++, key[0]++)
        put(rig, key, key);
    return rig;
}

struct places {
    pb_partition_positions all;
    pb_partition_position place[4], *list[4];
};

static void name_places(struct places *places, const int32_t *partitions, const int64_t *offsets,
                        size_t n)
{
    prism__patterns__schemas__partition_positions__init(&places->all);
    for (size_t i = 0; i < n; i++) {
        places->list[i] = &places->place[i];
        prism__patterns__schemas__partition_position__init(places->list[i]);
        places->place[i].partition = partitions[i];
        places->place[i].place_case = PRISM__PATTERNS__SCHEMAS__PARTITION_POSITION__PLACE_OFFSET;
        places->place[i].offset = offsets[i];
    }
    places->all.n_partitions = n;
    places->all.partitions = places->list;
}

/* Seeks to these offsets in these partitions. The call is the caller's. */
static struct call *seek(struct fake_rig *rig, const int32_t *partitions, const int64_t *offsets,
                         size_t n)
{
    pb_seek_request request = PRISM__PATTERNS__CONSUMER__SEEK_REQUEST__INIT;
    struct places places;
    struct call *call;

    name_places(&places, partitions, offsets, n);
    request.topic = pb_text("t");
    request.consumer_group = pb_text("g");
    request.target_case = CONSUMER_PB(SEEK_REQUEST__TARGET_POSITIONS);
    request.positions = &places.all;
    call = fake_call(rig, "Seek", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    return call;
}

/* A member that begins there. */
static struct call *begin(struct fake_rig *rig, const char *group, const int64_t *offsets)
{
    static const int32_t partitions[] = {0, 1};
    pb_subscribe_request subscribe = subscription();
    struct places places;

    name_places(&places, partitions, offsets, PARTITIONS);
    subscribe.consumer_group = pb_text(group);
    subscribe.start_case = CONSUMER_PB(SUBSCRIBE_REQUEST__START_POSITIONS);
    subscribe.positions = &places.all;
    return join(rig, &subscribe);
}

static void test_several_partitions_are_moved(void **state)
{
    struct fake_rig *rig = rig_of();
    struct call *reader = member(rig);
    size_t before = deliveries(reader);
    struct call *call = seek(rig, (const int32_t[]){0, 1}, (const int64_t[]){0, 0}, PARTITIONS);

    (void)state;
    assert_int_equal(before, MESSAGES);
    assert_true(((const pb_seek_response *)call->reply)->success);
    assert_int_equal(deliveries(reader), (1 + PARTITIONS) * MESSAGES); /* the fake moves a topic */
    fake_call_free(call);
    leave(rig, reader);
    consumer_free(rig);
}

static void test_the_answer_says_how_far_it_came(void **state)
{
    struct fake_rig *rig = rig_of();
    struct call *call = seek(rig, (const int32_t[]){0, 1}, (const int64_t[]){0, 99}, PARTITIONS);
    const pb_seek_response *response = (const void *)call->reply;

    (void)state;
    assert_false(response->success);
    assert_int_equal(response->code, ERR_OUT_OF_RANGE);
    assert_string_equal(response->error,
                        "1 of 2 partitions were moved; then 1: there is no such offset");
    fake_call_free(call);
    consumer_free(rig);
}

static void test_faults_are_found_before_the_first_is_moved(void **state)
{
    static const struct {
        int32_t partitions[2];
        int64_t offsets[2];
        size_t n;
    } cases[] = {{{0, 0}, {0, 0}, 0}, {{0, 0}, {0, 1}, 2}, {{0, 1}, {0, -1}, 2}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fake_rig *rig = rig_of();
        struct call *reader = member(rig);
        size_t before = deliveries(reader);
        struct call *call = seek(rig, cases[i].partitions, cases[i].offsets, cases[i].n);

        assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
        assert_int_equal(deliveries(reader), before);
        fake_call_free(call);
        leave(rig, reader);
        consumer_free(rig);
    }
}

/* ---- a subscription that begins in several partitions ---- */

static void test_a_subscription_begins_in_several_partitions(void **state)
{
    struct fake_rig *rig = rig_of();
    struct call *call = begin(rig, "g", (const int64_t[]){0, 2});

    (void)state;
    assert_int_equal(deliveries(call), MESSAGES - 2); /* the fake moves a topic */
    leave(rig, call);
    consumer_free(rig);
}

static void expect_end(struct fake_rig *rig, struct call *call, int code)
{
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, code);
    assert_int_equal(deliveries(call), 0);
    fake_call_free(call);
    consumer_free(rig);
}

static void test_one_that_cannot_begin_there_ends(void **state)
{
    struct fake_rig *rig = rig_of();
    struct call *call = begin(rig, "g", (const int64_t[]){0, 99});

    (void)state;
    assert_non_null(strstr(call->status.text, "partition 1"));
    assert_non_null(strstr(call->status.text, "those named before it were moved"));
    expect_end(rig, call, ERR_OUT_OF_RANGE);
}

static void test_without_a_group_it_is_refused(void **state)
{
    struct fake_rig *rig = rig_of();

    (void)state;
    expect_end(rig, begin(rig, "", (const int64_t[]){0, 0}), ERR_UNIMPLEMENTED);
}

static void test_a_group_that_is_read_goes_on_where_it_stands(void **state)
{
    struct fake_rig *rig = rig_of();
    struct call *reader = member(rig), *late = begin(rig, "g", (const int64_t[]){0, 0});

    (void)state;
    assert_int_equal(deliveries(reader), MESSAGES);
    leave(rig, reader);
    expect_end(rig, late, ERR_FAILED_PRECONDITION);
}

/* One that is not moved yet: the world holds its first seek. */
static struct call *held_at_its_beginning(struct fake_rig *rig)
{
    pb_consume_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;
    pb_subscribe_request subscribe = subscription();
    struct call *call = fake_call(rig, "Consume", NULL);
    struct places places;

    name_places(&places, (const int32_t[]){0, 1}, (const int64_t[]){0, 0}, PARTITIONS);
    subscribe.start_case = CONSUMER_PB(SUBSCRIBE_REQUEST__START_POSITIONS);
    subscribe.positions = &places.all;
    request.action_case = CONSUMER_PB(CONSUME_REQUEST__ACTION_SUBSCRIBE);
    request.subscribe = &subscribe;
    rig->world.mode = FAKE_PARKED;
    fake_call_push(call, &request.base);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, 1);
    return call;
}

static void test_the_client_leaves_before_it_has_begun(void **state)
{
    struct fake_rig *rig = rig_of();
    struct call *call = held_at_its_beginning(rig);

    (void)state;
    fake_call_cancel(call);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.messages.subscriptions, 0);
    fake_rig_run(rig);
    expect_end(rig, call, ERR_CANCELLED);
}

/* `moved`: seeks that are over when the server begins to drain. */
static void drain_at_the_beginning(size_t moved)
{
    struct fake_rig *rig = rig_of();
    struct call *call = held_at_its_beginning(rig);

    for (size_t i = 0; i < moved; i++) {
        fake_release(&rig->world, 1);
        fake_rig_drain(rig);
    }
    fake_call_drain(call);
    fake_rig_run(rig);
    assert_int_equal(rig->world.messages.opens, 0);
    assert_string_equal(call->status.text, "the server is draining");
    expect_end(rig, call, ERR_UNAVAILABLE);
}

static void test_a_server_that_drains_opens_no_source(void **state)
{
    (void)state;
    for (size_t moved = 0; moved < PARTITIONS; moved++)
        drain_at_the_beginning(moved);
}

/* ---- which partitions it gets ---- */

static void move(struct fake_rig *rig, enum move_kind kind, const int32_t *partitions, size_t n)
{
    struct feed *feed = consumer_in(rig)->feeds;
    const struct subscription_move move = {
        .kind = kind, .reason = MOVED_BY_GROUP, .partitions = partitions, .n_partitions = n};

    subscription_moved(&feed->subscription, &move);
    fake_rig_run(rig);
}

static void expect_partitions(const struct call *call, const int32_t *partitions, size_t n)
{
    const pb_consume_response *frame = frame_at(call, call->sent_count - 1);

    assert_true(frame->partitions_changed);
    assert_int_equal(frame->n_partitions_assigned, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(frame->partitions_assigned[i], partitions[i]);
}

static void test_members_are_told_their_partitions(void **state)
{
    struct fake_rig *rig = rig_of();
    struct call *call = member(rig), *late;

    (void)state;
    assert_false(frame_at(call, 0)->partitions_changed);
    move(rig, MOVE_GAINED, (const int32_t[]){7, 3}, 2);
    expect_partitions(call, (const int32_t[]){3, 7}, 2);
    move(rig, MOVE_GAINED, (const int32_t[]){5}, 1);
    expect_partitions(call, (const int32_t[]){3, 5, 7}, 3);
    late = member(rig);
    expect_partitions(late, (const int32_t[]){3, 5, 7}, 3);
    move(rig, MOVE_LEAVING, (const int32_t[]){3, 5}, 2);
    expect_partitions(call, (const int32_t[]){7}, 1);
    expect_partitions(late, (const int32_t[]){7}, 1);
    move(rig, MOVE_LOST, (const int32_t[]){7}, 1);
    expect_partitions(call, NULL, 0);
    leave(rig, call);
    leave(rig, late);
    consumer_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_several_partitions_are_moved),
        cmocka_unit_test(test_the_answer_says_how_far_it_came),
        cmocka_unit_test(test_faults_are_found_before_the_first_is_moved),
        cmocka_unit_test(test_a_subscription_begins_in_several_partitions),
        cmocka_unit_test(test_one_that_cannot_begin_there_ends),
        cmocka_unit_test(test_without_a_group_it_is_refused),
        cmocka_unit_test(test_a_group_that_is_read_goes_on_where_it_stands),
        cmocka_unit_test(test_the_client_leaves_before_it_has_begun),
        cmocka_unit_test(test_a_server_that_drains_opens_no_source),
        cmocka_unit_test(test_members_are_told_their_partitions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
