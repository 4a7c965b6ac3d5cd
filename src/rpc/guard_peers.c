#include "src/rpc/guard_peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { BUCKETS = 4096 };

struct peer {
    struct peer *next;
    uint64_t
        key[2]; /* an IPv4 address is {0, address}, the first half of an IPv6 one {prefix, 1} */
    uint32_t connections;
};

struct peers {
    uint64_t seed;
    struct peer *buckets[BUCKETS];
};

void peers_name(const struct sockaddr *address, char text[PEERS_TEXT])
{
    const struct sockaddr_in *four = (const void *)address;
    const struct sockaddr_in6 *six = (const void *)address;
    static const char mapped[] = "::ffff:";

    snprintf(text, PEERS_TEXT, "unix");
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &four->sin_addr, text, PEERS_TEXT);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &six->sin6_addr, text, PEERS_TEXT);
    if (strncmp(text, mapped, sizeof mapped - 1) == 0)
        memmove(text, text + sizeof mapped - 1, strlen(text) + 2 - sizeof mapped);
}

uint16_t peers_port(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
    if (address->sa_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
    return 0;
}

struct peers *peers_new(void)
{
    struct peers *peers = calloc(1, sizeof *peers);

    if (peers == NULL)
        abort();
    if (getrandom(&peers->seed, sizeof peers->seed, GRND_NONBLOCK) != sizeof peers->seed)
        peers->seed = (uint64_t)(uintptr_t)peers; /* better than none */
    return peers;
}

static bool key_of(const struct sockaddr *address, uint64_t key[2])
{
    key[0] = 0;
    if (address->sa_family == AF_INET) {
        key[1] = ((uint64_t)((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr)
                 << 1;
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;

    const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    uint32_t four;

    if (IN6_IS_ADDR_V4MAPPED(six)) {
        memcpy(&four, six->s6_addr + 12, sizeof four);
        key[1] = (uint64_t)four << 1;
        return true;
    }
    memcpy(&key[0], six->s6_addr, sizeof key[0]);
    key[1] = 1;
    return true;
}

/* Seeded, so that nobody chooses addresses that meet in one bucket. */
static struct peer **bucket_of(struct peers *peers, const uint64_t key[2])
{
    uint64_t h = (key[0] ^ peers->seed) * 0x9e3779b97f4a7c15ull;

    h = (h ^ (h >> 29) ^ key[1]) * 0xbf58476d1ce4e5b9ull;
    h = (h ^ (h >> 32) ^ peers->seed) * 0x94d049bb133111ebull;
    return &peers->buckets[(h >> 40) % BUCKETS];
}

struct peer *peers_enter(struct peers *peers, const struct sockaddr *address, uint32_t limit,
                         bool *counted)
{
    uint64_t key[2];

    *counted = key_of(address, key);
    if (!*counted)
        return NULL;

    struct peer **bucket = bucket_of(peers, key), *peer = *bucket;

    while (peer != NULL && (peer->key[0] != key[0] || peer->key[1] != key[1]))
        peer = peer->next;
    if (peer == NULL) {
        peer = calloc(1, sizeof *peer);
        if (peer == NULL)
            abort();
        memcpy(peer->key, key, sizeof key);
        peer->next = *bucket;
        *bucket = peer;
    }
    if (limit > 0 && peer->connections >= limit)
        return NULL;
    peer->connections++;
    return peer;
}

void peers_leave(struct peers *peers, struct peer *peer)
{
    struct peer **at = bucket_of(peers, peer->key);

    if (--peer->connections > 0)
        return;
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    free(peer);
}
