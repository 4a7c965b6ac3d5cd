/* Would gRPC take these PEM texts? It finds out when it builds what a handshake needs, writes the
 * reason to its own log, and goes on with what it has: at the start that is no listener, after a
 * reload the old certificate. We want to know before. So this does what gRPC does with them, and is
 * stricter in one thing: gRPC stops without a word at the first certificate of a text that it
 * cannot read, and forgets the rest. */
#include "src/rpc/tls_check.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdlib.h>

static struct err refuse(const char *subject, const char *text)
{
    return err_about(ERR_FAILED_PRECONDITION, subject, text);
}

static BIO *open_text(const char *text)
{
    BIO *bio = BIO_new_mem_buf(text, -1);

    if (bio == NULL)
        abort();
    return bio;
}

/* Refuses, and notes that it was asked; without a callback, OpenSSL would ask the terminal. */
static int no_password(char *out, int room, int writing, void *asked)
{
    (void)out;
    (void)room;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

/* The first one is the server's own, the others lead to its authority. OpenSSL looks at the
 * strength of each. */
static bool add_to_chain(SSL_CTX *ctx, X509 *certificate, int index)
{
    if (index == 0)
        return SSL_CTX_use_certificate(ctx, certificate) == 1;
    return SSL_CTX_add1_chain_cert(ctx, certificate) == 1;
}

/* One certificate or more, and nothing in between that looks like one and is none. ctx: gets them
 * as its chain; may be NULL. */
static bool read_certificates(const char *text, SSL_CTX *ctx)
{
    BIO *bio = open_text(text);
    bool good = true, asked = false;
    X509 *one;
    int n = 0;

    while (good && (one = PEM_read_bio_X509_AUX(bio, NULL, no_password, &asked)) != NULL) {
        good = ctx == NULL || add_to_chain(ctx, one, n);
        X509_free(one);
        n++;
    }
    /* What ended the loop has to be the end of the text. */
    unsigned long why = ERR_peek_last_error();

    BIO_free(bio);
    return good && n > 0 && ERR_GET_LIB(why) == ERR_LIB_PEM &&
           ERR_GET_REASON(why) == PEM_R_NO_START_LINE;
}

static struct err check_cert(const char *text, SSL_CTX *ctx)
{
    if (!read_certificates(text, ctx))
        return refuse("tls.cert", "tls.cert holds no chain of certificates in PEM, or one that "
                                  "OpenSSL refuses: garbled, or too weak");
    return ERR_NONE;
}

enum key_fault { KEY_GOOD, KEY_ENCRYPTED, KEY_GARBLED, KEY_OF_ANOTHER };

/* ctx holds the certificate; NULL: there is none. */
static enum key_fault read_key(const char *text, SSL_CTX *ctx)
{
    BIO *bio = open_text(text);
    bool asked = false;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &asked);
    enum key_fault fault = KEY_GOOD;

    if (key == NULL)
        fault = asked ? KEY_ENCRYPTED : KEY_GARBLED;
    else if (ctx != NULL &&
             (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1))
        fault = KEY_OF_ANOTHER;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return fault;
}

static struct err check_key(const char *text, SSL_CTX *ctx)
{
    static const char *const texts[] = {
        [KEY_ENCRYPTED] = "tls.key is encrypted: it has to be readable without a password",
        [KEY_GARBLED] = "tls.key holds no private key in PEM, or a garbled one",
        [KEY_OF_ANOTHER] = "tls.key is not the key of the first certificate in tls.cert",
    };
    enum key_fault fault = read_key(text, ctx);

    return fault != KEY_GOOD ? refuse("tls.key", texts[fault]) : ERR_NONE;
}

static struct err check_client_ca(const char *text)
{
    if (text != NULL && !read_certificates(text, NULL))
        return refuse("tls.client_ca", "tls.client_ca holds no certificates in PEM, or a garbled "
                                       "one");
    return ERR_NONE;
}

struct err tls_check(const char *cert, const char *key, const char *client_ca)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (ctx == NULL)
        return refuse("tls", "OpenSSL cannot be used: look at its own configuration");
    ERR_clear_error(); /* read_certificates looks at the last one */

    struct err err = check_cert(cert, ctx);

    if (err.code == ERR_OK)
        err = check_key(key, ctx);
    if (err.code == ERR_OK)
        err = check_client_ca(client_ca);
    SSL_CTX_free(ctx);
    ERR_clear_error(); /* the next handshake on this thread must not find ours */
    return err;
}

const char *tls_check_certificates(const char *certificates)
{
    bool good;

    ERR_clear_error();
    good = read_certificates(certificates, NULL);
    ERR_clear_error();
    return good ? NULL : "holds no certificates in PEM, or a garbled one";
}

const char *tls_check_key(const char *key, const char *certificates)
{
    static const char *const texts[] = {
        [KEY_GOOD] = NULL,
        [KEY_ENCRYPTED] = "is encrypted: it has to be readable without a password",
        [KEY_GARBLED] = "holds no private key in PEM, or a garbled one",
        [KEY_OF_ANOTHER] = "is not the key of the certificate that is given with it",
    };
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    enum key_fault fault;

    ERR_clear_error();
    if (ctx != NULL && (certificates == NULL || !read_certificates(certificates, ctx))) {
        SSL_CTX_free(ctx);
        ctx = NULL;
    }
    fault = read_key(key, ctx);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return texts[fault];
}
