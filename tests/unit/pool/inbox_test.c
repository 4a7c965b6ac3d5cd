/* An inbox, and the chains of jobs that it is made of. */
#include "pool/inbox.h"

#include "tests/unit/pool/crew.h"

#include <pthread.h>

/* ---- helpers ---- */

enum { PER_TURN = 8, PRODUCERS = 4, CHAIN = 3 };

struct message {
    struct job job;
    unsigned producer;
    uint64_t number; /* plain on purpose: ThreadSanitizer watches the hand-over */
};

struct receiver {
    struct inbox inbox;
    uint64_t seen[PRODUCERS], all, expected;
    bool in_order;
    sem_t complete;
};

static void take(struct inbox *inbox, struct job *job)
{
    struct receiver *receiver = CONTAINER_OF(inbox, struct receiver, inbox);
    struct message *message = CONTAINER_OF(job, struct message, job);

    worker_assert_home(inbox->home);
    if (message->number != receiver->seen[message->producer]++)
        receiver->in_order = false;
    if (++receiver->all == receiver->expected)
        sem_post(&receiver->complete);
}

static struct receiver *receiver_new(struct worker *home, uint64_t expected)
{
    struct receiver *receiver = aligned_alloc(64, (sizeof *receiver + 63) / 64 * 64);

    assert_non_null(receiver);
    memset(receiver, 0, sizeof *receiver);
    receiver->expected = expected;
    receiver->in_order = true;
    sem_init(&receiver->complete, 0, 0);
    inbox_init(&receiver->inbox, home, take, PER_TURN);
    return receiver;
}

static struct message *messages_new(size_t n, unsigned producer)
{
    struct message *messages = calloc(n, sizeof *messages);

    assert_non_null(messages);
    for (size_t i = 0; i < n; i++) {
        messages[i] = (struct message){.producer = producer, .number = i};
        if (i > 0)
            messages[i - 1].job.next = &messages[i].job;
    }
    return messages;
}

/* ---- step by step, without threads ---- */

static unsigned woken;

static void count_wake(struct worker *worker)
{
    (void)worker;
    woken++;
}

static struct worker *worker_new(void)
{
    struct worker *worker = aligned_alloc(64, (sizeof *worker + 63) / 64 * 64);

    assert_non_null(worker);
    worker_init(worker, 0, count_wake);
    return worker;
}

struct step {
    struct job job;
    char name;
    char *order;
};

static void run_step(struct job *job)
{
    struct step *step = CONTAINER_OF(job, struct step, job);
    size_t len = strlen(step->order);

    step->order[len] = step->name;
    step->order[len + 1] = '\0';
}

static void test_a_chain_wakes_once_and_keeps_its_order(void **state)
{
    struct worker *worker = worker_new();
    char order[16] = "";
    struct step c = {{.run = run_step}, 'c', order}, b = {{&c.job, run_step}, 'b', order};
    struct step a = {{&b.job, run_step}, 'a', order};

    (void)state;
    woken = 0;
    atomic_store(&worker->sleeping, true);
    worker_land_chain(worker, &a.job, &c.job);
    assert_int_equal(woken, 1);
    worker_set_current(worker);
    assert_int_equal(worker_drain(worker, 0), 3);
    a.job.next = &b.job;
    worker_land_chain(worker, &a.job, &b.job); /* from the home thread */
    assert_int_equal(worker_drain(worker, 0), 2);
    assert_string_equal(order, "abcab");
    worker_set_current(NULL);
    worker_clear(worker);
    free(worker);
}

static void test_a_put_wakes_once_and_a_flood_takes_turns(void **state)
{
    struct worker *worker = worker_new();
    struct message *messages = messages_new(2 * PER_TURN + 1, 0);
    struct receiver *receiver = receiver_new(worker, 2 * PER_TURN + 1);

    (void)state;
    woken = 0;
    assert_true(inbox_idle(&receiver->inbox));
    atomic_store(&worker->sleeping, true);
    inbox_put(&receiver->inbox, &messages[0].job, &messages[PER_TURN].job);
    atomic_store(&worker->sleeping, true); /* as if: the inbox is queued and wakes nobody */
    inbox_put(&receiver->inbox, &messages[PER_TURN + 1].job, &messages[2 * PER_TURN].job);
    assert_int_equal(woken, 1);
    assert_false(inbox_idle(&receiver->inbox));

    worker_set_current(worker);
    for (unsigned turn = 1; turn <= 3; turn++) {
        assert_int_equal(worker_drain(worker, 1), 1);
        assert_int_equal(receiver->all, turn < 3 ? turn * PER_TURN : 2 * PER_TURN + 1);
        assert_int_equal(inbox_idle(&receiver->inbox), turn == 3);
    }
    assert_int_equal(worker_drain(worker, 1), 0);
    assert_true(receiver->in_order);
    worker_set_current(NULL);
    worker_clear(worker);
    free(worker);
    free(receiver);
    free(messages);
}

/* ---- with threads ---- */

struct producer {
    struct receiver *receiver;
    struct message *messages;
    uint64_t n;
};

static void *produce(void *arg)
{
    struct producer *p = arg;

    for (uint64_t i = 0; i < p->n; i += CHAIN) {
        inbox_put(&p->receiver->inbox, &p->messages[i].job, &p->messages[i + CHAIN - 1].job);
        if (i % (64 * CHAIN) == 0)
            sched_yield();
    }
    return NULL;
}

struct question {
    struct inbox *inbox;
    bool idle;
};

static void ask(void *arg)
{
    struct question *question = arg;

    question->idle = inbox_idle(question->inbox);
}

/* No job is lost between the last look of a turn and the worker's sleep. */
static void test_nothing_is_lost_among_threads(void **state)
{
    struct pool *pool = start(1, 16);
    uint64_t each = 20000u * STRESS * CHAIN;
    struct receiver *receiver = receiver_new(pool_worker(pool, 0), each * PRODUCERS);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];

    (void)state;
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){receiver, messages_new(each, i), each};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(gate_pass(&receiver->complete));

    struct question question = {.inbox = &receiver->inbox};

    do
        worker_run_sync(pool_worker(pool, 0), ask, &question);
    while (!question.idle);
    assert_true(receiver->in_order);
    pool_stop(pool);
    for (unsigned i = 0; i < PRODUCERS; i++)
        free(producers[i].messages);
    free(receiver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chain_wakes_once_and_keeps_its_order),
        cmocka_unit_test(test_a_put_wakes_once_and_a_flood_takes_turns),
        cmocka_unit_test(test_nothing_is_lost_among_threads),
    };

    return cmocka_run_group_tests_name("inbox", tests, NULL, NULL);
}
