/* What the stream removed after it was delivered and before it was settled: by age, by a bound, or
 * one by one. The server forgets it and says so once, in an advisory. A stream of Prism's keeps
 * those, so a group hears of it that has no reader at the time:
 *
 *   an advisory            -> the group's listeners look soon, and once more later
 *   look                   -> the group's notices are read
 *   somebody has it here   -> the notice is removed; the gap is told if that settles nothing
 *   it is older than that  -> the notice is removed, and the gap told
 *
 * Whoever removes a notice owns it, so one reader of the group tells a gap. Readers elsewhere have
 * a moment to claim what they have in hand. What is owned and not told when a subscription ends is
 * put back. A purge causes no advisory. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SOON_MS = 100,
    GRACE_MS = 1000, /* others claim what they have in hand */
    AGAIN_MS = 200,  /* what was not put back is, once more */
};

static void worked(struct jet_store *store, struct jet_errand *errand)
{
    struct jet_listener *listener = CONTAINER_OF(errand, struct jet_listener, removed.errand);

    (void)store;
    pthread_mutex_lock(&listener->lock);
    listener->notices_back = true;
    jet_listener_wake(listener);
    pthread_mutex_unlock(&listener->lock);
}

static bool is_wanted_at_all(const struct jet_listener *listener)
{
    return jet_store_of(&listener->instance->base)->base.config.returns_stream != NULL;
}

static void ask(struct jet_listener *listener, enum jet_notice_step step)
{
    listener->removed.notices->step = step;
    listener->removed.asking = true;
    jet_control_put(jet_store_of(&listener->instance->base), &listener->removed.errand);
}

void jet_removed_init(struct jet_removed *removed)
{
    removed->errand.work = jet_notices_work;
    removed->errand.worked = worked;
    removed->look_ns = UINT64_MAX;
}

static void forget_notices(struct jet_removed *removed)
{
    if (removed->notices != NULL)
        free(removed->notices->back);
    free(removed->notices);
    removed->notices = NULL;
}

void jet_removed_clear(struct jet_removed *removed)
{
    forget_notices(removed);
    free(removed->lost);
}

static void look_at(struct jet_listener *listener, unsigned looks, uint64_t after_ms)
{
    struct jet_removed *removed = &listener->removed;
    uint64_t at_ns = clock_now_ns() + after_ms * NS_PER_MS;

    if (!is_wanted_at_all(listener))
        return;
    removed->looks = looks > removed->looks ? looks : removed->looks;
    removed->look_ns = at_ns < removed->look_ns ? at_ns : removed->look_ns;
    jet_listener_watch(listener, removed->look_ns);
}

void jet_removed_placed(struct jet_listener *listener)
{
    char subject[2 * JET_NAME_BYTES];

    snprintf(subject, sizeof subject, "%s.%s", listener->place.stream, listener->place.consumer);
    atomic_store(&listener->removed.name_hash, jet_notices_hash(subject));
    look_at(listener, 1, 0);
}

/* The stream of notices may have it later than we do: so twice. */
void jet_removed_noticed(struct jet_listener *listener)
{
    look_at(listener, 2, SOON_MS);
}

void jet_removed_lost(struct jet_listener *listener, uint64_t sequence)
{
    struct jet_removed *removed = &listener->removed;

    if (removed->n_lost == removed->room) {
        removed->room = removed->room == 0 ? 16 : removed->room * 2;
        removed->lost = realloc(removed->lost, removed->room * sizeof *removed->lost);
        if (removed->lost == NULL)
            abort();
    }
    removed->lost[removed->n_lost++] = sequence;
    jet_listener_soon(listener);
}

static struct jet_delivery *in_hand(const struct jet_listener *listener, uint64_t sequence)
{
    const struct jet_unsettled *unsettled = &listener->unsettled;

    for (size_t i = 0; i < unsettled->n; i++) {
        if (!unsettled->items[i].gone && unsettled->items[i].stream_sequence == sequence)
            return &unsettled->items[i];
    }
    return NULL;
}

/* Notices up to this number were seen long ago. They are numbered as they come. */
static uint64_t was_seen(struct jet_listener *listener)
{
    struct jet_removed *removed = &listener->removed;
    const struct jet_notices *notices = removed->notices;
    uint64_t now_ns = clock_now_ns();
    bool over = now_ns >= removed->seen_ns + GRACE_MS * NS_PER_MS;
    uint64_t newest = over ? removed->seen : removed->seen_before;

    if (over)
        removed->seen_before = removed->seen;
    for (size_t i = 0; i < notices->n && over; i++) {
        if (notices->items[i].number > removed->seen) {
            removed->seen = notices->items[i].number;
            removed->seen_ns = now_ns;
        }
    }
    return newest;
}

/* Where the subscription is to end with a gap the notice stays, until the group is moved. */
static void choose(struct jet_listener *listener)
{
    struct jet_notices *notices = listener->removed.notices;
    bool claims = false, young = false, fails = false;
    uint64_t newest = was_seen(listener);

    for (size_t i = 0; i < notices->n; i++) {
        struct jet_notice *notice = &notices->items[i];
        bool held = notice->sequence != 0 && in_hand(listener, notice->sequence) != NULL;

        notice->wanted = notice->sequence == 0 || held || notice->number <= newest;
        young = young || !notice->wanted;
        if (notice->wanted && !held && notice->sequence != 0 &&
            listener->place.on_gap == GAP_FAIL) {
            fails = true;
            notice->wanted = false;
        }
        claims = claims || notice->wanted;
    }
    if (fails)
        jet_listener_fail(listener, jet_gap_err());
    if (claims)
        ask(listener, JET_CLAIMS);
    if (young)
        look_at(listener, 1, GRACE_MS);
    else if (notices->n == JET_NOTICES)
        look_at(listener, 1, SOON_MS);
}

static void take_over(struct jet_listener *listener)
{
    const struct jet_notices *notices = listener->removed.notices;

    for (size_t i = 0; i < notices->n; i++) {
        struct jet_delivery *delivery;

        if (!notices->items[i].ours || notices->items[i].sequence == 0)
            continue;
        delivery = in_hand(listener, notices->items[i].sequence);
        if (delivery != NULL)
            delivery->removed = true;
        else
            jet_removed_lost(listener, notices->items[i].sequence);
    }
}

void jet_removed_back(struct jet_listener *listener)
{
    struct jet_removed *removed = &listener->removed;

    removed->asking = false;
    if (removed->notices->step == JET_PUTS_BACK) {
        if (removed->notices->again)
            removed->look_ns = clock_now_ns() + AGAIN_MS * NS_PER_MS;
        else
            forget_notices(removed);
        return;
    }
    if (removed->notices->again)
        look_at(listener, 1, JET_NOTICES_AGAIN_MS);
    if (removed->notices->step == JET_LOOKS && !listener->ending)
        choose(listener);
    else if (removed->notices->step == JET_CLAIMS)
        take_over(listener);
    if (!removed->asking)
        forget_notices(removed);
}

static int by_sequence(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

    return (one > other) - (one < other);
}

static void tell(struct jet_listener *listener)
{
    struct jet_removed *removed = &listener->removed;
    size_t from = 0;

    if (listener->place.on_gap == GAP_FAIL) {
        jet_listener_fail(listener, jet_gap_err());
        return;
    }
    qsort(removed->lost, removed->n_lost, sizeof *removed->lost, by_sequence);
    for (size_t i = 1; i <= removed->n_lost; i++) {
        uint64_t last = removed->lost[i - 1];

        if (i < removed->n_lost && removed->lost[i] <= last + 1)
            continue;
        jet_tell_gap(listener, removed->lost[from], last + 1, i - from);
        from = i;
    }
    removed->n_lost = 0;
}

static struct jet_notices *new_notices(struct jet_removed *removed)
{
    removed->notices = calloc(1, sizeof *removed->notices);
    if (removed->notices == NULL)
        abort();
    return removed->notices;
}

void jet_removed_go_on(struct jet_listener *listener)
{
    struct jet_removed *removed = &listener->removed;
    uint64_t now_ns = clock_now_ns();

    if (listener->ending || !listener->opened)
        return;
    if (removed->n_lost > 0)
        tell(listener);
    if (removed->looks == 0 || !listener->placed_well || listener->ending)
        return;
    if (now_ns < removed->look_ns) {
        jet_listener_watch(listener, removed->look_ns);
        return;
    }
    if (removed->notices != NULL)
        return;
    new_notices(removed);
    ask(listener, JET_LOOKS);
    removed->looks--;
    removed->look_ns = removed->looks > 0 ? now_ns + GRACE_MS * NS_PER_MS : UINT64_MAX;
    jet_listener_watch(listener, removed->look_ns);
}

/* What is in hand still will be settled by nobody. */
static void lose_what_is_in_hand(struct jet_listener *listener)
{
    struct jet_unsettled *unsettled = &listener->unsettled;

    for (size_t i = 0; i < unsettled->n; i++) {
        struct jet_delivery *delivery = &unsettled->items[i];

        if (!delivery->gone && delivery->removed)
            jet_removed_lost(listener, delivery->stream_sequence);
        delivery->removed = false;
    }
}

/* The errand takes them along: more may be lost meanwhile, for the next one. */
static void put_back(struct jet_listener *listener)
{
    struct jet_removed *removed = &listener->removed;
    uint64_t patience_ms = jet_store_of(&listener->instance->base)->base.config.ack_timeout_ms;
    struct jet_notices *notices = new_notices(removed);

    notices->back = removed->lost;
    notices->n_back = removed->n_lost;
    notices->until_ns = clock_now_ns() + patience_ms * NS_PER_MS;
    removed->lost = NULL;
    removed->n_lost = removed->room = 0;
    ask(listener, JET_PUTS_BACK);
}

bool jet_removed_end(struct jet_listener *listener)
{
    struct jet_removed *removed = &listener->removed;

    if (removed->asking || listener->leave)
        return !removed->asking;
    if (removed->notices == NULL) {
        lose_what_is_in_hand(listener);
        if (removed->n_lost == 0 || listener->place.group[0] == '\0')
            return true;
        put_back(listener);
    } else if (clock_now_ns() >= removed->look_ns) {
        ask(listener, JET_PUTS_BACK);
    } else {
        jet_listener_watch(listener, removed->look_ns);
    }
    return false;
}
