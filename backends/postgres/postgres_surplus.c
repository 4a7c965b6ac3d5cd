/* Bounds of queues, exactly, without pushes that wait for each other.
 *
 * A push refuses what passes the bounds of its queue as it sees it, but those that are under way at
 * the same moment do not see each other's rows. So behind its commit, in a transaction of its own
 * that writes nothing as a rule, each looks at its queues once more: while one holds more than its
 * bounds say, the push takes back its own, the last first, and refuses that. Only then it is
 * answered.
 *
 * What is told as stored is within the bounds: the last one to look sees all that others have been
 * told before. Several who look at the same moment may take back more than one of them had to. Who
 * receives meanwhile may get what is beyond the bounds; that is stored, then, and received. */
#include "backends/postgres/postgres_queue.h"

struct surplus {
    struct postgres *postgres;
    struct publish *publish;
    const int64_t *ids;
    bool refuses; /* call->err is the refusal of all */
};

/* Rows come in the order of the items. */
static void surplus_result(struct postgres_call *call, const PGresult *result)
{
    struct surplus *surplus = call->state;
    struct publish *publish = surplus->publish;
    int rows = PQntuples(result), row = 0;

    if (publish->atomic && rows > 0) {
        call->err = postgres_queue_refused(postgres_int4(result, 0, 1));
        surplus->refuses = true;
        return;
    }
    for (size_t i = 0; i < publish->n && row < rows; i++) {
        if (surplus->ids[i] != postgres_int8(result, row, 0))
            continue;
        publish->items[i].err = postgres_queue_refused(postgres_int4(result, row++, 1));
        publish->items[i].position = message_null();
    }
}

/* Without an answer nobody knows what was taken back of what is stored. */
static void surplus_end(struct postgres_call *call)
{
    struct surplus *surplus = call->state;
    struct err err = postgres_err(call, call->op);

    if (err.code != ERR_OK && !surplus->refuses)
        err = err_lost(err);
    postgres_queue_pushed(surplus->postgres, surplus->publish, err);
}

static const struct postgres_kind surplus_kind = {
    .writes = true, .result = surplus_result, .end = surplus_end};

static int64_t bytes_of(const struct outgoing *m)
{
    return (int64_t)(m->key.len + m->payload.len +
                     postgres_headers_bytes(m->headers, m->n_headers));
}

/* Of those that were written: number, queue, bytes. */
static void add_written(struct postgres_params *params, const struct publish *publish,
                        const int64_t *ids)
{
    struct postgres_array numbers, queues, sizes;
    size_t n = 0, bytes = 0;

    for (size_t i = 0; i < publish->n; i++) {
        n += ids[i] != 0;
        bytes += ids[i] != 0 ? publish->items[i].topic.len : 0;
    }
    numbers = postgres_add_array(params, POSTGRES_INT8, n, 8 * n);
    queues = postgres_add_array(params, POSTGRES_BYTEA, n, bytes);
    sizes = postgres_add_array(params, POSTGRES_INT8, n, 8 * n);
    for (size_t i = 0; i < publish->n; i++) {
        if (ids[i] == 0)
            continue;
        postgres_element_int8(&numbers, ids[i]);
        postgres_element(&queues, publish->items[i].topic);
        postgres_element_int8(&sizes, bytes_of(&publish->items[i]));
    }
}

void postgres_surplus(struct postgres *postgres, struct publish *publish, const int64_t *ids)
{
    const struct postgres_store *store = postgres_store_of(postgres);
    struct surplus *surplus = arena_alloc(op_arena(&publish->op), sizeof *surplus);
    struct postgres_params params;

    if (postgres_choose(postgres) == NULL) {
        postgres_queue_pushed(postgres, publish, err_lost(postgres->down));
        return;
    }
    *surplus = (struct surplus){.postgres = postgres, .publish = publish, .ids = ids};
    postgres_params_init(&params, op_arena(&publish->op));
    add_written(&params, publish, ids);
    postgres_add_int4(&params, postgres->space);
    postgres_add_int8(&params, (int64_t)store->queue_messages);
    postgres_add_int8(&params, (int64_t)store->queue_bytes);
    postgres_add_bool(&params, publish->atomic);
    postgres_run(postgres, &publish->op, &surplus_kind, surplus, SQL_SURPLUS, &params);
}
