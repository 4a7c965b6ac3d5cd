/* Names of topics, streams and queues: a chained table that grows by doubling. Beside it stand the
 * short hashes of the topics' last levels, counted: where the count is 0 there is no such topic.
 * The short hash is quick and not strong. Who makes names collide there makes look-ups of them as
 * slow as they are without it. */
#include "backends/memstore/messaging.h"

#include <assert.h>
#include <stdlib.h>

enum { BUCKETS = 64 };

static inline uint64_t mixed(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

/* The last bytes are read together with some before them. */
static inline _Atomic uint32_t *heard_at(const struct messaging *m, struct slice level)
{
    uint64_t hash = m->store->key_hash.a ^ level.len, word = 0;

    for (size_t i = 0; i + sizeof word < level.len; i += sizeof word) {
        memcpy(&word, level.data + i, sizeof word);
        hash = mixed(hash, word);
    }
    if (level.len >= sizeof word)
        memcpy(&word, level.data + level.len - sizeof word, sizeof word);
    else if (level.len > 0)
        memcpy(&word, level.data, level.len);
    return &m->names.heard[mixed(hash, word) % NAMES_HEARD];
}

__extension__ typedef unsigned __int128 wide;

static inline uint64_t folded(uint64_t a, uint64_t b)
{
    wide product = (wide)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t word_at(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

/* Of a name in the table. Who does not know the key cannot make names meet by choosing them, and no
 * hash is ever told. It takes a quarter of SipHash's time. */
static uint64_t hash_of(const struct messaging *m, struct slice name)
{
    const struct hash_key *key = &m->store->key_hash;
    uint64_t hash = key->a ^ name.len, last = 0;

    for (size_t i = 0; i + sizeof last < name.len; i += sizeof last)
        hash = folded(hash ^ word_at(name.data + i), key->b | 1);
    if (name.len >= sizeof last)
        last = word_at(name.data + name.len - sizeof last);
    for (size_t i = 0; name.len < sizeof last && i < name.len; i++)
        last |= (uint64_t)name.data[i] << 8 * i;
    return folded(folded(hash ^ last, key->b | 1) ^ key->b, key->a | 1);
}

static struct slice last_level(struct slice topic)
{
    const uint8_t *dot = memrchr(topic.data, '.', topic.len);

    return dot == NULL ? topic : slice_of(dot + 1, (size_t)(topic.data + topic.len - dot - 1));
}

bool names_level_may_be_heard(const struct messaging *m, struct slice level)
{
    if (level.data == NULL)
        return atomic_load(&m->names.topics) > 0;
    return atomic_load(heard_at(m, level)) > 0;
}

bool names_may_be_heard(const struct messaging *m, struct slice topic)
{
    return names_level_may_be_heard(m, last_level(topic));
}

static struct named **bucket(const struct names *names, uint64_t hash)
{
    return &names->buckets[hash & (names->room - 1)];
}

/* Under the lock. */
static void count_heard(struct messaging *m, struct slice topic, int by)
{
    atomic_fetch_add(heard_at(m, last_level(topic)), (uint32_t)by);
    atomic_fetch_add(&m->names.topics, (uint32_t)by);
}

static void grow(struct names *names)
{
    struct names larger = {.room = names->room == 0 ? BUCKETS : names->room * 2};

    larger.buckets = calloc(larger.room, sizeof(struct named *));
    if (larger.buckets == NULL)
        abort();
    for (size_t i = 0; i < names->room; i++) {
        struct named *next;

        for (struct named *n = names->buckets[i]; n != NULL; n = next) {
            struct named **at = bucket(&larger, n->hash);

            next = n->next;
            n->next = *at;
            *at = n;
        }
    }
    free(names->buckets);
    names->buckets = larger.buckets;
    names->room = larger.room;
}

static struct named *find(const struct names *names, const struct named_kind *kind, uint64_t hash,
                          struct slice name)
{
    if (names->room == 0)
        return NULL;
    for (struct named *n = *bucket(names, hash); n != NULL; n = n->next) {
        if (n->hash == hash && n->kind == kind && slice_equal(named_name(n), name))
            return n;
    }
    return NULL;
}

static void unmake(struct named *named)
{
    named->kind->unmake(named);
    free(named);
}

static struct named *add(struct messaging *m, const struct named_kind *kind, uint64_t hash,
                         struct slice name)
{
    struct names *names = &m->names;
    struct named *named = calloc(1, kind->bytes + name.len);

    if (named == NULL)
        abort();
    if (names->count == names->room)
        grow(names);
    named->kind = kind;
    named->hash = hash;
    named->name_len = (uint32_t)name.len;
    memcpy((char *)named + kind->bytes, name.data, name.len);
    kind->make(m, named);
    named->next = *bucket(names, hash);
    *bucket(names, hash) = named;
    names->count++;
    if (kind->passes)
        count_heard(m, name, 1);
    return named;
}

struct named *names_get(struct messaging *m, const struct named_kind *kind, struct slice name,
                        bool create, bool *full)
{
    struct names *names = &m->names;
    uint64_t hash = hash_of(m, name);

    *full = false;
    pthread_mutex_lock(&names->lock);

    struct named *named = find(names, kind, hash, name);

    if (named == NULL && create) {
        *full = m->config.max_names > 0 && names->count >= m->config.max_names;
        if (!*full)
            named = add(m, kind, hash, name);
    }
    if (named != NULL)
        named->refs++;
    pthread_mutex_unlock(&names->lock);
    return named;
}

void names_get_many(struct messaging *m, const struct named_kind *kind, const struct slice *wanted,
                    size_t n, struct named **found)
{
    uint64_t hashes[NAMES_MANY];

    assert(n <= NAMES_MANY);
    for (size_t i = 0; i < n; i++)
        hashes[i] = hash_of(m, wanted[i]);
    pthread_mutex_lock(&m->names.lock);
    for (size_t i = 0; i < n; i++) {
        found[i] = wanted[i].data != NULL ? find(&m->names, kind, hashes[i], wanted[i]) : NULL;
        if (found[i] != NULL)
            found[i]->refs++;
    }
    pthread_mutex_unlock(&m->names.lock);
}

/* Under the lock. True: it is no longer in the table. */
static bool let_go(struct messaging *m, struct named *named)
{
    struct named **at;

    assert(named->refs > 0);
    if (--named->refs > 0 || !named->kind->passes)
        return false;
    at = bucket(&m->names, named->hash);
    while (*at != named)
        at = &(*at)->next;
    *at = named->next;
    m->names.count--;
    count_heard(m, named_name(named), -1);
    return true;
}

void names_put_many(struct messaging *m, struct named *const *named, size_t n)
{
    struct named *gone = NULL, *next;

    pthread_mutex_lock(&m->names.lock);
    for (size_t i = 0; i < n; i++) {
        if (named[i] != NULL && let_go(m, named[i])) {
            named[i]->next = gone;
            gone = named[i];
        }
    }
    pthread_mutex_unlock(&m->names.lock);
    for (; gone != NULL; gone = next) {
        next = gone->next;
        unmake(gone);
    }
}

void names_put(struct messaging *m, struct named *named)
{
    names_put_many(m, &named, 1);
}

uint64_t names_count(struct messaging *m)
{
    uint64_t count;

    pthread_mutex_lock(&m->names.lock);
    count = m->names.count;
    pthread_mutex_unlock(&m->names.lock);
    return count;
}

struct err names_full(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_topics",
                     "memstore holds as many topics, streams and queues as it may: max_topics");
}

void names_init(struct names *names)
{
    names->heard = calloc(NAMES_HEARD, sizeof *names->heard);
    if (names->heard == NULL)
        abort();
    pthread_mutex_init(&names->lock, NULL);
}

void names_clear(struct names *names)
{
    for (size_t i = 0; i < names->room; i++) {
        struct named *next;

        for (struct named *n = names->buckets[i]; n != NULL; n = next) {
            next = n->next;
            unmake(n);
        }
    }
    free(names->buckets);
    free((void *)names->heard);
    pthread_mutex_destroy(&names->lock);
}
