/* Would gRPC take these PEM texts? It finds out when it builds a handshake, says so in its own log,
 * and goes on with what it has: at the start that is no listener, after a reload the old
 * certificate. We want to know before. */
#include "src/rpc/rpc_priv.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>

static BIO *open_text(const char *text)
{
    BIO *bio = BIO_new_mem_buf(text, (int)strlen(text));

    if (bio == NULL)
        abort();
    return bio;
}

/* An encrypted key is refused; without this, OpenSSL would ask the terminal. */
static int no_password(char *out, int room, int writing, void *arg)
{
    (void)out;
    (void)room;
    (void)writing;
    (void)arg;
    return -1;
}

/* The certificates of the text, one or more; the first one goes into ctx, if there is one. */
static bool read_certificates(const char *text, SSL_CTX *ctx)
{
    BIO *bio = open_text(text);
    int n = 0;
    bool good = true;

    for (X509 *one; good && (one = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL; n++) {
        good = n > 0 || ctx == NULL || SSL_CTX_use_certificate(ctx, one) == 1;
        X509_free(one);
    }
    /* What ends the loop has to be the end of the text. */
    unsigned long why = ERR_peek_last_error();

    good = good && n > 0 && ERR_GET_LIB(why) == ERR_LIB_PEM &&
           ERR_GET_REASON(why) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    return good;
}

static struct err check_key(const char *text, SSL_CTX *ctx)
{
    BIO *bio = open_text(text);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    struct err err = ERR_NONE;

    if (key == NULL)
        err = err_about(ERR_FAILED_PRECONDITION, "tls.key",
                        "tls.key holds no private key that can be read without a password");
    else if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1)
        err = err_about(ERR_FAILED_PRECONDITION, "tls.key",
                        "tls.key is not the key of the first certificate in tls.cert");
    EVP_PKEY_free(key);
    BIO_free(bio);
    return err;
}

struct err tls_check(const char *cert, const char *key, const char *client_ca)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    struct err err = ERR_NONE;

    if (ctx == NULL)
        abort();
    ERR_clear_error();
    if (!read_certificates(cert, ctx))
        err = err_about(ERR_FAILED_PRECONDITION, "tls.cert",
                        "tls.cert holds no chain of certificates in PEM that can be used");
    else
        err = check_key(key, ctx);
    if (err.code == ERR_OK && client_ca != NULL && !read_certificates(client_ca, NULL))
        err = err_about(ERR_FAILED_PRECONDITION, "tls.client_ca",
                        "tls.client_ca holds no certificates in PEM that can be used");
    ERR_clear_error();
    SSL_CTX_free(ctx);
    return err;
}
