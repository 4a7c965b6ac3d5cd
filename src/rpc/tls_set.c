#include "src/rpc/tls_set.h"

#include "src/base/file.h"
#include "src/base/secret.h"
#include "src/rpc/tls_check.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PEM_BYTES = 1 << 20 };

/* A copy of its own size; NULL for what is no text. room: the buffer for all files. */
static char *read_pem(const char *path, char *room)
{
    ssize_t len = file_read(path, room, MAX_PEM_BYTES);
    char *text = NULL;

    if (len >= 0 && memchr(room, '\0', (size_t)len) == NULL) {
        text = strndup(room, (size_t)len);
        if (text == NULL)
            abort();
    }
    secret_wipe(room, MAX_PEM_BYTES + 1);
    return text;
}

static struct err refuse(const char *subject, const char *text)
{
    return err_about(ERR_FAILED_PRECONDITION, subject, text);
}

static struct err check_set(const struct tls_set *set, bool wants_ca)
{
    if (set->cert == NULL)
        return refuse("tls.cert", "tls.cert cannot be read: no regular file, not permitted, "
                                  "larger than 1 MiB, or no text");
    if (set->key == NULL)
        return refuse("tls.key", "tls.key cannot be read: no regular file, not permitted, larger "
                                 "than 1 MiB, or no text");
    if (wants_ca && set->client_ca == NULL)
        return refuse("tls.client_ca", "tls.client_ca cannot be read: no regular file, not "
                                       "permitted, larger than 1 MiB, or no text");
    return tls_check(set->cert, set->key, set->client_ca);
}

struct err tls_set_read(struct tls_set *set, const char *cert_file, const char *key_file,
                        const char *client_ca_file)
{
    char *room = malloc(MAX_PEM_BYTES + 1);

    if (room == NULL)
        abort();
    *set = (struct tls_set){.cert = read_pem(cert_file, room), .key = read_pem(key_file, room)};
    if (client_ca_file != NULL)
        set->client_ca = read_pem(client_ca_file, room);
    free(room);

    struct err err = check_set(set, client_ca_file != NULL);

    if (err.code != ERR_OK)
        tls_set_clear(set);
    return err;
}

void tls_set_clear(struct tls_set *set)
{
    secret_free(set->cert);
    secret_free(set->key);
    secret_free(set->client_ca);
    *set = (struct tls_set){.cert = NULL};
}

struct err tls_set_try(const char *cert_file, const char *key_file, const char *client_ca_file)
{
    struct tls_set set;
    struct err err = tls_set_read(&set, cert_file, key_file, client_ca_file);

    if (err.code == ERR_OK)
        tls_set_clear(&set);
    return err;
}

const char *tls_set_fault(const char *cert_file, const char *key_file)
{
    char *room = malloc(MAX_PEM_BYTES + 1);
    const char *fault = NULL;
    char *cert, *key;

    if (room == NULL)
        abort();
    cert = cert_file != NULL ? read_pem(cert_file, room) : NULL;
    key = key_file != NULL ? read_pem(key_file, room) : NULL;
    if (key != NULL)
        fault = tls_check_key(key, cert);
    else if (key_file == NULL && cert != NULL)
        fault = tls_check_certificates(cert);
    secret_free(cert);
    secret_free(key);
    free(room);
    return fault;
}
