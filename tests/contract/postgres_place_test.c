/* Where a take begins on Postgres: what waits before the last row that was taken comes all the
 * same.
 */
#include "tests/contract/postgres_queues.h"

#include <string.h>

static int open_polling(void **state)
{
    return postgres_queues_open(state, (redis_settings){"queue_poll_ms", "20", NULL});
}

/* No test is patient enough for a look at the queue that nobody has asked for. */
static int open_told(void **state)
{
    return postgres_queues_open(state, (redis_settings){"queue_poll_ms", "60000", NULL});
}

enum { HOUR_MS = 3600000 };

/* A push that has taken an hour to commit; others have come and were taken meanwhile. */
static void what_was_passed_is_found(void **state)
{
    struct message_fixture *fixture = *state;
    struct probe *probe =
        probe_queue(fixture, fixture->second, probe_want(message_topic(fixture), NULL));

    probe_grant(probe, 100, 1 << 20);
    for (size_t i = 0; i < 5; i++) {
        postgres_queues_push(fixture, probe->subscription.want.topic, 0);
        probe_wait(probe, 2 * i + 1);
        postgres_queues_push_silently(probe, HOUR_MS, "");
        probe_wait(probe, 2 * i + 2);
    }
    probe_done(probe, 0, 10);
    probe_free(probe);
}

/* What is given back comes before what was pushed after it, though that has been reached: to
 * another subscription of this process, and to one of another process. */
static void what_is_given_back_keeps_its_place(void **state)
{
    struct message_fixture *fixture = *state;
    const char *name = message_topic(fixture);
    struct backend *instances[] = {fixture->kv.backend, fixture->second};
    struct probe *holder = probe_queue(fixture, fixture->kv.backend, probe_want(name, NULL));
    struct probe *other, *next = probe_queue(fixture, fixture->second, probe_want("next", NULL));

    probe_grant(next, 10, 1 << 20);
    for (unsigned i = 0; i < 2; i++) {
        unsigned at = (unsigned)probe_count(holder);

        for (unsigned ago = 10; ago > 0; ago--)
            postgres_queues_push_silently(holder, ago * HOUR_MS, "");
        probe_grant(holder, 1, 1 << 20);
        probe_wait(holder, at + 1);
        other = probe_queue(fixture, instances[i], probe_want(name, NULL));
        probe_grant(other, 8, 1 << 20);
        probe_wait(other, 8);
        kv_expect(probe_settle(holder, at, SETTLE_RELEASE, 0), ERR_OK, NULL);
        postgres_queues_push(fixture, slice_str("next"), 0);
        probe_wait(next, i + 1); /* what was told before has come there, too */
        probe_grant(other, 2, 1 << 20);
        probe_wait(other, 10);
        assert_memory_equal(probe_got(other, 8)->m.position.data,
                            probe_got(holder, at)->m.position.data,
                            probe_got(holder, at)->m.position.len);
        probe_done(other, 0, 10);
        probe_free(other);
    }
    probe_done(next, 0, 2);
    probe_free(next);
    probe_free(holder);
}

int main(void)
{
    const struct CMUnitTest polling[] = {KV_TEST(what_was_passed_is_found)};
    const struct CMUnitTest told[] = {KV_TEST(what_is_given_back_keeps_its_place)};

    if (postgres_fixture_address() == NULL)
        return 77;
    return cmocka_run_group_tests_name("postgres place", polling, open_polling,
                                       postgres_queues_close) +
           cmocka_run_group_tests_name("postgres place, told", told, open_told,
                                       postgres_queues_close);
}
