/* Seek in several partitions: all or an answer that says how far it came. */
#include "tests/pattern/consumer/consumer.h"

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

/* Seeks to these offsets in these partitions. The call is the caller's. */
static struct call *seek(struct fake_rig *rig, const int32_t *partitions, const int64_t *offsets,
                         size_t n)
{
    pb_seek_request request = PRISM__PATTERNS__CONSUMER__SEEK_REQUEST__INIT;
    pb_partition_positions places = PRISM__PATTERNS__SCHEMAS__PARTITION_POSITIONS__INIT;
    pb_partition_position place[4], *list[4];
    struct call *call;

    for (size_t i = 0; i < n; i++) {
        list[i] = &place[i];
        prism__patterns__schemas__partition_position__init(list[i]);
        place[i].partition = partitions[i];
        place[i].place_case = PRISM__PATTERNS__SCHEMAS__PARTITION_POSITION__PLACE_OFFSET;
        place[i].offset = offsets[i];
    }
    places.n_partitions = n;
    places.partitions = list;
    request.topic = pb_text("t");
    request.consumer_group = pb_text("g");
    request.target_case = CONSUMER_PB(SEEK_REQUEST__TARGET_POSITIONS);
    request.positions = &places;
    call = fake_call(rig, "Seek", &request.base);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    return call;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_several_partitions_are_moved),
        cmocka_unit_test(test_the_answer_says_how_far_it_came),
        cmocka_unit_test(test_faults_are_found_before_the_first_is_moved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
