/* What an error reply of redis means to a caller. Its first word is its code. */
#include "backends/redis/redis_text.h"

#include "src/base/container.h"

enum { TEXT_BYTES = 256 }; /* of an unknown error that are shown */

static const struct meaning {
    const char *word;
    struct err err;
} meanings[] = {
    {"OOM",
     {ERR_RESOURCE_EXHAUSTED, 1000,
      "redis is full: maxmemory is reached and nothing may be evicted; nothing was written",
      "maxmemory"}},
    {"LOADING", {ERR_UNAVAILABLE, 500, "redis is loading its data", NULL}},
    {"MASTERDOWN", {ERR_UNAVAILABLE, 500, "this redis replica has lost its primary", NULL}},
    {"READONLY", {ERR_UNAVAILABLE, 500, "this redis is a read-only replica", NULL}},
    {"BUSY", {ERR_UNAVAILABLE, 500, "redis is busy with a script", NULL}},
    {"TRYAGAIN", {ERR_UNAVAILABLE, 100, "redis asks to try again", NULL}},
    {"CLUSTERDOWN", {ERR_UNAVAILABLE, 500, "the redis cluster is down", NULL}},
    {"MISCONF", {ERR_UNAVAILABLE, 1000, "redis refuses writes: it cannot persist its data", NULL}},
    {"NOREPLICAS", {ERR_UNAVAILABLE, 500, "redis refuses writes: too few replicas", NULL}},
    {"NOAUTH", {ERR_FAILED_PRECONDITION, 0, "redis asks for a password and none is set", NULL}},
    {"WRONGPASS", {ERR_FAILED_PRECONDITION, 0, "redis refused the user name or password", NULL}},
    {"NOPERM",
     {ERR_PERMISSION_DENIED, 0, "redis does not permit this to the configured user", NULL}},
    {"WRONGTYPE",
     {ERR_FAILED_PRECONDITION, 0, "the key holds a redis type that is not a string", NULL}},
    {"EXECABORT", {ERR_ABORTED, 100, "redis discarded the transaction", NULL}},
    {"MOVED", {ERR_FAILED_PRECONDITION, 0, "redis cluster mode is not supported", NULL}},
    {"ASK", {ERR_FAILED_PRECONDITION, 0, "redis cluster mode is not supported", NULL}},
    {"CROSSSLOT", {ERR_FAILED_PRECONDITION, 0, "redis cluster mode is not supported", NULL}},
    {"DENIED", {ERR_FAILED_PRECONDITION, 0, "redis runs in protected mode and refuses us", NULL}},
    {"ERR max number of clients",
     {ERR_UNAVAILABLE, 1000, "redis has reached its maxclients and refuses us", NULL}},
};

bool redis_error_is(struct slice reply, const char *word)
{
    struct slice w = slice_str(word);

    return slice_starts_with(reply, w) && (reply.len == w.len || reply.data[w.len] == ' ');
}

/* What follows the first comma repeats the command, and with it keys and values, as bytes that may
 * be no text; redis' own words are plain ASCII. */
static struct slice first_clause(struct slice reply)
{
    size_t len = 0;

    while (len < reply.len && len < TEXT_BYTES && reply.data[len] != ',' &&
           reply.data[len] >= 0x20 && reply.data[len] < 0x7f)
        len++;
    return slice_of(reply.data, len);
}

struct err redis_error(struct arena *arena, struct slice reply)
{
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
        if (redis_error_is(reply, meanings[i].word))
            return meanings[i].err;
    }
    reply = first_clause(reply);
    return err_make(ERR_INTERNAL,
                    arena_printf(arena, "redis: %.*s", (int)reply.len, (const char *)reply.data));
}
