/* Baseline: libpq's pipeline mode as its manual recommends it: connections that do not block, a
 * prepared statement, parameters and results in binary, a fixed number of statements in flight, and
 * one Sync for all that the results of a round brought about.
 *
 * The table is what a program of its own would have: bytes by a primary key of bytes. Keys and
 * values are those of prism-bench's loads. Every result is checked.
 *
 * usage: prism-baseline-libpq CONNINFO COMMAND KEYS KEY_BYTES VALUE_BYTES DEPTH SECONDS CONNECTIONS
 * fill makes the table anew; get asks for one key in each statement, get-many for 100 of them.
 * Standard output: `begin` when measuring begins (see common/begin.h), then
 * `items N seconds S cpu C`. Exit status 1, and the reason on standard error, when any result was
 * not as it must be. */
#include "perf/baseline/sampled.h"
#include "perf/load/workload.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <poll.h>
#include <string.h>

enum { MANY_KEYS = 100, LINKS_MAX = 16, WAIT_MS = 5000, BYTEA = 17, TEXT_BYTES = 512 };

struct link {
    PGconn *pg;
    unsigned in_flight;
    bool fresh; /* statements without a Sync yet */
};

struct load {
    struct workload workload;
    struct sampled sampled;
    struct link links[LINKS_MAX];
    unsigned n_links, depth; /* depth: of each */
    unsigned keys;           /* of a statement */
    const char *fault;       /* NULL: none */
};

static bool fail(struct load *load, const char *fault)
{
    if (load->fault == NULL)
        load->fault = fault;
    return false;
}

/* ---- statements ---- */

static char *put_int(char *at, uint32_t value)
{
    uint32_t wire = htonl(value);

    memcpy(at, &wire, sizeof wire);
    return at + sizeof wire;
}

/* bytea[] in binary: dimensions, no nulls, the elements' type, their number, the first index. */
static int write_keys(struct load *load, char *out)
{
    const uint32_t key_bytes = load->workload.options.key_bytes;
    char *at = out;

    if (load->keys == 1) {
        workload_write_key(&load->workload, workload_next_key(&load->workload), (uint8_t *)at);
        return (int)key_bytes;
    }
    at = put_int(put_int(put_int(put_int(put_int(at, 1), 0), BYTEA), load->keys), 1);
    for (unsigned i = 0; i < load->keys; i++) {
        at = put_int(at, key_bytes);
        workload_write_key(&load->workload, workload_next_key(&load->workload), (uint8_t *)at);
        at += key_bytes;
    }
    return (int)(at - out);
}

static bool send_one(struct load *load, struct link *link)
{
    static char keys[MANY_KEYS * (WORKLOAD_KEY_BYTES_MAX + 4) + 20];
    const char *values[] = {keys};
    const int lengths[] = {write_keys(load, keys)}, binary[] = {1};

    if (PQsendQueryPrepared(link->pg, "look", 1, values, lengths, binary, 1) != 1)
        return fail(load, PQerrorMessage(link->pg));
    link->in_flight++;
    link->fresh = true;
    return true;
}

static bool is_right(const struct load *load, const PGresult *result)
{
    int rows = PQntuples(result), value = PQnfields(result) - 1;

    if (PQresultStatus(result) != PGRES_TUPLES_OK || rows < 1 || rows > (int)load->keys)
        return false;
    for (int row = 0; row < rows; row++) {
        if (PQgetlength(result, row, value) != (int)load->workload.options.value_bytes)
            return false;
    }
    return true;
}

/* A statement's result is followed by NULL, a Sync's by nothing. */
static bool take_results(struct load *load, struct link *link)
{
    unsigned nulls = 0;

    if (PQconsumeInput(link->pg) != 1)
        return fail(load, PQerrorMessage(link->pg));
    while (!PQisBusy(link->pg) && nulls < 2) {
        PGresult *result = PQgetResult(link->pg);
        bool syncs = result != NULL && PQresultStatus(result) == PGRES_PIPELINE_SYNC;

        nulls = result == NULL ? nulls + 1 : 0;
        if (result == NULL || syncs) {
            PQclear(result);
            continue;
        }
        if (!is_right(load, result))
            fail(load, "a result is not what it must be");
        PQclear(result);
        link->in_flight--;
        sampled_count(&load->sampled, load->keys);
    }
    return load->fault == NULL;
}

/* Ready to write as well: 1, else 0; -1: fault. */
static int send_all(struct load *load, struct link *link, bool more)
{
    while (more && link->in_flight < load->depth) {
        if (!send_one(load, link))
            return -1;
    }
    if (link->fresh && PQpipelineSync(link->pg) != 1)
        return -1;
    link->fresh = false;
    return PQflush(link->pg);
}

static bool step(struct load *load, bool more)
{
    struct pollfd polled[LINKS_MAX];

    for (unsigned i = 0; i < load->n_links; i++) {
        int left = send_all(load, &load->links[i], more);

        if (left < 0)
            return fail(load, "a statement cannot be sent");
        polled[i] = (struct pollfd){.fd = PQsocket(load->links[i].pg),
                                    .events = left > 0 ? POLLIN | POLLOUT : POLLIN};
    }
    if (poll(polled, load->n_links, WAIT_MS) == 0)
        return fail(load, "no result for 5 s");
    for (unsigned i = 0; i < load->n_links; i++) {
        if ((polled[i].revents & ~POLLOUT) != 0 && !take_results(load, &load->links[i]))
            return false;
    }
    return true;
}

static bool is_idle(const struct load *load)
{
    for (unsigned i = 0; i < load->n_links; i++) {
        if (load->links[i].in_flight > 0)
            return false;
    }
    return true;
}

static bool run(struct load *load, double seconds)
{
    sampled_begin(&load->sampled, seconds);
    while (sampled_goes_on(&load->sampled)) {
        if (!step(load, true))
            return false;
    }
    sampled_report(&load->sampled);
    load->sampled.measuring = false;
    while (!is_idle(load)) {
        if (!step(load, false))
            return false;
    }
    return true;
}

/* ---- set-up ---- */

static bool execute(struct load *load, PGconn *pg, const char *sql)
{
    PGresult *result = PQexec(pg, sql);
    bool fine = PQresultStatus(result) == PGRES_COMMAND_OK;

    PQclear(result);
    return fine || fail(load, PQerrorMessage(pg));
}

static bool fill(struct load *load, PGconn *pg)
{
    const struct workload_options *o = &load->workload.options;
    char sql[TEXT_BYTES];

    snprintf(sql, sizeof sql,
             "INSERT INTO native SELECT convert_to('%s' || lpad(i::text, %u, '0'), 'UTF8'),"
             " convert_to(repeat('v', %u), 'UTF8') FROM generate_series(0, %u - 1) AS i",
             WORKLOAD_PREFIX, (unsigned)(o->key_bytes - (sizeof WORKLOAD_PREFIX - 1)),
             o->value_bytes, o->keys);
    return execute(load, pg, "DROP TABLE IF EXISTS native") &&
           execute(load, pg, "CREATE TABLE native (key bytea PRIMARY KEY, value bytea NOT NULL)") &&
           execute(load, pg, sql) && execute(load, pg, "VACUUM ANALYZE native");
}

static bool prepare(struct load *load, PGconn *pg)
{
    const char *sql = load->keys == 1
                          ? "SELECT value FROM native WHERE key = $1::bytea"
                          : "SELECT key, value FROM native WHERE key = ANY($1::bytea[])";
    PGresult *result = PQprepare(pg, "look", sql, 0, NULL);
    bool fine = PQresultStatus(result) == PGRES_COMMAND_OK;

    PQclear(result);
    return (fine && PQsetnonblocking(pg, 1) == 0 && PQenterPipelineMode(pg) == 1) ||
           fail(load, PQerrorMessage(pg));
}

static bool open_links(struct load *load, const char *conninfo, bool prepared)
{
    for (unsigned i = 0; i < load->n_links; i++) {
        PGconn *pg = load->links[i].pg = PQconnectdb(conninfo);

        if (PQstatus(pg) != CONNECTION_OK)
            return fail(load, PQerrorMessage(pg));
        if (prepared && !prepare(load, pg))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct load load = {.keys = 1};
    struct workload_options options = workload_defaults();
    const char *bad = argc == 9 ? NULL : "8 arguments are expected";
    bool fills, fine;

    if (bad == NULL) {
        options.keys = sampled_number(argv[3]);
        options.key_bytes = sampled_number(argv[4]);
        options.value_bytes = sampled_number(argv[5]);
        load.n_links = sampled_number(argv[8]);
        bad = workload_check(&options);
    }
    if (bad == NULL && (load.n_links == 0 || load.n_links > LINKS_MAX))
        bad = "connections must be 1 to 16";
    if (bad != NULL) {
        fprintf(stderr, "%s: %s\n", argv[0], bad);
        return 2;
    }
    load.depth = (sampled_number(argv[6]) + load.n_links - 1) / load.n_links;
    load.keys = strcmp(argv[2], "get-many") == 0 ? MANY_KEYS : 1;
    fills = strcmp(argv[2], "fill") == 0;
    workload_init(&load.workload, &options, 1);
    fine = open_links(&load, argv[1], !fills) &&
           (fills ? fill(&load, load.links[0].pg) : run(&load, strtod(argv[7], NULL)));
    if (!fine)
        fprintf(stderr, "%s: %s\n", argv[0], load.fault);
    for (unsigned i = 0; i < load.n_links; i++)
        PQfinish(load.links[i].pg);
    workload_clear(&load.workload);
    return fine ? 0 : 1;
}
