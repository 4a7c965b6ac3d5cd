/* Families of the pattern on the metrics page. */
#include "patterns/families.h"
#include "patterns/multicast_registry/multicast_priv.h"
#include "src/base/container.h"

#define STAT(member) offsetof(struct multicast, stats.member)

static const struct family families[] = {
    {"prism_multicast_registrations_total",
     "counter",
     "change",
     "Identities entered, taken out, kept alive, and not there to be kept.",
     {{"registered", STAT(registered)},
      {"unregistered", STAT(unregistered)},
      {"kept", STAT(heartbeats)},
      {"missing", STAT(missing)}}},
    {"prism_multicasts_total",
     "counter",
     NULL,
     "Multicasts that began to send.",
     {{NULL, STAT(multicasts)}}},
    {"prism_multicast_deliveries_total",
     "counter",
     "outcome",
     "Deliveries by what became of them.",
     {{"delivered", STAT(delivered)},
      {"no_receiver", STAT(no_receiver)},
      {"pending", STAT(pending)},
      {"skipped", STAT(skipped)},
      {"failed", STAT(failed)},
      {"timeout", STAT(timed_out)}}},
    {"prism_multicast_retries_total",
     "counter",
     NULL,
     "Deliveries that were tried again.",
     {{NULL, STAT(retries)}}},
    {"prism_multicast_attached",
     "gauge",
     NULL,
     "Identities that receivers are attached for.",
     {{NULL, STAT(attached)}}},
    {"prism_multicast_received_total",
     "counter",
     NULL,
     "Messages taken in for receivers.",
     {{NULL, STAT(received)}}},
    {"prism_multicast_dropped_total",
     "counter",
     NULL,
     "Messages that receivers were too slow for, as far as their number is known.",
     {{NULL, STAT(dropped)}}},
    {"prism_multicast_settled_total",
     "counter",
     "how",
     "Kept messages that left their queue: confirmed, expired, replaced by a later one, or handed "
     "over too often.",
     {{"confirmed", STAT(confirmed)},
      {"expired", STAT(expired)},
      {"replaced", STAT(replaced)},
      {"given_up", STAT(given_up)}}},
    {"prism_multicast_unsettled",
     "gauge",
     NULL,
     "Kept messages that receivers have and have not confirmed.",
     {{NULL, STAT(unsettled)}}},
    {"prism_multicast_confirmations_untold_total",
     "counter",
     NULL,
     "Confirmations that did not reach a sender who waits for them: he takes them for PENDING.",
     {{NULL, STAT(untold)}}},
    {"prism_multicast_forgotten_total",
     "counter",
     NULL,
     "Multicasts with a message_id whose outcome could not be written down.",
     {{NULL, STAT(forgotten)}}},
    {"prism_multicast_permit_waits_total",
     "counter",
     NULL,
     "Times that a page had to wait for a permit.",
     {{NULL, offsetof(struct multicast, semaphore.waited)}}},
};

_Static_assert(offsetof(struct multicast, base) == 0, "families count from the pattern");

void multicast_render(struct pattern *const *instances, size_t n, struct metrics_page *page)
{
    families_render(families, ARRAY_LEN(families), instances, n, page);
}
