/* Trimming, by who publishes: about once for so many messages, and a bounded number at a time, more
 * than came in since. Nothing is remembered of topics. */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"

#include "src/base/random.h"

enum { MESSAGES_FOR_EACH = 128 };

static bool by_chance(struct redis_streams *streams, uint32_t appended)
{
    return random_next(&streams->random) % MESSAGES_FOR_EACH < appended;
}

static void trim_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_ERROR)
        counter_add(&call->redis->stats->errors, 1);
}

static void trim_end(struct redis_call *call)
{
    (void)call;
}

static const struct redis_kind trim_kind = {
    .item_errors = true, .node = trim_node, .end = trim_end};

void redis_trim(struct redis *redis, struct slice topic, uint32_t appended)
{
    const struct redis_store *store = redis_store_of(redis);

    if ((store->max_length == 0 && store->max_age_ms == 0) || redis->phase != REDIS_READY ||
        !by_chance(redis_streams_at(redis), appended))
        return;

    struct redis_call *call = redis_begin_own(redis, &trim_kind, NULL);

    redis_say_script(call, redis_script_trim, 1, 3);
    redis_word(call, topic);
    redis_word_number(call, store->max_length);
    redis_word_number(call, store->max_age_ms);
    redis_word(call, slice_str(store->trim_unread ? "1" : "0"));
}
