/* Calls in flight: statements out in libpq's pipeline, results in.
 *
 * A write has a Sync right behind it: that is the end of its transaction, and its outcome is known
 * when the Sync is answered. Reads that come together share the Sync that follows them, which
 * postgres_flush sends; if one of them fails, postgres skips the others up to the Sync, and they
 * are told to try again.
 *
 * Results of one statement: a PGresult, then NULL. Of a Sync: a PGresult alone.
 *
 * Cancelled or out of time: the op is finished at once and taken off its call; the call keeps its
 * place in the line and its result is dropped, so nothing refers to memory that has gone. */
#include "backends/postgres/postgres_call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- ops ---- */

static struct err too_many(const char *limit, const char *text)
{
    struct err e = err_about(ERR_RESOURCE_EXHAUSTED, limit, text);

    e.retry_after_ms = POSTGRES_RETRY_MS;
    return e;
}

/* A single operation is let in whatever its size: the largest value must pass. */
bool postgres_admit(struct postgres *postgres, struct op *op, size_t bytes)
{
    const struct postgres_store *store = postgres_store_of(postgres);
    struct err e = ERR_NONE;

    counter_add(&postgres->base.stats.calls, 1);
    if (postgres_choose(postgres) == NULL)
        e = postgres->down;
    else if (postgres->in_flight >= store->max_in_flight)
        e = too_many("max_in_flight",
                     "too many operations wait for postgres; this one was not sent");
    else if (postgres->in_flight > 0 && postgres->held_bytes + bytes > store->max_buffer_bytes)
        e = too_many("max_buffer_bytes",
                     "too many bytes wait for postgres; this operation was not sent");
    postgres->in_flight++;
    postgres->held_bytes += bytes;
    op->backend_word = bytes;
    counter_add(&postgres->base.stats.in_flight, 1);
    if (e.code == ERR_OK)
        return true;
    postgres_finish(postgres, op, e);
    return false;
}

void postgres_finish(struct postgres *postgres, struct op *op, struct err err)
{
    if (err.code != ERR_OK)
        counter_add(&postgres->base.stats.errors, 1);
    postgres->in_flight--;
    postgres->held_bytes -= op->backend_word;
    counter_add(&postgres->base.stats.in_flight, (uint64_t)-1);
    op->backend_data = NULL;
    op->backend_word = 0;
    op_finish(op, err);
}

struct err postgres_err(const struct postgres_call *call, struct op *op)
{
    struct err e = call->err;

    if (e.text == call->text)
        e.text = arena_strdup(op_arena(op), slice_str(call->text));
    return e;
}

void postgres_unexpected(struct postgres_call *call)
{
    if (call->err.code == ERR_OK)
        call->err = err_make(ERR_INTERNAL, "postgres gave a result that this statement has not");
}

/* ---- the line of calls ---- */

static struct postgres_call *call_new(struct postgres_conn *conn, const struct postgres_kind *kind,
                                      void *state)
{
    struct postgres_call *call = calloc(1, sizeof *call);

    if (call == NULL)
        abort();
    call->conn = conn;
    call->kind = kind;
    call->state = state;
    call->statement = POSTGRES_STATEMENTS;
    call->wanted = true;
    return call;
}

static void line_up(struct postgres_call *call)
{
    struct postgres_conn *conn = call->conn;

    if (conn->first == NULL)
        conn->moved_ns = postgres_now(conn->postgres);
    *conn->last = call;
    conn->last = &call->next;
    conn->calls++;
}

static struct postgres_call *line_pop(struct postgres_conn *conn)
{
    struct postgres_call *call = conn->first;

    conn->first = call->next;
    if (conn->first == NULL)
        conn->last = &conn->first;
    if (conn->open == call)
        conn->open = NULL;
    conn->calls--;
    return call;
}

/* The call's op, if it still has one, is finished or goes on. */
static void conclude(struct postgres_call *call)
{
    struct op *op = call->op;

    if (call->over)
        return;
    call->over = true;
    if (!call->wanted)
        return;
    if (call->kind->end != NULL)
        call->kind->end(call);
    else if (op != NULL)
        postgres_finish(call->conn->postgres, op, postgres_err(call, op));
}

static void abandon(struct op *op, struct err why)
{
    struct postgres_call *call = op->backend_data;

    if (call->results == 0)
        counter_add(&call->conn->postgres->base.stats.withdrawn, 1);
    else if (call->kind->writes)
        why = err_lost(why);
    call->wanted = false;
    call->op = NULL;
    postgres_finish(call->conn->postgres, op, why);
}

/* ---- out ---- */

void postgres_sync(struct postgres_conn *conn)
{
    if (conn->open == NULL)
        return;
    conn->open->synced = true;
    conn->open = NULL;
    if (PQpipelineSync(conn->pg) != 1)
        postgres_drop(conn, ERR_NONE);
}

static void prepare(struct postgres_call *call, enum postgres_statement statement, const char *name)
{
    struct postgres_conn *conn = call->conn;
    uint64_t bit = 1ull << statement;

    if ((conn->prepared & bit) != 0)
        return;
    conn->prepared |= bit;
    call->prepares = true;
    call->results++;
    if (PQsendPrepare(conn->pg, name, postgres_store_of(conn->postgres)->sql[statement], 0, NULL) !=
        1)
        postgres_drop(conn, ERR_NONE);
}

/* sql: NULL for one of the statements. */
static void send_call(struct postgres_call *call, enum postgres_statement statement,
                      const char *sql, const struct postgres_params *params)
{
    static const int binary[POSTGRES_PARAMS] = {[0 ... POSTGRES_PARAMS - 1] = 1};
    struct postgres_conn *conn = call->conn;
    char name[16];
    int sent;

    if (conn->open != NULL && call->kind->writes)
        postgres_sync(conn);
    if (sql == NULL) {
        snprintf(name, sizeof name, "prism%u", (unsigned)statement);
        call->statement = statement;
        prepare(call, statement, name);
    }
    call->results++;
    if (sql == NULL)
        sent = PQsendQueryPrepared(conn->pg, name, params->n, params->values, params->lengths,
                                   binary, statement != SQL_FACTS);
    else
        sent = PQsendQueryParams(conn->pg, sql, params->n, NULL, params->values, params->lengths,
                                 binary, 1);
    if (sent != 1)
        postgres_drop(conn, ERR_NONE);
    counter_add(&conn->postgres->base.stats.bytes_sent, params->bytes);
    conn->open = call;
    if (call->kind->writes)
        postgres_sync(conn);
}

/* What is sent: one of the statements, or a text. */
struct question {
    enum postgres_statement statement;
    const char *sql; /* NULL: the statement */
    const struct postgres_params *params;
};

static void run(struct postgres *postgres, struct op *op, const struct postgres_kind *kind,
                void *state, const struct question *question)
{
    struct postgres_conn *conn;
    struct postgres_call *call;

    if (op->cancel == NULL && !postgres_admit(postgres, op, question->params->bytes))
        return;
    conn = postgres_choose(postgres);
    if (conn == NULL) { /* of a later step */
        postgres_finish(postgres, op, postgres->down);
        return;
    }
    call = call_new(conn, kind, state);
    call->op = op;
    op->backend_data = call;
    if (op->cancel == NULL)
        op_park(op, abandon);
    if (call->op == NULL) { /* cancelled before it began */
        free(call);
        return;
    }
    line_up(call);
    send_call(call, question->statement, question->sql, question->params);
}

void postgres_run(struct postgres *postgres, struct op *op, const struct postgres_kind *kind,
                  void *state, enum postgres_statement statement, struct postgres_params *params)
{
    run(postgres, op, kind, state, &(struct question){.statement = statement, .params = params});
}

void postgres_run_text(struct postgres *postgres, struct op *op, const struct postgres_kind *kind,
                       void *state, const char *sql, struct postgres_params *params)
{
    run(postgres, op, kind, state,
        &(struct question){.statement = POSTGRES_STATEMENTS, .sql = sql, .params = params});
}

void postgres_run_own(struct postgres_conn *conn, const struct postgres_kind *kind, void *state,
                      enum postgres_statement statement, struct postgres_params *params)
{
    struct postgres_call *call = call_new(conn, kind, state);

    line_up(call);
    send_call(call, statement, NULL, params);
}

void postgres_run_own_text(struct postgres_conn *conn, const struct postgres_kind *kind,
                           void *state, const char *sql)
{
    const struct postgres_params none = {.n = 0};
    struct postgres_call *call = call_new(conn, kind, state);

    line_up(call);
    send_call(call, POSTGRES_STATEMENTS, sql, &none);
}

/* ---- in ---- */

static void count_bytes(struct postgres *postgres, const PGresult *result)
{
    uint64_t bytes = 0;
    int rows = PQntuples(result), columns = PQnfields(result);

    for (int row = 0; row < rows; row++) {
        bytes += 7;
        for (int column = 0; column < columns; column++)
            bytes += 4 + (uint64_t)PQgetlength(result, row, column);
    }
    counter_add(&postgres->base.stats.bytes_received, bytes + 32);
}

static void take_error(struct postgres_call *call, const PGresult *result)
{
    struct postgres_conn *conn = call->conn;
    const char *restricts = postgres_error_restricts(result);

    if (call->err.code == ERR_OK)
        call->err = postgres_error(result, call->text, sizeof call->text);
    if (restricts != NULL)
        postgres_trouble(conn->postgres, restricts);
    if (postgres_error_is_fatal(result) && conn->phase == POSTGRES_READY) {
        conn->phase = POSTGRES_LEAVING;
        conn->why = call->err;
    }
}

static void take_result(struct postgres_call *call, const PGresult *result)
{
    bool prepared = call->prepares && call->taken == 0; /* it is the Prepare's */

    if (prepared && PQresultStatus(result) != PGRES_COMMAND_OK)
        call->conn->prepared &= ~(1ull << call->statement);
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        if (!prepared && call->wanted)
            call->kind->result(call, result);
        break;
    case PGRES_PIPELINE_ABORTED:
        if (call->err.code == ERR_OK)
            call->err = postgres_unavailable("postgres skipped this, because what was read with "
                                             "it failed; nothing was done");
        break;
    default:
        take_error(call, result);
    }
}

/* A statement is over when NULL follows its result, a call when its Sync is answered, if it has
 * one. */
static void statement_over(struct postgres_conn *conn)
{
    struct postgres_call *call = conn->first;

    if (++call->taken < call->results)
        return;
    if (!call->kind->writes)
        conclude(call);
    if (!call->synced && conn->open != call)
        free(line_pop(conn));
}

void postgres_take_results(struct postgres_conn *conn)
{
    while (conn->first != NULL && !conn->drop && !PQisBusy(conn->pg)) {
        struct postgres_call *call = conn->first;
        PGresult *result = PQgetResult(conn->pg);

        if (result == NULL) {
            if (call->taken == call->results)
                break; /* its Sync is not answered yet */
            statement_over(conn);
            continue;
        }
        count_bytes(conn->postgres, result);
        if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
            take_result(call, result);
        } else {
            line_pop(conn);
            conclude(call);
            free(call);
        }
        PQclear(result);
    }
}

void postgres_fail_calls(struct postgres_conn *conn, struct err why)
{
    while (conn->first != NULL) {
        struct postgres_call *call = line_pop(conn);

        call->err = why;
        if (call->kind->writes) {
            call->err.code = ERR_UNAVAILABLE;
            call->err.text =
                "the connection to postgres was lost: the write may or may not have happened";
            call->err = err_lost(call->err);
        }
        conclude(call);
        free(call);
    }
}

/* ---- columns ---- */

struct slice postgres_bytes(const PGresult *result, int row, int column)
{
    return slice_of(PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}

static uint64_t number_of(const PGresult *result, int row, int column, int bytes)
{
    const uint8_t *at = (const uint8_t *)PQgetvalue(result, row, column);
    uint64_t value = 0;

    if (PQgetlength(result, row, column) != bytes)
        return 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

int64_t postgres_int8(const PGresult *result, int row, int column)
{
    return (int64_t)number_of(result, row, column, 8);
}

int32_t postgres_int4(const PGresult *result, int row, int column)
{
    return (int32_t)(uint32_t)number_of(result, row, column, 4);
}

bool postgres_bool(const PGresult *result, int row, int column)
{
    return number_of(result, row, column, 1) != 0;
}

uint64_t postgres_changed(const PGresult *result)
{
    return strtoull(PQcmdTuples((PGresult *)(uintptr_t)result), NULL, 10);
}
