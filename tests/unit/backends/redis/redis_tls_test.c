/* What OpenSSL has taken of a write that is not over: no more than a record. All behind that may
 * change, or go, before the next write: redis_sift.c. */
#include "backends/redis/redis_tls.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { BYTES = 1 << 20, SMALL_BUFFER = 4096, PIECE = 3000, HANDSHAKE_STEPS = 100 };

struct world {
    SSL_CTX *context;
    SSL *peer;
    struct ssl_ctx_st *own_context;
    struct ssl_st *own;
    int pair[2];
    char *out, *got;
    size_t sent, got_bytes;
};

/* A certificate of its own, which nobody verifies. */
static SSL_CTX *server_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *cert = X509_new();

    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(context, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    return context;
}

static void shake(struct world *w)
{
    enum redis_tls_step step = REDIS_TLS_READS;
    int peer = 0;

    for (int i = 0; i < HANDSHAKE_STEPS && (step != REDIS_TLS_DONE || peer != 1); i++) {
        if (step != REDIS_TLS_DONE)
            step = redis_tls_shake(w->own);
        if (peer != 1)
            peer = SSL_do_handshake(w->peer);
    }
    assert_int_equal(step, REDIS_TLS_DONE);
    assert_int_equal(peer, 1);
}

static void open_world(struct world *w)
{
    const struct redis_tls_files files = {.verify = false};
    int small = SMALL_BUFFER;

    *w = (struct world){.out = test_malloc(BYTES), .got = test_malloc(BYTES)};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, w->pair), 0);
    setsockopt(w->pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    w->context = server_context();
    w->peer = SSL_new(w->context);
    SSL_set_fd(w->peer, w->pair[1]);
    SSL_set_accept_state(w->peer);
    assert_int_equal(redis_tls_context(&w->own_context, &files).code, ERR_OK);
    w->own = redis_tls_session(w->own_context, w->pair[0], "redis");
    shake(w);
}

static void close_world(struct world *w)
{
    redis_tls_free(w->own);
    redis_tls_context_unref(w->own_context);
    SSL_free(w->peer);
    SSL_CTX_free(w->context);
    close(w->pair[0]);
    close(w->pair[1]);
    test_free(w->out);
    test_free(w->got);
}

static void read_some(struct world *w)
{
    int n = SSL_read(w->peer, w->got + w->got_bytes, PIECE);

    w->got_bytes += n > 0 ? (size_t)n : 0;
}

/* Another text stands behind what a write may have taken when the next one is offered it. */
static void written_in_steps(struct world *w)
{
    char turn = 0;

    memset(w->out, turn, BYTES);
    while (w->sent < BYTES) {
        ssize_t n = redis_tls_write(w->own, w->out + w->sent, BYTES - w->sent);
        size_t taken;

        assert_true(n >= 0);
        w->sent += (size_t)n;
        taken = w->sent + REDIS_TLS_RECORD;
        if (taken < BYTES)
            memset(w->out + taken, ++turn, BYTES - taken);
        read_some(w);
    }
    while (w->got_bytes < BYTES)
        read_some(w);
    assert_memory_equal(w->got, w->out, BYTES);
}

static void what_is_behind_a_record_may_change(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    written_in_steps(&w);
    close_world(&w);
}

/* The next write offers less than the last one did, but for a record. */
static void what_is_behind_a_record_may_go(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    for (size_t i = 0; w.sent < BYTES; i++) {
        size_t left = BYTES - w.sent;
        size_t offer = i % 2 == 0 || left < REDIS_TLS_RECORD ? left : REDIS_TLS_RECORD;
        ssize_t n = redis_tls_write(w.own, w.out + w.sent, offer);

        assert_true(n >= 0);
        w.sent += (size_t)n;
        w.got_bytes = 0;
        read_some(&w);
    }
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_behind_a_record_may_change),
        cmocka_unit_test(what_is_behind_a_record_may_go),
    };

    return cmocka_run_group_tests_name("redis_tls", tests, NULL, NULL);
}
