#include "patterns/messaging/key_set.h"

#include "src/base/hash.h"

#include <stdint.h>

enum { BUCKETS = 256 };

struct key_entry {
    struct key_entry *next;
    size_t topic_len, key_len;
    uint8_t bytes[]; /* topic, then key */
};

/* By the key alone, so that one key of all topics stands in one bucket. The set is small: who makes
 * keys collide slows down the search of his own stream. */
static size_t bucket_of(struct slice key)
{
    return hash_seeded(0, key) % BUCKETS;
}

static struct slice topic_of(const struct key_entry *entry)
{
    return slice_of(entry->bytes, entry->topic_len);
}

static struct slice key_of(const struct key_entry *entry)
{
    return slice_of(entry->bytes + entry->topic_len, entry->key_len);
}

void key_set_init(struct key_set *set, struct arena_cache *cache)
{
    *set = (struct key_set){.n = 0};
    arena_init(&set->memory, cache);
}

void key_set_clear(struct key_set *set)
{
    arena_clear(&set->memory);
    set->buckets = NULL;
    set->n = 0;
}

bool key_set_has(const struct key_set *set, struct slice topic, struct slice key)
{
    if (set->n == 0)
        return false;
    for (const struct key_entry *entry = set->buckets[bucket_of(key)]; entry != NULL;
         entry = entry->next) {
        if (slice_equal(key_of(entry), key) && slice_equal(topic_of(entry), topic))
            return true;
    }
    return false;
}

bool key_set_add(struct key_set *set, struct slice topic, struct slice key)
{
    size_t bytes = sizeof(struct key_entry) + topic.len + key.len;

    if (key_set_has(set, topic, key))
        return true;
    if (set->memory.bytes + bytes > KEY_SET_BYTES)
        return false;
    if (set->buckets == NULL)
        set->buckets = arena_array(&set->memory, BUCKETS, sizeof(struct key_entry *));

    struct key_entry *entry = arena_alloc(&set->memory, bytes);
    struct key_entry **bucket = &set->buckets[bucket_of(key)];

    entry->topic_len = topic.len;
    entry->key_len = key.len;
    if (topic.len > 0)
        memcpy(entry->bytes, topic.data, topic.len);
    if (key.len > 0)
        memcpy(entry->bytes + topic.len, key.data, key.len);
    entry->next = *bucket;
    *bucket = entry;
    set->n++;
    return true;
}

void key_set_remove(struct key_set *set, struct slice key)
{
    if (set->n == 0)
        return;
    for (struct key_entry **at = &set->buckets[bucket_of(key)]; *at != NULL;) {
        struct key_entry *entry = *at;

        if (!slice_equal(key_of(entry), key)) {
            at = &entry->next;
            continue;
        }
        *at = entry->next;
        set->n--;
    }
    if (set->n == 0)
        key_set_clear(set);
}
