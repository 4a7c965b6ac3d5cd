/* What the messages of a topic may take, of room, window and lanes, so that a stream that is away
 * leaves the rest to others. A topic's hash chooses its share: topics of one share may wait for
 * each other.
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
    JET_WINDOW_BYTES = 64 << 20, /* theirs; one message may pass it alone */
    JET_SHARES = 256,            /* each may have half of the window */
    JET_LANES = 1024,            /* of each share; a power of two */
};

struct jet_item;

struct jet_list {
    struct jet_item *first, **end;
};

void jet_list_init(struct jet_list *list);
void jet_list_push(struct jet_list *list, struct jet_item *item);
void jet_list_push_front(struct jet_list *list, struct jet_item *item);
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
    struct jet_list held;   /* they have their lanes; the share's part of the window is full */
    bool holds;             /* it is among those that may hold some */
    struct jet_share *next; /* of these */
    struct jet_lane *lanes; /* JET_LANES; NULL: no message had a key */
};

struct jet_shares {
    struct jet_share all[JET_SHARES];
    struct jet_share *holding;
};

void jet_shares_init(struct jet_shares *shares);
void jet_shares_clear(struct jet_shares *shares); /* no message is left in them */
struct jet_share *jet_shares_of(struct jet_shares *shares, uint64_t topic_hash); /* thread: any */

/* Counts bytes of the item's that wait, unless its topic has half of `most` already. thread: any */
bool jet_share_take(struct jet_share *share, size_t bytes, uint64_t most);
void jet_share_give(struct jet_share *share, size_t bytes);

/* NULL: the item has no key. */
struct jet_lane *jet_share_lane(struct jet_share *share, uint64_t key_hash);

void jet_share_sent(struct jet_share *share, size_t bytes);
void jet_share_unsent(struct jet_share *share, size_t bytes);
void jet_shares_unsent(struct jet_shares *shares); /* all */

/* May it be sent, before those that are held? Else jet_shares_hold. */
bool jet_share_may_send(const struct jet_share *share);
void jet_shares_hold(struct jet_shares *shares, struct jet_share *share, struct jet_item *item);
/* One that is held and may be sent now; NULL: there is none. */
struct jet_item *jet_shares_next(struct jet_shares *shares);

#endif
