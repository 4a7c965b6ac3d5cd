/* What the instances of one slot share.
 *
 * Each worker has a connection of its own, so no call takes a lock. The store's lock guards the
 * tally of the instances' states, the login and TLS' files, touched when a connection comes or
 * goes. */
#include "backends/redis/redis_store.h"

#include "backends/redis/redis_conn.h"
#include "backends/redis/redis_settings.h"
#include "backends/redis/redis_tags.h"
#include "backends/redis/redis_tls.h"
#include "src/base/clock.h"
#include "src/base/secret.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static char *copy_or_null(const char *text)
{
    char *copy = NULL;

    if (text[0] != '\0' && (copy = strdup(text)) == NULL)
        abort();
    return copy;
}

/* ---- login ---- */

static char *copy_text(const char *text)
{
    char *copy = text != NULL ? strdup(text) : NULL;

    if (text != NULL && copy == NULL)
        abort();
    return copy;
}

void redis_login_clear(struct redis_login *login)
{
    secret_free(login->password);
    free(login->username);
    *login = (struct redis_login){0};
}

/* From the address or from the settings: redis_settings_check has seen that they agree. */
static struct redis_login login_of(const struct redis_address *address,
                                   const struct backend_value *values)
{
    bool user_given = address->username != NULL && address->username[0] != '\0';

    return (struct redis_login){
        .username = copy_or_null(user_given ? address->username : values[SET_USERNAME].text),
        .password = copy_or_null(address->password != NULL ? address->password
                                                           : values[SET_PASSWORD].text)};
}

struct redis_login redis_store_login(struct redis_store *store, bool sentinel)
{
    const struct redis_login *of = sentinel ? &store->sentinel_login : &store->login;
    struct redis_login login;

    pthread_mutex_lock(&store->lock);
    login.username = copy_text(of->username);
    login.password = copy_text(of->password);
    pthread_mutex_unlock(&store->lock);
    return login;
}

static void set_login(struct redis_store *store, struct redis_login *at, struct redis_login login)
{
    struct redis_login old;

    pthread_mutex_lock(&store->lock);
    old = *at;
    *at = login;
    pthread_mutex_unlock(&store->lock);
    redis_login_clear(&old);
}

static void set_logins(struct redis_store *store, const struct redis_address *address,
                       const struct backend_value *values)
{
    set_login(store, &store->login, login_of(address, values));
    set_login(store, &store->sentinel_login,
              (struct redis_login){.username = copy_or_null(values[SET_SENTINEL_USERNAME].text),
                                   .password = copy_or_null(values[SET_SENTINEL_PASSWORD].text)});
}

/* ---- TLS ---- */

static struct err tls_of(struct ssl_ctx_st **out, const struct redis_address *address,
                         const struct backend_value *values)
{
    char *ca = copy_or_null(values[SET_TLS_CA].text);
    char *cert = copy_or_null(values[SET_TLS_CERT].text);
    char *key = copy_or_null(values[SET_TLS_KEY].text);
    struct err err = ERR_NONE;

    *out = NULL;
    if (redis_settings_tls(address, values))
        err = redis_tls_context(
            out,
            &(struct redis_tls_files){
                .ca = ca, .cert = cert, .key = key, .verify = values[SET_TLS_VERIFY].number != 0});
    free(ca);
    free(cert);
    free(key);
    return err;
}

static void set_tls(struct redis_store *store, struct ssl_ctx_st *tls)
{
    struct ssl_ctx_st *old;

    pthread_mutex_lock(&store->lock);
    old = store->tls;
    store->tls = tls;
    pthread_mutex_unlock(&store->lock);
    redis_tls_context_unref(old);
}

struct ssl_ctx_st *redis_store_tls(struct redis_store *store)
{
    struct ssl_ctx_st *tls;

    pthread_mutex_lock(&store->lock);
    tls = redis_tls_context_ref(store->tls);
    pthread_mutex_unlock(&store->lock);
    return tls;
}

/* Files that cannot be used change nothing. */
static void reload_tls(struct redis_store *store, const struct redis_address *address,
                       const struct backend_value *values)
{
    struct ssl_ctx_st *tls;
    struct err err = tls_of(&tls, address, values);

    if (err.code == ERR_OK)
        set_tls(store, tls);
    else
        log_event(LOG_ERROR, "redis_tls_reload_failed",
                  LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
                  LOG_S("setting", err.subject), LOG_S("why", err.text));
}

/* ---- what is read again ---- */

void redis_store_reload(struct backend_store *base, const struct backend_value *values)
{
    struct redis_store *store = CONTAINER_OF(base, struct redis_store, base);
    struct redis_address address;

    if (redis_address_parse(&address, slice_str(values[SET_ADDRESS].text)).code != ERR_OK)
        return;
    set_logins(store, &address, values);
    reload_tls(store, &address, values);
    redis_address_clear(&address);
}

/* ---- the store ---- */

void redis_store_close(struct backend_store *base)
{
    struct redis_store *store = CONTAINER_OF(base, struct redis_store, base);

    redis_login_clear(&store->login);
    redis_login_clear(&store->sentinel_login);
    redis_address_clear(&store->address);
    redis_tags_free(atomic_load(&store->tags));
    free(store->prefix);
    free(store->server_name);
    free(store->sentinel_master);
    set_tls(store, NULL);
    pthread_mutex_destroy(&store->lock);
    backend_store_clear(base);
    free(store);
}

static void say_place(struct redis_store *store)
{
    const struct redis_address *address = &store->address;
    bool silent =
        address->unix_socket || (store->sentinel_master != NULL && !address->seeds[0].port);
    char port[8] = "";

    if (!silent)
        snprintf(port, sizeof port, "%u", (unsigned)address->port);
    backend_store_place(&store->base, address->host, port, address->seed_count > 1);
}

static void take_settings(struct redis_store *store, const struct backend_value *values)
{
    store->dial_timeout_ns = values[SET_DIAL_TIMEOUT].number * NS_PER_MS;
    store->command_timeout_ns = values[SET_COMMAND_TIMEOUT].number * NS_PER_MS;
    store->max_in_flight = values[SET_MAX_IN_FLIGHT].number;
    store->max_buffer_bytes = values[SET_MAX_BUFFER].number;
    store->cluster_refresh_ms = values[SET_CLUSTER_REFRESH].number;
    store->server_name = copy_or_null(values[SET_TLS_SERVER_NAME].text);
    store->sentinel_master = copy_or_null(values[SET_SENTINEL_MASTER].text);
    if (store->base.type->settings == redis_settings)
        store->partitions = values[SET_PARTITIONS].number;
    if (store->base.type->settings == redis_stream_settings) {
        store->claim_idle_ms = values[SET_CLAIM_IDLE].number;
        store->max_length = values[SET_MAX_LENGTH].number;
        store->max_age_ms = values[SET_MAX_AGE].number;
        store->trim_unread = values[SET_TRIM_UNREAD].number != 0;
        store->queue_messages = values[SET_QUEUE_MESSAGES].number;
        store->queue_bytes = values[SET_QUEUE_BYTES].number;
        store->queue_age_ms = values[SET_QUEUE_AGE].number;
    }
    store->database =
        values[SET_DATABASE].number != 0 ? values[SET_DATABASE].number : values[SET_DB].number;
    if (store->address.database >= 0)
        store->database = (uint64_t)store->address.database;
    store->shown_host =
        values[SET_ADDRESS].expanded ? "(from ${..})" : (const char *)store->address.host;
    if (!values[SET_ADDRESS].expanded)
        say_place(store);
}

struct err redis_store_new(struct backend_store **out, const struct backend_type *type,
                           const struct backend_options *options)
{
    const struct backend_value *values = options->values;
    struct backend_faults faults = {.count = 0};
    struct redis_store *store;
    struct err e;

    redis_settings_check(values, &faults);
    if (faults.count > 0)
        return err_about(ERR_INVALID_ARGUMENT, faults.items[0].setting, faults.items[0].text);
    store = calloc(1, sizeof *store);
    if (store == NULL)
        abort();
    backend_store_init(&store->base, type, options);
    pthread_mutex_init(&store->lock, NULL);
    store->connects = (struct log_budget)LOG_BUDGET(20, 5000);
    store->losses = (struct log_budget)LOG_BUDGET(20, 5000);
    store->troubles = (struct log_budget)LOG_BUDGET(20, 5000);
    atomic_store(&store->base.state, BACKEND_CONNECTING);
    atomic_store(&store->base.state_text, "not connected to redis yet");
    store->prefix = redis_prefix_new(values[SET_KEY_PREFIX].text, options->namespace_name);
    store->prefix_len = strlen(store->prefix);
    e = redis_address_parse(&store->address, slice_str(values[SET_ADDRESS].text));
    assert(e.code == ERR_OK);
    take_settings(store, values);
    set_logins(store, &store->address, values);
    e = tls_of(&store->tls, &store->address, values);
    if (e.code == ERR_OK)
        *out = &store->base;
    else
        redis_store_close(&store->base);
    return e;
}

/* ---- health ---- */

/* The worst of the instances' states, by what it means for calls. */
static enum backend_state worst_of(const struct redis_store *store)
{
    static const enum backend_state order[] = {BACKEND_DOWN, BACKEND_CONNECTING, BACKEND_DEGRADED};

    for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
        if (store->states[order[i]] > 0)
            return order[i];
    }
    return store->states[BACKEND_READY] > 0 ? BACKEND_READY : BACKEND_CONNECTING;
}

void redis_join(struct redis_store *store, struct redis *redis)
{
    pthread_mutex_lock(&store->lock);
    store->states[redis->reported]++;
    redis->next_instance = store->instances;
    redis->at = &store->instances;
    if (redis->next_instance != NULL)
        redis->next_instance->at = &redis->next_instance;
    store->instances = redis;
    pthread_mutex_unlock(&store->lock);
}

void redis_leave(struct redis_store *store, struct redis *redis)
{
    pthread_mutex_lock(&store->lock);
    store->states[redis->reported]--;
    *redis->at = redis->next_instance;
    if (redis->next_instance != NULL)
        redis->next_instance->at = redis->at;
    pthread_mutex_unlock(&store->lock);
}

void redis_report(struct redis *redis, enum backend_state state, const char *text)
{
    struct redis_store *store = redis_store_of(redis);

    if (redis->blocking)
        return;
    if (redis->fixed && state == BACKEND_DOWN) { /* the others serve */
        state = BACKEND_DEGRADED;
        text = "a primary of the redis cluster is not connected";
    }
    pthread_mutex_lock(&store->lock);
    store->states[redis->reported]--;
    store->states[state]++;
    store->texts[state] = text;
    redis->reported = state;

    enum backend_state worst = worst_of(store);

    atomic_store(&store->base.state_text, store->texts[worst]);
    atomic_store(&store->base.state, (int)worst);
    pthread_mutex_unlock(&store->lock);
}

/* Lands the job under the lock: an instance that closes leaves the list first. */
void redis_check_others(struct redis *redis)
{
    struct redis_store *store = redis_store_of(redis);

    pthread_mutex_lock(&store->lock);
    for (struct redis *other = store->instances; other != NULL; other = other->next_instance) {
        if (other != redis && !atomic_exchange(&other->check_pending, true))
            worker_land(other->base.home, &other->check);
    }
    pthread_mutex_unlock(&store->lock);
}

/* ---- facts ---- */

void redis_facts_changed(struct redis_store *store)
{
    atomic_fetch_add(&store->base.facts_version, 1);
}

void redis_report_ack(struct redis_store *store, enum backend_ack ack)
{
    if (atomic_exchange(&store->base.ack, (int)ack) != (int)ack)
        redis_facts_changed(store);
}

void redis_report_eviction(struct redis_store *store, enum backend_eviction eviction)
{
    if (atomic_exchange(&store->base.eviction, (int)eviction) == (int)eviction)
        return;
    redis_facts_changed(store);
    if (eviction == BACKEND_EVICTION_POSSIBLE)
        log_event(LOG_WARN, "redis_evicts", LOG_S("namespace", store->base.namespace_name),
                  LOG_S("slot", store->base.slot), LOG_S("host", store->shown_host),
                  LOG_S("why", "maxmemory-policy removes keys when redis is full: acknowledged "
                               "data may vanish"));
}
