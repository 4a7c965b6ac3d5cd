/* The subscriptions of this process that read in one group and want the oldest first. The server
 * says how many messages of a group are unsettled. What these hold is part of it, and nobody waits
 * for that; who ends gives his back soon, and that is worth waiting for. Part of jet_priv.h. */
#ifndef PRISM_BACKENDS_NATS_JET_READERS_H
#define PRISM_BACKENDS_NATS_JET_READERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct jet_listener;
struct jet_readers;

enum { JET_READERS_BUCKETS = 4096 }; /* with 100,000 groups that are read, a bucket has 25 */

struct jet_reading {
    struct jet_readers *of; /* NULL: of none */
    struct jet_listener *next, **at;
    bool leaves;
};

struct jet_reading_table {
    uint64_t seed;
    pthread_mutex_t lock; /* of the lists; taken before a listener's */
    struct jet_readers *buckets[JET_READERS_BUCKETS];
};

void jet_reading_table_init(struct jet_reading_table *table);
void jet_reading_table_clear(struct jet_reading_table *table);

/* thread: home of the listener, for all that follow; nothing happens to one that never joined. */
void jet_readers_join(struct jet_listener *listener);
/* It ends: what it has is nobody's from now on. */
void jet_readers_leave(struct jet_listener *listener);
/* All that it had is given back. The others are told. */
void jet_readers_left(struct jet_listener *listener);
/* One of them ends and has not given all back. */
bool jet_readers_leaving(const struct jet_listener *listener);

/* How many messages all of them hold, at least: what they had taken when the server was asked, less
 * what they have let go since they began until the answer is here. */
uint64_t jet_readers_took(const struct jet_listener *listener);
uint64_t jet_readers_hold(const struct jet_listener *listener, uint64_t took);

/* jet_unsettled.c counts; readers may be NULL. */
void jet_readers_count_took(struct jet_readers *readers);
void jet_readers_count_let_go(struct jet_readers *readers, uint64_t n);

#endif
