/* The table of names is shared by all workers, under a lock that is held for look-ups only. A Watch is one stream: it sends
 * the status it was asked for, then waits; a change lands a job on its home worker, which sends what is true by then. Changes
 * faster than the client reads are merged: the last one counts. */
#include "src/services/health.h"

#include "pool/worker.h"
#include "src/base/container.h"

#include "grpc/health/v1/health.pb-c.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef Grpc__Health__V1__HealthCheckRequest check_request;
typedef Grpc__Health__V1__HealthCheckResponse check_response;
typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;

#define UNKNOWN_NAME GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
#define SERVING      GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING  GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING

struct entry {
    struct entry *next;
    char *name;
    bool serving;
};

struct watch {
    struct watch *next, **at; /* under the lock */
    struct health *health;
    struct call *call;
    const char *name;
    struct job changed;
    bool queued;              /* `changed` is under way; under the lock */
    /* home worker */
    struct op sent;
    bool sending, again, over, held;
    struct err why;           /* once over */
    serving_status last;
};

struct health {
    pthread_mutex_t lock;
    struct entry *entries;
    struct watch *watches;
    bool shut_down;
};

struct health *health_new(void)
{
    struct health *health = calloc(1, sizeof *health);

    if (health == NULL)
        abort();
    pthread_mutex_init(&health->lock, NULL);
    return health;
}

void health_destroy(struct health *health)
{
    if (health == NULL)
        return;
    while (health->entries != NULL) {
        struct entry *entry = health->entries;

        health->entries = entry->next;
        free(entry->name);
        free(entry);
    }
    pthread_mutex_destroy(&health->lock);
    free(health);
}

/* ---- the table; the caller holds the lock ---- */

static struct entry *find(const struct health *health, const char *name)
{
    for (struct entry *entry = health->entries; entry != NULL; entry = entry->next) {
        if (strcmp(entry->name, name) == 0)
            return entry;
    }
    return NULL;
}

static struct entry *find_or_add(struct health *health, const char *name)
{
    struct entry *entry = find(health, name), **at = &health->entries;

    if (entry != NULL)
        return entry;
    while (*at != NULL)
        at = &(*at)->next;
    entry = calloc(1, sizeof *entry);
    if (entry == NULL || (entry->name = strdup(name)) == NULL)
        abort();
    return *at = entry;
}

static serving_status status_of(const struct health *health, const struct entry *entry)
{
    if (entry == NULL)
        return UNKNOWN_NAME;
    return entry->serving && !health->shut_down ? SERVING : NOT_SERVING;
}

static void tell_watches(struct health *health, const char *name)
{
    for (struct watch *w = health->watches; w != NULL; w = w->next) {
        if (w->queued || (name != NULL && strcmp(w->name, name) != 0))
            continue;
        w->queued = true;
        worker_land(call_group(w->call)->home, &w->changed);
    }
}

void health_set(struct health *health, const char *name, bool serving)
{
    pthread_mutex_lock(&health->lock);

    struct entry *entry = find(health, name);
    bool news = entry == NULL || entry->serving != serving;

    find_or_add(health, name)->serving = serving;
    if (news)
        tell_watches(health, name);
    pthread_mutex_unlock(&health->lock);
}

void health_shutdown(struct health *health)
{
    pthread_mutex_lock(&health->lock);
    health->shut_down = true;
    tell_watches(health, NULL);
    pthread_mutex_unlock(&health->lock);
}

static serving_status look_up(struct health *health, const char *name)
{
    pthread_mutex_lock(&health->lock);

    serving_status status = status_of(health, find(health, name));

    pthread_mutex_unlock(&health->lock);
    return status;
}

/* ---- Check, List ---- */

static void check(struct call *call)
{
    const check_request *request = call_request(call);
    check_response response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    response.status = look_up(call_pattern(call), request->service);
    if (response.status == UNKNOWN_NAME)
        call_fail(call, err_about(ERR_NOT_FOUND, "service", "no such name; List tells which there are"));
    else
        call_reply(call, &response.base);
}

typedef Grpc__Health__V1__HealthListResponse__StatusesEntry list_entry;

static list_entry *list_one(struct arena *arena, const struct entry *entry, serving_status status)
{
    list_entry *out = arena_alloc(arena, sizeof *out);
    check_response *value = arena_alloc(arena, sizeof *value);

    grpc__health__v1__health_list_response__statuses_entry__init(out);
    grpc__health__v1__health_check_response__init(value);
    value->status = status;
    out->key = entry->name; /* names are never removed while calls are in flight */
    out->value = value;
    return out;
}

static void list(struct call *call)
{
    struct health *health = call_pattern(call);
    struct arena *arena = call_arena(call);
    Grpc__Health__V1__HealthListResponse response = GRPC__HEALTH__V1__HEALTH_LIST_RESPONSE__INIT;
    size_t n = 0;

    pthread_mutex_lock(&health->lock);
    for (struct entry *entry = health->entries; entry != NULL; entry = entry->next)
        n++;
    response.statuses = arena_array(arena, n, sizeof *response.statuses);
    for (struct entry *entry = health->entries; entry != NULL; entry = entry->next)
        response.statuses[response.n_statuses++] = list_one(arena, entry, status_of(health, entry));
    pthread_mutex_unlock(&health->lock);
    call_reply(call, &response.base);
}

/* ---- Watch ---- */

static void watch_send(struct watch *w);

/* No change finds the watch from now on. One that is under way already, or a send, has to come home first: the group is held
 * for the former. The last thing that touches the watch. */
static void watch_end(struct watch *w, struct err why)
{
    struct health *health = w->health;

    pthread_mutex_lock(&health->lock);
    if (w->at != NULL) {
        *w->at = w->next;
        if (w->next != NULL)
            w->next->at = w->at;
        w->at = NULL;
    }
    bool queued = w->queued;

    pthread_mutex_unlock(&health->lock);
    if (!w->over)
        w->why = why;
    w->over = true;
    if (queued && !w->held) {
        w->held = true;
        op_group_enter(call_group(w->call));
    }
    if (!queued && !w->sending)
        call_fail(w->call, w->why);
}

static void watch_cancelled(struct call *call, void *arg)
{
    (void)call;
    watch_end(arg, (struct err){.code = ERR_UNAVAILABLE,
                                .retry_after_ms = 1000,
                                .text = "the client is gone, or the server is draining"});
}

static void watch_sent(struct op *op)
{
    struct watch *w = CONTAINER_OF(op, struct watch, sent);

    w->sending = false;
    if (op->err.code != ERR_OK || w->over)
        watch_end(w, op->err);
    else if (w->again)
        watch_send(w);
}

/* Sends the status if it is not the one that was sent last. */
static void watch_send(struct watch *w)
{
    check_response response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    w->again = w->sending;
    if (w->sending)
        return;
    response.status = look_up(w->health, w->name);
    if (response.status == w->last)
        return;
    w->last = response.status;
    w->sending = true;
    call_send(w->call, &response.base, &w->sent, watch_sent);
}

static void watch_changed(struct job *job)
{
    struct watch *w = CONTAINER_OF(job, struct watch, changed);

    pthread_mutex_lock(&w->health->lock);
    w->queued = false;
    pthread_mutex_unlock(&w->health->lock);
    if (!w->over) {
        watch_send(w);
        return;
    }
    struct op_group *group = call_group(w->call);
    bool held = w->held;

    watch_end(w, w->why);
    if (held)
        op_group_leave(group);
}

static void watch(struct call *call)
{
    struct health *health = call_pattern(call);
    const check_request *request = call_request(call);
    struct watch *w = arena_zalloc(call_arena(call), sizeof *w);

    w->health = health;
    w->call = call;
    w->name = request->service;
    w->changed.run = watch_changed;
    w->last = (serving_status)-1;
    pthread_mutex_lock(&health->lock);
    w->next = health->watches;
    w->at = &health->watches;
    if (w->next != NULL)
        w->next->at = &w->next;
    health->watches = w;
    pthread_mutex_unlock(&health->lock);
    call_on_cancel(call, watch_cancelled, w);
    watch_send(w);
}

#define CHECK_REQUEST  &grpc__health__v1__health_check_request__descriptor
#define CHECK_RESPONSE &grpc__health__v1__health_check_response__descriptor

static const struct method methods[] = {
    {.path = "/grpc.health.v1.Health/Check",
     .kind = METHOD_UNARY,
     .request = CHECK_REQUEST,
     .response = CHECK_RESPONSE,
     .handle = check},
    {.path = "/grpc.health.v1.Health/List",
     .kind = METHOD_UNARY,
     .request = &grpc__health__v1__health_list_request__descriptor,
     .response = &grpc__health__v1__health_list_response__descriptor,
     .handle = list},
    {.path = "/grpc.health.v1.Health/Watch",
     .kind = METHOD_SERVER_STREAM,
     .request = CHECK_REQUEST,
     .response = CHECK_RESPONSE,
     .handle = watch},
};

const struct service health_service = {
    .name = "grpc.health.v1.Health", .methods = methods, .method_count = ARRAY_LEN(methods)};
