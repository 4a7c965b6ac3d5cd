/* A sender may wait until its message is confirmed (awaiting.c). Where a receiver is attached, the
 * confirmation is told on the topic that travelled with the message, once the message has left its
 * queue: the payload is the identity. What cannot be told is counted; the sender takes it for
 * PENDING.
 *
 * Memory: a struct telling for each that is under way; max_in_flight of a stream at most are. */
#include "patterns/multicast_registry/receiver.h"

#include "pool/worker.h"
#include "src/base/clock.h"

#include <string.h>

#define MOST_NS (5 * NS_PER_S)

struct telling {
    struct op_group group; /* not the call's: a client confirms, and is gone */
    struct publish publish;
    struct outgoing item;
    struct receiver *receiver;
    struct arena arena; /* holds it */
};

/* A name of ours: a queue may be written to by others, and names no topic but those. */
static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (memchr("0123456789abcdef", name.data[i], 16) == NULL)
            return false;
    }
    return name.len == MULTICAST_CONFIRM_CHARS;
}

void telling_note(struct delivery *d, const struct incoming *message)
{
    struct slice name = travel_header(message, MULTICAST_HEADER_CONFIRM);

    d->confirm_to[0] = '\0';
    if (!d->receiver->manual || !d->receiver->multicast->plan.confirms || !is_name(name))
        return;
    memcpy(d->confirm_to, name.data, name.len);
    d->confirm_to[name.len] = '\0';
}

static void published(struct op *op)
{
    const struct telling *t = CONTAINER_OF(op, struct telling, publish.op);

    if (op->err.code != ERR_OK || t->item.err.code != ERR_OK)
        counter_add(&t->receiver->multicast->stats.untold, 1);
}

static void told(struct op_group *group)
{
    struct telling *t = CONTAINER_OF(group, struct telling, group);
    struct receiver *r = t->receiver;
    struct arena arena = t->arena;

    arena_clear(&arena);
    r->settling--;
    receiver_look(r);
}

void telling_start(const struct delivery *d)
{
    struct receiver *r = d->receiver;
    struct multicast *multicast = r->multicast;
    struct slice prefix = multicast->settings.topic_prefix;
    struct arena arena;
    struct telling *t;

    if (d->confirm_to[0] == '\0')
        return;
    arena_init(&arena, NULL);
    t = arena_zalloc(&arena, sizeof *t);
    t->arena = arena;
    t->receiver = r;
    t->item.topic =
        slice_str(arena_printf(&t->arena, "%.*s" MULTICAST_CONFIRM_LEVEL "%s", (int)prefix.len,
                               (const char *)prefix.data, d->confirm_to));
    t->item.payload = arena_copy(&t->arena, attachment_identity(attachment_of(d->lead)));
    t->item.key = t->item.id = message_null();
    t->item.partition = -1;
    t->item.offset = -1;
    t->item.receivers = -1;
    t->publish.items = &t->item;
    t->publish.n = 1;
    r->settling++;
    op_group_init(&t->group, multicast->base.home, &t->arena,
                  multicast->base.home->now_ns + MOST_NS);
    t->group.idle = told;
    op_start(&t->publish.op, &t->group, published);
    multicast->plan.topic->sink.publish(multicast->messaging, &t->publish);
}
