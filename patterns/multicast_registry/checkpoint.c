/* While a multicast lasts, its record is written anew: so the lease goes on, and whoever repeats
 * the message_id after this server has died goes on where the record says.
 *
 *   checkpoint   once CHECKPOINT_PAGES have been sent since the last one, or something in
 *                CHECKPOINT_MS: lanes that want a page wait until none has one under way. Then the
 *                position is one behind which nobody has got anything, and the counts are those of
 *                all before it. They go on when it is written
 *   renewal      every RENEW_MS in which there was no checkpoint: the last one again, or a new one
 *                if no page is under way (the answer waits for confirmations, say)
 *
 *   get -> ours      put_if version
 *       -> gone      put_if absent
 *       -> another's the sending stops
 *       -> failed    the lanes go on while the lease lasts. Then they wait, since another may have
 *                    begun, and AGAIN_MS later it is tried again
 *
 * So who repeats it sends CHECKPOINT_PAGES, and one more for each lane, to those who have them, at
 * most; more if checkpoints could not be written. A multicast of one page, or one that ends sooner,
 * writes nothing here. */
#include "patterns/multicast_registry/checkpoint.h"

#include "patterns/multicast_registry/record.h"
#include "patterns/multicast_registry/remember.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <string.h>

enum { CHECKPOINT_MS = 2000, CHECKPOINT_PAGES = 16, RENEW_MS = 5000, AGAIN_MS = 1000 };

static uint64_t now_of(const struct sending *s)
{
    return s->multicast->base.home->now_ns;
}

/* ---- when ---- */

static bool is_quiet(const struct sending *s)
{
    for (int i = 0; i < LANES; i++) {
        if (s->lanes[i].state != LANE_IDLE && s->lanes[i].state != LANE_WANTS_PAGE)
            return false;
    }
    return true;
}

static bool is_due(const struct sending *s)
{
    const struct remembered *r = &s->remembered;
    uint64_t sent = (uint64_t)(s->tally.targets - r->noted);

    return sent >= CHECKPOINT_PAGES * s->page_items ||
           (now_of(s) >= r->next_ns && (sent > 0 || s->after_len > 0));
}

/* ---- writing ---- */

static void renew(struct timer *timer);

static void wait(struct sending *s, uint64_t ms)
{
    timer_arm(&s->multicast->base.home->timers, &s->remembered.renewal, now_of(s) + ms * NS_PER_MS,
              renew);
}

static void put_again(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.put_if.op);
    struct remembered *r = &s->remembered;
    struct slice version = r->put_if.current_version;

    if (op->err.code != ERR_OK || !r->put_if.stored || version.len > sizeof r->version_room)
        return;
    memcpy(r->version_room, version.data, version.len);
    r->version = slice_of(r->version_room, version.len);
    r->unsure = false;
    r->until_ns = r->keeping_ns + LEASE_MS * NS_PER_MS;
}

static void got_ours(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.get.op);
    struct remembered *r = &s->remembered;

    r->taken = op->err.code == ERR_OK && r->get.found && !record_is_ours(s);
    if (r->ending && r->taken)
        counter_add(&s->multicast->stats.forgotten, 1);
    if (op->err.code != ERR_OK || r->taken)
        return;
    r->put_if = (struct kv_put_if){.key = r->key,
                                   .value = r->open,
                                   .ttl_ms = LEASE_MS + s->multicast->settings.memory_ms,
                                   .condition = r->get.found ? KV_IF_VERSION : KV_IF_ABSENT,
                                   .version = r->get.found ? r->get.version : slice_of("", 0)};
    op_start(&r->put_if.op, &r->group, put_again);
    r->put_if.op.arena = &r->memory;
    s->multicast->plan.memory->kv_cas->put_if(s->multicast->registry, &r->put_if);
}

static void keep(struct sending *s);

/* The lanes that wait go on, unless it was a renewal that they have waited for. */
static void go_on(struct sending *s)
{
    struct remembered *r = &s->remembered;

    if (r->holds && !r->fresh && is_quiet(s)) {
        keep(s);
    } else if (!r->holds || !r->fresh) {
        wait(s, RENEW_MS);
    } else if (r->unsure && now_of(s) >= r->until_ns) {
        wait(s, AGAIN_MS);
    } else {
        r->holds = false;
        wait(s, RENEW_MS);
        walk_go_on(s);
    }
}

static void kept(struct op_group *group)
{
    struct sending *s = CONTAINER_OF(group, struct sending, remembered.group);
    struct remembered *r = &s->remembered;

    arena_clear(&r->memory);
    if (r->fresh) {
        r->noted = s->tally.targets;
        r->next_ns = now_of(s) + CHECKPOINT_MS * NS_PER_MS;
    }
    if (r->ending) {
        arena_clear(&r->record);
        remember_ended(s);
    } else if (r->taken) {
        if (!awaiting_stop(s, remember_taken())) /* no walk is under way then */
            walk_stop(s, remember_taken());
    } else {
        go_on(s);
    }
}

static void keep(struct sending *s)
{
    struct remembered *r = &s->remembered;

    timer_disarm(&s->multicast->base.home->timers, &r->renewal);
    r->fresh = is_quiet(s);
    if (r->fresh) {
        arena_clear(&r->record);
        r->open = record_open(s, &r->record);
    }
    remember_group(s, kept);
    r->unsure = true; /* until it is known what became of it */
    r->keeping_ns = now_of(s);
    remember_get(s, got_ours, &r->memory);
}

static void renew(struct timer *timer)
{
    keep(CONTAINER_OF(timer, struct sending, remembered.renewal));
}

/* ---- for remember.c and walk.c ---- */

void checkpoint_begin(struct sending *s)
{
    struct remembered *r = &s->remembered;

    arena_init(&r->memory, NULL);
    arena_init(&r->record, NULL);
    r->noted = s->tally.targets;
    r->next_ns = now_of(s) + CHECKPOINT_MS * NS_PER_MS;
    wait(s, RENEW_MS);
}

bool checkpoint_end(struct sending *s)
{
    struct remembered *r = &s->remembered;

    timer_disarm(&s->multicast->base.home->timers, &r->renewal);
    r->ending = r->group.pending > 0;
    if (!r->ending)
        arena_clear(&r->record);
    return r->ending;
}

/* Nothing is written when there is no more to be sent: the end is. */
bool checkpoint_holds(struct sending *s)
{
    struct remembered *r = &s->remembered;

    if (!r->claimed || s->stopped || s->broken || (s->exhausted && s->again.next == s->again.n))
        return false;
    r->holds = r->holds || is_due(s);
    if (r->holds && r->group.pending == 0 && is_quiet(s))
        keep(s);
    return r->holds;
}
