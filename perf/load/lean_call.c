/* HTTP/2 side of the lean client: one nghttp2 session per connection, one stream per call.
 *
 * Happy path: submit_call() hands headers and a data source to the session; read_request() copies
 * the message into DATA frames as flow control allows; on_data() gathers the reply, on_header()
 * notes grpc-status in the trailers; on_close() judges the reply and reports the end. Failure: a
 * reset stream, a status other than 0, a missing status or a reply that does not parse end the call
 * with ok = false and leave the reason in the client's error text. */
#include "perf/load/lean_priv.h"

#include "perf/common/clock.h"
#include "perf/common/memory.h"

#include <string.h>

/* Large enough that window updates are rare and never hold a reply back. */
enum { STREAM_WINDOW_BYTES = 1 << 28, CONNECTION_WINDOW_BYTES = 1 << 30, REPLY_ROOM = 512 };

static ssize_t read_request(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct lean_call *call = source->ptr;
    size_t left = call->request_bytes - call->sent_bytes;
    size_t bytes = left < room ? left : room;

    (void)session;
    (void)stream_id;
    (void)arg;
    memcpy(out, call->request + call->sent_bytes, bytes);
    call->sent_bytes += bytes;
    if (call->sent_bytes == call->request_bytes)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)bytes;
}

static void write_request(struct lean_call *call)
{
    struct workload *w = call->workload;
    size_t room = workload_request_bytes_max(w) + LEAN_MESSAGE_PREFIX;

    if (call->request_room < room) {
        call->request = memory_grow(call->request, room);
        call->request_room = room;
    }
    size_t bytes = call->operation->write(w, call->request + LEAN_MESSAGE_PREFIX);
    call->request[0] = 0;
    for (unsigned i = 0; i < 4; i++)
        call->request[1 + i] = (uint8_t)(bytes >> (24 - 8 * i));
    call->request_bytes = bytes + LEAN_MESSAGE_PREFIX;
    call->sent_bytes = 0;
}

/* The session needs headers to open a stream; what is sent is lean_write_headers()'s. */
static bool submit_call(struct lean_call *call)
{
    static const nghttp2_nv any = {
        .name = (uint8_t *)(uintptr_t) ":method",
        .value = (uint8_t *)(uintptr_t) "POST",
        .namelen = 7,
        .valuelen = 4,
        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,
    };
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = read_request};

    return nghttp2_submit_request(call->connection->session, NULL, &any, 1, &body, call) > 0;
}

size_t lean_write_headers(struct lean_connection *k, const uint8_t *frame, uint8_t *out)
{
    uint32_t id =
        (uint32_t)frame[5] << 24 | (uint32_t)frame[6] << 16 | (uint32_t)frame[7] << 8 | frame[8];
    const struct lean_call *call = nghttp2_session_get_stream_user_data(k->session, (int32_t)id);

    return lean_headers_write(frame, call->operation->path, &k->indexed_path, out);
}

bool lean_start(struct client *base, unsigned connection, uint64_t started_ns)
{
    struct lean_connection *k = &((struct lean_client *)base)->connections[connection];
    struct lean_call *call = k->free;

    if (call == NULL)
        return false;
    call->operation = base->operation;
    call->workload = base->workload;
    call->started_ns = started_ns;
    call->reply_bytes = 0;
    call->grpc_status = -1;
    write_request(call);
    if (!submit_call(call))
        return client_fail(base, "nghttp2 refused a request");
    k->free = call->next_free;
    k->queued = true;
    return true;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t bytes, void *arg)
{
    struct lean_call *call = nghttp2_session_get_stream_user_data(session, stream_id);

    (void)flags;
    (void)arg;
    if (call == NULL)
        return 0;
    if (call->reply_room - call->reply_bytes < bytes) {
        call->reply_room = (call->reply_bytes + bytes) * 2;
        call->reply = memory_grow(call->reply, call->reply_room);
    }
    memcpy(call->reply + call->reply_bytes, data, bytes);
    call->reply_bytes += bytes;
    return 0;
}

static bool is(const uint8_t *name, size_t bytes, const char *other, size_t other_bytes)
{
    return bytes == other_bytes && memcmp(name, other, bytes) == 0;
}

#define IS(name, bytes, text) is(name, bytes, text, sizeof(text) - 1)

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_bytes, const uint8_t *value, size_t value_bytes, uint8_t flags,
                     void *arg)
{
    struct lean_connection *k = arg;
    int shown = value_bytes < 120 ? (int)value_bytes : 120;

    (void)flags;
    if (IS(name, name_bytes, "grpc-status")) {
        struct lean_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (call != NULL)
            call->grpc_status = value_bytes == 1 && value[0] == '0' ? 0 : 1;
        if (call != NULL && call->grpc_status != 0)
            client_fail(&k->client->base, "%s: grpc-status %.*s", call->operation->path, shown,
                        (const char *)value);
    } else if (IS(name, name_bytes, ":status") && !IS(value, value_bytes, "200")) {
        client_fail(&k->client->base, "HTTP status %.*s", shown, (const char *)value);
    }
    return 0;
}

/* Every message of the reply, each with its prefix. */
static bool judge_reply(const struct lean_call *call, struct operation_outcome *outcome)
{
    const uint8_t *at = call->reply;
    size_t left = call->reply_bytes;
    unsigned messages = 0;

    while (left >= LEAN_MESSAGE_PREFIX && at[0] == 0) {
        size_t bytes = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
        if (bytes > left - LEAN_MESSAGE_PREFIX)
            return false;
        if (!call->operation->judge(call->workload, at + LEAN_MESSAGE_PREFIX, bytes, outcome))
            return false;
        at += LEAN_MESSAGE_PREFIX + bytes;
        left -= LEAN_MESSAGE_PREFIX + bytes;
        messages++;
    }
    if (left != 0 || (!call->operation->streams && messages != 1))
        return false;
    return !call->operation->every_key_found || outcome->hits == outcome->items;
}

static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t code, void *arg)
{
    struct lean_connection *k = arg;
    struct client *c = &k->client->base;
    struct lean_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    struct client_end end = {.ended_ns = clock_now_ns(), .connection = k->index};

    if (call == NULL)
        return 0;
    end.started_ns = call->started_ns;
    if (code != NGHTTP2_NO_ERROR)
        client_fail(c, "%s: stream reset, code %u", call->operation->path, code);
    else if (call->grpc_status == -1)
        client_fail(c, "%s: no grpc-status", call->operation->path);
    else if (call->grpc_status == 0)
        end.ok = judge_reply(call, &end.outcome);
    if (!end.ok)
        client_fail(c, "%s: unexpected reply of %zu bytes", call->operation->path,
                    call->reply_bytes);
    call->next_free = k->free;
    k->free = call;
    client_ended(c, &end);
    return 0;
}

static void check_settings(struct lean_connection *k, const nghttp2_settings *settings)
{
    for (size_t i = 0; i < settings->niv; i++) {
        if (settings->iv[i].settings_id == NGHTTP2_SETTINGS_HEADER_TABLE_SIZE &&
            settings->iv[i].value < LEAN_TABLE_BYTES)
            client_fail(&k->client->base, "the server's header table has only %u bytes",
                        settings->iv[i].value);
    }
    k->has_settings = true;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct lean_connection *k = arg;

    (void)session;
    if (frame->hd.type == NGHTTP2_SETTINGS && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0)
        check_settings(k, &frame->settings);
    if (frame->hd.type == NGHTTP2_GOAWAY)
        client_fail(&k->client->base, "the server sent GOAWAY, code %u", frame->goaway.error_code);
    return 0;
}

static int new_session(struct lean_connection *k)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int bad = nghttp2_session_callbacks_new(&callbacks);

    if (bad == 0)
        bad = nghttp2_option_new(&option);
    if (bad == 0) {
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        /* The server under test is trusted to speak HTTP; checking it again costs CPU per header.
         */
        nghttp2_option_set_no_http_messaging(option, 1);
        nghttp2_option_set_peer_max_concurrent_streams(option, UINT32_MAX);
        bad = nghttp2_session_client_new2(&k->session, callbacks, k, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return bad;
}

bool lean_session_open(struct lean_connection *k)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
    };
    unsigned calls = k->client->base.options.calls_per_connection;

    if (new_session(k) != 0)
        return false;
    k->calls = memory_zalloc(calls, sizeof *k->calls);
    for (unsigned i = calls; i-- > 0;) {
        struct lean_call *call = &k->calls[i];
        call->connection = k;
        call->reply = memory_zalloc(REPLY_ROOM, 1);
        call->reply_room = REPLY_ROOM;
        call->next_free = k->free;
        k->free = call;
    }
    k->queued = true;
    return nghttp2_submit_settings(k->session, NGHTTP2_FLAG_NONE, settings,
                                   sizeof settings / sizeof settings[0]) == 0 &&
           nghttp2_session_set_local_window_size(k->session, NGHTTP2_FLAG_NONE, 0,
                                                 CONNECTION_WINDOW_BYTES) == 0;
}

void lean_session_close(struct lean_connection *k)
{
    nghttp2_session_del(k->session);
    for (unsigned i = 0; k->calls != NULL && i < k->client->base.options.calls_per_connection;
         i++) {
        free(k->calls[i].request);
        free(k->calls[i].reply);
    }
    free(k->calls);
}
