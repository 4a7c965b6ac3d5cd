/* What a command of prismctl is, what the command line gave it, and how it ends. */
#ifndef PRISM_CLIENT_PRISMCTL_COMMAND_H
#define PRISM_CLIENT_PRISMCTL_COMMAND_H

#include "prism/prism.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes; stable, documented in docs/client.md. */
enum {
    EXIT_DONE = 0,
    EXIT_USAGE = 1,       /* wrong command line, or a local file that cannot be read */
    EXIT_NOT_FOUND = 2,   /* the key is absent */
    EXIT_UNAVAILABLE = 3, /* server or backend not reached */
    EXIT_REFUSED = 4, /* invalid, precondition failed, not permitted; a configuration with faults */
    EXIT_UNSUPPORTED = 5, /* by the backend or the server */
    EXIT_DEADLINE = 6,
    EXIT_EXHAUSTED = 7, /* overload, or the store is full */
    EXIT_PARTIAL = 8,   /* some items of a batch failed */
    EXIT_OTHER = 9
};

int exit_of(enum prism_code code);

/* Options that only some commands take; struct command says which. */
enum {
    TAKES_TTL = 1 << 0,
    TAKES_PRECONDITION = 1 << 1,
    TAKES_VALUE_FILE = 1 << 2,
    TAKES_WITH_VERSION = 1 << 3,
    TAKES_SCAN = 1 << 4, /* --values --page-size */
    TAKES_ATOMIC = 1 << 5,
    TAKES_PROBE = 1 << 6,
    TAKES_PUBLISH = 1 << 7, /* --file --key --header --batch */
    TAKES_CONSUME = 1 << 8, /* --group --from --per-key --keep */
    TAKES_READING = 1 << 9, /* --idle */
    TAKES_LIMIT = 1 << 10,
    TAKES_DELIMITED = 1 << 11,
    TAKES_REPLACE = 1 << 12,
    TAKES_MULTICAST = 1 << 13, /* --max-targets --rate */
    TAKES_OWNER = 1 << 14,     /* --user --region --client */
    TAKES_EXCEPT = 1 << 15,
    TAKES_TOUCH = 1 << 16,
    TAKES_DRY_RUN = 1 << 17,
    TAKES_OLDER = 1 << 18,
    TAKES_REFERENCED = 1 << 19,
    TAKES_WHEN_FULL = 1 << 20,
    TAKES_FILTER = 1 << 21
};

enum { MOST_HEADERS = 64 };

struct options {
    const char *server, *namespace_name;
    struct prism_tls tls;
    uint32_t timeout_ms; /* 0 = the library's default */
    bool json;
    int64_t ttl_s; /* 0 = none */
    bool if_absent;
    const char *if_version; /* base64; NULL = none */
    const char *value_file; /* "-" = standard input; NULL = none */
    bool with_version, values, atomic, probe;
    int64_t limit;                     /* 0 = none */
    uint32_t page_size;                /* 0 = the library's default */
    const char *file;                  /* "-" = standard input; NULL = none */
    const char *key;                   /* NULL = none */
    const char *headers[MOST_HEADERS]; /* "NAME=VALUE" */
    size_t header_count;
    uint32_t batch;           /* messages; 0 = the default */
    const char *group, *from; /* NULL = none */
    bool per_key, keep, delimited;
    uint32_t idle_ms; /* 0 = none */
    bool replace, dry_run;
    const char *filter;                          /* JSON; NULL = none */
    int64_t max_targets;                         /* 0 = any number */
    const char *when_full;                       /* NULL = the namespace's */
    uint32_t rate;                               /* a second; 0 = not bounded */
    const char *user, *region, *client, *except; /* NULL = none */
    bool touch;
    const char *older_than, *referenced; /* NULL = none */
};

struct invocation {
    const struct options *options;
    const char *const *arguments;
    size_t count;
};

typedef int command_fn(const struct invocation *); /* returns the exit code */

struct command {
    const char *group; /* "kv"; NULL: none */
    const char *name, *alias;
    const char *arguments; /* "KEY [VALUE]" */
    const char *summary;
    size_t min_arguments, max_arguments;
    unsigned takes;
    command_fn *run;
};

/* Ends with .name = NULL. */
extern const struct command commands[];

command_fn command_caps, command_check, command_store, command_retrieve, command_remove,
    command_exists, command_expire, command_ttl, command_persist, command_count, command_scan,
    command_store_batch, command_retrieve_batch, command_remove_batch, command_publish,
    command_consume, command_deadletters_list, command_deadletters_redrive, command_register,
    command_unregister, command_enumerate, command_identity, command_multicast, command_subscribe,
    command_session_create, command_session_get, command_session_set, command_session_unset,
    command_session_rotate, command_session_extend, command_session_end, command_session_end_user,
    command_session_list, command_claims_list, command_claims_sweep;

/* ---- the connection ---- */

struct prism_keyvalue;

struct session {
    struct prism_channel *channel;
    struct prism_keyvalue *keyvalue;
};

/* Makes the channel alone; session->keyvalue stays NULL. As session_open. */
int session_connect(struct session *session, const struct options *options);

/* Connects and discovers the capabilities. On failure the error has been printed; returns the exit
 * code. Close in every case. */
int session_open(struct session *session, const struct options *options);
void session_close(struct session *session);

/* Decimal digits and nothing else, at most max. */
bool read_number(const char *text, uint64_t max, uint64_t *number);

/* As fail, for a client object that could not be opened: if that is because the server does not
 * serve the pattern, it names those that it serves. */
int fail_unserved(struct session *session, const struct options *options, const char *pattern,
                  const struct prism_error *error);

/* Prints the error (as JSON if asked for) to standard error and returns its exit code. */
int fail(const struct options *options, const struct prism_error *error);

/* Prints a line to standard error, as JSON if asked for, and goes on. */
void notice(const struct options *options, const char *message);

/* The same for what is wrong with the command line or a local file; `about` may be NULL. Returns
 * EXIT_USAGE, also for JSON. */
int fail_usage(const struct options *options, const char *what, const char *about);

#endif
