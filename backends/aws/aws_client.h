/* One worker's instance of a backend that speaks a signed HTTP protocol: tasks (one for each
 * operation), the calls that they make, and the checks by which health is known.
 *
 *   operation   aws_task_begin ... aws_call_start, done(), maybe more calls ... aws_task_finish
 *   cancelled   the task's calls are let go of, its op ends; nothing refers to its memory any more
 *   busy        a call is tried again, after a growing delay, within the deadline and the client's
 *               budget of retries; done() tells the last outcome
 *
 * A write that was given away and whose answer is lost is never sent again: its effect is unknown.
 *
 * thread: home of the instance. */
#ifndef PRISM_BACKENDS_AWS_AWS_CLIENT_H
#define PRISM_BACKENDS_AWS_AWS_CLIENT_H

#include "backends/aws/aws_store.h"
#include "backends/aws/http.h"
#include "backends/aws/sigv4.h"
#include "backends/retry.h"

#include <stdbool.h>
#include <stdint.h>

struct aws_task;
struct aws_call;

enum {
    AWS_RETRY_MS = 100,
    AWS_CALL_HEADERS = 4,
    AWS_TURNS = 4 /* enumerations of one instance that ask at the same time */
};

/* What an answer means for the call. */
enum aws_verdict {
    AWS_ANSWERED,  /* good or bad, it is the answer */
    AWS_THROTTLED, /* refused for now, nothing was done */
    AWS_TROUBLED   /* the server failed; something may have been done */
};

/* What a service is to this layer. */
struct aws_service {
    const char *name; /* "s3", for texts and the log */
    /* May fill call->err for AWS_THROTTLED and AWS_TROUBLED: what is told when no retry helps. */
    enum aws_verdict (*judge)(struct aws_call *call);
    /* Starts the calls of a check on a task that has begun. It ends by aws_checked and then
     * aws_task_finish. */
    void (*check)(struct aws_task *task);
};

struct aws_client {
    struct backend base; /* first */
    const struct aws_service *service;
    struct http *http;
    struct aws_login login;
    uint32_t login_version;
    struct sigv4_key key;

    struct aws_task *tasks;
    struct aws_task *turns, **turns_last; /* that wait for their turn, in order (aws_turns.c) */
    uint32_t turns_held;
    uint32_t in_flight;
    struct retry_budget retries;
    uint64_t random;

    /* checks (aws_check.c) */
    enum backend_state reported;
    struct timer check_timer;
    struct aws_task *check;   /* under way; NULL: none */
    struct arena check_arena; /* its memory */
    unsigned failed_checks;   /* one after the other */
    uint64_t checked_ns;      /* when the last one ended */

    unsigned own; /* tasks of the instance's own; close waits for them */
    bool closing;
    void (*closed)(void *);
    void *closed_arg;
};

/* The work of one operation, or of a check. */
struct aws_task {
    struct aws_task *next, **at; /* in client->tasks */
    struct aws_client *client;
    struct op *op;          /* NULL: a check, or a task of the instance's own */
    struct arena *arena;    /* its memory and that of its calls */
    uint64_t deadline_ns;   /* 0: none */
    struct aws_call *calls; /* on the wire, or waiting for their next attempt */
    bool unsure;            /* a write was given away and its outcome is not known */
    /* It ends before its calls do: what they leave behind on the server is the service's affair.
     * May be NULL. */
    void (*abandoned)(struct aws_task *task);
    void *state; /* the service's own */
    /* private: aws_turns.c */
    struct aws_task *turn_next, **turn_at; /* in client->turns; turn_at NULL: does not wait */
    void (*turn_start)(struct aws_task *);
    bool turn_held;
    struct aws_memory *memory;
};

struct aws_call {
    struct http_request http;    /* first; answers are read from here */
    struct aws_call *next, **at; /* in task->calls */
    struct aws_task *task;
    /* in */
    const char *method;
    const char *host_prefix;  /* before the host's name, with its dot: "bucket."; NULL: none */
    const char *path, *query; /* encoded, see sigv4.h */
    struct sigv4_header headers[AWS_CALL_HEADERS]; /* more; names that begin with "x-amz-" are
                                                      signed, and sorted by name */
    unsigned header_count;
    struct slice body;
    bool unsigned_body; /* where the transport protects it */
    bool writes;
    bool once;           /* a repetition would have another outcome: never sent twice */
    bool repeatable;     /* the server knows a repetition: it is sent again also when the answer is
                            lost */
    uint64_t max_answer; /* bytes; more is told by http.too_long */
    void (*done)(struct aws_call *call);
    void *state; /* the service's own */
    /* out */
    struct err err; /* ERR_OK: there is an answer, judge() has passed it */
    bool unsure;    /* a write that was given away and whose outcome is not known */
    /* private */
    unsigned attempts;
    bool doubt; /* a write that one of them may have carried out */
    struct timer timer;
    char time[SIGV4_TIME_BYTES];
};

static inline struct aws_client *aws_client_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct aws_client, base);
}

static inline struct aws_store *aws_store_of(const struct aws_client *client)
{
    return CONTAINER_OF(client->base.store, struct aws_store, base);
}

/* ---- the instance (aws_client.c) ---- */

/* The memory is zeroed, from calloc. */
void aws_client_open(struct aws_client *client, struct backend_store *store, struct worker *worker,
                     const struct aws_service *service);
/* As backend_type.close. */
void aws_client_close(struct backend *backend, void (*closed)(void *), void *arg);

/* backend_type.probe. */
void aws_client_probe(struct backend *backend, struct op *op);

/* ---- tasks ---- */

/* The operation begins. NULL: it was refused, and is finished. */
struct aws_task *aws_task_begin(struct backend *backend, struct op *op);

/* A task of the instance's own: it has memory of its own, ends by aws_task_finish as the others,
 * and within timeout_ms; the instance is closed when it has ended. From `abandoned` too. */
struct aws_task *aws_task_own(struct aws_client *client, uint32_t timeout_ms);

/* Lets go of what is still under way, then ends the op. The task is gone. */
void aws_task_finish(struct aws_task *task, struct err err);

/* ---- calls (aws_call.c) ---- */

/* In the task's arena, zeroed. */
struct aws_call *aws_call_new(struct aws_task *task, const char *method, const char *path,
                              void (*done)(struct aws_call *));
void aws_call_header(struct aws_call *call, const char *name, const char *value);

/* done() comes later. The call may be started again in its done(). */
void aws_call_start(struct aws_call *call);

/* In its done(): the call is sent again after a delay, which grows with attempts that have brought
 * nothing, and done() comes again. False: no time, budget or attempt is left for that. */
bool aws_call_later(struct aws_call *call, bool brought_something);

/* For who ends a task: the call is let go of, done() does not come. */
void aws_call_drop(struct aws_call *call);

/* ---- turns of slow enumerations (aws_turns.c) ---- */

/* Starts at once or when it is this one's turn, unless the task ends before. A task that has a turn
 * gives it back first, so that those that wait come in between; aws_task_finish gives it back. The
 * task has no call under way. */
void aws_turn_take(struct aws_task *task, void (*start)(struct aws_task *));

/* From now on each turn of the task has memory of its own, task->arena, which stays until the end
 * of the next one: for counts, whose answers are of no use once they are counted. */
void aws_turn_memory(struct aws_task *task);

/* For who ends the task: neither waits nor has a turn any more. */
void aws_turn_end(struct aws_task *task);

/* ---- checks (aws_check.c) ---- */

/* A failure that may mean that the server is away or refuses us: asks it. */
void aws_suspect(struct aws_client *client);

/* An answer that a healthy server gives as well: asks it if the last check was some time ago. */
void aws_doubt(struct aws_client *client);

/* The end of a check: what it has found becomes the instance's state. text: static; NULL if READY.
 */
void aws_checked(struct aws_client *client, enum backend_state state, const char *text);

/* First check, and the end of all. */
void aws_check_begin(struct aws_client *client);
void aws_check_stop(struct aws_client *client);

#endif
