#include "backends/redis/redis_tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the context ---- */

/* Without it OpenSSL would ask the terminal. */
static int no_password(char *out, int room, int writing, void *arg)
{
    (void)out;
    (void)room;
    (void)writing;
    (void)arg;
    return -1;
}

static struct err refuse(const char *setting, const char *text)
{
    return err_about(ERR_FAILED_PRECONDITION, setting, text);
}

static struct err load(SSL_CTX *context, const struct redis_tls_files *files)
{
    if (files->ca != NULL && SSL_CTX_load_verify_locations(context, files->ca, NULL) != 1)
        return refuse("tls_ca", "the file cannot be read or holds no certificates in PEM");
    if (files->ca == NULL && SSL_CTX_set_default_verify_paths(context) != 1)
        return refuse("tls_ca", "the system's authorities cannot be read; name a file");
    if (files->cert != NULL && SSL_CTX_use_certificate_chain_file(context, files->cert) != 1)
        return refuse("tls_cert", "the file cannot be read or holds no certificate in PEM");
    if (files->key != NULL &&
        SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1)
        return refuse("tls_key", "the file cannot be read, holds no private key in PEM without a "
                                 "password, or is not the key of tls_cert");
    return ERR_NONE;
}

struct err redis_tls_context(struct ssl_ctx_st **out, const struct redis_tls_files *files)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    struct err err;

    if (context == NULL)
        abort();
    *out = NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION); /* reading never has to write */
    SSL_CTX_set_default_passwd_cb(context, no_password);
    /* What a write could not send is sent again from the connection's own buffers, which move. */
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, files->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    err = load(context, files);
    ERR_clear_error();
    if (err.code != ERR_OK)
        SSL_CTX_free(context);
    else
        *out = context;
    return err;
}

struct ssl_ctx_st *redis_tls_context_ref(struct ssl_ctx_st *context)
{
    if (context != NULL)
        SSL_CTX_up_ref(context);
    return context;
}

void redis_tls_context_unref(struct ssl_ctx_st *context)
{
    SSL_CTX_free(context);
}

/* ---- a session ---- */

static bool is_numeric(const char *name)
{
    unsigned char ignored[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, name, ignored) == 1 || inet_pton(AF_INET6, name, ignored) == 1;
}

struct ssl_st *redis_tls_session(struct ssl_ctx_st *context, int fd, const char *name)
{
    SSL *session = SSL_new(context);

    if (session == NULL || SSL_set_fd(session, fd) != 1)
        abort();
    if (is_numeric(name)) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name);
    } else {
        SSL_set1_host(session, name);
        SSL_set_tlsext_host_name(session, name);
    }
    SSL_set_connect_state(session);
    return session;
}

void redis_tls_free(struct ssl_st *session)
{
    SSL_free(session);
}

enum redis_tls_step redis_tls_shake(struct ssl_st *session)
{
    int n;

    ERR_clear_error();
    n = SSL_do_handshake(session);
    if (n == 1)
        return REDIS_TLS_DONE;
    switch (SSL_get_error(session, n)) {
    case SSL_ERROR_WANT_READ:
        return REDIS_TLS_READS;
    case SSL_ERROR_WANT_WRITE:
        return REDIS_TLS_WRITES;
    default:
        return REDIS_TLS_FAILED;
    }
}

static bool not_now(SSL *session, int result)
{
    int error = SSL_get_error(session, result);

    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

ssize_t redis_tls_read(struct ssl_st *session, char *to, size_t room)
{
    int n;

    ERR_clear_error();
    n = SSL_read(session, to, room < INT_MAX ? (int)room : INT_MAX);
    if (n > 0)
        return n;
    return not_now(session, n) ? 0 : -1;
}

/* A record at a time: of a longer write OpenSSL would send one record after another, and say "not
 * now" of all of them while the last one is not out. */
ssize_t redis_tls_write(struct ssl_st *session, const char *from, size_t bytes)
{
    size_t sent = 0;

    ERR_clear_error();
    while (sent < bytes) {
        size_t left = bytes - sent;
        int n =
            SSL_write(session, from + sent, left < REDIS_TLS_RECORD ? (int)left : REDIS_TLS_RECORD);

        if (n > 0)
            sent += (size_t)n;
        else if (not_now(session, n))
            break;
        else
            return sent > 0 ? (ssize_t)sent : -1; /* the next write or read fails as well */
    }
    return (ssize_t)sent;
}

/* ---- what went wrong ---- */

static const char *verification_problem(long result)
{
    switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "the certificate of redis is for another name: see tls_server_name";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "the certificate of redis has expired, or is not valid yet";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return "the certificate of redis comes from an authority that tls_ca does not name";
    default:
        return "the certificate of redis is not accepted";
    }
}

static const char *alert_problem(int reason)
{
    switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_HTTP_REQUEST:
        return "this redis does not speak TLS on this port";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return "redis demands a client certificate: see tls_cert";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
        return "redis does not accept the client certificate (tls_cert)";
    default:
        return "the TLS connection to redis failed";
    }
}

const char *redis_tls_problem(struct ssl_st *session, char *detail, size_t room)
{
    unsigned long error = ERR_peek_error();
    long verified = SSL_get_verify_result(session);

    if (error == 0 || ERR_GET_LIB(error) != ERR_LIB_SSL)
        return NULL;
    if (verified != X509_V_OK && SSL_get_verify_mode(session) != SSL_VERIFY_NONE) {
        snprintf(detail, room, "%s", X509_verify_cert_error_string(verified));
        return verification_problem(verified);
    }
    ERR_error_string_n(error, detail, room);
    return alert_problem(ERR_GET_REASON(error));
}
