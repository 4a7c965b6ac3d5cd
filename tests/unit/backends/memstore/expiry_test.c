/* Expiry on virtual time: when keys become invisible, when their memory comes back, and what that
 * costs. */
#include "tests/unit/backends/memstore/memstore_rig.h"

enum { MANY = 20000 };

static uint64_t ttl_of(struct rig *rig, const char *key)
{
    uint64_t ttl_ms = 12345;

    assert_true(memstore_ttl(rig->store, slice_str(key), &ttl_ms));
    return ttl_ms;
}

static void test_to_the_millisecond(void **state)
{
    struct rig rig;
    const uint64_t lives_ms[] = {1, 2, 63, 64, 65, 1000, 60001, 86400000, 31536000000};

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(lives_ms); i++) {
        rig_put_ok(&rig, "key", "v", lives_ms[i]);
        assert_int_equal(ttl_of(&rig, "key"), lives_ms[i]);
        rig_pass_ms(&rig, lives_ms[i] - 1);
        assert_true(rig_exists(&rig, "key"));
        assert_int_equal(ttl_of(&rig, "key"), 1);
        rig_pass_ms(&rig, 1);
        assert_false(rig_exists(&rig, "key"));
        assert_null(rig_get(&rig, "key"));
        rig_sweep(&rig);
    }
    rig_close(&rig);
}

/* Asked for between two milliseconds: up to one more, none less. */
static void test_never_early(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    atomic_fetch_add(&rig.now_ns, 999999);
    rig_put_ok(&rig, "key", "v", 10);
    assert_int_equal(ttl_of(&rig, "key"), 10);
    atomic_fetch_add(&rig.now_ns, 10 * NS_PER_MS - 1);
    assert_true(rig_exists(&rig, "key"));
    atomic_fetch_add(&rig.now_ns, NS_PER_MS);
    assert_false(rig_exists(&rig, "key"));
    rig_close(&rig);
}

static void test_longest_life(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    rig_put_ok(&rig, "key", "v", UINT64_MAX);
    assert_int_equal(ttl_of(&rig, "key"), ENTRY_EXPIRY_MAX_MS);
    rig_pass_ms(&rig, ENTRY_EXPIRY_MAX_MS - 1);
    rig_sweep(&rig);
    assert_true(rig_exists(&rig, "key"));
    rig_put_ok(&rig, "late", "v", 10); /* when the clock of expiry has come to its end */
    rig_pass_ms(&rig, 1);
    assert_false(rig_exists(&rig, "key"));
    assert_false(rig_exists(&rig, "late"));
    rig_close(&rig);
}

/* Expired keys are neither counted nor removed as if they existed, before and after their memory is
 * back. */
static void test_expired_is_absent(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (unsigned swept = 0; swept < 2; swept++) {
        uint64_t ttl_ms;

        rig_put_ok(&rig, "a", "v", 100);
        rig_put_ok(&rig, "b", "v", 100);
        rig_pass_ms(&rig, 200);
        if (swept)
            rig_sweep(&rig);
        assert_int_equal(rig_keys(&rig), swept ? 0 : 2);
        assert_false(memstore_ttl(rig.store, slice_str("a"), &ttl_ms));
        assert_false(memstore_expire(rig.store, slice_str("a"), 1000));
        assert_false(memstore_persist(rig.store, slice_str("a")));
        assert_false(rig_del(&rig, "a"));
        rig_put_ok(&rig, "b", "again", 0);
        assert_int_equal(ttl_of(&rig, "b"), 0);
        assert_true(rig_del(&rig, "b"));
        rig_sweep(&rig);
    }
    rig_close(&rig);
}

/* Every lifetime, from a tick to years: all memory comes back, soon after the time; notes, keys and
 * bytes are zero. */
static void test_memory_comes_back(void **state)
{
    struct rig rig;
    uint64_t seed = 5, latest_ms = 0;
    char key[32];

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (unsigned i = 0; i < MANY; i++) {
        uint64_t ttl_ms = 1 + (rig_random(&seed) >> (32 + i % 32));

        latest_ms = ttl_ms > latest_ms ? ttl_ms : latest_ms;
        rig_put_ok(&rig, rig_key(key, i), "value", ttl_ms);
    }
    assert_int_equal(memstore_totals(rig.store).mortal, MANY);
    for (uint64_t passed_ms = 0; passed_ms < latest_ms + latest_ms / 100 + 128;) {
        uint64_t leap = 1 + passed_ms / 3;

        rig_pass_ms(&rig, leap);
        passed_ms += leap;
        rig_sweep(&rig);
    }

    struct memstore_totals totals = memstore_totals(rig.store);

    assert_int_equal(totals.keys, 0);
    assert_int_equal(totals.bytes, 0);
    assert_int_equal(totals.mortal, 0);
    assert_int_equal(totals.expired, MANY);
    assert_int_equal(expiry_next_tick(rig.store), UINT64_MAX);
    assert_int_equal(rig.store->mortal_shards, 0);
    rig_close(&rig);
}

/* Keys whose hashes collide do not take each other along. */
static void test_collisions(void **state)
{
    struct rig rig;
    char key[32];

    (void)state;
    rig_open(&rig, 2, 0, 0);
    for (unsigned i = 0; i < 1000; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", i % 5 == 0 ? 0 : 1000 * (1 + i % 7));
    for (unsigned second = 1; second <= 8; second++) {
        rig_pass_ms(&rig, 1000);
        rig_pass_ms(&rig, MEMSTORE_TICK_MS);
        rig_sweep(&rig);
        for (unsigned i = 0; i < 1000; i++) {
            bool stays = i % 5 == 0 || 1 + i % 7 > second;

            assert_int_equal(rig_exists(&rig, rig_key(key, i)), stays);
        }
    }
    assert_int_equal(rig_keys(&rig), 200);
    rig_close(&rig);
}

/* Random lives, changed, ended and renewed at random, against a model, with little sweeping. */
static void test_random(void **state)
{
    struct rig rig;
    enum { KEYS = 300 };
    uint64_t until_ms[KEYS] = {0}, now_ms = 0, seed = 6; /* 0 = absent, UINT64_MAX = stays */
    char key[32];

    (void)state;
    rig_open(&rig, 16, 0, 0);
    for (unsigned i = 0; i < 60000; i++) {
        unsigned k = (unsigned)(rig_random(&seed) % KEYS), from = 0;
        uint64_t ttl_ms = 1 + (rig_random(&seed) >> (44 + rig_random(&seed) % 18));
        bool there = until_ms[k] > now_ms;

        rig_key(key, k);
        assert_int_equal(rig_exists(&rig, key), there);
        switch (rig_random(&seed) % 8) {
        case 0:
            assert_int_equal(rig_del(&rig, key), there);
            until_ms[k] = 0;
            break;
        case 1:
        case 2:
            rig_put_ok(&rig, key, i % 3 == 0 ? "v" : "a value of another length, to move it",
                       ttl_ms);
            until_ms[k] = now_ms + ttl_ms;
            break;
        case 3:
            rig_put_ok(&rig, key, "v", 0);
            until_ms[k] = UINT64_MAX;
            break;
        case 4:
        case 5:
            assert_int_equal(memstore_expire(rig.store, slice_str(key), ttl_ms), there);
            until_ms[k] = there ? now_ms + ttl_ms : 0;
            break;
        case 6:
            assert_int_equal(memstore_persist(rig.store, slice_str(key)),
                             there && until_ms[k] != UINT64_MAX);
            until_ms[k] = there ? UINT64_MAX : 0;
            break;
        default:
            rig_pass_ms(&rig, ttl_ms % 3000);
            now_ms += ttl_ms % 3000;
            if (i % 4 == 0)
                expiry_sweep(rig.store, &from, 50);
        }
    }
    for (unsigned k = 0; k < KEYS; k++)
        rig_del(&rig, rig_key(key, k));
    assert_int_equal(memstore_totals(rig.store).bytes, 0);
    assert_int_equal(memstore_totals(rig.store).mortal, 0);
    rig_close(&rig);
}

static uint32_t notes(const struct rig *rig)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < MEMSTORE_SHARDS; i++)
        n += rig->store->shards[i].wheel == NULL ? 0 : rig->store->shards[i].wheel->notes;
    return n;
}

/* What leaves notes behind - removal, shorter lives, renewal - does not pile them up. */
static void test_notes_stay_few(void **state)
{
    struct rig rig;
    char key[32];

    (void)state;
    rig_open(&rig, 0, 0, 0); /* all in one shard */
    for (unsigned i = 0; i < 50000; i++) {
        rig_put_ok(&rig, "session", "v", 86400000 + i % 1000);
        assert_true(rig_del(&rig, "session"));
    }
    assert_true(notes(&rig) < 200);
    for (unsigned i = 0; i < 50000; i++) {
        rig_put_ok(&rig, "seesaw", "v", 86400000);
        rig_put_ok(&rig, "seesaw", "v", 3600000);
    }
    assert_true(notes(&rig) < 300);
    for (unsigned i = 0; i < 50000; i++) {
        rig_put_ok(&rig, "sliding", "v", 86400000);
        rig_pass_ms(&rig, 10);
    }
    assert_true(notes(&rig) < 400);
    for (unsigned i = 0; i < 50000; i++) {
        rig_put_ok(&rig, rig_key(key, i % 100), "v", 86400000 + i);
        if (i % 3 == 0)
            assert_true(memstore_persist(rig.store, slice_str(key)));
    }
    rig_sweep(&rig);
    assert_true(notes(&rig) < 500);
    assert_true(rig_exists(&rig, "seesaw"));
    rig_close(&rig);
}

/* A sweep with nothing to do does nothing: no work is left over that would keep a timer busy. */
static void test_sweep_comes_to_rest(void **state)
{
    struct rig rig;
    char key[32];
    unsigned from = 0;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (unsigned i = 0; i < MANY; i++) {
        rig_put_ok(&rig, rig_key(key, i), "v", 86400000);
        rig_put_ok(&rig, key, "v", 3600000 + i);
        if (i % 2 == 0)
            rig_del(&rig, key);
    }
    rig_sweep(&rig);
    assert_int_equal(expiry_sweep(rig.store, &from, 1000), 0);
    assert_true(expiry_next_tick(rig.store) > memstore_now_ns(rig.store) / (64 * NS_PER_MS));
    rig_close(&rig);
}

/* No step budget is passed, whatever is due. */
static void test_work_is_bounded(void **state)
{
    struct rig rig;
    char key[32];
    unsigned from = 0, rounds = 0, n;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (unsigned i = 0; i < MANY; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", 30000);
    rig_pass_ms(&rig, 60000);
    do {
        uint64_t before = rig_keys(&rig);

        n = expiry_sweep(rig.store, &from, 100);
        assert_true(n <= 100);
        assert_true(before - rig_keys(&rig) <= 110); /* a step may free two of one tag */
        rounds++;
    } while (n == 100);
    assert_int_equal(rig_keys(&rig), 0);
    assert_in_range(rounds, MANY / 100, 3 * MANY / 100);
    rig_close(&rig);
}

/* Without any sweep, writers alone keep up: each reclaims more than it adds. */
static void test_writers_pay(void **state)
{
    struct rig rig;
    char key[32];

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (unsigned i = 0; i < 200000; i++) {
        rig_put_ok(&rig, rig_key(key, i), "v", 1000);
        if (i % 10 == 0)
            rig_pass_ms(&rig, 1);
    }
    assert_true(rig_keys(&rig) < 20000); /* 10,000 of them live */
    rig_close(&rig);
}

/* What has expired does not count against the limits, even when nobody has swept. */
static void test_expired_keys_make_room(void **state)
{
    struct rig rig;
    char key[32];

    (void)state;
    rig_open(&rig, 64, 1000, 0);
    for (unsigned i = 0; i < 1000; i++)
        rig_put_ok(&rig, rig_key(key, i), "v", 1000);
    assert_int_equal(rig_put(&rig, "new", "v", 0).code, ERR_RESOURCE_EXHAUSTED);
    rig_pass_ms(&rig, 1000 + MEMSTORE_TICK_MS);
    for (unsigned i = 0; i < 1000; i++)
        rig_put_ok(&rig, rig_key(key, 5000 + i), "v", 0);
    assert_int_equal(rig_put(&rig, "new", "v", 0).code, ERR_RESOURCE_EXHAUSTED);
    assert_int_equal(memstore_totals(rig.store).expired, 1000);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_the_millisecond),
        cmocka_unit_test(test_never_early),
        cmocka_unit_test(test_longest_life),
        cmocka_unit_test(test_expired_is_absent),
        cmocka_unit_test(test_memory_comes_back),
        cmocka_unit_test(test_collisions),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_notes_stay_few),
        cmocka_unit_test(test_sweep_comes_to_rest),
        cmocka_unit_test(test_work_is_bounded),
        cmocka_unit_test(test_writers_pay),
        cmocka_unit_test(test_expired_keys_make_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
