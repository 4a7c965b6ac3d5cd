/* Is the group being put together anew? While it is, nothing is committed.
 *
 * JoinGroup, the request, waits at the broker until all members have come or their sessions are
 * over, and the broker reads nothing else from this connection meanwhile. A commit that is sent
 * behind it is read when the group has a new generation, fails as one of the old, and the library
 * takes that for the loss of all partitions: everything since the last commit comes again. So
 * commits wait for the answer to SyncGroup, which ends it. The library tells nobody; its
 * interceptors see the requests. */
#include "backends/kafka/kafka_listener.h"

#include <stdlib.h>

enum { API_JOIN_GROUP = 11, API_SYNC_GROUP = 14 };

/* Lives as long as the library's handle, which may be left alone for good. */
struct kafka_joining {
    _Atomic bool under_way;
};

static const char name[] = "prism-joining";

/* thread: the library's */
static rd_kafka_resp_err_t on_request(rd_kafka_t *rk, int fd, const char *broker, int32_t id,
                                      int16_t key, int16_t version, int32_t correlation,
                                      size_t size, void *arg)
{
    struct kafka_joining *joining = arg;

    (void)rk, (void)fd, (void)broker, (void)id, (void)version, (void)correlation, (void)size;
    if (key == API_JOIN_GROUP)
        atomic_store(&joining->under_way, true);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* thread: the library's */
static rd_kafka_resp_err_t on_response(rd_kafka_t *rk, int fd, const char *broker, int32_t id,
                                       int16_t key, int16_t version, int32_t correlation,
                                       size_t size, int64_t took, rd_kafka_resp_err_t err,
                                       void *arg)
{
    struct kafka_joining *joining = arg;

    (void)rk, (void)fd, (void)broker, (void)id, (void)version, (void)correlation, (void)size;
    (void)took, (void)err;
    if (key == API_SYNC_GROUP)
        atomic_store(&joining->under_way, false);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *arg, char *why,
                                  size_t size)
{
    rd_kafka_resp_err_t code = rd_kafka_interceptor_add_on_request_sent(rk, name, on_request, arg);

    (void)conf, (void)why, (void)size;
    return code != RD_KAFKA_RESP_ERR_NO_ERROR
               ? code
               : rd_kafka_interceptor_add_on_response_received(rk, name, on_response, arg);
}

struct kafka_joining *kafka_joining_watch(rd_kafka_conf_t *conf)
{
    struct kafka_joining *joining = calloc(1, sizeof *joining);

    if (joining == NULL)
        abort();
    rd_kafka_conf_interceptor_add_on_new(conf, name, on_new, joining);
    return joining;
}

bool kafka_is_joining(const struct kafka_joining *joining)
{
    return joining != NULL && atomic_load(&joining->under_way);
}
