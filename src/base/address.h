/* Addresses to listen on, as the configuration writes them: "127.0.0.1:8980", "[::1]:8980",
 * "localhost:8980". */
#ifndef PRISM_BASE_ADDRESS_H
#define PRISM_BASE_ADDRESS_H

#include "src/base/slice.h"

#include <netdb.h>
#include <stdbool.h>

/* The socket addresses behind it, for freeaddrinfo; NULL: no port, or the host is not known. Blocks
 * while a name is asked for. */
struct addrinfo *address_resolve(const char *address);

/* A TCP socket bound to it, which the caller closes; -1 with errno. An IPv6 wildcard takes IPv4 as
 * well, as gRPC's listeners do. */
int address_bind(const struct addrinfo *to);

/* A listening TCP socket on the first of the host's addresses that can be had. -1: *why says why, a
 * static text. */
int address_listen(const char *address, const char **why);

/* HOST, HOST:PORT, [IPv6] or [IPv6]:PORT, of a server elsewhere; the port is 1 to 65535. */
bool address_is_server(struct slice text);

/* The port that a TCP socket is bound to; 0: none. */
int address_port(int fd);

/* Why binding failed, from errno, for the one who wrote the configuration. Static. */
const char *address_problem(int error);

#endif
