/* Payloads compressed and inflated in slices: exactly what was said comes back, or nothing. */
#include "patterns/messaging/claim_gzip.h"

#include "pool/worker.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LARGE = 5 * CLAIM_GZIP_SLICE + 17 };

struct probe {
    struct claim_gzip gzip;
    unsigned done;
    bool good;
};

static struct worker worker;
static struct semaphore permits;
static struct arena arena;

static void no_wake(struct worker *w)
{
    (void)w;
}

static int set_up(void **state)
{
    (void)state;
    worker_init(&worker, 0, no_wake);
    worker_set_current(&worker);
    semaphore_init(&permits, 1);
    arena_init(&arena, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(permits.held, 0);
    arena_clear(&arena);
    worker_clear(&worker);
    worker_set_current(NULL);
    return 0;
}

static void note(struct claim_gzip *gzip, bool good)
{
    struct probe *probe = CONTAINER_OF(gzip, struct probe, gzip);

    probe->done++;
    probe->good = good;
}

static void begin(struct probe *probe, bool inflates, struct slice from, uint8_t *to, size_t room)
{
    *probe = (struct probe){.gzip = {.home = &worker,
                                     .permits = &permits,
                                     .arena = &arena,
                                     .from = from,
                                     .to = to,
                                     .room = room,
                                     .done = note}};
    if (inflates)
        claim_inflate(&probe->gzip);
    else
        claim_deflate(&probe->gzip);
    assert_int_equal(probe->done, 0); /* never at once */
}

/* Memory of exactly `room`, so that a sanitizer sees a byte too many. */
static bool run(bool inflates, struct slice from, uint8_t **to, size_t room, size_t *made)
{
    struct probe probe;

    *to = malloc(room > 0 ? room : 1);
    assert_non_null(*to);
    begin(&probe, inflates, from, *to, room);
    worker_drain(&worker, 0);
    assert_int_equal(probe.done, 1);
    *made = probe.gzip.made;
    return probe.good;
}

static bool inflates_to(struct slice packed, size_t size, const uint8_t *want)
{
    size_t made;
    uint8_t *out;
    bool good = run(true, packed, &out, size, &made);

    assert_true(made <= size);
    if (good) {
        assert_int_equal(made, size);
        assert_memory_equal(out, want, size);
    }
    free(out);
    return good;
}

static uint8_t *zeros(size_t n)
{
    uint8_t *out = calloc(1, n + 1);

    assert_non_null(out);
    return out;
}

/* A fourth of it is noise. */
static uint8_t *mixed(size_t n)
{
    uint8_t *out = zeros(n);

    srandom(7);
    for (size_t i = 0; i < n; i += 4)
        out[i] = (uint8_t)random();
    return out;
}

static uint8_t *noise(size_t n)
{
    uint8_t *out = zeros(n);

    srandom(7);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)random();
    return out;
}

static struct slice packed_of(const uint8_t *from, size_t n, size_t room)
{
    size_t made;
    uint8_t *out;

    assert_true(run(false, slice_of(from, n), &out, room, &made));
    return slice_of(out, made);
}

static void expect_round_trip(uint8_t *from, size_t n)
{
    struct slice packed = packed_of(from, n, claim_gzip_room(n));

    assert_true(packed.len <= claim_gzip_room(n));
    assert_true(inflates_to(packed, n, from));
    free((void *)(uintptr_t)packed.data);
    free(from);
}

static void test_what_was_compressed_comes_back(void **state)
{
    static const size_t sizes[] = {CLAIM_GZIP_SLICE - 1, CLAIM_GZIP_SLICE, CLAIM_GZIP_SLICE + 1,
                                   2 * CLAIM_GZIP_SLICE, LARGE};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        expect_round_trip(zeros(sizes[i]), sizes[i]);
        expect_round_trip(mixed(sizes[i]), sizes[i]);
    }
    expect_round_trip(zeros(200), 200);
}

static void test_what_is_not_worth_it_is_not_made(void **state)
{
    uint8_t *from = noise(LARGE), *out;
    size_t made;

    (void)state;
    assert_false(run(false, slice_of(from, LARGE), &out, claim_gzip_room(LARGE), &made));
    free(out);
    free(from);
    assert_false(run(false, slice_str("tiny"), &out, claim_gzip_room(4), &made));
    free(out);
}

/* To the byte. */
static void test_the_room_is_exact(void **state)
{
    uint8_t *from = mixed(LARGE), *out;
    struct slice packed = packed_of(from, LARGE, LARGE);
    size_t made;

    (void)state;
    assert_true(run(false, slice_of(from, LARGE), &out, packed.len, &made));
    assert_int_equal(made, packed.len);
    free(out);
    assert_false(run(false, slice_of(from, LARGE), &out, packed.len - 1, &made));
    free(out);
    free((void *)(uintptr_t)packed.data);
    free(from);
}

static void test_another_size_is_refused(void **state)
{
    uint8_t *from = zeros(LARGE);
    struct slice packed = packed_of(from, LARGE, LARGE);

    (void)state;
    assert_true(inflates_to(packed, LARGE, from));
    assert_false(inflates_to(packed, LARGE - 1, from));
    assert_false(inflates_to(packed, LARGE + 1, from));
    assert_false(inflates_to(packed, CLAIM_GZIP_SLICE, from));
    assert_false(inflates_to(packed, 1, from));
    free((void *)(uintptr_t)packed.data);
    free(from);
}

static void test_what_is_damaged_is_refused(void **state)
{
    uint8_t *from = mixed(LARGE);
    struct slice packed = packed_of(from, LARGE, LARGE);
    uint8_t *bytes = zeros(packed.len + 1);
    const size_t cuts[] = {1, 4, 8, 9, packed.len / 2, packed.len - 1, packed.len};
    const size_t places[] = {0, 1, packed.len / 2, packed.len - 8, packed.len - 1};

    (void)state;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++)
        assert_false(inflates_to(slice_of(packed.data, packed.len - cuts[i]), LARGE, from));
    memcpy(bytes, packed.data, packed.len);
    assert_false(inflates_to(slice_of(bytes, packed.len + 1), LARGE, from)); /* one follows */
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        bytes[places[i]] ^= 0x55;
        assert_false(inflates_to(slice_of(bytes, packed.len), LARGE, from));
        bytes[places[i]] ^= 0x55;
    }
    assert_true(inflates_to(slice_of(bytes, packed.len), LARGE, from));
    free(bytes);
    free((void *)(uintptr_t)packed.data);
    free(from);
}

/* ---- turns ---- */

static void test_a_slice_takes_one_turn(void **state)
{
    uint8_t *from = mixed(LARGE), *out = zeros(LARGE);
    struct probe probe;

    (void)state;
    begin(&probe, false, slice_of(from, LARGE), out, LARGE);
    for (size_t turn = 1; turn <= 5; turn++) {
        assert_int_equal(worker_drain(&worker, 1), 1);
        assert_int_equal(probe.gzip.taken, turn * CLAIM_GZIP_SLICE);
        assert_int_equal(probe.done, 0);
    }
    assert_int_equal(worker_drain(&worker, 1), 1);
    assert_true(probe.done == 1 && probe.good);

    struct slice packed = slice_of(out, probe.gzip.made);
    uint8_t *back = zeros(LARGE);
    size_t turns = 0, before = 0;

    begin(&probe, true, packed, back, LARGE);
    while (probe.done == 0) {
        assert_int_equal(worker_drain(&worker, 1), 1);
        assert_true(probe.gzip.made - before <= CLAIM_GZIP_SLICE);
        before = probe.gzip.made;
        turns++;
    }
    assert_true(probe.good && turns >= 6);
    free(back);
    free(out);
    free(from);
}

/* Who waits has nothing of zlib's, and leaves at once; who is at work ends at its next turn. */
static void test_it_is_stopped_between_slices(void **state)
{
    uint8_t *from = mixed(LARGE), *out = zeros(3 * LARGE);
    struct probe probes[3];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        begin(&probes[i], false, slice_of(from, LARGE), out + i * LARGE, LARGE);
    worker_drain(&worker, 1);
    assert_int_equal(probes[0].gzip.taken, CLAIM_GZIP_SLICE);
    assert_null(probes[1].gzip.z);
    claim_gzip_stop(&probes[1].gzip);
    assert_true(probes[1].done == 1 && !probes[1].good);
    claim_gzip_stop(&probes[0].gzip);
    assert_int_equal(probes[0].done, 0);
    worker_drain(&worker, 1);
    assert_true(probes[0].done == 1 && !probes[0].good);
    assert_int_equal(probes[0].gzip.taken, CLAIM_GZIP_SLICE);
    worker_drain(&worker, 0);
    assert_true(probes[2].done == 1 && probes[2].good);
    assert_true(probes[0].done == 1 && probes[1].done == 1);
    free(out);
    free(from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_compressed_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_not_worth_it_is_not_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_room_is_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_size_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_damaged_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_slice_takes_one_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_is_stopped_between_slices, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
