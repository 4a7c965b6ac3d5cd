/* One thread owns gRPC: call arrives -> request read -> step chosen -> its messages, one after the
 * other -> status. A step that hangs waits until the client has closed the call. */
#include "tests/client/script_server.h"

#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

#include <assert.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_STEPS = 64, MAX_METHODS = 16 };

struct packed_step {
    char method[32];
    grpc_slice messages[SCRIPT_MAX_MESSAGES];
    size_t message_count;
    int status;
    char text[256];
    grpc_slice details; /* empty = none */
    bool hang, used;
};

struct method_log {
    char method[32];
    unsigned calls;
    grpc_slice latest; /* request */
};

struct script_server {
    grpc_server *grpc;
    grpc_completion_queue *queue;
    pthread_t thread;
    int port;
    char target[32], folder[32], socket[64];

    /* thread's own: served calls, the posted one among them, and whether gRPC has shut down. The
     * shutdown does not wait for the events of calls that it broke off. */
    size_t alive;
    bool shut;

    /* Under the lock. */
    pthread_mutex_t lock;
    struct packed_step once[MAX_STEPS], always[MAX_METHODS];
    size_t once_count, always_count;
    struct method_log log[MAX_METHODS];
    size_t log_count;
    char namespace_name[64];
    int64_t deadline_ms;
};

struct served {
    enum { ARRIVING, READING, ANSWERING, ENDING } stage;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *request;
    struct packed_step step; /* a copy: the script may be changed meanwhile */
    bool has_step;
    size_t sent;
    int cancelled;
};

/* ---- the script ---- */

static grpc_slice pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));

    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    return slice;
}

static void wrap(Google__Protobuf__Any *any, const char *url, const ProtobufCMessage *message,
                 uint8_t *room)
{
    google__protobuf__any__init(any);
    any->type_url = (char *)(uintptr_t)url;
    assert(protobuf_c_message_get_packed_size(message) <= 2048);
    any->value.data = room;
    any->value.len = protobuf_c_message_pack(message, room);
}

static grpc_slice pack_details(const struct script_step *step)
{
    Google__Rpc__BadRequest__FieldViolation violation =
        GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};
    Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
    Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;
    Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry entry = GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry *entries[] = {&entry};
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    Google__Protobuf__Any any[3], *list[3] = {&any[0], &any[1], &any[2]};
    uint8_t room[3][2048];

    if (step->garbled_details)
        return grpc_slice_from_copied_string("\xff\xff\xff");
    if (step->field != NULL) {
        violation.field = (char *)(uintptr_t)step->field;
        bad.n_field_violations = 1;
        bad.field_violations = violations;
        wrap(&any[status.n_details++], "type.googleapis.com/google.rpc.BadRequest", &bad.base,
             room[0]);
    }
    if (step->subject != NULL || step->effect != NULL) {
        entry.key = step->effect != NULL ? "effect" : "subject";
        entry.value = (char *)(uintptr_t)(step->effect != NULL ? step->effect : step->subject);
        info.domain = (char *)(uintptr_t) "prism";
        info.n_metadata = 1;
        info.metadata = entries;
        wrap(&any[status.n_details++], "type.googleapis.com/google.rpc.ErrorInfo", &info.base,
             room[1]);
    }
    if (step->retry_after_ms > 0) {
        delay.seconds = step->retry_after_ms / 1000;
        delay.nanos = (int32_t)(step->retry_after_ms % 1000) * 1000000;
        retry.retry_delay = &delay;
        wrap(&any[status.n_details++], "type.googleapis.com/google.rpc.RetryInfo", &retry.base,
             room[2]);
    }
    if (status.n_details == 0)
        return grpc_empty_slice();
    status.code = step->status;
    status.details = list;
    return pack(&status.base);
}

static void step_pack(struct packed_step *to, const struct script_step *step)
{
    memset(to, 0, sizeof *to);
    snprintf(to->method, sizeof to->method, "%s", step->method);
    snprintf(to->text, sizeof to->text, "%s", step->text != NULL ? step->text : "");
    to->status = step->status;
    to->hang = step->hang;
    to->details = pack_details(step);
    while (to->message_count < SCRIPT_MAX_MESSAGES && step->messages[to->message_count] != NULL) {
        to->messages[to->message_count] = pack(step->messages[to->message_count]);
        to->message_count++;
    }
    if (step->garbage > 0) {
        to->messages[0] = grpc_slice_malloc(step->garbage);
        memset(GRPC_SLICE_START_PTR(to->messages[0]), 0xff, step->garbage);
        to->message_count = 1;
    }
}

static void step_clear(struct packed_step *step)
{
    for (size_t i = 0; i < step->message_count; i++)
        grpc_slice_unref(step->messages[i]);
    grpc_slice_unref(step->details);
}

void script_once(struct script_server *server, struct script_step step)
{
    pthread_mutex_lock(&server->lock);
    assert(server->once_count < MAX_STEPS);
    step_pack(&server->once[server->once_count++], &step);
    pthread_mutex_unlock(&server->lock);
}

void script_always(struct script_server *server, struct script_step step)
{
    size_t i = 0;

    pthread_mutex_lock(&server->lock);
    while (i < server->always_count && strcmp(server->always[i].method, step.method) != 0)
        i++;
    if (i < server->always_count)
        step_clear(&server->always[i]);
    else
        assert(++server->always_count <= MAX_METHODS);
    step_pack(&server->always[i], &step);
    pthread_mutex_unlock(&server->lock);
}

static const struct packed_step *find_step(struct script_server *server, const char *method)
{
    for (size_t i = 0; i < server->once_count; i++) {
        struct packed_step *step = &server->once[i];

        if (!step->used && strcmp(step->method, method) == 0) {
            step->used = true;
            return step;
        }
    }
    for (size_t i = 0; i < server->always_count; i++) {
        if (strcmp(server->always[i].method, method) == 0)
            return &server->always[i];
    }
    return NULL;
}

static void copy_step(struct served *served, const struct packed_step *step)
{
    if (step == NULL) {
        served->step.status = GRPC_STATUS_UNIMPLEMENTED;
        served->step.details = grpc_empty_slice();
        return;
    }
    served->step = *step;
    grpc_slice_ref(step->details);
    for (size_t i = 0; i < step->message_count; i++)
        grpc_slice_ref(step->messages[i]);
}

/* ---- what was asked ---- */

static struct method_log *log_of(struct script_server *server, const char *method)
{
    size_t i = 0;

    while (i < server->log_count && strcmp(server->log[i].method, method) != 0)
        i++;
    if (i == server->log_count) {
        assert(++server->log_count <= MAX_METHODS);
        snprintf(server->log[i].method, sizeof server->log[i].method, "%s", method);
        server->log[i].latest = grpc_empty_slice();
    }
    return &server->log[i];
}

unsigned script_calls(struct script_server *server, const char *method)
{
    unsigned calls;

    pthread_mutex_lock(&server->lock);
    calls = log_of(server, method)->calls;
    pthread_mutex_unlock(&server->lock);
    return calls;
}

ProtobufCMessage *script_request(struct script_server *server, const char *method,
                                 const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *message;
    grpc_slice bytes;

    pthread_mutex_lock(&server->lock);
    bytes = log_of(server, method)->latest;
    message = protobuf_c_message_unpack(descriptor, NULL, GRPC_SLICE_LENGTH(bytes),
                                        GRPC_SLICE_START_PTR(bytes));
    pthread_mutex_unlock(&server->lock);
    return message;
}

void script_last_namespace(struct script_server *server, char *to, size_t size)
{
    pthread_mutex_lock(&server->lock);
    snprintf(to, size, "%s", server->namespace_name);
    pthread_mutex_unlock(&server->lock);
}

int64_t script_last_deadline_ms(struct script_server *server)
{
    int64_t deadline_ms;

    pthread_mutex_lock(&server->lock);
    deadline_ms = server->deadline_ms;
    pthread_mutex_unlock(&server->lock);
    return deadline_ms;
}

static const char *method_of(const struct served *served, char *to, size_t size)
{
    const char *path = (const char *)GRPC_SLICE_START_PTR(served->details.method);
    size_t len = GRPC_SLICE_LENGTH(served->details.method), start = len;

    while (start > 0 && path[start - 1] != '/')
        start--;
    snprintf(to, size, "%.*s", (int)(len - start), path + start);
    return to;
}

static void record(struct script_server *server, struct served *served, const char *method)
{
    struct method_log *log = log_of(server, method);
    gpr_timespec now = gpr_now(served->details.deadline.clock_type);
    grpc_byte_buffer_reader reader;

    log->calls++;
    grpc_slice_unref(log->latest);
    log->latest = grpc_empty_slice();
    if (served->request != NULL && grpc_byte_buffer_reader_init(&reader, served->request)) {
        log->latest = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    server->deadline_ms = gpr_time_to_millis(gpr_time_sub(served->details.deadline, now));
    server->namespace_name[0] = '\0';
    for (size_t i = 0; i < served->metadata.count; i++) {
        const grpc_metadata *m = &served->metadata.metadata[i];

        if (grpc_slice_str_cmp(m->key, "x-prism-namespace") == 0)
            snprintf(server->namespace_name, sizeof server->namespace_name, "%.*s",
                     (int)GRPC_SLICE_LENGTH(m->value),
                     (const char *)GRPC_SLICE_START_PTR(m->value));
    }
}

/* ---- serving ---- */

static void start(struct served *served, const grpc_op *ops, size_t n)
{
    grpc_call_error failed = grpc_call_start_batch(served->call, ops, n, served, NULL);

    assert(failed == GRPC_CALL_OK);
    (void)failed;
}

static void post(struct script_server *server)
{
    struct served *served = calloc(1, sizeof *served);

    assert(served != NULL);
    server->alive++;
    grpc_call_details_init(&served->details);
    grpc_metadata_array_init(&served->metadata);
    grpc_server_request_call(server->grpc, &served->call, &served->details, &served->metadata,
                             server->queue, server->queue, served);
}

static void read_request(struct served *served)
{
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_RECV_MESSAGE}};

    ops[1].data.recv_message.recv_message = &served->request;
    served->stage = READING;
    start(served, ops, 2);
}

static void send_status(struct served *served)
{
    grpc_op ops[2] = {{.op = GRPC_OP_RECV_CLOSE_ON_SERVER},
                      {.op = GRPC_OP_SEND_STATUS_FROM_SERVER}};
    const struct packed_step *step = &served->step;
    grpc_slice text = grpc_slice_from_copied_string(step->text);
    grpc_metadata detail = {.key = grpc_slice_from_static_string("grpc-status-details-bin"),
                            .value = step->details};

    ops[0].data.recv_close_on_server.cancelled = &served->cancelled;
    ops[1].data.send_status_from_server.status = (grpc_status_code)step->status;
    ops[1].data.send_status_from_server.status_details = &text;
    ops[1].data.send_status_from_server.trailing_metadata = &detail;
    ops[1].data.send_status_from_server.trailing_metadata_count =
        GRPC_SLICE_LENGTH(step->details) > 0;
    served->stage = ENDING;
    start(served, ops, step->hang ? 1 : 2);
    grpc_slice_unref(text);
}

static void answer(struct served *served)
{
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    grpc_byte_buffer *message;

    if (served->sent == served->step.message_count) {
        send_status(served);
        return;
    }
    message = grpc_raw_byte_buffer_create(&served->step.messages[served->sent++], 1);
    op.data.send_message.send_message = message;
    served->stage = ANSWERING;
    start(served, &op, 1);
    grpc_byte_buffer_destroy(message);
}

static void decide(struct script_server *server, struct served *served)
{
    char method[32];

    method_of(served, method, sizeof method);
    pthread_mutex_lock(&server->lock);
    record(server, served, method);
    copy_step(served, find_step(server, method));
    served->has_step = true;
    pthread_mutex_unlock(&server->lock);
    answer(served);
}

static void release(struct script_server *server, struct served *served)
{
    server->alive--;
    if (served->request != NULL)
        grpc_byte_buffer_destroy(served->request);
    if (served->has_step)
        step_clear(&served->step);
    grpc_call_details_destroy(&served->details);
    grpc_metadata_array_destroy(&served->metadata);
    if (served->call != NULL)
        grpc_call_unref(served->call);
    free(served);
}

static void on_event(struct script_server *server, struct served *served, bool success)
{
    if (served->stage == ARRIVING && success) {
        post(server);
        read_request(served);
    } else if (served->stage == READING && success) {
        decide(server, served);
    } else if (served->stage == ANSWERING) {
        answer(served); /* also for a client that is gone: the status ends the call */
    } else {
        release(server, served);
    }
}

static void *serve(void *arg)
{
    struct script_server *server = arg;

    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (event.tag == server)
            server->shut = true;
        else
            on_event(server, event.tag, event.success != 0);
        if (server->shut && server->alive == 0)
            grpc_completion_queue_shutdown(server->queue);
    }
}

struct script_server *script_server_start(int port)
{
    struct script_server *server = calloc(1, sizeof *server);
    grpc_server_credentials *credentials;
    char address[96];

    assert(server != NULL);
    grpc_init();
    pthread_mutex_init(&server->lock, NULL);
    server->grpc = grpc_server_create(NULL, NULL);
    server->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->grpc, server->queue, NULL);
    credentials = grpc_insecure_server_credentials_create();
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    server->port = grpc_server_add_http2_port(server->grpc, address, credentials);
    assert(server->port > 0);
    snprintf(server->folder, sizeof server->folder, "/tmp/prism-script-XXXXXX");
    assert(mkdtemp(server->folder) != NULL);
    snprintf(server->socket, sizeof server->socket, "%s/s", server->folder);
    snprintf(address, sizeof address, "unix:%s", server->socket);
    assert(grpc_server_add_http2_port(server->grpc, address, credentials) > 0);
    grpc_server_credentials_release(credentials);
    snprintf(server->target, sizeof server->target, "127.0.0.1:%d", server->port);
    grpc_server_start(server->grpc);
    post(server);
    pthread_create(&server->thread, NULL, serve, server);
    return server;
}

void script_server_stop(struct script_server *server)
{
    grpc_server_shutdown_and_notify(server->grpc, server->queue, server);
    grpc_server_cancel_all_calls(server->grpc);
    pthread_join(server->thread, NULL);
    grpc_server_destroy(server->grpc);
    grpc_completion_queue_destroy(server->queue);
    for (size_t i = 0; i < server->once_count; i++)
        step_clear(&server->once[i]);
    for (size_t i = 0; i < server->always_count; i++)
        step_clear(&server->always[i]);
    for (size_t i = 0; i < server->log_count; i++)
        grpc_slice_unref(server->log[i].latest);
    unlink(server->socket); /* gRPC may have done it */
    rmdir(server->folder);
    pthread_mutex_destroy(&server->lock);
    free(server);
    grpc_shutdown();
}

int script_server_port(const struct script_server *server)
{
    return server->port;
}

const char *script_server_target(const struct script_server *server)
{
    return server->target;
}

const char *script_server_socket(const struct script_server *server)
{
    return server->socket;
}
