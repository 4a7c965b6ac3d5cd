/* A multicast that waits until its targets have confirmed it. It has a topic of its own, whose name
 * travels with each message; the prismd that settles a message in the identity's queue publishes
 * the identity there. So it does not matter at which instance a receiver is attached.
 *
 *   open     before anything is sent, so that no confirmation is missed
 *   note     the delivery of a target is in its queue; it may have been confirmed by then
 *   batch    names of identities that have confirmed
 *   over     all have, or the time is over: the rest is PENDING
 *   close    behind the answer
 *
 * A confirmation that is lost on its way leaves its delivery PENDING, which is true: it is not
 * known that it was received.
 *
 * Memory: an entry for each target, in `listed`, which is counted for the call. */
#include "patterns/multicast_registry/sending.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/hash.h"

enum { BUCKETS = 4096, CREDIT_MESSAGES = 1024, CREDIT_BYTES = 1 << 20 };

struct awaited {
    struct awaited *next;
    struct slice identity;
    pb_delivery_result *result; /* NULL: it is not listed */
    uint64_t began_ns;
    bool noted, confirmed;
};

static struct sending *sending_of(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct sending, awaiting.subscription);
}

static const struct message_source *source_of(const struct sending *s)
{
    return &s->multicast->plan.topic->source;
}

static struct timer_wheel *timers_of(const struct sending *s)
{
    return &s->multicast->base.home->timers;
}

/* ---- who has confirmed ---- */

static struct awaited **find(const struct sending *s, struct slice identity)
{
    struct awaited **at = &s->awaiting.table[hash_seeded(s->multicast->seed, identity) % BUCKETS];

    while (*at != NULL && !slice_equal((*at)->identity, identity))
        at = &(*at)->next;
    return at;
}

static struct awaited *add(struct sending *s, struct awaited **at, struct slice identity)
{
    struct awaited *a = arena_zalloc(&s->listed, sizeof *a);

    a->identity = arena_copy(&s->listed, identity);
    *at = a;
    return a;
}

static void count_confirmed(struct sending *s, struct awaited *a)
{
    s->tally.pending--;
    s->tally.delivered++;
    s->tally.confirmed++;
    if (a->result == NULL)
        return;
    a->result->status = MULTICAST_PB(DELIVERY_STATUS__CONFIRMED);
    a->result->latency_ms = (int32_t)((s->multicast->base.home->now_ns - a->began_ns) / NS_PER_MS);
}

void awaiting_note(const struct lane *lane, struct slice identity, pb_delivery_result *result)
{
    struct sending *s = lane->sending;
    struct awaited **at = find(s, identity), *a = *at;

    if (a == NULL && !tally_has_room(s))
        return;
    if (a == NULL)
        a = add(s, at, identity);
    else
        s->awaiting.early--;
    a->noted = true;
    a->result = result;
    a->began_ns = lane->began_ns;
    if (a->confirmed)
        count_confirmed(s, a);
    else
        s->awaiting.waiting++;
}

/* One that is not noted yet is of a page under way, or of somebody who is no receiver. */
static void take(struct sending *s, struct slice identity)
{
    struct awaited **at = find(s, identity), *a = *at;

    if (identity.len > REGISTRY_IDENTITY_BYTES)
        return;
    if (a == NULL) {
        if (s->awaiting.early == LANES * s->page_items || !tally_has_room(s))
            return;
        s->awaiting.early++;
        add(s, at, identity)->confirmed = true;
    } else if (a->noted && !a->confirmed) {
        a->confirmed = true;
        s->awaiting.waiting--;
        count_confirmed(s, a);
    }
}

/* ---- the end ---- */

static bool is_open(const struct sending *s)
{
    return s->awaiting.subscription.state == SUB_OPENING ||
           s->awaiting.subscription.state == SUB_RUNNING;
}

static void close_topic(struct sending *s)
{
    if (is_open(s))
        source_of(s)->close(s->multicast->messaging, &s->awaiting.subscription);
}

static void end(struct sending *s)
{
    s->awaiting.waits = false;
    if (timer_armed(&s->expiry))
        timer_disarm(timers_of(s), &s->expiry);
    sending_answer(s);
}

static void time_is_up(struct timer *timer)
{
    end(CONTAINER_OF(timer, struct sending, expiry));
}

bool awaiting_waits(struct sending *s)
{
    if (!s->request->await_confirmation || s->stopped || s->awaiting.waiting == 0 || !is_open(s) ||
        s->group.deadline_ns <= s->multicast->base.home->now_ns)
        return false;
    s->awaiting.waits = true;
    timer_arm(timers_of(s), &s->expiry, s->group.deadline_ns, time_is_up);
    return true;
}

bool awaiting_answered(struct sending *s)
{
    s->awaiting.answered = true;
    if (!s->request->await_confirmation || s->awaiting.subscription.state == SUB_IDLE ||
        s->awaiting.subscription.state == SUB_CLOSED)
        return true;
    close_topic(s);
    return false;
}

/* ---- events ---- */

static void on_opened(struct subscription *subscription)
{
    struct sending *s = sending_of(subscription);

    timer_disarm(timers_of(s), &s->expiry);
    s->awaiting.walks = true;
    walk_start(s);
}

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    struct sending *s = sending_of(subscription);
    uint32_t n = batch->n;
    uint64_t bytes = batch->bytes;

    for (uint32_t i = 0; i < n && !s->awaiting.answered; i++)
        take(s, batch->items[i].payload);
    incoming_drop(batch, n);
    if (subscription->state == SUB_RUNNING)
        source_of(s)->grant(s->multicast->messaging, subscription, n, bytes);
    if (s->awaiting.waits && s->awaiting.waiting == 0)
        end(s);
}

static void on_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    (void)subscription; /* what was lost stays PENDING */
    (void)gap;
}

static void on_closed(struct subscription *subscription, struct err err)
{
    struct sending *s = sending_of(subscription);

    if (s->awaiting.answered) {
        op_group_leave(call_group(s->call));
    } else if (!s->awaiting.walks) { /* it could not be opened */
        if (s->err.code == ERR_OK)
            s->err = err;
        end(s);
    } else if (s->awaiting.waits) {
        end(s);
    }
}

static const struct subscription_events events = {
    .opened = on_opened, .batch = on_batch, .gap = on_gap, .closed = on_closed};

/* ---- the beginning ---- */

static void opens_too_long(struct timer *timer)
{
    awaiting_stop(CONTAINER_OF(timer, struct sending, expiry),
                  err_make(ERR_DEADLINE_EXCEEDED, "the messaging backend does not answer"));
}

bool awaiting_stop(struct sending *s, struct err why)
{
    if (!s->request->await_confirmation || (s->awaiting.walks && !s->awaiting.waits))
        return false;
    if (s->awaiting.answered)
        return true;
    if (s->err.code == ERR_OK)
        s->err = why;
    if (s->awaiting.waits)
        end(s);
    else
        close_topic(s);
    return true;
}

void awaiting_open(struct sending *s)
{
    struct arena *arena = call_arena(s->call);
    struct subscription *subscription = &s->awaiting.subscription;
    const char *topic;

    topic = arena_printf(arena, "%.*s" MULTICAST_CONFIRM_LEVEL "%s",
                         (int)s->multicast->settings.topic_prefix.len,
                         (const char *)s->multicast->settings.topic_prefix.data, s->awaiting.name);
    s->awaiting.table = arena_zalloc(arena, BUCKETS * sizeof *s->awaiting.table);
    timer_arm(timers_of(s), &s->expiry, s->group.deadline_ns, opens_too_long);
    subscription_init(subscription, s->multicast->base.home, &events);
    subscription->want.topic = slice_str(topic);
    source_of(s)->open(s->multicast->messaging, subscription);
    source_of(s)->grant(s->multicast->messaging, subscription, CREDIT_MESSAGES, CREDIT_BYTES);
}
