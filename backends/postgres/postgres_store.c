/* What the instances of one slot share. Calls take no lock: the store's guards the tally of the
 * instances' states and the login, touched when a connection comes or goes. */
#include "backends/postgres/postgres_store.h"

#include "backends/postgres/postgres.h"
#include "backends/postgres/postgres_conn.h"

#include <stdlib.h>
#include <string.h>

static char *copy_text(const char *text)
{
    char *copy = text != NULL ? strdup(text) : NULL;

    if (text != NULL && copy == NULL)
        abort();
    return copy;
}

struct postgres_login postgres_store_login(struct postgres_store *store)
{
    struct postgres_login login;

    pthread_mutex_lock(&store->lock);
    login = (struct postgres_login){.username = copy_text(store->login.username),
                                    .password = copy_text(store->login.password)};
    pthread_mutex_unlock(&store->lock);
    return login;
}

/* The old login goes into *login. */
static void swap_login(struct postgres_store *store, struct postgres_login *login)
{
    pthread_mutex_lock(&store->lock);

    struct postgres_login old = store->login;

    store->login = *login;
    pthread_mutex_unlock(&store->lock);
    *login = old;
}

void postgres_store_reload(struct backend_store *base, const struct backend_value *values)
{
    struct backend_faults faults = {.count = 0};

    postgres_settings_check(values, &faults);
    if (faults.count > 0)
        return;

    struct postgres_login login = postgres_login_take(values);

    swap_login(CONTAINER_OF(base, struct postgres_store, base), &login);
    postgres_login_clear(&login);
}

struct err postgres_store_open(struct backend_store **out, const struct backend_options *options)
{
    struct backend_faults faults = {.count = 0};
    struct postgres_store *store;

    postgres_settings_check(options->values, &faults);
    if (faults.count > 0)
        return err_about(ERR_INVALID_ARGUMENT, faults.items[0].setting, faults.items[0].text);
    store = calloc(1, sizeof *store);
    if (store == NULL)
        abort();
    backend_store_init(&store->base, &backend_postgres, options);
    pthread_mutex_init(&store->lock, NULL);
    store->connects = (struct log_budget)LOG_BUDGET(20, 5000);
    store->losses = (struct log_budget)LOG_BUDGET(20, 5000);
    store->migrations = (struct log_budget)LOG_BUDGET(20, 5000);
    store->troubles = (struct log_budget)LOG_BUDGET(20, 5000);
    atomic_store(&store->base.state_text, "not connected to postgres yet");
    atomic_store(&store->base.eviction, BACKEND_EVICTION_NEVER);
    postgres_settings_take(store, options->values);
    store->login = postgres_login_take(options->values);
    for (unsigned i = 0; i < POSTGRES_STATEMENTS; i++)
        store->sql[i] =
            postgres_sql_for(postgres_sql((enum postgres_statement)i), store->config.schema);
    *out = &store->base;
    return ERR_NONE;
}

void postgres_store_close(struct backend_store *base)
{
    struct postgres_store *store = CONTAINER_OF(base, struct postgres_store, base);

    for (unsigned i = 0; i < POSTGRES_STATEMENTS; i++)
        free(store->sql[i]);
    postgres_login_clear(&store->login);
    postgres_config_clear(&store->config);
    pthread_mutex_destroy(&store->lock);
    backend_store_clear(base);
    free(store);
}

/* ---- health ---- */

/* The worst of the instances' states, by what it means for calls. */
static enum backend_state worst_of(const struct postgres_store *store)
{
    static const enum backend_state order[] = {BACKEND_DOWN, BACKEND_CONNECTING, BACKEND_DEGRADED};

    for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
        if (store->states[order[i]] > 0)
            return order[i];
    }
    return store->states[BACKEND_READY] > 0 ? BACKEND_READY : BACKEND_CONNECTING;
}

void postgres_join(struct postgres_store *store, struct postgres *postgres)
{
    pthread_mutex_lock(&store->lock);
    store->states[postgres->reported]++;
    pthread_mutex_unlock(&store->lock);
}

void postgres_leave(struct postgres_store *store, struct postgres *postgres)
{
    pthread_mutex_lock(&store->lock);
    store->states[postgres->reported]--;
    pthread_mutex_unlock(&store->lock);
}

void postgres_report(struct postgres *postgres, enum backend_state state, const char *text)
{
    struct postgres_store *store = postgres_store_of(postgres);

    pthread_mutex_lock(&store->lock);
    store->states[postgres->reported]--;
    store->states[state]++;
    store->texts[state] = text;
    postgres->reported = state;

    enum backend_state worst = worst_of(store);

    atomic_store(&store->base.state_text, store->texts[worst]);
    atomic_store(&store->base.state, (int)worst);
    pthread_mutex_unlock(&store->lock);
}

void postgres_report_ack(struct postgres_store *store, enum backend_ack ack)
{
    if (atomic_exchange(&store->base.ack, (int)ack) != (int)ack)
        atomic_fetch_add(&store->base.facts_version, 1);
}
