/* Where a take begins on Postgres: what waits before the last row that was taken comes all the
 * same, and what the dead had taken in its place. */
#include "src/base/clock.h"
#include "tests/contract/postgres_queues.h"

#include <stdio.h>
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

enum { HOUR_MS = 3600000, HANGS_MS = 1000 };

enum { LEASE_MS = 2000 };

/* Its rows, as a take leaves them. */
static void dies_with(struct message_fixture *fixture, const char *name, unsigned n)
{
    char sql[512];

    (void)fixture;
    snprintf(sql, sizeof sql,
             "UPDATE prism.messages SET delivery = nextval('prism.deliveries'),"
             " attempts = attempts + 1, ordered = true,"
             " available_at = floor(extract(epoch FROM now()) * 1000)::int8 + %d"
             " WHERE id IN (SELECT id FROM prism.messages WHERE queue = '%s' AND delivery = 0"
             " ORDER BY id LIMIT %u)",
             LEASE_MS, name, n);
    postgres_fixture_sql(sql);
}

static int open_leased(void **state)
{
    struct message_fixture *messages;

    postgres_queues_open(state, (redis_settings){"queue_lease_ms", "2000", NULL});
    messages = *state;
    messages->dies_with = dies_with;
    messages->silent_ms = LEASE_MS;
    return 0;
}

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

/* A look that hangs for HANGS_MS, and is then ended without an answer. */
static void a_look_fails(struct message_fixture *fixture)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'prism'"
             " AND wait_event_type = 'Lock'"
             " AND clock_timestamp() - query_start > interval '%u ms'",
             HANGS_MS);
    while (strcmp(postgres_fixture_sql(sql), "t") != 0)
        kv_pass(&fixture->kv, 20);
}

/* What only a whole look finds comes soon after one that failed: how long that took puts the next
 * one off no further. The first that fails need not be a whole one; then the second is. */
static void a_look_that_failed_is_made_again_soon(void **state)
{
    struct message_fixture *fixture = *state;
    struct probe *probe =
        probe_queue(fixture, fixture->second, probe_want(message_topic(fixture), NULL));
    PGconn *pg = postgres_fixture_connect();
    uint64_t free_ns, took_ms;

    probe_grant(probe, 100, 1 << 20);
    postgres_queues_push(fixture, probe->subscription.want.topic, 0);
    probe_wait(probe, 1);
    PQclear(PQexec(pg, "BEGIN"));
    PQclear(PQexec(pg, "LOCK TABLE prism.messages IN ACCESS EXCLUSIVE MODE"));
    a_look_fails(fixture);
    a_look_fails(fixture);
    PQclear(PQexec(pg, "ROLLBACK"));
    PQfinish(pg);
    free_ns = clock_now_ns();
    postgres_queues_push_silently(probe, HOUR_MS, "");
    probe_wait(probe, 2);
    took_ms = (clock_now_ns() - free_ns) / NS_PER_MS;
    assert_in_range(took_ms, 0, 4 * HANGS_MS); /* of nine */
    probe_done(probe, 0, 2);
    probe_free(probe);
}

int main(void)
{
    const struct CMUnitTest polling[] = {KV_TEST(what_was_passed_is_found),
                                         KV_TEST(a_look_that_failed_is_made_again_soon)};
    const struct CMUnitTest told[] = {KV_TEST(what_is_given_back_keeps_its_place)};

    if (postgres_fixture_address() == NULL)
        return 77;
    return cmocka_run_group_tests_name("postgres place", polling, open_polling,
                                       postgres_queues_close) +
           cmocka_run_group_tests_name("postgres place, told", told, open_told,
                                       postgres_queues_close) +
           oldest_contract("postgres", open_leased, postgres_queues_close);
}
