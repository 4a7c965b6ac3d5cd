/* ThreadSanitizer cannot see through CK's assembly fences. So each hand-over of a job is told to it
 * by hand: release before the push, acquire after the pop; and CK's own accesses run in functions
 * that it does not instrument. An item touched after it was handed over is still caught. (x86-64
 * only has been checked: CK 0.7.1's consumer index needs a second look before weaker machines are
 * supported.) */
#include "pool/ring.h"

#include <ck_ring.h>
#include <ck_stack.h>
#include <stdlib.h>

#if defined(__SANITIZE_THREAD__)
#define RING_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RING_TSAN 1
#endif
#endif

#ifdef RING_TSAN
void __tsan_acquire(void *);
void __tsan_release(void *);
#define HAND_OVER(job) __tsan_release(job)
#define TAKE_OVER(job) __tsan_acquire(job)
#define CK_SIDE        __attribute__((noinline, no_sanitize("thread")))
#else
#define HAND_OVER(job) ((void)(job))
#define TAKE_OVER(job) ((void)(job))
#define CK_SIDE        inline
#endif

struct ring {
    ck_ring_t ck;
    ck_ring_buffer_t buffer[];
};

/* ck_stack links through the job's own `next`. */
_Static_assert(offsetof(struct job, next) == 0, "a job starts with its link");
_Static_assert(sizeof(struct ck_stack) <= sizeof(((struct landing *)0)->top),
               "landing holds a ck_stack");

static CK_SIDE bool ck_push(struct ring *ring, struct job *job)
{
    return ck_ring_enqueue_spsc(&ring->ck, ring->buffer, job);
}

static CK_SIDE bool ck_pop(struct ring *ring, struct job **job)
{
    return ck_ring_dequeue_spsc(&ring->ck, ring->buffer, job);
}

static CK_SIDE void ck_land(struct ck_stack *stack, struct job *job)
{
    ck_stack_push_mpmc(stack, (struct ck_stack_entry *)(void *)job);
}

/* newest to oldest, linked. CK pushes single entries only; this is its push for a row of them. */
static CK_SIDE void ck_land_row(struct ck_stack *stack, struct job *newest, struct job *oldest)
{
    struct ck_stack_entry *top = ck_pr_load_ptr(&stack->head);

    do {
        oldest->next = (struct job *)(void *)top;
        ck_pr_fence_store();
    } while (!ck_pr_cas_ptr_value(&stack->head, top, newest, &top));
}

static CK_SIDE struct job *ck_take(struct ck_stack *stack)
{
    return (struct job *)(void *)ck_stack_batch_pop_mpmc(stack);
}

struct ring *ring_new(uint32_t capacity)
{
    if (capacity < 2 || (capacity & (capacity - 1)) != 0 || capacity > 1u << 20)
        abort();

    /* A CK ring of N slots holds N - 1: twice the slots, so that what was asked for fits whatever
     * CK does. */
    size_t slots = (size_t)capacity * 2;
    size_t bytes = (sizeof(struct ring) + slots * sizeof(ck_ring_buffer_t) + 63) / 64 * 64;
    struct ring *ring = aligned_alloc(64, bytes);

    if (ring == NULL)
        abort();
    memset(ring, 0, bytes);
    ck_ring_init(&ring->ck, (unsigned)slots);
    return ring;
}

void ring_destroy(struct ring *ring)
{
    free(ring);
}

uint32_t ring_capacity(const struct ring *ring)
{
    return ck_ring_capacity(&ring->ck) / 2;
}

uint32_t ring_depth(const struct ring *ring)
{
    return ck_ring_size(&ring->ck);
}

bool ring_push(struct ring *ring, struct job *job)
{
    if (ring_depth(ring) >= ring_capacity(ring))
        return false;
    HAND_OVER(job);
    return ck_push(ring, job);
}

struct job *ring_pop(struct ring *ring)
{
    struct job *job = NULL;

    if (!ck_pop(ring, &job))
        return NULL;
    TAKE_OVER(job);
    return job;
}

static struct ck_stack *stack_of(struct landing *landing)
{
    return (struct ck_stack *)(void *)landing->top;
}

void landing_init(struct landing *landing)
{
    ck_stack_init(stack_of(landing));
}

void landing_push(struct landing *landing, struct job *job)
{
    HAND_OVER(job);
    ck_land(stack_of(landing), job);
}

/* The stack holds the newest on top. */
void landing_push_chain(struct landing *landing, struct job *first, struct job *last)
{
    struct job *newest = NULL, *job = first, *next;

    for (;;) {
        next = job->next;
        job->next = newest;
        newest = job;
        HAND_OVER(job);
        if (job == last)
            break;
        job = next;
    }
    ck_land_row(stack_of(landing), newest, first);
}

bool landing_empty(const struct landing *landing)
{
    return ck_pr_load_ptr(&landing->top[0]) == NULL;
}

void ring_full_fence(void)
{
    ck_pr_fence_memory();
}

size_t landing_take(struct landing *landing, struct job_list *out)
{
    struct job *newest = ck_take(stack_of(landing)), *oldest = NULL;
    size_t n = 0;

    while (newest != NULL) { /* newest first: turn around */
        struct job *next;

        TAKE_OVER(newest);
        next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct job *next = oldest->next;

        job_list_push(out, oldest);
        oldest = next;
        n++;
    }
    return n;
}
