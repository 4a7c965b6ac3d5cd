/* Server credentials from PEM files. gRPC asks for the certificate at each handshake; a reload only
 * swaps what it is told next, so open connections keep theirs. The files are taken together or not
 * at all: a set that cannot serve leaves the old one in use. */
#include "src/rpc/rpc_priv.h"
#include "src/rpc/tls_set.h"

#include <stdlib.h>
#include <string.h>

struct tls_files {
    pthread_mutex_t lock;
    struct rpc_tls paths; /* owned copies */
    struct tls_set set;
    bool changed; /* since gRPC last asked */
};

struct err tls_reload(struct tls_files *files)
{
    struct tls_set fresh, old;
    struct err err = tls_set_read(&fresh, files->paths.cert_file, files->paths.key_file,
                                  files->paths.client_ca_file);

    if (err.code != ERR_OK)
        return err;
    pthread_mutex_lock(&files->lock);
    old = files->set;
    files->set = fresh;
    files->changed = true;
    pthread_mutex_unlock(&files->lock);
    tls_set_clear(&old);
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
        grpc_ssl_pem_key_cert_pair pair = {.private_key = files->set.key,
                                           .cert_chain = files->set.cert};

        /* gRPC insists on roots when certificates are fetched, also when it asks clients for none.
         */
        const char *roots = files->set.client_ca != NULL ? files->set.client_ca : files->set.cert;

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
        files->set.client_ca != NULL ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
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
    tls_set_clear(&files->set);
    pthread_mutex_destroy(&files->lock);
    free(files);
}
