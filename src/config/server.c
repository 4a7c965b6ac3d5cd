/* What no single key can say: the shape of addresses, files that must be there, limits that depend
 * on each other. */
#include "src/base/file.h"
#include "src/base/secret.h"
#include "src/config/config_priv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HOST_BYTES = 256,
    UNIX_PATH_BYTES = 106, /* a server binds one of one byte more */
    PEM_BYTES = 1 << 20
};

static void fault_key(struct load *load, const char *path, const char *message, const char *fix)
{
    if (!fault_known(load, path))
        fault_add(load, (struct fault){
                            .path = path,
                            .message = message,
                            .fix = fix,
                        });
}

/* ---- addresses ---- */

static bool host_is_name(const char *host, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = host[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-'))
            return false;
    }
    return len > 0 && len < HOST_BYTES;
}

static bool host_is_v6(const char *host, size_t len)
{
    char inner[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (len < 2 || host[0] != '[' || host[len - 1] != ']' || len - 2 >= sizeof inner)
        return false;
    memcpy(inner, host + 1, len - 2);
    inner[len - 2] = '\0';
    return inet_pton(AF_INET6, inner, &address) == 1;
}

/* NULL: fine. */
static const char *address_problem(const char *address)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;

    if (colon == NULL)
        return "the address has no port";
    if (!host_is_name(address, (size_t)(colon - address)) &&
        !host_is_v6(address, (size_t)(colon - address)))
        return "the address has no proper host";
    if (!parse_number(colon + 1, &port) || port > 65535)
        return "the port is not one of 0..65535";
    return NULL;
}

static bool is_hidden(const struct load *load, const char *path)
{
    const struct node *node = node_at(load->root, path);

    return node != NULL && node->expanded;
}

static void check_addresses(struct load *load, struct config *config)
{
    static const char unix_scheme[] = "unix:";
    const char *problem;

    config->listen_hidden = is_hidden(load, "listen");
    config->admin_hidden = is_hidden(load, "admin");
    if (strncmp(config->listen, unix_scheme, sizeof unix_scheme - 1) == 0) {
        size_t len = strlen(config->listen) - (sizeof unix_scheme - 1);

        problem =
            len == 0 || len > UNIX_PATH_BYTES ? "the socket's path must have 1..106 bytes" : NULL;
    } else {
        problem = address_problem(config->listen);
    }
    if (problem != NULL)
        fault_key(load, "listen", problem,
                  "like 127.0.0.1:8980, [::1]:8980 or unix:/run/prism.sock");
    if (strcmp(config->admin, "off") == 0) {
        config->admin = NULL;
        return;
    }
    problem = address_problem(config->admin);
    if (problem != NULL)
        fault_key(load, "admin", problem, "like 127.0.0.1:9090, or off");
    else if (strcmp(config->admin, config->listen) == 0 &&
             strcmp(strrchr(config->admin, ':'), ":0") != 0)
        fault_key(load, "admin", "the same address as `listen`",
                  "give it a port of its own, or off");
}

/* ---- limits ---- */

static void check_limits(struct load *load, const struct config *config)
{
    const struct config_limits *limits = &config->limits;

    if ((limits->intake_depth & (limits->intake_depth - 1)) != 0) {
        unsigned up = 1;

        while (up < limits->intake_depth)
            up *= 2;
        fault_key(load, "limits.intake_depth", "is not a power of two",
                  fault_text(load, "use %u", up));
    }
    if (limits->max_inflight_bytes < limits->max_message_bytes &&
        !fault_known(load, "limits.max_message_bytes"))
        fault_key(load, "limits.max_inflight_bytes", "is smaller than limits.max_message_bytes",
                  fault_text(load, "use at least %u, or lower max_message_bytes",
                             limits->max_message_bytes));
}

/* ---- TLS ---- */

const char *file_unreadable(const char *file)
{
    struct stat about;

    if (stat(file, &about) != 0 || faccessat(AT_FDCWD, file, R_OK, AT_EACCESS) != 0)
        return "the file does not exist or may not be read by this user";
    if (S_ISREG(about.st_mode))
        return NULL;
    return S_ISDIR(about.st_mode) ? "is a folder, not a file" : "is not a regular file";
}

const char *file_is_no_pem(const char *file)
{
    static const char begins[] = "-----BEGIN ";
    char *text = malloc(PEM_BYTES + 1);
    ssize_t n;
    bool found;

    if (text == NULL)
        abort();
    n = file_read(file, text, PEM_BYTES);
    found = n < 0 || memmem(text, (size_t)n, begins, sizeof begins - 1) != NULL;
    secret_wipe(text, PEM_BYTES + 1); /* it may be a key */
    free(text);
    return found ? NULL : "holds nothing in PEM form (-----BEGIN ..)";
}

static void check_file(struct load *load, const char *path, const char *file)
{
    if (file != NULL && file_unreadable(file) != NULL)
        fault_key(load, path, file_unreadable(file), NULL);
}

static void try_tls(struct load *load, const struct config_tls *tls)
{
    if (load->catalog->try_tls == NULL)
        return;

    struct err err = load->catalog->try_tls(tls->cert, tls->key, tls->client_ca);

    if (err.code != ERR_OK)
        fault_key(load, err.subject, err.text, NULL);
}

static void check_tls(struct load *load, const struct config_tls *tls)
{
    if (tls->cert != NULL && tls->key == NULL)
        fault_key(load, "tls.key", "is missing, but tls.cert is given",
                  "add the private key's file");
    if (tls->key != NULL && tls->cert == NULL)
        fault_key(load, "tls.cert", "is missing, but tls.key is given",
                  "add the certificate's file");
    if (tls->client_ca != NULL && tls->cert == NULL && tls->key == NULL)
        fault_key(load, "tls.client_ca",
                  "asks for client certificates, but the server has none itself",
                  "add tls.cert and tls.key");
    check_file(load, "tls.cert", tls->cert);
    check_file(load, "tls.key", tls->key);
    check_file(load, "tls.client_ca", tls->client_ca);
    if (tls->cert != NULL && tls->key != NULL && !fault_below(load, "tls."))
        try_tls(load, tls);
}

/* ---- workers ---- */

static uint32_t core_count(void)
{
    cpu_set_t cores;
    int n = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;

    return n < 1 ? 1 : n > CONFIG_MAX_WORKERS ? CONFIG_MAX_WORKERS : (uint32_t)n;
}

void server_check(struct load *load, struct config *config)
{
    check_addresses(load, config);
    check_limits(load, config);
    check_tls(load, &config->tls);
    if (config->workers == 0)
        config->workers = core_count();
}
