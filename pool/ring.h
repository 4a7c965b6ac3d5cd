/* The two lanes between threads. This module is the only user of Concurrency Kit.
 *
 * Intake: a bounded single-producer single-consumer ring; a full one refuses, and the producer
 * answers RESOURCE_EXHAUSTED. One for each (poller, worker) pair, so a preempted producer stalls
 * nobody.
 *
 * Landing: what finishes work already accepted must never be refused, or completions would wait
 * behind new work for ever. It is a lock-free stack of embedded jobs that the consumer takes whole
 * and turns into arrival order; it needs no capacity of its own because each job in it lives in an
 * operation that admission control has counted. */
#ifndef PRISM_POOL_RING_H
#define PRISM_POOL_RING_H

#include "pool/job.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;

/* Room for `capacity` jobs, a power of two, 2..2^20. Aborts on allocation failure. */
struct ring *ring_new(uint32_t capacity);
void ring_destroy(struct ring *ring); /* NULL is accepted; jobs inside are forgotten */

/* thread: the one producer. False when full: the job still belongs to the caller. */
bool ring_push(struct ring *ring, struct job *job);

/* thread: the one consumer. NULL when empty. */
struct job *ring_pop(struct ring *ring);

/* thread: any; a snapshot. */
uint32_t ring_depth(const struct ring *ring);
uint32_t ring_capacity(const struct ring *ring);

struct landing {
    _Alignas(64) void *top[2]; /* private: ck_stack */
};

void landing_init(struct landing *landing);

/* thread: any. */
void landing_push(struct landing *landing, struct job *job);

/* Pushes first to last, linked by `next`, at once and in this order. thread: any. */
void landing_push_chain(struct landing *landing, struct job *first, struct job *last);

/* thread: the one consumer. Appends all jobs to `out` in the order of their pushes; returns how
 * many. */
size_t landing_take(struct landing *landing, struct job_list *out);

/* thread: any; a snapshot. */
bool landing_empty(const struct landing *landing);

/* Orders a push before the look at the consumer's sleeping flag (store before load: a full
 * barrier). */
void ring_full_fence(void);

#endif
