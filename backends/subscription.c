/* The states of a subscription and its credit. Every backend goes through here, so that a breach of
 * the contract is found on all of them in the same way. */
#include "backends/subscription.h"

#include "pool/worker.h"

#include <stdio.h>
#include <stdlib.h>

static void require(bool kept, const char *what)
{
    if (kept)
        return;
    fprintf(stderr, "prism: subscription contract broken: %s\n", what);
    abort();
}

/* ---- patterns ---- */

void subscription_init(struct subscription *subscription, struct worker *home,
                       const struct subscription_events *events)
{
    *subscription = (struct subscription){.home = home, .events = events};
}

void incoming_drop(struct incoming_batch *batch, uint32_t n)
{
    require(n <= batch->left, "more messages dropped than the batch holds");
    batch->left -= n;
    if (batch->left > 0)
        return;

    struct subscription *subscription = batch->subscription;

    if (subscription != NULL) {
        worker_assert_home(subscription->home);
        require(subscription->batches > 0, "a batch released twice");
        subscription->batches--;
    }
    batch->release(batch);
}

/* ---- backends ---- */

void subscription_opening(struct subscription *subscription, void *backend_data)
{
    worker_assert_home(subscription->home);
    require(subscription->state == SUB_IDLE, "opened twice");
    subscription->state = SUB_OPENING;
    subscription->backend_data = backend_data;
}

static bool open(const struct subscription *subscription)
{
    return subscription->state == SUB_OPENING || subscription->state == SUB_RUNNING;
}

void subscription_granted(struct subscription *subscription, uint32_t messages, uint64_t bytes)
{
    worker_assert_home(subscription->home);
    require(open(subscription), "credit for a subscription that is not open");
    require(bytes <= INT64_MAX / 2 && subscription->credit_bytes <= INT64_MAX / 2,
            "more credit than can be counted");
    subscription->credit_messages += messages;
    subscription->credit_bytes += (int64_t)bytes;
}

void subscription_withdrawn(struct subscription *subscription)
{
    worker_assert_home(subscription->home);
    require(open(subscription), "credit withdrawn from a subscription that is not open");
    subscription->credit_messages = 0;
    if (subscription->credit_bytes > 0)
        subscription->credit_bytes = 0;
}

void subscription_closing(struct subscription *subscription)
{
    worker_assert_home(subscription->home);
    require(open(subscription), "closed twice, or before it was opened");
    subscription->state = SUB_CLOSING;
    subscription->credit_messages = 0;
}

void subscription_take(struct subscription *subscription, uint32_t messages, uint64_t bytes)
{
    require(subscription->credit_messages >= messages, "more messages taken than were granted");
    subscription->credit_messages -= messages;
    subscription->credit_bytes -= (int64_t)bytes;
}

void subscription_give_back(struct subscription *subscription, uint32_t messages, uint64_t bytes)
{
    subscription->credit_messages += messages;
    subscription->credit_bytes += (int64_t)bytes;
}

void subscription_delayed(struct subscription *subscription, const char *why)
{
    worker_assert_home(subscription->home);
    if (subscription->state == SUB_OPENING && subscription->events->delayed != NULL)
        subscription->events->delayed(subscription, why);
}

void subscription_opened(struct subscription *subscription)
{
    worker_assert_home(subscription->home);
    if (subscription->state == SUB_CLOSING)
        return;
    require(subscription->state == SUB_OPENING, "opened() twice");
    subscription->state = SUB_RUNNING;
    subscription->events->opened(subscription);
}

void subscription_deliver(struct subscription *subscription, struct incoming_batch *batch)
{
    worker_assert_home(subscription->home);
    require(batch->n > 0 && batch->n <= BATCH_MESSAGES, "a batch of a size outside its bounds");
    batch->subscription = subscription;
    batch->left = batch->n;
    subscription->batches++;
    if (subscription->state == SUB_CLOSING) {
        incoming_drop(batch, batch->n);
        return;
    }
    require(subscription->state == SUB_RUNNING, "a batch outside opened() and closed()");
    subscription->events->batch(subscription, batch);
}

void subscription_share(struct incoming_batch *batch)
{
    struct subscription *first = batch->sharers[0];

    worker_assert_home(first->home);
    for (uint32_t i = 0; i < batch->n; i++)
        require(batch->sharers[i]->state == SUB_RUNNING, "a batch outside opened() and closed()");
    batch->subscription = NULL;
    batch->left = batch->n;
    first->events->shared(batch);
}

void subscription_moved(struct subscription *subscription, const struct subscription_move *move)
{
    worker_assert_home(subscription->home);
    if (subscription->state == SUB_CLOSING)
        return;
    require(subscription->state == SUB_RUNNING, "moved() outside opened() and closed()");
    subscription->events->moved(subscription, move);
}

void subscription_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    worker_assert_home(subscription->home);
    if (subscription->state == SUB_CLOSING)
        return;
    require(subscription->state == SUB_RUNNING, "gap() outside opened() and closed()");
    subscription->events->gap(subscription, gap);
}

void subscription_closed(struct subscription *subscription, struct err err)
{
    worker_assert_home(subscription->home);
    require(subscription->state == SUB_CLOSING, "closed() of a subscription that is not closing");
    subscription->state = SUB_CLOSED;
    subscription->backend_data = NULL;
    subscription->events->closed(subscription, err);
}
