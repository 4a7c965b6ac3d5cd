/* Baseline: hiredis as its manual recommends it for speed: the asynchronous interface on an event
 * loop of its own (epoll), a fixed number of commands in flight on one connection, one write per
 * round.
 *
 * It asks for the same keys and values as the loads of prism-bench do. Every reply is checked.
 *
 * usage: prism-baseline-hiredis PORT COMMAND KEYS KEY_BYTES VALUE_BYTES DEPTH SECONDS
 * COMMAND is fill, get, set, mget, mset or del; mget and mset take 100 keys each.
 * fill and del walk the key space once, whatever SECONDS says; the others choose keys at random for
 * SECONDS, after a warm-up of a quarter of that. Redis is at 127.0.0.1. One line on standard
 * output: items N seconds S cpu_us_per_item C Exit status 1, and the reason on standard error, when
 * any reply was not as it must be. */
#include "perf/common/clock.h"
#include "perf/load/workload.h"

#include <errno.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MANY_KEYS = 100, ARGUMENTS_MAX = 2 * MANY_KEYS + 1, WAIT_MS = 5000 };

struct command {
    const char *name;
    const char *verb;
    unsigned keys; /* per command */
    bool has_value;
    bool walks; /* the key space once, in order */
    int reply_type;
};

static const struct command commands[] = {
    {"fill", "SET", 1, true, true, REDIS_REPLY_STATUS},
    {"set", "SET", 1, true, false, REDIS_REPLY_STATUS},
    {"get", "GET", 1, false, false, REDIS_REPLY_STRING},
    {"mget", "MGET", MANY_KEYS, false, false, REDIS_REPLY_ARRAY},
    {"mset", "MSET", MANY_KEYS, true, false, REDIS_REPLY_STATUS},
    {"del", "DEL", 1, false, true, REDIS_REPLY_INTEGER},
};

struct pipeline {
    const struct command *command;
    struct workload workload;
    redisAsyncContext *redis;
    int epoll_fd;
    bool wants_write, watches_write;
    unsigned depth;
    uint64_t to_send, in_flight; /* commands */
    uint64_t items;
    bool measuring;
    const char *fault; /* NULL = none */
};

/* ---- hiredis on epoll ---- */

static void watch(struct pipeline *p, bool write)
{
    struct epoll_event event = {.events = write ? EPOLLIN | EPOLLOUT : EPOLLIN};

    if (p->watches_write != write && epoll_ctl(p->epoll_fd, EPOLL_CTL_MOD, p->redis->c.fd, &event))
        p->fault = strerror(errno);
    p->watches_write = write;
}

static void keep_reading(void *arg)
{
    (void)arg; /* always watched */
}

static void add_write(void *arg)
{
    ((struct pipeline *)arg)->wants_write = true;
}

static void delete_write(void *arg)
{
    ((struct pipeline *)arg)->wants_write = false;
}

static void cleaned_up(void *arg)
{
    struct pipeline *p = arg;

    if (p->fault == NULL && p->redis->err != 0)
        p->fault = "connection lost";
}

static bool attach(struct pipeline *p)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};

    p->redis->ev.data = p;
    p->redis->ev.addRead = keep_reading;
    p->redis->ev.delRead = keep_reading;
    p->redis->ev.addWrite = add_write;
    p->redis->ev.delWrite = delete_write;
    p->redis->ev.cleanup = cleaned_up;
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    p->watches_write = true;
    return p->epoll_fd >= 0 && epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->redis->c.fd, &event) == 0;
}

/* One write carries everything that the replies of a round brought about. */
static bool step(struct pipeline *p)
{
    struct epoll_event event;
    int count = epoll_wait(p->epoll_fd, &event, 1, WAIT_MS);

    if (count < 0 && errno == EINTR)
        return true;
    if (count <= 0)
        p->fault = "no reply for 5 s";
    if (p->fault == NULL && (event.events & ~(uint32_t)EPOLLOUT) != 0)
        redisAsyncHandleRead(p->redis);
    if (p->fault == NULL)
        redisAsyncHandleWrite(p->redis);
    if (p->fault == NULL)
        watch(p, p->wants_write);
    return p->fault == NULL;
}

/* ---- commands ---- */

static void on_reply(redisAsyncContext *redis, void *reply, void *arg);

static void send_command(struct pipeline *p)
{
    const struct command *c = p->command;
    const size_t key_bytes = p->workload.options.key_bytes;
    uint8_t keys[MANY_KEYS * WORKLOAD_KEY_BYTES_MAX];
    const char *argument[ARGUMENTS_MAX] = {c->verb};
    size_t bytes[ARGUMENTS_MAX] = {strlen(c->verb)};
    unsigned count = 1;

    for (unsigned i = 0; i < c->keys; i++) {
        uint8_t *key = keys + i * key_bytes;
        workload_write_key(&p->workload, workload_next_key(&p->workload), key);
        argument[count] = (const char *)key;
        bytes[count++] = key_bytes;
        if (!c->has_value)
            continue;
        argument[count] = (const char *)p->workload.value;
        bytes[count++] = p->workload.options.value_bytes;
    }
    if (redisAsyncCommandArgv(p->redis, on_reply, p, (int)count, argument, bytes) != REDIS_OK) {
        p->fault = "hiredis refused a command";
        return;
    }
    p->in_flight++;
    if (p->to_send != UINT64_MAX)
        p->to_send--;
}

static bool is_value(const struct pipeline *p, const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING && reply->len == p->workload.options.value_bytes;
}

static bool is_right(const struct pipeline *p, const redisReply *reply)
{
    if (reply == NULL || reply->type != p->command->reply_type)
        return false;
    if (reply->type == REDIS_REPLY_STRING)
        return is_value(p, reply);
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
        if (!is_value(p, reply->element[i]))
            return false;
    }
    return reply->type != REDIS_REPLY_ARRAY || reply->elements == p->command->keys;
}

static void on_reply(redisAsyncContext *redis, void *reply, void *arg)
{
    struct pipeline *p = arg;

    (void)redis;
    if (p->fault == NULL && !is_right(p, reply))
        p->fault = "a reply is not what it must be";
    p->in_flight--;
    if (p->measuring)
        p->items += p->command->keys;
    if (p->fault == NULL && p->to_send != 0)
        send_command(p);
}

static bool work_until(struct pipeline *p, uint64_t until_ns)
{
    while (p->in_flight != 0 && clock_now_ns() < until_ns) {
        if (!step(p))
            return false;
    }
    return p->fault == NULL;
}

static bool run(struct pipeline *p, double seconds)
{
    bool walks = p->command->walks;
    uint64_t begin = clock_now_ns();

    p->to_send = walks ? p->workload.options.keys : UINT64_MAX;
    p->measuring = walks;
    for (unsigned i = 0; i < p->depth && p->to_send != 0; i++)
        send_command(p);
    if (!walks && !work_until(p, begin + (uint64_t)(seconds * 0.25e9)))
        return false;
    p->measuring = true;
    uint64_t from = walks ? begin : clock_now_ns(), cpu = clock_own_cpu_ns();
    if (!work_until(p, walks ? UINT64_MAX : from + (uint64_t)(seconds * 1e9)))
        return false;
    double took = (double)(clock_now_ns() - from) / 1e9;
    double cpu_us = (double)(clock_own_cpu_ns() - cpu) / 1e3;
    p->measuring = false;
    p->to_send = 0;
    if (!work_until(p, UINT64_MAX))
        return false;
    printf("items %llu seconds %.6f cpu_us_per_item %.4f\n", (unsigned long long)p->items, took,
           p->items ? cpu_us / (double)p->items : 0.0);
    return true;
}

/* ---- command line ---- */

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static uint32_t number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    return *text != '\0' && *end == '\0' && value <= UINT32_MAX ? (uint32_t)value : 0;
}

int main(int argc, char **argv)
{
    struct pipeline p = {.epoll_fd = -1};
    struct workload_options options = workload_defaults();

    p.command = argc == 8 ? find_command(argv[2]) : NULL;
    if (p.command == NULL) {
        fprintf(stderr,
                "usage: %s PORT fill|get|set|mget|mset|del KEYS KEY_BYTES VALUE_BYTES DEPTH "
                "SECONDS\n",
                argv[0]);
        return 2;
    }
    options.keys = number(argv[3]);
    options.key_bytes = number(argv[4]);
    options.value_bytes = number(argv[5]);
    options.sequential = p.command->walks;
    p.depth = number(argv[6]);
    const char *bad = workload_check(&options);
    if (bad != NULL || p.depth == 0) {
        fprintf(stderr, "%s: %s\n", argv[0], bad != NULL ? bad : "depth must be above 0");
        return 2;
    }
    workload_init(&p.workload, &options, 1);
    p.redis = redisAsyncConnect("127.0.0.1", (int)number(argv[1]));
    bool fine =
        p.redis != NULL && p.redis->err == 0 && attach(&p) && run(&p, strtod(argv[7], NULL));
    if (!fine)
        fprintf(stderr, "%s: %s\n", argv[0], p.fault != NULL ? p.fault : "cannot connect");
    workload_clear(&p.workload);
    /* The connection dies with the process: freeing it would only call on_reply again. */
    return fine ? 0 : 1;
}
