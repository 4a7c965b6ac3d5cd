/* Server credentials from PEM files. gRPC asks for the certificate at each handshake; a reload only
 * swaps what it is told next, so open connections keep theirs. A file that does not load keeps the
 * old certificate. */
#include "src/rpc/rpc_priv.h"

#include "src/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PEM_BYTES = 1 << 20 };

struct tls_files {
    pthread_mutex_t lock;
    struct rpc_tls paths;         /* owned copies */
    char *cert, *key, *client_ca; /* contents; client_ca may be NULL */
    bool changed;                 /* since gRPC last asked */
};

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text;
    size_t n;

    if (file == NULL)
        return NULL;
    text = malloc(MAX_PEM_BYTES);
    if (text == NULL)
        abort();
    n = fread(text, 1, MAX_PEM_BYTES - 1, file);
    fclose(file);
    text[n] = '\0';
    return text;
}

static struct err check_pem(const char *text, const char *marker, const char *missing,
                            const char *garbled)
{
    if (text == NULL)
        return err_make(ERR_FAILED_PRECONDITION, missing);
    if (strstr(text, marker) == NULL)
        return err_make(ERR_FAILED_PRECONDITION, garbled);
    return ERR_NONE;
}

static struct err check_set(const char *cert, const char *key, const char *ca, bool wants_ca)
{
    struct err err = check_pem(cert, "-----BEGIN CERTIFICATE-----", "tls.cert cannot be read",
                               "tls.cert holds no PEM certificate");

    if (err.code == ERR_OK)
        err = check_pem(key, "PRIVATE KEY-----", "tls.key cannot be read",
                        "tls.key holds no PEM key");
    if (err.code == ERR_OK && wants_ca)
        err = check_pem(ca, "-----BEGIN CERTIFICATE-----", "tls.client_ca cannot be read",
                        "tls.client_ca holds no PEM certificate");
    return err;
}

static void swap(char **held, char *fresh)
{
    free(*held);
    *held = fresh;
}

struct err tls_reload(struct tls_files *files)
{
    char *cert = read_file(files->paths.cert_file);
    char *key = read_file(files->paths.key_file);
    const char *ca_file = files->paths.client_ca_file;
    char *ca = ca_file != NULL ? read_file(ca_file) : NULL;
    struct err err = check_set(cert, key, ca, ca_file != NULL);

    if (err.code != ERR_OK) {
        free(cert);
        free(key);
        free(ca);
        return err;
    }
    pthread_mutex_lock(&files->lock);
    swap(&files->cert, cert);
    swap(&files->key, key);
    swap(&files->client_ca, ca);
    files->changed = true;
    pthread_mutex_unlock(&files->lock);
    return ERR_NONE;
}

static char *copy_path(const char *path)
{
    char *copy = path != NULL ? strdup(path) : NULL;

    if (path != NULL && copy == NULL)
        abort();
    return copy;
}

struct err tls_open(struct tls_files **out, const struct rpc_tls *options)
{
    struct tls_files *files = calloc(1, sizeof *files);

    if (files == NULL)
        abort();
    pthread_mutex_init(&files->lock, NULL);
    files->paths = (struct rpc_tls){.cert_file = copy_path(options->cert_file),
                                    .key_file = copy_path(options->key_file),
                                    .client_ca_file = copy_path(options->client_ca_file)};

    struct err err = tls_reload(files);

    if (err.code != ERR_OK) {
        tls_close(files);
        return err;
    }
    *out = files;
    return ERR_NONE;
}

/* thread: whichever of gRPC's handles the handshake. */
static grpc_ssl_certificate_config_reload_status fetch(void *arg,
                                                       grpc_ssl_server_certificate_config **config)
{
    struct tls_files *files = arg;
    grpc_ssl_certificate_config_reload_status status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;

    pthread_mutex_lock(&files->lock);
    if (files->changed) {
        grpc_ssl_pem_key_cert_pair pair = {.private_key = files->key, .cert_chain = files->cert};

        /* gRPC insists on roots when certificates are fetched, also when it asks clients for none.
         */
        const char *roots = files->client_ca != NULL ? files->client_ca : files->cert;

        *config = grpc_ssl_server_certificate_config_create(roots, &pair, 1);
        files->changed = false;
        status = *config != NULL ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW
                                 : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
    }
    pthread_mutex_unlock(&files->lock);
    return status;
}

grpc_server_credentials *tls_credentials(struct tls_files *files)
{
    grpc_ssl_client_certificate_request_type request =
        files->client_ca != NULL ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                 : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;

    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, fetch, files));
}

void tls_close(struct tls_files *files)
{
    if (files == NULL)
        return;
    free((char *)(uintptr_t)files->paths.cert_file);
    free((char *)(uintptr_t)files->paths.key_file);
    free((char *)(uintptr_t)files->paths.client_ca_file);
    free(files->cert);
    free(files->key);
    free(files->client_ca);
    pthread_mutex_destroy(&files->lock);
    free(files);
}
