/* What one connection proves of a pooler holds for the others of its instance: those that serve
 * calls are given up with it, those that do not yet are looked at in their turn. */
#include "backends/postgres/postgres_conn.h"
#include "src/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LOOKED_AT, SERVES, SERVES_TOO, LEAVES, GREETS, WAITS, CONNECTIONS };
enum { ONE = 5, ANOTHER = 7 }; /* processes of the server */

static const enum postgres_phase phases[CONNECTIONS] = {POSTGRES_GREETING, POSTGRES_READY,
                                                        POSTGRES_READY,    POSTGRES_LEAVING,
                                                        POSTGRES_GREETING, POSTGRES_WAITING};

struct world {
    struct worker worker;
    struct postgres_store store;
    struct postgres postgres;
    struct postgres_conn conns[CONNECTIONS];
};

static void wake(struct worker *worker)
{
    (void)worker;
}

/* libpq is asked for the number that the looked-at connection was told, and says 0 of none. */
static struct world *open_world(void)
{
    static struct world the_one; /* a worker is aligned as no allocation is */
    struct world *w = &the_one;

    *w = (struct world){.store.base = {.namespace_name = "n", .slot = "primary"},
                        .store.config.shown_host = "h"};
    worker_init(&w->worker, 0, wake);
    w->worker.now_ns = NS_PER_S;
    w->postgres.base.home = &w->worker;
    w->postgres.base.store = &w->store.base;
    w->postgres.conns = w->conns;
    w->postgres.n_conns = CONNECTIONS;
    for (int i = 0; i < CONNECTIONS; i++)
        w->conns[i] = (struct postgres_conn){.postgres = &w->postgres, .phase = phases[i]};
    return w;
}

static void close_world(struct world *w)
{
    worker_clear(&w->worker);
}

static void expect_others_dropped(const struct world *w, bool dropped)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        const struct postgres_conn *conn = &w->conns[i];

        assert_int_equal(conn->drop, dropped && phases[i] == POSTGRES_READY);
        if (conn->drop)
            assert_int_equal(conn->why.code, ERR_FAILED_PRECONDITION);
    }
}

static void test_another_process_answers_a_connection(void **state)
{
    struct world *w = open_world();

    (void)state;
    assert_int_equal(postgres_pooler_look(&w->conns[LOOKED_AT], ONE).code, ERR_OK);
    expect_others_dropped(w, false);
    assert_int_equal(postgres_pooler_look(&w->conns[LOOKED_AT], ONE).code, ERR_OK);
    expect_others_dropped(w, false);
    assert_int_equal(postgres_pooler_look(&w->conns[LOOKED_AT], ANOTHER).code,
                     ERR_FAILED_PRECONDITION);
    expect_others_dropped(w, true);
    close_world(w);
}

static void test_two_connections_have_one_process(void **state)
{
    struct world *w = open_world();

    (void)state;
    w->conns[SERVES_TOO].pg = (PGconn *)w; /* it has one, and nobody looks into it */
    w->conns[SERVES_TOO].hello.server = ONE;
    assert_int_equal(postgres_pooler_look(&w->conns[LOOKED_AT], ANOTHER).code, ERR_OK);
    expect_others_dropped(w, false);
    w->conns[LOOKED_AT].hello.server = 0;
    assert_int_equal(postgres_pooler_look(&w->conns[LOOKED_AT], ONE).code, ERR_FAILED_PRECONDITION);
    expect_others_dropped(w, true);
    close_world(w);
}

/* What is proven holds for those that come next, whatever each of them looks like. */
static void test_the_proof_is_kept_for_a_minute(void **state)
{
    struct world *w = open_world();

    (void)state;
    postgres_pooler_look(&w->conns[LOOKED_AT], ONE);
    postgres_pooler_look(&w->conns[LOOKED_AT], ANOTHER);
    assert_int_equal(postgres_pooler_look(&w->conns[GREETS], ONE + ANOTHER).code,
                     ERR_FAILED_PRECONDITION);
    w->worker.now_ns += 61 * NS_PER_S;
    assert_int_equal(postgres_pooler_look(&w->conns[GREETS], ONE + ANOTHER).code, ERR_OK);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_process_answers_a_connection),
        cmocka_unit_test(test_two_connections_have_one_process),
        cmocka_unit_test(test_the_proof_is_kept_for_a_minute),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
