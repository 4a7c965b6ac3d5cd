/* An instance: its connections together.
 *
 * It is READY while all of them are, DEGRADED while some are or while postgres refuses writes for
 * want of room, else DOWN. */
#include "backends/postgres/postgres_queue.h"
#include "src/base/random.h"

#include <stdlib.h>

enum { TROUBLE_MS = 5000 }; /* what postgres does not repeat for so long is over */

/* ---- the instance's state ---- */

void postgres_tell(struct postgres *postgres)
{
    bool tried = false;

    if (postgres->closing)
        return;
    for (unsigned i = 0; i < postgres->n_conns; i++)
        tried = tried || postgres->conns[i].attempts > 0;
    if (postgres->ready == postgres->n_conns)
        postgres_report(postgres, postgres->trouble != NULL ? BACKEND_DEGRADED : BACKEND_READY,
                        postgres->trouble);
    else if (postgres->ready > 0 && tried)
        postgres_report(postgres, BACKEND_DEGRADED, postgres->down.text);
    else if (postgres->ready == 0 && tried)
        postgres_report(postgres, BACKEND_DOWN, postgres->down.text);
}

static void set_trouble(struct postgres *postgres, const char *text)
{
    struct postgres_store *store = postgres_store_of(postgres);
    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("host", store->config.shown_host), LOG_U("worker", postgres->base.home->id),
        LOG_S("why", text)};
    bool over = text == NULL;

    if (postgres->trouble == text)
        return;
    postgres->trouble = text;
    log_limited(&store->troubles, over ? LOG_INFO : LOG_WARN,
                over ? "postgres_recovered" : "postgres_degraded", fields,
                ARRAY_LEN(fields) - over);
    postgres_tell(postgres);
}

static void on_trouble_over(struct timer *timer)
{
    set_trouble(CONTAINER_OF(timer, struct postgres, trouble_timer), NULL);
}

/* Each instance keeps the time itself: only one of them is probed. A write that succeeds says
 * little: it may have found room in a page that was there. */
void postgres_trouble(struct postgres *postgres, const char *text)
{
    if (postgres->closing)
        return;
    timer_arm(&postgres->base.home->timers, &postgres->trouble_timer,
              postgres_now(postgres) + TROUBLE_MS * NS_PER_MS, on_trouble_over);
    set_trouble(postgres, text);
}

/* ---- batches ---- */

static void on_batch_end(struct batch_hook *hook)
{
    struct postgres *postgres = CONTAINER_OF(hook, struct postgres, hook);

    postgres_send_groups(postgres);
    for (unsigned i = 0; i < postgres->n_conns; i++) {
        struct postgres_conn *conn = &postgres->conns[i];

        if (conn->open != NULL || conn->unsent || conn->drop)
            postgres_flush(conn);
        else if (conn->first != NULL)
            postgres_watch(conn);
    }
}

struct postgres_conn *postgres_choose(struct postgres *postgres)
{
    struct postgres_conn *best = NULL;

    for (unsigned i = 0; i < postgres->n_conns; i++) {
        struct postgres_conn *conn = &postgres->conns[i];

        if (conn->phase == POSTGRES_READY && !conn->drop &&
            (best == NULL || conn->calls < best->calls))
            best = conn;
    }
    return best;
}

/* ---- open and close ---- */

struct backend *postgres_open(struct backend_store *base, struct worker *worker)
{
    struct postgres_store *store = CONTAINER_OF(base, struct postgres_store, base);
    struct postgres *postgres = calloc(1, sizeof *postgres);

    if (postgres == NULL ||
        (postgres->conns = calloc(store->connections, sizeof *postgres->conns)) == NULL)
        abort();
    postgres->base = (struct backend){.type = base->type,
                                      .store = base,
                                      .home = worker,
                                      .has = base->type->interfaces,
                                      .limits = base->type->limits};
    postgres->n_conns = store->connections;
    postgres->gets.last = &postgres->gets.first;
    postgres->puts.last = &postgres->puts.first;
    postgres->random = random_begin(postgres);
    postgres->retries = retry_budget_begin();
    postgres->reported = BACKEND_CONNECTING;
    postgres->hook.run = on_batch_end;
    worker_add_hook(worker, &postgres->hook);
    postgres_join(store, postgres);
    postgres_report(postgres, BACKEND_CONNECTING, "not connected to postgres yet");
    postgres->down = postgres_unavailable("not connected to postgres yet");
    for (unsigned i = 0; i < postgres->n_conns; i++) {
        postgres->conns[i].postgres = postgres;
        postgres->conns[i].last = &postgres->conns[i].first;
        postgres_attempt(&postgres->conns[i]);
    }
    return &postgres->base;
}

static void finish_close(struct job *job)
{
    struct postgres *postgres = CONTAINER_OF(job, struct postgres, closed_job);
    void (*closed)(void *) = postgres->closed;
    void *arg = postgres->closed_arg;

    free(postgres->conns);
    free(postgres);
    closed(arg);
}

/* All ops that close() failed land before this job: both go through the worker's local list, in
 * order. */
void postgres_closed_if_idle(struct postgres *postgres)
{
    if (!postgres->closing || postgres->handles > 0)
        return;
    postgres->closed_job.run = finish_close;
    worker_land(postgres->base.home, &postgres->closed_job);
}

void postgres_close(struct backend *backend, void (*closed)(void *), void *arg)
{
    struct postgres *postgres = postgres_of(backend);
    struct err why = postgres_unavailable("the postgres backend is shutting down");

    postgres->closing = true;
    postgres->closed = closed;
    postgres->closed_arg = arg;
    postgres->down = why;
    worker_remove_hook(backend->home, &postgres->hook);
    timer_disarm(&backend->home->timers, &postgres->trouble_timer);
    postgres_sweep_stop(postgres);
    postgres_wake_stop(postgres);
    postgres_renew_stop(postgres);
    postgres_leave(postgres_store_of(postgres), postgres);
    for (unsigned i = 0; i < postgres->n_conns; i++) {
        struct postgres_conn *conn = &postgres->conns[i];

        if (conn->resolving)
            uv_cancel((uv_req_t *)&conn->resolver);
        conn->phase = POSTGRES_CLOSING;
        postgres_let_go(conn);
        postgres_fail_calls(conn, why);
    }
    postgres_fail_waiting(postgres, why);
    postgres_closed_if_idle(postgres);
}
