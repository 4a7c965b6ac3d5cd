/* GetStats, and the pattern's families on the metrics page. */
#include "patterns/families.h"
#include "patterns/producer/producer_priv.h"

#include "src/base/clock.h"
#include "src/base/container.h"

#include <time.h>

void producer_stored_now(struct producer *producer)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    atomic_store_explicit(&producer->stats.last_ms.value,
                          (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS,
                          memory_order_relaxed);
}

/* ---- GetStats ---- */

struct sums {
    pb_get_stats_response response;
    struct latency_sum latency;
    uint64_t now_ns;
};

static int64_t number(const struct counter *counter)
{
    return (int64_t)counter_read(counter);
}

static void add(struct producer *producer, void *arg)
{
    struct sums *sums = arg;
    pb_get_stats_response *to = &sums->response;
    const struct producer_stats *from = &producer->stats;

    to->messages_published += number(&from->stored);
    to->messages_failed += number(&from->failed);
    to->messages_unknown += number(&from->unknown);
    to->messages_deduplicated += number(&from->deduplicated);
    to->bytes_published += number(&from->bytes);
    to->batches_published += number(&from->frames);
    to->unsettled += number(&from->unsettled);
    to->unsettled_bytes += number(&from->unsettled_bytes);
    if (number(&from->last_ms) > to->last_publish_unix_ms)
        to->last_publish_unix_ms = number(&from->last_ms);
    latency_add(&sums->latency, &producer->latency, sums->now_ns);
}

void producer_get_stats(struct call *call)
{
    struct sums *sums = arena_zalloc(call_arena(call), sizeof *sums);

    prism__patterns__producer__get_stats_response__init(&sums->response);
    sums->now_ns = clock_now_ns();
    producer_each(producer_of(call), add, sums);
    sums->response.publish_latency_p50_us = (int64_t)latency_quantile(&sums->latency, 500);
    sums->response.publish_latency_p99_us = (int64_t)latency_quantile(&sums->latency, 990);
    call_reply(call, &sums->response.base);
}

/* ---- metrics ---- */

#define STAT(name) offsetof(struct producer, stats.name)

static const struct family families[] = {
    {"prism_producer_messages_total",
     "counter",
     "outcome",
     "Messages by what became of them.",
     {{"stored", STAT(stored)},
      {"deduplicated", STAT(deduplicated)},
      {"not_stored", STAT(failed)},
      {"unknown", STAT(unknown)}}},
    {"prism_producer_bytes_total",
     "counter",
     NULL,
     "Bytes of stored payloads.",
     {{NULL, STAT(bytes)}}},
    {"prism_producer_frames_total",
     "counter",
     NULL,
     "Messages, batches and frames of streams that were accepted.",
     {{NULL, STAT(frames)}}},
    {"prism_producer_retries_total",
     "counter",
     NULL,
     "Messages that were sent again because the backend had not taken them.",
     {{NULL, STAT(retries)}}},
    {"prism_producer_unsettled_messages",
     "gauge",
     NULL,
     "Messages that were accepted and have no outcome yet.",
     {{NULL, STAT(unsettled)}}},
    {"prism_producer_unsettled_bytes",
     "gauge",
     NULL,
     "Bytes of those messages.",
     {{NULL, STAT(unsettled_bytes)}}},
    {"prism_producer_identifiers_forgotten_total",
     "counter",
     NULL,
     "Identifiers whose outcome could not be written to the state store.",
     {{NULL, STAT(forgotten)}}},
    {"prism_producer_objects_total",
     "counter",
     "outcome",
     "Objects of large payloads: written less referred and removed may have no message.",
     {{"written", STAT(objects_written)},
      {"referred", STAT(objects_referred)},
      {"removed", STAT(objects_removed)},
      {"unknown", STAT(objects_unknown)},
      {"orphaned", STAT(orphans)}}},
    {"prism_producer_objects_orphaned_total",
     "counter",
     NULL,
     "Objects that no message refers to and that could not be removed.",
     {{NULL, STAT(orphans)}}},
    {"prism_producer_permit_waits_total",
     "counter",
     NULL,
     "Times that a publish operation had to wait for a permit.",
     {{NULL, offsetof(struct producer, semaphore.waited)}}},
};

_Static_assert(offsetof(struct producer, base) == 0, "families count from the pattern");

void producer_render(struct pattern *const *instances, size_t n, struct metrics_page *page)
{
    families_render(families, ARRAY_LEN(families), instances, n, page);
}
