/* Checks of what clients send, all made before the first effect of a call. That strings are UTF-8
 * without NUL has been seen to when the request was decoded. */
#include "patterns/keyvalue/keyvalue_priv.h"

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
