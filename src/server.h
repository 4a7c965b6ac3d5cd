/* The whole server: pool, backends, patterns, listener, admin endpoint, in this order; ended in
 * reverse. */
#ifndef PRISM_SERVER_H
#define PRISM_SERVER_H

#include "src/base/err.h"
#include "src/config/config.h"

struct server;

/* `config` must outlive the server. On error *server may be half-built: server_destroy takes it.
 * thread: main. */
struct err server_new(struct server **server, const struct config *config);

/* Serves until SIGTERM, SIGINT or SIGQUIT, then drains. ERR_OK: nothing was abandoned, and clients
 * have taken all answers. ERR_DEADLINE_EXCEEDED: the drain's time was up, and calls were cancelled
 * or answers not taken (logged). Calls that do not end 30 s after that abort the process. thread:
 * main, after signals_hold. */
struct err server_run(struct server *server);

void server_destroy(struct server *server);

#endif
