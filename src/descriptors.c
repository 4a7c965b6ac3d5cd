#include "src/descriptors.h"

#include "backends/backend.h"
#include "src/base/container.h"

#include <sys/resource.h>

enum {
    PROCESS = 96,   /* standard streams, epoll sets, files, the admin port's connections */
    PER_WORKER = 4, /* its loop */
    MOST = 60000    /* src/rpc keeps tables by number */
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

static uint64_t of_slot(const struct config_slot *slot, uint64_t instances)
{
    struct backend_descriptors most = {0};

    if (slot->backend != NULL && slot->backend->descriptors != NULL)
        most = slot->backend->descriptors(slot->values);
    return instances * most.instance + most.store;
}

/* What backends may need is theirs: they are bounded by their settings, clients by what is left. */
static uint64_t reserve_of(const struct config *config)
{
    uint64_t instances = config->workers + 1ull; /* and the poller's */
    uint64_t reserve = PROCESS + instances * PER_WORKER;

    for (size_t i = 0; i < config->namespace_count; i++) {
        const struct config_namespace *ns = &config->namespaces[i];

        for (size_t k = 0; k < ARRAY_LEN(ns->slots); k++)
            reserve += of_slot(&ns->slots[k], instances);
    }
    return reserve;
}

/* A quarter, at the least: with a tiny limit backends and clients must get along. */
static uint32_t room_for_connections(const struct config *config, uint64_t limit)
{
    uint64_t reserve = reserve_of(config);
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
