/* What comes to a subscription's inbox: messages, which are looked at, counted and put into
 * batches. On the worker, in the subscription's job. */
#include "backends/nats/jet_priv.h"
#include "pool/worker.h"
#include "src/base/clock.h"

#include <stdlib.h>

enum { HEADER_BYTES = 16 }; /* beside name and value, at most */

/* Of sequences that were passed over, those that this group was not even offered are missing. */
static uint64_t missing_before(struct jet_listener *listener, const struct jet_source *source)
{
    struct jet_place *place = &listener->place;
    uint64_t stream = source->stream_sequence - place->stream_sequence;
    uint64_t offered = source->consumer_sequence - place->consumer_sequence;
    bool first = source->deliveries == 1 && source->stream_sequence > place->stream_sequence;
    bool ordered = source->consumer_sequence > place->consumer_sequence;

    if (!first || !ordered)
        return 0;
    place->stream_sequence = source->stream_sequence;
    place->consumer_sequence = source->consumer_sequence;
    return place->alone && stream > offered ? stream - offered : 0;
}

void jet_tell_gap(struct jet_listener *listener, uint64_t from, uint64_t to, uint64_t count)
{
    const struct subscription_gap gap = {
        .partition = -1,
        .missing_from = (int64_t)from,
        .goes_on_at = (int64_t)to,
        .count = count,
        .text = "the stream has removed messages that the group has not read"};

    subscription_gap(listener->subscription, &gap);
}

/* What one look brings: a batch that is being filled, and deliveries that are void before it. */
struct haul {
    struct incoming_batch *batch; /* NULL: none is begun */
    bool holds;                   /* they wait for the page, or behind one that does */
    uint64_t *lost;
    size_t n_lost, room;
};

static void deliver(struct jet_listener *listener, struct haul *haul)
{
    struct incoming_batch *batch = haul->batch;
    const struct subscription_move lost = {.kind = MOVE_LOST,
                                           .reason = MOVED_BY_SOURCE,
                                           .tokens = haul->lost,
                                           .n_tokens = haul->n_lost};

    haul->batch = NULL;
    if (haul->n_lost > 0)
        subscription_moved(listener->subscription, &lost);
    haul->n_lost = 0;
    if (batch != NULL && haul->holds)
        jet_page_hold(listener, batch, 0, 0);
    else if (batch != NULL)
        subscription_deliver(listener->subscription, batch);
}

static void tell_missing(struct jet_listener *listener, struct haul *haul, uint64_t to,
                         uint64_t missing)
{
    deliver(listener, haul);
    if (haul->holds)
        jet_page_hold(listener, NULL, to - missing, to);
    else
        jet_tell_gap(listener, to - missing, to, missing);
}

/* A message that we hold comes again: its time was over, or the server has forgotten that it had
 * delivered it. From now on the new delivery counts. */
static void supersede(struct jet_listener *listener, struct haul *haul, uint64_t stream_sequence)
{
    struct jet_unsettled *unsettled = &listener->unsettled;
    size_t i = 0;

    while (i < unsettled->n &&
           (unsettled->items[i].gone || unsettled->items[i].stream_sequence != stream_sequence))
        i++;
    if (i == unsettled->n)
        return;
    if (haul->n_lost == haul->room) {
        haul->room = haul->room == 0 ? 64 : haul->room * 2;
        haul->lost = realloc(haul->lost, haul->room * sizeof *haul->lost);
        if (haul->lost == NULL)
            abort();
    }
    haul->lost[haul->n_lost++] = unsettled->items[i].token;
    jet_unsettled_drop(unsettled, &unsettled->items[i]);
}

static struct jet_delivery *remember(struct jet_listener *listener, const struct jet_source *source)
{
    uint64_t token = (listener->epoch << JET_TOKEN_BITS) | ++listener->tokens;
    struct jet_delivery *delivery = jet_unsettled_add(&listener->unsettled, token);
    uint64_t now_ns = clock_now_ns();

    delivery->stream_sequence = source->stream_sequence;
    delivery->consumer_sequence = source->consumer_sequence;
    delivery->deliveries = (uint32_t)source->deliveries;
    delivery->lease_ns = now_ns + listener->lease_ns;
    delivery->tried_ns = now_ns;
    delivery->server_ns = now_ns + listener->wait_ns;
    delivery->returned = listener->withdrawn || listener->ending;
    jet_lease_watch(listener, delivery);
    return delivery->returned ? NULL : delivery;
}

static void count_credit(struct jet_listener *listener, uint64_t bytes)
{
    if (listener->asked_messages > 0)
        listener->asked_messages--;
    if (bytes > listener->asked_bytes) {
        subscription_take(listener->subscription, 0, bytes - listener->asked_bytes);
        bytes = listener->asked_bytes;
    }
    listener->asked_bytes -= bytes;
    if (listener->asked_messages == 0)
        jet_request_end(listener);
}

static void count_message(struct jet_listener *listener, natsMsg *message,
                          const struct incoming *item, struct jet_delivery *delivery)
{
    uint64_t bytes = message_in_bytes(item);

    count_credit(listener, bytes);
    delivery->bytes = bytes + strlen(natsMsg_GetSubject(message)) +
                      strlen(natsMsg_GetReply(message)) + HEADER_BYTES * item->n_headers;
    jet_wary_met(listener, delivery->bytes);
}

static const struct incoming *add_to_batch(struct jet_listener *listener, struct haul *haul,
                                           natsMsg *message, const struct jet_source *source,
                                           struct jet_delivery *delivery)
{
    struct incoming *item;

    if (!haul->holds &&
        jet_page_has_to_read(listener, source->stream_sequence, source->deliveries)) {
        deliver(listener, haul);
        haul->holds = true;
    }
    if (haul->batch != NULL && nats_batch_full(haul->batch))
        deliver(listener, haul);
    if (haul->batch == NULL)
        haul->batch = nats_batch_new();
    item = &haul->batch->items[haul->batch->n];
    nats_batch_add(haul->batch, message);
    item->offset = (int64_t)source->stream_sequence;
    item->timestamp_ms = source->time_ns / NS_PER_MS;
    if (!haul->holds)
        delivery->attempt = jet_returns_attempt(&listener->page.returns, source->stream_sequence,
                                                source->deliveries);
    item->attempt = delivery->attempt;
    item->token = delivery->token;
    return item;
}

static void keep(struct jet_listener *listener, natsMsg *message, const struct jet_source *source,
                 struct jet_delivery *delivery)
{
    struct incoming item;
    struct arena scratch;

    arena_init(&scratch, NULL);
    nats_message_in(&item, message, &scratch);
    count_message(listener, message, &item, delivery);
    jet_oldest_keep(listener, message, source, delivery, message_in_bytes(&item));
    arena_clear(&scratch);
}

/* Owns the message. */
static void take_message(struct jet_listener *listener, natsMsg *message, struct haul *haul)
{
    const char *reply = natsMsg_GetReply(message);
    struct jet_source source;
    struct jet_delivery *delivery;
    uint64_t missing;

    if (!jet_source_read(&source, reply)) {
        natsMsg_Destroy(message);
        return;
    }
    jet_wary_took(listener, &source);
    if (source.stream_sequence <= listener->newest)
        supersede(listener, haul, source.stream_sequence);
    else
        listener->newest = source.stream_sequence;
    memcpy(listener->prefix, reply, source.prefix);
    listener->prefix[source.prefix] = '\0';
    listener->request_ms = JET_REQUEST_MS;
    delivery = remember(listener, &source);
    if (delivery == NULL) {
        natsMsg_Destroy(message);
        return;
    }
    missing = missing_before(listener, &source);
    if (missing > 0)
        tell_missing(listener, haul, source.stream_sequence, missing);
    if (listener->oldest.step != JET_OLDEST_OVER)
        keep(listener, message, &source, delivery);
    else
        count_message(listener, message, add_to_batch(listener, haul, message, &source, delivery),
                      delivery);
}

void jet_take_messages(struct jet_listener *listener, natsMsg **messages, size_t n)
{
    struct haul haul = {.holds = listener->page.held != NULL};

    for (size_t i = 0; i < n; i++) {
        const char *reply = natsMsg_GetReply(messages[i]);

        if (reply != NULL && reply[0] != '\0') {
            take_message(listener, messages[i], &haul);
            continue;
        }
        jet_request_status(listener, messages[i]);
        natsMsg_Destroy(messages[i]);
    }
    free((void *)messages);
    if (n > 0 && listener->beats)
        jet_request_alive(listener);
    deliver(listener, &haul);
    free(haul.lost);
}

void jet_take_kept(struct jet_listener *listener, const struct jet_kept *kept, size_t n)
{
    struct haul haul = {.holds = listener->page.held != NULL};

    for (size_t i = 0; i < n; i++)
        add_to_batch(listener, &haul, kept[i].message, &kept[i].source,
                     jet_unsettled_find(&listener->unsettled, kept[i].token));
    deliver(listener, &haul);
}
