/* See meter.h. Another process's CPU is read through its POSIX CPU clock, which is exact to the
 * nanosecond where /proc counts ticks of 10 ms. Instructions come from perf events; a virtual
 * machine without counters refuses them, and the result then says so instead of guessing. */
#include "perf/bench/meter.h"

#include "perf/common/clock.h"

#include <dirent.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* inherit also counts the threads that this one starts later. */
static int open_counter(pid_t thread)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_HW_INSTRUCTIONS,
        .disabled = 1,
        .inherit = 1,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };

    return (int)syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* All threads or none: a part of a process's instructions is not a figure. */
static void open_counters(struct meter *m)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task", (int)m->pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return;
    for (struct dirent *e = readdir(tasks); e != NULL; e = readdir(tasks)) {
        pid_t thread = (pid_t)strtol(e->d_name, NULL, 10);
        if (thread == 0)
            continue;
        int fd = m->counter_count < METER_THREADS_MAX ? open_counter(thread) : -1;
        if (fd < 0) {
            meter_close(m);
            break;
        }
        m->counters[m->counter_count++] = fd;
    }
    closedir(tasks);
}

bool meter_open(struct meter *m, const struct run_plan *plan, struct run_result *result)
{
    memset(m, 0, sizeof *m);
    m->pid = plan->server_pid;
    m->beside = plan->beside_pid;
    if (m->pid == 0)
        return true;
    if (clock_getcpuclockid(m->pid, &m->server_clock) != 0)
        return run_fail(result, "cannot read the CPU clock of process %d", (int)m->pid);
    m->has_server = true;
    open_counters(m);
    return true;
}

/* Ticks in which any processor did anything, also for somebody else's virtual machine. */
static uint64_t read_busy_ticks(void)
{
    /* user nice system idle iowait irq softirq steal */
    unsigned long long t[8] = {0};
    FILE *f = fopen("/proc/stat", "r");

    if (f == NULL)
        return 0;
    int got = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3],
                     &t[4], &t[5], &t[6], &t[7]);
    fclose(f);
    return got == 8 ? t[0] + t[1] + t[2] + t[5] + t[6] + t[7] : 0;
}

/* Interrupts count as somebody's, so a few percent are nobody's fault. Without the server's process
 * it cannot be told who used what: 0. */
static double disturbance(const struct meter *m, const struct run_result *r)
{
    double ours = r->server_cpu_ns + r->client_cpu_ns;
    double tick_ns = 1e9 / (double)sysconf(_SC_CLK_TCK);
    double all = (double)(read_busy_ticks() - m->busy_ticks) * tick_ns;
    double room = r->seconds * 1e9 * (double)sysconf(_SC_NPROCESSORS_ONLN);

    if (!m->has_server)
        return 0;
    if (m->beside != 0)
        ours += (double)(meter_process_cpu_ns(m->beside) - m->beside_ns);
    return all > ours && room > 0 ? (all - ours) / room : 0;
}

/* A load may run in a child, whose CPU is ours once it was waited for. */
static uint64_t client_cpu_ns(void)
{
    struct rusage children;

    getrusage(RUSAGE_CHILDREN, &children);
    return clock_own_cpu_ns() +
           (uint64_t)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000000000 +
           (uint64_t)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) * 1000;
}

void meter_start(struct meter *m)
{
    for (unsigned i = 0; i < m->counter_count; i++) {
        ioctl(m->counters[i], PERF_EVENT_IOC_RESET, 0);
        ioctl(m->counters[i], PERF_EVENT_IOC_ENABLE, 0);
    }
    m->server_ns = m->has_server ? clock_read_ns(m->server_clock) : 0;
    m->beside_ns = m->beside != 0 ? meter_process_cpu_ns(m->beside) : 0;
    m->busy_ticks = read_busy_ticks();
    m->client_ns = client_cpu_ns();
    m->began_ns = clock_now_ns();
}

static double read_counters(const struct meter *m)
{
    double sum = 0;

    if (m->counter_count == 0)
        return -1;
    for (unsigned i = 0; i < m->counter_count; i++) {
        uint64_t value = 0;
        ioctl(m->counters[i], PERF_EVENT_IOC_DISABLE, 0);
        if (read(m->counters[i], &value, sizeof value) != (ssize_t)sizeof value)
            return -1;
        sum += (double)value;
    }
    return sum;
}

void meter_stop(struct meter *m, struct run_result *result)
{
    uint64_t ended_ns = clock_now_ns();

    result->client_cpu_ns = (double)(client_cpu_ns() - m->client_ns);
    result->server_cpu_ns =
        m->has_server ? (double)(clock_read_ns(m->server_clock) - m->server_ns) : 0;
    result->server_instructions = read_counters(m);
    result->seconds = (double)(ended_ns - m->began_ns) / 1e9;
    result->disturbance = disturbance(m, result);
}

void meter_close(struct meter *m)
{
    for (unsigned i = 0; i < m->counter_count; i++)
        close(m->counters[i]);
    m->counter_count = 0;
}

uint64_t meter_process_cpu_ns(pid_t pid)
{
    clockid_t clock;

    return clock_getcpuclockid(pid, &clock) == 0 ? clock_read_ns(clock) : UINT64_MAX;
}
