/* Requests bound their bytes. A message that has no room in one is refused by the server, which
 * ends the request and says so; then one message of any size is asked for.
 *
 * With a first delivery that is all. Servers up to 2.9 are confused by a redelivery that they
 * refuse: they deliver the message before the next new one once more, as if for the first time, and
 * forget the refused one until the consumer's patience is over; where these two are the same, they
 * forget its attempts. So a reader that cannot hold the largest message that was met asks for one
 * of any size while a large one may come again:
 *
 *   back     it gave one back that is larger than its room
 *   unknown  others had some when it came, or such a delivery was seen, because others give back
 *
 * One by one takes a round trip for each message, and what a request meets that is just given up
 * counts an attempt: so nobody does it who has met no large ones. An open request is not ended for
 * it: then the second comes true, and a refused message comes after the consumer's patience. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

enum { GRACE_MS = 5000 };

static uint64_t patience_ends(const struct jet_listener *listener)
{
    return clock_now_ns() + listener->wait_ns + GRACE_MS * NS_PER_MS;
}

void jet_wary_placed(struct jet_listener *listener)
{
    if (listener->place.unsettled > 0)
        listener->wary.unknown_ns = patience_ends(listener);
}

void jet_wary_met(struct jet_listener *listener, uint64_t bytes)
{
    struct jet_store *store = jet_store_of(&listener->instance->base);
    uint64_t largest = atomic_load(&store->largest);

    while (bytes > largest && !atomic_compare_exchange_weak(&store->largest, &largest, bytes))
        ;
}

/* place.stream_sequence: all up to it had been delivered. */
void jet_wary_took(struct jet_listener *listener, const struct jet_source *source)
{
    if (source->deliveries == 1 && source->stream_sequence <= listener->place.stream_sequence)
        listener->wary.unknown_ns = patience_ends(listener);
}

void jet_wary_gave_back(struct jet_listener *listener, const struct jet_delivery *delivery,
                        uint64_t delay_ms)
{
    struct jet_wary *wary = &listener->wary;
    uint64_t until_ns = patience_ends(listener) + delay_ms * NS_PER_MS;

    if (clock_now_ns() >= wary->back_ns)
        wary->back_bytes = 0;
    if (delivery->bytes >= wary->back_bytes) {
        wary->back_bytes = delivery->bytes;
        wary->back_ns = until_ns;
    }
}

bool jet_wary_of(struct jet_listener *listener, uint64_t bytes)
{
    const struct jet_wary *wary = &listener->wary;
    uint64_t now_ns = clock_now_ns();
    uint64_t largest = atomic_load(&jet_store_of(&listener->instance->base)->largest);

    return (now_ns < wary->unknown_ns && bytes < largest) ||
           (now_ns < wary->back_ns && bytes < wary->back_bytes);
}
