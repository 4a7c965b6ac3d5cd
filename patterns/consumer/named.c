/* Deliveries that a client names by the identifiers of their messages. */
#include "patterns/consumer/member.h"

#include <stdlib.h>

enum { SCRATCH_BYTES = 65536 };

struct named {
    struct slice id;
    size_t index;      /* in the request */
    uint64_t sequence; /* 0: none yet */
    bool ambiguous;
};

static int by_id(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int order = slice_compare(x->id, y->id);

    if (order != 0)
        return order;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* The first one of this identifier; NULL: nobody asks for it. */
static struct named *find(struct named *sorted, size_t n, struct slice id)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (slice_compare(sorted[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && slice_equal(sorted[low].id, id) ? &sorted[low] : NULL;
}

static void look_for_all(struct member *member, struct named *sorted, size_t n)
{
    const struct settling *settling = &member->settling;
    struct arena scratch;

    arena_init(&scratch, NULL);
    for (uint64_t s = settling_next(settling, 0); s != 0; s = settling_next(settling, s + 1)) {
        struct delivery *delivery = settling_find(settling, s);
        const char *id = member_message_id(member, &scratch, message_peek(delivery));
        struct named *named = find(sorted, n, slice_str(id));

        if (named != NULL) {
            named->ambiguous = named->ambiguous || named->sequence != 0;
            named->sequence = s;
        }
        if (scratch.bytes > SCRATCH_BYTES)
            arena_clear(&scratch);
    }
    arena_clear(&scratch);
    for (uint64_t s = settling_next(settling, 0); s != 0; s = settling_next(settling, s + 1)) {
        const struct delivery *delivery = settling_find(settling, s);

        parcel_shut(parcel_of(delivery));
    }
}

/* The identifiers are sorted, and each open delivery is looked up once: neither a choice of them
 * nor their number makes it slow. */
uint64_t *member_sequences_of_ids(struct member *member, struct arena *arena, char *const *ids,
                                  size_t n)
{
    struct named *sorted = arena_array(arena, n, sizeof *sorted);
    uint64_t *sequences = arena_alloc(arena, n * sizeof *sequences);
    const struct named *first = sorted;

    for (size_t i = 0; i < n; i++)
        sorted[i] = (struct named){.id = slice_str(ids[i]), .index = i};
    qsort(sorted, n, sizeof *sorted, by_id);
    look_for_all(member, sorted, n);
    for (size_t i = 0; i < n; i++) {
        if (!slice_equal(sorted[i].id, first->id))
            first = &sorted[i];
        sequences[sorted[i].index] = first->ambiguous ? 0 : first->sequence;
    }
    return sequences;
}
