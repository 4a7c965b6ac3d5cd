/* Messages that were handed over too often. Where a slot for dead letters is bound, each is kept
 * there before it leaves its queue:
 *
 *   dead_letter_queue   publish -> stored -> settle DONE
 *                               -> failed -> again after DEAD_AGAIN_MS, while its identity is
 *                                            attached; then it is given back as it was
 *   none                settle DONE
 *
 * The topic is named after the queue, as the Consumer does it: it reads and redrives them.
 *
 * Memory: a copy of each that is being kept, counted for the call (inbox_hold). An identity has as
 * many of them as it has credit. */
#include "patterns/multicast_registry/receiver.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/digest.h"
#include "src/base/log.h"

#include <string.h>

struct dying {
    struct arena arena; /* holds this struct, and the message */
    struct arena trial; /* of a publish */
    struct publish publish;
    struct outgoing item;
    struct timer timer;
    struct dying *next, *prev; /* of the receiver */
    struct lead *lead;
    struct delivery *delivery; /* NULL: its lead is closed, and the source has it back */
    size_t bytes;
    bool publishing;
};

static void publish(struct dying *dying);

static void forget(struct dying *dying)
{
    struct receiver *r = dying->lead->attachment->receiver;
    struct arena arena = dying->arena;

    if (dying->prev != NULL)
        dying->prev->next = dying->next;
    else
        r->dying = dying->next;
    if (dying->next != NULL)
        dying->next->prev = dying->prev;
    r->dying_bytes -= dying->bytes;
    (void)inbox_hold(r);
    arena_clear(&dying->trial);
    arena_clear(&arena);
}

static void count(struct receiver *r)
{
    counter_add(&r->multicast->stats.given_up, 1);
    inbox_lost(r, 1, DROP_GIVEN_UP);
}

/* ---- publishing ---- */

static void again(struct timer *timer)
{
    publish(CONTAINER_OF(timer, struct dying, timer));
}

static void failed(struct dying *dying, struct err err)
{
    struct multicast *multicast = dying->lead->attachment->receiver->multicast;
    struct worker *home = multicast->base.home;

    counter_add(&multicast->stats.dead_letter_failures, 1);
    trouble_met(&multicast->dead_trouble, "dead letters cannot be written");
    log_limited(&multicast->dead_log, LOG_WARN, "dead_letter_failed",
                (const struct log_field[]){LOG_S("namespace", multicast->base.namespace_name),
                                           LOG_S("error", err.text)},
                2);
    if (dying->delivery == NULL)
        forget(dying);
    else
        timer_arm(&home->timers, &dying->timer, home->now_ns + DEAD_AGAIN_MS * NS_PER_MS, again);
}

/* If its lead is closed it will come again, and then there are two letters of it. */
static void stored(struct dying *dying)
{
    struct receiver *r = dying->lead->attachment->receiver;
    struct delivery *d = dying->delivery;

    counter_add(&r->multicast->stats.dead_letters, 1);
    trouble_over(&r->multicast->dead_trouble);
    forget(dying);
    if (d == NULL)
        return;
    count(r);
    kept_settle(d, SETTLE_DONE);
}

static void published(struct op *op)
{
    struct dying *dying = CONTAINER_OF(op, struct dying, publish.op);
    struct lead *lead = dying->lead;
    struct receiver *r = lead->attachment->receiver;
    struct err err = op->err.code != ERR_OK ? op->err : dying->item.err;

    dying->publishing = false;
    if (err.code != ERR_OK)
        failed(dying, err);
    else
        stored(dying);
    r->settling--;
    lead->settling--;
    attachment_settled(lead->attachment);
    receiver_look(r);
}

static void publish(struct dying *dying)
{
    struct receiver *r = dying->lead->attachment->receiver;
    struct multicast *multicast = r->multicast;

    dying->publishing = true;
    r->settling++;
    dying->lead->settling++;
    arena_clear(&dying->trial);
    op_start(&dying->publish.op, &r->parting, published);
    dying->publish.op.arena = &dying->trial;
    multicast->plan.dead->publish(multicast->dead, &dying->publish);
}

/* ---- the letter ---- */

/* A topic of the queue's name, as the Consumer names that of a topic and a group; or of the
 * identity's digest, where that would be too long. */
static struct slice letters_of(const struct lead *lead, struct arena *arena, struct slice group)
{
    const struct receiver *r = lead->attachment->receiver;
    struct slice queue = slice_of(lead->topic.bytes, lead->topic.len);
    struct slice name = dead_letter_topic(arena, queue, group, DEAD_LETTER_SUFFIX);
    struct slice identity = attachment_identity(lead->attachment);
    struct slice prefix = r->multicast->settings.queue_prefix;
    struct digest digest;
    char hex[DIGEST_HEX];

    if (name.len <= MESSAGE_TOPIC_BYTES)
        return name;
    digest = digest_of(&identity, 1);
    digest_hex(&digest, hex);
    return slice_str(arena_printf(arena, "%.*s__%.*s" DEAD_LETTER_SUFFIX, (int)prefix.len,
                                  (const char *)prefix.data, (int)sizeof hex, hex));
}

static struct incoming *copy(struct arena *arena, const struct incoming *message)
{
    struct incoming *to = arena_alloc(arena, sizeof *to);
    struct header *headers = arena_array(arena, message->n_headers, sizeof *headers);

    *to = *message;
    to->block = NULL;
    to->topic = message_copy(arena, message->topic);
    to->key = message_copy(arena, message->key);
    to->id = message_copy(arena, message->id);
    to->payload = message_copy(arena, message->payload);
    to->headers = headers;
    for (size_t i = 0; i < message->n_headers; i++)
        headers[i] = (struct header){.name = message_copy(arena, message->headers[i].name),
                                     .value = message_copy(arena, message->headers[i].value)};
    return to;
}

static void fill(struct dying *dying, const struct incoming *message)
{
    struct lead *lead = dying->lead;
    const struct multicast *multicast = lead->attachment->receiver->multicast;
    struct slice group =
        multicast->plan.dead_in_stream ? slice_str(MULTICAST_GROUP) : message_empty();
    const struct incoming *kept = copy(&dying->arena, message);
    const struct death death = {
        .message = kept,
        .to = letters_of(lead, &dying->arena, group),
        .payload = kept->payload,
        .group = group,
        .id = travel_id(kept),
        .identity = arena_copy(&dying->arena, attachment_identity(lead->attachment)),
        .reason = arena_printf(&dying->arena, "handed over %u times without being confirmed",
                               multicast->settings.max_deliveries),
    };

    dead_letter_fill(&dying->item, &dying->arena, &death);
    dying->bytes = message_out_bytes(&dying->item);
    dying->publish.items = &dying->item;
    dying->publish.n = 1;
}

void kept_give_up(struct lead *lead, const struct incoming *message)
{
    struct receiver *r = lead->attachment->receiver;
    struct arena arena;
    struct dying *dying;

    if (r->multicast->plan.dead == NULL) {
        count(r);
        kept_discard(lead, message);
        return;
    }
    arena_init(&arena, NULL);
    dying = arena_zalloc(&arena, sizeof *dying);
    dying->arena = arena;
    arena_init(&dying->trial, NULL);
    dying->lead = lead;
    dying->delivery = kept_take(lead, message);
    fill(dying, message);
    dying->next = r->dying;
    if (r->dying != NULL)
        r->dying->prev = dying;
    r->dying = dying;
    r->dying_bytes += dying->bytes;
    (void)inbox_hold(r);
    publish(dying);
}

void given_up_let_go(struct lead *lead)
{
    struct receiver *r = lead->attachment->receiver;

    for (struct dying *dying = r->dying, *next; dying != NULL; dying = next) {
        next = dying->next;
        if (dying->lead != lead || dying->delivery == NULL)
            continue;
        kept_forget(dying->delivery);
        dying->delivery = NULL;
        if (dying->publishing)
            continue;
        timer_disarm(&r->multicast->base.home->timers, &dying->timer);
        forget(dying);
    }
}
