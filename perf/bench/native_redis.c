/* See native_redis.h. */
#include "perf/bench/native_redis.h"

#include "perf/bench/meter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { WORD_BYTES = 24, PATH_BYTES = 400, PATIENCE_SECONDS = 5 };

/* The program's line, and what the machine did while it ran, its start and warm-up included. */
static bool run_metered(struct lab *lab, const struct server *redis, const char *const *argv,
                        struct run_result *around, char *line, size_t room)
{
    const struct run_plan plan = {.server_pid = redis->child->pid};
    struct meter meter;

    *around = (struct run_result){.calls = 0};
    if (!meter_open(&meter, &plan, around))
        return lab_fail(lab, redis->child, "%s", around->error);
    meter_start(&meter);
    bool fine = lab_run(lab, argv, lab->cpu_client, line, room);
    meter_stop(&meter, around);
    meter_close(&meter);
    return fine;
}

bool native_redis_run(struct lab *lab, const struct server *redis,
                      const struct native_redis_job *job, struct run_result *result)
{
    char program[PATH_BYTES], port[WORD_BYTES], keys[WORD_BYTES], depth[WORD_BYTES];
    char seconds[WORD_BYTES], line[128];
    const char *const argv[] = {program, port,  job->command, keys, "16",
                                "128",   depth, seconds,      NULL};
    unsigned long long items = 0;
    double took = 0, cpu_us = 0;
    struct run_result around;

    snprintf(program, sizeof program, "%s/prism-baseline-hiredis", lab->bin_folder);
    snprintf(port, sizeof port, "%u", redis->port);
    snprintf(keys, sizeof keys, "%u", job->keys);
    snprintf(depth, sizeof depth, "%u", job->in_flight);
    snprintf(seconds, sizeof seconds, "%.3f", job->seconds);
    if (!run_metered(lab, redis, argv, &around, line, sizeof line))
        return false;
    if (sscanf(line, "items %llu seconds %lf cpu_us_per_item %lf", &items, &took, &cpu_us) != 3)
        return lab_fail(lab, NULL, "hiredis %s tells nothing", job->command);
    *result = (struct run_result){
        .calls = items,
        .items = items,
        .hits = items,
        .seconds = took,
        .client_cpu_ns = cpu_us * 1e3 * (double)items,
        .server_instructions = -1,
        .disturbance = around.disturbance,
    };
    return true;
}

/* One inline command; the answer's beginning holds the line we want. */
static bool ask_memory(uint16_t port, char *answer, size_t room)
{
    static const char question[] = "INFO memory\r\n";
    const struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ssize_t bytes = -1;

    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        send(fd, question, sizeof question - 1, MSG_NOSIGNAL) > 0)
        bytes = recv(fd, answer, room - 1, 0);
    close(fd);
    answer[bytes > 0 ? bytes : 0] = '\0';
    return bytes > 0;
}

bool native_redis_memory(struct lab *lab, const struct server *redis, double *bytes)
{
    static const char name[] = "used_memory:";
    char answer[4096];
    const char *at = ask_memory(redis->port, answer, sizeof answer) ? strstr(answer, name) : NULL;

    if (at == NULL)
        return lab_fail(lab, redis->child, "Redis does not tell its used_memory");
    *bytes = strtod(at + sizeof name - 1, NULL);
    return true;
}
