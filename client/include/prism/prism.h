/* libprism: the C client of Prism. This header holds what every pattern's client shares: the
 * channel to a server, errors, and the rules for deadlines and retries. One further header per
 * pattern: <prism/keyvalue.h>.
 *
 * Threads. Any number of threads may use one channel, and one client object, at the same time. What
 * a function returns belongs to its caller alone.
 *
 * Ownership. Arguments are borrowed until the function returns (asynchronous ones too: they copy).
 * Results are the caller's, who frees them with the function that the result's comment names.
 *
 * Errors. A function that can fail returns an enum prism_code and, if the caller passed a struct
 * prism_error, fills it; on success it sets code to PRISM_OK there. Results are valid only with
 * PRISM_OK unless a comment says otherwise. When memory runs out, the process is aborted.
 *
 * Deadlines. Every call has one: its own, else the channel's. It covers all attempts and the waits
 * between them.
 *
 * Retries. A call that only reads is tried again when the server is UNAVAILABLE or refused it for
 * lack of room and said when to come back. A call that writes is tried again only when it is proven
 * that nothing happened: no connection could be made, so that the request was never sent; or the
 * server says so, because it is overloaded or about to stop, or does not reach its backend.
 * Otherwise a repeated write could undo what somebody else wrote in between, and only the
 * application knows whether that matters: the error's `retryable` is false then, and the outcome of
 * the write unknown. The waits grow exponentially with jitter, are never shorter than the server
 * asked for, and no attempt begins that could not begin before the deadline. */
#ifndef PRISM_PRISM_H
#define PRISM_PRISM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PRISM_API __attribute__((visibility("default")))

/* Numbers are those of gRPC's status codes. */
enum prism_code {
    PRISM_OK = 0,
    PRISM_CANCELLED = 1, /* by the application; what the server breaks off is UNAVAILABLE */
    PRISM_UNKNOWN = 2,
    PRISM_INVALID_ARGUMENT = 3,  /* prism_error.field names the part at fault */
    PRISM_DEADLINE_EXCEEDED = 4, /* a write may or may not have happened */
    PRISM_NOT_FOUND = 5,         /* of a namespace; an absent key is a result, not an error */
    PRISM_ALREADY_EXISTS = 6,    /* if_absent did not hold */
    PRISM_PERMISSION_DENIED = 7,
    PRISM_RESOURCE_EXHAUSTED = 8,  /* overload, a full store, or a message over the size limit */
    PRISM_FAILED_PRECONDITION = 9, /* if_version did not hold */
    PRISM_ABORTED = 10,
    PRISM_OUT_OF_RANGE = 11,
    PRISM_UNIMPLEMENTED = 12, /* not supported by the backend, or by this server */
    PRISM_INTERNAL = 13,
    PRISM_UNAVAILABLE = 14, /* no connection, or the server's backend is down */
    PRISM_DATA_LOSS = 15,
    PRISM_UNAUTHENTICATED = 16
};

/* "INVALID_ARGUMENT"; "UNKNOWN" for a number that is none of the above. Static. thread: any. */
PRISM_API const char *prism_code_name(enum prism_code code);

/* A value: nothing in it needs freeing. Longer texts are cut. */
struct prism_error {
    enum prism_code code;
    bool retryable;          /* the same call may succeed later, and repeating it does no harm */
    uint32_t retry_after_ms; /* the server's advice how long to wait first; 0 = none */
    char field[128];         /* the field at fault, as the protocol names it; "" = none named */
    char message[512];       /* a sentence for people; "" with PRISM_OK */
};

/* Borrowed bytes. data may be NULL only when len is 0. */
struct prism_bytes {
    const void *data;
    size_t len;
};

static inline struct prism_bytes prism_bytes_of(const void *data, size_t len)
{
    struct prism_bytes bytes = {data, len};

    return bytes;
}

/* Owned bytes: free with prism_buffer_free. data is NULL when there are none. */
struct prism_buffer {
    uint8_t *data;
    size_t len;
};

/* Leaves the buffer empty. NULL and empty buffers are accepted. thread: any. */
PRISM_API void prism_buffer_free(struct prism_buffer *buffer);

enum prism_log_level { PRISM_LOG_INFO, PRISM_LOG_WARNING };

/* Told about what an operator should know and no call returns: an operation that the server
 * emulates (once per client and operation). thread: that of the call which gives rise to it, or the
 * channel's own; must not call the library. message is borrowed. */
typedef void prism_log_fn(void *context, enum prism_log_level level, const char *message);

/* Attempts per call, the first included, and the waits between them. 0 = default. */
struct prism_retry {
    uint32_t max_attempts; /* default 5; 1 = never retry */
    uint32_t initial_ms;   /* wait before the second attempt, default 100; doubles each time */
    uint32_t max_ms;       /* longest wait unless the server asks for more, default 2000 */
};

/* PEM files, read once by prism_channel_open. */
struct prism_tls {
    bool enabled;          /* false: no TLS, and the rest must be NULL */
    const char *ca_file;   /* NULL: the system's certificates */
    const char *cert_file; /* the client's own; NULL: none. Needs key_file, and the reverse */
    const char *key_file;
    const char *server_name; /* expected in the certificate; NULL: the host of the target */
};

/* All zero is valid and means the defaults. Everything is copied. */
struct prism_channel_options {
    uint32_t deadline_ms; /* of each call that names none; default 5000, of publishing 15000 */
    const char *namespace_name; /* NULL: the server's namespace "default" */
    struct prism_tls tls;
    struct prism_retry retry;
    uint32_t keepalive_ms;         /* idle time before a ping while calls are open; 0 = no pings */
    uint32_t keepalive_timeout_ms; /* unanswered for so long: connection lost; default 20000 */
    uint32_t max_message_bytes;    /* longest answer accepted; default 64 MiB */
    prism_log_fn *log;             /* NULL: silence */
    void *log_context;
};

struct prism_channel;

/* Prepares a connection to target: "host:port", "[IPv6 address]:port" or "unix:/path"; also gRPC's
 * "dns:", "ipv4:" and "ipv6:" before an address with its port, and a list of them for the last two.
 * Does not wait for it: calls connect, and connect again after a loss, for as long as the channel
 * is open. Free with prism_channel_close.
 * thread: any.   options: may be NULL.
 * errors: INVALID_ARGUMENT (target, or a TLS file that cannot be read; field names which). */
PRISM_API enum prism_code prism_channel_open(const char *target,
                                             const struct prism_channel_options *options,
                                             struct prism_channel **channel,
                                             struct prism_error *error);

/* Waits until no asynchronous call of the channel's clients is left, each ending by its deadline at
 * the latest. Calls started meanwhile are waited for too. thread: any but the channel's own (so not
 * from a callback). */
PRISM_API void prism_channel_wait(struct prism_channel *channel);

/* Client objects made from the channel must have been closed, and no call may be running. NULL is
 * accepted. thread: any but the channel's own. */
PRISM_API void prism_channel_close(struct prism_channel *channel);

/* "0.1.0" of the library in use. Static. thread: any. */
PRISM_API const char *prism_version(void);

#ifdef __cplusplus
}
#endif

#endif
