/* Claim checks: large payloads go to the object store. */
#include "tests/pattern/producer/slots.h"

#include "patterns/messaging/claim.h"

static const char large[] = "a payload that does not fit";

static void test_a_large_payload_goes_to_the_object_store(void **state)
{
    struct fake_rig *rig = bound_with(OBJECT);
    struct call *call = start(rig, NULL, large);
    const struct outgoing *kept;
    const struct fake_entry *object;
    struct claim claim;

    (void)state;
    assert_true(run(rig, call)->claim_checked);
    kept = fake_message(&rig->world, "orders", 0);
    assert_int_equal(kept->payload.len, 0);
    assert_true(slice_equal(kept->headers[0].name, slice_str(CLAIM_HEADER)));
    assert_true(kept->headers[0].name.len + kept->headers[0].value.len <= CLAIM_HEADER_BYTES);
    assert_true(claim_read(kept->headers[0].value, &claim));
    object = fake_find(&rig->world, claim.key);
    assert_non_null(object);
    assert_true(slice_equal(object->value, slice_str(large)));
    assert_true(claim_matches(&claim, object->value));
    assert_false(claim_matches(&claim, slice_str("another payload of 27 bytes")));
    fake_call_free(call);
    call = start(rig, NULL, "small");
    assert_false(run(rig, call)->claim_checked);
    expect_payload(rig, "orders", 1, "small");
    fake_call_free(call);
    producer_free(rig);
}

static void expect_claimed(struct fake_rig *rig, size_t size, bool claimed)
{
    static char bytes[4096];
    pb_publish_request request = message_to("orders", "");
    struct call *call;

    request.payload = (ProtobufCBinaryData){.len = size, .data = (uint8_t *)bytes};
    call = fake_call(rig, "Publish", &request.base);
    assert_int_equal(run(rig, call)->claim_checked, claimed);
    fake_call_free(call);
}

/* What the connected server takes may be less than what is configured, and another server's more.
 */
static void test_what_the_server_does_not_take_goes_to_the_object_store(void **state)
{
    struct fake_rig *rig = rig_with(OBJECT);

    (void)state;
    fake_rig_set(rig, "claim_check_threshold", 1 << 20);
    fake_rig_bind(rig);
    expect_claimed(rig, 3073, false);
    for (unsigned takes = 4096; takes <= 5120; takes += 1024) {
        atomic_store(&rig->world.store.message_bytes, takes);
        atomic_fetch_add(&rig->world.store.facts_version, 1);
        expect_claimed(rig, 3072, false);
        expect_claimed(rig, 3073, takes == 4096);
    }
    producer_free(rig);
}

static void expect_refusal(struct fake_rig *rig, pb_publish_request *request, const char *subject)
{
    struct call *call = fake_call(rig, "Publish", &request->base);

    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(call->status.subject, subject);
    assert_int_equal(rig->world.ops, 0);
    fake_call_free(call);
}

/* What the reference takes is counted before the object is written. */
static void test_a_message_that_has_no_room_for_the_reference_is_refused(void **state)
{
    static schema_header headers[MESSAGE_HEADERS], *pointers[MESSAGE_HEADERS];
    static char long_value[MESSAGE_HEADER_BYTES];
    struct fake_rig *rig = bound_with(OBJECT);
    pb_publish_request request = message_to("orders", large);

    (void)state;
    for (size_t i = 0; i < MESSAGE_HEADERS; i++) {
        prism__patterns__schemas__header__init(&headers[i]);
        headers[i].name = pb_text("h");
        headers[i]._value_case = PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE;
        headers[i].value = bytes_of("");
        pointers[i] = &headers[i];
    }
    request.headers = pointers;
    request.n_headers = MESSAGE_HEADERS;
    expect_refusal(rig, &request, "headers");
    memset(long_value, 'v', MESSAGE_HEADER_BYTES - 1);
    headers[0].value = bytes_of(long_value);
    headers[0].value.len = MESSAGE_HEADER_BYTES - 1;
    request.n_headers = 1;
    expect_refusal(rig, &request, "headers");
    headers[0].value.len = MESSAGE_HEADER_BYTES - 1 - CLAIM_HEADER_BYTES;

    struct call *call = fake_call(rig, "Publish", &request.base);

    assert_true(run(rig, call)->claim_checked);
    fake_call_free(call);
    producer_free(rig);
}

static void test_an_object_without_a_message_is_removed(void **state)
{
    struct fake_rig *rig = bound_with(OBJECT);
    struct call *call;

    (void)state;
    rig->world.fail_at = 2; /* 1: the object, 2: publish */
    rig->world.fail_with = err_make(ERR_NOT_FOUND, "no such topic");
    call = start(rig, NULL, large);
    assert_false(run(rig, call)->success);
    assert_int_equal(fake_keys(&rig->world), 0);
    fake_call_free(call);
    rig->world.fail_at = 0;
    rig->world.messages.faults.lose_at = rig->world.ops + 2;
    call = start(rig, NULL, large);
    assert_int_equal(run(rig, call)->outcome, PB(OUTCOME__OUTCOME_UNKNOWN));
    assert_int_equal(fake_keys(&rig->world), 1); /* the message may be there */
    fake_call_free(call);
    producer_free(rig);
}

static void test_no_message_without_its_object(void **state)
{
    struct fake_rig *rig = bound_with(OBJECT);
    struct call *call;

    (void)state;
    rig->world.fail_at = 1;
    call = start(rig, NULL, large);
    assert_int_equal(run(rig, call)->outcome, PB(OUTCOME__NOT_STORED));
    assert_int_equal(published(rig), 0);
    fake_call_free(call);
    producer_free(rig);
}

static void expect_restriction(const struct fake_rig *rig, const char *text)
{
    const char *found = pattern_producer.restriction(rig->pattern, OBJECT_SLOT);

    if (text == NULL)
        assert_null(found);
    else
        assert_string_equal(found, text);
}

static void publish_failing(struct fake_rig *rig, uint64_t op, struct err err)
{
    struct call *call;

    rig->world.fail_at = op > 0 ? rig->world.ops + op : 0;
    rig->world.fail_last = 0;
    rig->world.fail_with = err;
    call = start(rig, NULL, large);
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    fake_call_free(call);
}

/* B3: until one is written; what a client causes is no trouble of the store. */
static void test_objects_that_cannot_be_written_degrade_the_slot(void **state)
{
    struct fake_rig *rig = bound_with(OBJECT);

    (void)state;
    expect_restriction(rig, NULL);
    publish_failing(rig, 1, err_make(ERR_DEADLINE_EXCEEDED, "a short one"));
    expect_restriction(rig, NULL);
    publish_failing(rig, 1, err_make(ERR_UNAVAILABLE, "away"));
    expect_restriction(rig, "the object store is away");
    publish_failing(rig, 1, err_make(ERR_PERMISSION_DENIED, "denied"));
    expect_restriction(rig, "the object store denies access");
    publish_failing(rig, 0, ERR_NONE);
    expect_restriction(rig, NULL);
    producer_free(rig);
}

static void test_a_duplicate_writes_no_object(void **state)
{
    struct fake_rig *rig = bound_with(STATE | OBJECT);
    struct call *first = start(rig, "id", large), *again;

    (void)state;
    assert_true(run(rig, first)->claim_checked);
    assert_int_equal(fake_keys(&rig->world), 2);
    again = start(rig, "id", large);
    assert_true(run(rig, again)->deduplicated);
    assert_int_equal(fake_keys(&rig->world), 2);
    fake_call_free(first);
    fake_call_free(again);
    producer_free(rig);
}

static void test_references_that_are_none(void **state)
{
    static const char *const texts[] = {
        "",
        "v2 size=1 sha256=00",
        "v1 size= sha256=00",
        "v1 size=99999999999999999999 sha256=00",
        "v1 size=1 sha256=zz",
        ("v1 size=1 sha256="
         "0000000000000000000000000000000000000000000000000000000000000000 key="),
    };
    struct claim claim;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_false(claim_read(slice_str(texts[i]), &claim));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_large_payload_goes_to_the_object_store),
        cmocka_unit_test(test_what_the_server_does_not_take_goes_to_the_object_store),
        cmocka_unit_test(test_a_message_that_has_no_room_for_the_reference_is_refused),
        cmocka_unit_test(test_an_object_without_a_message_is_removed),
        cmocka_unit_test(test_no_message_without_its_object),
        cmocka_unit_test(test_objects_that_cannot_be_written_degrade_the_slot),
        cmocka_unit_test(test_a_duplicate_writes_no_object),
        cmocka_unit_test(test_references_that_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
