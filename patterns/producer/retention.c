/* May messages go that nobody has read? The sink is asked about a topic when it is first published
 * to; what it says is in the namespace's book (patterns/messaging/retention.h).
 *
 *   usual    retention_note: the question goes out beside the messages. A few are under way at a
 *            time; a topic for which there is no room is asked about with its next message
 *   strict   retention_look: the frame waits for the answers, and messages to topics that are not
 *            known to keep them are refused */
#include "patterns/producer/prepare.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/hash.h"

enum { MAX_ASKING = 16, ASKED = 256 /* a power of two */ };

/* ---- beside the messages ---- */

struct asking {
    struct asking *next, **at;
    struct producer *producer;
    struct arena memory; /* holds this struct */
    struct op_group group;
    struct stream_describe describe;
};

void producer_retention_init(struct producer *producer)
{
    producer->asked = arena_array(&producer->memory, ASKED, sizeof *producer->asked);
}

static void tell_stopped(struct job *job)
{
    const struct producer *producer = CONTAINER_OF(job, struct producer, stopping);

    producer->stopped(producer->stopped_arg);
}

static void maybe_stopped(struct producer *producer)
{
    if (producer->stopped == NULL || producer->asking != NULL)
        return;
    producer->stopping.run = tell_stopped;
    worker_land(producer->base.home, &producer->stopping);
}

void producer_retention_stop(struct producer *producer, void (*stopped)(void *arg), void *arg)
{
    producer->stopped = stopped;
    producer->stopped_arg = arg;
    for (struct asking *asking = producer->asking; asking != NULL; asking = asking->next)
        op_group_cancel(&asking->group, err_make(ERR_CANCELLED, "the server stops"));
    maybe_stopped(producer);
}

static void answered(struct op *op)
{
    struct asking *asking = CONTAINER_OF(op, struct asking, describe.op);

    (void)retention_answered(producer_retention(asking->producer), &asking->describe,
                             message_null(), &asking->memory);
}

static void asked(struct op_group *group)
{
    struct asking *asking = CONTAINER_OF(group, struct asking, group);
    struct producer *producer = asking->producer;
    struct arena memory = asking->memory;

    *asking->at = asking->next;
    if (asking->next != NULL)
        asking->next->at = asking->at;
    producer->n_asking--;
    arena_clear(&memory);
    maybe_stopped(producer);
}

static void ask(struct producer *producer, struct slice topic)
{
    struct worker *home = producer->base.home;
    struct arena memory;

    arena_init(&memory, &home->arenas);

    struct asking *asking = arena_zalloc(&memory, sizeof *asking);

    asking->memory = memory;
    asking->producer = producer;
    asking->next = producer->asking;
    asking->at = &producer->asking;
    if (asking->next != NULL)
        asking->next->at = &asking->next;
    producer->asking = asking;
    producer->n_asking++;
    op_group_init(&asking->group, home, &asking->memory,
                  home->now_ns + RETENTION_ANSWER_MS * NS_PER_MS);
    asking->group.idle = asked;
    asking->describe.topic = arena_copy(&asking->memory, topic);
    op_start(&asking->describe.op, &asking->group, answered);
    producer->plan.stream->describe(producer->sink, &asking->describe);
}

static void note(struct producer *producer, struct slice topic)
{
    /* Of what a worker has seen lately, so that messages take no lock. Of two topics with one hash
     * the second is not asked about. */
    uint64_t hash = hash_seeded(0, topic), *known = &producer->asked[hash % ASKED];

    if (*known == hash || producer->n_asking == MAX_ASKING)
        return;
    switch (retention_todo(producer_retention(producer), topic, producer->base.home->now_ns)) {
    case RETENTION_ASK:
        ask(producer, topic);
        break;
    case RETENTION_KNOWN:
        *known = hash;
        break;
    case RETENTION_WAIT:
        break;
    }
}

/* Messages beside each other mostly go to the same topic. */
static bool is_next_topic(const struct frame *frame, size_t i)
{
    const struct slice *now = &frame->items[i].topic, *before = &frame->items[i - (i > 0)].topic;

    return frame->states[i] == ITEM_WAITING &&
           (i == 0 || frame->states[i - 1] != ITEM_WAITING ||
            (now->data != before->data && !slice_equal(*now, *before)));
}

void retention_note(struct producer *producer, const struct frame *frame)
{
    const struct retention_book *book = producer_retention(producer);

    if (producer->plan.stream == NULL || book == NULL || book->strict)
        return;
    for (size_t i = 0; i < frame->n; i++) {
        if (is_next_topic(frame, i))
            note(producer, frame->items[i].topic);
    }
}

/* ---- before the messages ---- */

/* One topic of consecutive messages. */
struct look {
    struct looks *looks;
    size_t first;
    struct stream_describe describe;
};

struct looks {
    struct preparing *preparing;
    void (*after)(struct preparing *);
    struct fanout fanout;
    size_t n;
    struct look items[];
};

static size_t count_topics(const struct frame *frame, size_t from)
{
    size_t n = 0;

    for (size_t i = from; i < frame->n; i++)
        n += is_next_topic(frame, i);
    return n;
}

struct looks *retention_looks(const struct producer *producer, struct frame *frame)
{
    struct retention_book *book = producer_retention(producer);
    struct looks *looks = NULL;

    if (producer->plan.stream == NULL || book == NULL || !book->strict)
        return NULL;
    for (size_t i = 0; i < frame->n; i++) {
        if (!is_next_topic(frame, i) || retention_keeps(book, frame->items[i].topic))
            continue;
        if (looks == NULL)
            looks = arena_zalloc(frame->arena,
                                 sizeof *looks + count_topics(frame, i) * sizeof *looks->items);
        looks->items[looks->n++] = (struct look){.looks = looks, .first = i};
    }
    return looks;
}

static void refuse(const struct look *look, struct err err)
{
    struct frame *frame = look->looks->preparing->frame;
    size_t i = look->first;

    do {
        if (frame->states[i] == ITEM_WAITING)
            frame_settle(frame, i, err);
        i++;
    } while (i < frame->n && slice_equal(frame->items[i].topic, look->describe.topic));
}

static void looked(struct op *op)
{
    struct look *look = CONTAINER_OF(op, struct look, describe.op);
    struct preparing *preparing = look->looks->preparing;
    struct err err = retention_answered(producer_retention(preparing->producer), &look->describe,
                                        message_null(), preparing->frame->arena);

    if (err.code != ERR_OK)
        refuse(look, err);
    fanout_item_done(&look->looks->fanout);
}

static void start_look(struct fanout *fanout, size_t i)
{
    struct looks *looks = CONTAINER_OF(fanout, struct looks, fanout);
    struct look *look = &looks->items[i];
    struct producer *producer = looks->preparing->producer;

    look->describe.topic = looks->preparing->frame->items[look->first].topic;
    op_start(&look->describe.op, looks->preparing->group, looked);
    look->describe.op.arena = looks->preparing->frame->arena;
    producer->plan.stream->describe(producer->sink, &look->describe);
}

static void all_looked(struct fanout *fanout)
{
    const struct looks *looks = CONTAINER_OF(fanout, struct looks, fanout);

    looks->after(looks->preparing);
}

void retention_look(struct preparing *preparing, void (*after)(struct preparing *))
{
    struct looks *looks = preparing->looks;

    looks->preparing = preparing;
    looks->after = after;
    looks->fanout = (struct fanout){.n = looks->n,
                                    .width = PREPARE_WIDTH,
                                    .group = preparing->group,
                                    .semaphore = &preparing->producer->before,
                                    .start = start_look,
                                    .all_done = all_looked};
    fanout_run(&looks->fanout);
}
