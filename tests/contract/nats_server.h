/* A real nats-server for one test program: started by it on a free loopback port, and gone when it
 * ends, however it ends. */
#ifndef PRISM_TESTS_CONTRACT_NATS_SERVER_H
#define PRISM_TESTS_CONTRACT_NATS_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct nats_server {
    pid_t pid; /* 0: not running */
    uint16_t port;
    char folder[64], address[32];
};

/* Is nats-server installed? If not, tests exit with nats_server_skip(). */
bool nats_server_installed(void);
int nats_server_skip(void); /* 77; 1 if PRISM_REQUIRE_ALL is set */

/* Runs tests on the packaged server and on the newest release, which scripts/setup-test.sh builds
 * where it can; servers that run() starts are of that release. run: gets a name for its tests,
 * returns how many failed. Returns the program's exit status. */
int nats_server_each(const char *name, int (*run)(const char *name));

/* config: lines of its configuration file, "" for none. Returns once it answers; aborts if it does
 * not come up. */
void nats_server_start(struct nats_server *server, const char *config);

void nats_server_restart(struct nats_server *server); /* the same address and configuration */
void nats_server_kill(struct nats_server *server);    /* as by kill -9; returns when it is gone */
void nats_server_pause(struct nats_server *server);   /* SIGSTOP; returns when it has stopped */
void nats_server_resume(struct nats_server *server);
void nats_server_stop(struct nats_server *server); /* and removes its folder */

#endif
