/* Leases of deliveries. The server redelivers what it has heard nothing of for ack_wait_ms; until
 * the lease that was promised is over, Prism tells it in time that the message is still held. When
 * the lease is over it is given back. What the server may have given to others is not ours. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdlib.h>

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The server is told again at a third of its patience, and, where it did not confirm that, after
 * each further sixth. */
static uint64_t renewal(const struct jet_listener *listener, const struct jet_delivery *delivery)
{
    uint64_t patience = listener->wait_ns;
    uint64_t first = delivery->server_ns - patience * 2 / 3;
    uint64_t again = delivery->tried_ns + patience / 6;

    return delivery->lease_ns <= delivery->server_ns ? UINT64_MAX : first > again ? first : again;
}

static uint64_t lease_due(const struct jet_listener *listener, const struct jet_delivery *delivery)
{
    return least(least(delivery->lease_ns, delivery->server_ns), renewal(listener, delivery));
}

static bool is_to_renew(const struct jet_listener *listener, const struct jet_delivery *delivery,
                        uint64_t now_ns)
{
    return renewal(listener, delivery) <= now_ns;
}

/* Ours still, but its lease is over. */
static bool is_to_return(const struct jet_listener *listener, const struct jet_delivery *delivery,
                         uint64_t now_ns)
{
    (void)listener;
    return delivery->lease_ns <= now_ns && delivery->server_ns > now_ns;
}

static bool is_over(const struct jet_delivery *delivery, uint64_t now_ns)
{
    return !delivery->gone && (delivery->lease_ns <= now_ns || delivery->server_ns <= now_ns);
}

static void drop_lost(struct jet_listener *listener, size_t n, uint64_t now_ns)
{
    struct jet_unsettled *unsettled = &listener->unsettled;
    uint64_t *tokens = malloc(n * sizeof *tokens);
    struct subscription_move lost = {.kind = MOVE_LOST, .reason = MOVED_BY_LEASE, .tokens = tokens};

    if (tokens == NULL)
        abort();
    for (size_t i = 0; i < unsettled->n; i++) {
        if (!is_over(&unsettled->items[i], now_ns))
            continue;
        counter_add_shared(&jet_store_of(&listener->instance->base)->expired, 1);
        tokens[lost.n_tokens++] = unsettled->items[i].token;
        if (unsettled->items[i].removed)
            jet_removed_lost(listener, unsettled->items[i].stream_sequence);
        jet_unsettled_drop(unsettled, &unsettled->items[i]);
    }
    if (listener->opened && !listener->ending)
        subscription_moved(listener->subscription, &lost);
    free(tokens);
}

void jet_lease_watch(struct jet_listener *listener, const struct jet_delivery *delivery)
{
    uint64_t due_ns = lease_due(listener, delivery);

    listener->lease_check_ns = least(listener->lease_check_ns, due_ns);
    jet_listener_watch(listener, due_ns);
}

void jet_leases_look(struct jet_listener *listener)
{
    struct jet_unsettled *unsettled = &listener->unsettled;
    uint64_t now_ns = clock_now_ns(), due_ns = UINT64_MAX;
    size_t n_over = 0;
    bool renews = false;

    if (now_ns < listener->lease_check_ns) {
        jet_listener_watch(listener, listener->lease_check_ns); /* it was woken by something else */
        return;
    }
    for (size_t i = 0; i < unsettled->n; i++) {
        n_over += is_over(&unsettled->items[i], now_ns);
        renews = renews ||
                 (!unsettled->items[i].gone && is_to_renew(listener, &unsettled->items[i], now_ns));
    }
    if (n_over > 0) {
        jet_settle_all(listener, JET_NAK, is_to_return);
        drop_lost(listener, n_over, now_ns);
    }
    if (renews)
        jet_settle_all(listener, JET_EXTEND, is_to_renew);
    for (size_t i = 0; i < unsettled->n; i++) {
        if (!unsettled->items[i].gone)
            due_ns = least(due_ns, lease_due(listener, &unsettled->items[i]));
    }
    listener->lease_check_ns = due_ns;
    jet_listener_watch(listener, due_ns);
}
