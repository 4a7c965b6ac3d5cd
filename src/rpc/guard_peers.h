/* Connections of each peer address. Not safe with threads: the caller locks. */
#ifndef PRISM_RPC_GUARD_PEERS_H
#define PRISM_RPC_GUARD_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { PEERS_TEXT = 64 };

struct peer;
struct peers;

/* The address without its port; "unix" for other families. */
void peers_name(const struct sockaddr *address, char text[PEERS_TEXT]);

uint16_t peers_port(const struct sockaddr *address); /* 0: other families */

/* Never fails: aborts without memory. */
struct peers *peers_new(void);

/* The peer of an address with one connection more. An IPv6 address counts by its first 64 bits:
 * whoever has one of those has all. NULL: `limit` (0: none) is reached, or *counted is false: other
 * families (unix sockets) have no addresses to count. */
struct peer *peers_enter(struct peers *peers, const struct sockaddr *address, uint32_t limit,
                         bool *counted);
void peers_leave(struct peers *peers, struct peer *peer);

#endif
