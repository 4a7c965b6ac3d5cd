#include "src/descriptors.h"

#include <sys/resource.h>

enum {
    PROCESS = 96,   /* standard streams, epoll sets, files, the admin port's connections */
    PER_WORKER = 4, /* its loop */
    PER_NAMESPACE =
        4,       /* for each worker: connections of its slots, and one more that replaces one */
    MOST = 60000 /* src/rpc keeps tables by number */
};

static uint64_t raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        rlim_t soft = limit.rlim_cur;

        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return soft;
    }
    return limit.rlim_cur;
}

/* A quarter, at the least: with a tiny limit backends and clients must get along. */
static uint32_t room_for_connections(const struct config *config, uint64_t limit)
{
    uint64_t reserve =
        PROCESS + (config->workers + 1ull) * (PER_WORKER + PER_NAMESPACE * config->namespace_count);
    uint64_t room = limit > reserve ? limit - reserve : 0;

    if (room < limit / 4)
        room = limit / 4;
    return room > MOST ? MOST : (uint32_t)room;
}

struct descriptor_shares descriptors_share(const struct config *config)
{
    uint64_t limit = raise_limit();
    uint32_t room = room_for_connections(config, limit);
    struct descriptor_shares shares = {config->limits.max_connections,
                                       config->limits.max_connections_per_peer};

    if (shares.connections > room)
        log_event(LOG_WARN, "max_connections_lowered", LOG_U("asked_for", shares.connections),
                  LOG_U("max_connections", room), LOG_U("open_files_limit", limit));
    if (shares.connections == 0 || shares.connections > room)
        shares.connections = room;
    if (shares.connections_per_peer == 0)
        shares.connections_per_peer = shares.connections - shares.connections / 4;
    return shares;
}
