/* Flush: each instance of the namespace waits for what it had accepted; then the call is answered.
 *
 * happy path   flush -> an errand to each instance -> epoch over -> back -> the last one: reply
 * time-out     each instance gives up by itself, so no errand is out for longer than the call */
#include "patterns/errand.h"
#include "patterns/producer/producer_priv.h"

#include "pool/timer.h"
#include "src/base/clock.h"

struct flushing {
    struct call *call;
    uint64_t give_up_ns; /* 0: never */
    size_t n, left;
    struct part *parts;
};

/* Of one instance. */
struct part {
    struct errand errand;
    struct flushing *flushing;
    struct producer *there;
    struct epoch_waiter waiter;
    struct timer timer;
};

/* ---- there ---- */

static void over(struct epoch_waiter *waiter)
{
    struct part *part = CONTAINER_OF(waiter, struct part, waiter);

    timer_disarm(&part->there->base.home->timers, &part->timer);
    op_finish(&part->errand.op, ERR_NONE);
}

static void give_up(struct timer *timer)
{
    struct part *part = CONTAINER_OF(timer, struct part, timer);

    epoch_give_up(&part->waiter);
    op_finish(&part->errand.op, ERR_NONE);
}

static void arrived(struct errand *errand)
{
    struct part *part = CONTAINER_OF(errand, struct part, errand);
    struct producer *producer = part->there;
    uint64_t at_ns = part->flushing->give_up_ns;

    part->waiter.over = over;
    if (epoch_wait(&producer->epochs, &part->waiter))
        op_finish(&errand->op, ERR_NONE);
    else if (at_ns != 0)
        timer_arm(&producer->base.home->timers, &part->timer, at_ns, give_up);
}

/* ---- home ---- */

static struct err outcome(const pb_flush_response *response)
{
    if (response->pending_count > 0)
        return err_make(ERR_DEADLINE_EXCEEDED, "the time ran out before all messages were settled");
    if (response->failed_count > 0)
        return err_make(ERR_ABORTED, "some messages failed; their publishers were told");
    return ERR_NONE;
}

static void reply(struct flushing *flushing)
{
    pb_flush_response response = PRISM__PATTERNS__PRODUCER__FLUSH_RESPONSE__INIT;
    struct err err;

    for (size_t i = 0; i < flushing->n; i++) {
        const struct epoch_waiter *waiter = &flushing->parts[i].waiter;

        response.flushed_count += (int64_t)waiter->flushed;
        response.failed_count += (int64_t)waiter->failed;
        response.pending_count += (int64_t)waiter->pending;
    }
    err = outcome(&response);
    response.success = err.code == ERR_OK;
    response.code = (int32_t)err.code;
    if (!response.success) {
        response._error_case = PRISM__PATTERNS__PRODUCER__FLUSH_RESPONSE___ERROR_ERROR;
        response.error = pb_text(err.text);
    }
    call_reply(flushing->call, &response.base);
}

static void back(struct op *op)
{
    struct part *part = CONTAINER_OF(op, struct part, errand.op);

    if (--part->flushing->left == 0)
        reply(part->flushing);
}

static void count(struct producer *producer, void *arg)
{
    (void)producer;
    ((struct flushing *)arg)->n++;
}

static void send(struct producer *producer, void *arg)
{
    struct flushing *flushing = arg;
    struct part *part = &flushing->parts[flushing->left++];

    part->flushing = flushing;
    part->there = producer;
    part->errand.there = arrived;
    errand_start(&part->errand, call_group(flushing->call), producer->base.home, back);
}

static struct err read_timeout(const pb_flush_request *request, struct flushing *flushing)
{
    const struct op_group *group = call_group(flushing->call);

    flushing->give_up_ns = group->deadline_ns;
    if (request->_timeout_ms_case == PRISM__PATTERNS__PRODUCER__FLUSH_REQUEST___TIMEOUT_MS__NOT_SET)
        return ERR_NONE;
    if (request->timeout_ms < 1)
        return err_about(ERR_INVALID_ARGUMENT, "timeout_ms",
                         "timeout_ms has to be 1 or more; leave it out for the call's deadline");

    uint64_t at_ns = clock_after_ms(group->home->now_ns, (uint64_t)request->timeout_ms);

    if (flushing->give_up_ns == 0 || at_ns < flushing->give_up_ns)
        flushing->give_up_ns = at_ns;
    return ERR_NONE;
}

void producer_flush(struct call *call)
{
    struct flushing *flushing = arena_zalloc(call_arena(call), sizeof *flushing);
    struct producer *producer = producer_of(call);
    struct err err;

    flushing->call = call;
    err = read_timeout(call_request(call), flushing);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    producer_each(producer, count, flushing);
    flushing->parts = arena_array(call_arena(call), flushing->n, sizeof *flushing->parts);
    producer_each(producer, send, flushing);
}
