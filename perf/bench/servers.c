/* See servers.h. */
#include "perf/bench/servers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PATH_BYTES = 400, PORT_BYTES = 8, WORKERS = 2, HTTP_SECONDS = 5 };

struct kind {
    const char *name;
    const char *program; /* beside this one; NULL = from $PATH */
};

static const struct kind kinds[SERVER_KINDS] = {
    [SERVER_PRISM] = {"prism", "prismd"},
    [SERVER_PRISM_RING] = {"prism-ring", "prismd"},
    [SERVER_PRISM_REDIS] = {"prism-redis", "prismd"},
    [SERVER_BARE] = {"bare", "prism-baseline-bare"},
    [SERVER_CPP_ASYNC] = {"cpp-async", "prism-baseline-cpp-async"},
    [SERVER_CPP_CALLBACK] = {"cpp-callback", "prism-baseline-cpp-callback"},
    [SERVER_REDIS] = {"redis", NULL},
};

const char *server_name(enum server_kind kind)
{
    return kinds[kind].name;
}

enum server_kind server_find(const char *name)
{
    unsigned kind = 0;

    while (kind < SERVER_KINDS && strcmp(kinds[kind].name, name) != 0)
        kind++;
    return (enum server_kind)kind;
}

bool server_is_prism(enum server_kind kind)
{
    return kind == SERVER_PRISM || kind == SERVER_PRISM_RING || kind == SERVER_PRISM_REDIS;
}

/* ---- Redis ---- */

/* Nothing on disk: it is compared as a memory store. */
static struct child *start_redis(struct lab *lab, uint16_t port, int cpu)
{
    char text[PORT_BYTES];
    const char *const argv[] = {
        "redis-server", "--port", text,    "--bind",    "127.0.0.1",   "--save", "",
        "--appendonly", "no",     "--dir", lab->folder, "--daemonize", "no",     NULL,
    };

    snprintf(text, sizeof text, "%u", port);
    struct child *child = lab_spawn(lab, "redis", argv, cpu);
    if (child == NULL || lab_wait_port(lab, child, port))
        return child;
    lab_stop(lab, child);
    return NULL;
}

/* ---- prismd ---- */

static bool write_config(struct lab *lab, const struct server_options *o, const char *path,
                         const struct server *server, uint16_t admin_port, uint16_t redis_port)
{
    FILE *f = fopen(path, "w");

    if (f == NULL)
        return lab_fail(lab, NULL, "cannot write %s", path);
    fprintf(f, "listen: 127.0.0.1:%u\nadmin: 127.0.0.1:%u\nworkers: %d\ndispatch: %s\n",
            server->port, admin_port, WORKERS, o->kind == SERVER_PRISM_RING ? "ring" : "auto");
    fputs("log:\n  level: warn\n", f);
    fputs("namespaces:\n  - name: default\n    pattern: keyvalue\n    slots:\n      primary:\n", f);
    if (o->kind == SERVER_PRISM_REDIS)
        fprintf(f, "        backend: redis\n        config: { address: 127.0.0.1:%u }\n",
                redis_port);
    else
        fputs("        backend: memstore\n        config: { max_keys: 20000000 }\n", f);
    return fclose(f) == 0 ? true : lab_fail(lab, NULL, "cannot write %s", path);
}

/* One HTTP question; true when the answer is 200. */
static bool is_ready(uint16_t port)
{
    static const char question[] = "GET /readyz HTTP/1.0\r\n\r\n";
    const struct timeval patience = {.tv_sec = HTTP_SECONDS};
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    char answer[32] = "";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    bool asked = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                 send(fd, question, sizeof question - 1, MSG_NOSIGNAL) > 0 &&
                 recv(fd, answer, sizeof answer - 1, MSG_WAITALL) > 0;
    close(fd);
    return asked && strstr(answer, " 200 ") != NULL;
}

static bool wait_ready(struct lab *lab, struct child *child, uint16_t admin_port)
{
    const double probe_seconds = 0.01;
    const int probes = 6000;

    if (!lab_wait_port(lab, child, admin_port))
        return false;
    for (int i = 0; i < probes; i++) {
        if (is_ready(admin_port))
            return true;
        if (!lab_let_run(lab, child, probe_seconds))
            return false;
    }
    return lab_fail(lab, child, "%s is not ready after 60 s", child->name);
}

/* ---- all of them ---- */

static struct child *spawn(struct lab *lab, const struct server_options *o, const char *argument)
{
    char program[PATH_BYTES], out[PATH_BYTES];
    const char *argv[8];
    unsigned count = 0;

    snprintf(program, sizeof program, "%s/%s", lab->bin_folder, kinds[o->kind].program);
    if (o->callgrind_out != NULL) {
        snprintf(out, sizeof out, "--callgrind-out-file=%s", o->callgrind_out);
        argv[count++] = "valgrind";
        argv[count++] = "--tool=callgrind";
        argv[count++] = out;
    }
    argv[count++] = program;
    if (server_is_prism(o->kind))
        argv[count++] = "--config";
    argv[count++] = argument;
    argv[count] = NULL;
    return lab_spawn(lab, kinds[o->kind].name, argv, o->cpu);
}

static bool start_prism(struct lab *lab, const struct server_options *o, struct server *server)
{
    char path[PATH_BYTES];
    uint16_t admin_port = lab_free_port(lab);
    uint16_t redis_port = lab_free_port(lab);

    server->port = lab_free_port(lab);
    if (admin_port == 0 || redis_port == 0 || server->port == 0)
        return false;
    snprintf(path, sizeof path, "%s/prismd.yaml", lab->folder);
    if (!write_config(lab, o, path, server, admin_port, redis_port))
        return false;
    if (o->kind == SERVER_PRISM_REDIS &&
        (server->redis = start_redis(lab, redis_port, o->redis_cpu)) == NULL)
        return false;
    server->child = spawn(lab, o, path);
    return server->child != NULL && wait_ready(lab, server->child, admin_port) &&
           lab_wait_port(lab, server->child, server->port);
}

static bool start_baseline(struct lab *lab, const struct server_options *o, struct server *server)
{
    char line[64];
    unsigned port = 0;

    server->child = spawn(lab, o, "0");
    if (server->child == NULL || !lab_read_line(lab, server->child, line, sizeof line))
        return false;
    if (sscanf(line, "listening %u", &port) != 1 || port == 0 || port > UINT16_MAX)
        return lab_fail(lab, server->child, "%s does not tell its port", server->child->name);
    server->port = (uint16_t)port;
    return true;
}

bool server_start(struct lab *lab, const struct server_options *options, struct server *server)
{
    bool fine;

    memset(server, 0, sizeof *server);
    if (options->kind == SERVER_REDIS) {
        server->port = lab_free_port(lab);
        server->child = server->port ? start_redis(lab, server->port, options->cpu) : NULL;
        fine = server->child != NULL;
    } else if (server_is_prism(options->kind)) {
        fine = start_prism(lab, options, server);
    } else {
        fine = start_baseline(lab, options, server);
    }
    if (fine)
        return true;
    lab_stop(lab, server->child);
    lab_stop(lab, server->redis);
    return false;
}

bool server_stop(struct lab *lab, struct server *server)
{
    char name[sizeof server->child->name] = "";

    if (server->child != NULL)
        memcpy(name, server->child->name, sizeof name);
    bool fine = lab_stop(lab, server->child);
    fine = lab_stop(lab, server->redis) && fine;
    memset(server, 0, sizeof *server);
    return fine ? true : lab_fail(lab, NULL, "%s did not end cleanly", name);
}
