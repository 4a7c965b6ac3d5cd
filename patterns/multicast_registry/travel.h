/* What travels with a message as headers, beside those of its sender. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_TRAVEL_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_TRAVEL_H

#include "backends/message.h"

#include <stdbool.h>
#include <stdint.h>

#define MULTICAST_HEADER_TYPE      "content-type"
#define MULTICAST_HEADER_PUBLISHED "prism-published-at-ms"
#define MULTICAST_HEADER_EXPIRES   "prism-expires-at-ms"
#define MULTICAST_HEADER_COLLAPSE  "prism-collapse-key"
#define MULTICAST_HEADER_CONFIRM   "prism-confirm-to" /* awaiting.c: where this is told */
#define MULTICAST_HEADER_ID        "prism-message-id" /* where the backend's own id is another */
#define MULTICAST_HEADER_OURS      "prism-"

/* Behind topic_prefix, and before a name of MULTICAST_CONFIRM_CHARS hexadecimal digits. No topic of
 * an identity has a dot behind the prefix. */
#define MULTICAST_CONFIRM_LEVEL "confirm."
enum { MULTICAST_CONFIRM_CHARS = 32 };

static inline struct slice travel_header(const struct incoming *from, const char *name)
{
    for (size_t i = 0; i < from->n_headers; i++) {
        if (slice_equal(from->headers[i].name, slice_str(name)))
            return from->headers[i].value;
    }
    return message_null();
}

static inline bool travel_is_ours(const struct header *header)
{
    return slice_equal(header->name, slice_str(MULTICAST_HEADER_TYPE)) ||
           slice_starts_with(header->name, slice_str(MULTICAST_HEADER_OURS));
}

/* 0: it has none, or none that is a number. */
static inline int64_t travel_number(const struct incoming *from, const char *name)
{
    enum { MOST_DIGITS = 18, TEN = 10 };
    struct slice value = travel_header(from, name);
    int64_t number = 0;

    if (value.len > MOST_DIGITS)
        return 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return 0;
        number = number * TEN + (value.data[i] - '0');
    }
    return number;
}

static inline struct slice travel_id(const struct incoming *from)
{
    struct slice id = travel_header(from, MULTICAST_HEADER_ID);

    return message_is_null(id) ? from->id : id;
}

#endif
