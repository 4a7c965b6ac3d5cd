#include "backends/nats/jet_share.h"

#include "backends/nats/jet_priv.h"

#include <stdlib.h>

/* ---- lists ---- */

void jet_list_init(struct jet_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

void jet_list_push(struct jet_list *list, struct jet_item *item)
{
    item->next = NULL;
    item->at = list->end;
    *list->end = item;
    list->end = &item->next;
}

void jet_list_remove(struct jet_list *list, struct jet_item *item)
{
    *item->at = item->next;
    if (item->next != NULL)
        item->next->at = item->at;
    else
        list->end = item->at;
    item->at = NULL;
}

struct jet_item *jet_list_pop(struct jet_list *list)
{
    struct jet_item *item = list->first;

    if (item != NULL)
        jet_list_remove(list, item);
    return item;
}

/* ---- shares ---- */

void jet_shares_init(struct jet_shares *shares)
{
    for (unsigned i = 0; i < JET_SHARES; i++) {
        jet_list_init(&shares->all[i].held);
        jet_list_init(&shares->all[i].heirs);
    }
    shares->end = &shares->holding;
}

void jet_shares_clear(struct jet_shares *shares)
{
    for (unsigned i = 0; i < JET_SHARES; i++)
        free(shares->all[i].lanes);
}

struct jet_share *jet_shares_of(struct jet_shares *shares, uint64_t topic_hash)
{
    return &shares->all[(topic_hash ^ topic_hash >> 29) % JET_SHARES];
}

/* Workers may together pass the bound by a message each. */
bool jet_share_take(struct jet_share *share, size_t bytes, uint64_t left)
{
    uint64_t before = atomic_fetch_add_explicit(&share->waiting_bytes, bytes, memory_order_relaxed);

    if (before == 0 || before + bytes <= left)
        return true;
    jet_share_give(share, bytes);
    return false;
}

void jet_share_give(struct jet_share *share, size_t bytes)
{
    atomic_fetch_sub_explicit(&share->waiting_bytes, bytes, memory_order_relaxed);
}

struct jet_lane *jet_share_lane(struct jet_share *share, uint64_t key_hash)
{
    if (key_hash == 0)
        return NULL;
    if (share->lanes == NULL) {
        share->lanes = calloc(JET_LANES, sizeof share->lanes[0]);
        if (share->lanes == NULL)
            abort();
        for (unsigned i = 0; i < JET_LANES; i++)
            jet_list_init(&share->lanes[i].waiting);
    }
    return &share->lanes[key_hash % JET_LANES];
}

/* ---- the window ---- */

void jet_shares_sent(struct jet_shares *shares, struct jet_share *share, size_t bytes)
{
    share->n_sent++;
    share->sent_bytes += bytes;
    shares->n_sent++;
    shares->sent_bytes += bytes;
}

void jet_shares_unsent(struct jet_shares *shares, struct jet_share *share, size_t bytes)
{
    share->n_sent--;
    share->sent_bytes -= bytes;
    shares->n_sent--;
    shares->sent_bytes -= bytes;
}

void jet_shares_unsent_all(struct jet_shares *shares)
{
    for (unsigned i = 0; i < JET_SHARES; i++)
        shares->all[i].n_sent = shares->all[i].sent_bytes = 0;
    shares->n_sent = shares->sent_bytes = 0;
}

/* What it has is less than what is free. One message goes in any case, or many shares that do not
 * move could leave a last one nothing. */
static bool has_room(const struct jet_shares *shares, const struct jet_share *share)
{
    return share->n_sent == 0 || (share->n_sent + shares->n_sent < JET_WINDOW &&
                                  share->sent_bytes + shares->sent_bytes < JET_WINDOW_BYTES);
}

bool jet_shares_may_send(const struct jet_shares *shares, const struct jet_share *share)
{
    return share->held.first == NULL && share->heirs.first == NULL && has_room(shares, share);
}

static void queue(struct jet_shares *shares, struct jet_share *share)
{
    share->holds = true;
    share->next = NULL;
    *shares->end = share;
    shares->end = &share->next;
    shares->n_holding++;
}

static void hold(struct jet_shares *shares, struct jet_list *list, struct jet_item *item)
{
    if (!item->share->holds)
        queue(shares, item->share);
    jet_list_push(list, item);
}

void jet_shares_hold(struct jet_shares *shares, struct jet_item *item)
{
    hold(shares, &item->share->held, item);
}

void jet_shares_inherit(struct jet_shares *shares, struct jet_item *item)
{
    hold(shares, &item->share->heirs, item);
}

static struct jet_share *unqueue(struct jet_shares *shares)
{
    struct jet_share *share = shares->holding;

    shares->holding = share->next;
    if (shares->holding == NULL)
        shares->end = &shares->holding;
    shares->n_holding--;
    share->holds = false;
    return share;
}

static struct jet_item *pop_older(struct jet_share *share)
{
    const struct jet_item *held = share->held.first, *heir = share->heirs.first;
    bool inherits = held == NULL || (heir != NULL && heir->first_ns <= held->first_ns);

    return jet_list_pop(inherits ? &share->heirs : &share->held);
}

/* Those that hold nothing any more leave the list, the others go to its end. */
struct jet_item *jet_shares_next(struct jet_shares *shares)
{
    for (size_t n = shares->n_holding; n > 0; n--) {
        struct jet_share *share = unqueue(shares);

        if (share->held.first == NULL && share->heirs.first == NULL)
            continue;
        queue(shares, share);
        if (has_room(shares, share))
            return pop_older(share);
    }
    return NULL;
}
