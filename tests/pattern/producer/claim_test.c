/* Claim checks: large payloads go to the object store. */
#include "tests/pattern/producer/slots.h"

#include "patterns/messaging/claim.h"
#include "patterns/producer/producer_priv.h"

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

/* ---- compressed ---- */

enum { GZIPPED = 300000 };

static uint8_t gzipped[GZIPPED];

static struct fake_rig *gzip_rig(void)
{
    struct fake_rig *rig = rig_with(OBJECT);

    fake_rig_set_text(rig, "claim_compression", "gzip");
    fake_rig_bind(rig);
    return rig;
}

static uint64_t stat_unsettled(const struct fake_rig *rig)
{
    return counter_read(&CONTAINER_OF(rig->pattern, struct producer, base)->stats.unsettled_bytes);
}

static struct call *publish_bytes(struct fake_rig *rig, size_t n, uint64_t deadline_ms)
{
    pb_publish_request request = message_to("orders", "");

    request.payload = (ProtobufCBinaryData){.len = n, .data = gzipped};
    return fake_call_with(rig, "Publish", &request.base, deadline_ms, false);
}

/* The claim of the last message, and its object. */
static const struct fake_entry *last_object(struct fake_rig *rig, struct claim *claim)
{
    const struct outgoing *kept = fake_message(&rig->world, "orders", published(rig) - 1);

    assert_true(kept->headers[0].name.len + kept->headers[0].value.len <= CLAIM_HEADER_BYTES);
    assert_true(claim_read(kept->headers[0].value, claim));
    return fake_find(&rig->world, claim->key);
}

static void test_the_setting_is_checked(void **state)
{
    static const char *const names[] = {"none", "gzip", "zstd", ""};
    struct fake_rig *rig = rig_with(OBJECT);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct pattern_proposal proposal = {.behavior = rig->behavior};
        struct backend_faults faults = {.count = 0};

        fake_rig_set_text(rig, "claim_compression", names[i]);
        pattern_producer.check(&proposal, &faults);
        assert_int_equal(faults.count, i >= 2);
    }
    producer_free(rig);
}

static void test_a_payload_is_compressed(void **state)
{
    struct fake_rig *rig = gzip_rig();
    const struct fake_entry *object;
    struct claim claim;
    struct call *call;

    (void)state;
    memset(gzipped, 'z', GZIPPED);
    call = publish_bytes(rig, GZIPPED, 0);
    assert_true(run(rig, call)->claim_checked);
    object = last_object(rig, &claim);
    assert_int_equal(claim.size, GZIPPED);
    assert_int_equal(claim.stored, object->value.len);
    assert_true(object->value.len < GZIPPED / 100);
    assert_true(claim_matches(&claim, slice_of(gzipped, GZIPPED)));
    assert_true(object->value.data[0] == 0x1f && object->value.data[1] == 0x8b);
    assert_int_equal(stat_unsettled(rig), 0);
    fake_call_free(call);
    producer_free(rig);
}

static void test_what_gzip_makes_no_smaller_is_stored_as_it_is(void **state)
{
    struct fake_rig *rig = gzip_rig();
    const struct fake_entry *object;
    struct claim claim;
    struct call *call;

    (void)state;
    srandom(3);
    for (size_t i = 0; i < GZIPPED; i++)
        gzipped[i] = (uint8_t)random();
    call = publish_bytes(rig, GZIPPED, 0);
    assert_true(run(rig, call)->claim_checked);
    object = last_object(rig, &claim);
    assert_int_equal(claim.stored, 0);
    assert_true(slice_equal(object->value, slice_of(gzipped, GZIPPED)));
    fake_call_free(call);
    producer_free(rig);
}

/* Both forms, from before one is made. */
static void test_what_compresses_counts_as_unsettled(void **state)
{
    struct fake_rig *rig = gzip_rig();
    struct call *call;

    (void)state;
    memset(gzipped, 'z', GZIPPED);
    call = publish_bytes(rig, GZIPPED, 0);
    assert_in_range(stat_unsettled(rig), GZIPPED + claim_gzip_room(GZIPPED),
                    GZIPPED + claim_gzip_room(GZIPPED) + 100);
    assert_true(run(rig, call)->claim_checked);
    fake_call_free(call);
    producer_free(rig);
}

/* Nothing is written, and the next one finds the way free. */
static void expect_ended(bool waits, bool cancelled)
{
    struct fake_rig *rig = gzip_rig();
    struct call *first = waits ? publish_bytes(rig, GZIPPED, 0) : NULL;
    struct call *call = publish_bytes(rig, GZIPPED, 50), *next;

    worker_drain(&rig->worker, 2);
    if (cancelled)
        fake_call_cancel(call);
    else
        fake_rig_advance(rig, 60);
    if (cancelled && waits) { /* not behind the other one */
        worker_drain(&rig->worker, 3);
        assert_true(call->ends == 1 && first->ends == 0);
    }
    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    assert_int_equal(fake_keys(&rig->world), waits);
    assert_int_equal(published(rig), waits);
    if (!cancelled) {
        assert_int_equal(answer_of(call)->outcome, PB(OUTCOME__NOT_STORED));
        assert_int_equal(answer_of(call)->code, ERR_DEADLINE_EXCEEDED);
    }
    next = publish_bytes(rig, GZIPPED, 0);
    assert_true(run(rig, next)->claim_checked);
    fake_call_free(next);
    fake_call_free(call);
    if (waits)
        fake_call_free(first);
    producer_free(rig);
}

static void test_it_ends_between_slices(void **state)
{
    (void)state;
    memset(gzipped, 'z', GZIPPED);
    for (int way = 0; way < 4; way++)
        expect_ended((way & 1) != 0, (way & 2) != 0);
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

#define REFERENCE(begin, end)                                                                      \
    begin " sha256=0000000000000000000000000000000000000000000000000000000000000000" end

static void test_references_that_are_none(void **state)
{
    static const char *const texts[] = {
        "",
        "v2 size=1 sha256=00",
        "v1 size= sha256=00",
        "v1 size=99999999999999999999 sha256=00",
        "v1 size=1 sha256=zz",
        REFERENCE("v2 size=9", " key=k"),
        REFERENCE("v2 size=9", " gzip=0 key=k"),
        REFERENCE("v2 size=9", " gzip=9 key=k"),
        REFERENCE("v2 size=9", " zstd=8 key=k"),
        REFERENCE("v2 size=9", " gzip=8 key="),
        REFERENCE("v1 size=9", " gzip=8 key=k"),
        ("v1 size=1 sha256="
         "0000000000000000000000000000000000000000000000000000000000000000 key="),
    };
    struct claim claim;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_false(claim_read(slice_str(texts[i]), &claim));
    assert_true(claim_read(slice_str(REFERENCE("v2 size=9", " gzip=8 key=k")), &claim));
    assert_true(claim.size == 9 && claim.stored == 8 && claim.key.len == 1);
    assert_true(claim_read(slice_str(REFERENCE("v1 size=9", " key=k")), &claim));
    assert_true(claim.size == 9 && claim.stored == 0);
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
        cmocka_unit_test(test_the_setting_is_checked),
        cmocka_unit_test(test_a_payload_is_compressed),
        cmocka_unit_test(test_what_gzip_makes_no_smaller_is_stored_as_it_is),
        cmocka_unit_test(test_what_compresses_counts_as_unsettled),
        cmocka_unit_test(test_it_ends_between_slices),
        cmocka_unit_test(test_references_that_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
