/* What an error reply of redis means to a caller. Its first word is its code. */
#include "backends/redis/redis_text.h"

#include "src/base/container.h"

enum { TEXT_BYTES = 256 }; /* of an unknown error that are shown */

static const struct meaning {
    const char *word;
    struct { /* of struct err; a refusal has no effect */
        enum err_code code;
        uint32_t retry_after_ms;
        const char *text, *subject;
    } err;
    enum redis_news news;
} meanings[] = {
    {"OOM",
     {ERR_RESOURCE_EXHAUSTED, 1000,
      "redis is full: maxmemory is reached and nothing may be evicted; nothing was written",
      "maxmemory"},
     REDIS_NEWS_NONE},
    {"LOADING", {ERR_UNAVAILABLE, 500, "redis is loading its data", NULL}, REDIS_NEWS_TROUBLE},
    {"MASTERDOWN",
     {ERR_UNAVAILABLE, 500, "this redis replica has lost its primary", NULL},
     REDIS_NEWS_TROUBLE},
    {"READONLY",
     {ERR_UNAVAILABLE, 500, "this redis is a read-only replica", NULL},
     REDIS_NEWS_ROLE},
    {"BUSY", {ERR_UNAVAILABLE, 500, "redis is busy with a script", NULL}, REDIS_NEWS_TROUBLE},
    {"TRYAGAIN", {ERR_UNAVAILABLE, 100, "redis asks to try again", NULL}, REDIS_NEWS_NONE},
    {REDIS_ERROR_MOVING,
     {ERR_UNAVAILABLE, 100, "a slot of the redis cluster is moving, or has moved: try again", NULL},
     REDIS_NEWS_NONE},
    {REDIS_ERROR_ASTRAY,
     {ERR_UNAVAILABLE, 100, "a slot of the redis cluster is moving: try again", NULL},
     REDIS_NEWS_NONE},
    {"CLUSTERDOWN", {ERR_UNAVAILABLE, 500, "the redis cluster is down", NULL}, REDIS_NEWS_CLUSTER},
    {"MISCONF",
     {ERR_UNAVAILABLE, 1000, "redis refuses writes: it cannot persist its data", NULL},
     REDIS_NEWS_TROUBLE},
    {"NOREPLICAS",
     {ERR_UNAVAILABLE, 500, "redis refuses writes: too few replicas", NULL},
     REDIS_NEWS_TROUBLE},
    {"NOAUTH",
     {ERR_FAILED_PRECONDITION, 0, "redis asks for a password and none is set", NULL},
     REDIS_NEWS_LOGIN},
    {"WRONGPASS",
     {ERR_FAILED_PRECONDITION, 0, "redis refused the user name or password", NULL},
     REDIS_NEWS_LOGIN},
    {"NOPERM",
     {ERR_PERMISSION_DENIED, 0, "redis does not permit this to the configured user", NULL},
     REDIS_NEWS_NONE},
    {"WRONGTYPE",
     {ERR_FAILED_PRECONDITION, 0, "the key holds a redis type that is not a string", NULL},
     REDIS_NEWS_NONE},
    {"EXECABORT", {ERR_ABORTED, 100, "redis discarded the transaction", NULL}, REDIS_NEWS_NONE},
    {"MOVED",
     {ERR_FAILED_PRECONDITION, 0, "this redis is a node of a cluster: see the setting `cluster`",
      NULL},
     REDIS_NEWS_CLUSTER},
    {"ASK",
     {ERR_FAILED_PRECONDITION, 0, "this redis is a node of a cluster: see the setting `cluster`",
      NULL},
     REDIS_NEWS_CLUSTER},
    {"CROSSSLOT",
     {ERR_FAILED_PRECONDITION, 0, "this redis is a node of a cluster: see the setting `cluster`",
      NULL},
     REDIS_NEWS_CLUSTER},
    {"DENIED",
     {ERR_FAILED_PRECONDITION, 0, "redis runs in protected mode and refuses us", NULL},
     REDIS_NEWS_TROUBLE},
    {"ERR Protocol error:",
     {ERR_INVALID_ARGUMENT, 0,
      "redis refused the size of this operation (proto-max-bulk-len); nothing was written", NULL},
     REDIS_NEWS_SIZE},
    {"ERR max number of clients",
     {ERR_UNAVAILABLE, 1000, "redis has reached its maxclients and refuses us", NULL},
     REDIS_NEWS_TROUBLE},
};

bool redis_error_is(struct slice reply, const char *word)
{
    struct slice w = slice_str(word);

    return slice_starts_with(reply, w) && (reply.len == w.len || reply.data[w.len] == ' ');
}

static struct err err_of(const struct meaning *meaning)
{
    return (struct err){.code = meaning->err.code,
                        .retry_after_ms = meaning->err.retry_after_ms,
                        .text = meaning->err.text,
                        .subject = meaning->err.subject};
}

static const struct meaning *meaning_of(struct slice reply)
{
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
        if (redis_error_is(reply, meanings[i].word))
            return &meanings[i];
    }
    return NULL;
}

enum redis_news redis_error_news(struct slice reply, struct err *err)
{
    const struct meaning *meaning = meaning_of(reply);

    if (meaning == NULL)
        return REDIS_NEWS_NONE;
    *err = err_of(meaning);
    return meaning->news;
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
    const struct meaning *meaning = meaning_of(reply);

    if (meaning != NULL)
        return err_of(meaning);
    reply = first_clause(reply);
    return err_make(ERR_INTERNAL,
                    arena_printf(arena, "redis: %.*s", (int)reply.len, (const char *)reply.data));
}

struct err redis_alone(void)
{
    return err_lost(err_make(ERR_DATA_LOSS, "redis refuses MULTI, which its user has to be "
                                            "permitted, and has carried out commands one by one"));
}

struct err redis_in_part(struct arena *arena, struct err rest)
{
    rest.text = arena_printf(arena, "a part of it was carried out, and of the rest: %s", rest.text);
    return err_lost(rest);
}
