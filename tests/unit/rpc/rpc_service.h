/* The service of the tests of src/rpc, with a handler for each kind of call, and a server that
 * serves it. No backend takes part. Included by one file of each test program. */
#ifndef PRISM_TESTS_UNIT_RPC_SERVICE_H
#define PRISM_TESTS_UNIT_RPC_SERVICE_H

#include "src/base/block.h"
#include "tests/unit/rpc/rpc_fixture.h"

#include <pthread.h>
#include <sched.h>

typedef Prism__Patterns__Keyvalue__StoreRequest Request;
typedef Prism__Patterns__Keyvalue__StoreResponse Response;

enum { SERVICE_METHODS = 14, INLINE_BYTES = 4096, BIG_BYTES = 6 << 20 };
enum { STUBBORN_MS = 200, HOLD_MS = 1100 };

#include "tests/unit/rpc/rpc_ahead.h"

/* ---- handlers ---- */

static void reply_ok(struct call *call)
{
    Response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    const Request *request = call_request(call);

    response.success = 1;
    response.error = arena_printf(call_arena(call), "%s", request->key);
    call_reply(call, &response.base);
}

static void echo(struct call *call)
{
    reply_ok(call);
}

static void fail_field(struct call *call)
{
    call_fail(call, err_about(ERR_INVALID_ARGUMENT, "key", "key must not be empty"));
}

/* An op that only ends when it is cancelled or let go by release_parked(). */
struct parked {
    struct op op;
    struct call *call;
};

static _Atomic int parked_now, cancelled_ops;

static void parked_cancel(struct op *op, struct err why)
{
    atomic_fetch_add(&cancelled_ops, 1);
    op_finish(op, why);
}

static void parked_done(struct op *op)
{
    struct parked *p = CONTAINER_OF(op, struct parked, op);

    atomic_fetch_sub(&parked_now, 1);
    call_fail(p->call, op->err);
}

static void park(struct call *call)
{
    struct parked *p = arena_zalloc(call_arena(call), sizeof *p);

    p->call = call;
    call_start(call, &p->op, parked_done);
    atomic_fetch_add(&parked_now, 1);
    op_park(&p->op, parked_cancel);
}

/* Answers with BIG_BYTES: more than the 4 MB window of a client, so that it leaves when it is read.
 */
static _Atomic int big_answers;

static void make_big(struct call *call, Response *response)
{
    prism__patterns__keyvalue__store_response__init(response);
    response->_error_case = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___ERROR_ERROR;
    response->error = arena_alloc(call_arena(call), BIG_BYTES + 1);
    memset(response->error, 'b', BIG_BYTES);
    response->error[BIG_BYTES] = '\0';
}

static void big(struct call *call)
{
    Response response;

    make_big(call, &response);
    call_reply(call, &response.base);
    atomic_fetch_add(&big_answers, 1);
}

/* The same by a method that has changed nothing. */
static void big_read(struct call *call)
{
    Response response;

    make_big(call, &response);
    call_reply_read(call, &response.base);
    atomic_fetch_add(&big_answers, 1);
}

/* And as the only message of a stream. */
struct big_stream {
    struct op sent;
    struct call *call;
};

static void big_stream_sent(struct op *op)
{
    struct big_stream *s = CONTAINER_OF(op, struct big_stream, sent);

    if (op->err.code != ERR_OK)
        call_fail(s->call, op->err);
    else
        call_close(s->call);
}

static void big_stream(struct call *call)
{
    struct big_stream *s = arena_zalloc(call_arena(call), sizeof *s);
    Response response;

    s->call = call;
    make_big(call, &response);
    call_send(call, &response.base, &s->sent, big_stream_sent);
    atomic_fetch_add(&big_answers, 1);
}

/* An op whose backend takes its time to let go. */
struct stubborn {
    struct parked parked;
    struct timer timer;
};

static void stubborn_lets_go(struct timer *timer)
{
    op_finish(&CONTAINER_OF(timer, struct stubborn, timer)->parked.op,
              err_make(ERR_CANCELLED, "at last"));
}

static void stubborn_cancel(struct op *op, struct err why)
{
    struct stubborn *s = CONTAINER_OF(op, struct stubborn, parked.op);

    (void)why;
    atomic_fetch_add(&cancelled_ops, 1);
    timer_arm(&op->group->home->timers, &s->timer, clock_now_ns() + STUBBORN_MS * NS_PER_MS,
              stubborn_lets_go);
}

static void stubborn(struct call *call)
{
    struct stubborn *s = arena_zalloc(call_arena(call), sizeof *s);

    s->parked.call = call;
    call_start(call, &s->parked.op, parked_done);
    atomic_fetch_add(&parked_now, 1);
    op_park(&s->parked.op, stubborn_cancel);
}

/* As many messages as the request's value has bytes. */
struct stream {
    struct op sent;
    struct call *call;
    size_t left;
};

static void stream_next(struct op *op)
{
    struct stream *s = CONTAINER_OF(op, struct stream, sent);
    Response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;

    if (op->err.code != ERR_OK) {
        call_fail(s->call, op->err);
        return;
    }
    if (s->left == 0) {
        call_close(s->call);
        return;
    }
    response.code = (int32_t)s->left--;
    call_send(s->call, &response.base, &s->sent, stream_next);
}

static void stream_many(struct call *call)
{
    const Request *request = call_request(call);
    struct stream *s = arena_zalloc(call_arena(call), sizeof *s);

    s->call = call;
    s->left = request->value.len;
    stream_next(&s->sent);
}

static void told(struct call *call, void *arg)
{
    (void)arg;
    atomic_fetch_add(&cancelled_ops, 1);
    call_fail(call, err_make(ERR_UNAVAILABLE, "told"));
}

static _Atomic int drains;

/* Hears of the drain, asks again, hears of it again, and goes on waiting for its client. */
static void stay(struct call *call, void *arg)
{
    (void)arg;
    if (atomic_fetch_add(&drains, 1) == 0)
        call_on_drain(call, stay, NULL);
}

static void wait_for_ever(struct call *call)
{
    const Request *request = call_request(call);

    atomic_fetch_add(&parked_now, 1);
    call_on_cancel(call, told, NULL);
    call_on_drain(call, strcmp(request->key, "stay") == 0 ? stay : told, NULL);
}

/* Headers first, and with the key "hold" nothing else; else one payload, PARTS_SENT times, by
 * reference, between an encoded head and tail. */
enum { PARTS_SENT = 3, PARTS_PAYLOAD = 100 * 1024 };

static _Atomic int blocks_disposed;

struct parts {
    struct call *call;
    struct op sent;
    struct block *payload;
    int left;
};

static void dispose_payload(struct block *block)
{
    free((void *)(uintptr_t)block->bytes.data);
    free(block);
    atomic_fetch_add(&blocks_disposed, 1);
}

static void parts_next(struct op *op)
{
    struct parts *p = CONTAINER_OF(op, struct parts, sent);
    /* StoreResponse: error (2) and code (3). */
    uint8_t head[] = {0x12, 0x80, 0xa0, 0x06}, tail[] = {0x18, (uint8_t)p->left};
    struct call_part list[] = {{.bytes = slice_of(head, sizeof head)},
                               {.bytes = p->payload->bytes, .block = p->payload},
                               {.bytes = slice_of(tail, sizeof tail)}};

    if (op->err.code == ERR_OK && p->left-- > 0) {
        call_send_parts(p->call, list, 3, &p->sent, parts_next);
        return;
    }
    block_unref(p->payload);
    if (op->err.code != ERR_OK)
        call_fail(p->call, op->err);
    else
        call_close(p->call);
}

static void send_parts(struct call *call)
{
    const Request *request = call_request(call);
    struct parts *p = arena_zalloc(call_arena(call), sizeof *p);

    call_headers(call, "x-prism-subscription-id", slice_str("s-1"));
    if (strcmp(request->key, "hold") == 0) {
        call_on_cancel(call, told, NULL);
        return;
    }
    p->call = call;
    p->left = PARTS_SENT;
    p->payload = calloc(1, sizeof *p->payload);
    block_init(p->payload,
               slice_of(memset(malloc(PARTS_PAYLOAD), 'p', PARTS_PAYLOAD), PARTS_PAYLOAD),
               dispose_payload);
    parts_next(&p->sent);
}

/* Echoes each message until the client half-closes; key "end" ends at once, with a receive left
 * outstanding. */
struct bidi {
    struct call *call;
    struct call_receive receive, extra;
    struct op sent;
};

static _Atomic int bidi_half_closed, bidi_failed, bidi_messages;

static void bidi_received(struct op *op);

static void bidi_ignored(struct op *op)
{
    (void)op;
    abort(); /* the call has ended: nobody is called */
}

static void bidi_sent(struct op *op)
{
    struct bidi *b = CONTAINER_OF(op, struct bidi, sent);

    if (op->err.code != ERR_OK)
        call_fail(b->call, op->err);
    else
        call_receive(b->call, &b->receive, bidi_received);
}

static void bidi_received(struct op *op)
{
    struct bidi *b = CONTAINER_OF(op, struct bidi, receive.op);
    const Request *request = (const Request *)(const void *)b->receive.message;
    Response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;

    if (op->err.code != ERR_OK) {
        atomic_fetch_add(&bidi_failed, 1);
        call_fail(b->call, op->err);
    } else if (request == NULL) {
        atomic_fetch_add(&bidi_half_closed, 1);
        call_close(b->call);
    } else if (strcmp(request->key, "end") == 0) {
        call_receive(b->call, &b->extra, bidi_ignored);
        call_close(b->call);
    } else {
        atomic_fetch_add(&bidi_messages, 1);
        response.error = request->key;
        call_send(b->call, &response.base, &b->sent, bidi_sent);
    }
}

static void bidi(struct call *call)
{
    struct bidi *b = arena_zalloc(call_arena(call), sizeof *b);

    b->call = call;
    call_receive(call, &b->receive, bidi_received);
}

#define REQUEST  &prism__patterns__keyvalue__store_request__descriptor
#define RESPONSE &prism__patterns__keyvalue__store_response__descriptor

/* On the poller, which does nothing else meanwhile: until let_go is set; with a key, until HOLD_MS
 * have passed. */
static _Atomic int held, let_go;

static void hold(struct call *call)
{
    const Request *request = call_request(call);
    uint64_t end = clock_now_ns() + HOLD_MS * NS_PER_MS;
    bool timed = *request->key != '\0';

    atomic_fetch_add(&held, 1);
    while (timed ? clock_now_ns() < end : atomic_load(&let_go) == 0)
        sched_yield();
    reply_ok(call);
}

static const struct method methods[SERVICE_METHODS] = {
    {"/test.Service/Echo", METHOD_UNARY, true, REQUEST, RESPONSE, echo, NULL},
    {"/test.Service/Park", METHOD_UNARY, false, REQUEST, RESPONSE, park, NULL},
    {"/test.Service/Fail", METHOD_UNARY, false, REQUEST, RESPONSE, fail_field, NULL},
    {"/test.Service/Stream", METHOD_SERVER_STREAM, false, REQUEST, RESPONSE, stream_many, NULL},
    {"/test.Service/Wait", METHOD_SERVER_STREAM, false, REQUEST, RESPONSE, wait_for_ever, NULL},
    {"/test.Service/Bidi", METHOD_BIDI, false, REQUEST, RESPONSE, bidi, NULL},
    {"/test.Service/Big", METHOD_UNARY, false, REQUEST, RESPONSE, big, NULL},
    {"/test.Service/Stubborn", METHOD_UNARY, false, REQUEST, RESPONSE, stubborn, NULL},
    {"/test.Service/Old", METHOD_UNARY, false, REQUEST, RESPONSE, echo, "test.Service.Echo"},
    {"/test.Service/Read", METHOD_UNARY, false, REQUEST, RESPONSE, big_read, NULL},
    {"/test.Service/ReadStream", METHOD_SERVER_STREAM, false, REQUEST, RESPONSE, big_stream, NULL},
    {"/test.Service/Parts", METHOD_SERVER_STREAM, false, REQUEST, RESPONSE, send_parts, NULL},
    {"/test.Service/Ahead", METHOD_SERVER_STREAM, false, REQUEST, RESPONSE, send_ahead, NULL},
    {"/test.Service/Older", METHOD_UNARY, false, REQUEST, RESPONSE, echo, "test.Service.Echo"},
};

static const struct service service = {"test.Service", "test", methods, SERVICE_METHODS};

/* One that belongs to no pattern, as health does. */
static const struct method general_methods[] = {
    {"/test.General/Check", METHOD_UNARY, false, REQUEST, RESPONSE, echo, NULL},
    {"/test.General/Hold", METHOD_UNARY, false, REQUEST, RESPONSE, hold, NULL},
};

static const struct service general = {"test.General", NULL, general_methods, 2};

/* ---- fixture ---- */

struct fixture {
    struct pool *pool;
    struct rpc_server *server;
    struct client client;
    char target[64];
};

static inline struct rpc_options default_options(void)
{
    return (struct rpc_options){.listen = "127.0.0.1:0",
                                .coalesce = RPC_COALESCE_BUFFER,
                                .dispatch = RPC_DISPATCH_AUTO,
                                .max_message_bytes = 1 << 20,
                                .max_inflight_calls = 1000,
                                .max_inflight_bytes = 64 << 20,
                                .deprecated_services = true};
}

static inline void start(struct fixture *f, const struct rpc_options *options, unsigned workers,
                         uint32_t intake)
{
    static int channel;
    const struct service *services[] = {&service, &general};
    struct pool_options pool_options = {.workers = workers, .intake_depth = intake};
    static const uint32_t inline_bytes[SERVICE_METHODS] = {
        INLINE_BYTES, INLINE_BYTES, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint32_t general_bytes[] = {0, INLINE_BYTES};
    struct rpc_instance instances[8];

    atomic_store(&parked_now, 0);
    atomic_store(&cancelled_ops, 0);
    atomic_store(&big_answers, 0);
    atomic_store(&bidi_half_closed, 0);
    atomic_store(&bidi_failed, 0);
    atomic_store(&bidi_messages, 0);
    atomic_store(&held, 0);
    atomic_store(&drains, 0);
    atomic_store(&blocks_disposed, 0);
    atomic_store(&let_go, 0);
    assert_int_equal(pool_start(&f->pool, &pool_options).code, ERR_OK);
    assert_int_equal(rpc_server_new(&f->server, options, f->pool, services, 2).code, ERR_OK);
    for (unsigned i = 0; i <= workers; i++)
        instances[i] = (struct rpc_instance){.pattern = f, .inline_bytes = inline_bytes};
    rpc_server_bind(f->server, &service, "default", instances);
    for (unsigned i = 0; i <= workers; i++)
        instances[i].inline_bytes = general_bytes;
    rpc_server_bind(f->server, &general, NULL, instances);
    assert_int_equal(rpc_server_start(f->server).code, ERR_OK);
    snprintf(f->target, sizeof f->target, "127.0.0.1:%d", rpc_server_port(f->server));
    client_open(&f->client, f->target, ++channel);
}

static inline void stop(struct fixture *f)
{
    client_close(&f->client);
    rpc_server_stop(f->server);
    pool_stop(f->pool);
    rpc_server_destroy(f->server);
}

static inline uint64_t metric(const struct fixture *f, const char *line)
{
    struct metrics_page page;
    uint64_t value = UINT64_MAX;

    metrics_page_init(&page);
    rpc_server_render(f->server, &page);

    const char *at = memmem(page.text, page.len, line, strlen(line));

    if (at != NULL)
        value = strtoull(at + strlen(line), NULL, 10);
    metrics_page_clear(&page);
    return value;
}

/* Calls accepted and not yet answered. */
static inline uint64_t in_flight(const struct fixture *f)
{
    return metric(f, "\nprism_rpc_in_flight ");
}

static inline void until_metric(const struct fixture *f, const char *line, uint64_t wanted)
{
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;

    while (metric(f, line) != wanted) {
        assert_true(clock_now_ns() < end);
        sched_yield();
    }
}

static inline void until_in_flight(const struct fixture *f, uint64_t wanted)
{
    until_metric(f, "\nprism_rpc_in_flight ", wanted);
}

static inline void until(_Atomic int *value, int wanted)
{
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;

    while (atomic_load(value) != wanted) {
        assert_true(clock_now_ns() < end);
        sched_yield();
    }
}

#endif
