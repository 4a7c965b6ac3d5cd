/* The admin endpoint over HTTP: /metrics, /healthz (the process lives), /readyz (calls will be
 * served). */
#ifndef PRISM_SERVICES_ADMIN_H
#define PRISM_SERVICES_ADMIN_H

#include "src/base/err.h"
#include "src/base/metrics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct admin;

/* Is the server ready? If not, adds one reason for each thing that is not, by add(reasons, text).
 * thread: admin's. */
struct readiness;
void readiness_add(struct readiness *reasons, const char *text);
typedef bool admin_ready_fn(void *arg, struct readiness *reasons);

struct admin_options {
    const char *listen;                   /* "127.0.0.1:9090", "[::1]:0"; port 0 = any free one */
    const char *listen_shown;             /* in errors; NULL: listen itself */
    const struct metrics_source *sources; /* rendered in this order; borrowed */
    size_t source_count;
    admin_ready_fn *ready;
    void *ready_arg;
};

/* No thread of its own: the caller's loop watches admin_fd for reading, and calls admin_run when it
 * is readable or when the time that the last admin_run returned has passed. An error's text lives
 * in *admin, so admin_stop is due in every case. errors: UNAVAILABLE about "admin". thread: one. */
struct err admin_start(struct admin **admin, const struct admin_options *options);
int admin_port(const struct admin *admin);
int admin_fd(const struct admin *admin);

/* Handles what is ready; never blocks. Returns ms until it wants to run again, -1: only when the
 * descriptor is readable. */
int admin_run(struct admin *admin);

void admin_stop(struct admin *admin); /* NULL is accepted */

/* metrics_render_fn: build info, CPU, resident memory, descriptors, threads, allocator. arg: struct
 * build_facts. */
struct build_facts {
    const char *version, *grpc_version;
};

void process_render(void *build_facts, struct metrics_page *page);

/* The start is over: its memory is given back. To be called once. */
void process_started(void);

enum { PROCESS_TEND_MS = 10000 };

/* All zero at first; private. */
struct process_rest {
    uint64_t cpu_ns;
    bool was_busy;
};

/* Once the process has become idle after load: gives memory that is free back to the system. To be
 * called every PROCESS_TEND_MS; costs an idle process one look at its CPU time. thread: main. */
void process_tend(struct process_rest *rest);

#endif
