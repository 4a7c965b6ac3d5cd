/* librdkafka starts its threads by C11's thrd_create, and locks by mtx_lock and cnd_wait.
 * ThreadSanitizer knows POSIX' functions only: it crashes in a thread that it has not seen begin.
 * In programs that it watches these stand before libc's. */
#ifdef __SANITIZE_THREAD__

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

struct start {
    thrd_start_t run;
    void *arg;
};

static void *run_thread(void *arg)
{
    struct start start = *(struct start *)arg;

    free(arg);
    return (void *)(intptr_t)start.run(start.arg);
}

int thrd_create(thrd_t *thread, thrd_start_t run, void *arg)
{
    struct start *start = malloc(sizeof *start);

    if (start == NULL)
        return thrd_nomem;
    *start = (struct start){run, arg};
    return pthread_create(thread, NULL, run_thread, start) == 0 ? thrd_success : thrd_error;
}

int thrd_join(thrd_t thread, int *result)
{
    void *value;

    if (pthread_join(thread, &value) != 0)
        return thrd_error;
    if (result != NULL)
        *result = (int)(intptr_t)value;
    return thrd_success;
}

int mtx_lock(mtx_t *mutex)
{
    return pthread_mutex_lock((pthread_mutex_t *)mutex) == 0 ? thrd_success : thrd_error;
}

int mtx_unlock(mtx_t *mutex)
{
    return pthread_mutex_unlock((pthread_mutex_t *)mutex) == 0 ? thrd_success : thrd_error;
}

#else
extern int c11_threads_are_libc_s; /* a file is not empty */
#endif
