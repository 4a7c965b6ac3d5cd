/* Certificates from files: what cannot be used is refused with its reason, at the start and at a
 * reload; what can be is presented to the next connection. Seen from OpenSSL, not from gRPC. */
#include "tests/unit/rpc/rpc_service.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ---- */

static char folder[64];

static const char *path_of(const char *name)
{
    static char paths[4][128];
    static int turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "we");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A self-signed certificate with this serial number, and its key; `password`: encrypt the key. */
static void issue(const char *cert_name, const char *key_name, long serial, const char *password)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    FILE *file;

    assert_non_null(key);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    if (cert_name != NULL) {
        file = fopen(path_of(cert_name), "we");
        assert_int_equal(PEM_write_X509(file, cert), 1);
        fclose(file);
    }
    if (key_name != NULL) {
        file = fopen(path_of(key_name), "we");
        assert_int_equal(PEM_write_PrivateKey(file, key,
                                              password != NULL ? EVP_aes_128_cbc() : NULL, NULL, 0,
                                              NULL, (char *)(uintptr_t)password),
                         1);
        fclose(file);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int open_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/prism-tls-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    issue("cert", "key", 1, NULL);
    issue(NULL, "other-key", 2, NULL);
    issue(NULL, "locked-key", 3, "secret");
    write_text("empty", "");
    write_text("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write_text("key-garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    return 0;
}

static int close_folder(void **state)
{
    static const char *const names[] = {"cert",  "key",     "other-key",   "locked-key",
                                        "empty", "garbage", "key-garbage", "cut"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unlink(path_of(names[i]));
    return rmdir(folder);
}

/* ---- refused at the start ---- */

static struct err try_files(const char *cert, const char *key, const char *ca)
{
    struct rpc_options options = default_options();
    const struct service *services[] = {&service};
    struct pool_options pool_options = {.workers = 1, .intake_depth = 64};
    struct rpc_server *server = NULL;
    struct pool *pool;

    options.tls = (struct rpc_tls){.cert_file = path_of(cert),
                                   .key_file = path_of(key),
                                   .client_ca_file = ca != NULL ? path_of(ca) : NULL};
    assert_int_equal(pool_start(&pool, &pool_options).code, ERR_OK);

    struct err err = rpc_server_new(&server, &options, pool, services, 1);

    if (err.code == ERR_OK)
        err = rpc_server_start(server);
    rpc_server_stop(server);
    pool_stop(pool);
    rpc_server_destroy(server);
    return err;
}

static void test_files_that_cannot_be_used(void **state)
{
    static const struct {
        const char *cert, *key, *ca, *subject;
    } rows[] = {
        {"absent", "key", NULL, "tls.cert"},         {"cert", "absent", NULL, "tls.key"},
        {"cert", "key", "absent", "tls.client_ca"},  {"empty", "key", NULL, "tls.cert"},
        {"cert", "empty", NULL, "tls.key"},          {"cert", "key", "empty", "tls.client_ca"},
        {"garbage", "key", NULL, "tls.cert"},        {"cert", "key-garbage", NULL, "tls.key"},
        {"cert", "key", "garbage", "tls.client_ca"}, {"cert", "other-key", NULL, "tls.key"},
        {"cert", "locked-key", NULL, "tls.key"},     {"key", "cert", NULL, "tls.cert"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = try_files(rows[i].cert, rows[i].key, rows[i].ca);

        assert_int_equal(err.code, ERR_FAILED_PRECONDITION);
        assert_string_equal(err.subject, rows[i].subject);
        assert_non_null(strstr(err.text, rows[i].subject));
    }
    assert_int_equal(try_files("cert", "key", NULL).code, ERR_OK);
    assert_int_equal(try_files("cert", "key", "cert").code, ERR_OK);
}

/* ---- presented to clients ---- */

/* Serial number of the certificate that a new connection gets. */
static long presented(int port)
{
    static const unsigned char h2[] = {2, 'h', '2'};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    SSL_set_alpn_protos(ssl, h2, sizeof h2);
    SSL_set_fd(ssl, fd);
    assert_int_equal(SSL_connect(ssl), 1);

    X509 *cert = SSL_get1_peer_certificate(ssl);
    long serial = ASN1_INTEGER_get(X509_get0_serialNumber(cert));

    X509_free(cert);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    return serial;
}

static void test_a_reload_takes_all_or_nothing(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    int port;

    (void)state;
    options.tls = (struct rpc_tls){.cert_file = path_of("cert"), .key_file = path_of("key")};
    start(&f, &options, 1, 64);
    port = rpc_server_port(f.server);
    assert_int_equal(presented(port), 1);
    issue("cert", "key", 10, NULL);
    assert_int_equal(presented(port), 1); /* nobody has said so */
    assert_int_equal(rpc_server_reload_tls(f.server).code, ERR_OK);
    assert_int_equal(presented(port), 10);

    issue("cert", NULL, 11, NULL); /* half of a new pair: somebody is still copying */
    assert_string_equal(rpc_server_reload_tls(f.server).subject, "tls.key");
    assert_int_equal(presented(port), 10);
    write_text("cert", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_string_equal(rpc_server_reload_tls(f.server).subject, "tls.cert");
    assert_int_equal(presented(port), 10);
    unlink(path_of("key"));
    issue("cert", NULL, 12, NULL);
    assert_string_equal(rpc_server_reload_tls(f.server).subject, "tls.key");
    assert_int_equal(presented(port), 10);

    issue("cert", "key", 13, NULL);
    assert_int_equal(rpc_server_reload_tls(f.server).code, ERR_OK);
    assert_int_equal(presented(port), 13);
    stop(&f);
}

/* ---- both at once ---- */

struct changer {
    struct rpc_server *server;
    _Atomic bool stop;
    int reloads;
};

static void *reload_all_the_time(void *arg)
{
    struct changer *c = arg;

    while (!atomic_load(&c->stop)) {
        if (rpc_server_reload_tls(c->server).code == ERR_OK)
            c->reloads++;
        sched_yield();
    }
    return NULL;
}

static void test_reloads_while_clients_connect(void **state)
{
    struct rpc_options options = default_options();
    struct changer changer = {.server = NULL};
    struct fixture f;
    pthread_t thread;

    (void)state;
    issue("cert", "key", 20, NULL);
    options.tls = (struct rpc_tls){.cert_file = path_of("cert"), .key_file = path_of("key")};
    start(&f, &options, 1, 64);
    changer.server = f.server;
    pthread_create(&thread, NULL, reload_all_the_time, &changer);
    for (int i = 0; i < 50; i++)
        assert_int_equal(presented(rpc_server_port(f.server)), 20);
    atomic_store(&changer.stop, true);
    pthread_join(thread, NULL);
    assert_true(changer.reloads > 0);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_that_cannot_be_used),
        cmocka_unit_test(test_a_reload_takes_all_or_nothing),
        cmocka_unit_test(test_reloads_while_clients_connect),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc tls", tests, open_folder, close_folder);
    grpc_shutdown();
    return failed;
}
