/* What became of each delivery, counted, and listed as far as the request asked and room is. */
#include "patterns/multicast_registry/remember.h"
#include "patterns/multicast_registry/sending.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <string.h>

enum {
    FEWEST_RESULTS = 64,
    RESULT_BYTES = 64, /* of one, beside its texts, on the wire */
    LISTED_PIECE = 64 << 10
};

static pb_delivery_status status_of(const struct sending *s, const struct outgoing *item)
{
    if (item->err.code == ERR_OK && s->kept)
        return item->deduplicated ? MULTICAST_PB(DELIVERY_STATUS__SKIPPED)
                                  : MULTICAST_PB(DELIVERY_STATUS__PENDING);
    if (item->err.code == ERR_OK)
        return item->receivers == 0 ? MULTICAST_PB(DELIVERY_STATUS__NO_RECEIVER)
                                    : MULTICAST_PB(DELIVERY_STATUS__DELIVERED);
    return item->err.code == ERR_DEADLINE_EXCEEDED ? MULTICAST_PB(DELIVERY_STATUS__TIMEOUT)
                                                   : MULTICAST_PB(DELIVERY_STATUS__FAILED);
}

static void count(struct sending *s, pb_delivery_status status, struct err err)
{
    struct multicast_stats *stats = &s->multicast->stats;

    switch (status) {
    case MULTICAST_PB(DELIVERY_STATUS__DELIVERED):
        s->tally.delivered++;
        counter_add(&stats->delivered, 1);
        return;
    case MULTICAST_PB(DELIVERY_STATUS__NO_RECEIVER):
        s->tally.no_receiver++;
        counter_add(&stats->no_receiver, 1);
        return;
    case MULTICAST_PB(DELIVERY_STATUS__PENDING):
        s->tally.pending++;
        counter_add(&stats->pending, 1);
        return;
    case MULTICAST_PB(DELIVERY_STATUS__SKIPPED):
        s->tally.skipped++;
        counter_add(&stats->skipped, 1);
        return;
    default:
        s->tally.failed++;
        counter_add(err.code == ERR_DEADLINE_EXCEEDED ? &stats->timed_out : &stats->failed, 1);
        if (s->tally.first.code == ERR_OK)
            s->tally.first = sending_keep_err(s, err);
    }
}

static pb_delivery_result *append(struct arena *arena, pb_delivery_result ***list, size_t *n,
                                  size_t *room, pb_delivery_result *result)
{
    if (*n == *room) {
        size_t more = *room > 0 ? *room * 2 : FEWEST_RESULTS;
        pb_delivery_result **grown = arena_array(arena, more, sizeof *grown);

        for (size_t i = 0; i < *n; i++)
            grown[i] = (*list)[i];
        *list = grown;
        *room = more;
    }
    return (*list)[(*n)++] = result;
}

static pb_delivery_result *make(struct arena *arena, const struct lane *lane, struct slice identity,
                                const struct outgoing *item, pb_delivery_status status)
{
    pb_delivery_result *result = arena_alloc(arena, sizeof *result);
    uint64_t took_ns = lane->sending->multicast->base.home->now_ns - lane->began_ns;

    prism__patterns__multicast_registry__delivery_result__init(result);
    result->identity = arena_strdup(arena, identity);
    result->status = status;
    result->latency_ms = (int32_t)(took_ns / NS_PER_MS);
    if (item->err.code != ERR_OK) {
        result->code = (int32_t)item->err.code;
        result->_error_case = MULTICAST_PB(DELIVERY_RESULT___ERROR_ERROR);
        result->error = arena_strdup(arena, slice_str(item->err.text));
    } else if (item->receivers >= 0) {
        result->_receivers_case = MULTICAST_PB(DELIVERY_RESULT___RECEIVERS_RECEIVERS);
        result->receivers = item->receivers;
    }
    return result;
}

/* Is there room for more? It is asked for in large pieces. */
bool tally_has_room(struct sending *s)
{
    if (s->listed.bytes < s->held_bytes)
        return true;
    if (call_hold(s->call, s->listed.bytes + LISTED_PIECE).code != ERR_OK)
        return false;
    s->held_bytes = s->listed.bytes + LISTED_PIECE;
    return true;
}

/* Of the one answer of Multicast: failures stand before others, so these make room for them. NULL:
 * there is no room. */
static pb_delivery_result *list(struct lane *lane, struct slice identity,
                                const struct outgoing *item, pb_delivery_status status)
{
    struct sending *s = lane->sending;
    struct arena *arena = &s->listed;
    uint64_t bytes = identity.len + RESULT_BYTES;
    uint64_t most = s->multicast->binding.max_message_bytes;
    bool failed = item->err.code != ERR_OK;

    if (failed)
        bytes += strlen(item->err.text);
    while (failed && s->listed_bytes + bytes > most && s->n_others > 0) {
        s->listed_bytes -= strlen(s->others[--s->n_others]->identity) + RESULT_BYTES;
        s->truncated = true;
    }
    s->full = s->full || !tally_has_room(s);
    if (s->full || s->listed_bytes + bytes > most) {
        s->truncated = true;
        return NULL;
    }
    s->listed_bytes += bytes;
    if (failed)
        return append(arena, &s->failures, &s->n_failures, &s->failures_room,
                      make(arena, lane, identity, item, status));
    return append(arena, &s->others, &s->n_others, &s->others_room,
                  make(arena, lane, identity, item, status));
}

static bool is_asked_for(const struct sending *s, const struct outgoing *item)
{
    switch (s->request->results) {
    case MULTICAST_PB(RESULTS_MODE__RESULTS_NONE):
        return false;
    case MULTICAST_PB(RESULTS_MODE__RESULTS_FAILURES):
        return item->err.code != ERR_OK;
    default:
        return true;
    }
}

bool tally_only_counts(const struct sending *s)
{
    const struct outgoing good = {.receivers = 1};

    return !s->kept && !is_asked_for(s, &good);
}

void tally_counts(struct sending *s, size_t reached, size_t unreached)
{
    s->tally.delivered += (int32_t)reached;
    counter_add(&s->multicast->stats.delivered, reached);
    s->tally.no_receiver += (int32_t)unreached;
    counter_add(&s->multicast->stats.no_receiver, unreached);
}

void tally_unheard(struct lane *lane, const struct slice *identities, size_t n)
{
    struct sending *s = lane->sending;
    struct outgoing nothing = {.receivers = 0};

    if (tally_only_counts(s)) {
        tally_counts(s, 0, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        tally_add(lane, identities[i], &nothing);
}

void tally_add(struct lane *lane, struct slice identity, const struct outgoing *item)
{
    struct sending *s = lane->sending;
    pb_delivery_status status = status_of(s, item);
    pb_delivery_result *listed = NULL;

    count(s, status, item->err);
    if (item->err.code != ERR_OK)
        remember_failed(s, identity);
    if (!s->streams && is_asked_for(s, item))
        listed = list(lane, identity, item, status);
    if (s->request->await_confirmation && status == MULTICAST_PB(DELIVERY_STATUS__PENDING))
        awaiting_note(lane, identity, listed);
    if (!s->streams || !is_asked_for(s, item))
        return;
    if (lane->results == NULL || lane->n_results == 0)
        lane->results = arena_array(&lane->arena, s->page_items, sizeof *lane->results);
    lane->results[lane->n_results++] = make(&lane->arena, lane, identity, item, status);
}
