/* Names of topics, the keys that Prism has beside them, and what redis says of them. */
#include "backends/redis/redis_stream.h"

struct err redis_stream_check_topic(struct slice topic)
{
    if (topic.len == 0 || topic.len > MESSAGE_TOPIC_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "topic", "a topic has 1 to 249 bytes");
    return ERR_NONE;
}

/* Keys of Prism's own, and of what it stores elsewhere in this database. */
static bool is_ours(const struct redis_store *store, struct slice topic)
{
    size_t root = (size_t)(strchr(store->prefix, ':') - store->prefix) + 1;

    return slice_starts_with(topic, slice_of(store->prefix, root));
}

struct err redis_stream_check_name(const struct redis *redis, struct slice topic)
{
    struct err err = redis_stream_check_topic(topic);

    if (err.code == ERR_OK && is_ours(redis_store_of(redis), topic))
        return err_about(ERR_INVALID_ARGUMENT, "topic",
                         "names that begin with key_prefix are not for topics");
    return err;
}

struct err redis_stream_error(struct arena *arena, struct slice reply)
{
    if (redis_error_is(reply, "WRONGTYPE"))
        return err_about(ERR_FAILED_PRECONDITION, "topic",
                         "the key of this name holds a redis type that is not a stream");

    struct err err = redis_error(arena, reply);

    if (err.code == ERR_PERMISSION_DENIED)
        err.subject = "topic";
    return err;
}

struct slice redis_stream_key(const struct redis_streams *streams, struct arena *arena,
                              const char *name, struct slice topic)
{
    const char *prefix = redis_store_of(&streams->shared)->prefix;
    int root = (int)(strchr(prefix, ':') - prefix);
    struct slice tag;

    if (streams->cluster == NULL)
        return slice_str(arena_printf(arena, "%.*s:%s", root, prefix, name));
    tag = redis_slot_tag(arena, topic);

    struct slice head = slice_str(arena_printf(arena, "%.*s:%s:{", root, prefix, name));
    uint8_t *key = arena_alloc(arena, head.len + tag.len + 1); /* a tag may hold any byte */

    memcpy(key, head.data, head.len);
    if (tag.len > 0)
        memcpy(key + head.len, tag.data, tag.len);
    key[head.len + tag.len] = '}';
    return slice_of(key, head.len + tag.len + 1);
}
