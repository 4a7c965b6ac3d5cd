/* Settings of a slot, and what the instances of one slot share.
 *
 * Each worker has a connection of its own, so no call takes a lock. The store's lock guards the
 * tally of the instances' states and the login, touched when a connection comes or goes. */
#include "backends/redis/redis_store.h"

#include "backends/redis/redis_conn.h"
#include "src/base/clock.h"
#include "src/base/secret.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum setting {
    SET_ADDRESS,
    SET_USERNAME,
    SET_PASSWORD,
    SET_DATABASE,
    SET_DB,
    SET_KEY_PREFIX,
    SET_DIAL_TIMEOUT,
    SET_COMMAND_TIMEOUT,
    SET_MAX_IN_FLIGHT,
    SET_MAX_BUFFER,
    SET_CONNECTION, /* so many are every type's */
    SET_CLAIM_IDLE = SET_CONNECTION,
    SET_MAX_LENGTH,
    SET_MAX_AGE,
    SET_TRIM_UNREAD,
};

#define CONNECTION_SETTINGS(PREFIX_DOC)                                                            \
    [SET_ADDRESS] =                                                                                \
        {"address",                                                                                \
         SETTING_TEXT,                                                                             \
         "localhost:6379",                                                                         \
         0,                                                                                        \
         0,                                                                                        \
         "HOST[:PORT], [IPV6]:PORT, redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or "            \
         "unix:PATH"},                                                                             \
    [SET_USERNAME] = {"username", SETTING_TEXT, "", 0, 0, "ACL user; empty: the default user"},    \
    [SET_PASSWORD] = {"password", SETTING_SECRET, "", 0, 0, "empty: none"},                        \
    [SET_DATABASE] = {"database", SETTING_UINT, "0", 0, INT32_MAX, "number of the database"},      \
    [SET_DB] = {"db", SETTING_UINT, "0", 0, INT32_MAX, "another name for database"},               \
    [SET_KEY_PREFIX] = {"key_prefix", SETTING_TEXT, "prism", 0, 0, PREFIX_DOC},                    \
    [SET_DIAL_TIMEOUT] = {"dial_timeout_ms",                                                       \
                          SETTING_UINT,                                                            \
                          "5000",                                                                  \
                          1,                                                                       \
                          600000,                                                                  \
                          "to connect, authenticate and select the database"},                     \
    [SET_COMMAND_TIMEOUT] =                                                                        \
        {"command_timeout_ms",                                                                     \
         SETTING_UINT,                                                                             \
         "5000",                                                                                   \
         1,                                                                                        \
         600000,                                                                                   \
         "for calls without a deadline; a server that is silent for this long "                    \
         "while it owes an answer is disconnected"},                                               \
    [SET_MAX_IN_FLIGHT] = {"max_in_flight",                                                        \
                           SETTING_UINT,                                                           \
                           "16384",                                                                \
                           1,                                                                      \
                           1u << 20,                                                               \
                           "operations without an answer, for each worker; more are refused"},     \
    [SET_MAX_BUFFER] = {"max_buffer_bytes",                                                        \
                        SETTING_UINT,                                                              \
                        "67108864",                                                                \
                        65536,                                                                     \
                        1ull << 33,                                                                \
                        "bytes of commands without an answer, for each worker; more are refused, " \
                        "except for one operation alone"}

const struct backend_setting redis_settings[] = {
    CONNECTION_SETTINGS("keys are stored as <key_prefix>:<namespace>:<key>; 1 to 64 printable "
                        "characters without ':' and '%'"),
    {.name = NULL},
};

const struct backend_setting redis_stream_settings[] = {
    CONNECTION_SETTINGS(
        "of Prism's own keys, <key_prefix>:wake and <key_prefix>:order:..; 1 to 64 printable "
        "characters without ':' and '%'"),
    [SET_CLAIM_IDLE] = {"claim_idle_ms", SETTING_UINT, "20000", 100, 86400000,
                        "what a process that has died had taken is taken over after this time; "
                        "the same for all processes of a group"},
    [SET_MAX_LENGTH] = {"max_length", SETTING_UINT, "0", 0, 1ull << 40,
                        "entries of a stream, about; older ones are trimmed; 0: no bound"},
    [SET_MAX_AGE] = {"max_age_ms", SETTING_UINT, "0", 0, 1ull << 42,
                     "age of entries, about; older ones are trimmed; 0: no bound"},
    [SET_TRIM_UNREAD] = {"trim_unread", SETTING_BOOL, "false", 0, 0,
                         "trim also what a group has not settled; else trimming waits for it"},
    {.name = NULL},
};

static char *copy_or_null(const char *text)
{
    char *copy = NULL;

    if (text[0] != '\0' && (copy = strdup(text)) == NULL)
        abort();
    return copy;
}

/* ---- what the table cannot say ---- */

static bool is_given(const struct backend_value *value)
{
    return value->text[0] != '\0';
}

static bool is_named(const char *part_of_address)
{
    return part_of_address != NULL && part_of_address[0] != '\0';
}

static void fault(struct backend_faults *faults, enum setting at, const char *text, const char *fix)
{
    backend_fault_add(faults, (struct backend_fault){
                                  .setting = redis_settings[at].name, .text = text, .fix = fix});
}

static void contradicts(struct backend_faults *faults, enum setting at, enum setting other,
                        const char *text, const char *fix)
{
    backend_fault_add(faults, (struct backend_fault){.setting = redis_settings[at].name,
                                                     .other = redis_settings[other].name,
                                                     .text = text,
                                                     .fix = fix});
}

/* What the address says and a setting too must not be different things. */
static void check_against_address(const struct redis_address *address,
                                  const struct backend_value *values, struct backend_faults *faults)
{
    static const enum setting names[] = {SET_DATABASE, SET_DB};

    if (is_named(address->username) && is_given(&values[SET_USERNAME]))
        contradicts(faults, SET_USERNAME, SET_ADDRESS, "the address names a user as well",
                    "remove it, or the user from `address`");
    if (address->password != NULL && is_given(&values[SET_PASSWORD]))
        contradicts(faults, SET_PASSWORD, SET_ADDRESS, "the address holds a password as well",
                    "remove it, or the password from `address`");
    for (unsigned i = 0; address->database >= 0 && i < ARRAY_LEN(names); i++) {
        uint64_t database = values[names[i]].number;

        if (database != 0 && database != (uint64_t)address->database)
            contradicts(faults, names[i], SET_ADDRESS, "the address names another database",
                        "remove it, or the database from `address`");
    }
}

void redis_settings_check(const struct backend_value *values, struct backend_faults *faults)
{
    struct redis_address address;
    struct err e = redis_address_parse(&address, slice_str(values[SET_ADDRESS].text));
    uint64_t database = values[SET_DATABASE].number, db = values[SET_DB].number;

    if (e.code == ERR_OK)
        check_against_address(&address, values, faults);
    else
        fault(
            faults, SET_ADDRESS, e.text,
            "like localhost:6379, [::1]:6379, redis://HOST:PORT/DATABASE or unix:/run/redis.sock");
    redis_address_clear(&address);
    if (database != 0 && db != 0 && database != db)
        contradicts(faults, SET_DB, SET_DATABASE, "`database` says otherwise",
                    "remove one of the two");
    if (!redis_prefix_root_valid(values[SET_KEY_PREFIX].text))
        fault(faults, SET_KEY_PREFIX, "is not 1 to 64 printable characters without ':' and '%'",
              "remove it for the default, prism");
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
    return (struct redis_login){
        .username = copy_or_null(is_named(address->username) ? address->username
                                                             : values[SET_USERNAME].text),
        .password = copy_or_null(address->password != NULL ? address->password
                                                           : values[SET_PASSWORD].text)};
}

struct redis_login redis_store_login(struct redis_store *store)
{
    struct redis_login login;

    pthread_mutex_lock(&store->lock);
    login.username = copy_text(store->username);
    login.password = copy_text(store->password);
    pthread_mutex_unlock(&store->lock);
    return login;
}

/* The old login goes into *login. */
static void swap_login(struct redis_store *store, struct redis_login *login)
{
    struct redis_login old;

    pthread_mutex_lock(&store->lock);
    old = (struct redis_login){.username = store->username, .password = store->password};
    store->username = login->username;
    store->password = login->password;
    pthread_mutex_unlock(&store->lock);
    *login = old;
}

void redis_store_reload(struct backend_store *base, const struct backend_value *values)
{
    struct redis_store *store = CONTAINER_OF(base, struct redis_store, base);
    struct redis_address address;

    if (redis_address_parse(&address, slice_str(values[SET_ADDRESS].text)).code != ERR_OK)
        return;

    struct redis_login login = login_of(&address, values);

    swap_login(store, &login);
    redis_login_clear(&login);
    redis_address_clear(&address);
}

/* ---- the store ---- */

void redis_store_close(struct backend_store *base)
{
    struct redis_store *store = CONTAINER_OF(base, struct redis_store, base);
    struct redis_login login = {0};

    swap_login(store, &login);
    redis_login_clear(&login);
    redis_address_clear(&store->address);
    free(store->prefix);
    pthread_mutex_destroy(&store->lock);
    backend_store_clear(base);
    free(store);
}

static void take_settings(struct redis_store *store, const struct backend_value *values)
{
    store->dial_timeout_ns = values[SET_DIAL_TIMEOUT].number * NS_PER_MS;
    store->command_timeout_ns = values[SET_COMMAND_TIMEOUT].number * NS_PER_MS;
    store->max_in_flight = values[SET_MAX_IN_FLIGHT].number;
    store->max_buffer_bytes = values[SET_MAX_BUFFER].number;
    if (store->base.type->settings == redis_stream_settings) {
        store->claim_idle_ms = values[SET_CLAIM_IDLE].number;
        store->max_length = values[SET_MAX_LENGTH].number;
        store->max_age_ms = values[SET_MAX_AGE].number;
        store->trim_unread = values[SET_TRIM_UNREAD].number != 0;
    }
    store->database =
        values[SET_DATABASE].number != 0 ? values[SET_DATABASE].number : values[SET_DB].number;
    if (store->address.database >= 0)
        store->database = (uint64_t)store->address.database;
    store->shown_host =
        values[SET_ADDRESS].expanded ? "(from ${..})" : (const char *)store->address.host;
}

struct err redis_store_new(struct backend_store **out, const struct backend_type *type,
                           const struct backend_options *options)
{
    const struct backend_value *values = options->values;
    struct backend_faults faults = {.count = 0};
    struct redis_store *store;
    struct redis_login login;
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
    login = login_of(&store->address, values);
    swap_login(store, &login);
    *out = &store->base;
    return ERR_NONE;
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
