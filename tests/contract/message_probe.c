/* Subscriptions that copy all they are told. */
#include "tests/contract/message_contract.h"

#include "src/base/container.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- events: on the worker ---- */

static struct probe *probe_of(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct probe, subscription);
}

static void fault_if(struct probe *probe, bool broken, const char *what)
{
    if (broken && probe->fault == NULL)
        probe->fault = what;
}

static void on_delayed(struct subscription *subscription, const char *why)
{
    struct probe *probe = probe_of(subscription);

    pthread_mutex_lock(&probe->lock);
    probe->delayed_by = why;
    fault_if(probe, probe->opened > 0, "delayed() after opened()");
    pthread_mutex_unlock(&probe->lock);
}

static void on_opened(struct subscription *subscription)
{
    struct probe *probe = probe_of(subscription);

    pthread_mutex_lock(&probe->lock);
    probe->opened++;
    fault_if(probe, probe->closed > 0, "opened() after closed()");
    pthread_mutex_unlock(&probe->lock);
}

static void keep(struct probe *probe, const struct incoming *m)
{
    struct arena *arena = &probe->arena;
    struct got *got;
    struct header *headers;

    if (probe->n == probe->room) {
        probe->room = probe->room == 0 ? 64 : probe->room * 2;
        probe->got = realloc(probe->got, probe->room * sizeof *probe->got);
        assert_non_null(probe->got);
    }
    got = &probe->got[probe->n++];
    *got = (struct got){.m = *m, .at_ms = kv_clock_ms()};
    headers = arena_array(arena, m->n_headers, sizeof *headers);
    for (size_t i = 0; i < m->n_headers; i++) {
        headers[i].name = message_copy(arena, m->headers[i].name);
        headers[i].value = message_copy(arena, m->headers[i].value);
    }
    got->m.headers = headers;
    got->m.topic = message_copy(arena, m->topic);
    got->m.key = message_copy(arena, m->key);
    got->m.id = message_copy(arena, m->id);
    got->m.payload = message_copy(arena, m->payload);
    got->m.position = message_copy(arena, m->position);
}

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    struct probe *probe = probe_of(subscription);
    uint32_t n = batch->n;

    pthread_mutex_lock(&probe->lock);
    probe->batches++;
    probe->bytes += batch->bytes;
    for (uint32_t i = 0; i < n; i++)
        keep(probe, &batch->items[i]);
    fault_if(probe, probe->n > probe->granted, "more messages than were granted");
    fault_if(probe, probe->settling != NULL && batch->items[0].token == 0, "token 0");
    if (probe->hold && probe->n_held < ARRAY_LEN(probe->held)) {
        probe->held[probe->n_held++] = batch;
        n = 0;
    }
    pthread_mutex_unlock(&probe->lock);
    if (n > 0)
        incoming_drop(batch, n);
}

static void on_moved(struct subscription *subscription, const struct subscription_move *move)
{
    struct probe *probe = probe_of(subscription);

    pthread_mutex_lock(&probe->lock);
    probe->moves.gained += move->kind == MOVE_GAINED;
    probe->moves.leaving += move->kind == MOVE_LEAVING;
    probe->moves.lost += move->kind == MOVE_LOST;
    probe->moves.by_lease += move->reason == MOVED_BY_LEASE;
    probe->moves.by_seek += move->reason == MOVED_BY_SEEK;
    pthread_mutex_unlock(&probe->lock);
}

static void on_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    struct probe *probe = probe_of(subscription);

    pthread_mutex_lock(&probe->lock);
    probe->gaps++;
    probe->gap = *gap;
    probe->missed += gap->count;
    fault_if(probe, gap->text == NULL, "a gap without a text");
    pthread_mutex_unlock(&probe->lock);
}

static void on_closed(struct subscription *subscription, struct err err)
{
    struct probe *probe = probe_of(subscription);

    pthread_mutex_lock(&probe->lock);
    probe->closed++;
    probe->closed_with = err;
    if (err.text != NULL) {
        snprintf(probe->closed_text, sizeof probe->closed_text, "%s", err.text);
        probe->closed_with.text = probe->closed_text;
    }
    fault_if(probe, probe->closed > 1, "closed() twice");
    fault_if(probe, err.code != ERR_OK && err.text == NULL, "an error without a text");
    pthread_mutex_unlock(&probe->lock);
}

static const struct subscription_events events = {.delayed = on_delayed,
                                                  .opened = on_opened,
                                                  .batch = on_batch,
                                                  .moved = on_moved,
                                                  .gap = on_gap,
                                                  .closed = on_closed};

/* ---- calls: from the test's thread ---- */

struct probe_call {
    struct probe *probe;
    uint32_t messages;
    uint64_t bytes;
};

static void open_on_worker(void *arg)
{
    struct probe *probe = arg;
    struct subscription_want want = probe->subscription.want;

    subscription_init(&probe->subscription, probe->fixture->kv.worker, &events);
    probe->subscription.want = want;
    probe->source->open(probe->backend, &probe->subscription);
    fault_if(probe, probe->opened > 0 || probe->closed > 0, "an event inside open");
}

struct subscription_want probe_want(const char *topic, const char *group)
{
    return (struct subscription_want){.topic = slice_str(topic),
                                      .group = slice_str(group),
                                      .start = START_COMMITTED,
                                      .if_none = START_EARLIEST,
                                      .partition = -1};
}

struct probe *probe_start(struct message_fixture *fixture, struct backend *backend,
                          const struct message_source *source,
                          const struct message_settling *settling, struct subscription_want want)
{
    struct probe *probe = calloc(1, sizeof *probe);

    assert_non_null(probe);
    probe->fixture = fixture;
    probe->backend = backend;
    probe->source = source;
    probe->settling = settling;
    probe->subscription.want = want;
    pthread_mutex_init(&probe->lock, NULL);
    arena_init(&probe->arena, NULL);
    kv_on_worker(&fixture->kv, open_on_worker, probe);
    return probe;
}

static bool is_opened(struct probe *probe)
{
    bool opened;

    pthread_mutex_lock(&probe->lock);
    opened = probe->opened > 0;
    if (probe->closed > 0)
        fail_msg("closed while it was opened: %s", probe->closed_text);
    pthread_mutex_unlock(&probe->lock);
    return opened;
}

static struct probe *opened(struct probe *probe)
{
    KV_UNTIL(&probe->fixture->kv, is_opened(probe));
    return probe;
}

struct probe *probe_stream(struct message_fixture *fixture, struct backend *backend,
                           struct subscription_want want)
{
    const struct stream *stream = backend->has.stream;

    return opened(probe_start(fixture, backend, &stream->source, &stream->settling, want));
}

struct probe *probe_queue(struct message_fixture *fixture, struct backend *backend,
                          struct subscription_want want)
{
    const struct queue *queue = backend->has.queue;

    return opened(probe_start(fixture, backend, &queue->source, &queue->settling, want));
}

struct probe *probe_topic(struct message_fixture *fixture, struct backend *backend,
                          struct subscription_want want)
{
    return opened(probe_start(fixture, backend, &backend->has.topic->source, NULL, want));
}

static void grant_on_worker(void *arg)
{
    struct probe_call *call = arg;

    pthread_mutex_lock(&call->probe->lock);
    call->probe->granted += call->messages;
    pthread_mutex_unlock(&call->probe->lock);
    call->probe->source->grant(call->probe->backend, &call->probe->subscription, call->messages,
                               call->bytes);
}

void probe_grant(struct probe *probe, uint32_t messages, uint64_t bytes)
{
    struct probe_call call = {.probe = probe, .messages = messages, .bytes = bytes};

    kv_on_worker(&probe->fixture->kv, grant_on_worker, &call);
}

static void withdraw_on_worker(void *arg)
{
    struct probe *probe = arg;

    probe->source->withdraw(probe->backend, &probe->subscription);
}

void probe_withdraw(struct probe *probe)
{
    kv_on_worker(&probe->fixture->kv, withdraw_on_worker, probe);
}

static void check_faults(struct probe *probe)
{
    const char *fault;

    pthread_mutex_lock(&probe->lock);
    fault = probe->fault;
    pthread_mutex_unlock(&probe->lock);
    if (fault != NULL)
        fail_msg("%s", fault);
}

size_t probe_count(struct probe *probe)
{
    size_t n;

    check_faults(probe);
    pthread_mutex_lock(&probe->lock);
    n = probe->n;
    pthread_mutex_unlock(&probe->lock);
    return n;
}

void probe_wait(struct probe *probe, size_t n)
{
    KV_UNTIL(&probe->fixture->kv, probe_count(probe) >= n);
}

void probe_quiet(struct probe *probe, size_t n)
{
    for (unsigned ms = 0; ms < probe->fixture->patience_ms; ms += 5)
        kv_pass(&probe->fixture->kv, 5);
    assert_int_equal(probe_count(probe), n);
}

struct probe_moves probe_moves(struct probe *probe)
{
    struct probe_moves moves;

    pthread_mutex_lock(&probe->lock);
    moves = probe->moves;
    pthread_mutex_unlock(&probe->lock);
    return moves;
}

unsigned probe_gaps(struct probe *probe)
{
    unsigned gaps;

    pthread_mutex_lock(&probe->lock);
    gaps = probe->gaps;
    pthread_mutex_unlock(&probe->lock);
    return gaps;
}

const char *probe_delayed_by(struct probe *probe)
{
    const char *why;

    check_faults(probe);
    pthread_mutex_lock(&probe->lock);
    why = probe->delayed_by;
    pthread_mutex_unlock(&probe->lock);
    return why;
}

unsigned probe_opened(struct probe *probe)
{
    unsigned opened;

    pthread_mutex_lock(&probe->lock);
    opened = probe->opened;
    pthread_mutex_unlock(&probe->lock);
    return opened;
}

uint64_t probe_missed(struct probe *probe)
{
    uint64_t missed;

    pthread_mutex_lock(&probe->lock);
    missed = probe->missed;
    pthread_mutex_unlock(&probe->lock);
    return missed;
}

bool probe_is_closed(struct probe *probe)
{
    bool closed;

    pthread_mutex_lock(&probe->lock);
    closed = probe->closed > 0;
    pthread_mutex_unlock(&probe->lock);
    return closed;
}

const struct got *probe_got(struct probe *probe, size_t i)
{
    const struct got *got;

    pthread_mutex_lock(&probe->lock);
    assert_true(i < probe->n);
    got = &probe->got[i];
    pthread_mutex_unlock(&probe->lock);
    return got;
}

unsigned probe_number(struct probe *probe, size_t i)
{
    const struct got *got = probe_got(probe, i);
    char text[16] = "";

    assert_true(got->m.payload.len < sizeof text);
    memcpy(text, got->m.payload.data, got->m.payload.len);
    return (unsigned)strtoul(text, NULL, 10);
}

/* ---- settling ---- */

struct settle_call {
    struct settle settle; /* first */
    const struct message_settling *settling;
};

static void start_settle(struct backend *backend, struct op *op)
{
    struct settle_call *call = CONTAINER_OF(op, struct settle_call, settle.op);

    call->settling->settle(backend, &call->settle);
}

struct err probe_settle_all(struct probe *probe, struct settlement *items, size_t n)
{
    struct settle_call call = {
        .settle = {.subscription = &probe->subscription, .items = items, .n = n},
        .settling = probe->settling};
    struct kv_step step = {.start = start_settle, .op = &call.settle.op};

    kv_run(&probe->fixture->kv, probe->backend, &step, 1);
    return call.settle.op.err;
}

struct err probe_try_settle(struct probe *probe, size_t i, enum settle_how how, uint64_t delay_ms,
                            struct err *op_err)
{
    struct settlement item = {.token = probe_got(probe, i)->m.token,
                              .how = how,
                              .delay_ms = delay_ms,
                              .reason = slice_str("the test wants it dead")};

    *op_err = probe_settle_all(probe, &item, 1);
    return item.err;
}

struct err probe_settle(struct probe *probe, size_t i, enum settle_how how, uint64_t delay_ms)
{
    struct err op_err, err = probe_try_settle(probe, i, how, delay_ms, &op_err);

    kv_expect(op_err, ERR_OK, NULL);
    return err;
}

void probe_done(struct probe *probe, size_t from, size_t to)
{
    struct settlement *items = calloc(to - from, sizeof *items);

    assert_non_null(items);
    for (size_t i = from; i < to; i++)
        items[i - from].token = probe_got(probe, i)->m.token;
    kv_expect(probe_settle_all(probe, items, to - from), ERR_OK, NULL);
    for (size_t i = from; i < to; i++)
        kv_expect(items[i - from].err, ERR_OK, NULL);
    free(items);
}

struct extend_call {
    struct extend extend; /* first */
    const struct message_settling *settling;
};

static void start_extend(struct backend *backend, struct op *op)
{
    struct extend_call *call = CONTAINER_OF(op, struct extend_call, extend.op);

    call->settling->extend(backend, &call->extend);
}

struct err probe_extend(struct probe *probe, size_t i, uint64_t lease_ms)
{
    struct lease item = {.token = probe_got(probe, i)->m.token};
    struct extend_call call = {.extend = {.subscription = &probe->subscription,
                                          .items = &item,
                                          .n = 1,
                                          .lease_ms = lease_ms},
                               .settling = probe->settling};
    struct kv_step step = {.start = start_extend, .op = &call.extend.op};

    kv_run(&probe->fixture->kv, probe->backend, &step, 1);
    kv_expect(call.extend.op.err, ERR_OK, NULL);
    return item.err;
}

/* ---- the end ---- */

static void release_on_worker(void *arg)
{
    struct probe *probe = arg;

    for (size_t i = 0; i < probe->n_held; i++)
        incoming_drop(probe->held[i], probe->held[i]->left);
    probe->n_held = 0;
}

void probe_release(struct probe *probe)
{
    kv_on_worker(&probe->fixture->kv, release_on_worker, probe);
}

static void close_on_worker(void *arg)
{
    struct probe *probe = arg;

    if (probe->subscription.state != SUB_CLOSED)
        probe->source->close(probe->backend, &probe->subscription);
}

void probe_free(struct probe *probe)
{
    kv_on_worker(&probe->fixture->kv, close_on_worker, probe);
    KV_UNTIL(&probe->fixture->kv, probe_is_closed(probe));
    probe_release(probe);
    check_faults(probe);
    assert_int_equal(probe->subscription.batches, 0);
    pthread_mutex_destroy(&probe->lock);
    arena_clear(&probe->arena);
    free(probe->got);
    free(probe);
}
