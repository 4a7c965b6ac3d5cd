/* Baseline: the least that a gRPC server in front of postgres can do. It answers
 * /prism.patterns.keyvalue.KeyValuePattern/Retrieve out of libpq's pipeline and does nothing else:
 * no check, no deadline, no namespace, no error but its own end.
 *
 * Calls come as the bare echo's do (bare_server.h), statements go as those of prism-baseline-libpq:
 * one for each call, prepared, in binary, on its table, one Sync for all that a turn has brought.
 * One thread does both. gRPC's queue cannot wait for a socket of ours, so it waits there only while
 * no statement is under way, and otherwise for postgres: an answer is never far, and what came
 * meanwhile goes out together. It neither spins nor wakes another thread.
 *
 * usage: prism-baseline-bare-libpq PORT CONNINFO CONNECTIONS. The table is the one that
 * `prism-baseline-libpq .. fill` makes. */
#include "perf/baseline/bare_server.h"
#include "perf/baseline/baseline.h"
#include "perf/baseline/sampled.h"
#include "perf/load/wire.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <libpq-fe.h>
#include <poll.h>

enum { LINKS_MAX = 16, WAIT_MS = 5000, FOUND = 1, VALUE = 2, KEY = 1 };

struct link {
    PGconn *pg;
    struct bare_call *first, **last; /* in the order of their statements */
    unsigned in_flight;
    bool fresh; /* statements without a Sync yet */
};

struct proxy {
    struct bare bare; /* first */
    struct link links[LINKS_MAX];
    unsigned n_links, in_flight;
};

static void give_up(const char *why)
{
    fprintf(stderr, "prism-baseline-bare-libpq: %s\n", why);
    abort();
}

/* ---- a call becomes a statement ---- */

static struct link *least_busy(struct proxy *proxy)
{
    struct link *best = proxy->links;

    for (unsigned i = 1; i < proxy->n_links; i++) {
        if (proxy->links[i].in_flight < best->in_flight)
            best = &proxy->links[i];
    }
    return best;
}

static struct wire_field key_of(grpc_slice request)
{
    struct wire_reader reader;
    struct wire_field field;

    wire_read(&reader, GRPC_SLICE_START_PTR(request), GRPC_SLICE_LENGTH(request));
    while (wire_next(&reader, &field)) {
        if (field.number == KEY && field.data != NULL)
            return field;
    }
    give_up("a request without a key");
    return field;
}

static void serve(struct bare *bare, struct bare_call *call)
{
    struct proxy *proxy = (struct proxy *)bare;
    struct link *link = least_busy(proxy);
    grpc_byte_buffer_reader reader;

    if (call->message == NULL || grpc_byte_buffer_reader_init(&reader, call->message) != 1)
        give_up("a request that cannot be read");
    grpc_slice request = grpc_byte_buffer_reader_readall(&reader);
    struct wire_field key = key_of(request);
    const char *values[] = {(const char *)key.data};
    const int lengths[] = {(int)key.bytes}, binary[] = {1};

    if (PQsendQueryPrepared(link->pg, "look", 1, values, lengths, binary, 1) != 1)
        give_up(PQerrorMessage(link->pg));
    grpc_slice_unref(request);
    grpc_byte_buffer_reader_destroy(&reader);
    call->next = NULL;
    *link->last = call;
    link->last = &call->next;
    link->in_flight++;
    link->fresh = true;
    proxy->in_flight++;
}

/* ---- a result becomes a reply ---- */

static void reply(struct bare_call *call, const PGresult *result)
{
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
        give_up("a result is not what it must be");
    size_t bytes = (size_t)PQgetlength(result, 0, 0);
    grpc_slice slice = grpc_slice_malloc(2 + WIRE_TAG_MAX + WIRE_VARINT_MAX + bytes);
    uint8_t *start = GRPC_SLICE_START_PTR(slice), *end;

    end = wire_put_uint(start, FOUND, 1);
    end = wire_put_bytes(end, VALUE, PQgetvalue(result, 0, 0), bytes);
    grpc_slice message = grpc_slice_sub(slice, 0, (size_t)(end - start));
    grpc_byte_buffer_destroy(call->message);
    call->message = grpc_raw_byte_buffer_create(&message, 1);
    grpc_slice_unref(message);
    grpc_slice_unref(slice);
    bare_answer(call);
}

/* A statement's result is followed by NULL, a Sync's by nothing. */
static void take_results(struct proxy *proxy, struct link *link)
{
    unsigned nulls = 0;

    if (PQconsumeInput(link->pg) != 1)
        give_up(PQerrorMessage(link->pg));
    while (!PQisBusy(link->pg) && nulls < 2) {
        PGresult *result = PQgetResult(link->pg);

        nulls = result == NULL ? nulls + 1 : 0;
        if (result != NULL && PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
            struct bare_call *call = link->first;

            if (call == NULL)
                give_up("a result that nobody has asked for");
            link->first = call->next;
            if (link->first == NULL)
                link->last = &link->first;
            link->in_flight--;
            proxy->in_flight--;
            reply(call, result);
        }
        PQclear(result);
    }
}

/* ---- turns ---- */

static void exchange(struct proxy *proxy)
{
    struct pollfd polled[LINKS_MAX];

    for (unsigned i = 0; i < proxy->n_links; i++) {
        struct link *link = &proxy->links[i];
        int left;

        if (link->fresh && PQpipelineSync(link->pg) != 1)
            give_up(PQerrorMessage(link->pg));
        link->fresh = false;
        if ((left = PQflush(link->pg)) < 0)
            give_up(PQerrorMessage(link->pg));
        polled[i] = (struct pollfd){.fd = PQsocket(link->pg),
                                    .events = left > 0 ? POLLIN | POLLOUT : POLLIN};
    }
    if (proxy->in_flight == 0)
        return;
    if (poll(polled, proxy->n_links, WAIT_MS) == 0)
        give_up("no result for 5 s");
    for (unsigned i = 0; i < proxy->n_links; i++) {
        if ((polled[i].revents & ~POLLOUT) != 0)
            take_results(proxy, &proxy->links[i]);
    }
}

static void loop(struct bare *bare)
{
    struct proxy *proxy = (struct proxy *)bare;
    gpr_timespec now = gpr_inf_past(GPR_CLOCK_MONOTONIC);
    gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    enum bare_event event;

    do {
        event = bare_step(bare, proxy->in_flight > 0 ? now : never);
        while (event == BARE_SERVED)
            event = bare_step(bare, now);
        exchange(proxy);
    } while (event != BARE_OVER);
}

static PGconn *connect_to(const char *conninfo)
{
    PGconn *pg = PQconnectdb(conninfo);

    if (PQstatus(pg) != CONNECTION_OK)
        give_up(PQerrorMessage(pg));
    PGresult *result =
        PQprepare(pg, "look", "SELECT value FROM native WHERE key = $1::bytea", 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK || PQsetnonblocking(pg, 1) != 0 ||
        PQenterPipelineMode(pg) != 1)
        give_up(PQerrorMessage(pg));
    PQclear(result);
    return pg;
}

int main(int argc, char **argv)
{
    struct proxy proxy = {.bare = {.method = "/prism.patterns.keyvalue.KeyValuePattern/Retrieve",
                                   .loop = loop,
                                   .serve = serve}};
    int status;

    proxy.n_links = argc == 4 ? sampled_number(argv[3]) : 0;
    if (proxy.n_links == 0 || proxy.n_links > LINKS_MAX) {
        fprintf(stderr, "usage: %s PORT CONNINFO CONNECTIONS (1 to 16)\n", argv[0]);
        return 2;
    }
    for (unsigned i = 0; i < proxy.n_links; i++) {
        proxy.links[i].pg = connect_to(argv[2]);
        proxy.links[i].last = &proxy.links[i].first;
    }
    status = bare_run(&proxy.bare, baseline_port(argc, argv));
    for (unsigned i = 0; i < proxy.n_links; i++)
        PQfinish(proxy.links[i].pg);
    return status;
}
