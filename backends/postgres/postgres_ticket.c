/* Tickets: the number of the delivery, which comes anew from a sequence each time that a message is
 * handed out or recalled. So the row of a late one is not found, and one of another queue's is not
 * this queue's.
 *
 * Who holds what a ticket settles is told by a notification, and looks whether its rows are there
 * still (postgres_renew.c); without the notification it finds out with the next renewal. */
#include "backends/postgres/postgres_queue.h"

#include <stdlib.h>

enum { VERSION = 1, BYTES = 9 };

static size_t make(struct backend *backend, const struct subscription *subscription, uint64_t token,
                   uint8_t *to)
{
    struct postgres_listener *listener = subscription->backend_data;

    (void)backend;
    if (listener == NULL || !postgres_tokens_has(listener, token))
        return 0;
    listener->tickets = true;
    to[0] = VERSION;
    for (unsigned i = 1; i < BYTES; i++)
        to[i] = (uint8_t)(token >> (8 * (BYTES - 1 - i)));
    return BYTES;
}

/* 0: it is none. */
static int64_t delivery_of(struct slice bytes)
{
    uint64_t delivery = 0;

    if (bytes.len != BYTES || bytes.data[0] != VERSION)
        return 0;
    for (unsigned i = 1; i < BYTES; i++)
        delivery = delivery << 8 | bytes.data[i];
    return delivery <= INT64_MAX ? (int64_t)delivery : 0;
}

/* An item of the request. */
struct named {
    int64_t delivery;
    struct ticket *item;
};

static int by_delivery(const void *a, const void *b)
{
    const struct named *x = a, *y = b;

    if (x->delivery != y->delivery)
        return x->delivery < y->delivery ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* The first of `named` with this delivery, or with a later one; n: there is none. */
static size_t find(const struct named *named, size_t n, int64_t delivery)
{
    size_t from = 0;

    while (from < n) {
        size_t middle = from + (n - from) / 2;

        if (named[middle].delivery < delivery)
            from = middle + 1;
        else
            n = middle;
    }
    return from;
}

/* Rows come in the order of the statement's plan. Of a ticket that is there twice the first one
 * settles. */
static void ticket_result(struct postgres_call *call, const PGresult *result)
{
    struct settle_tickets *settle = CONTAINER_OF(call->op, struct settle_tickets, op);
    struct named *named = arena_array(op_arena(call->op), settle->n, sizeof *named);

    for (size_t i = 0; i < settle->n; i++)
        named[i] = (struct named){.delivery = delivery_of(settle->items[i].bytes),
                                  .item = &settle->items[i]};
    qsort(named, settle->n, sizeof *named, by_delivery);
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t delivery = postgres_int8(result, row, 0);
        size_t at = find(named, settle->n, delivery);

        if (at < settle->n && named[at].delivery == delivery)
            named[at].item->err = ERR_NONE;
    }
}

static void ticket_end(struct postgres_call *call)
{
    const struct settle_tickets *settle = CONTAINER_OF(call->op, struct settle_tickets, op);
    struct postgres *postgres = call->conn->postgres;

    if (call->err.code == ERR_OK) {
        postgres_wake_note_settled(postgres, settle->topic);
        postgres_renew_now(postgres);
    }
    postgres_finish(postgres, call->op, postgres_err(call, call->op));
}

static const struct postgres_kind ticket_kind = {
    .writes = true, .result = ticket_result, .end = ticket_end};

static void settle(struct backend *backend, struct settle_tickets *settle)
{
    struct postgres *postgres = postgres_of(backend);
    struct postgres_array deliveries;
    struct postgres_params params;

    postgres_params_init(&params, op_arena(&settle->op));
    postgres_add_int4(&params, postgres->space);
    postgres_add(&params, settle->topic);
    deliveries = postgres_add_array(&params, POSTGRES_INT8, settle->n, 8 * settle->n);
    for (size_t i = 0; i < settle->n; i++) {
        int64_t delivery = delivery_of(settle->items[i].bytes); /* 0: no row has it */

        settle->items[i].err = delivery == 0
                                   ? err_make(ERR_INVALID_ARGUMENT, "no ticket of this source")
                                   : err_make(ERR_ABORTED, "the delivery is over: settled, or "
                                                           "somebody else's");
        postgres_element_int8(&deliveries, delivery);
    }
    postgres_run(postgres, &settle->op, &ticket_kind, NULL, SQL_TICKET, &params);
}

const struct message_tickets postgres_tickets = {
    .make = make, .settle = settle, .recall = postgres_queue_recall};
