/* Deliveries by rising token, in an array: found by halving, dropped by marking, moved together
 * when half of the places are empty. */
#include "backends/nats/jet_priv.h"

#include <stdlib.h>

static void squeeze(struct jet_unsettled *unsettled)
{
    size_t to = 0;

    for (size_t i = 0; i < unsettled->n; i++) {
        if (!unsettled->items[i].gone)
            unsettled->items[to++] = unsettled->items[i];
    }
    unsettled->n = to;
    unsettled->n_gone = 0;
}

struct jet_delivery *jet_unsettled_add(struct jet_unsettled *unsettled, uint64_t token)
{
    struct jet_delivery *delivery;

    if (unsettled->n == unsettled->room && unsettled->n_gone > unsettled->n / 2)
        squeeze(unsettled);
    if (unsettled->n == unsettled->room) {
        unsettled->room = unsettled->room == 0 ? 64 : unsettled->room * 2;
        unsettled->items = realloc(unsettled->items, unsettled->room * sizeof *unsettled->items);
        if (unsettled->items == NULL)
            abort();
    }
    delivery = &unsettled->items[unsettled->n++];
    *delivery = (struct jet_delivery){.token = token};
    jet_readers_count_took(unsettled->readers);
    return delivery;
}

struct jet_delivery *jet_unsettled_find(const struct jet_unsettled *unsettled, uint64_t token)
{
    size_t from = 0, to = unsettled->n;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (unsettled->items[middle].token < token)
            from = middle + 1;
        else
            to = middle;
    }
    if (from == unsettled->n || unsettled->items[from].token != token ||
        unsettled->items[from].gone)
        return NULL;
    return &unsettled->items[from];
}

void jet_unsettled_drop(struct jet_unsettled *unsettled, struct jet_delivery *delivery)
{
    jet_unsettled_settling(unsettled, delivery, true);
    unsettled->n_settling--;
    delivery->gone = true;
    unsettled->n_gone++;
    if (unsettled->n_gone == unsettled->n)
        unsettled->n = unsettled->n_gone = 0;
}

void jet_unsettled_settling(struct jet_unsettled *unsettled, struct jet_delivery *delivery,
                            bool settling)
{
    if (delivery->settling == settling)
        return;
    delivery->settling = settling;
    if (settling) {
        unsettled->n_settling++;
        jet_readers_count_let_go(unsettled->readers, 1);
    } else {
        unsettled->n_settling--;
        jet_readers_count_took(unsettled->readers);
    }
}

void jet_unsettled_clear(struct jet_unsettled *unsettled)
{
    jet_readers_count_let_go(unsettled->readers, jet_unsettled_held(unsettled));
    free(unsettled->items);
    *unsettled = (struct jet_unsettled){.readers = unsettled->readers};
}
