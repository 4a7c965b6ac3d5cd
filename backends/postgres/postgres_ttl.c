/* kv_ttl, as a column: PostgreSQL has no expiry of its own. Every statement takes a row whose
 * expires_at has passed for absent, and one instance of a slot removes such rows now and then. */
#include "backends/postgres/postgres_kv.h"

enum { SWEEP_ROWS = 1000 };

static void expire_result(struct postgres_call *call, const PGresult *result)
{
    CONTAINER_OF(call->op, struct kv_expire, op)->existed = postgres_changed(result) > 0;
}

static const struct postgres_kind expire_kind = {.writes = true, .result = expire_result};

static void expire(struct backend *backend, struct kv_expire *req)
{
    struct postgres_params params;

    postgres_key_params(&params, backend, &req->op, req->key);
    postgres_add_int8(&params, postgres_ttl(req->ttl_ms));
    postgres_run(postgres_of(backend), &req->op, &expire_kind, NULL, SQL_EXPIRE, &params);
}

static void ttl_result(struct postgres_call *call, const PGresult *result)
{
    struct kv_ttl_get *req = CONTAINER_OF(call->op, struct kv_ttl_get, op);
    int64_t ms;

    req->found = PQntuples(result) > 0;
    req->has_ttl = req->found && !PQgetisnull(result, 0, 0);
    ms = req->has_ttl ? postgres_int8(result, 0, 0) : 0;
    req->ttl_ms = ms > 0 ? (uint64_t)ms : req->has_ttl;
}

static const struct postgres_kind ttl_kind = {.result = ttl_result};

static void ttl_get(struct backend *backend, struct kv_ttl_get *req)
{
    struct postgres_params params;

    postgres_key_params(&params, backend, &req->op, req->key);
    postgres_run(postgres_of(backend), &req->op, &ttl_kind, NULL, SQL_TTL, &params);
}

static void persist_result(struct postgres_call *call, const PGresult *result)
{
    CONTAINER_OF(call->op, struct kv_persist, op)->removed = postgres_changed(result) > 0;
}

static const struct postgres_kind persist_kind = {.writes = true, .result = persist_result};

static void persist(struct backend *backend, struct kv_persist *req)
{
    struct postgres_params params;

    postgres_key_params(&params, backend, &req->op, req->key);
    postgres_run(postgres_of(backend), &req->op, &persist_kind, NULL, SQL_PERSIST, &params);
}

const struct kv_ttl postgres_kv_ttl = {
    .step_ms = 1, .expire = expire, .get = ttl_get, .persist = persist};

/* ---- the sweep ---- */

static void on_sweep(struct timer *timer);

static void sweep_in(struct postgres *postgres, uint64_t ns)
{
    timer_arm(&postgres->base.home->timers, &postgres->sweep, postgres_now(postgres) + ns,
              on_sweep);
}

/* A full sweep is followed by another one at once. */
static void sweep_result(struct postgres_call *call, const PGresult *result)
{
    struct postgres *postgres = call->conn->postgres;

    if (postgres_changed(result) == SWEEP_ROWS)
        sweep_in(postgres, 0);
}

/* Goes before, so that sweep_end comes after it. */
static void session_sweep_result(struct postgres_call *call, const PGresult *result)
{
    struct postgres *postgres = call->conn->postgres;

    if (!postgres->closing && PQntuples(result) == 1 && postgres_int8(result, 0, 0) == SWEEP_ROWS)
        sweep_in(postgres, 0);
}

static void session_sweep_end(struct postgres_call *call)
{
    (void)call; /* a failure is tried again with the next one */
}

static const struct postgres_kind session_sweep_kind = {
    .writes = true, .result = session_sweep_result, .end = session_sweep_end};

static void sweep_end(struct postgres_call *call)
{
    struct postgres *postgres = call->conn->postgres;

    postgres->sweeping = false;
    if (!postgres->closing && !timer_armed(&postgres->sweep))
        sweep_in(postgres, postgres_store_of(postgres)->sweep_interval_ns);
}

static const struct postgres_kind sweep_kind = {
    .writes = true, .result = sweep_result, .end = sweep_end};

/* Without a connection, greeted() starts it again. */
static void on_sweep(struct timer *timer)
{
    struct postgres *postgres = CONTAINER_OF(timer, struct postgres, sweep);
    struct postgres_conn *conn = postgres_choose(postgres);
    struct postgres_params params;
    struct arena scratch;

    if (conn == NULL)
        return;
    arena_init(&scratch, &postgres->base.home->arenas);
    postgres_params_init(&params, &scratch);
    postgres_add_int4(&params, postgres->space);
    postgres_add_int8(&params, SWEEP_ROWS);
    postgres->sweeping = true;
    postgres_run_own(conn, &session_sweep_kind, NULL, SQL_SESSION_SWEEP, &params);
    postgres_run_own(conn, &sweep_kind, NULL, SQL_SWEEP, &params);
    postgres_run_own(conn, &sweep_kind, NULL, SQL_SWEEP_IDENTITIES, &params);
    arena_clear(&scratch);
}

void postgres_sweep_start(struct postgres *postgres)
{
    struct postgres_store *store = postgres_store_of(postgres);

    if (!postgres->sweeps && atomic_exchange(&store->swept, true))
        return;
    postgres->sweeps = true;
    if (!postgres->sweeping && !timer_armed(&postgres->sweep))
        sweep_in(postgres, store->sweep_interval_ns);
}

void postgres_sweep_stop(struct postgres *postgres)
{
    timer_disarm(&postgres->base.home->timers, &postgres->sweep);
    if (postgres->sweeps)
        atomic_store(&postgres_store_of(postgres)->swept, false);
}
