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

static FILE *open_file(const char *name, const char *mode)
{
    FILE *file = fopen(path_of(name), mode);

    assert_non_null(file);
    return file;
}

static void write_text(const char *name, const char *text)
{
    FILE *file = open_file(name, "we");

    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void append(const char *name, const char *from)
{
    FILE *file = open_file(name, "ae"), *source = open_file(from, "re");
    int c;

    while ((c = fgetc(source)) != EOF)
        fputc(c, file);
    assert_int_equal(fclose(source), 0);
    assert_int_equal(fclose(file), 0);
}

/* What is made anew for a test; names may be NULL: not written. */
struct issue {
    const char *cert, *key, *password;
    long serial;
    size_t rsa_bits; /* 0: P-256 */
};

static void write_key(const struct issue *issue, const EVP_PKEY *key)
{
    const EVP_CIPHER *cipher = issue->password != NULL ? EVP_aes_128_cbc() : NULL;
    FILE *file = open_file(issue->key, "we");

    assert_int_equal(
        PEM_write_PrivateKey(file, key, cipher, NULL, 0, NULL, (char *)(uintptr_t)issue->password),
        1);
    assert_int_equal(fclose(file), 0);
}

/* A self-signed certificate and its key. */
static void issue(const struct issue *issue)
{
    EVP_PKEY *key = issue->rsa_bits > 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", issue->rsa_bits)
                                        : EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);

    assert_non_null(key);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), issue->serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    if (issue->cert != NULL) {
        FILE *file = open_file(issue->cert, "we");

        assert_int_equal(PEM_write_X509(file, cert), 1);
        assert_int_equal(fclose(file), 0);
    }
    if (issue->key != NULL)
        write_key(issue, key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void issue_pair(long serial)
{
    issue(&(struct issue){.cert = "cert", .key = "key", .serial = serial});
}

#define GARBAGE(kind) "-----BEGIN " kind "-----\nAAAA\n-----END " kind "-----\n"

static int open_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/prism-tls-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    issue_pair(1);
    issue(&(struct issue){.cert = "ca", .key = "other-key", .serial = 2});
    issue(&(struct issue){.key = "locked-key", .password = "secret"});
    issue(&(struct issue){.key = "rsa-key", .rsa_bits = 2048});
    issue(&(struct issue){.cert = "weak", .key = "weak-key", .rsa_bits = 512});
    write_text("empty", "");
    write_text("garbage", GARBAGE("CERTIFICATE"));
    write_text("key-garbage", GARBAGE("PRIVATE KEY"));
    append("chain", "cert");
    append("chain", "ca");
    append("torn-chain", "cert");
    append("torn-chain", "garbage");
    append("weak-chain", "cert");
    append("weak-chain", "weak");
    append("both", "key");
    append("both", "cert");
    write_text("huge", "");
    return truncate(path_of("huge"), 1 << 20);
}

static int close_folder(void **state)
{
    static const char *const names[] = {"cert",       "key",         "ca",    "other-key",
                                        "locked-key", "rsa-key",     "weak",  "weak-key",
                                        "garbage",    "key-garbage", "chain", "torn-chain",
                                        "weak-chain", "both",        "empty", "huge"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unlink(path_of(names[i]));
    return rmdir(folder);
}

/* ---- at the start ---- */

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
        const char *cert, *key, *ca, *subject, *why;
    } rows[] = {
        {"absent", "key", NULL, "tls.cert", "cannot be read"},
        {"cert", "absent", NULL, "tls.key", "cannot be read"},
        {"cert", "key", "absent", "tls.client_ca", "cannot be read"},
        {"", "key", NULL, "tls.cert", "cannot be read"}, /* the folder */
        {"cert", "key", "huge", "tls.client_ca", "larger than"},
        {"empty", "key", NULL, "tls.cert", "no chain"},
        {"cert", "empty", NULL, "tls.key", "no private key"},
        {"cert", "key", "empty", "tls.client_ca", "no certificates"},
        {"garbage", "key", NULL, "tls.cert", "garbled"},
        {"torn-chain", "key", NULL, "tls.cert", "garbled"},
        {"cert", "key-garbage", NULL, "tls.key", "garbled"},
        {"cert", "key", "garbage", "tls.client_ca", "garbled"},
        {"cert", "key", "torn-chain", "tls.client_ca", "garbled"},
        {"weak", "weak-key", NULL, "tls.cert", "too weak"},
        {"weak-chain", "key", NULL, "tls.cert", "too weak"},
        {"cert", "locked-key", NULL, "tls.key", "encrypted"},
        {"cert", "other-key", NULL, "tls.key", "not the key of"},
        {"cert", "rsa-key", NULL, "tls.key", "not the key of"}, /* another kind of key */
        {"ca", "key", NULL, "tls.key", "not the key of"},
        {"key", "cert", NULL, "tls.cert", "no chain"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err = try_files(rows[i].cert, rows[i].key, rows[i].ca);

        assert_int_equal(err.code, ERR_FAILED_PRECONDITION);
        assert_string_equal(err.subject, rows[i].subject);
        assert_non_null(strstr(err.text, rows[i].subject));
        assert_non_null(strstr(err.text, rows[i].why));
    }
}

static void test_files_that_can_be_used(void **state)
{
    (void)state;
    assert_int_equal(try_files("cert", "key", NULL).code, ERR_OK);
    assert_int_equal(try_files("cert", "key", "ca").code, ERR_OK);
    assert_int_equal(try_files("chain", "key", "chain").code, ERR_OK);
    assert_int_equal(try_files("both", "both", NULL).code, ERR_OK);
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
    issue_pair(9);
    start(&f, &options, 1, 64);
    port = rpc_server_port(f.server);
    assert_int_equal(presented(port), 9);
    issue_pair(10);
    assert_int_equal(presented(port), 9); /* nobody has said so */
    assert_int_equal(rpc_server_reload_tls(f.server).code, ERR_OK);
    assert_int_equal(presented(port), 10);

    issue(&(struct issue){.cert = "cert", .serial = 11}); /* half of a pair: still being copied */
    assert_string_equal(rpc_server_reload_tls(f.server).subject, "tls.key");
    assert_int_equal(presented(port), 10);
    write_text("cert", GARBAGE("CERTIFICATE"));
    assert_string_equal(rpc_server_reload_tls(f.server).subject, "tls.cert");
    assert_int_equal(presented(port), 10);
    issue_pair(12);
    unlink(path_of("key"));
    assert_string_equal(rpc_server_reload_tls(f.server).subject, "tls.key");
    assert_int_equal(presented(port), 10);

    issue_pair(13);
    assert_int_equal(rpc_server_reload_tls(f.server).code, ERR_OK);
    assert_int_equal(presented(port), 13);
    stop(&f);
}

/* The pair is good, what clients are measured by is not: the whole set stays as it was. */
static void test_a_reload_of_bad_authorities(void **state)
{
    struct rpc_options options = default_options();
    struct rpc_server *server;
    struct fixture f;

    (void)state;
    issue_pair(14);
    options.tls = (struct rpc_tls){
        .cert_file = path_of("cert"), .key_file = path_of("key"), .client_ca_file = path_of("ca")};
    start(&f, &options, 1, 64);
    server = f.server;
    assert_int_equal(rpc_server_reload_tls(server).code, ERR_OK);
    issue_pair(15);
    write_text("ca", GARBAGE("CERTIFICATE"));
    assert_string_equal(rpc_server_reload_tls(server).subject, "tls.client_ca");
    assert_int_equal(presented(rpc_server_port(server)), 14);
    issue(&(struct issue){.cert = "ca", .serial = 2});
    assert_int_equal(rpc_server_reload_tls(server).code, ERR_OK);
    assert_int_equal(presented(rpc_server_port(server)), 15);
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
    issue_pair(20);
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
        cmocka_unit_test(test_files_that_can_be_used),
        cmocka_unit_test(test_a_reload_takes_all_or_nothing),
        cmocka_unit_test(test_a_reload_of_bad_authorities),
        cmocka_unit_test(test_reloads_while_clients_connect),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc tls", tests, open_folder, close_folder);
    grpc_shutdown();
    return failed;
}
