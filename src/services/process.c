/* What the process itself uses, for /metrics. jemalloc is asked when it is linked: the symbol is
 * weak, because builds with a sanitizer go without it. */
#include "src/services/admin.h"

#include "src/base/clock.h"
#include "src/base/log.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { IDLE_SHARE = 100 }; /* idle: less than a hundredth of one core */

extern int mallctl(const char *name, void *old, size_t *old_len, void *new_value, size_t new_len)
    __attribute__((weak));

static void gauge(struct metrics_page *page, const char *name, const char *help, double value)
{
    metrics_family(page, name, "gauge", help);
    metrics_sample(page, name, NULL, value);
}

static double resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long total = 0, resident = 0;

    if (file == NULL)
        return 0;
    if (fscanf(file, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* Wall clock, seconds. The kernel counts a start in ticks since the machine's boot; the name in
 * parentheses may hold anything, so fields are counted behind it. */
static double start_time(void)
{
    char text[1024];
    unsigned long long ticks = 0;
    struct timespec now, since_boot;
    FILE *file = fopen("/proc/self/stat", "re");

    if (file == NULL)
        return 0;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);

    const char *at = strrchr(text, ')');

    for (unsigned field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL || sscanf(at, " %llu", &ticks) != 1)
        return 0;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    return (double)(now.tv_sec - since_boot.tv_sec) +
           (double)(now.tv_nsec - since_boot.tv_nsec) / 1e9 +
           (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static double max_fds(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (double)limit.rlim_cur : 0;
}

static double entries_of(const char *path)
{
    DIR *dir = opendir(path);
    double n = 0;

    if (dir == NULL)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void render_allocator(struct metrics_page *page)
{
    static const struct {
        const char *key, *name, *help;
    } rows[] = {
        {"stats.allocated", "prism_allocator_allocated_bytes",
         "Bytes that the program has allocated."},
        {"stats.active", "prism_allocator_active_bytes", "Bytes in pages that hold allocations."},
        {"stats.resident", "prism_allocator_resident_bytes",
         "Bytes that the allocator keeps in memory."}};
    uint64_t epoch = 1;
    size_t len = sizeof epoch;

    metrics_family(page, "prism_allocator_info", "gauge", "The allocator that is linked.");
    metrics_sample_u64(page, "prism_allocator_info",
                       (const char *[]){"name", mallctl != NULL ? "jemalloc" : "libc", NULL}, 1);
    if (mallctl == NULL)
        return;
    mallctl("epoch", &epoch, &len, &epoch, len);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t value = 0;

        len = sizeof value;
        if (mallctl(rows[i].key, &value, &len, NULL, 0) == 0)
            gauge(page, rows[i].name, rows[i].help, (double)value);
    }
}

/* Blocks of a large message are few, and come and go: among small ones each leaves a hole that no
 * other fits into. Beyond this size they have an arena of their own, which keeps none of them.
 * Other freed pages go back within a second: each connection that is ended may leave as much as its
 * share, and who floods us comes again several times a second. */
extern const char *malloc_conf;
const char *malloc_conf = "oversize_threshold:2097152,dirty_decay_ms:1000";

/* Pages that a thread has freed go back while it goes on allocating. After a flood it does not. */
static void give_memory_back(void)
{
    enum { ALL_ARENAS = 4096 }; /* MALLCTL_ARENAS_ALL */
    char name[32];

    if (mallctl == NULL)
        return;
    snprintf(name, sizeof name, "arena.%d.purge", ALL_ARENAS);
    mallctl(name, NULL, NULL, NULL, 0);
}

void process_tend(struct process_rest *rest)
{
    struct timespec cpu;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);

    uint64_t now_ns = (uint64_t)cpu.tv_sec * NS_PER_S + (uint64_t)cpu.tv_nsec;
    bool idle = now_ns - rest->cpu_ns < PROCESS_TEND_MS * NS_PER_MS / IDLE_SHARE;

    rest->cpu_ns = now_ns;
    if (idle && rest->was_busy)
        give_memory_back();
    rest->was_busy = !idle;
}

void process_render(void *arg, struct metrics_page *page)
{
    const struct build_facts *build = arg;
    struct rusage usage;

    metrics_family(page, "prism_build_info", "gauge", "Versions.");
    metrics_sample_u64(
        page, "prism_build_info",
        (const char *[]){"version", build->version, "grpc", build->grpc_version, NULL}, 1);
    metrics_family(page, "prism_log_lines_lost_total", "counter",
                   "Log lines that standard error did not take.");
    metrics_sample_u64(page, "prism_log_lines_lost_total", NULL, log_lines_lost());
    getrusage(RUSAGE_SELF, &usage);
    metrics_family(page, "process_cpu_seconds_total", "counter", "User and system CPU time.");
    metrics_sample(page, "process_cpu_seconds_total", NULL,
                   (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    gauge(page, "process_resident_memory_bytes", "Resident memory.", resident_bytes());
    gauge(page, "process_open_fds", "Open file descriptors.",
          entries_of("/proc/self/fd") - 1); /* but for the one that counts them */
    gauge(page, "process_max_fds", "Most file descriptors that may be open.", max_fds());
    gauge(page, "process_start_time_seconds", "Start, in seconds since 1970.", start_time());
    gauge(page, "process_threads", "Threads.", entries_of("/proc/self/task"));
    render_allocator(page);
}
