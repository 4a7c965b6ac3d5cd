/* A registry of identities: who is there, with metadata, tags and an expiry, and which of them
 * match a filter. (registry.c beside this file is the list of backends, and no part of it.)
 *
 * The slot is the only truth: nothing is cached, any process may answer, and a restart of one loses
 * nothing. An identity that has expired is absent from every answer of every process from that
 * millisecond on, also where its memory has not come back yet, and may be put again at once. The
 * clock is the slot's.
 *
 * Generations. Each registration (put) has one, greater than all before it of the same identity;
 * patch and heartbeat leave it. Who names the generation that it was given cannot disturb whoever
 * registered the same identity later.
 *
 * Order. Pages run in ascending order of the identities' bytes, on every backend. An identity that
 * is registered from the first page to the last is in exactly one of them; one that comes or goes
 * meanwhile is in one at most.
 *
 * Cost. put, patch, heartbeat, remove, get, the beginning of a page: O(log n) for each identity
 * among n.
 *
 * Memory. An operation holds what it names (entries with their documents) until it is done; a page
 * holds max_bytes, one entry more, and REGISTRY_SLICE_BYTES of candidates where the server cannot
 * evaluate the filter itself.
 *
 * common to all methods
 *   thread   home worker of the backend instance
 *   in       borrowed until done(); checked by the caller: lengths, encodings, bounds
 *   out      in op_arena(op); meaningful only when op.err is ERR_OK
 *   errors   as in kv.h. op.err is ERR_OK when every item has an outcome of its own (item err),
 *            good or bad; otherwise it holds for all items. A write whose answer was lost has
 *            EFFECT_UNKNOWN. */
#ifndef PRISM_BACKENDS_REGISTRY_H
#define PRISM_BACKENDS_REGISTRY_H

#include "backends/backend.h"
#include "pool/op.h"
#include "src/base/slice.h"
#include "src/filter/document.h"
#include "src/filter/filter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    REGISTRY_IDENTITY_BYTES = 512,     /* longest identity; UTF-8 without U+0000, not empty */
    REGISTRY_DOCUMENT_BYTES = 1 << 16, /* largest document, encoded */
    REGISTRY_TAGS_BYTES = 1 << 13,     /* largest list of tags, encoded */
    REGISTRY_BATCH = 1000,             /* items in one call, at most */
    REGISTRY_BATCH_BYTES = 4 << 20,    /* identities, documents and tags of one call, at most */
    REGISTRY_PAGE_ITEMS = 1000,
    REGISTRY_SLICE_BYTES = 256 << 10
};

#define REGISTRY_TTL_MAX_MS (100ull * 365 * 86400 * 1000)

/* An identity as it is registered. */
struct registry_entry {
    struct slice identity;
    struct slice document;     /* struct; empty (len 0) where it was not asked for */
    struct slice tags;         /* list of strings, in the order given; likewise */
    uint64_t generation;       /* 1.. */
    uint64_t registered_at_ms; /* Unix time; the first time: replacing keeps it */
    uint64_t expires_at_ms;    /* Unix time; 0 = never */
};

/* ---- put: registers ---- */

struct registry_put_item {
    struct slice identity;
    struct slice document;  /* struct; len 0 = no fields */
    struct slice tags;      /* list of strings; len 0 = none */
    uint64_t ttl_ms;        /* 0 = never expires; else up to REGISTRY_TTL_MAX_MS */
    bool replace;           /* false: an identity that is there is ERR_ALREADY_EXISTS */
    uint64_t if_generation; /* not 0: only in place of this registration (replace is set). Another
                               one, or none: ERR_FAILED_PRECONDITION about "if_generation" */
    /* out */
    struct err err; /* also ERR_RESOURCE_EXHAUSTED about "max_identities" or the slot's own limit:
                       not registered */
    bool replaced;
    uint64_t generation, registered_at_ms, expires_at_ms;
};

/* The same identity twice in one call: in request order. */
struct registry_put {
    struct op op;
    struct registry_put_item *items;
    size_t n;                /* 1..REGISTRY_BATCH */
    uint64_t max_identities; /* of the namespace, checked where it is stored; 0 = no limit. Expired
                                ones do not count. */
};

/* ---- patch: changes one ---- */

enum registry_patch_mode {
    REGISTRY_KEEP,   /* the document stays */
    REGISTRY_MERGE,  /* document_merge */
    REGISTRY_REPLACE /* of the document; tags stay in every case */
};

/* op.err: ERR_NOT_FOUND (absent or expired), ERR_FAILED_PRECONDITION about "if_generation",
 * ERR_INVALID_ARGUMENT about "metadata" (larger than REGISTRY_DOCUMENT_BYTES once merged): nothing
 * was changed. Patches of one identity at the same time take effect one after the other; none is
 * lost. */
struct registry_patch {
    struct op op;
    struct slice identity;
    enum registry_patch_mode mode;
    struct slice document;
    bool set_ttl; /* the expiry becomes ttl_ms from now; ttl_ms 0: never */
    uint64_t ttl_ms;
    uint64_t if_generation; /* 0 = any */
    /* out */
    uint64_t generation, expires_at_ms;
};

/* ---- heartbeat: many stay, and nothing but their expiry changes ---- */

struct registry_beat_item {
    struct slice identity;
    uint64_t if_generation; /* 0 = any */
    /* out */
    struct err err; /* ERR_NOT_FOUND: absent or expired; ERR_FAILED_PRECONDITION about
                       "if_generation" */
    uint64_t expires_at_ms;
};

struct registry_beat {
    struct op op;
    struct registry_beat_item *items;
    size_t n;        /* 1..REGISTRY_BATCH */
    uint64_t ttl_ms; /* new life for each, from now; 0 = as long as put or patch gave it */
};

/* ---- remove ---- */

struct registry_remove_item {
    struct slice identity;
    uint64_t if_generation; /* 0 = any */
    /* out */
    struct err err; /* ERR_FAILED_PRECONDITION about "if_generation": it stays. Absent: no error */
    bool existed;
};

struct registry_remove {
    struct op op;
    struct registry_remove_item *items;
    size_t n; /* 1..REGISTRY_BATCH */
};

/* ---- get: those that are named ---- */

struct registry_get {
    struct op op;
    const struct slice *identities;
    size_t n;            /* 1..REGISTRY_BATCH */
    uint64_t max_bytes;  /* stop after the entry that passes this many bytes; 0 = no bound */
    bool with_documents; /* and tags */
    /* out */
    struct registry_entry *entries; /* [n], in request order; generation 0: absent or expired */
    size_t looked_up;               /* the first so many have been; the rest did not fit */
};

/* ---- page, count: those that match ---- */

/* One page of the identities that match. It may be short or empty and yet not be the last: only
 * `more` tells. The work of one page is bounded (a few ms at the server) whatever the filter. */
struct registry_page {
    struct op op;
    const struct filter *filter; /* NULL: all */
    struct slice after;  /* goes on behind this identity, which need not be there; empty = from the
                            start. Any identity is good, also in another process */
    uint32_t max_items;  /* 1..REGISTRY_PAGE_ITEMS */
    uint64_t max_bytes;  /* stop after the entry that passes this many; 0 = no bound */
    bool with_documents; /* and tags */
    /* NULL: all that match become entries. Else, where heeds_wanted is set, those for which this is
     * false are only counted, as of max_items. Of an identity with data == NULL: whether it can be
     * true of any. It calls no backend of a registry, and does no I/O. */
    bool (*wanted)(const struct registry_page *, struct slice identity);
    /* out */
    struct registry_entry *entries;
    size_t n;
    size_t unwanted;   /* so many more match */
    uint64_t examined; /* identities that the filter was evaluated for */
    bool more;
    struct slice next; /* `after` of the next page; set if more */
};

/* Exact if nobody writes meanwhile. Without a filter O(log n), with one a walk in slices. */
struct registry_count {
    struct op op;
    const struct filter *filter; /* NULL: all */
    uint64_t enough;             /* stop once so many are found; 0 = count all */
    bool aside;     /* for a metric, without a filter: bounded work, and never the slot's first use.
                       ERR_UNAVAILABLE where that does not tell */
    uint64_t count; /* out */
};

struct registry {
    /* FILTER_BITs that the server evaluates itself, in filters that are no larger than it takes at
     * once; others are evaluated in this process on what it sends. 0: in this process altogether */
    uint32_t native;
    bool indexed;           /* equality with a field is looked up, not searched for */
    bool heeds_wanted;      /* of pages */
    const char *calls;      /* backend calls for a put, beat, remove or get of n items */
    const char *page_calls; /* backend calls for a page */
    void (*put)(struct backend *, struct registry_put *);
    void (*patch)(struct backend *, struct registry_patch *);
    void (*beat)(struct backend *, struct registry_beat *);
    void (*remove)(struct backend *, struct registry_remove *);
    void (*get)(struct backend *, struct registry_get *);
    void (*page)(struct backend *, struct registry_page *);
    void (*count)(struct backend *, struct registry_count *);
    /* About how many there are, for people: those that have expired and are not removed yet may be
     * among them. Asks nobody. UINT64_MAX: not known. thread: any. NULL: registry_count.aside
     * is cheap enough to be asked every few seconds. */
    uint64_t (*estimate)(struct backend_store *);
};

#endif
