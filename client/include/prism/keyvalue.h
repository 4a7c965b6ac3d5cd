/* Client of the KeyValue pattern: values of any bytes under keys of UTF-8 text.
 *
 * A client object learns, when it is opened, what the server's backend can do. A call that the
 * backend cannot serve is refused at once, without asking the server: PRISM_UNIMPLEMENTED with a
 * message like "scan not supported by backend (s3): ...". When an operation is emulated, its first
 * use is reported to the channel's log callback, once.
 *
 * Rules on threads, ownership, errors, deadlines and retries: <prism/prism.h>. Every function here
 * may be called on any thread. `error` may be NULL except where said otherwise. */
#ifndef PRISM_KEYVALUE_H
#define PRISM_KEYVALUE_H

#include <prism/operation.h>
#include <prism/prism.h>

#ifdef __cplusplus
extern "C" {
#endif

struct prism_keyvalue;

/* Asks the server for its capabilities and keeps the answer. Free with prism_keyvalue_close.
 * errors: UNAVAILABLE, DEADLINE_EXCEEDED (server not reached), UNIMPLEMENTED (the server has no
 * KeyValue pattern), NOT_FOUND (not in the channel's namespace), and what any call may return. */
PRISM_API enum prism_code prism_keyvalue_open(struct prism_channel *channel,
                                              struct prism_keyvalue **keyvalue,
                                              struct prism_error *error);

/* No call may be running, asynchronous ones included (prism_channel_wait). NULL is accepted. The
 * channel stays open. */
PRISM_API void prism_keyvalue_close(struct prism_keyvalue *keyvalue);

/* ---- capabilities ---- */

struct prism_keyvalue_capabilities {
    const char *backend_type;      /* "redis" */
    const char *const *interfaces; /* "KeyValueScanInterface", ... */
    size_t interface_count;
    bool supports_batch, supports_scan, supports_expiration;
    bool supports_transactions;  /* atomic batches */
    bool supports_preconditions; /* if_absent, if_version, with_version */
    enum prism_performance scan_performance, batch_performance;
    int64_t max_key_bytes, max_value_bytes; /* 0 = not bounded */
    const struct prism_operation *operations;
    size_t operation_count;
};

/* Owned by the client object, and valid as long as it. Never NULL. A server that restarts with
 * another backend is noticed only by opening a new client object. */
PRISM_API const struct prism_keyvalue_capabilities *prism_keyvalue_capabilities(
    const struct prism_keyvalue *keyvalue);

/* ---- single keys ---- */

/* Options of calls that have no others. NULL means all zero, here and for all options below. */
struct prism_call_options {
    uint32_t deadline_ms; /* 0 = the channel's */
};

struct prism_store_options {
    uint32_t deadline_ms;
    int64_t expiration_s; /* seconds until the item expires; 0 = never */
    bool if_absent;       /* write only if there is no such key */
    struct prism_bytes
        if_version; /* write only over this version; empty = any. Not with if_absent */
};

/* Writes a value; value and expiry take effect as one.
 * version: may be NULL; else receives, if a precondition was given and held, the version of the
 *   item stored; otherwise it is left empty. Free with prism_buffer_free whatever the outcome.
 * errors: UNIMPLEMENTED (expiration or precondition not supported by backend), ALREADY_EXISTS or
 *   FAILED_PRECONDITION (a precondition did not hold), RESOURCE_EXHAUSTED (store full),
 *   INVALID_ARGUMENT (key, value). */
PRISM_API enum prism_code prism_keyvalue_store(struct prism_keyvalue *keyvalue, const char *key,
                                               struct prism_bytes value,
                                               const struct prism_store_options *options,
                                               struct prism_buffer *version,
                                               struct prism_error *error);

struct prism_retrieve_options {
    uint32_t deadline_ms;
    bool with_version; /* for a later if_version; needs supports_preconditions */
};

/* Free with prism_value_free. */
struct prism_value {
    bool found; /* tells an absent key from an empty value */
    struct prism_buffer data;
    struct prism_buffer version; /* empty unless asked for */
};

PRISM_API void prism_value_free(struct prism_value *value);

/* Reads a value. An absent key is PRISM_OK with found = false. */
PRISM_API enum prism_code prism_keyvalue_retrieve(struct prism_keyvalue *keyvalue, const char *key,
                                                  const struct prism_retrieve_options *options,
                                                  struct prism_value *value,
                                                  struct prism_error *error);

/* Removes a key. An absent one is PRISM_OK. existed: may be NULL. */
PRISM_API enum prism_code prism_keyvalue_remove(struct prism_keyvalue *keyvalue, const char *key,
                                                const struct prism_call_options *options,
                                                bool *existed, struct prism_error *error);

PRISM_API enum prism_code prism_keyvalue_exists(struct prism_keyvalue *keyvalue, const char *key,
                                                const struct prism_call_options *options,
                                                bool *exists, struct prism_error *error);

/* ---- expiry and counting ---- */

enum { PRISM_NEVER_EXPIRES = -1, PRISM_NO_SUCH_KEY = -2 };

/* Sets or replaces the expiry of a present key. seconds: 0 removes the key at once; not negative.
 * existed: may be NULL; false = there was no such key, and nothing happened. */
PRISM_API enum prism_code prism_keyvalue_set_expiration(struct prism_keyvalue *keyvalue,
                                                        const char *key, int64_t seconds,
                                                        const struct prism_call_options *options,
                                                        bool *existed, struct prism_error *error);

/* seconds: left until expiry, rounded up; or PRISM_NEVER_EXPIRES, PRISM_NO_SUCH_KEY. */
PRISM_API enum prism_code prism_keyvalue_get_expiration(struct prism_keyvalue *keyvalue,
                                                        const char *key,
                                                        const struct prism_call_options *options,
                                                        int64_t *seconds,
                                                        struct prism_error *error);

/* removed: may be NULL; false = the key had no expiry, or is absent. */
PRISM_API enum prism_code prism_keyvalue_clear_expiration(struct prism_keyvalue *keyvalue,
                                                          const char *key,
                                                          const struct prism_call_options *options,
                                                          bool *removed, struct prism_error *error);

/* Counts the keys that begin with prefix (NULL or "": all). May cost the server a whole scan. */
PRISM_API enum prism_code prism_keyvalue_count(struct prism_keyvalue *keyvalue, const char *prefix,
                                               const struct prism_call_options *options,
                                               int64_t *count, struct prism_error *error);

/* ---- batches ---- */

struct prism_store_item {
    const char *key;
    struct prism_bytes value;
    int64_t expiration_s; /* 0 = never */
    bool if_absent;       /* as in prism_store_options */
    struct prism_bytes if_version;
};

struct prism_batch_options {
    uint32_t deadline_ms;
    bool atomic; /* all items or none; needs supports_transactions. Ignored by retrieve_batch */
};

/* Outcome of one item; borrowed from its batch. */
struct prism_item_result {
    enum prism_code code;
    const char *message;        /* why not; "" with PRISM_OK */
    bool found;                 /* retrieve: the key is present. remove: it was */
    struct prism_bytes value;   /* retrieve */
    struct prism_bytes version; /* store, with a precondition */
};

/* One result per item, in the order of the request. Free with prism_batch_free. */
struct prism_batch {
    size_t count, succeeded;
    const struct prism_item_result *items;
    void *owned; /* private */
};

/* NULL and zeroed batches are accepted; leaves the batch zeroed. */
PRISM_API void prism_batch_free(struct prism_batch *batch);

/* The three batch calls return PRISM_OK when the server answered for every item, also if some or
 * all of them failed: look at batch->succeeded and at the items. Any other code is about the call
 * as a whole, and then batch is empty. A batch larger than the operation's max_items is refused by
 * the server (INVALID_ARGUMENT); nothing is split behind the caller's back, because two calls would
 * not be one batch. For a key named twice the later item decides. */
PRISM_API enum prism_code prism_keyvalue_store_batch(struct prism_keyvalue *keyvalue,
                                                     const struct prism_store_item *items, size_t n,
                                                     const struct prism_batch_options *options,
                                                     struct prism_batch *batch,
                                                     struct prism_error *error);

PRISM_API enum prism_code prism_keyvalue_retrieve_batch(struct prism_keyvalue *keyvalue,
                                                        const char *const *keys, size_t n,
                                                        const struct prism_batch_options *options,
                                                        struct prism_batch *batch,
                                                        struct prism_error *error);

PRISM_API enum prism_code prism_keyvalue_remove_batch(struct prism_keyvalue *keyvalue,
                                                      const char *const *keys, size_t n,
                                                      const struct prism_batch_options *options,
                                                      struct prism_batch *batch,
                                                      struct prism_error *error);

/* ---- scan ---- */

struct prism_scan_options {
    uint32_t deadline_ms; /* of each fetch from the server, not of the whole scan */
    const char *prefix;   /* NULL or "": all keys */
    uint32_t page_size;   /* keys per fetch; 0 = 1000. The server may lower it */
    bool with_values;
};

/* Borrowed; valid until the next prism_scan_next or prism_scan_close. key NULL: none. */
struct prism_scan_item {
    const char *key;
    struct prism_bytes value; /* empty unless with_values */
};

/* One thread at a time. Memory: one fetch of at most page_size keys and about 4 MiB is held. */
struct prism_scan;

/* Prepares to enumerate; the first prism_scan_next asks the server. Free with prism_scan_close. */
PRISM_API enum prism_code prism_keyvalue_scan(struct prism_keyvalue *keyvalue,
                                              const struct prism_scan_options *options,
                                              struct prism_scan **scan, struct prism_error *error);

/* The next key. Follows the server's cursors over as many calls as it takes, and continues at the
 * last cursor after a failure that may be retried.
 * Returns false at the end (error->code is PRISM_OK) and on failure (any other code; keys returned
 * before stay good). After false, false again with the same error. error must not be NULL.
 * Keys come in the server's order and are passed on as they come: a key present throughout is
 * reported at least once, one that is written or
 * removed meanwhile may be missed; the library drops nothing, because that would need memory for
 * every key seen. */
PRISM_API bool prism_scan_next(struct prism_scan *scan, struct prism_scan_item *item,
                               struct prism_error *error);

/* At any time; NULL is accepted. Before its client object is closed. */
PRISM_API void prism_scan_close(struct prism_scan *scan);

/* ---- asynchronous ---- */

/* These return at once, having copied their arguments. If they return PRISM_OK, the callback runs
 * later, exactly once; otherwise (refused before the call) it does not run. Refusals, deadlines and
 * retries as above. A callback runs on the channel's own thread: it must not block or call the
 * synchronous functions, but may start further asynchronous calls. error is never NULL; it and the
 * result are borrowed, and gone when the callback returns. A few hundred calls in flight use the
 * channel well; more only queue. */
typedef void prism_stored_fn(void *context, const struct prism_error *error,
                             struct prism_bytes version);
typedef void prism_retrieved_fn(void *context, const struct prism_error *error,
                                const struct prism_value *value);
typedef void prism_removed_fn(void *context, const struct prism_error *error, bool existed);

/* To whom an asynchronous call reports: the member for the function in use is set, and context is
 * handed to it. */
struct prism_callback {
    union {
        prism_stored_fn *stored;
        prism_retrieved_fn *retrieved;
        prism_removed_fn *removed;
    } fn;
    void *context;
};

PRISM_API enum prism_code prism_keyvalue_store_async(struct prism_keyvalue *keyvalue,
                                                     const char *key, struct prism_bytes value,
                                                     const struct prism_store_options *options,
                                                     struct prism_callback callback,
                                                     struct prism_error *error);

PRISM_API enum prism_code prism_keyvalue_retrieve_async(
    struct prism_keyvalue *keyvalue, const char *key, const struct prism_retrieve_options *options,
    struct prism_callback callback, struct prism_error *error);

PRISM_API enum prism_code prism_keyvalue_remove_async(struct prism_keyvalue *keyvalue,
                                                      const char *key,
                                                      const struct prism_call_options *options,
                                                      struct prism_callback callback,
                                                      struct prism_error *error);

#ifdef __cplusplus
}
#endif

#endif
