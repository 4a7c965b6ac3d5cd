/* See lab.h. */
#include "perf/bench/lab.h"

#include "perf/common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STOP_MS = 15000, READY_MS = 60000, PROBE_MS = 5, LOG_TAIL_BYTES = 300 };

/* The only thing that a signal handler can reach. */
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

bool lab_interrupted(void)
{
    return interrupted != 0;
}

static void read_log_tail(const struct child *child, char *tail, size_t room)
{
    FILE *log = fopen(child->log, "r");

    tail[0] = '\0';
    if (log == NULL)
        return;
    if (fseek(log, -(long)(room - 1), SEEK_END) != 0)
        rewind(log);
    size_t bytes = fread(tail, 1, room - 1, log);
    tail[bytes] = '\0';
    fclose(log);
}

bool lab_fail(struct lab *lab, const struct child *child, const char *format, ...)
{
    char tail[LOG_TAIL_BYTES] = "";
    va_list args;

    va_start(args, format);
    vsnprintf(lab->error, sizeof lab->error, format, args);
    va_end(args);
    if (child != NULL)
        read_log_tail(child, tail, sizeof tail);
    size_t used = strlen(lab->error);
    if (tail[0] != '\0')
        snprintf(lab->error + used, sizeof lab->error - used, "; its log ends: %s", tail);
    return false;
}

static void find_cores(struct lab *lab)
{
    cpu_set_t allowed;

    lab->cpu_server = lab->cpu_client = -1;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2)
        return;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && lab->cpu_client < 0; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        if (lab->cpu_server < 0)
            lab->cpu_server = (int)cpu;
        else
            lab->cpu_client = (int)cpu;
    }
}

void lab_pin(int cpu)
{
    cpu_set_t set;

    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

bool lab_open(struct lab *lab)
{
    const struct sigaction action = {.sa_handler =
                                         on_signal}; /* no SA_RESTART: waits must notice */
    const char *base = getenv("TMPDIR");

    memset(lab, 0, sizeof *lab);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    find_cores(lab);
    ssize_t bytes = readlink("/proc/self/exe", lab->bin_folder, sizeof lab->bin_folder - 1);
    char *slash = bytes > 0 ? strrchr(lab->bin_folder, '/') : NULL;
    if (slash == NULL)
        return lab_fail(lab, NULL, "cannot tell where this program stands");
    *slash = '\0';
    snprintf(lab->folder, sizeof lab->folder, "%s/prism-bench-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(lab->folder) == NULL) {
        lab->folder[0] = '\0';
        return lab_fail(lab, NULL, "cannot make a temporary folder: %s", strerror(errno));
    }
    return true;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

void lab_close(struct lab *lab)
{
    for (int i = 0; i < LAB_CHILDREN_MAX; i++)
        lab_stop(lab, &lab->children[i]);
    if (lab->folder[0] != '\0')
        nftw(lab->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    lab->folder[0] = '\0';
}

/* In the child: whatever fails here shows as exit status 127 with a word in its log. */
_Noreturn static void become(const struct child *child, const char *const *argv, int cpu)
{
    int log = open(child->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0); /* the terminal's Ctrl-C goes to the bench, which stops its children in order */
    if (log >= 0)
        dup2(log, STDERR_FILENO);
    dup2(child->output_fd, STDOUT_FILENO);
    lab_pin(cpu);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static struct child *free_slot(struct lab *lab)
{
    for (int i = 0; i < LAB_CHILDREN_MAX; i++) {
        if (lab->children[i].pid == 0)
            return &lab->children[i];
    }
    return NULL;
}

struct child *lab_spawn(struct lab *lab, const char *name, const char *const *argv, int cpu)
{
    struct child *child = free_slot(lab);
    char log[LAB_PATH_BYTES];
    int output[2];

    if (child == NULL || pipe2(output, O_CLOEXEC) != 0) {
        lab_fail(lab, NULL, "cannot start %s: too many processes or no pipe", name);
        return NULL;
    }
    snprintf(child->name, sizeof child->name, "%s", name);
    snprintf(log, sizeof log, "%.200s/%.32s-%d.log", lab->folder, name,
             (int)(child - lab->children));
    memcpy(child->log, log, sizeof log);
    fflush(NULL);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        child->output_fd = output[1];
        if (getppid() == parent)
            become(child, argv, cpu);
        _exit(127);
    }
    close(output[1]);
    child->output_fd = output[0];
    child->exit_fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    child->pid = pid > 0 ? pid : 0;
    if (child->exit_fd < 0) {
        lab_fail(lab, NULL, "cannot start %s: %s", name, strerror(errno));
        lab_stop(lab, child);
        return NULL;
    }
    return child;
}

/* 1 = ended, 0 = time is over, -1 = a signal asks to stop. */
static int poll_exit(const struct child *child, int timeout_ms, bool obey_signals)
{
    struct pollfd fd = {.fd = child->exit_fd, .events = POLLIN};
    uint64_t deadline = clock_now_ns() + (uint64_t)timeout_ms * 1000000;

    for (;;) {
        uint64_t now = clock_now_ns();
        int left = now >= deadline ? 0 : (int)((deadline - now + 999999) / 1000000);
        if (obey_signals && lab_interrupted())
            return -1;
        int got = poll(&fd, 1, left);
        if (got > 0)
            return 1;
        if (got == 0 && left == 0)
            return 0;
    }
}

static void forget(struct child *child)
{
    if (child->exit_fd >= 0)
        close(child->exit_fd);
    if (child->output_fd >= 0)
        close(child->output_fd);
    child->pid = 0;
}

bool lab_stop(struct lab *lab, struct child *child)
{
    int status = 0;

    (void)lab;
    if (child == NULL || child->pid == 0)
        return true;
    kill(child->pid, SIGTERM);
    bool ended = child->exit_fd >= 0 && poll_exit(child, STOP_MS, false) == 1;
    if (!ended)
        kill(child->pid, SIGKILL);
    waitpid(child->pid, &status, 0);
    forget(child);
    return ended && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool lab_let_run(struct lab *lab, struct child *child, double seconds)
{
    int got = poll_exit(child, (int)(seconds * 1e3), true);

    if (got == 1)
        return lab_fail(lab, child, "%s has ended too early", child->name);
    return got == 0 ? true : lab_fail(lab, NULL, "interrupted");
}

bool lab_read_line(struct lab *lab, struct child *child, char *line, size_t line_bytes)
{
    struct pollfd fd = {.fd = child->output_fd, .events = POLLIN};
    size_t used = 0;

    while (used + 1 < line_bytes) {
        if (lab_interrupted())
            return lab_fail(lab, NULL, "interrupted");
        int got = poll(&fd, 1, READY_MS);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || read(child->output_fd, line + used, 1) != 1)
            return lab_fail(lab, child, "%s has not said a word", child->name);
        if (line[used] == '\n')
            break;
        used++;
    }
    line[used] = '\0';
    return true;
}

/* Everything until the program closes its standard output. */
static bool read_all(struct lab *lab, struct child *child, char *output, size_t room)
{
    size_t used = 0;

    while (used + 1 < room) {
        ssize_t bytes = read(child->output_fd, output + used, room - used - 1);
        if (lab_interrupted())
            return lab_fail(lab, NULL, "interrupted");
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes <= 0)
            break;
        used += (size_t)bytes;
    }
    output[used] = '\0';
    return true;
}

bool lab_run(struct lab *lab, const char *const *argv, int cpu, char *output, size_t room)
{
    const char *slash = strrchr(argv[0], '/');
    struct child *child = lab_spawn(lab, slash != NULL ? slash + 1 : argv[0], argv, cpu);
    int status = 0, got = 0;

    if (child == NULL)
        return false;
    bool fine = read_all(lab, child, output, room);
    while (fine && (got = poll_exit(child, READY_MS, true)) == 0)
        ;
    if (!fine || got < 0) {
        lab_stop(lab, child);
        return lab_fail(lab, NULL, "interrupted");
    }
    waitpid(child->pid, &status, 0);
    if (status != 0)
        lab_fail(lab, child, "%s has failed", child->name);
    forget(child);
    return status == 0;
}

static bool accepts(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;

    if (fd >= 0)
        close(fd);
    return yes;
}

bool lab_wait_port(struct lab *lab, struct child *child, uint16_t port)
{
    uint64_t deadline = clock_now_ns() + (uint64_t)READY_MS * 1000000;

    while (!accepts(port)) {
        if (clock_now_ns() > deadline)
            return lab_fail(lab, child, "%s does not listen within 60 s", child->name);
        if (!lab_let_run(lab, child, PROBE_MS / 1e3))
            return false;
    }
    return true;
}

uint16_t lab_free_port(struct lab *lab)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                 getsockname(fd, (struct sockaddr *)&address, &bytes) == 0;

    if (fd >= 0)
        close(fd);
    if (!bound)
        lab_fail(lab, NULL, "no free port: %s", strerror(errno));
    return bound ? ntohs(address.sin_port) : 0;
}
