#include "patterns/consumer/object.h"

#include "patterns/messaging/claim_gzip.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/random.h"

/* A payload, and the operation that gets it. */
struct object {
    struct arena memory; /* holds this struct and the payload */
    struct arena packed; /* what is stored, until it is inflated */
    struct claim_gzip gzip;
    struct slice payload;
    bool damaged; /* it is not what the claim names, whatever its digest */
    struct feed *feed;
    struct delivery *delivery; /* while it is asked for */
    struct kv_get get;
    struct kv_room room;
    size_t bytes;  /* as held */
    unsigned refs; /* the delivery's, and one for each frame */
};

/* ---- claims ---- */

struct claim *object_claim(struct arena *arena, const struct incoming *message)
{
    struct slice name = slice_str(CLAIM_HEADER);
    struct claim claim, *copy;

    for (size_t i = 0; i < message->n_headers && message->payload.len == 0; i++) {
        if (!slice_equal(message->headers[i].name, name) ||
            !claim_read(message->headers[i].value, &claim))
            continue;
        copy = arena_alloc(arena, sizeof *copy);
        *copy = claim;
        return copy;
    }
    return NULL;
}

bool object_is_wanted(const struct member *member, const struct delivery *delivery)
{
    return claim_of(delivery) != NULL && object_of(delivery) == NULL && !member->feed->letters &&
           member->feed->consumer->plan.object != NULL &&
           claim_of(delivery)->size <= member->max_inline_bytes;
}

/* ---- memory ---- */

static void count_held(struct feed *feed, size_t bytes)
{
    feed->held += bytes;
    feed->object_bytes += bytes;
    counter_add(&feed->consumer->stats.held_bytes, bytes);
}

static void lower_held(struct object *object, size_t bytes)
{
    struct feed *feed = object->feed;

    object->bytes -= bytes;
    feed->held -= bytes;
    feed->object_bytes -= bytes;
    gauge_lower(&feed->consumer->stats.held_bytes, bytes);
}

static void free_object(struct object *object)
{
    struct feed *feed = object->feed;
    struct arena memory;

    lower_held(object, object->bytes);
    arena_clear(&object->packed);
    memory = object->memory;
    arena_clear(&memory);
    feed_wake(feed);
}

struct object *object_ref(struct object *object)
{
    if (object != NULL)
        object->refs++;
    return object;
}

void object_unref(struct object *object)
{
    if (object != NULL && --object->refs == 0)
        free_object(object);
}

void object_release(struct delivery *delivery)
{
    if (object_of(delivery) == NULL)
        return;
    message_of(delivery)->payload = message_empty();
    object_unref(object_of(delivery));
    more_of(delivery)->object = NULL;
}

/* Both forms, where there are two. */
static uint64_t bytes_of(const struct claim *claim)
{
    return claim->size + claim->stored;
}

static bool has_room(const struct feed *feed, uint64_t bytes)
{
    const struct consumer_settings *settings = &feed->consumer->settings;

    if (feed->object_bytes == 0)
        return true;
    return feed->held + bytes <= settings->max_group_bytes &&
           feed->consumer->held + bytes <= settings->max_message_memory;
}

/* ---- waiting for room ---- */

static void wait_for_room(struct delivery *delivery)
{
    struct feed *feed = parcel_of(delivery)->feed;

    delivery->next = NULL;
    *feed->claims_end = delivery;
    feed->claims_end = &delivery->next;
    feed_wake(feed);
}

void object_fetch(struct delivery *delivery)
{
    delivery->state = DELIVERY_FETCHING;
    parcel_of(delivery)->feed->fetching++;
    wait_for_room(delivery);
}

/* The last one that has waited for the store no longer does. */
static void no_longer_troubled(struct delivery *delivery)
{
    struct consumer *consumer = parcel_of(delivery)->feed->consumer;

    if (more_of(delivery)->vain == 0)
        return;
    more_of(delivery)->vain = 0;
    if (--consumer->troubled == 0)
        trouble_over(&consumer->object_trouble);
}

static void over(struct delivery *delivery)
{
    parcel_of(delivery)->feed->fetching--;
    no_longer_troubled(delivery);
}

bool object_take_out(struct delivery *delivery)
{
    struct feed *feed = parcel_of(delivery)->feed;
    struct delivery **at = &feed->claims;

    if (object_of(delivery) != NULL)
        return false;
    over(delivery);
    if (timer_armed(&more_of(delivery)->timer)) {
        timer_disarm(&feed->consumer->base.home->timers, &more_of(delivery)->timer);
        return true;
    }
    while (*at != delivery)
        at = &(*at)->next;
    *at = delivery->next;
    if (*at == NULL)
        feed->claims_end = at;
    return true;
}

/* ---- getting ---- */

static void again(struct timer *timer)
{
    wait_for_room(CONTAINER_OF(timer, struct delivery_more, timer)->delivery);
}

static uint64_t delay_ms(struct delivery *delivery)
{
    uint64_t ms = OBJECT_AGAIN_MS;

    for (unsigned i = 1; i < more_of(delivery)->vain && ms < OBJECT_AGAIN_MAX_MS; i++)
        ms *= 2;
    return random_delay(&parcel_of(delivery)->feed->consumer->random, ms);
}

static void failed(struct delivery *delivery, struct err err)
{
    struct consumer *consumer = parcel_of(delivery)->feed->consumer;
    struct worker *home = consumer->base.home;
    struct delivery_more *more = more_of(delivery);

    counter_add(&consumer->stats.object_failures, 1);
    trouble_met(&consumer->object_trouble, trouble_of_objects(err));
    consumer->troubled += more->vain == 0;
    if (more->vain < UINT8_MAX)
        more->vain++;
    log_limited(&consumer->object_log, LOG_WARN, "object_not_fetched",
                (const struct log_field[]){LOG_S("namespace", consumer->base.namespace_name),
                                           LOG_S("error", err.text)},
                2);
    object_release(delivery);
    timer_arm(&home->timers, &more->timer, home->now_ns + delay_ms(delivery) * NS_PER_MS, again);
}

static void die(struct delivery *delivery, const char *reason)
{
    over(delivery);
    object_release(delivery);
    delivery_die(delivery, delivery_made_before(delivery), reason, NULL);
}

/* The get is over, and so is what makes the payload of what it has brought. */
static void ended(struct object *object)
{
    struct delivery *delivery = object->delivery;
    struct feed *feed = object->feed;

    feed->getting--;
    feed_wake(feed);
    if (feed->closing || feed->closed) {
        over(delivery);
        delivery_over(delivery);
    } else if (delivery->leaving) {
        over(delivery);
        object_release(delivery);
        delivery_hand_back(delivery);
    } else if (object->get.op.err.code != ERR_OK) {
        failed(delivery, object->get.op.err);
    } else if (!object->get.found) {
        die(delivery, "CLAIM_LOST: the object that holds the payload is not there");
    } else if (object->damaged || !claim_matches(claim_of(delivery), object->payload)) {
        die(delivery, "CLAIM_CORRUPT: the object is not the payload that was published");
    } else {
        over(delivery);
        message_of(delivery)->payload = object->payload.len > 0 ? object->payload : message_empty();
        delivery_ready(delivery, true);
    }
}

static void inflated(struct claim_gzip *gzip, bool good)
{
    struct object *object = CONTAINER_OF(gzip, struct object, gzip);

    arena_clear(&object->packed);
    lower_held(object, claim_of(object->delivery)->stored);
    object->payload = slice_of(gzip->to, gzip->made);
    object->damaged = !good;
    ended(object);
}

/* To the size that the claim names, and no further, whatever the object says of itself. */
static void unpack(struct object *object)
{
    struct consumer *consumer = object->feed->consumer;
    size_t size = claim_of(object->delivery)->size;

    object->gzip = (struct claim_gzip){.home = consumer->base.home,
                                       .permits = &consumer->inflating,
                                       .arena = &object->memory,
                                       .from = object->get.value,
                                       .to = arena_alloc(&object->memory, size),
                                       .room = size,
                                       .done = inflated};
    claim_inflate(&object->gzip);
}

static void got(struct op *op)
{
    struct kv_get *get = CONTAINER_OF(op, struct kv_get, op);
    struct object *object = CONTAINER_OF(get, struct object, get);
    uint64_t stored = claim_of(object->delivery)->stored;

    object->damaged =
        object->room.exceeded || (get->found && stored > 0 && get->value.len != stored);
    object->payload = get->value;
    if (op->err.code == ERR_OK && get->found && !object->damaged && stored > 0)
        unpack(object);
    else
        ended(object);
}

static void ask(struct delivery *delivery)
{
    enum { GET_MS = 30000 };

    struct feed *feed = parcel_of(delivery)->feed;
    struct consumer *consumer = feed->consumer;
    struct worker *home = consumer->base.home;
    const struct claim *claim = claim_of(delivery);
    struct arena memory;

    arena_init(&memory, NULL);

    struct object *object = arena_zalloc(&memory, sizeof *object);

    object->memory = memory;
    object->feed = feed;
    object->delivery = delivery;
    object->refs = 1;
    object->bytes = bytes_of(claim);
    object->room.bytes = claim->stored > 0 ? claim->stored : claim->size;
    object->get = (struct kv_get){.key = claim->key, .room = &object->room};
    arena_init(&object->packed, NULL);
    more_of(delivery)->object = object;
    count_held(feed, object->bytes);
    feed->getting++;
    feed->gets.deadline_ns = home->now_ns + GET_MS * NS_PER_MS;
    op_start(&object->get.op, &feed->gets, got);
    object->get.op.arena = claim->stored > 0 ? &object->packed : &object->memory;
    consumer->plan.object->get(consumer->objects, &object->get);
}

void object_pump(struct feed *feed)
{
    while (feed->claims != NULL && feed->getting < OBJECT_WIDTH &&
           has_room(feed, bytes_of(claim_of(feed->claims)))) {
        struct delivery *delivery = feed->claims;

        feed->claims = delivery->next;
        if (feed->claims == NULL)
            feed->claims_end = &feed->claims;
        ask(delivery);
    }
}
