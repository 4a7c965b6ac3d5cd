/* Checks of what clients send, all made before the first effect of a call. */
#include "patterns/keyvalue/keyvalue_priv.h"

#include "src/base/utf8.h"

/* Keys travel in protobuf strings, which must be UTF-8: another client could not read a page that
 * holds one that is not. Most are ASCII, so eight bytes are looked at together as long as that
 * holds. */
static bool is_text(struct slice text)
{
    while (text.len >= 8) {
        uint64_t word;

        memcpy(&word, text.data, 8);
        if ((word & 0x8080808080808080u) != 0)
            break;
        text = slice_of(text.data + 8, text.len - 8);
    }
    return utf8_valid(text);
}

static struct err too_long(struct arena *arena, const char *what, size_t len, uint64_t max)
{
    return err_about(ERR_INVALID_ARGUMENT, what,
                     arena_printf(arena, "%s is %zu bytes long; this backend takes at most %llu",
                                  what, len, (unsigned long long)max));
}

static struct err check_text(const struct keyvalue *kv, struct arena *arena, struct slice text,
                             const char *what)
{
    uint64_t max = kv->backend->limits.key_bytes;

    if (max != 0 && text.len > max)
        return too_long(arena, what, text.len, max);
    if (!is_text(text))
        return err_about(ERR_INVALID_ARGUMENT, what, "it is not valid UTF-8");
    return ERR_NONE;
}

struct err check_key(const struct keyvalue *kv, struct arena *arena, struct slice key)
{
    if (key.len == 0)
        return err_about(ERR_INVALID_ARGUMENT, "key", "key is empty; it takes at least 1 byte");
    return check_text(kv, arena, key, "key");
}

struct err check_prefix(const struct keyvalue *kv, struct arena *arena, struct slice prefix)
{
    return check_text(kv, arena, prefix, "prefix");
}

struct err check_value(const struct keyvalue *kv, struct arena *arena, struct slice value)
{
    uint64_t max = kv->backend->limits.value_bytes;

    if (max != 0 && value.len > max)
        return too_long(arena, "value", value.len, max);
    return ERR_NONE;
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
