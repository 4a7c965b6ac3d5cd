#include "tests/contract/redis_server.h"

#include "src/base/clock.h"
#include "tests/contract/free_port.h"

#include <fcntl.h>
#include <ftw.h>
#include <hiredis/hiredis.h>
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

enum { PATIENCE_MS = 20000, ANSWER_BYTES = 4096 };

static void die(const char *what)
{
    perror(what);
    abort();
}

bool redis_server_installed(void)
{
    return access("/usr/bin/redis-server", X_OK) == 0 ||
           access("/usr/local/bin/redis-server", X_OK) == 0;
}

int redis_server_skip(void)
{
    const char *all = getenv("PRISM_REQUIRE_ALL");

    fprintf(stderr, "redis-server is not installed\n");
    return all != NULL && all[0] != '\0' && strcmp(all, "0") != 0 ? 1 : 77;
}

static redisContext *dial(const struct redis_server *server)
{
    redisContext *c = redisConnectUnix(server->socket);

    if (c != NULL && c->err != 0) {
        redisFree(c);
        return NULL;
    }
    return c;
}

/* Any answer will do, a refusal too. */
static bool answers(const struct redis_server *server)
{
    redisContext *c = dial(server);
    redisReply *reply = c != NULL ? redisCommand(c, "PING") : NULL;
    bool up = reply != NULL && strncmp(reply->str, "LOADING", 7) != 0;

    if (reply != NULL)
        freeReplyObject(reply);
    if (c != NULL)
        redisFree(c);
    return up;
}

/* In the child, so nobody frees the texts. */
static unsigned add_tls(const struct redis_server *server, const char **argv)
{
    static const char *const files[][2] = {{"--tls-cert-file", "server.pem"},
                                           {"--tls-key-file", "server.key"},
                                           {"--tls-ca-cert-file", "ca.pem"}};
    unsigned n = 0;

    argv[n++] = "--tls-port";
    if (asprintf((char **)&argv[n++], "%u", server->tls_port) < 0)
        die("asprintf");
    for (unsigned i = 0; i < 3; i++) {
        argv[n++] = files[i][0];
        if (asprintf((char **)&argv[n++], "%s/%s", getenv("PRISM_TEST_REDIS_TLS"), files[i][1]) < 0)
            die("asprintf");
    }
    return n;
}

/* Where fixtures find it: they know the socket. */
static void tell_tls_port(const struct redis_server *server)
{
    char path[96];
    FILE *file;

    snprintf(path, sizeof path, "%s/tls-port", server->folder);
    file = fopen(path, "w");
    if (file == NULL || fprintf(file, "%u", server->tls_port) < 0 || fclose(file) != 0)
        die(path);
}

static void child(const struct redis_server *server)
{
    const char *argv[REDIS_SERVER_ARGS + 24] = {"redis-server", "--save", "",       "--dir", NULL,
                                                "--unixsocket", NULL,     "--port", NULL};
    char port[8];
    unsigned n = 9;
    int log = open("redis.log", O_WRONLY | O_CREAT | O_APPEND, 0600);

    snprintf(port, sizeof port, "%u", server->port);
    argv[4] = server->folder;
    argv[6] = server->socket;
    argv[8] = port;
    for (unsigned i = 0; server->args[i] != NULL; i++)
        argv[n++] = server->args[i];
    if (server->tls_port != 0)
        n += add_tls(server, argv + n);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log, 1);
    dup2(log, 2);
    execvp("redis-server", (char *const *)argv);
    _exit(127);
}

static void spawn(struct redis_server *server)
{
    uint64_t give_up_ns = clock_now_ns() + PATIENCE_MS * NS_PER_MS;

    server->pid = fork();
    if (server->pid < 0)
        die("fork");
    if (server->pid == 0) {
        if (chdir(server->folder) != 0)
            _exit(126);
        child(server);
    }
    while (!answers(server)) {
        if (clock_now_ns() > give_up_ns || waitpid(server->pid, NULL, WNOHANG) != 0)
            die("redis-server does not come up");
        poll(NULL, 0, 5);
    }
}

void redis_server_start(struct redis_server *server, const char *const *args)
{
    const char *tmp = getenv("TMPDIR");

    *server = (struct redis_server){.port = free_port()};
    for (unsigned i = 0; args != NULL && args[i] != NULL; i++)
        server->args[i] = args[i];
    snprintf(server->folder, sizeof server->folder, "%s/prism-redis-XXXXXX",
             tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp");
    if (mkdtemp(server->folder) == NULL)
        die("mkdtemp");
    snprintf(server->socket, sizeof server->socket, "%s/redis.sock", server->folder);
    if (getenv("PRISM_TEST_REDIS_TLS") != NULL) {
        server->tls_port = free_port();
        tell_tls_port(server);
    }
    spawn(server);
}

void redis_server_restart(struct redis_server *server)
{
    if (server->pid != 0)
        redis_server_kill(server);
    spawn(server);
}

void redis_server_kill(struct redis_server *server)
{
    kill(server->pid, SIGKILL);
    if (waitpid(server->pid, NULL, 0) != server->pid)
        die("waitpid");
    server->pid = 0;
}

void redis_server_pause(struct redis_server *server)
{
    int status;

    kill(server->pid, SIGSTOP);
    if (waitpid(server->pid, &status, WUNTRACED) != server->pid || !WIFSTOPPED(status))
        die("SIGSTOP");
}

void redis_server_resume(struct redis_server *server)
{
    kill(server->pid, SIGCONT);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void redis_server_stop(struct redis_server *server)
{
    if (server->pid != 0)
        redis_server_kill(server);
    nftw(server->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void append(char *text, const redisReply *reply)
{
    size_t len = strlen(text), room = ANSWER_BYTES - len;

    switch (reply->type) {
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < reply->elements; i++) {
            if (i > 0)
                snprintf(text + strlen(text), ANSWER_BYTES - strlen(text), " ");
            append(text, reply->element[i]);
        }
        break;
    case REDIS_REPLY_INTEGER:
        snprintf(text + len, room, "%lld", reply->integer);
        break;
    case REDIS_REPLY_NIL:
        snprintf(text + len, room, "(nil)");
        break;
    default:
        snprintf(text + len, room, "%s", reply->str);
    }
}

static const char *answer_of(redisContext *c, redisReply *reply)
{
    static char text[ANSWER_BYTES];

    if (reply == NULL)
        die("redis-server does not answer");
    text[0] = '\0';
    append(text, reply);
    freeReplyObject(reply);
    redisFree(c);
    return text;
}

const char *redis_server_say(const struct redis_server *server, const char *command)
{
    redisContext *c = dial(server);

    return answer_of(c, c != NULL ? redisCommand(c, command) : NULL);
}

const char *redis_server_say_words(const struct redis_server *server, int n, const char **words)
{
    redisContext *c = dial(server);

    return answer_of(c, c != NULL ? redisCommandArgv(c, n, words, NULL) : NULL);
}
