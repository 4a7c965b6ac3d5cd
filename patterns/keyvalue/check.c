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

/* Room that a read needs beside the value: its other fields, a key of up to 256 bytes, and the
 * cursor of a scan, which may spell that key in hexadecimal digits. */
static uint64_t answer_room(const struct keyvalue *kv)
{
    return kv->max_message_bytes - check_fitting(kv->max_message_bytes);
}

uint64_t check_max_value(const struct keyvalue *kv)
{
    uint64_t own = kv->backend->limits.value_bytes;
    uint64_t fits = check_fitting(kv->max_message_bytes);

    return own != 0 && own < fits ? own : fits;
}

struct err check_value(const struct keyvalue *kv, struct arena *arena, struct slice key,
                       struct slice value)
{
    struct err err = check_length(value, check_max_value(kv), arena, "value");

    if (err.code != ERR_OK)
        return err;
    if (value.len + 3 * key.len + answer_room(kv) / 4 <= kv->max_message_bytes)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "value",
                     arena_printf(arena,
                                  "a value of %zu bytes under a key of %zu could not be read by a "
                                  "scan: limits.max_message_bytes is %u",
                                  value.len, key.len, kv->max_message_bytes));
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
