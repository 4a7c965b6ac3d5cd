/* A stream or a queue: what is appended, how long it is kept, and what it costs. */
#include "backends/memstore/messaging.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

enum { RETRY_MS = 100 };

void channel_init(struct channel *channel, struct messaging *m, bool queue)
{
    channel->messaging = m;
    channel->queue = queue;
    pthread_mutex_init(&channel->lock, NULL);
    msglog_init(&channel->log);
    msglog_init(&channel->dead);
}

static void drop(struct channel *channel, int64_t offset)
{
    struct kept *kept = msglog_take(&channel->log, offset);

    channel->bytes -= kept->cost;
    channel_let_go(channel, kept);
}

void channel_clear(struct channel *channel)
{
    assert(channel->groups == NULL && channel->dead.held == 0);
    while (channel->log.first < channel->log.next)
        drop(channel, channel->log.first);
    msglog_clear(&channel->log);
    msglog_clear(&channel->dead);
    pthread_mutex_destroy(&channel->lock);
}

void channel_let_go(struct channel *channel, struct kept *kept)
{
    if (--kept->holds > 0)
        return;
    capacity_give(channel->messaging->store, 0, kept->cost);
    kept_unref(kept);
}

void channel_remove(struct channel *channel, int64_t offset)
{
    if (msglog_get(&channel->log, offset) != NULL)
        drop(channel, offset);
}

struct kept *channel_kept(const struct channel *channel, int64_t offset)
{
    return msglog_get(&channel->log, offset);
}

int64_t channel_at_time(const struct channel *channel, int64_t ms)
{
    int64_t low = channel->log.first, high = channel->log.next;

    while (low < high) {
        int64_t middle = low + (high - low) / 2;

        if ((int64_t)channel_kept(channel, middle)->timestamp_ms < ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool channel_position(struct slice position, int64_t *offset)
{
    int64_t out = 0;

    if (position.len == 0 || position.len > 18)
        return false;
    for (size_t i = 0; i < position.len; i++) {
        if (position.data[i] < '0' || position.data[i] > '9')
            return false;
        out = out * 10 + (position.data[i] - '0');
    }
    *offset = out;
    return true;
}

bool channel_start(const struct channel *channel, enum stream_start start, int64_t at,
                   int64_t *offset)
{
    const struct msglog *log = &channel->log;

    switch (start) {
    case START_COMMITTED:
    case START_EARLIEST:
        *offset = log->first;
        return true;
    case START_LATEST:
        *offset = log->next;
        return true;
    case START_TIME:
        *offset = channel_at_time(channel, at);
        return true;
    case START_OFFSET:
    case START_POSITION:
        break;
    }
    *offset = at;
    return at >= 0 && at <= log->next;
}

/* ---- retention ---- */

/* All groups have settled what is before it. */
static int64_t floor_of(const struct channel *channel)
{
    int64_t floor = channel->log.next;

    for (const struct group *g = channel->groups; g != NULL; g = g->next) {
        if (group_floor(g) < floor)
            floor = group_floor(g);
    }
    return floor;
}

/* False: nothing may go. */
static bool drop_oldest(struct channel *channel)
{
    const struct memstore_messaging *config = &channel->messaging->config;
    int64_t first = channel->log.first;

    if (channel->queue || first == channel->log.next)
        return false;
    if (!config->drop_unread && first >= floor_of(channel))
        return false;
    drop(channel, first);
    return true;
}

void channel_age(struct channel *channel)
{
    uint64_t age_ms = channel->messaging->config.stream_age_ms;
    struct timespec now;

    if (age_ms == 0 || channel->queue)
        return;
    clock_gettime(CLOCK_REALTIME, &now);

    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;

    while (channel->log.first < channel->log.next &&
           channel_kept(channel, channel->log.first)->timestamp_ms + age_ms <= now_ms &&
           drop_oldest(channel))
        ;
}

static bool over(uint64_t limit, uint64_t now, uint64_t more)
{
    return limit > 0 && (now > limit || limit - now < more);
}

/* A queue that is full is so until somebody receives from it: nobody need try again soon. */
static struct err full(struct channel *channel, const char *bound)
{
    const char *text = channel->queue
                           ? "the queue is full: nobody has received what waits in it"
                           : "the topic is full of messages that a group has not settled yet";
    struct err err = err_about(ERR_RESOURCE_EXHAUSTED, bound, text);

    counter_add_shared(&channel->messaging->refused, 1);
    err.retry_after_ms = channel->queue ? 0 : RETRY_MS;
    return err;
}

static bool too_old(struct channel *channel, uint64_t now_ms)
{
    uint64_t age_ms = channel->messaging->config.queue_age_ms;

    return age_ms > 0 && channel->queue && channel->log.held > 0 &&
           channel_kept(channel, channel->log.first)->timestamp_ms + age_ms <= now_ms;
}

static struct err store_full(struct memstore *store, enum capacity limit)
{
    struct err err = capacity_error(store, limit);

    err.retry_after_ms = RETRY_MS; /* unlike keys, messages go again */
    return err;
}

/* For n messages that cost so much together. Nothing goes for what the store has no room for even
 * without all that is here. */
static struct err make_room(struct channel *channel, uint64_t cost, uint64_t n, uint64_t now_ms)
{
    const struct memstore_messaging *config = &channel->messaging->config;
    struct memstore *store = channel->messaging->store;
    enum capacity limit;

    if (!capacity_could(store, cost, channel->bytes))
        return store_full(store, CAPACITY_BYTES);
    while (over(config->stream_bytes, channel->bytes, cost)) {
        if (!drop_oldest(channel))
            return full(channel, "stream_max_bytes");
    }
    while (over(config->stream_messages, channel->log.held, n)) {
        if (!drop_oldest(channel))
            return full(channel, "stream_max_messages");
    }
    if (too_old(channel, now_ms))
        return full(channel, "queue_max_age_ms");
    while ((limit = capacity_take(store, 0, cost)) != CAPACITY_OK) {
        if (!drop_oldest(channel))
            return store_full(store, limit);
    }
    return ERR_NONE;
}

/* What would not fit into an empty one: nothing need go for it. */
static struct err check_size(const struct channel *channel, const struct kept *kept)
{
    if (over(channel->messaging->config.stream_bytes, 0, kept->cost))
        return err_about(ERR_INVALID_ARGUMENT, "payload",
                         "larger by itself than stream_max_bytes lets a topic be");
    return ERR_NONE;
}

/* There is room for it. */
static void append(struct channel *channel, struct outgoing *item, struct kept *kept)
{
    if (kept->timestamp_ms < channel->last_ms)
        kept->timestamp_ms = channel->last_ms;
    channel->last_ms = kept->timestamp_ms;
    if (item->delay_ms > 0)
        kept->due_ns = memstore_now_ns(channel->messaging->store) + item->delay_ms * NS_PER_MS;
    kept->holds = 1;
    channel->bytes += kept->cost;
    item->offset = msglog_append(&channel->log, kept);
}

void channel_append(struct channel *channel, struct outgoing *item, struct kept *kept)
{
    item->err = check_size(channel, kept);
    if (item->err.code == ERR_OK)
        item->err = make_room(channel, kept->cost, 1, kept->timestamp_ms);
    if (item->err.code == ERR_OK)
        append(channel, item, kept);
    else
        kept_unref(kept);
}

/* Their cost together. */
static struct err check_sizes(const struct channel *channel, struct publish *publish,
                              struct kept *const *kept, uint64_t *cost)
{
    const struct memstore_messaging *config = &channel->messaging->config;

    *cost = 0;
    for (size_t i = 0; i < publish->n; i++) {
        struct err err = check_size(channel, kept[i]);

        if (err.code != ERR_OK) {
            publish->culprit = (uint32_t)i;
            return err;
        }
        *cost += kept[i]->cost;
    }
    if (over(config->stream_bytes, 0, *cost))
        return err_about(ERR_INVALID_ARGUMENT, "messages",
                         "larger together than stream_max_bytes lets a topic be");
    if (over(config->stream_messages, 0, publish->n))
        return err_about(ERR_INVALID_ARGUMENT, "messages",
                         "more than stream_max_messages lets a topic hold");
    return ERR_NONE;
}

struct err channel_append_all(struct channel *channel, struct publish *publish, struct kept **kept)
{
    uint64_t cost;
    struct err err = check_sizes(channel, publish, kept, &cost);

    if (err.code == ERR_OK)
        err = make_room(channel, cost, publish->n, kept[0]->timestamp_ms);
    for (size_t i = 0; i < publish->n; i++) {
        if (err.code == ERR_OK)
            append(channel, &publish->items[i], kept[i]);
        else
            kept_unref(kept[i]);
    }
    return err;
}

void channel_put_back(struct channel *channel, struct kept *kept)
{
    channel_hold(kept);
    kept->due_ns = 0;
    channel->bytes += kept->cost;
    msglog_append(&channel->log, kept);
}
