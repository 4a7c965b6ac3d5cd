/* What the files of src/rpc share. A call has two halves:
 *
 *   call->poller   everything gRPC: tags, batches, admission. thread: the poller.
 *   call->home     request, handler, ops, arena. thread: the call's worker (which may be the
 *                  poller).
 *
 * They meet in jobs embedded in the call; what stands beside the halves is either set before the
 * first hand-over and never changed, or handed over with the job that its comment names. Poller to
 * worker: `begin` (intake, may be refused), `notice.there` and what an inbound brings. Worker to
 * poller: `notice.back`, `headers`, an outbound's `send`, `receive`, an inbound's `back`, `final`,
 * `release`. The call goes back to the free list when the home half has released it and no tag, no
 * notice and no inbound is outstanding. Until then it is in flight: an answer that its client has
 * not taken is the server's to keep. */
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

/* The client is gone or the deadline passed; soft: only a drain begins. */
struct notice {
    struct job there, back;
    struct err why;
    bool soft;
};

struct link {
    struct link *next, *prev;
};

/* A message of a stream on its way to gRPC. Those behind the one that gRPC has wait at the poller.
 */
struct outbound {
    struct job send;
    struct call *call;
    struct op *sent; /* NULL: the place is free. Its err: there was no room for it; else ERR_OK */
    grpc_byte_buffer *buffer;
    uint64_t charge;      /* its bytes, but for those of blocks */
    uint64_t built_bytes; /* as of struct call */
};

/* A message of a stream on its way to the home half, or that there are no more; and back, once it
 * was received or dropped. */
struct inbound {
    struct job there, back;
    struct call *call;
    struct inbound *next;     /* home: in call_home.inbox */
    grpc_byte_buffer *buffer; /* NULL: none, and none will come. thread: home, from `there` on */
    uint64_t bytes;           /* it and what it costs, in the server's held_bytes */
    struct err why;           /* without a buffer; ERR_OK: half-closed */
    bool dropped;             /* back: nobody wants any */
};

/* thread: the poller. */
struct call_poller {
    grpc_call *grpc;
    gpr_timespec grpc_deadline;
    grpc_metadata_array metadata;
    struct tag request_tag, close_tag, headers_tag, send_tag, receive_tag, final_tag;
    unsigned tags; /* outstanding tags, a notice, and inbounds that are not back */
    int cancelled;
    bool initial_sent, close_posted, finalised, linked, counted;
    bool tells_encodings;   /* the answer says which encodings the server takes */
    bool noticing;          /* a notice is under way */
    bool placed;            /* counts in its worker's streams */
    struct err next_notice; /* to follow it; never soft */
    grpc_metadata trailer;
    unsigned outbounds, oldest_outbound; /* sends that are not done; gRPC has the oldest */
    uint64_t sending_bytes;              /* an answer, or a message of a stream, not yet taken */
    struct call *next, *prev; /* free list, or in flight in order of arrival, until finalised */
    struct call *unread_next, *unread_prev; /* while gRPC sends its answer, or a message */
    uint64_t unread_since_ns;
    struct link hungry; /* its receive waits for memory; next NULL: it does not */
    grpc_byte_buffer *incoming;
    bool receiving;   /* into it: receive_tag is out */
    bool heard_all;   /* no message will come */
    uint32_t inbound; /* messages that are not back; one each in `tags` */
    uint64_t inbound_bytes;
};

/* Waits for an event on the call, not for an op. */
struct call_listener {
    void (*fn)(struct call *, void *arg); /* NULL: nobody listens */
    void *arg;
};

/* thread: the call's worker. */
struct call_home {
    struct op_group group, stream; /* ops of the handler; the receive of a stream */
    struct arena arena;
    const ProtobufCMessage *request;
    bool begun, headers_sent, ended, final_asked, draining;
    bool reads;        /* the poller was told to receive */
    bool heard_all;    /* nothing more comes, and why */
    bool event_queued; /* `event` is on its way */
    unsigned next_outbound;
    struct err refused;             /* why the last one was, and so are all behind it; ERR_OK */
    struct call_receive *receiving; /* waits for an inbound, or has `received` */
    struct inbound *received;
    struct inbound *inbox, **inbox_end; /* that came before they were asked for */
    struct err heard_why;
    struct err gone; /* ERR_OK: the client is there, as far as is known */
    struct call_listener on_cancel, on_drain;
    struct job event;        /* tells a listener that came too late for the notice */
    uint64_t extra_bytes;    /* call_hold */
    uint64_t measured_bytes; /* of the arena, when it was looked at; 0: the call has not waited */
    uint64_t held_bytes;     /* of the server's held_bytes */
};

struct call {
    struct call_poller poller;
    struct call_home home;

    /* set before the first hand-over */
    struct rpc_server *server;
    struct row *row; /* NULL: a method nobody registered */
    struct worker *worker;
    const struct rpc_instance *instance;
    uint64_t arrived_ns, deadline_ns;
    uint64_t request_bytes;
    bool wants_gzip;     /* the client compresses, so it takes compressed answers */
    struct share *share; /* of its connection; NULL: a general unary call */

    /* jobs */
    struct job begin, headers, receive, final, release;
    struct notice notice; /* why and soft go with notice.there */
    _Atomic bool over;    /* set before that, unless soft: `begin` may run before it */

    /* handed over */
    grpc_byte_buffer *request_buffer; /* begin */
    struct ending ending;             /* final */
    bool released;                    /* final or release; the poller may look once `finalised` */
    uint64_t built_bytes;     /* final: of an answer that counts in the server's held_bytes */
    grpc_metadata initial[2]; /* headers: the encoding, if there is one; what call_headers says */
    union {
        struct outbound outbounds[CALL_SENDS]; /* each with its `send`; a ring */
        grpc_call_details details; /* of a generic call, which is refused and sends nothing */
    };
};

_Static_assert(sizeof(struct call) <= 1536, "a class of the allocator's: streams may be many");

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
    struct call *unwatched;       /* the oldest in flight whose cancellation nobody waits for yet;
                                     &in_flight: none */
    struct worker *current;       /* the worker that the batch fills */
    unsigned streams[WORKER_MAX]; /* by worker: open streams */
    struct link hungry;           /* calls whose receive waits for memory, the oldest first */
    struct counter hungry_count;
    _Atomic uint32_t kept; /* messages of streams that handlers are at work on (memory.c) */
    struct job feed;
    bool feed_due; /* the poller has given memory back */
    struct worker *touched[WORKER_MAX];
    unsigned touched_count;
    bool shut_down; /* no more posts */
    bool leaving;   /* the loop ends */
    struct tag shutdown_tag;

    /* read by any thread */
    _Atomic bool serving, refusing;
    struct counter in_flight_bytes; /* encoded requests, and answers not yet taken */
    _Atomic uint64_t held_bytes;    /* what home halves hold beyond that (memory.c) */
    _Atomic bool starved;           /* some receive waits for memory */
    _Atomic bool feeding;           /* `feed` is under way */
    struct counter refused_decoded; /* by any worker: requests that are too large once decoded */
    struct counter expired;         /* by any worker: over before they were taken up */
    struct counter refused_answers; /* by any worker */
    struct counter calls;           /* that have arrived and are not recycled, also refused ones */
    struct counter in_flight_count, refused_admission, refused_intake, refused_draining,
        refused_share, unread_answers, unknown_methods;
    struct counter finished, deprecated_calls, pattern_calls;

    uint64_t drain_in_flight, drain_incomplete, drain_refused; /* when the drain began */

    /* main waits for the poller: drain, rpc_server_on_poller */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool shutdown_done;
};

/* ---- call.c: home side ---- */

void call_begin_job(struct job *job);    /* call->begin */
void call_notice_job(struct job *job);   /* call->notice.there */
void call_inbound_job(struct job *job);  /* an inbound's `there` */
void call_drop_inbox(struct call *call); /* it ends */

/* For call_stream.c. */
void call_bug(const struct call *call, const char *what); /* aborts */
void call_to_poller(struct call *call, struct job *job);

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
uint64_t admit_share_bytes(
    const struct rpc_server *server); /* of max_inflight_bytes; thread: any */
struct err admit_overloaded(const char *limit, const char *text);
void admit_flush(struct rpc_server *server); /* wakes the workers that this batch gave work to */

/* ---- answers.c ---- */

/* From now on a large answer counts in held_bytes; uncounted when it has become sending_bytes, or
 * was dropped. */
void answers_count(struct call *call, uint64_t bytes, uint64_t *built);
/* thread: the home, or the poller that took over */
void answers_uncount(struct call *call, uint64_t *built);

/* Is there room for this answer? The only one always has it. */
struct err answers_fit(struct call *call, uint64_t built);

/* ---- unread.c ---- */

void unread_init(struct rpc_server *server);
void unread_begin(struct call *call); /* its answer, or a message of a stream, is being sent */
void unread_end(struct call *call, bool taken); /* false: never will be, or it was no message */

/* Ends the calls whose clients have taken nothing for limits.unread_answer_ms. */
void unread_sweep(struct rpc_server *server, uint64_t now_ns);
int unread_wait_ms(const struct rpc_server *server, uint64_t now_ns); /* -1: for ever */

/* ---- message.c ---- */

/* What the request will hold: its message, and for a compressed one what that says it inflates to.
 */
uint64_t message_bytes(const struct call *call);

/* Is there a request, and can it be read? thread: poller. */
struct err message_check(struct call *call);
struct err message_check_received(
    struct call *call, const grpc_byte_buffer *buffer); /* the message of a stream; poller */

/* ---- finish.c: poller half of a call's life after the handler ---- */

void finish_init(struct call *call); /* sets the jobs and tags that this file runs */
void finish_refuse(struct call *call, struct err err); /* no home: the poller answers */
void finish_post_close(struct call *call);             /* learn of cancellation */
void finish_notice(struct call *call, struct err why, bool soft);
void finish_maybe_recycle(struct call *call);

/* For finish_stream.c. */
void finish_start_batch(struct call *call, const grpc_op *ops, size_t n, struct tag *tag);
grpc_op finish_initial_metadata(struct call *call, bool gzip); /* gRPC reads call->poller.initial */
/* built: what counts of it in held_bytes, until now. */
void finish_charge(struct call *call, uint64_t sending_bytes, uint64_t *built);
struct err finish_why_gone(const struct call *call); /* ERR_OK: it is there, as far as is known */

/* ---- finish_stream.c: poller half of headers, sends and receives ---- */

void finish_stream_init(struct call *call); /* sets the jobs and tags that this file runs */
void finish_post_receive(struct call *call);
/* A receive that waits for memory ends with `why`. */
void finish_stop_waiting(struct call *call, struct err why);

/* ---- memory.c: what calls hold of limits.max_inflight_bytes ---- */

void memory_init(struct rpc_server *server);

/* thread: any. share may be NULL. */
void memory_take(struct rpc_server *server, struct share *share, uint64_t bytes);
void memory_give_back(struct rpc_server *server, struct share *share, uint64_t bytes);

/* A handler is at work on so many messages of streams more, in arenas of its own. thread: any. */
void memory_count_kept(struct rpc_server *server, struct share *share, uint32_t more);
uint64_t memory_held(const struct rpc_server *server);

/* May the call hold so much more, by the server's limit and by its connection's share? Who holds
 * everything that is held (own bytes, which count already) always may. thread: home, poller. */
struct err memory_check(const struct call *call, uint64_t more, uint64_t own);

/* thread: home. take_in: the request has been decoded and nothing begun. measure: the call waits
 * from now on. grown: its arena may have grown since then. release: its arena is cleared. */
struct err memory_take_in(struct call *call);
void memory_measure(struct call *call);
void memory_grown(struct call *call);
void memory_release(struct call *call);

/* Nobody waits, nor will soon. thread: any. */
bool memory_is_ample(const struct call *call);

/* thread: poller. Posts the call's receive, by finish_post_receive, once there is room. */
void memory_receive(struct call *call);
bool memory_leave(struct call *call); /* false: its receive does not wait */
void memory_feed(struct rpc_server *server);

/* The poller has given memory back: those who wait are looked at at the end of its turn. */
static inline void memory_freed(struct rpc_server *server)
{
    server->feed_due = counter_read(&server->hungry_count) > 0;
}

/* ---- codec.c ---- */

/* A request of the call. *message is NULL with an error, which names the field where it can. It
 * lives in the arena and in the buffer; free_unpacked is never called. */
struct err codec_unpack(struct arena *arena, const struct call *call,
                        const grpc_byte_buffer *buffer, const ProtobufCMessage **message);
grpc_byte_buffer *codec_pack(const struct call *call, const ProtobufCMessage *message);
grpc_byte_buffer *codec_written(const struct call *call, size_t bytes, call_write_fn *write,
                                const void *what);

/* Parts with a block are referenced until gRPC has written them, the others are copied. *charge:
 * the bytes of the latter, and what a reference costs. */
grpc_byte_buffer *codec_join(const struct call *call, const struct call_part *parts, size_t n,
                             uint64_t *charge);

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
