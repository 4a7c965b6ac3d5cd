/* What the files of src/rpc share. A call has two sides:
 *
 *   poller side   everything gRPC: tags, batches, buffers, admission. thread: the poller.
 *   home side     request, handler, ops, arena. thread: the home worker (which may be the poller).
 *
 * They meet in jobs embedded in the call. Poller to home: `begin` (intake, may be refused) and
 * `tell` (cancellation). Home to poller: `send`, `receive`, `final`, `release`. The call goes back
 * to the free list when the home side has released it and no tag and no `tell` is outstanding.
 * Until then it is in flight: an answer that its client has not taken is the server's to keep. */
#ifndef PRISM_RPC_RPC_PRIV_H
#define PRISM_RPC_RPC_PRIV_H

#include "pool/worker.h"
#include "src/base/arena.h"
#include "src/base/log.h"
#include "src/rpc/call.h"
#include "src/rpc/listener.h"
#include "src/rpc/server.h"
#include "src/rpc/share.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <pthread.h>
#include <stdatomic.h>

struct row;
struct call;

/* A completion-queue tag says what to do with itself. */
struct tag {
    void (*run)(struct tag *, bool ok);
};

/* How a call ends; filled by the home side, or by the poller when it refuses. */
struct ending {
    enum err_code code;
    grpc_slice text;
    grpc_slice details;        /* google.rpc.Status, packed; empty: none */
    grpc_byte_buffer *message; /* NULL: none */
};

struct call {
    struct rpc_server *server;
    struct row *row; /* NULL: a method nobody registered */

    /* poller side */
    grpc_call *grpc;
    gpr_timespec grpc_deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *request_buffer; /* home side while it decodes */
    grpc_call_details details;        /* generic calls only */
    struct tag request_tag, close_tag, send_tag, receive_tag, final_tag;
    unsigned tags; /* outstanding tags, and a tell */
    int cancelled;
    bool released; /* set by the home side; the poller may look once it has `finalised` */
    bool initial_sent, close_posted, finalised, linked, counted;
    bool wants_gzip;      /* the client compresses, so it takes compressed answers */
    bool tells_encodings; /* the answer says which encodings the server takes */
    bool telling;         /* `tell` is under way */
    struct err tell_next; /* to be told after that */
    grpc_metadata encoding, trailer;
    uint64_t arrived_ns;
    uint64_t request_bytes;
    uint64_t sending_bytes;   /* an answer, or a message of a stream, not yet taken */
    struct call *next, *prev; /* free list, or in flight in order of arrival, until finalised */
    struct share *share;      /* of its connection; NULL: a general unary call */
    struct call *unread_next, *unread_prev; /* while gRPC sends its answer, or a message */
    uint64_t unread_since_ns;

    /* jobs */
    struct job begin, tell, tell_back, send, receive, final, release;

    /* home side */
    struct worker *home;
    const struct rpc_instance *instance;
    struct op_group group, stream; /* ops of the handler; the receive of a stream */
    struct arena arena;
    const ProtobufCMessage *request;
    uint64_t deadline_ns;
    bool begun, ended, final_asked;
    struct ending ending;
    uint64_t built_bytes; /* of an answer that counts in the server's built_bytes; the poller takes
                             it over with the job that hands it the answer */
    struct err tell_why;  /* handed over with `tell` */
    bool tell_softly;     /* only those who wait for an event: a drain */
    struct err told;      /* ERR_OK: nothing yet */
    bool told_softly;
    struct job event; /* runs on_cancel */
    bool event_queued;
    void (*on_cancel)(struct call *, void *);
    void *on_cancel_arg;

    /* handed over with the jobs `send` and `receive` */
    grpc_byte_buffer *send_buffer, *receive_buffer;
    struct op *sent;
    struct call_receive *receiving;
};

/* Calls of one method, by outcome. */
struct row_metrics { /* written by the poller */
    struct counter started;
    struct counter codes[17];
    struct histogram latency;
    struct counter request_bytes, response_bytes;
};

/* One registered method. */
struct row {
    const struct method *method;
    struct bound_service *service;
    size_t index; /* in its service */
    void *handle; /* gRPC's */
    struct row_metrics metrics;
    struct log_budget deprecation; /* one each: a busy method must not hide another's warning */
};

struct binding {
    struct binding *next;
    char *namespace_name;            /* NULL: whatever the namespace is */
    struct rpc_instance instances[]; /* workers, then the poller */
};

struct bound_service {
    const struct service *service;
    struct binding *bindings;
};

struct rpc_server {
    struct rpc_options options;
    struct pool *pool;
    struct worker poller;
    pthread_t thread;
    bool started;

    grpc_server *grpc;
    grpc_completion_queue *cq;
    grpc_channel *wake_channel;
    grpc_call *wake_call;
    struct tls_files *tls;
    struct listener listener;
    int port, stalled_fd;

    struct bound_service *services;
    size_t service_count;
    struct row *rows;
    size_t row_count;

    /* poller side */
    struct call *free;
    struct call in_flight; /* list head */
    struct call unread;    /* list head: calls whose answers are being sent */
    struct share_table shares;
    uint32_t general_streams;
    struct log_budget share_log, unread_log;
    struct call *unwatched; /* the oldest in flight whose cancellation nobody waits for yet;
                               &in_flight: none */
    struct worker *current; /* the worker that the batch fills */
    struct worker *touched[WORKER_MAX];
    unsigned touched_count;
    bool shut_down; /* no more posts */
    bool leaving;   /* the loop ends */
    struct tag shutdown_tag;

    /* read by any thread */
    _Atomic bool serving, refusing;
    struct counter in_flight_bytes; /* encoded requests, and answers not yet taken */
    _Atomic uint64_t built_bytes;   /* large answers on their way from workers to the poller */
    struct counter refused_answers; /* by any worker */
    struct counter calls;           /* that have arrived and are not recycled, also refused ones */
    struct counter in_flight_count, refused_admission, refused_intake, refused_draining,
        refused_share, unread_answers, unknown_methods;
    struct counter finished, deprecated_calls, pattern_calls;

    uint64_t drain_in_flight, drain_refused; /* when the drain began */

    /* main waits for the poller: drain, rpc_server_on_poller */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool shutdown_done;
};

/* ---- call.c: home side ---- */

void call_begin_job(struct job *job); /* call->begin */
void call_tell_job(struct job *job);  /* call->tell */

/* ---- poller.c ---- */

void *poller_main(void *server);
void poller_run_event(grpc_event event);
void poller_free_calls(struct rpc_server *server); /* those that nobody uses */
struct call *poller_new_call(struct rpc_server *server);
void poller_post(struct rpc_server *server, struct row *row);
void poller_post_generic(struct rpc_server *server);

/* ---- admit.c: from a request event to its home ---- */

void admit_call(struct rpc_server *server, struct call *call);
void admit_unknown(struct rpc_server *server, struct call *call);
bool admit_is_general(const struct call *call);        /* thread: any */
bool admit_is_general_stream(const struct call *call); /* health watches, reflection */

/* The connection's part of a limit: at least 1. */
uint64_t admit_share(const struct rpc_server *server, uint64_t limit);
struct err admit_overloaded(const char *limit, const char *text);
void admit_flush(struct rpc_server *server); /* wakes the workers that this batch gave work to */

/* ---- answers.c ---- */

/* From now on a large answer counts in built_bytes; uncounted when it has become sending_bytes, or
 * was dropped. */
void answers_count(struct call *call, const grpc_byte_buffer *message);
void answers_uncount(struct call *call); /* thread: the home, or the poller that took over */

/* Is there room for this answer? The only one always has it. */
struct err answers_fit(struct call *call);

/* ---- unread.c ---- */

void unread_init(struct rpc_server *server);
void unread_begin(struct call *call); /* its answer, or a message of a stream, is being sent */
void unread_end(struct call *call);   /* it has been taken, or never will be */

/* Ends the calls whose clients have taken nothing for limits.unread_answer_ms. */
void unread_sweep(struct rpc_server *server, uint64_t now_ns);
int unread_wait_ms(const struct rpc_server *server, uint64_t now_ns); /* -1: for ever */

/* ---- message.c ---- */

/* What the request will hold: its message, and for a compressed one what that says it inflates to.
 */
uint64_t message_bytes(const struct call *call);

/* Is there a request, and can it be read? thread: poller. */
struct err message_check(struct call *call);

/* ---- finish.c: poller side of a call's life after the handler ---- */

void finish_init(struct call *call); /* sets the jobs and tags that this file runs */
void finish_refuse(struct call *call, struct err err); /* no home: the poller answers */
void finish_post_close(struct call *call);             /* learn of cancellation */
void finish_tell(struct call *call, struct err why, bool softly);
void finish_maybe_recycle(struct call *call);

/* ---- codec.c ---- */

/* A request of the call. *message is NULL with an error, which names the field where it can. It
 * lives in the arena and in the buffer; free_unpacked is never called. */
struct err codec_unpack(struct arena *arena, const struct call *call,
                        const grpc_byte_buffer *buffer, const ProtobufCMessage **message);
grpc_byte_buffer *codec_pack(const struct call *call, const ProtobufCMessage *message);

/* ---- status.c: the only place that maps to gRPC ---- */

struct ending status_ending(struct err err);
grpc_status_code status_code(enum err_code code);

/* ---- tls.c ---- */

struct err tls_open(struct tls_files **files, const struct rpc_tls *options);
grpc_server_credentials *tls_credentials(struct tls_files *files);
struct err tls_reload(struct tls_files *files);
void tls_close(struct tls_files *files);

/* ---- channel_args.c ---- */

/* gRPC takes so many times limits.max_metadata_bytes before it ends the connection. */
enum { RPC_METADATA_HEADROOM = 4 };

grpc_server *channel_args_server(const struct rpc_options *options);

/* ---- render_connections.c ---- */

void render_connections(struct metrics_page *page);

/* ---- library_log.c ---- */

void library_log_open(void); /* process-wide; before grpc_init */

static inline struct rpc_server *server_of_poller(struct worker *poller)
{
    return (struct rpc_server *)(void *)((char *)poller - offsetof(struct rpc_server, poller));
}

#endif
