/* Errors travel by value. One table names every code; numbers are those of google.rpc.Code, so that
 * the wire (gRPC status, in-band `code` fields) needs no second table.
 *
 * text and subject are static, or live in the arena of the call that the error ends. */
#ifndef PRISM_BASE_ERR_H
#define PRISM_BASE_ERR_H

#include <stdint.h>

/* X(name, number) */
#define ERR_CODES(X)                                                                               \
    X(OK, 0)                                                                                       \
    X(CANCELLED, 1)                                                                                \
    X(UNKNOWN, 2)                                                                                  \
    X(INVALID_ARGUMENT, 3)                                                                         \
    X(DEADLINE_EXCEEDED, 4)                                                                        \
    X(NOT_FOUND, 5)                                                                                \
    X(ALREADY_EXISTS, 6)                                                                           \
    X(PERMISSION_DENIED, 7)                                                                        \
    X(RESOURCE_EXHAUSTED, 8)                                                                       \
    X(FAILED_PRECONDITION, 9)                                                                      \
    X(ABORTED, 10)                                                                                 \
    X(OUT_OF_RANGE, 11)                                                                            \
    X(UNIMPLEMENTED, 12)                                                                           \
    X(INTERNAL, 13)                                                                                \
    X(UNAVAILABLE, 14)                                                                             \
    X(DATA_LOSS, 15)                                                                               \
    X(UNAUTHENTICATED, 16)

enum err_code {
#define X(name, number) ERR_##name = (number),
    ERR_CODES(X)
#undef X
        ERR_CODE_COUNT
};

/* May something have happened although the operation failed? Whoever retries needs the fact, not
 * the sentence. */
enum err_effect {
    EFFECT_NONE,    /* nothing: it was refused, or it only reads */
    EFFECT_UNKNOWN, /* it was given away and its outcome is lost */
};

struct err {
    enum err_code code;
    uint32_t retry_after_ms; /* 0 = no advice; else when a retry may help */
    const char *text;        /* a sentence for the caller; NULL only with ERR_OK */
    const char
        *subject; /* what is at fault: the request's field (INVALID_ARGUMENT), the missing
                     interface (UNIMPLEMENTED), the limit (RESOURCE_EXHAUSTED); may be NULL */
    enum err_effect effect;
};

#define ERR_NONE ((struct err){.code = ERR_OK})

static inline struct err err_make(enum err_code code, const char *text)
{
    return (struct err){.code = code, .text = text};
}

static inline struct err err_about(enum err_code code, const char *subject, const char *text)
{
    return (struct err){.code = code, .text = text, .subject = subject};
}

/* For a write that was given away: its effect is unknown. */
static inline struct err err_lost(struct err err)
{
    err.effect = EFFECT_UNKNOWN;
    return err;
}

/* The error with its text in `kept`, cut to what fits: for longer than the text is lent. */
enum { ERR_KEPT_BYTES = 256 };
struct err err_keep(struct err err, char kept[static ERR_KEPT_BYTES]);

/* "INVALID_ARGUMENT"; never NULL. */
const char *err_code_name(enum err_code code);

#endif
