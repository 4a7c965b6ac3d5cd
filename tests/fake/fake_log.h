/* The tables of the fake's messages: for fake_messages.c, fake_pump.c and fake_settle.c. */
#ifndef PRISM_TESTS_FAKE_FAKE_LOG_H
#define PRISM_TESTS_FAKE_FAKE_LOG_H

#include "tests/fake/fake_backend.h"

enum fake_kind { FAKE_KIND_TOPIC, FAKE_KIND_STREAM, FAKE_KIND_QUEUE };

enum fake_claim_state { FAKE_NEW, FAKE_OUT, FAKE_WAITS, FAKE_DONE };

/* What a group knows of one message. */
struct fake_claim {
    enum fake_claim_state state;
    bool again; /* it was handed over before */
    uint32_t attempt, generation;
    uint64_t until_ms; /* FAKE_WAITS: the retry; FAKE_OUT: the lease, 0 = none */
    uint64_t ticket;   /* the token that the last one was made of */
    struct fake_subscription *holder;
};

struct fake_group {
    struct fake_group *next;
    char *name; /* NULL: none */
    struct fake_claim *claims;
    size_t n;     /* claims; those behind are new */
    int64_t from; /* what is before is not for this group */
    uint32_t epoch;
};

struct fake_kept {
    struct outgoing m; /* slices owned */
    uint64_t timestamp_ms, due_ms;
    int32_t partition;
    bool gone;    /* retention, or settled (queues), or dead */
    char *reason; /* dead */
    uint64_t died_ms;
    bool dead;
};

struct fake_log {
    struct fake_log *next;
    enum fake_kind kind;
    char *name;
    struct fake_kept *kept;
    size_t n, room;
    int64_t first; /* retention has removed what is before */
    struct fake_group *groups;
};

struct fake_subscription {
    struct fake_subscription *next;
    struct fake_world *world;
    struct subscription *subscription;
    enum fake_kind kind;
    struct fake_log *log;
    struct fake_group *group;
    int64_t cursor; /* topics */
    bool started, opened, seeked, revoked, ending;
    bool leaves, told_leaving; /* of partition `leaving`, until leaving_ms */
    int32_t leaving;           /* nothing is taken of it any more */
    uint64_t leaving_ms;
    struct err err;    /* ending */
    uint64_t lost[64]; /* tokens whose lease ran out, not told; the first ones */
    size_t n_lost;
    uint64_t settled[64]; /* likewise, by ticket */
    size_t n_settled;
};

struct fake_world *fake_world_of(struct backend *backend);
struct fake_log *fake_log_find(struct fake_world *world, enum fake_kind kind, struct slice name,
                               bool create);
struct fake_group *fake_group_find(struct fake_log *log, struct slice name, bool create);
struct fake_claim *fake_claim(struct fake_group *group, int64_t offset);
bool fake_key_equal(const struct fake_kept *a, const struct fake_kept *b);
int64_t fake_log_append(struct fake_world *world, struct fake_log *log, const struct outgoing *m);

/* What the subscription holds. NULL: no longer its own; *offset -1: of a time before a seek. */
struct fake_claim *fake_claim_held(struct fake_subscription *s, uint64_t token, int64_t *offset);

/* All of this subscription's deliveries, or those of one partition, are given back, without an
 * attempt. */
void fake_give_back(struct fake_subscription *s);
void fake_give_back_of(struct fake_subscription *s, int32_t partition);
bool fake_holds_of(const struct fake_subscription *s, int32_t partition);

/* Retries and leases that are due. */
void fake_expire(struct fake_subscription *s);

/* fake_settle.c, fake_publish.c */
void fake_settle(struct backend *backend, struct settle *settle);
void fake_extend(struct backend *backend, struct extend *extend);
void fake_publish_topic(struct backend *backend, struct publish *publish);
void fake_publish_stream(struct backend *backend, struct publish *publish);
void fake_publish_queue(struct backend *backend, struct publish *publish);
void fake_describe(struct backend *backend, struct stream_describe *request);
void fake_position(struct backend *backend, struct stream_position *request);
void fake_seek(struct backend *backend, struct stream_seek *request);
void fake_count(struct backend *backend, struct queue_count *request);
void fake_dead_list(struct backend *backend, struct dead_list *request);
void fake_dead_move(struct backend *backend, struct dead_move *request);

/* fake_tickets.c */
extern const struct message_tickets fake_stream_tickets, fake_queue_tickets;

/* fake_pump.c */
void fake_open_topic(struct backend *backend, struct subscription *subscription);
void fake_open_stream(struct backend *backend, struct subscription *subscription);
void fake_open_queue(struct backend *backend, struct subscription *subscription);
void fake_grant(struct backend *backend, struct subscription *subscription, uint32_t messages,
                uint64_t bytes);
void fake_withdraw(struct backend *backend, struct subscription *subscription);
void fake_close_subscription(struct backend *backend, struct subscription *subscription);

static inline uint64_t fake_token(const struct fake_group *group, int64_t offset,
                                  const struct fake_claim *claim)
{
    return (uint64_t)group->epoch << 48 | (uint64_t)(offset + 1) << 20 |
           (claim->generation & 0xfffff);
}

#endif
