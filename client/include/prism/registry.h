/* Client of the MulticastRegistry pattern: identities with metadata, and messages to all that match
 * a filter.
 *
 * Rules on threads, ownership, errors, deadlines and retries: <prism/prism.h>. Register and
 * Unregister are writes; a multicast is never repeated by the library. `error` may be NULL. */
#ifndef PRISM_REGISTRY_H
#define PRISM_REGISTRY_H

#include <prism/prism.h>

#ifdef __cplusplus
extern "C" {
#endif

struct prism_registry;

/* Asks the server for its capabilities. Free with prism_registry_close.
 * errors: UNAVAILABLE, DEADLINE_EXCEEDED (server not reached), UNIMPLEMENTED (the namespace has no
 * MulticastRegistry pattern), NOT_FOUND (no such namespace), and what any call may return. */
PRISM_API enum prism_code prism_registry_open(struct prism_channel *channel,
                                              struct prism_registry **registry,
                                              struct prism_error *error);

/* No call may be running. NULL is accepted. The channel stays open. */
PRISM_API void prism_registry_close(struct prism_registry *registry);

/* Types of the backends in the slots; never NULL. */
struct prism_registry_capabilities {
    const char *backend_type; /* of registry: "postgres" */
    const char *messaging_backend_type;
    const char *durability_backend_type; /* "" = none: nothing is kept for who does not listen */
    const struct prism_operation *operations;
    size_t operation_count;
    /* Operators of filters, "EQUALS IN TYPE", by who evaluates them: the registry's backend, or
     * Prism on what the backend sends it. "" = none; both "" = an older server did not tell. */
    const char *filters_in_backend, *filters_in_prism;
};

/* Owned by the client object, and valid as long as it. Never NULL. */
PRISM_API const struct prism_registry_capabilities *prism_registry_capabilities(
    const struct prism_registry *registry);

/* ---- identities ---- */

enum prism_field_type { PRISM_FIELD_TEXT, PRISM_FIELD_NUMBER, PRISM_FIELD_BOOL, PRISM_FIELD_NULL };

/* One field of the metadata. Borrowed. */
struct prism_field {
    const char *name; /* not empty */
    enum prism_field_type type;
    const char *text; /* PRISM_FIELD_TEXT */
    double number;    /* PRISM_FIELD_NUMBER */
    bool truth;       /* PRISM_FIELD_BOOL */
};

/* All zero: without metadata, for as long as the namespace says, and not over another. Borrowed. */
struct prism_register_options {
    const struct prism_field *fields;
    size_t field_count;
    const char *const *tags;
    size_t tag_count;
    int64_t ttl_ms;        /* 0 = the namespace's default */
    bool replace;          /* an identity that is there is replaced */
    int64_t if_generation; /* only in place of this registration; needs replace; 0 = any */
};

/* generation names this registration; may be NULL.
 * errors: ALREADY_EXISTS, FAILED_PRECONDITION (another generation), INVALID_ARGUMENT,
 *   RESOURCE_EXHAUSTED, and what any write may return. */
PRISM_API enum prism_code prism_registry_register(struct prism_registry *registry,
                                                  const char *identity,
                                                  const struct prism_register_options *options,
                                                  int64_t *generation, struct prism_error *error);

/* Many at once, 1,000 at most, all with the same options; each has an outcome of its own.
 * registered: how many are, NULL = not told. errors: of the first that is not, as above, its name
 * before the message; the others have outcomes of their own. */
PRISM_API enum prism_code prism_registry_register_many(struct prism_registry *registry,
                                                       const char *const *identities, size_t count,
                                                       const struct prism_register_options *options,
                                                       size_t *registered,
                                                       struct prism_error *error);

/* if_generation 0: any. existed: whether it was registered; may be NULL.
 * errors: FAILED_PRECONDITION (another generation), and what any write may return. */
PRISM_API enum prism_code prism_registry_unregister(struct prism_registry *registry,
                                                    const char *identity, int64_t if_generation,
                                                    bool *existed, struct prism_error *error);

/* Number of identities that match the filter (JSON text; NULL: all). */
PRISM_API enum prism_code prism_registry_count(struct prism_registry *registry, const char *filter,
                                               int64_t *count, struct prism_error *error);

/* Borrowed until the function returns. */
struct prism_identity {
    const char *name;
    const char *metadata; /* a JSON object, in one line */
    const char *const *tags;
    size_t tag_count;
    int64_t generation;
    int64_t registered_at_ms; /* since 1970-01-01T00:00:00Z */
    int64_t expires_at_ms;    /* -1 = never */
};

/* False ends the enumeration. `context` is the caller's. thread: the one that waits. */
typedef bool prism_identity_fn(void *context, const struct prism_identity *identity);

/* Tells each identity that matches the filter (JSON text; NULL: all), fetched page by page, in the
 * registry's order. Those that come or go meanwhile may be missed. Each page is a call.
 * errors: INVALID_ARGUMENT (filter), and what any read may return; some may have been told. */
PRISM_API enum prism_code prism_registry_enumerate(struct prism_registry *registry,
                                                   const char *filter, prism_identity_fn *tell,
                                                   void *context, struct prism_error *error);

/* ---- multicasts ---- */

/* Borrowed. All zero is an empty payload to everybody. */
struct prism_multicast {
    const char *filter;            /* JSON text: {"city": "Oslo"}; NULL: all */
    const char *const *identities; /* only these; NULL: all that match */
    size_t identity_count;
    struct prism_bytes payload;
    const char *content_type; /* NULL: none */
    const char *message_id;   /* NULL: the server makes one up */
    int64_t max_targets;     /* more matches are refused, before anything is sent; 0 = any number */
    int32_t rate_per_second; /* 0 = not bounded */
    int64_t timeout_ms;      /* of all deliveries; 0 = the call's deadline */
    bool dry_run;            /* counts, tells the cost, and sends nothing */
    uint32_t deadline_ms;    /* 0 = the channel's */
};

/* What a multicast would cost, were each delivery done at its first attempt. */
struct prism_multicast_cost {
    bool told; /* by a dry run that would not be refused for its number of targets, of a server that
                  knows it; else the rest is 0 */
    int64_t published_messages; /* at most: those for whom nobody listens may need none */
    int64_t stored_messages;    /* kept until they are received */
    int64_t message_bytes;      /* of them all: payload, and headers with the server's own */
    int64_t least_ms;           /* that the rate makes it take, at least */
};

/* Totals since the multicast began. */
struct prism_multicast_counts {
    int64_t targets, delivered, no_receiver, pending, failed, skipped, confirmed;
    struct prism_multicast_cost cost;
};

/* Told after each page. `context` is the caller's. thread: the one that waits. */
typedef void prism_multicast_fn(void *context, const struct prism_multicast_counts *counts);

/* Waits until each delivery has an outcome. PRISM_OK: none failed. Any other code after which
 * counts->targets is not 0: some failed, or not all were reached; the error says why.
 * progress: NULL = not told. */
PRISM_API enum prism_code prism_registry_multicast(struct prism_registry *registry,
                                                   const struct prism_multicast *multicast,
                                                   prism_multicast_fn *progress, void *context,
                                                   struct prism_multicast_counts *counts,
                                                   struct prism_error *error);

/* ---- receiving ---- */

/* What happens when the receiver is too slow and what waits for one identity of it is full; the
 * protocol's numbers. */
enum prism_full_policy {
    PRISM_FULL_NAMESPACE, /* as the server's namespace has it */
    PRISM_FULL_DROP_OLDEST,
    PRISM_FULL_DROP_NEWEST,
    PRISM_FULL_LATEST_PER_KEY, /* by the senders' collapse_key; without one, the newest */
    PRISM_FULL_END_STREAM      /* PRISM_RESOURCE_EXHAUSTED */
};

/* Why messages did not come; the protocol's numbers. */
enum prism_drop_reason {
    PRISM_DROP_OLDEST = 1,
    PRISM_DROP_NEWEST,
    PRISM_DROP_REPLACED, /* by a later one of the same key */
    PRISM_DROP_GAP,      /* lost before the server had them: each time counts as one */
    PRISM_DROP_GIVEN_UP, /* kept, and handed over too often */
    PRISM_DROP_ENDED,    /* the identity is no longer received for */
    PRISM_DROP_REASONS
};

/* Borrowed until the function returns. */
struct prism_multicast_message {
    const char *message_id, *content_type; /* "" = none */
    struct prism_bytes payload;
    const char *const *identities; /* those of the receiver's that it is for */
    size_t identity_count;
    int64_t published_at_ms;                /* 0 = not told */
    int64_t dropped;                        /* messages lost before this one */
    int64_t dropped_by[PRISM_DROP_REASONS]; /* ... by reason; one that is newer than this library
                                               is in `dropped` only */
};

/* False ends the receiving. Called with NULL when the receiver stands: what is multicast from then
 * on arrives. */
typedef bool prism_receive_fn(void *context, const struct prism_multicast_message *message);

/* Borrowed. */
struct prism_receiver {
    const char *const *identities;
    size_t identity_count;
    uint32_t deadline_ms; /* 0 = the channel's */
    prism_receive_fn *receive;
    void *context; /* of receive */
    enum prism_full_policy when_full;
};

/* Receives until `receive` returns false, which is PRISM_OK, or the connection is lost or the
 * deadline is over; what is multicast until the next call is missed. Where the server keeps
 * messages (a `durability` slot), each is confirmed as soon as the connection has taken it. */
PRISM_API enum prism_code prism_registry_receive(struct prism_registry *registry,
                                                 const struct prism_receiver *receiver,
                                                 struct prism_error *error);

#ifdef __cplusplus
}
#endif

#endif
