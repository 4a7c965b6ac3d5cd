/* Messages that were handed over too often. Where a slot for dead letters is bound, each is kept
 * there before it leaves its queue:
 *
 *   dead_letter_queue   publish -> stored -> settle DONE
 *                               -> refused, as too large -> once more without its payload
 *                                          refused again -> counted, settle DONE
 *                               -> failed -> again after DEAD_AGAIN_MS, while its identity is
 *                                            attached; then it is given back as it was
 *   no memory for it    given back after DEAD_AGAIN_MS, and it comes again
 *   none                settle DONE
 *
 * The topic is named after the queue, as the Consumer does it: it reads and redrives them.
 *
 * Memory: a copy of each that is being kept, counted for the call (inbox_hold) before it is made.
 * The source has credit again for one that has failed, so that what stands behind it comes: for
 * DYING_MESSAGES of an identity. Those beyond them keep their credit, ATTACHMENT_MESSAGES at most,
 * and once they have all of it nothing comes for this identity until letters are stored. */
#include "patterns/multicast_registry/receiver.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/digest.h"

#include <string.h>

struct dying {
    struct arena arena; /* holds this struct, and the message */
    struct arena trial; /* of a publish */
    struct publish publish;
    struct letter letter;
    struct timer timer;
    struct dying *next, *prev; /* of the receiver */
    struct lead *lead;
    struct delivery *delivery; /* NULL: its lead is closed, and the source has it back */
    size_t bytes;
    bool publishing;
    bool put_off; /* there was no memory for a copy: it is given back */
};

static void publish(struct dying *dying);

static void forget(struct dying *dying)
{
    struct receiver *r = attachment_of(dying->lead)->receiver;
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
    struct dying *dying = CONTAINER_OF(timer, struct dying, timer);
    struct delivery *d = dying->delivery;

    if (!dying->put_off) {
        publish(dying);
        return;
    }
    forget(dying);
    kept_settle(d, SETTLE_RELEASE);
}

static void again_after(struct dying *dying, uint64_t ms)
{
    struct worker *home = attachment_of(dying->lead)->receiver->multicast->base.home;

    timer_arm(&home->timers, &dying->timer, home->now_ns + ms * NS_PER_MS, again);
}

static void failed(struct dying *dying)
{
    if (dying->delivery == NULL) {
        forget(dying);
        return;
    }
    kept_lend(dying->delivery);
    again_after(dying, DEAD_AGAIN_MS);
}

/* It is kept, or never will be. If its lead is closed it will come again, and then there may be two
 * letters of it. */
static void over(struct dying *dying)
{
    struct receiver *r = attachment_of(dying->lead)->receiver;
    struct delivery *d = dying->delivery;

    forget(dying);
    if (d == NULL)
        return;
    count(r);
    kept_settle(d, SETTLE_DONE);
}

static void fare(struct dying *dying, struct err err)
{
    struct letters *letters = &attachment_of(dying->lead)->receiver->multicast->letters;

    if (err.code != ERR_OK && dying->delivery == NULL) { /* its next receiver finds out */
        forget(dying);
        return;
    }
    switch (letters_outcome(letters, &dying->letter, &dying->arena, err)) {
    case LETTER_STORED:
    case LETTER_REFUSED: /* nothing is gained by keeping it from those behind */
        over(dying);
        return;
    case LETTER_FAILED:
        failed(dying);
        return;
    case LETTER_CUT:
        again_after(dying, 0);
        return;
    }
}

static void published(struct op *op)
{
    struct dying *dying = CONTAINER_OF(op, struct dying, publish.op);
    struct lead *lead = dying->lead;
    struct receiver *r = attachment_of(lead)->receiver;
    struct err err = op->err.code != ERR_OK ? op->err : dying->letter.item.err;

    dying->publishing = false;
    fare(dying, err);
    r->settling--;
    lead->settling--;
    attachment_settled(attachment_of(lead));
    receiver_look(r);
}

static void publish(struct dying *dying)
{
    struct receiver *r = attachment_of(dying->lead)->receiver;
    struct multicast *multicast = r->multicast;

    dying->publishing = true;
    r->settling++;
    dying->lead->settling++;
    arena_clear(&dying->trial);
    op_start(&dying->publish.op, &r->parting->group, published);
    dying->publish.op.arena = &dying->trial;
    multicast->plan.dead->publish(multicast->dead, &dying->publish);
}

/* ---- the letter ---- */

/* A topic of the queue's name, as the Consumer names that of a topic and a group; or of the
 * identity's digest, where that would be too long. */
static struct slice letters_of(const struct lead *lead, struct arena *arena, struct slice group)
{
    const struct receiver *r = attachment_of(lead)->receiver;
    struct slice queue = lead->subscription.want.topic;
    struct slice name = dead_letter_topic(arena, queue, group, DEAD_LETTER_SUFFIX);
    struct slice identity = attachment_identity(attachment_of(lead));
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
    const struct multicast *multicast = attachment_of(lead)->receiver->multicast;
    struct slice group =
        multicast->plan.dead_in_stream ? slice_str(MULTICAST_GROUP) : message_empty();
    const struct incoming *kept = copy(&dying->arena, message);

    dying->letter.death = (struct death){
        .message = kept,
        .to = letters_of(lead, &dying->arena, group),
        .payload = kept->payload,
        .group = group,
        .id = travel_id(kept),
        .identity = arena_copy(&dying->arena, attachment_identity(attachment_of(lead))),
        .deliveries = kept->attempt - 1, /* this one will not be made */
        .reason = arena_printf(&dying->arena, "handed over %u times without being confirmed",
                               multicast->settings.max_deliveries),
    };
    dead_letter_fill(&dying->letter.item, &dying->arena, &dying->letter.death);
    dying->publish.items = &dying->letter.item;
    dying->publish.n = 1;
}

static size_t bytes_of(const struct incoming *message)
{
    return sizeof(struct dying) + message->topic.len + message->id.len + message_in_bytes(message) +
           message->n_headers * sizeof *message->headers;
}

/* Taken, and in the receiver's list. */
static struct dying *take(struct lead *lead, const struct incoming *message)
{
    struct receiver *r = attachment_of(lead)->receiver;
    struct arena arena;
    struct dying *dying;

    arena_init(&arena, NULL);
    dying = arena_zalloc(&arena, sizeof *dying);
    dying->arena = arena;
    arena_init(&dying->trial, NULL);
    dying->lead = lead;
    dying->delivery = kept_take(lead, message);
    dying->next = r->dying;
    if (r->dying != NULL)
        r->dying->prev = dying;
    r->dying = dying;
    return dying;
}

void kept_give_up(struct lead *lead, const struct incoming *message)
{
    struct receiver *r = attachment_of(lead)->receiver;
    size_t bytes = bytes_of(message);
    struct dying *dying;
    struct err err;

    if (r->multicast->plan.dead == NULL) {
        count(r);
        kept_discard(lead, message);
        return;
    }
    dying = take(lead, message);
    r->dying_bytes += bytes;
    err = inbox_hold(r);
    if (err.code == ERR_OK) {
        dying->bytes = bytes;
        fill(dying, message);
        publish(dying);
        return;
    }
    r->dying_bytes -= bytes;
    dying->put_off = true;
    letters_fail(&r->multicast->letters, err);
    again_after(dying, DEAD_AGAIN_MS);
}

void given_up_let_go(struct lead *lead)
{
    struct receiver *r = attachment_of(lead)->receiver;

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
