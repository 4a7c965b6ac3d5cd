/* Server credentials from PEM files. gRPC asks for the certificate at each handshake; a reload only
 * swaps what it is told next, so open connections keep theirs. The files are taken together or not
 * at all: a set that cannot serve leaves the old one in use. */
#include "src/rpc/rpc_priv.h"
#include "src/rpc/tls_check.h"

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

/* NULL: it cannot be read to its end, or has no end within MAX_PEM_BYTES. */
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
    n = fread(text, 1, MAX_PEM_BYTES, file);

    bool whole = n < MAX_PEM_BYTES && !ferror(file);

    fclose(file);
    if (!whole) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static struct err check_set(const char *cert, const char *key, const char *ca, bool wants_ca)
{
    if (cert == NULL)
        return err_about(ERR_FAILED_PRECONDITION, "tls.cert",
                         "tls.cert cannot be read, or is larger than 1 MiB");
    if (key == NULL)
        return err_about(ERR_FAILED_PRECONDITION, "tls.key",
                         "tls.key cannot be read, or is larger than 1 MiB");
    if (wants_ca && ca == NULL)
        return err_about(ERR_FAILED_PRECONDITION, "tls.client_ca",
                         "tls.client_ca cannot be read, or is larger than 1 MiB");
    return tls_check(cert, key, ca);
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
