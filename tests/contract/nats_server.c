#include "tests/contract/nats_server.h"

#include "src/base/clock.h"
#include "tests/contract/free_port.h"

#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 };

static const char packaged[] = "/usr/sbin/nats-server";
static const char *program = packaged;

static void die(const char *what)
{
    perror(what);
    abort();
}

bool nats_server_installed(void)
{
    return access(program, X_OK) == 0;
}

int nats_server_skip(void)
{
    const char *all = getenv("PRISM_REQUIRE_ALL");

    fprintf(stderr, "nats-server is not installed\n");
    return all != NULL && all[0] != '\0' && strcmp(all, "0") != 0 ? 1 : 77;
}

/* From now on. False: only the packaged one is there. */
static bool newest(void)
{
    static char path[256];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

    if (cache != NULL && cache[0] != '\0')
        snprintf(path, sizeof path, "%s/prism/bin/nats-server", cache);
    else
        snprintf(path, sizeof path, "%s/.cache/prism/bin/nats-server", home != NULL ? home : "");
    if (access(path, X_OK) != 0)
        return false;
    program = path;
    return true;
}

int nats_server_each(const char *name, int (*run)(const char *name))
{
    char with[128];
    int failed;

    if (!nats_server_installed())
        return nats_server_skip();
    failed = run(name);
    if (newest()) {
        snprintf(with, sizeof with, "%s, newest server", name);
        failed += run(with);
    }
    return failed != 0;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
}

/* It greets whoever connects. */
static bool answers(const struct nats_server *server)
{
    struct sockaddr_in at = loopback(server->port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char first;
    bool up =
        fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0 && read(fd, &first, 1) == 1;

    if (fd >= 0)
        close(fd);
    return up;
}

static void child(void)
{
    int log = open("nats.log", O_WRONLY | O_CREAT | O_APPEND, 0600);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log, 1);
    dup2(log, 2);
    execl(program, program, "-c", "nats.conf", NULL);
    _exit(127);
}

static void spawn(struct nats_server *server)
{
    uint64_t give_up_ns = clock_now_ns() + PATIENCE_MS * NS_PER_MS;

    server->pid = fork();
    if (server->pid < 0)
        die("fork");
    if (server->pid == 0) {
        if (chdir(server->folder) != 0)
            _exit(126);
        child();
    }
    while (!answers(server)) {
        if (clock_now_ns() > give_up_ns || waitpid(server->pid, NULL, WNOHANG) != 0)
            die("nats-server does not come up");
        poll(NULL, 0, 5);
    }
}

static void path_of(const struct nats_server *server, const char *name, char path[96])
{
    snprintf(path, 96, "%s/%s", server->folder, name);
}

void nats_server_start(struct nats_server *server, const char *config)
{
    const char *tmp = getenv("TMPDIR");
    char path[96];
    FILE *file;

    *server = (struct nats_server){.port = free_port()};
    snprintf(server->address, sizeof server->address, "127.0.0.1:%u", server->port);
    snprintf(server->folder, sizeof server->folder, "%s/prism-nats-XXXXXX",
             tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp");
    if (mkdtemp(server->folder) == NULL)
        die("mkdtemp");
    path_of(server, "nats.conf", path);
    file = fopen(path, "w");
    if (file == NULL || fprintf(file, "listen: %s\n%s\n", server->address, config) < 0)
        die("nats.conf");
    fclose(file);
    spawn(server);
}

void nats_server_restart(struct nats_server *server)
{
    if (server->pid != 0)
        nats_server_kill(server);
    spawn(server);
}

void nats_server_kill(struct nats_server *server)
{
    kill(server->pid, SIGKILL);
    if (waitpid(server->pid, NULL, 0) != server->pid)
        die("waitpid");
    server->pid = 0;
}

void nats_server_pause(struct nats_server *server)
{
    int status;

    kill(server->pid, SIGSTOP);
    if (waitpid(server->pid, &status, WUNTRACED) != server->pid || !WIFSTOPPED(status))
        die("SIGSTOP");
}

void nats_server_resume(struct nats_server *server)
{
    kill(server->pid, SIGCONT);
}

static int remove_one(const char *path, const struct stat *is, int type, struct FTW *at)
{
    (void)is;
    (void)type;
    (void)at;
    return remove(path);
}

void nats_server_stop(struct nats_server *server)
{
    if (server->pid != 0)
        nats_server_kill(server);
    nftw(server->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
