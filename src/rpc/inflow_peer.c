/* Which connection a call came on. gRPC tells its peer's address and port, and no two connections
 * of a listener have the same: so the descriptor is found among those whose peer has this port. */
#include "src/rpc/inflow_priv.h"

#include "src/rpc/guard_peers.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct wanted {
    char address[PEERS_TEXT]; /* as peers_name writes it */
    uint16_t port;
};

/* "ipv4:192.0.2.1:80", "ipv6:%5B2001:db8::1%5D:80", the brackets escaped or not. */
static bool read_peer(const char *peer, struct wanted *wanted)
{
    const char *from = strchr(peer, ':'), *colon = strrchr(peer, ':');
    size_t length;
    unsigned long port;

    if ((strncmp(peer, "ipv4:", 5) != 0 && strncmp(peer, "ipv6:", 5) != 0) || colon == from)
        return false;
    from++;
    if (strncmp(from, "%5B", 3) == 0)
        from += 3;
    else if (*from == '[')
        from++;
    length = strcspn(from, "%]"); /* also where the scope of a link-local address begins */
    if (from + length > colon)
        length = (size_t)(colon - from);
    port = strtoul(colon + 1, NULL, 10);
    if (length >= sizeof wanted->address || port == 0 || port > UINT16_MAX)
        return false;
    memcpy(wanted->address, from, length);
    wanted->address[length] = '\0';
    wanted->port = (uint16_t)port;
    return true;
}

static bool is_wanted(int fd, const struct wanted *wanted)
{
    struct flow *f = inflow_flow(fd);
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof from;
    char name[PEERS_TEXT];

    if (f == NULL || atomic_load_explicit(&f->port, memory_order_relaxed) != wanted->port ||
        sockets_role(fd) != SOCKET_CONNECTION ||
        getpeername(fd, (struct sockaddr *)&from, &length) != 0)
        return false;
    peers_name((const struct sockaddr *)&from, name);
    return strcmp(name, wanted->address) == 0;
}

bool inflow_end_peer(const char *peer)
{
    int highest = atomic_load(&inflow.highest), found = -1;
    struct wanted wanted;
    struct flow *f;
    bool ends;

    if (!read_peer(peer, &wanted))
        return false;
    for (int fd = 0; fd <= highest; fd++) {
        if (!is_wanted(fd, &wanted))
            continue;
        if (found >= 0) /* it has come to two listeners */
            return false;
        found = fd;
    }
    if (found < 0)
        return false;
    f = inflow_flow(found);
    pthread_mutex_lock(&f->lock);
    ends = f->live && !f->ending && is_wanted(found, &wanted);
    if (ends)
        inflow_end(found, f, INFLOW_UNREAD);
    pthread_mutex_unlock(&f->lock);
    return ends;
}
