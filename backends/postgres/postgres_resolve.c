/* The server's name, resolved anew for each connection: it may lead elsewhere after a failover.
 * libpq would block the worker while it asks. */
#include "backends/postgres/postgres_conn.h"

#include <string.h>

static void on_resolved(uv_getaddrinfo_t *resolver, int status, struct addrinfo *found)
{
    struct postgres_conn *conn = resolver->data;

    conn->postgres->handles--;
    conn->resolving = false;
    conn->address_count = 0;
    for (struct addrinfo *a = found; a != NULL && conn->address_count < POSTGRES_ADDRESSES;
         a = a->ai_next) {
        char *to = conn->addresses[conn->address_count];

        if (uv_ip_name(a->ai_addr, to, sizeof conn->addresses[0]) == 0)
            conn->address_count++;
    }
    if (status == 0)
        uv_freeaddrinfo(found);
    postgres_resolved(conn, status < 0 ? uv_strerror(status) : "");
}

/* Numeric addresses and localhost need no resolver, whose threads libuv would start for it. */
static bool known_already(struct postgres_conn *conn, const char *host)
{
    struct sockaddr_storage ignored;

    if (strcmp(host, "localhost") == 0) {
        conn->address_count = 2;
        memcpy(conn->addresses[0], "127.0.0.1", sizeof "127.0.0.1");
        memcpy(conn->addresses[1], "::1", sizeof "::1");
        return true;
    }
    if (strlen(host) >= sizeof conn->addresses[0] ||
        (uv_ip4_addr(host, 0, (struct sockaddr_in *)&ignored) != 0 &&
         uv_ip6_addr(host, 0, (struct sockaddr_in6 *)&ignored) != 0))
        return false;
    conn->address_count = 1;
    memcpy(conn->addresses[0], host, strlen(host) + 1);
    return true;
}

bool postgres_resolve(struct postgres_conn *conn)
{
    const struct postgres_config *config = &postgres_store_of(conn->postgres)->config;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    if (config->unix_socket || known_already(conn, config->host))
        return true;
    conn->resolver.data = conn;
    conn->address_count = 0;
    if (uv_getaddrinfo(conn->postgres->base.home->loop, &conn->resolver, on_resolved, config->host,
                       NULL, &hints) != 0) {
        postgres_resolved(conn, "uv_getaddrinfo");
        return false;
    }
    conn->postgres->handles++;
    conn->resolving = true;
    return false;
}
