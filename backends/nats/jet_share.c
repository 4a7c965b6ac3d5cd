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

void jet_list_push_front(struct jet_list *list, struct jet_item *item)
{
    item->next = list->first;
    item->at = &list->first;
    if (item->next != NULL)
        item->next->at = &item->next;
    else
        list->end = &item->next;
    list->first = item;
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
    for (unsigned i = 0; i < JET_SHARES; i++)
        jet_list_init(&shares->all[i].held);
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
bool jet_share_take(struct jet_share *share, size_t bytes, uint64_t most)
{
    uint64_t before = atomic_fetch_add_explicit(&share->waiting_bytes, bytes, memory_order_relaxed);

    if (before == 0 || before + bytes <= most / 2)
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

void jet_share_sent(struct jet_share *share, size_t bytes)
{
    share->n_sent++;
    share->sent_bytes += bytes;
}

void jet_share_unsent(struct jet_share *share, size_t bytes)
{
    share->n_sent--;
    share->sent_bytes -= bytes;
}

void jet_shares_unsent(struct jet_shares *shares)
{
    for (unsigned i = 0; i < JET_SHARES; i++)
        shares->all[i].n_sent = shares->all[i].sent_bytes = 0;
}

static bool has_room(const struct jet_share *share)
{
    return share->n_sent == 0 ||
           (share->n_sent < JET_WINDOW / 2 && share->sent_bytes < JET_WINDOW_BYTES / 2);
}

bool jet_share_may_send(const struct jet_share *share)
{
    return share->held.first == NULL && has_room(share);
}

void jet_shares_hold(struct jet_shares *shares, struct jet_share *share, struct jet_item *item)
{
    if (!share->holds) {
        share->holds = true;
        share->next = shares->holding;
        shares->holding = share;
    }
    jet_list_push(&share->held, item);
}

/* Those that hold nothing any more leave the list. */
struct jet_item *jet_shares_next(struct jet_shares *shares)
{
    for (struct jet_share **at = &shares->holding; *at != NULL;) {
        struct jet_share *share = *at;

        if (share->held.first == NULL) {
            share->holds = false;
            *at = share->next;
            continue;
        }
        if (has_room(share))
            return jet_list_pop(&share->held);
        at = &share->next;
    }
    return NULL;
}
