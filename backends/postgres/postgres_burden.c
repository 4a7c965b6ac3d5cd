/* What makes the tables slow: rows that are dead and still there, and the oldest transaction for
 * whose sake they are. Asked behind each probe, by one statement that reads the server's statistics
 * and its list of sessions and no table; it has a transaction of its own, so nothing else fails if
 * it does. Sessions of other roles are seen by a member of pg_read_all_stats alone: what the role
 * may not look into is counted, so that no age says more than was seen. */
#include "backends/postgres/postgres_burden.h"

static const char *const tables[POSTGRES_TABLES] = {"keyvalue", "sessions", "session_values",
                                                    "messages", "identities"};

enum column { HIDDEN = POSTGRES_TABLES, OLDEST_MS, PID, IDENTITIES, COLUMNS };

/* ---- asking ---- */

/* Told when it begins and when it is over. */
static void judge(struct postgres *postgres, uint64_t oldest_ms, int32_t pid)
{
    struct postgres_store *store = postgres_store_of(postgres);
    bool old = store->old_transaction_ms > 0 && oldest_ms >= store->old_transaction_ms;
    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("host", store->config.shown_host), LOG_U("age_ms", oldest_ms), LOG_I("pid", pid)};

    if (atomic_exchange(&store->burden.old, old) == old)
        return;
    log_limited(&store->troubles, old ? LOG_WARN : LOG_INFO,
                old ? "postgres_old_transaction" : "postgres_old_transaction_over", fields,
                old ? ARRAY_LEN(fields) : 3);
}

static void burden_result(struct postgres_call *call, const PGresult *result)
{
    struct postgres_burden *burden = &postgres_store_of(call->conn->postgres)->burden;

    if (PQntuples(result) != 1 || PQnfields(result) != COLUMNS) {
        postgres_unexpected(call);
        return;
    }
    for (int table = 0; table < POSTGRES_TABLES; table++)
        atomic_store(&burden->dead[table], (uint64_t)postgres_int8(result, 0, table));
    atomic_store(&burden->hidden, (uint64_t)postgres_int8(result, 0, HIDDEN));
    atomic_store(&burden->oldest_ms, (uint64_t)postgres_int8(result, 0, OLDEST_MS));
    atomic_store(&burden->identities, (uint64_t)postgres_int8(result, 0, IDENTITIES));
    judge(call->conn->postgres, atomic_load(&burden->oldest_ms), postgres_int4(result, 0, PID));
}

/* Not known is told as such: old figures would be taken for new ones. */
static void burden_end(struct postgres_call *call)
{
    atomic_store(&postgres_store_of(call->conn->postgres)->burden.known, call->err.code == ERR_OK);
}

static const struct postgres_kind burden_kind = {
    .writes = true, .result = burden_result, .end = burden_end};

void postgres_burden_ask(struct postgres *postgres)
{
    struct postgres_conn *conn = postgres_choose(postgres);
    const struct postgres_params none = {.n = 0};

    if (conn != NULL)
        postgres_run_own(conn, &burden_kind, NULL, SQL_BURDEN, (struct postgres_params *)&none);
    else
        atomic_store(&postgres_store_of(postgres)->burden.known, false);
}

/* ---- metrics ---- */

static struct postgres_store *known(struct backend_store *base)
{
    struct postgres_store *store = CONTAINER_OF(base, struct postgres_store, base);

    return atomic_load(&store->burden.known) ? store : NULL;
}

uint64_t postgres_burden_identities(struct backend_store *base)
{
    const struct postgres_store *store = known(base);

    return store != NULL ? atomic_load(&store->burden.identities) : UINT64_MAX;
}

static void render_dead(struct backend_store *const *stores, size_t n, struct metrics_page *page)
{
    static const char name[] = "prism_postgres_dead_rows";

    metrics_family(
        page, name, "gauge",
        "Rows of the table that are dead and not yet removed, as the server's statistics "
        "have it. Absent while not known.");
    for (size_t i = 0; i < n; i++) {
        const struct postgres_store *store = known(stores[i]);

        for (int table = 0; store != NULL && table < POSTGRES_TABLES; table++) {
            const char *labels[] = {"namespace", stores[i]->namespace_name,
                                    "slot",      stores[i]->slot,
                                    "table",     tables[table],
                                    NULL};

            metrics_sample_u64(page, name, labels, atomic_load(&store->burden.dead[table]));
        }
    }
}

void postgres_burden_render(struct backend_store *const *stores, size_t n,
                            struct metrics_page *page)
{
    static const char *const names[] = {"prism_postgres_oldest_transaction_seconds",
                                        "prism_postgres_hidden_sessions"};

    render_dead(stores, n, page);
    for (size_t family = 0; family < ARRAY_LEN(names); family++) {
        metrics_family(page, names[family], "gauge",
                       family == 0
                           ? "Age of the oldest transaction of the database that keeps "
                             "dead rows from being removed; 0: none. Absent while not known."
                           : "Sessions of the database that the role may not look into: "
                             "their transactions are not in the age.");
        for (size_t i = 0; i < n; i++) {
            const struct postgres_store *store = known(stores[i]);
            const char *labels[] = {"namespace", stores[i]->namespace_name, "slot", stores[i]->slot,
                                    NULL};

            if (store != NULL)
                metrics_sample(page, names[family], labels,
                               family == 0 ? (double)atomic_load(&store->burden.oldest_ms) / 1000
                                           : (double)atomic_load(&store->burden.hidden));
        }
    }
}
