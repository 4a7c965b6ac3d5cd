/* The suites of the messaging interfaces: what backends/message.h, subscription.h, topic.h,
 * stream.h and queue.h promise, and nothing else. The same code runs on every backend that offers
 * one.
 *
 * How a backend gets its tests:
 *
 *   static int open_fixture(void **state)     cmocka group setup: a struct message_fixture. Its kv
 *                                             part as kv_contract.h says (worker, backend,
 *                                             kv_fixture_init), then the rest that applies
 *   static int close_fixture(void **state)    kv_fixture_clear; close the instances, stores, worker
 *
 *   int main(void)
 *   {
 *       return message_contract("jetstream", open_fixture, close_fixture);
 *   }
 *
 *   kv.backend      the instance under test
 *   second          an instance of a *second store* with the same settings: to the server it is
 *                   another process. NULL: tests that need one are skipped. It may be kv.backend
 *                   where two subscriptions of one group on one store behave as two processes do
 *   make_topic      makes a topic or queue of this name, with `partitions` partitions where the
 *                   server has such; NULL: it is made by its first use
 *   drop_before     removes what is before `offset` (retention: XTRIM, purge, DeleteRecords), so
 *                   that a group misses it; where offsets are no numbers, what is before the
 *                   message at fixture->keep_from; NULL: gaps are not tested
 *   lease_ms        a short lease that the source can keep: leases are tested with it
 *   bounds          of one queue, for queue_bounds_contract; bytes are many messages of 1000 and
 *                   fewer than `messages` of them. 0: there is no such bound, or it is not tested
 *   dies_with       a process takes so many of those that wait (group: OLDEST_GROUP) and dies;
 *                   they are left to it for silent_ms. For oldest_contract
 *   patience        how long a "nothing more comes" is watched, ms; so long that a wrong message
 *                   would have come
 *
 * A fixture is made anew for each group of tests; topics have names of their own for each test
 * (message_topic), so servers are not emptied in between. What an interface says it lacks (settling
 * .single, .delays, extend NULL, ..) is not tested, and where it matters it is tested that the
 * refusal comes.
 *
 * A probe is a subscription that copies all it is told. Its events run on the worker; the test's
 * thread looks at it under the probe's lock (probe_* functions do). */
#ifndef PRISM_TESTS_CONTRACT_MESSAGE_CONTRACT_H
#define PRISM_TESTS_CONTRACT_MESSAGE_CONTRACT_H

#include "backends/queue.h"
#include "backends/stream.h"
#include "backends/topic.h"
#include "tests/contract/kv_contract.h"

struct message_fixture {
    struct kv_fixture kv; /* first */
    struct backend *second;
    void (*make_topic)(struct message_fixture *fixture, const char *name, unsigned partitions);
    void (*drop_before)(struct message_fixture *fixture, const char *topic, int64_t offset);
    struct slice keep_from; /* a position: set by the test before drop_before */
    void (*dies_with)(struct message_fixture *fixture, const char *topic, unsigned n);
    unsigned silent_ms;
    unsigned lease_ms;
    struct {
        unsigned messages, age_ms;
        uint64_t bytes;
    } bounds;
    unsigned patience_ms;
    unsigned topics; /* private: names given out */
    char prefix[32]; /* of the names; filled in where servers outlive tests */
};

/* Runs the groups of what kv.backend offers. Returns the number of failed tests. */
int message_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);

int topic_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int stream_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int stream_settle_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int stream_place_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int queue_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int atomic_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);
int tickets_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);

/* Not one of message_contract's: its instances have bounds. */
int queue_bounds_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);

/* Nor is this: its fixtures know how to die. */
#define OLDEST_GROUP "heirs"
int oldest_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown);

/* A name that no test has used; the topic is there. Valid until the next test. */
const char *message_topic(struct message_fixture *fixture);

/* ---- publishing ---- */

/* Publishes items as one operation on the interface's sink. */
struct err message_publish(struct message_fixture *fixture, const struct message_sink *sink,
                           struct outgoing *items, size_t n);

/* The same, all or none. With ERR_OK each item is ERR_OK. *culprit: as in struct publish. */
struct err message_publish_atomic(struct message_fixture *fixture, const struct message_sink *sink,
                                  struct outgoing *items, size_t n, uint32_t *culprit);

/* n messages with payloads "0", "1", .. from `from` on, key NULL: none. All must be ERR_OK. */
void message_publish_ok(struct message_fixture *fixture, const struct message_sink *sink,
                        const char *topic, const char *key, unsigned from, unsigned n);

/* ---- probes ---- */

struct got {
    struct incoming m; /* copied */
    uint64_t at_ms;    /* kv_clock_ms */
};

struct probe_moves {
    unsigned gained, leaving, lost, by_lease, by_seek;
};

struct probe {
    struct subscription subscription;
    struct message_fixture *fixture;
    struct backend *backend;
    const struct message_source *source;
    const struct message_settling *settling; /* NULL: topics */
    bool hold; /* batches are released by probe_release, not at once */
    pthread_mutex_t lock;
    struct arena arena;
    struct got *got;
    size_t n, room;
    size_t bytes;
    unsigned opened, closed, batches, gaps;
    const char *delayed_by;
    struct probe_moves moves;
    struct err closed_with;
    char closed_text[256];
    struct subscription_gap gap; /* the last one */
    uint64_t missed;             /* sum of counts */
    uint64_t granted;
    const char *fault; /* a broken promise */
    struct incoming_batch *held[64];
    size_t n_held;
};

/* Why it is not opened; NULL: nothing was told. */
const char *probe_delayed_by(struct probe *probe);

/* A want for the topic: a group, from the earliest message on. */
struct subscription_want probe_want(const char *topic, const char *group);

/* Opens on the backend and waits for opened(). */
struct probe *probe_stream(struct message_fixture *fixture, struct backend *backend,
                           struct subscription_want want);
struct probe *probe_queue(struct message_fixture *fixture, struct backend *backend,
                          struct subscription_want want);
struct probe *probe_topic(struct message_fixture *fixture, struct backend *backend,
                          struct subscription_want want);

/* Without waiting. */
struct probe *probe_start(struct message_fixture *fixture, struct backend *backend,
                          const struct message_source *source,
                          const struct message_settling *settling, struct subscription_want want);

void probe_grant(struct probe *probe, uint32_t messages, uint64_t bytes);
void probe_withdraw(struct probe *probe);

/* Waits until n messages have come in all. */
void probe_wait(struct probe *probe, size_t n);

/* Nothing more comes than the n that are there. */
void probe_quiet(struct probe *probe, size_t n);

size_t probe_count(struct probe *probe);
struct probe_moves probe_moves(struct probe *probe);
unsigned probe_gaps(struct probe *probe);
bool probe_is_closed(struct probe *probe);
unsigned probe_opened(struct probe *probe); /* times */
uint64_t probe_missed(struct probe *probe); /* messages */

/* The i-th message; stays until probe_free. */
const struct got *probe_got(struct probe *probe, size_t i);

/* Its payload as a number. */
unsigned probe_number(struct probe *probe, size_t i);

/* Settles the i-th message; the item's error. */
struct err probe_settle(struct probe *probe, size_t i, enum settle_how how, uint64_t delay_ms);
/* The same where the operation may fail as a whole. */
/* The operation's outcome; each item has its own. */
struct err probe_settle_all(struct probe *probe, struct settlement *items, size_t n);
struct err probe_try_settle(struct probe *probe, size_t i, enum settle_how how, uint64_t delay_ms,
                            struct err *op_err);
void probe_done(struct probe *probe, size_t from, size_t to); /* [from, to), as one operation */
struct err probe_extend(struct probe *probe, size_t i, uint64_t lease_ms);

void probe_release(struct probe *probe); /* all held batches */

/* Closes, unless it is closed, and waits for closed(); frees. */
void probe_free(struct probe *probe);

/* ---- single operations ---- */

/* Skips the test unless the instance offers the interface. */
const struct stream *message_need_stream(struct message_fixture *fixture);
const struct queue *message_need_queue(struct message_fixture *fixture);
const struct topic *message_need_topic(struct message_fixture *fixture);

struct stream_position message_position(struct message_fixture *fixture, const char *topic,
                                        const char *group);

#endif
