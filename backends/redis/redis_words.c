/* Commands as bytes, written straight into the connection's buffer: every byte is copied once. */
#include "backends/redis/redis_call.h"

#include <stdlib.h>

uint64_t redis_digits(uint64_t n)
{
    uint64_t digits = 1;

    for (; n >= 10; n /= 10)
        digits++;
    return digits;
}

/* Room behind what is in the buffer. */
static char *extend(struct redis *redis, size_t bytes)
{
    struct redis_link *link = redis->link;

    if (sdsavail(link->out) < bytes) {
        link->out = sdsMakeRoomFor(link->out, bytes);
        if (link->out == NULL)
            abort();
    }
    return link->out + sdslen(link->out);
}

static void extended(struct redis *redis, char *to)
{
    sds out = redis->link->out;
    size_t bytes = (size_t)(to - (out + sdslen(out)));

    sdsinclen(out, bytes);
    *to = '\0';
    redis->queued_bytes += bytes;
}

static char *put_number(char *to, uint64_t number)
{
    char *end = to + redis_digits(number);

    for (char *at = end; at > to; number /= 10)
        *--at = (char)('0' + number % 10);
    return end;
}

static char *put_line(char *to, char mark, uint64_t number)
{
    *to++ = mark;
    to = put_number(to, number);
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

static char *put_bytes(char *to, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(to, bytes, len);
    return to + len;
}

void redis_reserve(struct redis_call *call, size_t bytes)
{
    extend(call->redis, bytes);
}

enum { LINE = 24 }; /* mark, 20 digits, CR LF, NUL */

static char *put_word(char *to, const void *bytes, size_t len)
{
    to = put_line(to, '$', len);
    to = put_bytes(to, bytes, len);
    return put_bytes(to, "\r\n", 2);
}

void redis_command(struct redis_call *call, unsigned argc, const char *name)
{
    size_t len = strlen(name);
    char *to = extend(call->redis, len + 2 * LINE + 2);

    to = put_line(to, '*', argc);
    extended(call->redis, put_word(to, name, len));
    call->answers++;
}

void redis_say(struct redis *redis, const char *name, const struct slice *word)
{
    size_t len = strlen(name), more = word != NULL ? word->len + LINE + 2 : 0;
    char *to = extend(redis, len + more + 2 * LINE + 2);

    to = put_line(to, '*', word != NULL ? 2 : 1);
    to = put_word(to, name, len);
    if (word != NULL)
        to = put_word(to, word->data, word->len);
    extended(redis, to);
}

void redis_word_joined(struct redis_call *call, struct slice prefix, struct slice rest)
{
    size_t len = prefix.len + rest.len;
    char *to = extend(call->redis, len + LINE + 2);

    if (len > call->largest)
        call->largest = len;
    to = put_line(to, '$', len);
    to = put_bytes(to, prefix.data, prefix.len);
    to = put_bytes(to, rest.data, rest.len);
    to = put_bytes(to, "\r\n", 2);
    extended(call->redis, to);
}

void redis_word(struct redis_call *call, struct slice text)
{
    redis_word_joined(call, slice_of(NULL, 0), text);
}

void redis_word_key(struct redis_call *call, struct slice key)
{
    redis_word_joined(call, redis_prefix(call->redis), key);
}

void redis_word_number(struct redis_call *call, uint64_t number)
{
    char text[LINE];

    redis_word_joined(call, slice_of(NULL, 0),
                      slice_of(text, (size_t)(put_number(text, number) - text)));
}
