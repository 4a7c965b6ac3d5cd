/* Checks of what clients send, all made before the first effect of a call. That strings are UTF-8
 * without NUL has been seen to when the request was decoded. */
#include "patterns/keyvalue/keyvalue_priv.h"

static struct err too_long(struct arena *arena, const char *what, size_t len, uint64_t max)
{
    return err_about(ERR_INVALID_ARGUMENT, what,
                     arena_printf(arena, "%s is %zu bytes long; this backend takes at most %llu",
                                  what, len, (unsigned long long)max));
}

static struct err check_length(struct slice bytes, uint64_t max, struct arena *arena,
                               const char *what)
{
    return max != 0 && bytes.len > max ? too_long(arena, what, bytes.len, max) : ERR_NONE;
}

struct err check_key(const struct keyvalue *kv, struct arena *arena, struct slice key)
{
    if (key.len == 0)
        return err_about(ERR_INVALID_ARGUMENT, "key", "key is empty; it takes at least 1 byte");
    return check_length(key, kv->backend->limits.key_bytes, arena, "key");
}

struct err check_prefix(const struct keyvalue *kv, struct arena *arena, struct slice prefix)
{
    return check_length(prefix, kv->backend->limits.key_bytes, arena, "prefix");
}

struct err check_value(const struct keyvalue *kv, struct arena *arena, struct slice value)
{
    return check_length(value, kv->backend->limits.value_bytes, arena, "value");
}

struct err check_items(size_t n, uint32_t max, struct arena *arena, const char *subject)
{
    if (n <= max)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, subject,
                     arena_printf(arena, "%zu items in one batch; at most %u are taken", n, max));
}

struct err check_expiration(const struct keyvalue *kv, struct arena *arena, int64_t seconds,
                            int64_t min)
{
    int64_t max = kv->settings.max_expiration_seconds;

    if (seconds >= min && seconds <= max)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "expiration_seconds",
                     arena_printf(arena, "expiration_seconds is %lld; it has to be %lld to %lld",
                                  (long long)seconds, (long long)min, (long long)max));
}

/* What is missing keeps its subject, the interface; a fault gets the path of its field. */
struct err check_at_item(struct err err, struct arena *arena, const char *list, size_t i)
{
    if (err.code == ERR_UNIMPLEMENTED)
        err.text = arena_printf(arena, "%s[%zu]: %s", list, i, err.text);
    else if (strcmp(list, "keys") == 0)
        err.subject = arena_printf(arena, "%s[%zu]", list, i);
    else
        err.subject = arena_printf(arena, "%s[%zu].%s", list, i, err.subject);
    return err;
}
