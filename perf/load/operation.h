/* The operations that a load can consist of: one row per RPC, with how its request is written and
 * how its reply is judged. A reply that does not say what it should is an error of the run: a
 * server that answers fast and wrong has no figures. */
#ifndef PRISM_PERF_LOAD_OPERATION_H
#define PRISM_PERF_LOAD_OPERATION_H

#include "perf/load/workload.h"

struct operation_outcome {
    uint32_t items; /* keys or entries that the call carried */
    uint32_t hits;  /* of those, how many were there */
};

/* Writes the request message, at most workload_request_bytes_max() bytes; returns its length. */
typedef size_t operation_write_fn(struct workload *w, uint8_t *out);

/* Judges one reply message and adds to the outcome; false = not the reply this request must have.
 */
typedef bool operation_judge_fn(const struct workload *w, const uint8_t *message, size_t bytes,
                                struct operation_outcome *outcome);

struct operation {
    const char *name; /* as on the command line */
    const char *path; /* HTTP/2 path: /package.Service/Rpc */
    operation_write_fn *write;
    operation_judge_fn *judge;
    bool needs_keys;      /* the key space is stored before the run */
    bool every_key_found; /* with needs_keys: a miss is an error */
    bool uses_up_keys;    /* walks the key space in order, for it removes what it touches */
    bool batched;         /* carries options.batch items */
    bool streams;         /* server stream: any number of reply messages, else exactly one */
    bool keyvalue;        /* a KeyValue operation of the server */
    bool session;         /* one of sessions. Neither: only a baseline has it */
    bool needs_ids;       /* options.ids has to name sessions */
};

/* All rows; *count receives their number. */
const struct operation *operation_all(size_t *count);

/* NULL when there is none of that name. */
const struct operation *operation_find(const char *name);

#endif
