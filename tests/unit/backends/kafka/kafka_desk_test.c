/* The desk's threads: a task that is due does not wait behind one that blocks. */
#include "backends/kafka/kafka_priv.h"

#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

enum { ROUNDS = 200, PATIENCE_SECONDS = 20 };

struct errand {
    struct kafka_task task; /* first */
    sem_t *waits_for, *tells;
    bool came;
};

static bool wait_for(sem_t *semaphore)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_SECONDS;
    while (sem_timedwait(semaphore, &until) != 0) {
        if (errno != EINTR)
            return false;
    }
    return true;
}

static void run(struct kafka_task *task)
{
    struct errand *errand = (struct errand *)task;

    errand->came = errand->waits_for == NULL || wait_for(errand->waits_for);
    sem_post(errand->tells);
}

/* The first one blocks until the second one has run, while a thread is idle. */
static void test_nobody_waits_behind_a_call_that_blocks(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        struct kafka_desk desk = {.first = NULL};
        sem_t warm, second, over;
        struct errand warming = {.task.run = run, .tells = &warm};
        struct errand blocks = {.task.run = run, .waits_for = &second, .tells = &over};
        struct errand frees = {.task.run = run, .tells = &second};

        sem_init(&warm, 0, 0);
        sem_init(&second, 0, 0);
        sem_init(&over, 0, 0);
        kafka_desk_init(&desk, KAFKA_DESK_THREADS);
        kafka_desk_put(&desk, &warming.task, 0);
        assert_true(wait_for(&warm));
        kafka_desk_put(&desk, &blocks.task, 0);
        kafka_desk_put(&desk, &frees.task, 0);
        assert_true(wait_for(&over));
        assert_true(blocks.came);
        kafka_desk_clear(&desk);
        assert_true(desk.threads <= KAFKA_DESK_THREADS);
        sem_destroy(&warm);
        sem_destroy(&second);
        sem_destroy(&over);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_waits_behind_a_call_that_blocks),
    };

    return cmocka_run_group_tests_name("kafka_desk", tests, NULL, NULL);
}
