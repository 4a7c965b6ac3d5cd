/* Lanes take turns in fetching, since a page begins where the one before it ended, and publish side
 * by side. */
#include "patterns/multicast_registry/checkpoint.h"
#include "patterns/multicast_registry/sending.h"
#include "pool/worker.h"
#include "src/base/block.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <string.h>

enum { MOST_DOUBLINGS = 16 }; /* of the delay between attempts */
enum { BLOCK = 64, SAMPLES = 8 };

static void lane_next(struct lane *lane);
static void lane_publish(struct lane *lane);

/* ---- the end ---- */

static struct timer_wheel *timers_of(const struct sending *s)
{
    return &s->multicast->base.home->timers;
}

static void lane_idle(struct lane *lane)
{
    struct sending *s = lane->sending;

    lane->state = LANE_IDLE;
    arena_clear(&lane->arena);
    for (int i = 0; i < LANES; i++) {
        if (s->lanes[i].state != LANE_IDLE)
            return;
    }
    if (timer_armed(&s->expiry))
        timer_disarm(timers_of(s), &s->expiry);
    op_group_leave(&s->group); /* its last operation may be this one: over() comes behind it */
}

static void over(struct op_group *group)
{
    sending_over(CONTAINER_OF(group, struct sending, group));
}

/* ---- publishing ---- */

/* The delay doubles with each attempt, as long as it stays a number of nanoseconds. */
static uint64_t next_attempt_ns(const struct lane *lane)
{
    const struct multicast *multicast = lane->sending->multicast;
    unsigned doublings = lane->attempt - 1 < MOST_DOUBLINGS ? lane->attempt - 1 : MOST_DOUBLINGS;

    return multicast->base.home->now_ns +
           (multicast->settings.retry_delay_ms << doublings) * NS_PER_MS;
}

static bool may_repeat(const struct lane *lane, const struct outgoing *item)
{
    const struct sending *s = lane->sending;
    /* A queue that is full says no time: somebody would have to receive from it first. */
    bool passing = item->err.code == ERR_UNAVAILABLE ||
                   (item->err.code == ERR_RESOURCE_EXHAUSTED && item->err.retry_after_ms > 0);

    return passing && item->err.effect == EFFECT_NONE && !s->stopped &&
           lane->attempt < s->multicast->settings.attempts &&
           (s->group.deadline_ns == 0 || next_attempt_ns(lane) < s->group.deadline_ns);
}

/* Takes down what has its outcome, and keeps the rest for another attempt. */
static size_t take_outcomes(struct lane *lane)
{
    bool counted = lane->publish.op.err.code == ERR_OK && tally_only_counts(lane->sending);
    size_t kept = 0, reached = 0, unreached = 0;

    for (size_t i = 0; i < lane->n; i++) {
        if (counted && lane->items[i].err.code == ERR_OK) {
            reached += lane->items[i].receivers != 0;
            unreached += lane->items[i].receivers == 0;
            continue;
        }
        if (lane->publish.op.err.code != ERR_OK)
            lane->items[i].err = lane->publish.op.err;
        if (!may_repeat(lane, &lane->items[i])) {
            tally_add(lane, lane->identities[i], &lane->items[i]);
            continue;
        }
        lane->items[kept] = lane->items[i];
        lane->identities[kept++] = lane->identities[i];
    }
    tally_counts(lane->sending, reached, unreached);
    return kept;
}

static void paced(struct timer *timer)
{
    lane_publish(CONTAINER_OF(timer, struct lane, timer));
}

static void lane_wait(struct lane *lane, uint64_t until_ns)
{
    lane->state = LANE_PACED;
    timer_arm(timers_of(lane->sending), &lane->timer, until_ns, paced);
}

static void page_over(struct lane *lane)
{
    lane->n = 0;
    lane->state = LANE_REPORTS;
    sending_report(lane);
}

static void published(struct op *op)
{
    struct lane *lane = CONTAINER_OF(op, struct lane, publish.op);
    struct sending *s = lane->sending;

    semaphore_release(&s->multicast->semaphore);
    lane->n = take_outcomes(lane);
    if (lane->n == 0) {
        page_over(lane);
        return;
    }
    counter_add(&s->multicast->stats.retries, lane->n);
    lane_wait(lane, next_attempt_ns(lane));
}

static void publish_now(struct lane *lane)
{
    struct sending *s = lane->sending;

    lane->state = LANE_PUBLISHING;
    lane->attempt++;
    lane->publish.items = lane->items;
    lane->publish.n = lane->n;
    op_start(&lane->publish.op, &s->group, published);
    lane->publish.op.arena = &lane->arena;
    s->sink->publish(s->carrier, &lane->publish);
}

static void give_up(struct lane *lane)
{
    struct outgoing unsent = {.err = lane->sending->err, .receivers = -1};

    for (size_t i = 0; i < lane->n; i++)
        tally_add(lane, lane->identities[i], &unsent);
    page_over(lane);
}

/* plain: it is known that the topic is the prefix and the identity. */
static void make_item(struct lane *lane, struct outgoing *item, struct slice identity, bool plain)
{
    const struct sending *s = lane->sending;
    const struct multicast_settings *settings = &s->multicast->settings;
    struct arena *arena = &lane->arena;

    *item = s->model;
    if (!s->kept && s->multicast->plan.one_topic) {
        item->topic = hub_topic(s->multicast);
        item->key = identity;
    } else if (plain) {
        item->topic = convert_plain_topic(settings->topic_prefix, arena, identity);
    } else {
        item->topic = convert_topic(s->kept ? settings->queue_prefix : settings->topic_prefix,
                                    arena, identity);
    }
    if (s->sink->dedups) /* one that the backend compares is another for each identity */
        item->id = slice_str(arena_printf(arena, "%s@%.*s", s->id, (int)item->topic.len,
                                          (const char *)item->topic.data));
}

static bool may_be_heard(const struct sending *s, struct slice identity)
{
    return s->multicast->plan.topic->may_be_heard(s->carrier, identity);
}

/* Most targets of a large multicast may be heard by nobody: these need no name and no message. Of
 * others that is not asked: where SAMPLES are heard, the rest of their BLOCK just gets a message.
 */
static void make_items(struct lane *lane)
{
    struct sending *s = lane->sending;
    bool asks = s->asks && !lane->asked;
    size_t before = 0; /* how many were unheard when the block began */
    size_t all = lane->n, n = 0, unheard = 0;
    struct slice *alone;

    lane->items = NULL;
    if (asks && !may_be_heard(s, message_null())) { /* nobody listens to anything */
        tally_unheard(lane, lane->identities, all);
        lane->n = 0;
        return;
    }
    alone = arena_alloc(&lane->arena, all * sizeof *alone);
    for (size_t i = 0; i < all; i++) {
        struct slice identity = lane->identities[i];

        bool plain = asks && convert_is_plain(s->multicast->settings.topic_prefix, identity);

        if (i % BLOCK == 0)
            before = unheard;
        if (plain && (i % BLOCK < SAMPLES || unheard > before) && !may_be_heard(s, identity)) {
            alone[unheard++] = identity;
            continue;
        }
        if (lane->items == NULL) /* written one by one, as a whole */
            lane->items = arena_alloc(&lane->arena, (all - i) * sizeof *lane->items);
        make_item(lane, &lane->items[n], identity, plain);
        lane->identities[n++] = identity;
    }
    lane->n = n;
    s->deaf = asks ? unheard > n : s->deaf;
    tally_unheard(lane, alone, unheard);
}

static void granted(struct semaphore_waiter *waiter)
{
    publish_now(CONTAINER_OF(waiter, struct lane, permit));
}

static void lane_publish(struct lane *lane)
{
    struct sending *s = lane->sending;

    if (s->stopped) {
        give_up(lane);
        return;
    }
    if (lane->attempt == 0)
        make_items(lane);
    if (lane->n == 0) {
        page_over(lane);
    } else if (semaphore_try(&s->multicast->semaphore)) {
        publish_now(lane);
    } else {
        lane->state = LANE_WAITS;
        lane->permit.granted = granted;
        semaphore_wait(&s->multicast->semaphore, &lane->permit);
    }
}

/* When the page may go, so that no more go in a second than the request allows. */
static uint64_t pace(struct sending *s, size_t n)
{
    uint64_t now_ns = s->multicast->base.home->now_ns, at_ns;

    if (s->request->_rate_per_second_case == 0)
        return now_ns;
    at_ns = s->paced_ns < now_ns ? now_ns : s->paced_ns;
    s->paced_ns = at_ns + n * sending_each_ns(s);
    return at_ns;
}

/* ---- fetching ---- */

static void wake_lanes(struct sending *s)
{
    for (int i = 0; i < LANES; i++) {
        if (s->lanes[i].state == LANE_WANTS_PAGE)
            lane_next(&s->lanes[i]);
    }
}

/* Another lane may have waited for this one's page to end. unheard: counted already. */
static void fetched(struct lane *lane, size_t unheard)
{
    struct sending *s = lane->sending;
    uint64_t at_ns;

    s->fetching = false;
    s->tally.targets += (int32_t)(lane->n + unheard);
    tally_counts(s, 0, unheard);
    lane->attempt = 0;
    lane->state = LANE_PACED;
    wake_lanes(s);
    if (lane->n + unheard == 0) {
        lane_next(lane);
        return;
    }
    lane->began_ns = s->multicast->base.home->now_ns;
    lane->clock_ns = clock_now_ns();
    at_ns = pace(s, lane->n);
    if (at_ns > lane->began_ns)
        lane_wait(lane, at_ns);
    else
        lane_publish(lane);
}

static void walk_failed(struct sending *s, struct err err)
{
    s->broken = true;
    if (s->err.code == ERR_OK)
        s->err = sending_keep_err(s, err);
}

static void prepare(struct lane *lane, size_t room)
{
    lane->n = 0;
    lane->identities = arena_alloc(&lane->arena, room * sizeof *lane->identities);
}

static void paged(struct op *op)
{
    struct lane *lane = CONTAINER_OF(op, struct lane, page.op);
    struct sending *s = lane->sending;
    const struct registry_page *page = &lane->page;

    prepare(lane, page->n);
    if (op->err.code != ERR_OK) {
        walk_failed(s, op->err);
        fetched(lane, 0);
        return;
    }
    for (size_t i = 0; i < page->n; i++)
        lane->identities[lane->n++] = page->entries[i].identity;
    s->exhausted = !page->more;
    if (page->more) {
        s->after_len = page->next.len;
        memcpy(s->after, page->next.data, page->next.len);
    }
    s->deaf = lane->asked ? page->unwanted > page->n : s->deaf;
    fetched(lane, page->unwanted);
}

/* While the registry goes along its own memory, what nobody hears is not even copied. */
static bool wanted(const struct registry_page *page, struct slice identity)
{
    const struct sending *s = CONTAINER_OF(page, struct lane, page)->sending;

    return !convert_is_plain(s->multicast->settings.topic_prefix, identity) ||
           may_be_heard(s, identity);
}

/* Not of all where most are heard, nor where each is told, nor of what goes later. */
static bool asks_at_once(const struct sending *s)
{
    return s->asks && s->multicast->plan.registry->heeds_wanted && tally_only_counts(s) &&
           s->request->_rate_per_second_case == 0 && (s->deaf || !may_be_heard(s, message_null()));
}

static void fetch_page(struct lane *lane)
{
    struct sending *s = lane->sending;

    lane->asked = asks_at_once(s);
    lane->page =
        (struct registry_page){.filter = s->filter,
                               .after = arena_copy(&lane->arena, slice_of(s->after, s->after_len)),
                               .max_items = (uint32_t)s->page_items,
                               .wanted = lane->asked ? wanted : NULL};
    op_start(&lane->page.op, &s->group, paged);
    lane->page.op.arena = &lane->arena;
    s->multicast->plan.registry->page(s->multicast->registry, &lane->page);
}

bool walk_matches(const struct sending *s, const struct registry_entry *entry)
{
    const struct filter_subject subject = {
        .identity = entry->identity, .document = entry->document, .tags = entry->tags};

    return entry->generation != 0 && (s->filter == NULL || filter_match(s->filter, &subject));
}

static void got(struct op *op)
{
    struct lane *lane = CONTAINER_OF(op, struct lane, get.op);
    struct sending *s = lane->sending;

    prepare(lane, lane->get.n);
    if (op->err.code != ERR_OK) {
        walk_failed(s, op->err);
        fetched(lane, 0);
        return;
    }
    for (size_t i = 0; i < lane->get.looked_up; i++) {
        if (walk_matches(s, &lane->get.entries[i]))
            lane->identities[lane->n++] = lane->get.entries[i].identity;
    }
    lane->from->next += lane->get.looked_up;
    if (lane->from == &s->named)
        s->exhausted = s->named.next == s->named.n;
    fetched(lane, 0);
}

static void fetch_named(struct lane *lane, struct names *from)
{
    struct sending *s = lane->sending;
    size_t left = from->n - from->next;

    lane->asked = false;
    lane->from = from;
    lane->get = (struct registry_get){.identities = from->items + from->next,
                                      .n = left < s->page_items ? left : s->page_items,
                                      .max_bytes = REGISTRY_SLICE_BYTES,
                                      .with_documents = s->filter != NULL};
    op_start(&lane->get.op, &s->group, got);
    lane->get.op.arena = &lane->arena;
    s->multicast->plan.registry->get(s->multicast->registry, &lane->get);
}

static void lane_next(struct lane *lane)
{
    struct sending *s = lane->sending;

    lane->state = LANE_WANTS_PAGE;
    if (s->fetching || checkpoint_holds(s))
        return;
    if (s->stopped || s->broken || (s->exhausted && s->again.next == s->again.n)) {
        lane_idle(lane);
        return;
    }
    s->fetching = true;
    lane->state = LANE_FETCHING;
    lane->n_results = 0;
    arena_clear(&lane->arena);
    if (s->again.next < s->again.n)
        fetch_named(lane, &s->again);
    else if (s->named.items != NULL)
        fetch_named(lane, &s->named);
    else
        fetch_page(lane);
}

/* ---- for multicast.c ---- */

static void time_is_up(struct timer *timer)
{
    walk_stop(CONTAINER_OF(timer, struct sending, expiry),
              err_make(ERR_DEADLINE_EXCEEDED, "the multicast's time is over"));
}

/* A topic of ours has one level behind a prefix that ends with a dot. */
static bool may_ask(const struct sending *s)
{
    struct slice prefix = s->multicast->settings.topic_prefix;

    return !s->kept && !s->multicast->plan.one_topic &&
           s->multicast->plan.topic->may_be_heard != NULL &&
           (prefix.len == 0 || prefix.data[prefix.len - 1] == '.');
}

/* All lanes count as busy until each has begun: one that finds nothing must not end the walk. */
void walk_start(struct sending *s)
{
    for (int i = 0; i < LANES; i++) {
        s->lanes[i].sending = s;
        s->lanes[i].state = LANE_WANTS_PAGE;
        arena_init(&s->lanes[i].arena, NULL);
    }
    s->asks = may_ask(s);
    s->group.idle = over;
    op_group_enter(&s->group); /* until all lanes are idle */
    if (s->group.deadline_ns != call_group(s->call)->deadline_ns)
        timer_arm(timers_of(s), &s->expiry, s->group.deadline_ns, time_is_up);
    lane_next(&s->lanes[0]);
}

void walk_reported(struct lane *lane)
{
    lane_next(lane);
}

void walk_go_on(struct sending *s)
{
    op_group_enter(&s->group);
    wake_lanes(s);
    op_group_leave(&s->group);
}

/* A lane that waits, for its time or for a permit, has nothing under way that would end by itself.
 */
static bool stop_waiting(struct lane *lane)
{
    struct sending *s = lane->sending;

    if (lane->state == LANE_WAITS)
        return semaphore_leave(&s->multicast->semaphore, &lane->permit);
    if (lane->state != LANE_PACED || !timer_armed(&lane->timer))
        return false;
    timer_disarm(timers_of(s), &lane->timer);
    return true;
}

void walk_stop(struct sending *s, struct err why)
{
    if (s->stopped)
        return;
    s->stopped = true;
    if (s->err.code == ERR_OK)
        s->err = why;
    op_group_enter(&s->group);
    op_group_cancel(&s->group, why);
    for (int i = 0; i < LANES; i++) {
        if (stop_waiting(&s->lanes[i]))
            give_up(&s->lanes[i]);
    }
    if (!s->fetching) /* a checkpoint is not waited for */
        wake_lanes(s);
    op_group_leave(&s->group);
}
