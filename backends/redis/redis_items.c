/* Messages that are to be appended: whether they can be, and how redis is told. */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"
#include "src/base/container.h"

/* ---- checks ---- */

static struct err invalid(const char *subject, const char *text)
{
    return err_about(ERR_INVALID_ARGUMENT, subject, text);
}

static struct err check_headers(const struct outgoing *item)
{
    for (size_t i = 0; i < item->n_headers; i++) {
        if (message_is_null(item->headers[i].value))
            return invalid("headers", "a header of a redis stream has a value, maybe an empty one");
    }
    return ERR_NONE;
}

struct err redis_item_check(const struct redis *redis, const struct outgoing *item, uint64_t most)
{
    if (message_is_null(item->payload))
        return invalid("payload", "a message of a redis stream has a payload, maybe an empty one");
    if (message_out_bytes(item) > REDIS_STREAM_MESSAGE_BYTES ||
        item->payload.len > redis->base.limits.value_bytes)
        return invalid("payload", "the message is longer than this redis takes");
    if (most > 0 && redis_entry_size(item) > most)
        return invalid("payload", "larger by itself than queue_max_bytes lets a queue be");
    if (item->delay_ms > 0)
        return invalid("delay_ms", "redis streams do not delay messages");

    struct err err = check_headers(item);

    return err.code == ERR_OK ? redis_stream_check_name(redis, item->topic) : err;
}

void redis_item_forget(struct outgoing *item)
{
    item->err = ERR_NONE;
    item->deduplicated = false;
    item->partition = item->receivers = -1;
    item->offset = -1;
    item->position = message_null();
}

/* The bounds by their numbers in the script's answer. */
struct err redis_queue_full(int64_t bound)
{
    static const char *const names[] = {NULL, "queue_max_messages", "queue_max_bytes",
                                        "queue_max_age_ms"};

    if (bound < 1 || bound >= (int64_t)ARRAY_LEN(names))
        return err_make(ERR_INTERNAL, "redis answers what the script does not say");
    return err_about(ERR_RESOURCE_EXHAUSTED, names[bound],
                     "the queue is full: nobody has received what waits in it");
}

/* ---- commands ---- */

void redis_say_add(struct redis_call *call, const struct outgoing *item)
{
    redis_command(call, 3 + redis_entry_words(item), "XADD");
    redis_word(call, item->topic);
    redis_word(call, slice_str("*"));
    redis_entry_put(call, item);
}

void redis_say_push(struct redis_call *call, struct outgoing *const *items, uint32_t n, bool whole)
{
    struct redis_streams *streams = redis_streams_at(call->redis);
    const struct redis_store *store = redis_store_of(call->redis);
    struct slice queue = items[0]->topic;
    unsigned words = 5 + n;

    for (uint32_t i = 0; i < n; i++)
        words += redis_entry_words(items[i]);
    redis_say_script(call, redis_script_push, 2, words);
    redis_word(call, queue);
    redis_word(call, redis_stream_key(streams, op_arena(call->op), REDIS_QUEUE_SIZES, queue));
    redis_word_number(call, store->queue_messages);
    redis_word_number(call, store->queue_bytes);
    redis_word_number(call, store->queue_age_ms);
    redis_word(call, slice_str(REDIS_QUEUE_GROUP));
    redis_word(call, slice_str(whole ? "1" : "0"));
    for (uint32_t i = 0; i < n; i++) {
        const struct outgoing *item = items[i];

        redis_word_number(call, redis_entry_words(item));
        redis_entry_put(call, item);
    }
}
