/* Settings of a slot, and what its instances share. */
#include "backends/aws/aws_store.h"

#include "backends/aws/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *must(char *text)
{
    if (text == NULL)
        abort();
    return text;
}

/* ---- what the table cannot say ---- */

/* Letters, digits and what else a host, a port and an IPv6 address have. */
static bool is_host(const char *text)
{
    size_t len =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]");

    return len > 0 && text[len] == '\0';
}

/* Without the scheme; *tls: which one it was. */
static const char *host_of(const char *endpoint, bool *tls)
{
    *tls = strncmp(endpoint, "http://", 7) != 0;
    if (!*tls)
        return endpoint + 7;
    return strncmp(endpoint, "https://", 8) == 0 ? endpoint + 8 : endpoint;
}

static void fault(struct backend_faults *faults, const struct backend_setting *setting,
                  const struct backend_setting *other, const char *text, const char *fix)
{
    backend_fault_add(faults, (struct backend_fault){.setting = setting->name,
                                                     .other = other != NULL ? other->name : NULL,
                                                     .text = text,
                                                     .fix = fix});
}

/* A login that the settings leave to a file or to the environment has to be there. */
static void check_login(const struct backend_setting *table, const struct backend_value *values,
                        struct backend_faults *faults)
{
    struct aws_login login;
    struct err err;

    if (values[AWS_ACCESS_KEY].text[0] != '\0' || values[AWS_SECRET_KEY].text[0] != '\0')
        return;
    err = aws_login_read(&login, values);
    if (err.code == ERR_OK)
        aws_login_clear(&login);
    else if (values[AWS_CREDENTIALS_FILE].text[0] != '\0')
        fault(faults, &table[AWS_PROFILE], &table[AWS_CREDENTIALS_FILE], err.text, NULL);
    else
        fault(faults, &table[AWS_ACCESS_KEY], &table[AWS_CREDENTIALS_FILE], err.text, NULL);
}

void aws_settings_check(const struct backend_setting *table, const struct backend_value *values,
                        struct backend_faults *faults)
{
    bool tls, key = values[AWS_ACCESS_KEY].text[0] != '\0';
    const char *endpoint = values[AWS_ENDPOINT].text;

    if (endpoint[0] != '\0' && !is_host(host_of(endpoint, &tls)))
        fault(faults, &table[AWS_ENDPOINT], NULL, "is not [http://|https://]HOST[:PORT]",
              "like http://127.0.0.1:9000");
    if (!is_host(values[AWS_REGION].text))
        fault(faults, &table[AWS_REGION], NULL, "is not the name of a region", "like us-east-1");
    if (key && values[AWS_SECRET_KEY].text[0] == '\0')
        fault(faults, &table[AWS_SECRET_KEY], &table[AWS_ACCESS_KEY], "a key without its secret",
              "set it, or remove `access_key_id`");
    if (!key && values[AWS_SECRET_KEY].text[0] != '\0')
        fault(faults, &table[AWS_ACCESS_KEY], &table[AWS_SECRET_KEY], "a secret without its key",
              "set it, or remove `secret_access_key`");
    if (key && values[AWS_CREDENTIALS_FILE].text[0] != '\0')
        fault(faults, &table[AWS_CREDENTIALS_FILE], &table[AWS_ACCESS_KEY],
              "the login stands in the settings as well", "remove one of the two");
    check_login(table, values, faults);
}

/* ---- the store ---- */

enum { CURL = 8 /* what wakes it, and looks up names */ };

struct backend_descriptors aws_descriptors(const struct backend_value *values)
{
    return (struct backend_descriptors){.instance =
                                            (uint32_t)values[AWS_MAX_CONNECTIONS].number + CURL};
}

/* A port that is the scheme's own is left out, as it is from the header Host. */
static void take_endpoint(struct aws_store *store, const char *endpoint, const char *default_host)
{
    char *host, *port;

    store->tls = true;
    if (endpoint[0] != '\0')
        host = must(strdup(host_of(endpoint, &store->tls)));
    else if (asprintf(&host, default_host, store->region) < 0)
        abort();
    port = strrchr(host, ':');
    if (port != NULL && strcmp(port, store->tls ? ":443" : ":80") == 0)
        *port = '\0';
    store->host = host;
    if (asprintf(&store->origin, "%s://%s", store->tls ? "https" : "http", host) < 0)
        abort();
}

static void take_settings(struct aws_store *store, const struct backend_value *values)
{
    store->region = must(strdup(values[AWS_REGION].text));
    if (values[AWS_CA_FILE].text[0] != '\0')
        store->ca_file = must(strdup(values[AWS_CA_FILE].text));
    store->connect_timeout_ms = (uint32_t)values[AWS_CONNECT_TIMEOUT].number;
    store->request_timeout_ms = (uint32_t)values[AWS_REQUEST_TIMEOUT].number;
    store->max_connections = (uint32_t)values[AWS_MAX_CONNECTIONS].number;
    store->max_in_flight = (uint32_t)values[AWS_MAX_IN_FLIGHT].number;
    store->max_attempts = (uint32_t)values[AWS_MAX_ATTEMPTS].number;
    store->max_buffer_bytes = values[AWS_MAX_BUFFER].number;
}

struct err aws_store_init(struct aws_store *store, const struct backend_type *type,
                          const struct backend_options *options, const char *service,
                          const char *default_host)
{
    const struct backend_value *values = options->values;
    struct backend_faults faults = {.count = 0};
    struct err err;

    type->check(values, &faults);
    if (faults.count > 0)
        return err_about(ERR_INVALID_ARGUMENT, faults.items[0].setting, faults.items[0].text);
    err = aws_login_read(&store->login, values);
    if (err.code != ERR_OK)
        return err;
    backend_store_init(&store->base, type, options);
    pthread_mutex_init(&store->lock, NULL);
    store->service = service;
    store->losses = (struct log_budget)LOG_BUDGET(20, 5000);
    take_settings(store, values);
    take_endpoint(store, values[AWS_ENDPOINT].text, default_host);
    store->shown_host = values[AWS_ENDPOINT].expanded ? "(from ${..})" : store->host;
    if (!values[AWS_ENDPOINT].expanded)
        backend_store_place(&store->base, store->host, "", false);
    atomic_store(&store->base.state_text, "not connected yet");
    http_library_open();
    return ERR_NONE;
}

void aws_store_clear(struct aws_store *store)
{
    http_library_close();
    aws_login_clear(&store->login);
    free(store->origin);
    free(store->host);
    free(store->region);
    free(store->ca_file);
    pthread_mutex_destroy(&store->lock);
    backend_store_clear(&store->base);
}

/* ---- login ---- */

void aws_store_reload(struct backend_store *base, const struct backend_value *values)
{
    struct aws_store *store = CONTAINER_OF(base, struct aws_store, base);
    struct aws_login login, old;

    if (aws_login_read(&login, values).code != ERR_OK)
        return;
    pthread_mutex_lock(&store->lock);
    old = store->login;
    store->login = login;
    pthread_mutex_unlock(&store->lock);
    atomic_fetch_add(&store->login_version, 1);
    aws_login_clear(&old);
}

static char *copy_or_null(const char *text)
{
    return text != NULL ? must(strdup(text)) : NULL;
}

struct aws_login aws_store_login(struct aws_store *store)
{
    struct aws_login login;

    pthread_mutex_lock(&store->lock);
    login = (struct aws_login){.access_key = copy_or_null(store->login.access_key),
                               .secret_key = copy_or_null(store->login.secret_key),
                               .session_token = copy_or_null(store->login.session_token)};
    pthread_mutex_unlock(&store->lock);
    return login;
}

/* ---- health ---- */

/* The worst of the instances' states, by what it means for calls. */
static enum backend_state worst_of(const struct aws_store *store)
{
    static const enum backend_state order[] = {BACKEND_DOWN, BACKEND_CONNECTING, BACKEND_DEGRADED};

    for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
        if (store->states[order[i]] > 0)
            return order[i];
    }
    return store->states[BACKEND_READY] > 0 ? BACKEND_READY : BACKEND_CONNECTING;
}

void aws_tally(struct aws_store *store, int gone, int come, const char *text)
{
    pthread_mutex_lock(&store->lock);
    if (gone >= 0)
        store->states[gone]--;
    if (come >= 0) {
        store->states[come]++;
        store->texts[come] = text;
    }

    enum backend_state worst = worst_of(store);

    if (gone < 0 || come >= 0) {
        atomic_store(&store->base.state_text, store->texts[worst]);
        atomic_store(&store->base.state, (int)worst);
    }
    pthread_mutex_unlock(&store->lock);
}
