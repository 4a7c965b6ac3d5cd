/* Queues on Postgres by two stores of one namespace, as two processes have them. */
#ifndef PRISM_TESTS_CONTRACT_POSTGRES_QUEUES_H
#define PRISM_TESTS_CONTRACT_POSTGRES_QUEUES_H

#include "tests/contract/message_contract.h"
#include "tests/contract/postgres_fixture.h"

/* For suites: *state is a struct message_fixture. */
int postgres_queues_open(void **state, redis_settings settings);
int postgres_queues_close(void **state);

/* The first store pushes a message. */
void postgres_queues_push(struct message_fixture *fixture, struct slice queue, uint64_t delay_ms);

/* A row in the probe's queue that nobody tells of: as a pooler does that does not pass LISTEN on.
 * Its push has begun so long ago. Another statement comes behind it, in its transaction. */
void postgres_queues_push_silently(const struct probe *probe, unsigned ago_ms, const char *then);

#endif
