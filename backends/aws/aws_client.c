/* The instance and its tasks. */
#include "backends/aws/aws_client.h"

#include "src/base/random.h"

#include <assert.h>
#include <stdlib.h>

/* ---- tasks ---- */

static void link_task(struct aws_client *client, struct aws_task *task)
{
    task->next = client->tasks;
    task->at = &client->tasks;
    if (task->next != NULL)
        task->next->at = &task->next;
    client->tasks = task;
}

static void unlink_task(struct aws_task *task)
{
    *task->at = task->next;
    if (task->next != NULL)
        task->next->at = task->at;
}

/* What a write was told before it was let go of may have been done. */
static void drop_calls(struct aws_task *task)
{
    while (task->calls != NULL)
        aws_call_drop(task->calls);
}

static void close_http(struct aws_client *client);

/* A task and its memory. */
struct own {
    struct arena memory; /* holds this */
    struct aws_task task;
};

struct aws_task *aws_task_own(struct aws_client *client, uint32_t timeout_ms)
{
    struct arena memory;
    struct own *own;

    arena_init(&memory, NULL);
    own = arena_zalloc(&memory, sizeof *own);
    own->memory = memory;
    own->task.client = client;
    own->task.arena = &own->memory;
    own->task.deadline_ns = client->base.home->now_ns + timeout_ms * NS_PER_MS;
    link_task(client, &own->task);
    client->own++;
    return &own->task;
}

static void end_own(struct aws_task *task)
{
    struct aws_client *client = task->client;
    struct arena memory = CONTAINER_OF(task, struct own, task)->memory;

    arena_clear(&memory);
    if (--client->own == 0 && client->closing)
        close_http(client);
}

void aws_task_finish(struct aws_task *task, struct err err)
{
    struct aws_client *client = task->client;
    struct op *op = task->op;

    drop_calls(task);
    aws_turn_end(task);
    if (err.code != ERR_OK && task->unsure)
        err = err_lost(err);
    unlink_task(task);
    if (err.code != ERR_OK)
        counter_add(&client->base.stats.errors, 1);
    if (op == NULL && task == client->check) {
        client->check = NULL;
        return;
    }
    if (op == NULL) {
        end_own(task);
        return;
    }
    client->in_flight--;
    counter_add(&client->base.stats.in_flight, (uint64_t)-1);
    op->backend_data = NULL;
    op_finish(op, err);
}

static void end_early(struct aws_task *task, struct err why)
{
    drop_calls(task);
    if (task->abandoned != NULL)
        task->abandoned(task);
    aws_task_finish(task, why);
}

static void on_cancel(struct op *op, struct err why)
{
    struct aws_task *task = op->backend_data;

    end_early(task, why);
}

static struct err too_many(void)
{
    struct err err = err_about(ERR_RESOURCE_EXHAUSTED, "max_in_flight",
                               "too many operations wait for the server; this one was not sent");

    err.retry_after_ms = AWS_RETRY_MS;
    return err;
}

static void refuse(struct aws_client *client, struct op *op, struct err err)
{
    counter_add(&client->base.stats.errors, 1);
    op_finish(op, err);
}

/* op_park may end the op before it returns: the deadline has passed, or the call is cancelled. */
struct aws_task *aws_task_begin(struct backend *backend, struct op *op)
{
    struct aws_client *client = aws_client_of(backend);
    struct aws_task *task;

    counter_add(&client->base.stats.calls, 1);
    if (client->in_flight >= aws_store_of(client)->max_in_flight) {
        refuse(client, op, too_many());
        return NULL;
    }
    task = arena_zalloc(op_arena(op), sizeof *task);
    task->client = client;
    task->op = op;
    task->arena = op_arena(op);
    task->deadline_ns = op_deadline_ns(op);
    link_task(client, task);
    client->in_flight++;
    counter_add(&client->base.stats.in_flight, 1);
    op->backend_data = task;
    op_park(op, on_cancel);
    return op->backend_data;
}

/* ---- the instance ---- */

void aws_client_open(struct aws_client *client, struct backend_store *base, struct worker *worker,
                     const struct aws_service *service)
{
    struct aws_store *store = CONTAINER_OF(base, struct aws_store, base);
    struct backend_stats *stats = &client->base.stats;
    const struct http_options options = {.ca_file = store->ca_file,
                                         .max_connections = store->max_connections,
                                         .connect_timeout_ms = store->connect_timeout_ms,
                                         .max_held_bytes = store->max_buffer_bytes,
                                         .connects = &stats->connects,
                                         .bytes_sent = &stats->bytes_sent,
                                         .bytes_received = &stats->bytes_received};

    client->base.type = base->type;
    client->base.store = base;
    client->base.home = worker;
    client->base.has = base->type->interfaces;
    client->base.limits = base->type->limits;
    client->service = service;
    client->random = random_begin(client);
    client->retries = retry_budget_begin();
    client->login_version = atomic_load(&store->login_version);
    client->login = aws_store_login(store);
    client->http = http_open(worker, &options);
    arena_init(&client->check_arena, NULL);
    client->reported = BACKEND_CONNECTING;
    aws_tally(store, -1, BACKEND_CONNECTING, "not connected yet");
    aws_check_begin(client);
}

static void on_http_closed(void *arg)
{
    struct aws_client *client = arg;
    void (*closed)(void *) = client->closed;
    void *closed_arg = client->closed_arg;

    arena_clear(&client->check_arena);
    sigv4_forget(&client->key);
    aws_login_clear(&client->login);
    free(client);
    closed(closed_arg);
}

static void close_http(struct aws_client *client)
{
    http_close(client->http, on_http_closed, client);
}

/* Not the tasks of its own: they end by themselves. */
static struct aws_task *first_to_end(const struct aws_client *client)
{
    struct aws_task *task = client->tasks;

    while (task != NULL && task->op == NULL && task != client->check)
        task = task->next;
    return task;
}

void aws_client_close(struct backend *backend, void (*closed)(void *), void *arg)
{
    struct aws_client *client = aws_client_of(backend);
    struct aws_task *task;

    client->closing = true;
    client->closed = closed;
    client->closed_arg = arg;
    aws_check_stop(client);
    while ((task = first_to_end(client)) != NULL)
        end_early(task, err_make(ERR_UNAVAILABLE, "the backend is shutting down"));
    assert(client->in_flight == 0);
    aws_tally(aws_store_of(client), (int)client->reported, -1, NULL);
    if (client->own == 0)
        close_http(client);
}

void aws_client_probe(struct backend *backend, struct op *op)
{
    struct aws_task *task = aws_task_begin(backend, op);

    if (task != NULL)
        aws_client_of(backend)->service->check(task);
}
