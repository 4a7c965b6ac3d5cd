/* The identity registry of a store, as synchronous functions that any thread may call
 * (backends/registry.h says what they promise). One lock; no function holds it for longer than one
 * identity or ROSTER_STRIDE candidates take.
 *
 *   all    the members in the order of their identities
 *   due    those that expire, by the millisecond
 *   index  for each plain field at the top of a document, and for each tag, the hash of name and
 *          value: whoever asks for equality looks only at those that have it, and joins several.
 *          Who comes under a number is compared with one who is there. As long as no two values
 *          have met under a number, all under it have the value that one of them has, and need not
 *          be looked at
 *
 * Memory: a member takes MEMBER_BYTES, its identity, document and tags, and ROSTER_POSTING_BYTES
 * for each of its places in these orders; all of it is charged to max_bytes, and the member as one
 * of max_keys. What has expired is taken out by whoever comes next, a few at a time. */
#ifndef PRISM_BACKENDS_MEMSTORE_ROSTER_H
#define PRISM_BACKENDS_MEMSTORE_ROSTER_H

#include "backends/memstore/order.h"
#include "backends/memstore/store.h"
#include "backends/registry.h"

#include <pthread.h>

enum {
    ROSTER_STRIDE = 128,       /* candidates looked at under the lock at a time */
    ROSTER_PAGE_STRIDES = 16,  /* of one page */
    ROSTER_FIELDS = 16,        /* of a document that are indexed; the first ones */
    ROSTER_TAGS = 16,          /* likewise */
    ROSTER_INDEXED_BYTES = 64, /* longest value that is indexed */
    ROSTER_JOINED = 4,         /* equalities of one filter that are looked up */
    ROSTER_POSTING_BYTES = 24,
    ROSTER_SPILLED = 1 /* the number in the index of members with more fields or tags than that */
};

struct member {
    uint64_t generation, registered_ms, expires_ms, ttl_ms; /* Unix time; 0 = never */
    uint32_t identity_len, document_len, tags_len;
    uint32_t postings; /* in the index */
    uint8_t bytes[];   /* identity, document, tags */
};

order_name_fn member_name; /* of a struct member: its identity */

struct roster {
    struct memstore *store;
    uint64_t opened_unix_ms;
    pthread_mutex_t lock;
    /* ---- under the lock ---- */
    struct order all, due, index;
    uint64_t generation; /* of the last registration */
    uint64_t changes;    /* of `all` and `index` */
    bool mixed;          /* two values have met under a number of the index */
    struct counter expired;
};

struct roster *roster_new(struct memstore *store); /* after the store's sources */
void roster_destroy(struct roster *roster);

void roster_put(struct roster *roster, struct registry_put_item *item, uint64_t max_identities);
struct err roster_patch(struct roster *roster, struct registry_patch *patch);
void roster_beat(struct roster *roster, struct registry_beat_item *item, uint64_t ttl_ms);
void roster_remove(struct roster *roster, struct registry_remove_item *item);

/* False: absent or expired. */
bool roster_get(struct roster *roster, struct slice identity, bool with_documents,
                struct arena *arena, struct registry_entry *entry);

/* One page, within ROSTER_PAGE_STRIDES. */
void roster_page(struct roster *roster, struct registry_page *page);

/* One stride of a count, from behind *after, which moves on (in the arena); false: it has come to
 * its end. */
bool roster_count(struct roster *roster, struct registry_count *count, struct slice *after);

/* Takes out what has expired, n at most. True: there is more. */
bool roster_reap(struct roster *roster, unsigned n);

/* When the next one expires, ns on the store's clock; UINT64_MAX: none does. */
uint64_t roster_next_ns(struct roster *roster);

struct roster_totals {
    uint64_t identities, bytes, expired; /* bytes: of the orders */
};

struct roster_totals roster_totals(struct roster *roster);

#endif
