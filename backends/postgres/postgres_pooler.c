/* Poolers: what stands between Prism and the server, and hands its connections out.
 *
 * One of sessions does no harm. One of transactions (pgbouncer's `transaction` and `statement`) has
 * another connection of the server serve us for each transaction: statements that were prepared,
 * settings of the session and LISTEN are lost, or found by somebody else. Without these Prism does
 * not work, so such a connection is refused, with the reason.
 *
 * A pooler tells its clients a number of its own in place of that of the server's process, so that
 * one is there is known at once. Of which kind it is shows in who answers: with one of sessions it
 * is always the same process, and none that serves another connection of ours; with one of
 * transactions it may be any. That is proof, and holds for a while for all connections through a
 * pooler: each of them alone might look well for long. Then it is looked at anew. */
#include "backends/postgres/postgres_conn.h"
#include "src/base/clock.h"

enum { PROVEN_MS = 60000 };

static bool is_proven(const struct postgres_conn *conn)
{
    uint64_t at_ns = atomic_load(&postgres_store_of(conn->postgres)->pooler_ns);

    return at_ns > 0 && postgres_now(conn->postgres) < at_ns + PROVEN_MS * NS_PER_MS;
}

/* Is another connection that stands served by the same process? */
static bool has_twin(const struct postgres_conn *conn, int server)
{
    const struct postgres *postgres = conn->postgres;

    for (unsigned i = 0; i < postgres->n_conns; i++) {
        const struct postgres_conn *other = &postgres->conns[i];

        if (other != conn && other->phase >= POSTGRES_GREETING && other->pg != NULL &&
            other->hello.server == server)
            return true;
    }
    return false;
}

static void tell(const struct postgres_conn *conn)
{
    struct postgres_store *store = postgres_store_of(conn->postgres);
    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("host", store->config.shown_host),
        LOG_S("why", "a pooler stands before postgres: it has to be one of sessions")};

    if (!atomic_exchange(&store->pooler_told, true))
        log_limited(&store->troubles, LOG_WARN, "postgres_pooler", fields, ARRAY_LEN(fields));
}

/* Of this instance. Those of others are refused when they are looked at next. */
static void drop_others(const struct postgres_conn *conn, struct err why)
{
    struct postgres *postgres = conn->postgres;

    for (unsigned i = 0; i < postgres->n_conns; i++) {
        struct postgres_conn *other = &postgres->conns[i];

        if (other != conn && other->phase == POSTGRES_READY)
            postgres_drop(other, why);
    }
}

struct err postgres_pooler_look(struct postgres_conn *conn, int server)
{
    const struct err refused =
        err_make(ERR_FAILED_PRECONDITION,
                 "a pooler of transactions stands before postgres: prepared statements and "
                 "settings of the session are lost in it; connect to the server itself, or to a "
                 "pooler of sessions");
    struct postgres_store *store = postgres_store_of(conn->postgres);
    bool moved = conn->hello.server != 0 && conn->hello.server != server;
    bool proof = moved || has_twin(conn, server);

    conn->hello.server = server;
    if (server == PQbackendPID(conn->pg))
        return ERR_NONE;
    tell(conn);
    if (!proof)
        return is_proven(conn) ? refused : ERR_NONE;
    atomic_store(&store->pooler_ns, postgres_now(conn->postgres));
    drop_others(conn, refused);
    return refused;
}
