/* A real redis-server for one test program: started by it in a folder of its own, on a unix socket
 * and a free loopback port, and gone when it ends, however it ends.
 *
 * With the environment's PRISM_TEST_REDIS_TLS, a folder of certificates (rig/with_servers.py), it
 * has a port for TLS as well, and fixtures use that wherever a test names the unix socket. */
#ifndef PRISM_TESTS_CONTRACT_REDIS_SERVER_H
#define PRISM_TESTS_CONTRACT_REDIS_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { REDIS_SERVER_ARGS = 24 };

struct redis_server {
    pid_t pid;               /* 0: not running */
    uint16_t port, tls_port; /* tls_port 0: no TLS */
    char folder[64], socket[96];
    const char *args[REDIS_SERVER_ARGS]; /* borrowed */
};

/* Is redis-server installed? If not, tests exit with redis_server_skip(). */
bool redis_server_installed(void);
int redis_server_skip(void); /* 77; 1 if PRISM_REQUIRE_ALL is set */

/* args: NULL-terminated "--option", "value", ...; may be NULL; borrowed. Returns once it answers;
 * aborts if it does not come up. */
void redis_server_start(struct redis_server *server, const char *const *args);

/* The same server again, on the same addresses, without the data it did not persist. */
void redis_server_restart(struct redis_server *server);

void redis_server_kill(struct redis_server *server);  /* as by kill -9; returns when it is gone */
void redis_server_pause(struct redis_server *server); /* SIGSTOP; returns when it has stopped */
void redis_server_resume(struct redis_server *server);
void redis_server_stop(struct redis_server *server); /* and removes its folder */

/* One command, words separated by spaces, from a connection beside the one under test. The answer
 * as text: integers in decimal, nil as "(nil)", errors as they are, arrays joined by spaces. Valid
 * until the next call. */
const char *redis_server_say(const struct redis_server *server, const char *command);

/* The same for words that hold spaces. */
const char *redis_server_say_words(const struct redis_server *server, int n, const char **words);

#endif
