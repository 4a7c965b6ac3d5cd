/* What an operation needs from the backend of a slot, and what is said where it is not offered. */
#ifndef PRISM_PATTERNS_NEED_H
#define PRISM_PATTERNS_NEED_H

#include "backends/backend.h"
#include "src/base/err.h"

#include <stdbool.h>

struct need {
    enum backend_interface interface; /* whose absence leaves the need unmet; COUNT: a property of
                                         the backend, or a slot, is what is missing */
    const char *text;                 /* of the status */
    const char *why;                  /* the same with the smallest fix, for who configures */
    bool emulatable;                  /* `emulate:` may name the interface */
};

/* Initialises a struct need: NEED("scan", BACKEND_KV_SCAN, "KeyValueScanInterface"). */
#define NEED(what, which, name)                                                                    \
    {                                                                                              \
        .interface = (which), .text = NEED_TEXT(what, name),                                       \
        .why = NEED_TEXT(what, name) "; bind a backend that does"                                  \
    }

/* The same for one that the pattern can emulate; `key` is the interface's name in `emulate:`. */
#define NEED_OR_EMULATE(what, which, name, key)                                                    \
    {                                                                                              \
        .interface = (which), .text = NEED_TEXT(what, name),                                       \
        .why = NEED_TEXT(what, name) "; set `emulate: [" key "]` on the slot", .emulatable = true  \
    }

/* The same for what no single interface provides: the sentence says it all. */
#define NEED_PROPERTY(sentence)                                                                    \
    {                                                                                              \
        .interface = BACKEND_INTERFACE_COUNT, .text = (sentence), .why = (sentence)                \
    }

#define NEED_TEXT(what, name) what " not supported: backend does not implement " name

/* UNIMPLEMENTED, about the interface if one is missing. The text is static. */
static inline struct err need_unmet(const struct need *need)
{
    return err_about(
        ERR_UNIMPLEMENTED,
        need->interface != BACKEND_INTERFACE_COUNT ? backend_interface_name(need->interface) : NULL,
        need->text);
}

#endif
