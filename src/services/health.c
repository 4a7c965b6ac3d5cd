/* The table of names is shared by all workers, under a lock that is held for look-ups only. A Watch
 * is one stream:
 *
 *   happy path   the status that was asked for; then each change, as it is when its turn comes:
 *                changes faster than the client reads are merged, the last one counts
 *   drain        on_cancel: what changed is still sent (NOT_SERVING), then UNAVAILABLE
 *   client gone  on_cancel, or a send that fails: the end at once
 *
 * A change lands a job of the watch on its home worker. The watch lives in its call's arena, so the
 * call is not ended while that job is under way. */
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
    struct health *health;
    struct call *call;
    const char *name;
    /* under the lock */
    struct watch *next, **at; /* at NULL: not in the list any more */
    bool queued;              /* `changed` is under way */
    struct watch *also;       /* the next one that the same change concerns */
    struct job changed;
    /* home worker */
    struct op sent;
    serving_status last; /* that was sent */
    bool sending;
    bool over;      /* no more changes are waited for */
    bool farewell;  /* what there was to say when it was over has been said */
    bool held;      /* the group waits for `changed` */
    struct err why; /* once over */
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

/* The watches to tell: of this name, NULL = all. */
static struct watch *pick(struct health *health, const char *name)
{
    struct watch *picked = NULL;

    for (struct watch *w = health->watches; w != NULL; w = w->next) {
        if (w->queued || (name != NULL && strcmp(w->name, name) != 0))
            continue;
        w->queued = true;
        w->also = picked;
        picked = w;
    }
    return picked;
}

/* ---- changes ---- */

/* Outside the lock: it may write to a worker's wake-up descriptor. A picked watch stays where it is
 * until its job has run. */
static void tell(struct watch *picked)
{
    while (picked != NULL) {
        struct watch *w = picked;

        picked = w->also;
        worker_land(call_group(w->call)->home, &w->changed);
    }
}

void health_set(struct health *health, const char *name, bool serving)
{
    struct watch *picked = NULL;

    pthread_mutex_lock(&health->lock);

    struct entry *entry = find(health, name);

    if (entry == NULL || entry->serving != serving) {
        find_or_add(health, name)->serving = serving;
        picked = pick(health, name);
    }
    pthread_mutex_unlock(&health->lock);
    tell(picked);
}

void health_shutdown(struct health *health)
{
    pthread_mutex_lock(&health->lock);
    health->shut_down = true;

    struct watch *picked = pick(health, NULL);

    pthread_mutex_unlock(&health->lock);
    tell(picked);
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
        call_fail(call,
                  err_about(ERR_NOT_FOUND, "service", "no such name; List tells which there are"));
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

static void watch_step(struct watch *w);

static void watch_sent(struct op *op)
{
    struct watch *w = CONTAINER_OF(op, struct watch, sent);

    w->sending = false;
    if (op->err.code != ERR_OK) {
        if (!w->over)
            w->why = op->err;
        w->over = w->farewell = true;
    }
    watch_step(w);
}

static void watch_send(struct watch *w, serving_status status)
{
    check_response response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    response.status = w->last = status;
    w->sending = true;
    call_send(w->call, &response.base, &w->sent, watch_sent);
}

/* No change finds the watch from now on; one that is under way has to come home first. Otherwise
 * the last thing that touches the watch. */
static void watch_end(struct watch *w)
{
    if (w->held) /* it waits already: the drain came first, then the client went */
        return;
    pthread_mutex_lock(&w->health->lock);
    if (w->at != NULL) {
        *w->at = w->next;
        if (w->next != NULL)
            w->next->at = w->at;
        w->at = NULL;
    }
    bool queued = w->queued;

    pthread_mutex_unlock(&w->health->lock);
    if (!queued) {
        call_fail(w->call, w->why);
        return;
    }
    w->held = true;
    op_group_enter(call_group(w->call));
}

/* After everything that happens to a watch: what is to be done next? One send at a time. */
static void watch_step(struct watch *w)
{
    serving_status status = look_up(w->health, w->name);

    if (w->sending)
        return;
    if (status != w->last && !w->farewell) {
        w->farewell = w->over;
        watch_send(w, status);
    } else if (w->over) {
        watch_end(w);
    }
}

static void watch_changed(struct job *job)
{
    struct watch *w = CONTAINER_OF(job, struct watch, changed);
    struct op_group *held = w->held ? call_group(w->call) : NULL;

    w->held = false;
    pthread_mutex_lock(&w->health->lock);
    w->queued = false;
    pthread_mutex_unlock(&w->health->lock);
    watch_step(w);
    if (held != NULL)
        op_group_leave(held);
}

static void watch_cancelled(struct call *call, void *arg)
{
    struct watch *w = arg;

    w->over = true;
    w->farewell = true; /* nobody is there to hear it */
    w->why = call_group(call)->cancelled;
    watch_step(w);
}

static void watch_draining(struct call *call, void *arg)
{
    struct watch *w = arg;

    (void)call;
    w->over = true;
    w->why = (struct err){.code = ERR_UNAVAILABLE,
                          .retry_after_ms = 1000,
                          .text = "the server is draining: watch another one"};
    watch_step(w);
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
    call_on_drain(call, watch_draining, w);
    watch_step(w);
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

const uint32_t health_inline_bytes[ARRAY_LEN(methods)] = {4096, 4096, 0};

const struct service health_service = {
    .name = "grpc.health.v1.Health", .methods = methods, .method_count = ARRAY_LEN(methods)};
