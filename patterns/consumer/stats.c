/* The pattern's families on the metrics page. */
#include "patterns/consumer/consumer_priv.h"
#include "patterns/families.h"

#include "src/base/container.h"

#define STAT(name) offsetof(struct consumer, stats.name)

static const struct family families[] = {
    {"prism_consumer_delivered_messages_total",
     "counter",
     NULL,
     "Deliveries of messages.",
     {{NULL, STAT(delivered)}}},
    {"prism_consumer_delivered_bytes_total",
     "counter",
     NULL,
     "Bytes of keys and payloads of those.",
     {{NULL, STAT(delivered_bytes)}}},
    {"prism_consumer_redelivered_messages_total",
     "counter",
     NULL,
     "Deliveries that were repetitions.",
     {{NULL, STAT(redelivered)}}},
    {"prism_consumer_settlements_total",
     "counter",
     "outcome",
     "Deliveries by what became of them.",
     {{"settled", STAT(settled)},
      {"retry", STAT(retried)},
      {"released", STAT(released)},
      {"dropped", STAT(dropped)},
      {"dead_letter", STAT(dead_letters)},
      {"revoked", STAT(revoked)}}},
    {"prism_consumer_dead_letter_failures_total",
     "counter",
     NULL,
     "Dead letters that the backend did not take.",
     {{NULL, STAT(dead_letter_failures)}}},
    {"prism_consumer_object_failures_total",
     "counter",
     NULL,
     "Payloads that the object store did not give; they are asked for again.",
     {{NULL, STAT(object_failures)}}},
    {"prism_consumer_redriven_messages_total",
     "counter",
     NULL,
     "Dead letters that were published again.",
     {{NULL, STAT(redriven)}}},
    {"prism_consumer_late_settlements_total",
     "counter",
     NULL,
     "Settlements of deliveries that had been taken away.",
     {{NULL, STAT(late)}}},
    {"prism_consumer_lost_messages_total",
     "counter",
     NULL,
     "Messages that were removed before a group got them, or taken back by the source.",
     {{NULL, STAT(lost)}}},
    {"prism_consumer_subscriptions",
     "gauge",
     NULL,
     "Subscriptions.",
     {{NULL, STAT(subscriptions)}}},
    {"prism_consumer_unsettled_messages",
     "gauge",
     NULL,
     "Messages sent and not settled.",
     {{NULL, STAT(unsettled)}}},
    {"prism_consumer_parked_messages",
     "gauge",
     NULL,
     "Messages that wait in the server for a retry.",
     {{NULL, STAT(parked)}}},
    {"prism_consumer_held_bytes",
     "gauge",
     NULL,
     "Bytes of messages that are held until they are settled.",
     {{NULL, STAT(held_bytes)}}},
};

_Static_assert(offsetof(struct consumer, base) == 0, "families count from the pattern");

void consumer_render(struct pattern *const *instances, size_t n, struct metrics_page *page)
{
    families_render(families, ARRAY_LEN(families), instances, n, page);
}
