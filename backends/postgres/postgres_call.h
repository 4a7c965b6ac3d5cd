/* Calls in flight on a connection: statements out in libpq's pipeline, results in. thread: home. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_CALL_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_CALL_H

#include "backends/postgres/postgres_conn.h"
#include "backends/postgres/postgres_params.h"
#include "src/base/clock.h"

enum { POSTGRES_ERROR_TEXT = 160 };

/* What a kind of call does with its result. */
struct postgres_kind {
    bool
        writes; /* has a transaction of its own, and may have had an effect if its answer is lost */
    /* Rows, or none. A call whose op has gone gets none. */
    void (*result)(struct postgres_call *call, const PGresult *result);
    /* The answer is in, or call->err says why not: finish the op or go on. NULL: the op ends with
     * postgres_err(call). */
    void (*end)(struct postgres_call *call);
};

struct postgres_call {
    struct postgres_call *next;
    struct postgres_conn *conn;
    const struct postgres_kind *kind;
    struct op *op; /* NULL: of a group, of the instance itself, or abandoned */
    void *state;   /* the kind's own; in the op's arena, if there is an op */
    struct err err;
    enum postgres_statement statement; /* POSTGRES_STATEMENTS: none of them */
    uint8_t results, taken;            /* of statements sent, the Prepare included */
    bool prepares;                     /* the first result is that of a Prepare */
    bool synced;                       /* a Sync is behind it */
    bool wanted;                       /* somebody waits for the answer */
    bool over;                         /* end() has run */
    char text[POSTGRES_ERROR_TEXT];    /* of an error that Prism does not know */
};

/* May one more op of so many bytes be taken in? If not, it is finished. */
bool postgres_admit(struct postgres *postgres, struct op *op, size_t bytes);

/* Sends one statement for an op; for a later step of the same op too. If that cannot be, the op is
 * finished. `params` is free again afterwards. */
void postgres_run(struct postgres *postgres, struct op *op, const struct postgres_kind *kind,
                  void *state, enum postgres_statement statement, struct postgres_params *params);

/* The same for a statement that is made for this call alone; sql is borrowed. */
void postgres_run_text(struct postgres *postgres, struct op *op, const struct postgres_kind *kind,
                       void *state, const char *sql, struct postgres_params *params);

/* A call without an op on a connection that is ready; end() always comes. */
void postgres_run_own(struct postgres_conn *conn, const struct postgres_kind *kind, void *state,
                      enum postgres_statement statement, struct postgres_params *params);
void postgres_run_own_text(struct postgres_conn *conn, const struct postgres_kind *kind,
                           void *state, const char *sql);

/* The outcome of a call, with its text where the op's owner can keep it. */
struct err postgres_err(const struct postgres_call *call, struct op *op);

/* The end of an op that postgres_admit or postgres_run has taken in. */
void postgres_finish(struct postgres *postgres, struct op *op, struct err err);

/* A result that the statement does not have. */
void postgres_unexpected(struct postgres_call *call);

/* ---- columns of binary results ---- */

struct slice postgres_bytes(const PGresult *result, int row, int column);
int64_t postgres_int8(const PGresult *result, int row, int column);
int32_t postgres_int4(const PGresult *result, int row, int column);
bool postgres_bool(const PGresult *result, int row, int column);

/* Rows that an INSERT, UPDATE or DELETE has changed. */
uint64_t postgres_changed(const PGresult *result);

/* ---- for the connection ---- */

/* Takes the results that libpq has read. */
void postgres_take_results(struct postgres_conn *conn);

/* Puts a Sync behind the reads that have none. */
void postgres_sync(struct postgres_conn *conn);

/* The connection is gone: calls are told so, and whether a write may have happened. */
void postgres_fail_calls(struct postgres_conn *conn, struct err why);

/* ---- single gets and puts (postgres_group.c) ---- */

/* Sends what waits, as far as the number of groups on the wire allows. */
void postgres_send_groups(struct postgres *postgres);

/* No connection is ready any more: what waits was never sent. */
void postgres_fail_waiting(struct postgres *postgres, struct err why);

#endif
