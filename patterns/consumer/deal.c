/* Who gets what is ready: members take equal shares of it, in turns. */
#include "patterns/consumer/feed.h"
#include "patterns/consumer/member.h"

#include "pool/worker.h"
#include "src/base/container.h"

/* ahead: behind frames that are on their way. Nothing follows over. */
static bool takes(const struct member *member, bool ahead)
{
    if (member->over_sent || (member->n_frames > 0) != ahead || member_room(member) == 0)
        return false;
    return !ahead || member_room_ahead(member) > 0;
}

static size_t share_of(const struct feed *feed, bool ahead)
{
    size_t takers = 0;

    for (const struct member *member = feed->members; member != NULL; member = member->next)
        takers += takes(member, ahead);
    return takers > 0 ? (feed->ready_count + takers - 1) / takers : 0;
}

/* The first one goes last, so that all begin in turns. */
static void rotate(struct feed *feed)
{
    struct member *first = feed->members;

    if (first == NULL || first->next == NULL)
        return;
    feed->members = first->next;
    first->next = NULL;
    *feed->members_end = first;
    feed->members_end = &first->next;
}

static void held_enough(struct timer *timer)
{
    feed_wake(CONTAINER_OF(timer, struct feed, frames));
}

static void look_at_frames(struct feed *feed, uint64_t at_ns)
{
    struct timer_wheel *timers = &feed->consumer->base.home->timers;

    if (timer_armed(&feed->frames) && feed->frames_at_ns <= at_ns)
        return;
    timer_disarm(timers, &feed->frames);
    feed->frames_at_ns = at_ns;
    timer_arm(timers, &feed->frames, at_ns, held_enough);
}

/* Its frame may become fuller, and it allows to wait for that. */
static bool holds_back(struct member *member, size_t share)
{
    uint64_t now = member->feed->consumer->base.home->now_ns, full = member_room(member);

    if (full > member->max_frame_messages)
        full = member->max_frame_messages;
    if (member->max_wait_ns == 0 || share == 0 || share >= full || member_has_news(member)) {
        member->waits_since_ns = 0;
        return false;
    }
    if (member->waits_since_ns == 0)
        member->waits_since_ns = now;
    if (now >= member->waits_since_ns + member->max_wait_ns) {
        member->waits_since_ns = 0;
        return false;
    }
    look_at_frames(member->feed, member->waits_since_ns + member->max_wait_ns);
    return true;
}

/* What nobody takes who has nothing on its way: in full frames, so that messages still gather while
 * they come slower than they are written. */
static bool deal_ahead(struct feed *feed)
{
    size_t share = feed->opened && feed->ready_count > 0 ? share_of(feed, true) : 0;
    bool dealt = false;

    for (struct member *member = feed->members; share > 0 && member != NULL;
         member = member->next) {
        unsigned before = member->n_frames;

        if (takes(member, true) && member_fills_frame(member, share))
            member_send(member, share);
        dealt |= member->n_frames > before;
    }
    return dealt;
}

void feed_deal(struct feed *feed)
{
    size_t share = share_of(feed, false);

    for (struct member *member = feed->members; member != NULL; member = member->next) {
        if (member->over_sent || member->n_frames > 0 || holds_back(member, share))
            continue;
        if (member_has_news(member) || (share > 0 && feed->opened))
            member_send(member, feed->opened ? share : 0);
    }
    while (deal_ahead(feed))
        ;
    rotate(feed);
}
