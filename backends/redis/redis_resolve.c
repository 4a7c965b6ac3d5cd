/* The server's name, resolved anew for each connection: it may lead elsewhere after a failover. */
#include "backends/redis/redis_conn.h"

#include <string.h>

static void on_resolved(uv_getaddrinfo_t *resolver, int status, struct addrinfo *found)
{
    struct redis *redis = resolver->data;

    redis->handles--;
    redis->address_count = 0;
    for (struct addrinfo *a = found; a != NULL && redis->address_count < REDIS_ADDRESSES;
         a = a->ai_next) {
        char *to = redis->addresses[redis->address_count];

        if (uv_ip_name(a->ai_addr, to, sizeof redis->addresses[0]) == 0)
            redis->address_count++;
    }
    if (status == 0)
        uv_freeaddrinfo(found);
    redis->resolved(redis, status < 0 ? uv_strerror(status) : "");
}

/* Numeric addresses and localhost need no resolver, whose threads libuv would start for it. */
static bool known_already(struct redis *redis, const char *host)
{
    struct sockaddr_storage ignored;

    redis->address_count = 1;
    if (strcmp(host, "localhost") == 0) {
        redis->address_count = 2;
        memcpy(redis->addresses[0], "127.0.0.1", sizeof "127.0.0.1");
        memcpy(redis->addresses[1], "::1", sizeof "::1");
        return true;
    }
    if (uv_ip4_addr(host, 0, (struct sockaddr_in *)&ignored) != 0 &&
        uv_ip6_addr(host, 0, (struct sockaddr_in6 *)&ignored) != 0)
        return false;
    if (strlen(host) >= sizeof redis->addresses[0])
        return false;
    memcpy(redis->addresses[0], host, strlen(host) + 1);
    return true;
}

bool redis_resolve(struct redis *redis, void (*resolved)(struct redis *, const char *problem))
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    if (redis->to.port == 0 || known_already(redis, redis->to.host))
        return true;
    redis->resolver.data = redis;
    redis->resolved = resolved;
    redis->address_count = 0;
    if (uv_getaddrinfo(redis->base.home->loop, &redis->resolver, on_resolved, redis->to.host, NULL,
                       &hints) == 0)
        redis->handles++;
    else
        resolved(redis, "uv_getaddrinfo");
    return false;
}
