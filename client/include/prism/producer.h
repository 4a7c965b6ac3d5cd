/* Client of the Producer pattern: messages into topics.
 *
 * Every message has an outcome of its own. "Stored" means what the backend's acknowledgement means
 * (prism_producer_capabilities, ack_means), no more. "Unknown" means that the message was sent and
 * the answer was lost: the backend may have the message, now or later, and the library never
 * publishes such a message again on its own. An application that does so needs a message_id and a
 * server that deduplicates, or accepts a second copy.
 *
 * Order: messages of one topic with the same ordering_key keep the order in which their calls were
 * made, one after the other, or in which they stand in one batch.
 *
 * Rules on threads, ownership, errors, deadlines and retries: <prism/prism.h>; publishing is a
 * write. Every function here may be called on any thread. `error` may be NULL. */
#ifndef PRISM_PRODUCER_H
#define PRISM_PRODUCER_H

#include <prism/operation.h>
#include <prism/prism.h>

#ifdef __cplusplus
extern "C" {
#endif

struct prism_producer;

/* Asks the server for its capabilities and keeps the answer. Free with prism_producer_close.
 * errors: UNAVAILABLE, DEADLINE_EXCEEDED (server not reached), UNIMPLEMENTED (the namespace has no
 * Producer pattern), NOT_FOUND (no such namespace), and what any call may return. */
PRISM_API enum prism_code prism_producer_open(struct prism_channel *channel,
                                              struct prism_producer **producer,
                                              struct prism_error *error);

/* No call may be running. NULL is accepted. The channel stays open. */
PRISM_API void prism_producer_close(struct prism_producer *producer);

/* Texts are never NULL. Numbers: 0 = not bounded. */
struct prism_producer_capabilities {
    const char *backend_type; /* of the slot message_sink: "memstore" */
    const char *ack_means;    /* of a stored message, for people; "" = not stated */
    bool supports_ordering;   /* an ordering_key is not refused */
    bool supports_batching;
    bool supports_deduplication; /* a message_id is remembered */
    int64_t max_message_bytes;   /* of one payload */
    int64_t max_batch_messages;
    const struct prism_operation *operations;
    size_t operation_count;
};

/* Owned by the client object, and valid as long as it. Never NULL. */
PRISM_API const struct prism_producer_capabilities *prism_producer_capabilities(
    const struct prism_producer *producer);

struct prism_header {
    const char *name; /* not empty */
    struct prism_bytes value;
};

/* Borrowed until the call returns. */
struct prism_message {
    const char *topic; /* not empty */
    struct prism_bytes payload;
    const char *message_id;          /* 1 to 256 bytes; NULL = none */
    struct prism_bytes ordering_key; /* data NULL = none; an empty key is a key */
    const struct prism_header *headers;
    size_t header_count;
    bool null_payload; /* a tombstone, where the backend has them; payload must be empty */
};

enum prism_outcome {
    PRISM_OUTCOME_UNKNOWN, /* the backend may have the message */
    PRISM_NOT_STORED,      /* the backend has not got the message, and will not */
    PRISM_STORED
};

/* "STORED", "NOT_STORED", "UNKNOWN"; static. */
PRISM_API const char *prism_outcome_name(enum prism_outcome outcome);

/* Outcome of one message; borrowed from its prism_published. */
struct prism_publish_result {
    enum prism_outcome outcome;
    enum prism_code code;    /* PRISM_OK exactly when stored */
    const char *message;     /* why not stored; "" with PRISM_OK */
    const char *message_id;  /* as consumers will see it; "" = none */
    const char *position;    /* as the backend writes it, opaque; "" = not told */
    int64_t offset;          /* -1 = not told */
    int32_t partition;       /* -1 = not told */
    uint32_t retry_after_ms; /* the server's advice; 0 = none */
    bool deduplicated;       /* published before, and not again */
    bool claim_checked;      /* the payload lies in the object store */
};

/* One result per message, in the order of the request. Free with prism_published_free. */
struct prism_published {
    size_t count, stored;
    const struct prism_publish_result *results;
    /* Of every message, when the call failed as a whole and there are no results: not stored, if
     * that is proven, else unknown. */
    enum prism_outcome outcome;
    void *owned; /* private */
};

/* NULL and zeroed objects are accepted; leaves the object zeroed. */
PRISM_API void prism_published_free(struct prism_published *published);

struct prism_publish_options {
    uint32_t deadline_ms; /* 0 = the channel's if it was given one, else 15000: longer than a
                             server tries (publish_timeout_ms) */
    bool atomic;          /* all are stored, or none. Only of prism_publish_batch */
};

/* Publishes one message and waits for its outcome. Returns PRISM_OK when the server has answered,
 * also if the message was not stored: look at published->results[0]. Any other code is about the
 * call, and then there are no results and published->outcome tells what is known.
 * options: NULL = all zero.   published: not NULL; free it whatever the code.
 * errors: INVALID_ARGUMENT (topic, message_id, headers, size), UNIMPLEMENTED (ordering_key, or
 *   another part that the backend cannot carry), PERMISSION_DENIED (topic), RESOURCE_EXHAUSTED,
 *   UNAVAILABLE, DEADLINE_EXCEEDED. */
PRISM_API enum prism_code prism_publish(struct prism_producer *producer,
                                        const struct prism_message *message,
                                        const struct prism_publish_options *options,
                                        struct prism_published *published,
                                        struct prism_error *error);

/* Publishes n messages in one call. As prism_publish, with one result per message; a message whose
 * predecessor of the same key failed in this call is ABORTED and not stored. Nothing is split: more
 * than max_batch_messages are INVALID_ARGUMENT, and the server's limit on the size of a request
 * holds for all of them together.
 * atomic: the messages go to one topic. One that cannot be published is an error of the call, which
 * names it (messages[3].payload); else all results have one outcome and one code.
 * errors: as prism_publish; UNIMPLEMENTED also without supports_batching, and for atomic where the
 *   backend has no such batches; ALREADY_EXISTS for atomic, if only some message_ids are known. */
PRISM_API enum prism_code prism_publish_batch(struct prism_producer *producer,
                                              const struct prism_message *messages, size_t n,
                                              const struct prism_publish_options *options,
                                              struct prism_published *published,
                                              struct prism_error *error);

#ifdef __cplusplus
}
#endif

#endif
