/* The states and the credit of subscriptions, with a backend of a few lines. */
#include "backends/subscription.h"
#include "pool/worker.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct seen {
    struct subscription subscription; /* first */
    struct worker worker;
    unsigned opened, batches, gaps, closed, released;
    struct err closed_with;
};

static struct seen *of(struct subscription *subscription)
{
    return CONTAINER_OF(subscription, struct seen, subscription);
}

static void on_opened(struct subscription *subscription)
{
    of(subscription)->opened++;
}

static void on_batch(struct subscription *subscription, struct incoming_batch *batch)
{
    of(subscription)->batches++;
    incoming_drop(batch, 1);
}

static void on_gap(struct subscription *subscription, const struct subscription_gap *gap)
{
    (void)gap;
    of(subscription)->gaps++;
}

static void on_closed(struct subscription *subscription, struct err err)
{
    of(subscription)->closed++;
    of(subscription)->closed_with = err;
}

static const struct subscription_events events = {
    .opened = on_opened, .batch = on_batch, .gap = on_gap, .closed = on_closed};

static void release(struct incoming_batch *batch)
{
    of(batch->subscription)->released++;
}

static void no_wake(struct worker *worker)
{
    (void)worker;
}

static struct seen *begin(void)
{
    struct seen *seen = calloc(1, sizeof *seen);

    assert_non_null(seen);
    worker_init(&seen->worker, 0, no_wake);
    worker_set_current(&seen->worker);
    subscription_init(&seen->subscription, &seen->worker, &events);
    subscription_opening(&seen->subscription, NULL);
    return seen;
}

static void end(struct seen *seen)
{
    worker_set_current(NULL);
    worker_clear(&seen->worker);
    free(seen);
}

static void test_life(void **state)
{
    struct seen *seen = begin();
    struct subscription *subscription = &seen->subscription;
    struct incoming_batch first = {.n = 2, .release = release};
    struct incoming_batch late = {.n = 3, .release = release};
    struct subscription_gap gap = {.partition = -1};

    (void)state;
    subscription_opened(subscription);
    subscription_deliver(subscription, &first);
    assert_int_equal(seen->batches, 1);
    assert_int_equal(seen->released, 0);
    incoming_drop(&first, 1);
    assert_int_equal(seen->released, 1);
    assert_int_equal(subscription->batches, 0);
    subscription_gap(subscription, &gap);
    subscription_closing(subscription);
    subscription_gap(subscription, &gap);
    subscription_deliver(subscription, &late); /* nobody sees it */
    subscription_closed(subscription, ERR_NONE);
    assert_int_equal(seen->opened, 1);
    assert_int_equal(seen->batches, 1);
    assert_int_equal(seen->released, 2);
    assert_int_equal(seen->gaps, 1);
    assert_int_equal(seen->closed, 1);
    end(seen);
}

static void test_closed_before_it_was_opened(void **state)
{
    struct seen *seen = begin();

    (void)state;
    subscription_closing(&seen->subscription);
    subscription_opened(&seen->subscription); /* the answer was under way */
    subscription_closed(&seen->subscription, err_make(ERR_NOT_FOUND, "no such topic"));
    assert_int_equal(seen->opened, 0);
    assert_int_equal(seen->closed_with.code, ERR_NOT_FOUND);
    end(seen);
}

static void test_credit(void **state)
{
    struct seen *seen = begin();
    struct subscription *subscription = &seen->subscription;

    (void)state;
    assert_false(subscription_may_take(subscription));
    subscription_granted(subscription, 2, 100);
    subscription_take(subscription, 1, 150); /* bytes may be overdrawn by one message */
    assert_false(subscription_may_take(subscription));
    subscription_granted(subscription, 0, 51);
    assert_true(subscription_may_take(subscription));
    subscription_take(subscription, 1, 1);
    assert_false(subscription_may_take(subscription));
    subscription_give_back(subscription, 1, 1);
    assert_true(subscription_may_take(subscription));
    subscription_granted(subscription, 10, 1000);
    subscription_withdrawn(subscription);
    assert_false(subscription_may_take(subscription));
    end(seen);
}

/* ---- breaches abort ---- */

static void overdraw(struct seen *seen)
{
    subscription_granted(&seen->subscription, 1, 100);
    subscription_take(&seen->subscription, 2, 2);
}

static void deliver_unopened(struct seen *seen)
{
    struct incoming_batch batch = {.n = 1, .release = release};

    subscription_deliver(&seen->subscription, &batch);
}

static void close_twice(struct seen *seen)
{
    subscription_closing(&seen->subscription);
    subscription_closing(&seen->subscription);
}

static void closed_uncalled(struct seen *seen)
{
    subscription_closed(&seen->subscription, ERR_NONE);
}

static void drop_too_many(struct seen *seen)
{
    struct incoming_batch batch = {.n = 2, .left = 2, .release = release};

    (void)seen;
    incoming_drop(&batch, 3);
}

static void test_breaches_abort(void **state)
{
    void (*const breaches[])(struct seen *) = {overdraw, deliver_unopened, close_twice,
                                               closed_uncalled, drop_too_many};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(breaches); i++) {
        int status;
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            close(STDERR_FILENO);
            signal(SIGABRT, SIG_DFL);
            breaches[i](begin());
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_closed_before_it_was_opened),
        cmocka_unit_test(test_credit),
        cmocka_unit_test(test_breaches_abort),
    };

    return cmocka_run_group_tests_name("subscription", tests, NULL, NULL);
}
