#include "tests/contract/redis_fixture.h"

#include "src/base/clock.h"
#include "src/base/container.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SETTINGS_MAX = 32 };

static void read_setting(const struct backend_setting *setting, const char *text,
                         struct backend_value *value)
{
    value->text = text;
    if (setting->kind == SETTING_UINT)
        value->number = strtoull(text, NULL, 10);
    if (setting->kind == SETTING_BOOL)
        value->number = strcmp(text, "true") == 0;
    assert_true(setting->kind != SETTING_UINT ||
                (value->number >= setting->min && value->number <= setting->max));
}

/* ---- TLS instead of a unix socket ---- */

enum { PATH = 200 };

struct tls_texts {
    char address[2 * PATH], ca[PATH], cert[PATH], key[PATH];
};

static void set_text(const struct backend_type *type, struct backend_value *values,
                     const char *name, const char *text)
{
    for (size_t i = 0; type->settings[i].name != NULL; i++) {
        if (strcmp(type->settings[i].name, name) == 0)
            values[i].text = text;
    }
}

/* The port that the server of this socket has for TLS; 0: none. */
static unsigned tls_port_of(const char *address)
{
    char path[PATH];
    unsigned port = 0;
    const char *end = strrchr(address, '/');
    FILE *file;

    if (strncmp(address, "unix:", 5) != 0 || end == NULL)
        return 0;
    snprintf(path, sizeof path, "%.*s/tls-port", (int)(end - address - 5), address + 5);
    file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%u", &port) != 1)
        port = 0;
    fclose(file);
    return port;
}

/* texts: to live until the store is open. values[0]: the address. */
static void over_tls(const struct backend_type *type, struct backend_value *values,
                     struct tls_texts *texts)
{
    const char *folder = getenv("PRISM_TEST_REDIS_TLS");
    unsigned port = folder != NULL ? tls_port_of(values[0].text) : 0;
    const char *cluster = folder != NULL ? getenv("PRISM_TEST_REDIS_CLUSTER") : NULL;
    bool nodes = cluster != NULL && strcmp(values[0].text, cluster) == 0;

    if (port == 0 && !nodes)
        return;
    signal(SIGPIPE, SIG_IGN); /* as prismd does */
    if (nodes)
        snprintf(texts->address, sizeof texts->address, "rediss://%s", values[0].text);
    else
        snprintf(texts->address, sizeof texts->address, "rediss://localhost:%u", port);
    snprintf(texts->ca, PATH, "%s/ca.pem", folder);
    snprintf(texts->cert, PATH, "%s/client.pem", folder);
    snprintf(texts->key, PATH, "%s/client.key", folder);
    set_text(type, values, "address", texts->address);
    set_text(type, values, "tls_ca", texts->ca);
    set_text(type, values, "tls_cert", texts->cert);
    set_text(type, values, "tls_key", texts->key);
}

struct err redis_fixture_store_of(const struct backend_type *type, struct backend_store **store,
                                  const char *namespace_name, redis_settings settings)
{
    struct backend_value values[SETTINGS_MAX] = {0};
    const struct backend_setting *known = type->settings;
    const struct backend_options options = {
        .namespace_name = namespace_name, .slot = "primary", .values = values};
    struct tls_texts texts;
    size_t n = 0;

    for (; known[n].name != NULL; n++)
        read_setting(&known[n], known[n].fallback, &values[n]);
    for (size_t i = 0; settings[i] != NULL; i += 2) {
        size_t at = 0;

        while (at < n && strcmp(known[at].name, settings[i]) != 0)
            at++;
        assert_true(at < n);
        read_setting(&known[at], settings[i + 1], &values[at]);
    }
    *store = NULL;
    over_tls(type, values, &texts);
    return type->store_open(store, &options);
}

struct err redis_fixture_store(struct backend_store **store, const char *namespace_name,
                               redis_settings settings)
{
    return redis_fixture_store_of(&backend_redis, store, namespace_name, settings);
}

void redis_fixture_open_as(struct redis_fixture *fixture, const struct backend_type *type,
                           const char *namespace_name, redis_settings settings)
{
    const struct pool_options options = {.workers = 1, .intake_depth = 64};
    struct err e = redis_fixture_store_of(type, &fixture->store, namespace_name, settings);

    if (e.code != ERR_OK)
        fail_msg("%s: %s", e.subject, e.text);
    e = pool_start(&fixture->pool, &options);
    assert_int_equal(e.code, ERR_OK);
    fixture->kv = (struct kv_fixture){.worker = pool_worker(fixture->pool, 0), .threaded = true};
    kv_fixture_init(&fixture->kv);
    fixture->kv.backend = kv_open(&fixture->kv, fixture->store);
}

void redis_fixture_open(struct redis_fixture *fixture, const char *namespace_name,
                        redis_settings settings)
{
    redis_fixture_open_as(fixture, &backend_redis, namespace_name, settings);
}

void redis_fixture_close(struct redis_fixture *fixture)
{
    if (fixture->kv.backend != NULL)
        kv_close(&fixture->kv, fixture->kv.backend);
    kv_fixture_clear(&fixture->kv);
    pool_stop(fixture->pool);
    fixture->store->type->store_close(fixture->store);
}

void redis_until(struct redis_fixture *fixture, enum backend_state state)
{
    KV_UNTIL(&fixture->kv, atomic_load(&fixture->store->state) == (int)state);
}

/* ---- flights ---- */

static void on_idle(struct op_group *group)
{
    struct redis_flight *flight = CONTAINER_OF(group, struct redis_flight, group);

    pthread_mutex_lock(&flight->lock);
    flight->idle = true;
    pthread_cond_signal(&flight->changed);
    pthread_mutex_unlock(&flight->lock);
}

static void on_done(struct op *op)
{
    struct redis_flight *flight = CONTAINER_OF(op->group, struct redis_flight, group);

    pthread_mutex_lock(&flight->lock);
    flight->done++;
    pthread_mutex_unlock(&flight->lock);
}

static void start_all(struct job *job)
{
    struct redis_flight *flight = CONTAINER_OF(job, struct redis_flight, job);

    op_group_init(&flight->group, flight->fixture->kv.worker, &flight->arena, flight->deadline_ns);
    flight->group.idle = on_idle;
    op_group_enter(&flight->group);
    for (size_t i = 0; i < flight->n; i++) {
        op_start(flight->ops[i], &flight->group, on_done);
        flight->start(flight->fixture->kv.backend, flight->ops[i]);
    }
    op_group_leave(&flight->group);
}

void redis_launch(struct redis_flight *flight, struct redis_fixture *fixture, kv_start_fn *start,
                  struct op **ops, size_t n, unsigned deadline_ms)
{
    pthread_condattr_t attributes;

    *flight = (struct redis_flight){
        .fixture = fixture, .start = start, .ops = ops, .n = n, .idle = false};
    if (deadline_ms > 0)
        flight->deadline_ns = clock_now_ns() + deadline_ms * NS_PER_MS;
    pthread_mutex_init(&flight->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&flight->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    arena_init(&flight->arena, NULL);
    flight->job.run = start_all;
    worker_land(fixture->kv.worker, &flight->job);
}

void redis_land(struct redis_flight *flight)
{
    uint64_t until_ns = clock_now_ns() + 2 * KV_PATIENCE_MS * NS_PER_MS;
    struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                             .tv_nsec = (long)(until_ns % NS_PER_S)};

    pthread_mutex_lock(&flight->lock);
    while (!flight->idle) {
        if (pthread_cond_timedwait(&flight->changed, &flight->lock, &until) == ETIMEDOUT) {
            print_error("%zu of %zu operations are not done\n", flight->n - flight->done,
                        flight->n);
            abort(); /* they point into the caller's frames: nothing can go on */
        }
    }
    pthread_mutex_unlock(&flight->lock);
}

size_t redis_landed(struct redis_flight *flight)
{
    pthread_mutex_lock(&flight->lock);

    size_t done = flight->done;

    pthread_mutex_unlock(&flight->lock);
    return done;
}

void redis_flight_clear(struct redis_flight *flight)
{
    arena_clear(&flight->arena);
    pthread_cond_destroy(&flight->changed);
    pthread_mutex_destroy(&flight->lock);
}

struct err redis_put(struct redis_fixture *fixture, const char *key, const char *value)
{
    struct kv_put put = {.key = slice_str(key), .value = slice_str(value)};

    return kv_do(&fixture->kv, kv_start_put, &put.op);
}

void redis_many_at_once(struct redis_fixture *fixture, size_t n)
{
    struct kv_put *puts = test_calloc(n, sizeof *puts);
    struct kv_get *gets = test_calloc(n, sizeof *gets);
    struct op **ops = test_calloc(n, sizeof *ops);
    char(*keys)[32] = test_calloc(n, sizeof *keys);
    struct redis_flight flight;

    for (size_t i = 0; i < n; i++) {
        snprintf(keys[i], sizeof keys[i], "many-%zu", i);
        puts[i] = (struct kv_put){.key = slice_str(keys[i]), .value = slice_str(keys[i])};
        gets[i] = (struct kv_get){.key = slice_str(keys[i])};
        ops[i] = &puts[i].op;
    }
    redis_launch(&flight, fixture, kv_start_put, ops, n, 0);
    redis_land(&flight);
    redis_flight_clear(&flight);
    for (size_t i = 0; i < n; i++)
        ops[i] = &gets[i].op;
    redis_launch(&flight, fixture, kv_start_get, ops, n, 0);
    redis_land(&flight);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(puts[i].op.err.code, ERR_OK);
        assert_int_equal(gets[i].op.err.code, ERR_OK);
        assert_true(gets[i].found && slice_equal(gets[i].value, slice_str(keys[i])));
    }
    redis_flight_clear(&flight);
    assert_int_equal(counter_read(&fixture->kv.backend->stats.in_flight), 0);
    test_free(keys);
    test_free(ops);
    test_free(gets);
    test_free(puts);
}

int redis_pair_open(void **state, redis_settings settings)
{
    struct redis_pair *pair = test_calloc(1, sizeof *pair);

    redis_fixture_open(&pair->redis, "a", settings);
    assert_int_equal(redis_fixture_store(&pair->other, "a:b}", settings).code, ERR_OK);
    assert_int_equal(redis_fixture_store(&pair->peer_store, "a", settings).code, ERR_OK);
    pair->redis.kv.elsewhere = kv_open(&pair->redis.kv, pair->other);
    pair->peer = kv_open(&pair->redis.kv, pair->peer_store);
    redis_until(&pair->redis, BACKEND_READY);
    KV_UNTIL(&pair->redis.kv, atomic_load(&pair->other->state) == BACKEND_READY);
    KV_UNTIL(&pair->redis.kv, atomic_load(&pair->peer_store->state) == BACKEND_READY);
    *state = pair;
    return 0;
}

int redis_pair_open_as(void **state, struct redis_server *server, const char *commands)
{
    char address[128], user[512];

    snprintf(address, sizeof address, "unix:%s", server->socket);
    assert_true((size_t)snprintf(user, sizeof user,
                                 "ACL SETUSER prism reset on >secret ~prism:* %s",
                                 commands) < sizeof user);
    redis_server_say(server, user);
    return redis_pair_open(state, (redis_settings){"address", address, "username", "prism",
                                                   "password", "secret", NULL});
}

struct backend *redis_pair_peer(struct kv_fixture *kv)
{
    return CONTAINER_OF(kv, struct redis_pair, redis.kv)->peer;
}

int redis_pair_close(void **state)
{
    struct redis_pair *pair = *state;

    kv_close(&pair->redis.kv, pair->redis.kv.elsewhere);
    kv_close(&pair->redis.kv, pair->peer);
    pair->peer_store->type->store_close(pair->peer_store);
    pair->other->type->store_close(pair->other);
    redis_fixture_close(&pair->redis);
    test_free(pair);
    return 0;
}

int redis_default_open_as(void **state, const struct backend_type *type, redis_settings settings)
{
    struct redis_fixture *fixture = test_calloc(1, sizeof *fixture);

    redis_fixture_open_as(fixture, type, "default", settings);
    redis_until(fixture, BACKEND_READY);
    *state = fixture;
    return 0;
}

int redis_default_free(void **state)
{
    redis_fixture_close(*state);
    test_free(*state);
    return 0;
}

int redis_default_open(void **state, struct redis_server *server)
{
    char address[128];

    snprintf(address, sizeof address, "unix:%s", server->socket);
    redis_server_say(server, "FLUSHALL");
    return redis_default_open_as(state, &backend_redis, (redis_settings){"address", address, NULL});
}

int redis_default_close(void **state, struct redis_server *server)
{
    redis_server_say(server, "CONFIG SET maxmemory 0");
    return redis_default_free(state);
}

int redis_neighbours_open(void **state, const struct backend_type *type, const char *other,
                          redis_settings settings)
{
    struct redis_neighbours *fixture = test_calloc(1, sizeof *fixture);

    redis_fixture_open_as(&fixture->base, type, "a", settings);
    assert_int_equal(redis_fixture_store_of(type, &fixture->other, other, settings).code, ERR_OK);
    fixture->base.kv.elsewhere = kv_open(&fixture->base.kv, fixture->other);
    redis_until(&fixture->base, BACKEND_READY);
    KV_UNTIL(&fixture->base.kv, atomic_load(&fixture->other->state) == BACKEND_READY);
    *state = fixture;
    return 0;
}

int redis_neighbours_close(void **state)
{
    struct redis_neighbours *fixture = *state;

    kv_close(&fixture->base.kv, fixture->base.kv.elsewhere);
    fixture->other->type->store_close(fixture->other);
    redis_fixture_close(&fixture->base);
    test_free(fixture);
    return 0;
}
