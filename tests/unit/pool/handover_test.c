/* pool/ring.c explains each hand-over to ThreadSanitizer by hand. That must not make it blind: a
 * job that its pusher touches after the hand-over is still reported. Each scenario is a run of this
 * program of its own, because a report ends it. Without ThreadSanitizer there is nothing to ask,
 * and the tests are skipped. */
#include "pool/ring.h"

#include "tests/unit/pool/fixture.h"

#include <pthread.h>
#include <stdio.h>

/* ---- scenarios ---- */

enum { JOBS = 64, REPORTED = 66 }; /* ThreadSanitizer's exit code */

struct item {
    struct job job;
    uint64_t number;
};

struct scene {
    struct item items[JOBS];
    struct ring *ring; /* NULL: by landing */
    struct landing landing;
    bool touch;
};

static void *push_all(void *arg)
{
    struct scene *scene = arg;

    for (unsigned i = 0; i < JOBS; i++) {
        struct item *item = &scene->items[i];

        item->number = i;
        if (scene->ring == NULL)
            landing_push(&scene->landing, &item->job);
        else if (!ring_push(scene->ring, &item->job))
            abort();
        if (scene->touch)
            item->number = i; /* the fault: it is the consumer's now */
    }
    return NULL;
}

static uint64_t take_all(struct scene *scene)
{
    struct job_list list;
    uint64_t sum = 0;

    job_list_init(&list);
    for (unsigned n = 0; n < JOBS;) {
        struct job *job;

        if (scene->ring == NULL)
            landing_take(&scene->landing, &list);
        job = scene->ring != NULL ? ring_pop(scene->ring) : job_list_pop(&list);
        if (job == NULL) {
            sched_yield();
            continue;
        }
        sum += CONTAINER_OF(job, struct item, job)->number;
        n++;
    }
    return sum;
}

static int play(const char *lane, const char *manners)
{
    struct scene scene = {.touch = strcmp(manners, "touch") == 0};
    pthread_t pusher;

    landing_init(&scene.landing);
    if (strcmp(lane, "ring") == 0)
        scene.ring = ring_new(JOBS);
    if (pthread_create(&pusher, NULL, push_all, &scene) != 0)
        return 1;

    uint64_t sum = take_all(&scene);

    pthread_join(pusher, NULL);
    ring_destroy(scene.ring);
    return sum == JOBS * (JOBS - 1) / 2 ? 0 : 1;
}

/* ---- running one ---- */

static void become(const char *lane, const char *manners, int err)
{
    char *const args[] = {"handover", (char *)(uintptr_t)lane, (char *)(uintptr_t)manners, NULL};

    dup2(err, STDERR_FILENO);
    execv("/proc/self/exe", args);
    _exit(127);
}

/* The exit code; what was written to standard error goes to text. */
static int run(const char *lane, const char *manners, char *text, size_t size)
{
    int ends[2], status;
    size_t len = 0;
    ssize_t n;

    assert_int_equal(pipe(ends), 0);

    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        become(lane, manners, ends[1]);
    close(ends[1]);
    while ((n = read(ends[0], text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void check_lane(const char *lane)
{
    char text[65536];

    if (!UNDER_TSAN)
        skip();
    assert_int_equal(run(lane, "behave", text, sizeof text), 0);
    assert_null(strstr(text, "data race"));
    assert_int_equal(run(lane, "touch", text, sizeof text), REPORTED);
    assert_non_null(strstr(text, "data race"));
    assert_non_null(strstr(text, "push_all"));
}

static void test_ring(void **state)
{
    (void)state;
    check_lane("ring");
}

static void test_landing(void **state)
{
    (void)state;
    check_lane("landing");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_landing),
    };

    if (argc == 3)
        return play(argv[1], argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
