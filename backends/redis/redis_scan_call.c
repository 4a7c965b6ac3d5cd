/* One SCAN, as it is said and heard: for pages of keys and for counts. */
#include "backends/redis/redis_kv.h"

#include <stdlib.h>

struct slice redis_scan_pattern(const struct redis *redis, struct arena *arena, struct slice prefix)
{
    return redis_glob_starts_with(arena, redis_prefix(redis), prefix);
}

void redis_scan_command(struct redis_call *call, uint64_t at, struct slice pattern, uint32_t count)
{
    redis_command(call, 6, "SCAN");
    redis_word_number(call, at);
    redis_word(call, slice_str("MATCH"));
    redis_word(call, pattern);
    redis_word(call, slice_str("COUNT"));
    redis_word_number(call, count);
}

/* The answer: [ next cursor, [ key, ... ] ]. Anything else makes the call fail. */
enum redis_scan_part redis_scan_part(struct redis_call *call, const struct redis_node *node)
{
    bool list = node->type == REDIS_REPLY_ARRAY;

    if (node->depth == 0 && list && node->number == 2)
        return REDIS_SCAN_ANSWER;
    if (node->depth == 1 && node->index == 0 && node->type == REDIS_REPLY_STRING)
        return REDIS_SCAN_CURSOR;
    if (node->depth == 1 && node->index == 1 && list)
        return REDIS_SCAN_KEYS;
    if (node->depth == 2 && node->type == REDIS_REPLY_STRING)
        return REDIS_SCAN_KEY;
    redis_unexpected(call);
    return REDIS_SCAN_ANSWER;
}

void redis_scan_next(struct redis_call *call, struct slice text, uint64_t *next)
{
    char number[24] = "", *end = number;

    if (text.len > 0 && text.len < sizeof number) {
        memcpy(number, text.data, text.len);
        *next = strtoull(number, &end, 10);
    }
    if (end == number || *end != '\0')
        redis_unexpected(call);
}
