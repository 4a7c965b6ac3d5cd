/* What the messages of a topic may take, of room, window and lanes, so that a stream that is away
 * leaves the rest to others. A share has at most as much as all shares leave free: one alone half,
 * and those that do not move leave something for the next one. A topic's hash chooses its share:
 * topics of one share may wait for each other.
 *
 * thread: the store's, unless it is said. */
#ifndef PRISM_BACKENDS_NATS_JET_SHARE_H
#define PRISM_BACKENDS_NATS_JET_SHARE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    JET_WINDOW = 8192,           /* messages that are sent and not answered */
    JET_WINDOW_BYTES = 64 << 20, /* theirs; one message of each share may pass it */
    JET_SHARES = 256,
    JET_LANES = 1024, /* of each share; a power of two */
};

struct jet_item;

struct jet_list {
    struct jet_item *first, **end;
};

void jet_list_init(struct jet_list *list);
void jet_list_push(struct jet_list *list, struct jet_item *item);
void jet_list_remove(struct jet_list *list, struct jet_item *item);
struct jet_item *jet_list_pop(struct jet_list *list); /* NULL: empty */

/* Messages of one key hash: one is under way, the others wait. So what is sent again, or refused,
 * is never overtaken by a later one of its key. */
struct jet_lane {
    bool busy;
    struct jet_list waiting;
};

struct jet_share {
    _Atomic uint64_t waiting_bytes; /* of messages that have no outcome yet */
    size_t n_sent, sent_bytes;
    /* They have their lanes and wait for a place in the window: held by their age, heirs, whose
     * lanes were another's before, as they come: one of each lane at most. */
    struct jet_list held, heirs;
    bool holds;             /* it is among those that may hold some */
    struct jet_share *next; /* of these */
    struct jet_lane *lanes; /* JET_LANES; NULL: no message had a key */
};

struct jet_shares {
    struct jet_share all[JET_SHARES];
    struct jet_share *holding, **end; /* the one that has waited longest is the first */
    size_t n_holding;
    size_t n_sent, sent_bytes; /* of all */
};

void jet_shares_init(struct jet_shares *shares);
void jet_shares_clear(struct jet_shares *shares); /* no message is left in them */
struct jet_share *jet_shares_of(struct jet_shares *shares, uint64_t topic_hash); /* thread: any */

/* Counts bytes of an item that waits, unless its share would have more than is left for others.
 * thread: any */
bool jet_share_take(struct jet_share *share, size_t bytes, uint64_t left);
void jet_share_give(struct jet_share *share, size_t bytes);

/* NULL: the item has no key. */
struct jet_lane *jet_share_lane(struct jet_share *share, uint64_t key_hash);

void jet_shares_sent(struct jet_shares *shares, struct jet_share *share, size_t bytes);
void jet_shares_unsent(struct jet_shares *shares, struct jet_share *share, size_t bytes);
void jet_shares_unsent_all(struct jet_shares *shares);

/* May a new item be sent at once? Else jet_shares_hold. */
bool jet_shares_may_send(const struct jet_shares *shares, const struct jet_share *share);
void jet_shares_hold(struct jet_shares *shares, struct jet_item *item);
void jet_shares_inherit(struct jet_shares *shares, struct jet_item *item); /* to the heirs */
/* One that is held and may be sent now; NULL: there is none. The shares take turns. */
struct jet_item *jet_shares_next(struct jet_shares *shares);

#endif
