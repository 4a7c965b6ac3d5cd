/* Settling, extending and recalling: many deliveries in one statement. A delivery whose row is not
 * there any more, or is with somebody else by now, is late. */
#include "backends/postgres/postgres_queue.h"

#include <stdlib.h>

static struct postgres_listener *listener_of(const struct subscription *subscription)
{
    return subscription->backend_data;
}

static struct err late(void)
{
    return err_make(ERR_ABORTED, "the delivery is no longer this subscription's");
}

/* What settlements give to the queue: nothing, retries, or some that go to their old places. */
enum giving { GIVES_NOTHING, GIVES_RETRIES, GIVES_BACK };

/* A settlement or an extension on the wire. The listener stays until all of them are in; the op may
 * go before. */
struct settling {
    struct postgres_listener *listener;
    struct op *op; /* NULL: cancelled */
    bool sent;
    enum giving gives_back;
};

static void cancel(struct op *op, struct err why)
{
    struct settling *settling = op->backend_data;

    settling->op = NULL;
    postgres_finish(settling->listener->postgres, op, settling->sent ? err_lost(why) : why);
}

static void run(struct postgres_listener *listener, struct op *op, const struct postgres_kind *kind,
                enum postgres_statement statement, struct postgres_params *params,
                enum giving gives_back)
{
    struct settling *settling;

    if (!postgres_admit(listener->postgres, op, params->bytes))
        return;
    if ((settling = calloc(1, sizeof *settling)) == NULL)
        abort();
    *settling = (struct settling){.listener = listener, .op = op, .gives_back = gives_back};
    op->backend_data = settling;
    op_park(op, cancel);
    if (settling->op == NULL) {
        free(settling);
        return;
    }
    settling->sent = true;
    listener->settling++;
    postgres_run_own(postgres_choose(listener->postgres), kind, settling, statement, params);
}

static void end(struct postgres_call *call)
{
    struct settling *settling = call->state;
    struct postgres_listener *listener = settling->listener;
    struct postgres *postgres = listener->postgres;
    enum giving gives_back = settling->gives_back;

    if (settling->op != NULL)
        postgres_finish(postgres, settling->op, postgres_err(call, settling->op));
    free(settling);
    if (gives_back == GIVES_RETRIES && call->err.code == ERR_OK)
        postgres_wake_note(postgres, listener->subscription->want.topic);
    if (gives_back == GIVES_BACK)
        postgres_queue_returned(postgres, listener->subscription->want.topic);
    listener->settling--;
    postgres_queue_settled(listener);
    if (gives_back == GIVES_RETRIES)
        postgres_queue_poke(postgres);
}

/* ---- settle ---- */

static struct settlement *item_of(struct settle *settle, uint64_t token)
{
    for (size_t i = 0; i < settle->n; i++) {
        if (settle->items[i].token == token && settle->items[i].err.code != ERR_OK)
            return &settle->items[i];
    }
    return NULL;
}

/* Rows come in the order of the statement's plan, mostly that of the request: the search goes on
 * where the last one was found. */
static void settle_result(struct postgres_call *call, const PGresult *result)
{
    struct settling *settling = call->state;
    size_t at = 0;

    for (int row = 0; row < PQntuples(result); row++) {
        uint64_t token = (uint64_t)postgres_int8(result, row, 0);
        struct settle *settle;
        struct settlement *item;

        postgres_tokens_remove(settling->listener, token);
        if (settling->op == NULL)
            continue;
        settle = CONTAINER_OF(settling->op, struct settle, op);
        item = at < settle->n && settle->items[at].token == token ? &settle->items[at]
                                                                  : item_of(settle, token);
        if (item == NULL)
            continue;
        item->err = ERR_NONE;
        at = (size_t)(item - settle->items) + 1;
    }
}

static const struct postgres_kind settle_kind = {
    .writes = true, .result = settle_result, .end = end};

static void add_column(struct postgres_params *params, const struct settle *settle, int column)
{
    struct postgres_array array =
        postgres_add_array(params, POSTGRES_INT8, settle->n, 8 * settle->n);

    for (size_t i = 0; i < settle->n; i++) {
        const struct settlement *item = &settle->items[i];

        postgres_element_int8(&array, column == 0   ? (int64_t)item->token
                                      : column == 1 ? (int64_t)item->how
                                                    : (int64_t)item->delay_ms);
    }
}

static void add_reasons(struct postgres_params *params, const struct settle *settle)
{
    struct postgres_array array;
    size_t bytes = 0;

    for (size_t i = 0; i < settle->n; i++)
        bytes += settle->items[i].how == SETTLE_DEAD ? settle->items[i].reason.len : 0;
    array = postgres_add_array(params, POSTGRES_BYTEA, settle->n, bytes);
    for (size_t i = 0; i < settle->n; i++)
        postgres_element(&array, settle->items[i].how == SETTLE_DEAD ? settle->items[i].reason
                                                                     : message_empty());
}

void postgres_queue_settle(struct backend *backend, struct settle *settle)
{
    struct postgres_params params;
    enum giving gives_back = GIVES_NOTHING;

    (void)backend;
    for (size_t i = 0; i < settle->n; i++) {
        settle->items[i].err = late();
        if (settle->items[i].how == SETTLE_RELEASE)
            gives_back = GIVES_BACK;
        else if (settle->items[i].how == SETTLE_RETRY && gives_back == GIVES_NOTHING)
            gives_back = GIVES_RETRIES;
    }
    postgres_params_init(&params, op_arena(&settle->op));
    for (int column = 0; column < 3; column++)
        add_column(&params, settle, column);
    add_reasons(&params, settle);
    run(listener_of(settle->subscription), &settle->op, &settle_kind, SQL_SETTLE, &params,
        gives_back);
}

/* ---- extend ---- */

static void extend_result(struct postgres_call *call, const PGresult *result)
{
    struct settling *settling = call->state;
    struct extend *extend;

    if (settling->op == NULL)
        return;
    extend = CONTAINER_OF(settling->op, struct extend, op);
    for (int row = 0; row < PQntuples(result); row++) {
        uint64_t token = (uint64_t)postgres_int8(result, row, 0);

        for (size_t i = 0; i < extend->n; i++) {
            if (extend->items[i].token == token)
                extend->items[i].err = ERR_NONE;
        }
    }
}

static const struct postgres_kind extend_kind = {
    .writes = true, .result = extend_result, .end = end};

void postgres_queue_extend(struct backend *backend, struct extend *extend)
{
    struct postgres_array tokens;
    struct postgres_params params;

    (void)backend;
    postgres_params_init(&params, op_arena(&extend->op));
    tokens = postgres_add_array(&params, POSTGRES_INT8, extend->n, 8 * extend->n);
    for (size_t i = 0; i < extend->n; i++) {
        extend->items[i].err = late();
        postgres_element_int8(&tokens, (int64_t)extend->items[i].token);
    }
    postgres_add_int8(&params, (int64_t)extend->lease_ms);
    run(listener_of(extend->subscription), &extend->op, &extend_kind, SQL_EXTEND, &params,
        GIVES_NOTHING);
}

/* ---- recall: the delivery gets another number ---- */

static void recall_result(struct postgres_call *call, const PGresult *result)
{
    struct settling *settling = call->state;
    struct recall *recall =
        settling->op != NULL ? CONTAINER_OF(settling->op, struct recall, op) : NULL;

    for (int row = 0; row < PQntuples(result); row++) {
        uint64_t was = (uint64_t)postgres_int8(result, row, 0);

        postgres_tokens_remove(settling->listener, was);
        for (size_t i = 0; recall != NULL && i < recall->n; i++) {
            struct recalled *item = &recall->items[i];

            if (item->token != was || item->err.code == ERR_OK)
                continue;
            item->token = (uint64_t)postgres_int8(result, row, 1);
            item->err = ERR_NONE;
            postgres_tokens_add(settling->listener, item->token);
            break;
        }
    }
}

static const struct postgres_kind recall_kind = {
    .writes = true, .result = recall_result, .end = end};

void postgres_queue_recall(struct backend *backend, struct recall *recall)
{
    struct postgres_array tokens;
    struct postgres_params params;

    (void)backend;
    postgres_params_init(&params, op_arena(&recall->op));
    tokens = postgres_add_array(&params, POSTGRES_INT8, recall->n, 8 * recall->n);
    for (size_t i = 0; i < recall->n; i++) {
        recall->items[i].err = late();
        postgres_element_int8(&tokens, (int64_t)recall->items[i].token);
    }
    run(listener_of(recall->subscription), &recall->op, &recall_kind, SQL_RECALL, &params,
        GIVES_NOTHING);
}
