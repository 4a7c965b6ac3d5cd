/* The registry's contract on Postgres, by two instances; and what is special to this backend. */
#include "tests/contract/postgres_fixture.h"
#include "tests/contract/registry_contract.h"

#include "backends/postgres/postgres_registry.h"
#include "src/base/container.h"
#include "src/filter/glob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct backend_store *peer_store;
static struct backend *peer_instance;

static int open_fixture(void **state)
{
    struct redis_neighbours *fixture;

    postgres_fixture_setup(state);
    fixture = *state;
    peer_store = postgres_fixture_store("a", (redis_settings){NULL});
    peer_instance = kv_open(&fixture->base.kv, peer_store);
    KV_UNTIL(&fixture->base.kv, atomic_load(&peer_store->state) == BACKEND_READY);
    return 0;
}

static struct backend *peer(struct kv_fixture *kv)
{
    (void)kv;
    return peer_instance;
}

static int close_fixture(void **state)
{
    struct redis_neighbours *fixture = *state;

    kv_close(&fixture->base.kv, peer_instance);
    backend_postgres.store_close(peer_store);
    return redis_neighbours_close(state);
}

/* ---- what is special to this backend ---- */

/* M11: the plan of an equality filter, and of a tag, has the index in it. */
static void lookups_use_the_index(void **state)
{
    static const struct {
        const char *test, *index;
    } plans[] = {
        {"facts @> '{\"a\":{\"b\":1}}'", "identities_facts"},
        {"labels @> '\"x\"'", "identities_labels"},
    };
    char sql[600];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        snprintf(sql, sizeof sql,
                 "CREATE OR REPLACE FUNCTION plan() RETURNS SETOF text LANGUAGE plpgsql AS $f$"
                 " BEGIN SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off;"
                 " RETURN QUERY EXECUTE $q$EXPLAIN SELECT * FROM prism.identities"
                 " WHERE %s$q$; END $f$",
                 plans[i].test);
        postgres_fixture_sql(sql);
        snprintf(sql, sizeof sql,
                 "SELECT count(*) > 0 FROM plan() AS line WHERE line LIKE '%%%s%%'",
                 plans[i].index);
        assert_string_equal(postgres_fixture_sql(sql), "t");
    }
    postgres_fixture_sql("DROP FUNCTION plan()");
}

enum { GLOBS = 3000 };

/* A few pieces, one behind the other. */
static struct slice random_text(struct arena *arena, const char *const *pieces, size_t n)
{
    const char *text = "";

    for (long left = random() % 4; left > 0; left--)
        text = arena_printf(arena, "%s%s", text, pieces[(size_t)random() % n]);
    return slice_str(text);
}

static bool postgres_says(PGconn *pg, struct arena *arena, struct slice text, struct slice pattern)
{
    const char *values[] = {arena_strdup(arena, text),
                            arena_strdup(arena, postgres_glob(arena, pattern))};
    PGresult *result = PQexecParams(pg, "SELECT ($1::text COLLATE \"C\") ~ $2::text", 2, NULL,
                                    values, NULL, NULL, 0);
    bool holds = PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "t") == 0;

    if (PQntuples(result) != 1)
        fail_msg("%s: %s", values[1], PQresultErrorMessage(result));
    PQclear(result);
    return holds;
}

static const char *const in_patterns[] = {"*",
                                          "?",
                                          "a",
                                          "\xc3\xa9",
                                          "[a-c]",
                                          "[!a]",
                                          "[^b-c]",
                                          "[c-a]",
                                          "[!c-a]",
                                          "[]a]",
                                          "[a-]",
                                          "[!]]",
                                          "[\\]-a]",
                                          "[*?.]",
                                          "\\*",
                                          "\\\\",
                                          ".",
                                          "^",
                                          "$",
                                          "(a|b)",
                                          "\\w{2}+",
                                          "[\x01-\x7f]",
                                          "\n",
                                          "[!\n]",
                                          "[[:a:]]",
                                          "***=",
                                          "(?i)",
                                          "[\xc3\xa0-\xc3\xbf]",
                                          "[!\xc4\x80-\xf4\x8f\xbf\xbf]",
                                          "[\xed\x9f\xbf-\xee\x80\x80]"};
static const char *const in_texts[] = {
    "a",  "b", "c", "A", "\xc3\xa9", "\xee\x80\x80",     "]",    "-",    "*", ".", "^", "$", "\\",
    "\n", "w", "{", "(", ":",        "\xf0\x9f\x98\x80", "***=", "(a|b)"};

/* M11: a glob is one to postgres as well, sets that hold nothing and ranges of far characters
 * included. PRISM_SEED=n runs another sequence. */
static void globs_mean_the_same(void **state)
{
    const char *seed = getenv("PRISM_SEED");
    struct kv_fixture *kv = *state;
    PGconn *pg = postgres_fixture_connect();
    unsigned told[2] = {0, 0};

    srandom(seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : 42);
    for (unsigned i = 0; i < GLOBS; i++) {
        struct slice pattern = random_text(&kv->arena, in_patterns, ARRAY_LEN(in_patterns));
        struct slice text = random_text(&kv->arena, in_texts, ARRAY_LEN(in_texts));
        bool holds;

        if (glob_fault(pattern) != NULL)
            continue;
        holds = glob_match(pattern, text);
        told[holds]++;
        if (postgres_says(pg, &kv->arena, text, pattern) != holds)
            fail_msg("%s %s %s", arena_strdup(&kv->arena, pattern), holds ? "is" : "is not",
                     arena_strdup(&kv->arena, text));
    }
    assert_true(told[false] > GLOBS / 10 && told[true] > GLOBS / 50);
    PQfinish(pg);
}

static char *append(char *to, const char *piece, unsigned times)
{
    while (times-- > 0)
        to = stpcpy(to, piece);
    return to;
}

/* Is the filter postgres's alone, and what does it ask it? */
static bool said_by_postgres(struct kv_fixture *kv, const struct filter *filter, const char **test)
{
    struct postgres_params params;
    struct postgres_where where;

    postgres_params_init(&params, &kv->arena);
    where = postgres_where_of(filter, &params, false);
    *test = where.test;
    return where.exact;
}

/* M11: postgres's automaton would make a new state for each character of the text. Such a glob is
 * evaluated here, and a NOT of it. */
static void globs_that_would_hold_postgres_are_ours(void **state)
{
    static const struct {
        const char *before, *piece;
        unsigned times;
        bool asked;
    } cases[] = {{"*a", "?", 250, false},  {"*a", "?", 17, false},   {"*a", "?", 16, true},
                 {"", "?", 250, true},     {"*", "[!a]", 17, false}, {"*", "[]-a]", 16, true},
                 {"*", "\\\\?", 40, true}, {"?*", "?*", 17, false},  {"a", "*", 100, true}};
    static const char *const forms[] = {"{\"$identity.$glob\":\"%s\"}",
                                        "{\"$not\":{\"$identity.$glob\":\"%s\"}}"};
    struct kv_fixture *kv = *state;
    const char *test;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char glob[300];

        append(stpcpy(glob, cases[i].before), cases[i].piece, cases[i].times);
        for (size_t form = 0; form < ARRAY_LEN(forms); form++) {
            const struct filter *filter =
                registry_filter(kv, arena_printf(&kv->arena, forms[form], glob));

            assert_int_equal(said_by_postgres(kv, filter, &test), cases[i].asked);
            assert_int_equal(strcmp(test, "true") != 0, cases[i].asked);
        }
    }
}

/* The rows of those who have expired go, without anybody asking for them. */
static void expired_rows_are_removed(void **state)
{
    struct kv_fixture *kv = *state;

    registry_put_ok(kv, "stays", NULL, 0);
    for (unsigned i = 0; i < 20; i++)
        registry_put_ok(kv, kv_key(kv, "dies", i), NULL, 1);
    KV_UNTIL(kv, strcmp(postgres_fixture_sql("SELECT count(*) FROM prism.identities"), "1") == 0);
}

/* Of a schema that was dropped, too: who was registered before is not taken for who is now. */
static void generations_grow_over_a_loss(void **state)
{
    struct kv_fixture *kv = *state;
    uint64_t before = registry_put_ok(kv, "a", NULL, 0);
    struct registry_put_item item = registry_item(kv, "a", NULL, 0);
    struct registry_put put = {.items = &item, .n = 1};

    postgres_fixture_sql("DROP SCHEMA prism CASCADE");
    KV_UNTIL(kv, (put.op = (struct op){0}, kv_do(kv, registry_start_put, &put.op).code == ERR_OK));
    assert_true(item.generation > before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(lookups_use_the_index),
        KV_TEST(globs_mean_the_same),
        KV_TEST(globs_that_would_hold_postgres_are_ours),
        KV_TEST(expired_rows_are_removed),
        KV_TEST(generations_grow_over_a_loss),
    };

    if (postgres_fixture_address() == NULL)
        return 77;
    return registry_contract("postgres", open_fixture, close_fixture, peer) +
           cmocka_run_group_tests_name("postgres registry", tests, postgres_fixture_setup,
                                       redis_neighbours_close);
}
