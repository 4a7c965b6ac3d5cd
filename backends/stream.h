/* Streams: logs that are kept for a time and read by groups.
 *
 * Each group reads every message; within a group a message is one subscription's until it is
 * settled. A topic has one or more partitions (-1 as partition: the source has none); order holds
 * within one. What a group has not settled comes again: after RETRY or RELEASE, after a lease has
 * run out, after the subscription's end.
 *
 * An atomic publish (message.h) is there for a group as a whole: a member that asks gets of it what
 * its credit allows, and the rest is already behind. Within one partition; retention and the
 * settlement of its messages know nothing of it. */
#ifndef PRISM_BACKENDS_STREAM_H
#define PRISM_BACKENDS_STREAM_H

#include "backends/subscription.h"

enum retention {
    RETENTION_UNKNOWN,
    RETENTION_KEEPS_UNREAD, /* nothing goes before all groups have settled it: a full topic refuses
                               publish with ERR_RESOURCE_EXHAUSTED */
    RETENTION_LOSSY         /* age, bytes or count may remove what a group has not read: gap() */
};

/* Is there such a topic, and what does it promise? One round trip at most. */
struct stream_describe {
    struct op op;
    struct slice topic;
    /* out; in op_arena() */
    bool found;
    uint32_t partitions; /* 0: none */
    enum retention retention;
    int ack;                    /* enum backend_ack, of this topic */
    uint64_t max_message_bytes; /* 0 = the sink's */
    const char *retention_text; /* which setting makes it lossy; NULL: none */
};

struct stream_partition {
    int32_t partition; /* -1: none */
    /* -1: unknown. Where offsets are no numbers only lag is set */
    int64_t first;         /* oldest message that is there */
    int64_t end;           /* where the next message will be written */
    int64_t committed;     /* all before it is settled */
    int64_t lag;           /* messages that the group has not settled; -1 rather than wrong */
    struct slice position; /* of committed; opaque */
};

/* Where a group stands. */
struct stream_position {
    struct op op;
    struct slice topic, group;
    /* out; in op_arena() */
    bool found; /* false: the group has no position (yet) */
    struct stream_partition *partitions;
    size_t n;
    int64_t unsettled; /* handed over, in all processes; -1: unknown */
    int64_t parked;    /* waiting for a retry; -1: unknown */
    uint64_t next;     /* nobody holds them, and only this process will; 0: none, or unknown */
};

/* Moves a group. All of its deliveries are void: the subscription is told MOVE_LOST, MOVED_BY_SEEK,
 * before the first message from the new place. Messages of all of the group's members come from
 * there, in all processes; where the source cannot do that while others read:
 * ERR_FAILED_PRECONDITION, nothing was done. Errors: ERR_NOT_FOUND about "topic",
 * ERR_OUT_OF_RANGE about "offset" (not there any more, or not yet), ERR_INVALID_ARGUMENT about
 * "position". */
struct stream_seek {
    struct op op;
    struct slice topic, group;
    int32_t partition;       /* -1: all, or the only one */
    enum stream_start start; /* not START_COMMITTED; START_OFFSET and START_POSITION need one
                                partition */
    int64_t at;
    struct slice position;
};

struct stream {
    struct message_sink sink;
    struct message_source source;
    struct message_settling settling;
    bool offsets; /* offsets are numbers that clients can use */
    void (*describe)(struct backend *, struct stream_describe *);
    void (*position)(struct backend *, struct stream_position *);
    bool dear_position; /* an answer costs the server a connection, or more: ask seldom */
    void (*seek)(struct backend *, struct stream_seek *); /* NULL: no replay */
};

#endif
