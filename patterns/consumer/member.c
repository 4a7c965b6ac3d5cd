/* Members: how they join and leave, and what they are told besides messages. */
#include "patterns/consumer/member.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <stdlib.h>

static void notes_init(struct notes *notes)
{
    *notes = (struct notes){.end = &notes->first};
}

void member_note(struct member *member, struct notes *notes, void *message)
{
    struct note *note = arena_alloc(&member->notes_memory, sizeof *note);

    *note = (struct note){.message = message};
    *notes->end = note;
    notes->end = &note->next;
    notes->n++;
}

/* ---- join ---- */

static struct member *new_member(struct outlet *outlet)
{
    const struct member_want *want = &outlet->want;
    struct arena memory;

    arena_init(&memory, NULL);

    struct member *member = arena_zalloc(&memory, sizeof *member);

    member->memory = memory;
    member->feed = outlet->feed;
    member->owes_assigned = outlet->feed->tells_assigned;
    member->outlet = outlet;
    shared_make_id(member->id);
    member->consumer_id = arena_strdup(
        &member->memory, slice_str(want->consumer_id[0] != '\0' ? want->consumer_id : member->id));
    member->topic = arena_strdup(&member->memory, slice_str(want->topic));
    settling_init(&member->settling, want->max_in_flight);
    member->max_frame_messages = want->max_frame_messages;
    member->max_frame_bytes = want->max_frame_bytes;
    member->max_in_flight_bytes = want->max_in_flight_bytes;
    member->max_inline_bytes = want->max_inline_bytes;
    member->lease_ms = want->lease_ms;
    member->max_wait_ns = want->max_wait_ms * NS_PER_MS;
    member->automatic = want->automatic;
    member->ack_tokens = want->ack_tokens;
    arena_init(&member->notes_memory, &member->feed->consumer->base.home->arenas);
    failures_init(&member->failures);
    notes_init(&member->revoked);
    notes_init(&member->gaps);
    notes_init(&member->extended);
    return member;
}

/* One that comes later shares what the first one asked for. */
static struct err fits(const struct feed *feed, const struct feed_want *want)
{
    if (feed->closed)
        return feed->end.code != ERR_OK ? feed->end
                                        : err_make(ERR_UNAVAILABLE, "the subscription has ended");
    if (!feed->opening)
        return ERR_NONE;
    if (feed->order != want->order)
        return err_about(ERR_FAILED_PRECONDITION, "order",
                         "the group is read in another order on this server");
    if ((want->start != START_COMMITTED || want->n_places > 0) && feed->from->queue == NULL)
        return err_about(ERR_FAILED_PRECONDITION, "start",
                         "the group is being read: it goes on where it stands; use Seek");
    if (feed->subscription.want.on_gap != want->on_gap)
        return err_about(ERR_FAILED_PRECONDITION, "on_gap",
                         "the group is read with another policy for gaps on this server");
    return ERR_NONE;
}

/* Of two streams with the same name the newer one takes over. */
static void replace(struct feed *feed, const char *consumer_id)
{
    struct err replaced = err_make(ERR_ABORTED, "a newer stream of this consumer_id took over");

    for (struct member *member = feed->members; member != NULL; member = member->next) {
        if (strcmp(member->consumer_id, consumer_id) == 0)
            member_end(member, replaced, false);
    }
}

void member_join(struct job *job)
{
    struct outlet *outlet = CONTAINER_OF(job, struct outlet, join);
    struct feed *feed = outlet->feed;
    struct member *member = new_member(outlet);
    struct err err = fits(feed, &outlet->want.feed);

    outlet->member = member;
    if (err.code == ERR_OK && outlet->want.consumer_id[0] != '\0')
        replace(feed, outlet->want.consumer_id);
    *feed->members_end = member;
    feed->members_end = &member->next;
    counter_add(&feed->consumer->stats.subscriptions, 1);
    shared_list(member);
    if (!feed->opening)
        feed_open(feed);
    if (err.code != ERR_OK)
        member_end(member, err, false);
    feed_wake(feed);
}

/* ---- places ---- */

bool member_lost(const struct member *member, uint64_t sequence)
{
    unsigned n = member->n_recent < MEMBER_RECENT ? member->n_recent : MEMBER_RECENT;

    for (unsigned i = 0; i < n; i++) {
        if (member->recent[i] == sequence)
            return true;
    }
    return false;
}

void member_release(struct delivery *delivery)
{
    struct member *member = delivery->member;

    delivery->member = NULL;
    if (member == NULL || !settling_take(&member->settling, member_sequence(member, delivery),
                                         delivery_bytes(delivery)))
        return;
    member->feed->out_count--;
    gauge_lower(&member->feed->consumer->stats.unsettled, 1);
}

void member_revoke(struct delivery *delivery, pb_revoke_reason reason)
{
    struct member *member = delivery->member;
    uint64_t sequence = member_sequence(member, delivery);
    pb_revoked *told = arena_alloc(&member->notes_memory, sizeof *told);

    prism__patterns__consumer__revoked__init(told);
    told->sequences = arena_alloc(&member->notes_memory, sizeof *told->sequences);
    told->sequences[told->n_sequences++] = (int64_t)sequence;
    told->reason = reason;
    member_note(member, &member->revoked, told);
    if (member->recent == NULL)
        member->recent = arena_array(&member->memory, MEMBER_RECENT, sizeof *member->recent);
    member->recent[member->n_recent++ % MEMBER_RECENT] = sequence;
    counter_add(&member->feed->consumer->stats.revoked, 1);
    member_release(delivery);
}

/* ---- leave ---- */

/* What was settled is told before the end, to a client that is there. */
static void send_over(struct member *member)
{
    bool orderly = member->end.code == ERR_OK;

    if (!member->leaving || member->over_sent || member->n_frames > 0)
        return;
    if (orderly && member->receipts > 0)
        return;
    if (orderly && member_has_news(member)) {
        member_send(member, 0);
        return;
    }
    member->over_sent = true;
    member->outlet->end = err_keep(member->end, member->outlet->end_text);
    worker_land(member->outlet->worker, &member->outlet->over);
}

static void give_back(struct delivery *delivery, bool failed)
{
    member_release(delivery);
    if (failed)
        delivery_failed_unsaid(delivery, "delivered max_attempts times; the last member vanished");
    else
        delivery_ready(delivery, true);
}

/* The first message of those that are not written yet. */
static uint64_t first_on_its_way(const struct member *member)
{
    for (unsigned i = 0; i < member->n_frames; i++) {
        const struct frame *frame = member->frames[(member->oldest + i) % CALL_SENDS];

        if (frame->n > 0)
            return (uint64_t)frame->messages[0].sequence;
    }
    return member->settling.next;
}

/* Newest first, so that they stand in front of the others by age. */
static void give_all_back(struct member *member, bool failed)
{
    struct settling *settling = &member->settling;
    uint64_t written = first_on_its_way(member);

    for (uint64_t sequence = settling->next; sequence-- > settling->first;) {
        struct delivery *delivery = settling_find(settling, sequence);

        if (delivery == NULL)
            continue;
        if (delivery->state == DELIVERY_OUT)
            give_back(delivery, failed && sequence < written);
        else if (member->end.code != ERR_OK)
            member_release(delivery);
    }
}

/* Before the first that goes back; settlements under way still count. */
static uint64_t through_of_leaving(const struct member *member)
{
    const struct settling *settling = &member->settling;

    for (uint64_t sequence = settling->first; sequence < settling->next; sequence++) {
        const struct delivery *delivery = settling_find(settling, sequence);

        if (delivery != NULL && delivery->state == DELIVERY_OUT)
            return sequence - 1;
    }
    return settling->next - 1;
}

/* The last one is the feed's end. */
static void leave_feed(struct member *member)
{
    struct feed *feed = member->feed;
    bool last = !member->left && shared_drop_feed(feed);

    member->left = true;
    if (last)
        feed_close(feed);
    else
        feed_wake(feed);
}

/* A member stays until all that it settled has its outcome. One that has vanished leaves its feed
 * before, where dead letters are among that: their slot must not keep from others what it held. */
void member_end(struct member *member, struct err end, bool failed)
{
    if (member->leaving)
        return;
    member->leaving = true;
    member->end = end;
    member->last_through = through_of_leaving(member);
    shared_unlist(member);
    gauge_lower(&member->feed->consumer->stats.subscriptions, 1);
    give_all_back(member, failed);
    send_over(member);
    if (end.code != ERR_OK && member->feed->dying > 0)
        leave_feed(member);
    feed_wake(member->feed);
}

void member_maybe_free(struct member *member)
{
    struct feed *feed = member->feed;
    struct member **at = &feed->members;
    struct outlet *outlet = member->outlet;

    send_over(member);
    if (!member->bye || member->receipts > 0)
        return;
    while (*at != member)
        at = &(*at)->next;
    *at = member->next;
    if (*at == NULL)
        feed->members_end = at;

    leave_feed(member);

    struct arena memory = member->memory;

    failures_clear(&member->failures);
    settling_clear(&member->settling);
    arena_clear(&member->notes_memory);
    arena_clear(&memory);
    worker_land(outlet->worker, &outlet->ended);
}

/* ---- from the outlet ---- */

void member_gone(struct job *job)
{
    struct outlet *outlet = CONTAINER_OF(job, struct outlet, gone);

    member_end(outlet->member, outlet->orderly ? ERR_NONE : outlet->why, !outlet->orderly);
}

void member_drain(struct job *job)
{
    struct outlet *outlet = CONTAINER_OF(job, struct outlet, drain);
    struct member *member = outlet->member;

    member->owes_drain = true;
    feed_drain(member->feed);
    feed_wake(member->feed);
}

void member_sent(struct job *job)
{
    struct frame *frame = CONTAINER_OF(job, struct frame, sent);
    struct outlet *outlet = frame->outlet;
    struct member *member = outlet->member;

    if (frame->err.code != ERR_OK)
        member_end(member, frame->err, true);
    else if (member->automatic)
        settle_frame(member, frame);
    member_clear_frame(member);
    if (member->unheard && (member->leaving || !member_owes_much(member))) {
        member->unheard = false;
        member_hear(member);
    }
    send_over(member);
    feed_wake(member->feed);
}

void member_bye(struct job *job)
{
    struct outlet *outlet = CONTAINER_OF(job, struct outlet, bye);

    outlet->member->bye = true;
    member_maybe_free(outlet->member);
}
