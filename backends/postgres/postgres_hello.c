/* The first questions on a connection, one after the other, before libpq's pipeline begins.
 *
 *   FACTS     session settings; what an acknowledgement means; are the tables there?
 *   STATE     version of the schema, number of the namespace
 *   MIGRATE   makes the schema or brings it up to date, under an advisory lock; then STATE again.
 *             It takes as long as it takes: no timeout of ours runs, keepalive tells of a server
 *             that is gone, and what was begun ends on the server even if we are gone
 *   SPACE     gives the namespace a number; then STATE again
 *
 * A schema of a newer Prism is left alone: the connection is refused. FACTS and STATE also ask who
 * serves the connection, for postgres_pooler.c. */
#include "backends/postgres/postgres_burden.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Our statements look few rows up, by key. A plan that was made while a table was small must not
 * read all of it once it has grown. */
static const char session[] =
    "SET enable_seqscan = off; SET enable_hashjoin = off;"
    "SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan;"
    "SET default_transaction_isolation = 'read committed';"
    "SET idle_in_transaction_session_timeout = 0;"
    "SET statement_timeout = %" PRIu64 ";"
    "%s; SELECT to_regclass('@.spaces') IS NOT NULL, pg_backend_pid();";

/* Who waits for a lock of a table has all others wait behind it, so it waits shortly and comes
 * again later. It is longer than deadlock_timeout (1 s): by then an autovacuum gives way. */
static const char begin[] =
    "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;"
    "SELECT pg_advisory_xact_lock(hashtextextended('prism migrations of @', 0));"
    "SET LOCAL lock_timeout = 1500;";

enum { MIGRATE_PAUSE_MS = 10000 };

static const char state[] = "SELECT (SELECT max(version) FROM @.migrations),"
                            " (SELECT id FROM @.spaces WHERE name = %s), pg_backend_pid()";

static const char space[] = "INSERT INTO @.spaces (name) VALUES (%s) ON CONFLICT DO NOTHING";

static void ask(struct postgres_conn *conn, const char *sql)
{
    char *text = postgres_sql_for(sql, postgres_store_of(conn->postgres)->config.schema);

    if (PQsendQuery(conn->pg, text) != 1)
        conn->hello.err = postgres_unavailable("the connection to postgres was lost");
    free(text);
}

/* With the namespace's name, quoted, in place of %s. */
static void ask_named(struct postgres_conn *conn, const char *format)
{
    const char *name = postgres_store_of(conn->postgres)->base.namespace_name;
    char *quoted = PQescapeLiteral(conn->pg, name, strlen(name)), *text = NULL;
    char *schema_first = postgres_sql_for(format, postgres_store_of(conn->postgres)->config.schema);

    if (quoted == NULL || asprintf(&text, schema_first, quoted) < 0 ||
        PQsendQuery(conn->pg, text) != 1)
        conn->hello.err =
            err_make(ERR_FAILED_PRECONDITION, "the namespace's name cannot be told to postgres");
    free(text);
    free(schema_first);
    if (quoted != NULL)
        PQfreemem(quoted);
}

static void ask_state(struct postgres_conn *conn)
{
    if (conn->hello.step == HELLO_MIGRATE)
        postgres_dial_watch(conn);
    conn->hello.step = HELLO_STATE;
    conn->hello.version = 0;
    conn->hello.space = 0;
    ask_named(conn, state);
}

/* Of full tables one connection tries at a time, and not at once again: each attempt may hold
 * others up for lock_timeout. */
static bool is_first_to_migrate(struct postgres_conn *conn)
{
    struct postgres_store *store = postgres_store_of(conn->postgres);
    uint64_t now_ns = postgres_now(conn->postgres), next_ns = atomic_load(&store->migrate_ns);

    return now_ns >= next_ns &&
           atomic_compare_exchange_strong(&store->migrate_ns, &next_ns,
                                          now_ns + MIGRATE_PAUSE_MS * NS_PER_MS);
}

static void migrate(struct postgres_conn *conn)
{
    bool tables = conn->hello.version < POSTGRES_SCHEMA_TABLES;
    struct postgres_store *store = postgres_store_of(conn->postgres);
    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("schema", store->config.schema), LOG_I("from", conn->hello.version),
        LOG_I("to", POSTGRES_SCHEMA_VERSION)};

    char *text = NULL;
    int length;

    if (!tables && !is_first_to_migrate(conn)) {
        conn->hello.err = postgres_unavailable("the schema in postgres is brought up to date");
        return;
    }
    log_limited(&store->migrations, LOG_INFO, "postgres_migrating", fields, ARRAY_LEN(fields));
    conn->hello.step = HELLO_MIGRATE;
    conn->hello.migrated = true;
    timer_disarm(&conn->postgres->base.home->timers, &conn->timer);
    length = tables ? asprintf(&text, "%s%s%s%sCOMMIT", begin, postgres_sql_keyvalue,
                               postgres_sql_registry, postgres_sql_queue)
                    : asprintf(&text, "%s%sCOMMIT;%s%sCOMMIT", begin, postgres_sql_ordered, begin,
                               postgres_sql_held);
    if (length < 0)
        abort();
    ask(conn, text);
    free(text);
}

bool postgres_hello_begin(struct postgres_conn *conn)
{
    struct postgres_store *store = postgres_store_of(conn->postgres);
    char *text = NULL;

    memset(&conn->hello, 0, sizeof conn->hello);
    if (asprintf(&text, session, (uint64_t)(store->command_timeout_ns / NS_PER_MS),
                 store->sql[SQL_FACTS]) < 0)
        abort();
    ask(conn, text);
    free(text);
    return conn->hello.err.code != ERR_OK;
}

/* ---- answers ---- */

/* Text results: the simple protocol has no others. */
static void served_by(struct postgres_conn *conn, const PGresult *result, int column)
{
    struct err e = postgres_pooler_look(conn, (int)strtol(PQgetvalue(result, 0, column), NULL, 10));

    if (e.code != ERR_OK)
        conn->hello.err = e;
}

static void take_state(struct postgres_conn *conn, const PGresult *result)
{
    conn->hello.version = (int)strtol(PQgetvalue(result, 0, 0), NULL, 10);
    conn->hello.space = (int32_t)strtol(PQgetvalue(result, 0, 1), NULL, 10);
    served_by(conn, result, 2);
}

static void take_result(struct postgres_conn *conn, const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        struct err e = postgres_error(result, NULL, 0);

        conn->hello.err = e.code != ERR_INTERNAL
                              ? e
                              : postgres_unavailable("postgres refuses the first questions");
        if (conn->hello.step == HELLO_MIGRATE && e.code == ERR_ABORTED)
            conn->hello.err = postgres_unavailable(
                "the schema in postgres is brought up to date later: others hold its tables");
        if (conn->hello.step == HELLO_MIGRATE && e.code == ERR_PERMISSION_DENIED)
            conn->hello.err =
                err_make(ERR_FAILED_PRECONDITION,
                         "the configured role may not make Prism's schema in postgres");
        return;
    }
    if (status != PGRES_TUPLES_OK || PQntuples(result) != 1)
        return;
    if (conn->hello.step == HELLO_FACTS && PQnfields(result) == 4)
        postgres_take_facts(conn, result);
    else if (conn->hello.step == HELLO_FACTS && PQnfields(result) == 2) {
        conn->hello.version = PQgetvalue(result, 0, 0)[0] == 't' ? -1 : 0;
        served_by(conn, result, 1);
    } else if (conn->hello.step == HELLO_STATE)
        take_state(conn, result);
}

/* All results of a step are in. True: hello is over. */
static bool next_step(struct postgres_conn *conn)
{
    bool tables = conn->hello.step != HELLO_FACTS || conn->hello.version == -1;

    if (conn->hello.err.code != ERR_OK)
        return true;
    if (tables && conn->hello.step != HELLO_STATE) {
        ask_state(conn);
    } else if (conn->hello.version > POSTGRES_SCHEMA_VERSION) {
        conn->hello.err =
            err_make(ERR_FAILED_PRECONDITION, "the schema in postgres is of a newer Prism");
    } else if (conn->hello.version < POSTGRES_SCHEMA_VERSION) {
        if (conn->hello.migrated)
            conn->hello.err = err_make(ERR_FAILED_PRECONDITION,
                                       "the schema in postgres cannot be brought up to date");
        else
            migrate(conn);
    } else if (conn->hello.space == 0) {
        if (conn->hello.registered) {
            conn->hello.err = err_make(ERR_FAILED_PRECONDITION,
                                       "the namespace cannot be written down in postgres");
        } else {
            conn->hello.step = HELLO_SPACE;
            conn->hello.registered = true;
            ask_named(conn, space);
        }
    } else {
        return true;
    }
    return conn->hello.err.code != ERR_OK;
}

bool postgres_hello_read(struct postgres_conn *conn)
{
    PGresult *result;

    while (!PQisBusy(conn->pg)) {
        result = PQgetResult(conn->pg);
        if (result == NULL) {
            if (next_step(conn))
                return true;
            continue;
        }
        take_result(conn, result);
        PQclear(result);
    }
    return false;
}

/* ---- facts ---- */

static bool is(const PGresult *result, int column, const char *text)
{
    return strcmp(PQgetvalue(result, 0, column), text) == 0;
}

/* With standbys named, synchronous_commit says what of them is waited for. */
void postgres_take_facts(struct postgres_conn *conn, const PGresult *result)
{
    bool standbys = PQgetlength(result, 0, 2) > 0, memory = is(result, 0, "off");
    enum backend_ack ack = memory ? BACKEND_ACK_MEMORY : BACKEND_ACK_DISK;

    if (is(result, 1, "off"))
        ack = BACKEND_ACK_MEMORY;
    else if (standbys && !is(result, 1, "local"))
        ack = memory || is(result, 1, "remote_write") ? BACKEND_ACK_QUORUM_MEMORY
                                                      : BACKEND_ACK_QUORUM_DISK;
    postgres_report_ack(postgres_store_of(conn->postgres), ack);
    if (is(result, 3, "true"))
        postgres_drop(conn, postgres_unavailable("this postgres is a read-only standby"));
}

static void on_facts(struct postgres_call *call, const PGresult *result)
{
    if (PQntuples(result) == 1)
        postgres_take_facts(call->conn, result);
    else
        postgres_unexpected(call);
}

static const struct postgres_kind facts_kind = {.result = on_facts};

void postgres_probe(struct backend *backend, struct op *op)
{
    struct postgres_params params;

    postgres_params_init(&params, op_arena(op));
    postgres_run(postgres_of(backend), op, &facts_kind, NULL, SQL_FACTS, &params);
    postgres_burden_ask(postgres_of(backend));
}
