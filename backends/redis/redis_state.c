/* What redis says of itself while it is connected, in errors and when it is asked again: refusals
 * that pass (named in the health), a role, a topology or a login that make the connection useless
 * (left, so that the next one looks for the server by its name). */
#include "backends/redis/redis_conn.h"
#include "src/base/clock.h"

enum {
    REPLICA_MS = 5000,  /* a connection to a known replica is kept at least as long */
    TROUBLE_MS = 10000, /* that redis does not repeat for so long is over */
};

static void log_state(struct redis *redis, enum log_level level, const char *event, const char *why)
{
    struct redis_store *store = redis_store_of(redis);
    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("host", store->shown_host), LOG_U("worker", redis->base.home->id), LOG_S("why", why)};

    log_limited(&store->troubles, level, event, fields, ARRAY_LEN(fields) - (why == NULL));
}

const char *redis_restriction(const struct redis *redis)
{
    if (redis->trouble != NULL)
        return redis->trouble;
    return redis->facts.replica ? "this redis is a replica and may refuse writes" : NULL;
}

void redis_report_serving(struct redis *redis)
{
    const char *text = redis_restriction(redis);

    if (redis->not_yet != NULL) {
        redis_report(redis, BACKEND_CONNECTING, redis->not_yet);
        return;
    }
    redis_report(redis, text != NULL ? BACKEND_DEGRADED : BACKEND_READY, text);
}

static void leave(struct redis *redis, struct err why)
{
    redis->down = why;
    redis->down.retry_after_ms = REDIS_RETRY_MS;
    redis->phase = REDIS_LEAVING;
    redis->left = true;
    log_state(redis, LOG_WARN, "redis_leaving", why.text);
}

static void set_trouble(struct redis *redis, const char *text)
{
    const char *before = redis->trouble;

    redis->trouble = text;
    redis->trouble_ns = redis->base.home->now_ns;
    if (before == text)
        return;
    if (text != NULL)
        log_state(redis, LOG_WARN, "redis_degraded", text);
    else
        log_state(redis, LOG_INFO, "redis_recovered", NULL);
    redis_report_serving(redis);
}

/* The name may lead to several servers, of which another one is the primary. */
static void leave_replica(struct redis *redis, struct err why)
{
    if (redis->facts.replica && redis->base.home->now_ns - redis->ready_ns < REPLICA_MS * NS_PER_MS)
        return;
    if (redis->address_count > 1)
        redis->address_at = (redis->address_at + 1) % redis->address_count;
    leave(redis, why);
}

void redis_act_on_news(struct redis *redis)
{
    enum redis_news news = redis->news;

    redis->news = REDIS_NEWS_NONE;
    switch (news) {
    case REDIS_NEWS_NONE:
        if (redis->trouble != NULL && redis->wrote)
            set_trouble(redis, NULL);
        break;
    case REDIS_NEWS_TROUBLE:
        set_trouble(redis, redis->news_err.text);
        break;
    case REDIS_NEWS_SIZE: /* redis hangs up */
        break;
    case REDIS_NEWS_LOGIN:
    case REDIS_NEWS_CLUSTER:
        leave(redis, redis->news_err);
        break;
    case REDIS_NEWS_ROLE:
        leave_replica(redis, redis->news_err);
        break;
    }
    redis->wrote = false;
}

/* A server that was asked again. */
void redis_act_on_facts(struct redis *redis)
{
    bool was_replica = redis->facts.replica, known = redis->facts.role_known;

    redis->facts = redis->hello.facts;
    if (redis->hello.fatal.code != ERR_OK) {
        leave(redis, redis->hello.fatal);
        return;
    }
    redis_take_facts(redis);
    if (redis->trouble != NULL &&
        redis->base.home->now_ns - redis->trouble_ns > TROUBLE_MS * NS_PER_MS)
        set_trouble(redis, NULL);
    if (known && redis->facts.role_known && was_replica != redis->facts.replica)
        leave(redis, redis_unavailable(was_replica ? "this redis has become a primary"
                                                   : "this redis has become a replica"));
}
