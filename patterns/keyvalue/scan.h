/* One enumeration, page by page: read a page, send it, and only when gRPC took it read the next
 * one. The protocols differ in how a page is sent. */
#ifndef PRISM_PATTERNS_KEYVALUE_SCAN_H
#define PRISM_PATTERNS_KEYVALUE_SCAN_H

#include "patterns/keyvalue/keyvalue_priv.h"

struct scan {
    struct call *call;
    struct keyvalue *kv;
    /* Sends the page; ends in scan_page_sent, or in call_fail. */
    void (*send_page)(struct scan *);
    uint64_t keys_left;  /* of the client's limit */
    uint64_t bytes_left; /* of the client's byte budget */
    struct kv_scan_page page;
    struct op sent;
    size_t at; /* next item of the page, for who sends them one by one */

    /* private */
    const struct kv_scan *backend_scan; /* as offered when the call began */
    uint64_t told_ns;                   /* when the client was last given a cursor */
    uint32_t full_items, page_items;    /* of a page; of this one, if it did not fit before */
    /* Pages are built here in turns, so that a stream of any length holds two at most: the cursor
     * of one is read while the next is built. */
    struct arena memory[2];
    unsigned turn;
};

/* For send_page: memory that lasts until the page after next. */
static inline struct arena *scan_page_memory(struct scan *scan)
{
    return &scan->memory[scan->turn];
}

/* prefix and cursor (empty: from the beginning) are the client's; with_values, limits and send_page
 * are set by the caller in the result before scan_run. NULL: the call has been failed. */
struct scan *scan_new(struct call *call, const char *prefix, const char *cursor);
void scan_run(struct scan *scan);

/* The page did not fit one message: it is read again with fewer items, or the call fails if it was
 * one item. */
void scan_page_too_large(struct scan *scan);

/* Call when the page has been sent as a whole. */
void scan_page_sent(struct scan *scan);

#endif
