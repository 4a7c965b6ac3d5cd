/* The instances of one namespace on all workers: where each feed and each subscription lives. The
 * lock is held for look-ups only. */
#include "patterns/consumer/consumer.h"
#include "patterns/consumer/member.h"

#include "src/base/container.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { BUCKETS = 1024 };

struct consumer_shared {
    struct pattern_shared base;
    struct arena memory; /* holds this struct */
    pthread_mutex_t lock;
    struct feed *feeds;
    struct member *members[BUCKETS];
    uint32_t subscriptions; /* references of feeds */
    struct retention_book retention;
};

static struct consumer_shared *shared_of(const struct consumer *consumer)
{
    return CONTAINER_OF(consumer->binding.shared, struct consumer_shared, base);
}

struct pattern_shared *consumer_open_shared(const struct pattern_sharing *sharing)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct consumer_shared *shared = arena_zalloc(&memory, sizeof *shared);

    shared->base.type = &pattern_consumer;
    shared->memory = memory;
    pthread_mutex_init(&shared->lock, NULL);
    retention_book_init(&shared->retention, sharing->namespace_name, "message_source",
                        consumer_is_strict(sharing->behavior));
    return &shared->base;
}

void consumer_close_shared(struct pattern_shared *base)
{
    struct consumer_shared *shared = CONTAINER_OF(base, struct consumer_shared, base);
    struct arena memory = shared->memory;

    pthread_mutex_destroy(&shared->lock);
    retention_book_clear(&shared->retention);
    arena_clear(&memory);
}

/* ---- feeds ---- */

static struct feed *find_feed(const struct consumer_shared *shared, struct slice topic,
                              struct slice group, bool letters)
{
    for (struct feed *feed = shared->feeds; feed != NULL; feed = feed->next_shared) {
        if (feed->shared && feed->letters == letters && slice_equal(feed->topic, topic) &&
            slice_equal(feed->group_name, group))
            return feed;
    }
    return NULL;
}

static struct feed *find_or_make(struct consumer_shared *shared, struct consumer *consumer,
                                 const struct feed_want *want)
{
    struct feed *feed =
        want->shared ? find_feed(shared, want->topic, want->group, want->letters) : NULL;

    if (feed != NULL)
        return feed;
    feed = feed_new(consumer, want);
    feed->next_shared = shared->feeds;
    shared->feeds = feed;
    return feed;
}

struct err shared_take_feed(struct consumer *consumer, const struct feed_want *want,
                            struct feed **feed)
{
    struct consumer_shared *shared = shared_of(consumer);
    struct err err = ERR_NONE;

    pthread_mutex_lock(&shared->lock);
    if (shared->subscriptions >= consumer->settings.max_subscriptions) {
        err = err_about(ERR_RESOURCE_EXHAUSTED, "max_subscriptions",
                        "as many subscriptions as the namespace allows");
    } else {
        *feed = find_or_make(shared, consumer, want);
        (*feed)->refs++;
        shared->subscriptions++;
    }
    pthread_mutex_unlock(&shared->lock);
    return err;
}

static void hide(struct consumer_shared *shared, struct feed *feed)
{
    struct feed **at = &shared->feeds;

    if (feed->hidden)
        return;
    while (*at != feed)
        at = &(*at)->next_shared;
    *at = feed->next_shared;
    feed->hidden = true;
}

bool shared_drop_feed(struct feed *feed)
{
    struct consumer_shared *shared = shared_of(feed->consumer);
    bool last;

    pthread_mutex_lock(&shared->lock);
    shared->subscriptions--;
    last = --feed->refs == 0;
    if (last)
        hide(shared, feed);
    pthread_mutex_unlock(&shared->lock);
    return last;
}

void shared_hide_feed(struct feed *feed)
{
    struct consumer_shared *shared = shared_of(feed->consumer);

    pthread_mutex_lock(&shared->lock);
    hide(shared, feed);
    pthread_mutex_unlock(&shared->lock);
}

struct consumer *shared_home_of_group(struct consumer *consumer, struct slice topic,
                                      struct slice group)
{
    struct consumer_shared *shared = shared_of(consumer);
    struct consumer *home;

    pthread_mutex_lock(&shared->lock);

    const struct feed *feed = find_feed(shared, topic, group, false);

    home = feed != NULL ? feed->consumer : NULL;
    pthread_mutex_unlock(&shared->lock);
    return home;
}

/* ---- retention ---- */

struct retention_book *shared_retention(const struct consumer *consumer)
{
    return &shared_of(consumer)->retention;
}

/* ---- subscriptions ---- */

void shared_make_id(char *id)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[SUBSCRIPTION_ID_BYTES / 2];

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        abort(); /* so few bytes come at once, or the system has none */
    for (size_t i = 0; i < sizeof bytes; i++) {
        id[2 * i] = digits[bytes[i] >> 4];
        id[2 * i + 1] = digits[bytes[i] & 15];
    }
    id[SUBSCRIPTION_ID_BYTES] = '\0';
}

/* Ids are random: any part of them is a hash. */
static struct member **bucket_of(struct consumer_shared *shared, const char *id)
{
    unsigned at = 0;

    for (size_t i = 0; i < SUBSCRIPTION_ID_BYTES && id[i] != '\0'; i++)
        at = at * 31 + (unsigned char)id[i];
    return &shared->members[at % BUCKETS];
}

void shared_list(struct member *member)
{
    struct consumer_shared *shared = shared_of(member->feed->consumer);
    struct member **bucket = bucket_of(shared, member->id);

    pthread_mutex_lock(&shared->lock);
    member->next_listed = *bucket;
    *bucket = member;
    pthread_mutex_unlock(&shared->lock);
}

void shared_unlist(struct member *member)
{
    struct consumer_shared *shared = shared_of(member->feed->consumer);
    struct member **at = bucket_of(shared, member->id);

    pthread_mutex_lock(&shared->lock);
    while (*at != member)
        at = &(*at)->next_listed;
    *at = member->next_listed;
    pthread_mutex_unlock(&shared->lock);
}

static struct member *find_member(struct consumer_shared *shared, const char *id)
{
    struct member *member = *bucket_of(shared, id);

    while (member != NULL && strcmp(member->id, id) != 0)
        member = member->next_listed;
    return member;
}

struct member *shared_find(struct consumer *home, const char *id)
{
    struct consumer_shared *shared = shared_of(home);
    struct member *member;

    pthread_mutex_lock(&shared->lock);
    member = find_member(shared, id);
    pthread_mutex_unlock(&shared->lock);
    return member != NULL && member->feed->consumer == home ? member : NULL;
}

struct consumer *shared_home_of(struct consumer *consumer, const char *id)
{
    struct consumer_shared *shared = shared_of(consumer);
    struct consumer *home;

    pthread_mutex_lock(&shared->lock);

    const struct member *member = find_member(shared, id);

    home = member != NULL ? member->feed->consumer : NULL;
    pthread_mutex_unlock(&shared->lock);
    return home;
}

static const struct member *find_old(const struct consumer_shared *shared, struct slice topic,
                                     const char *name)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const struct member *m = shared->members[i]; m != NULL; m = m->next_listed) {
            if (m->outlet->write != NULL && slice_equal(m->feed->topic, topic) &&
                strcmp(m->consumer_id, name) == 0)
                return m;
        }
    }
    return NULL;
}

struct consumer *shared_home_of_old(struct consumer *consumer, struct slice topic, const char *name,
                                    char *id)
{
    struct consumer_shared *shared = shared_of(consumer);
    struct consumer *home = NULL;

    pthread_mutex_lock(&shared->lock);

    const struct member *member = find_old(shared, topic, name);

    if (member != NULL) {
        home = member->feed->consumer;
        memcpy(id, member->id, SUBSCRIPTION_ID_BYTES + 1);
    }
    pthread_mutex_unlock(&shared->lock);
    return home;
}
