/* One owner for each address. gRPC alone would take a unix socket away from the server that uses
 * it, and at its end remove whatever stands at the path by then; and why it cannot bind, it says
 * only to its own log. So the address is claimed before gRPC is asked.
 *
 * A unix socket: a lock on `<path>.lock`, held for life, keeps other servers away; a socket that
 * answers is respected, one that nobody serves is replaced. gRPC binds `<path>~`, which is then
 * renamed, so that clients see the old socket or the new one, and what gRPC removes at its end is
 * not there. */
#ifndef PRISM_RPC_LISTENER_H
#define PRISM_RPC_LISTENER_H

#include "src/base/err.h"

#include <stdbool.h>
#include <sys/types.h>

enum { LISTENER_PATH_BYTES = 108, LISTENER_WHY_BYTES = 512 };

struct listener {
    const char *address;                  /* the caller's: "host:port" or "unix:/path" */
    const char *shown;                    /* in texts */
    const char *path;                     /* of a unix socket, in address; else NULL */
    char target[LISTENER_PATH_BYTES + 8]; /* of a unix socket: what gRPC binds, with "unix:" */
    int lock_fd;                          /* -1: none */
    bool published; /* our socket was put at `path`: device and inode name it */
    dev_t device;
    ino_t inode;
    char why[LISTENER_WHY_BYTES]; /* holds the text of an error */
};

/* Can we have this address? Both texts must outlive the listener; `shown` stands for the address in
 * errors, NULL: itself. errors: UNAVAILABLE about "listen";
 * its text lives in *listener. listener_release is due in every case. thread: main. */
struct err listener_claim(struct listener *listener, const char *address, const char *shown);

/* What gRPC is to bind. */
const char *listener_target(const struct listener *listener);

/* gRPC has bound the target: clients may come. errors: as listener_claim. */
struct err listener_publish(struct listener *listener);

/* gRPC has closed its socket. Removes the path if our socket still stands there, and gives the lock
 * back. Also of one that was zeroed and never claimed. */
void listener_release(struct listener *listener);

#endif
