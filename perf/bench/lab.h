/* The lab: a temporary folder and the processes that a bench has started. Whatever way the bench
 * ends, nothing of it stays: lab_close() stops every child and removes the folder, SIGINT and
 * SIGTERM only set a flag that every wait here obeys, and a child dies with its parent should that
 * be killed. thread: the main thread only; at most one lab exists at a time. */
#ifndef PRISM_PERF_BENCH_LAB_H
#define PRISM_PERF_BENCH_LAB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { LAB_CHILDREN_MAX = 16, LAB_PATH_BYTES = 256, LAB_ERROR_BYTES = 512, LAB_ARGUMENTS_MAX = 24 };

struct child {
    pid_t pid;     /* 0 = the slot is free */
    int exit_fd;   /* readable once the process has ended */
    int output_fd; /* its standard output */
    char name[32];
    char log[LAB_PATH_BYTES]; /* its standard error */
};

struct lab {
    char folder[LAB_PATH_BYTES];     /* of the temporary files */
    char bin_folder[LAB_PATH_BYTES]; /* where this program stands, and what it starts beside it */
    int cpu_server, cpu_client; /* cores to pin to; -1 = fewer than two cores, nothing is pinned */
    struct child children[LAB_CHILDREN_MAX];
    char error[LAB_ERROR_BYTES]; /* why the last thing failed */
};

/* False with lab->error set; lab_close() is due in either case. */
bool lab_open(struct lab *lab);
void lab_close(struct lab *lab);

/* A signal asked the bench to end. */
bool lab_interrupted(void);

/* Pins the calling process to a core; -1 = leaves it as it is. */
void lab_pin(int cpu);

/* Starts argv[0], found in $PATH unless it has a slash, pinned to cpu (-1 = not). NULL on failure.
 */
struct child *lab_spawn(struct lab *lab, const char *name, const char *const *argv, int cpu);

/* Asks the child to end (SIGTERM), makes it end after 15 s, and frees its slot. True when it ended
 * with status 0 by itself. Accepts NULL. */
bool lab_stop(struct lab *lab, struct child *child);

/* Waits until the child prints a line; at most line_bytes - 1 of it are kept. */
bool lab_read_line(struct lab *lab, struct child *child, char *line, size_t line_bytes);

/* Waits until the child accepts connections on 127.0.0.1:port; fails when it ends or 60 s pass. */
bool lab_wait_port(struct lab *lab, struct child *child, uint16_t port);

/* Runs a program to its end and keeps at most room - 1 bytes of its standard output. False when it
 * did not end with status 0. */
bool lab_run(struct lab *lab, const char *const *argv, int cpu, char *output, size_t room);

/* Lets `seconds` pass; false, at once, when the child ends or a signal asks to. */
bool lab_let_run(struct lab *lab, struct child *child, double seconds);

/* A TCP port that is free now; 0 on failure. */
uint16_t lab_free_port(struct lab *lab);

/* Sets lab->error to the text and the end of the child's log; returns false. child may be NULL. */
__attribute__((format(printf, 3, 4))) bool lab_fail(struct lab *lab, const struct child *child,
                                                    const char *format, ...);

#endif
