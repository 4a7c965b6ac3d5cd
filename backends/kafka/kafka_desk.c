/* Threads for calls that may block. A store has a few of them, started when they are needed.
 * Questions about positions have threads of their own: a broker that is away holds up those, and
 * nobody who reads from another one. */
#include "backends/kafka/kafka_priv.h"
#include "src/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

void kafka_desk_init(struct kafka_desk *desk, unsigned most)
{
    pthread_condattr_t monotonic;

    desk->most = most;
    pthread_mutex_init(&desk->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&desk->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* The next task that is due; NULL: the desk is stopping, and nothing is left. */
static struct kafka_task *take(struct kafka_desk *desk)
{
    struct kafka_task *task;

    for (;;) {
        task = desk->first;
        if (task != NULL && (desk->stopping || task->due_ns <= clock_now_ns())) {
            desk->first = task->next;
            return task;
        }
        if (task == NULL && desk->stopping)
            return NULL;
        desk->idle++;
        if (task == NULL) {
            pthread_cond_wait(&desk->changed, &desk->lock);
        } else {
            struct timespec until = time_of(task->due_ns);

            pthread_cond_timedwait(&desk->changed, &desk->lock, &until);
        }
        desk->idle--;
    }
}

static void *run_thread(void *arg)
{
    struct kafka_desk *desk = arg;
    struct kafka_task *task;

    pthread_setname_np(pthread_self(), "prism-kafka");
    pthread_mutex_lock(&desk->lock);
    while ((task = take(desk)) != NULL) {
        pthread_mutex_unlock(&desk->lock);
        task->run(task);
        pthread_mutex_lock(&desk->lock);
    }
    pthread_mutex_unlock(&desk->lock);
    return NULL;
}

/* A thread that was woken and does not run yet counts as idle. Each will take one of the tasks that
 * are due: one more would wait behind a call that blocks. */
static bool needs_thread(const struct kafka_desk *desk)
{
    uint64_t now = clock_now_ns();
    unsigned due = 0;

    for (const struct kafka_task *task = desk->first;
         task != NULL && task->due_ns <= now && due <= desk->idle; task = task->next)
        due++;
    return desk->idle == 0 || due > desk->idle;
}

/* Threads that wait may all be waiting for a task that is due later: they are woken as well. */
void kafka_desk_put(struct kafka_desk *desk, struct kafka_task *task, uint64_t after_ms)
{
    struct kafka_task **at = &desk->first;

    task->due_ns = clock_now_ns() + after_ms * NS_PER_MS;
    pthread_mutex_lock(&desk->lock);
    while (*at != NULL && (*at)->due_ns <= task->due_ns)
        at = &(*at)->next;
    task->next = *at;
    *at = task;
    if (desk->threads < desk->most && needs_thread(desk)) {
        if (pthread_create(&desk->ids[desk->threads], NULL, run_thread, desk) == 0) {
            desk->threads++;
        } else if (desk->threads == 0) {
            fprintf(stderr, "prism: no thread for Kafka\n");
            abort();
        }
    }
    pthread_cond_signal(&desk->changed);
    pthread_mutex_unlock(&desk->lock);
}

bool kafka_desk_take_back(struct kafka_desk *desk, struct kafka_task *task)
{
    struct kafka_task **at = &desk->first;
    bool there;

    pthread_mutex_lock(&desk->lock);
    while (*at != NULL && *at != task)
        at = &(*at)->next;
    there = *at != NULL;
    if (there)
        *at = task->next;
    pthread_mutex_unlock(&desk->lock);
    return there;
}

int kafka_patience_ms(struct kafka_patience patience)
{
    uint64_t now_ns = clock_now_ns();
    uint64_t left_ns = (uint64_t)KAFKA_ANSWER_MS * NS_PER_MS;

    if ((patience.over != NULL && atomic_load(patience.over)) ||
        (patience.until_ns != 0 && patience.until_ns <= now_ns))
        return 0;
    if (patience.until_ns != 0 && patience.until_ns - now_ns < left_ns)
        left_ns = patience.until_ns - now_ns;
    return (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
}

void kafka_desk_clear(struct kafka_desk *desk)
{
    pthread_mutex_lock(&desk->lock);
    desk->stopping = true;
    pthread_cond_broadcast(&desk->changed);
    pthread_mutex_unlock(&desk->lock);
    for (unsigned i = 0; i < desk->threads; i++)
        pthread_join(desk->ids[i], NULL);
    pthread_cond_destroy(&desk->changed);
    pthread_mutex_destroy(&desk->lock);
}
