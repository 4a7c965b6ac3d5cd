/* See measure.h. */
#include "perf/bench/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

_Noreturn static void work(const struct lab *lab, measure_fn *load, const struct run_plan *plan,
                           int out)
{
    struct run_result result;

    signal(SIGINT, SIG_IGN); /* the lab hears it and ends this process */
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    lab_pin(lab->cpu_client);
    load(plan, &result);
    ssize_t written = write(out, &result, sizeof result);
    _exit(written == (ssize_t)sizeof result ? 0 : 1);
}

/* A pipe holds more than one result, so either all of it arrives or the process has died. */
static bool collect(int in, struct run_result *result)
{
    ssize_t bytes;

    do
        bytes = read(in, result, sizeof *result);
    while (bytes < 0 && errno == EINTR && !lab_interrupted());
    return bytes == (ssize_t)sizeof *result;
}

bool measure(struct lab *lab, measure_fn *load, const struct run_plan *plan,
             struct run_result *result)
{
    int ends[2], status = 0;

    if (lab_interrupted())
        return lab_fail(lab, NULL, "interrupted");
    if (pipe2(ends, O_CLOEXEC) != 0)
        return lab_fail(lab, NULL, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        work(lab, load, plan, ends[1]);
    close(ends[1]);
    bool whole = pid > 0 && collect(ends[0], result);
    close(ends[0]);
    if (pid > 0 && !whole)
        kill(pid, SIGKILL);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (lab_interrupted())
        return lab_fail(lab, NULL, "interrupted");
    if (!whole)
        return lab_fail(lab, NULL, "the load of %s died", plan->operation->name);
    if (result->error[0] != '\0')
        return lab_fail(lab, NULL, "%s: %s", plan->operation->name, result->error);
    return true;
}
