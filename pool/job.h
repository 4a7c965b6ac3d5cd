/* The unit that moves between threads: embedded in its owner, so that handing over work allocates
 * nothing. Once pushed, a job belongs to the receiver; the pusher does not touch it again. */
#ifndef PRISM_POOL_JOB_H
#define PRISM_POOL_JOB_H

#include <stddef.h>

struct job {
    struct job *next; /* private to the lane that holds the job */
    void (*run)(struct job *);
};

/* A plain FIFO of jobs for one thread. */
struct job_list {
    struct job *head;
    struct job **tail;
    size_t count;
};

static inline void job_list_init(struct job_list *list)
{
    list->head = 0;
    list->tail = &list->head;
    list->count = 0;
}

static inline void job_list_push(struct job_list *list, struct job *job)
{
    job->next = 0;
    *list->tail = job;
    list->tail = &job->next;
    list->count++;
}

static inline struct job *job_list_pop(struct job_list *list)
{
    struct job *job = list->head;

    if (job != 0) {
        list->head = job->next;
        if (list->head == 0)
            list->tail = &list->head;
        list->count--;
    }
    return job;
}

/* Appends first to last, linked by `next`; what the last one links to is ignored. */
static inline void job_list_push_chain(struct job_list *list, struct job *first, struct job *last)
{
    for (struct job *job = first, *next;; job = next) {
        next = job->next;
        job_list_push(list, job);
        if (job == last)
            return;
    }
}

#endif
