/* Whose keys are whose, and how to ask for those that start with something. */
#include "backends/redis/redis_text.h"

#include <assert.h>
#include <stdlib.h>

enum { ROOT_BYTES = 64 };

bool redis_prefix_root_valid(const char *root)
{
    size_t n = 0;

    for (; root[n] != '\0'; n++) {
        if (root[n] <= ' ' || root[n] > '~' || root[n] == ':' || root[n] == '%')
            return false;
    }
    return n >= 1 && n <= ROOT_BYTES;
}

char *redis_prefix_new(const char *root, const char *namespace_name)
{
    assert(redis_prefix_root_valid(root));

    char *prefix = malloc(strlen(root) + 3 * strlen(namespace_name) + 3), *at = prefix;

    if (prefix == NULL)
        abort();
    at = stpcpy(at, root);
    *at++ = ':';
    for (const char *c = namespace_name; *c != '\0'; c++) {
        if (*c == ':')
            at = stpcpy(at, "%3A");
        else if (*c == '%')
            at = stpcpy(at, "%25");
        else
            *at++ = *c;
    }
    *at++ = ':';
    *at = '\0';
    return prefix;
}

/* Special to redis' glob are * ? [ and \, within brackets ] ^ and - too. A backslash before any
 * byte means that byte. */
static uint8_t *escape(uint8_t *at, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] != '\0' && strchr("*?[]\\^-", text.data[i]) != NULL)
            *at++ = '\\';
        *at++ = text.data[i];
    }
    return at;
}

struct slice redis_glob_starts_with(struct arena *arena, struct slice prefix, struct slice key)
{
    uint8_t *pattern = arena_alloc(arena, 2 * (prefix.len + key.len) + 1);
    uint8_t *at = escape(escape(pattern, prefix), key);

    *at++ = '*';
    return slice_of(pattern, (size_t)(at - pattern));
}
