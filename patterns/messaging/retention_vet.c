/* happy path   start -> next topic -> asked -> answered -> ... -> vetted(ERR_NONE)
 * lossy        vetted(FAILED_PRECONDITION), which names topic and setting
 * no answer    again in RETRY_MS, until the time is over -> a line in the log, vetted(ERR_NONE) */
#include "patterns/messaging/retention_vet.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

enum { RETRY_MS = 50 };

struct vet {
    struct retention_vet_want want;
    struct arena memory; /* holds this struct */
    struct op_group group;
    struct stream_describe describe;
    struct timer timer;
    struct job beginning;
    size_t next; /* of the allowed topics */
    bool over;
    struct err err;
};

static void ask(struct vet *vet);

static void idle(struct op_group *group)
{
    struct vet *vet = CONTAINER_OF(group, struct vet, group);
    struct arena memory = vet->memory;

    if (!vet->over)
        return;
    vet->want.vetted(vet->want.arg, vet->err);
    arena_clear(&memory);
}

/* An operation's group outlives its done(). */
static void end(struct vet *vet, struct err err)
{
    vet->over = true;
    vet->err = err;
    if (vet->group.pending == 0)
        idle(&vet->group);
}

static void again(struct timer *timer)
{
    ask(CONTAINER_OF(timer, struct vet, timer));
}

static void go_on(struct vet *vet)
{
    vet->next++;
    ask(vet);
}

static void no_answer(struct vet *vet)
{
    struct worker *home = vet->want.home;
    uint64_t at_ns = home->now_ns + RETRY_MS * NS_PER_MS;

    if (at_ns < vet->group.deadline_ns) {
        timer_arm(&home->timers, &vet->timer, at_ns, again);
        return;
    }
    log_event(LOG_WARN, "retention_not_known", LOG_S("namespace", vet->want.book->namespace_name),
              LOG_S("slot", vet->want.book->slot), LOG_B("topic", vet->describe.topic),
              LOG_S("error", vet->describe.op.err.text));
    end(vet, ERR_NONE);
}

static void answered(struct op *op)
{
    struct vet *vet = CONTAINER_OF(op, struct vet, describe.op);
    struct err err =
        retention_answered(vet->want.book, &vet->describe, message_null(), &vet->memory);

    if (op->err.code != ERR_OK)
        no_answer(vet);
    else if (vet->describe.retention == RETENTION_LOSSY)
        end(vet, err);
    else
        go_on(vet);
}

static void ask(struct vet *vet)
{
    const struct topics *topics = vet->want.topics;
    struct slice topic;

    while (vet->next < topics->n_allowed &&
           topics_map(topics, &vet->memory, topics->allowed[vet->next], &topic).code != ERR_OK)
        vet->next++; /* a "*" is no name */
    if (vet->next == topics->n_allowed) {
        end(vet, ERR_NONE);
        return;
    }
    vet->describe = (struct stream_describe){.topic = topic};
    op_start(&vet->describe.op, &vet->group, answered);
    vet->want.stream->describe(vet->want.backend, &vet->describe);
}

static void begin(struct job *job)
{
    struct vet *vet = CONTAINER_OF(job, struct vet, beginning);
    const struct retention_vet_want *want = &vet->want;

    if (!want->book->strict || (want->keeps && want->stream == NULL))
        end(vet, ERR_NONE); /* a queue holds all until it is settled */
    else if (!want->keeps)
        end(vet, err_about(ERR_FAILED_PRECONDITION, want->book->slot,
                           "strict_retention: the slot delivers at most once and keeps nothing"));
    else
        ask(vet);
}

void retention_vet(const struct retention_vet_want *want)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct vet *vet = arena_zalloc(&memory, sizeof *vet);

    vet->memory = memory;
    vet->want = *want;
    op_group_init(&vet->group, want->home, &vet->memory,
                  want->home->now_ns + RETENTION_ANSWER_MS * NS_PER_MS);
    vet->group.idle = idle;
    vet->beginning.run = begin;
    worker_land(want->home, &vet->beginning);
}
