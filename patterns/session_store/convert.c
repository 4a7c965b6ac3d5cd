/* Between the protocol and what backends take. */
#include "patterns/session_store/session_store_priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MS_PER_S = 1000, NS_PER_MILLI = 1000000, RANDOM_BYTES = 24, LENGTH_BYTES = 2 };

/* ---- identifiers and names ---- */

static unsigned group_of(struct slice user, struct slice before, uint8_t any)
{
    if (before.len > 0)
        return session_group_of(before);
    return user.len > 0 ? session_group_of_user(user) : any;
}

struct slice convert_new_id(struct arena *arena, const struct session *methods, struct slice user,
                            struct slice before)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    static const char mark[] = "sess-";
    uint8_t random[RANDOM_BYTES];
    char *id = arena_alloc(arena, sizeof mark + RANDOM_BYTES / 3 * 4 + SESSION_GROUP_BYTES);
    size_t len = sizeof mark - 1;

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        abort(); /* so few bytes come whole, once the source is ready */
    memcpy(id, mark, len);
    for (size_t i = 0; i < RANDOM_BYTES; i += 3) {
        uint32_t three =
            (uint32_t)random[i] << 16 | (uint32_t)random[i + 1] << 8 | (uint32_t)random[i + 2];

        for (int shift = 18; shift >= 0; shift -= 6)
            id[len++] = digits[three >> shift & 63];
    }
    if (methods->grouped) {
        session_group_say(id + len, group_of(user, before, random[0]));
        len += SESSION_GROUP_BYTES;
    }
    id[len] = '\0';
    return slice_of(id, len);
}

struct err convert_id(const char *text, const char *subject, struct slice *out)
{
    *out = slice_str(text);
    if (out->len == 0)
        return err_about(ERR_INVALID_ARGUMENT, subject, "an identifier must not be empty");
    if (out->len > SESSION_ID_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, subject, "this is no identifier of a session");
    for (size_t i = 0; i < out->len; i++) {
        if (out->data[i] <= ' ' || out->data[i] > '~')
            return err_about(ERR_INVALID_ARGUMENT, subject, "this is no identifier of a session");
    }
    return ERR_NONE;
}

struct err convert_text(const char *text, const char *subject, struct slice *out)
{
    *out = slice_str(text);
    if (out->len > SESSION_TEXT_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, subject, "it has at most 512 bytes");
    return ERR_NONE;
}

struct err convert_key(const char *text, const char *subject, struct slice *out)
{
    if (text[0] == '\0')
        return err_about(ERR_INVALID_ARGUMENT, subject, "the name of a value must not be empty");
    return convert_text(text, subject, out);
}

struct err convert_version(bool given, int64_t version, int64_t least, uint64_t *out)
{
    *out = 0;
    if (!given)
        return ERR_NONE;
    if (version < least)
        return err_about(ERR_INVALID_ARGUMENT, "if_version",
                         least > 0 ? "if_version has to be 1 or more"
                                   : "if_version has to be 0 or more");
    *out = (uint64_t)version;
    return ERR_NONE;
}

/* ---- attributes: for each u16 length and bytes of its name, then of its text ---- */

static void put_length(uint8_t *at, size_t len)
{
    at[0] = (uint8_t)len;
    at[1] = (uint8_t)(len >> 8);
}

static size_t length_at(const uint8_t *at)
{
    return (size_t)at[0] | (size_t)at[1] << 8;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t len = strlen(text);

    put_length(at, len);
    memcpy(at + LENGTH_BYTES, text, len);
    return at + LENGTH_BYTES + len;
}

static struct err pack_attributes(struct arena *arena, const pb_session_metadata *from,
                                  struct slice *to)
{
    size_t texts = 0, bytes = 2 * LENGTH_BYTES * from->n_attributes;
    uint8_t *packed, *at;

    for (size_t i = 0; i < from->n_attributes; i++)
        texts += strlen(from->attributes[i]->key) + strlen(from->attributes[i]->value);
    if (texts > SESSIONS_ATTRIBUTES_BYTES || texts + bytes > SESSION_ATTRIBUTES_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "metadata.attributes",
                         "attributes have at most 8192 bytes");
    packed = at = arena_alloc(arena, texts + bytes);
    for (size_t i = 0; i < from->n_attributes; i++)
        at = put_text(put_text(at, from->attributes[i]->key), from->attributes[i]->value);
    *to = slice_of(packed, texts + bytes);
    return ERR_NONE;
}

/* The next text; NULL: there is none. */
static char *take_text(struct arena *arena, struct slice *packed)
{
    struct slice text;

    if (packed->len < LENGTH_BYTES)
        return NULL;
    text = slice_of(packed->data + LENGTH_BYTES, length_at(packed->data));
    if (text.len > packed->len - LENGTH_BYTES)
        return NULL;
    *packed = slice_of(text.data + text.len, packed->len - LENGTH_BYTES - text.len);
    return arena_strdup(arena, text);
}

static void unpack_attributes(struct arena *arena, struct slice packed, pb_session_metadata *to)
{
    char *key, *value;

    to->attributes = arena_array(arena, packed.len / (2 * LENGTH_BYTES) + 1, sizeof(void *));
    while ((key = take_text(arena, &packed)) != NULL &&
           (value = take_text(arena, &packed)) != NULL) {
        pb_attribute *entry = arena_alloc(arena, sizeof *entry);

        prism__patterns__session_store__session_metadata__attributes_entry__init(entry);
        entry->key = key;
        entry->value = value;
        to->attributes[to->n_attributes++] = entry;
    }
}

struct err convert_owner(struct arena *arena, const pb_session_metadata *from,
                         struct session_owner *to)
{
    struct err err;

    *to = (struct session_owner){.attributes = slice_of("", 0)};
    if (from == NULL)
        return ERR_NONE;
    err = convert_text(from->user_id, "metadata.user_id", &to->user);
    if (err.code == ERR_OK)
        err = convert_text(from->region, "metadata.region", &to->region);
    if (err.code == ERR_OK)
        err = convert_text(from->client_id, "metadata.client_id", &to->client);
    if (err.code == ERR_OK && from->n_attributes > 0)
        err = pack_attributes(arena, from, &to->attributes);
    return err;
}

/* ---- values ---- */

struct err convert_value(struct arena *arena, const pb_any *from, const char *subject,
                         struct slice *to)
{
    size_t type;
    uint8_t *bytes;

    if (from == NULL)
        return err_about(ERR_INVALID_ARGUMENT, subject, "a value is missing");
    type = strlen(from->type_url);
    if (type > SESSIONS_TYPE_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, subject,
                         "the type of a value has at most 2048 bytes");
    bytes = arena_alloc(arena, LENGTH_BYTES + type + from->value.len);
    put_length(bytes, type);
    memcpy(bytes + LENGTH_BYTES, from->type_url, type);
    if (from->value.len > 0)
        memcpy(bytes + LENGTH_BYTES + type, from->value.data, from->value.len);
    *to = slice_of(bytes, LENGTH_BYTES + type + from->value.len);
    return ERR_NONE;
}

static int by_name(const void *a, const void *b)
{
    const struct session_pair *const *left = a, *const *right = b;
    int order = strcmp((*left)->key, (*right)->key);

    if (order != 0)
        return order;
    return *left < *right ? -1 : *left > *right; /* both are of one array: as they came */
}

struct err convert_values(struct arena *arena, const struct session_pair *pairs, size_t n,
                          const char *subject, struct session_value **values, size_t *values_n)
{
    const struct session_pair **sorted = arena_array(arena, n, sizeof *sorted);
    struct err err = ERR_NONE;

    *values = arena_array(arena, n, sizeof **values);
    *values_n = 0;
    for (size_t i = 0; i < n; i++)
        sorted[i] = &pairs[i];
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n && err.code == ERR_OK; i++) {
        struct session_value *value = &(*values)[*values_n];

        if (i + 1 < n && strcmp(sorted[i]->key, sorted[i + 1]->key) == 0)
            continue;
        err = convert_key(sorted[i]->key, subject, &value->name);
        if (err.code == ERR_OK)
            err = convert_value(arena, sorted[i]->value, subject, &value->value);
        (*values_n)++;
    }
    return err;
}

/* ---- the other way ---- */

pb_timestamp *convert_time(struct arena *arena, uint64_t ms)
{
    pb_timestamp *to = arena_alloc(arena, sizeof *to);

    google__protobuf__timestamp__init(to);
    to->seconds = (int64_t)(ms / MS_PER_S);
    to->nanos = (int32_t)(ms % MS_PER_S) * NS_PER_MILLI;
    return to;
}

/* What is not as convert_value makes it is shown as bytes without a type. */
pb_any *convert_any(struct arena *arena, struct slice value)
{
    pb_any *to = arena_alloc(arena, sizeof *to);
    size_t type = value.len >= LENGTH_BYTES ? length_at(value.data) : 0;

    google__protobuf__any__init(to);
    if (value.len < LENGTH_BYTES || type > value.len - LENGTH_BYTES) {
        to->value = pb_bytes(value);
        return to;
    }
    to->type_url = arena_strdup(arena, slice_of(value.data + LENGTH_BYTES, type));
    to->value =
        pb_bytes(slice_of(value.data + LENGTH_BYTES + type, value.len - LENGTH_BYTES - type));
    return to;
}

pb_session_data *convert_session(struct arena *arena, struct slice id,
                                 const struct session_owner *owner,
                                 const struct session_times *times, uint64_t version)
{
    pb_session_data *to = arena_alloc(arena, sizeof *to);
    pb_session_metadata *metadata = arena_alloc(arena, sizeof *metadata);

    prism__patterns__session_store__session_data__init(to);
    prism__patterns__session_store__session_metadata__init(metadata);
    metadata->user_id = arena_strdup(arena, owner->user);
    metadata->region = arena_strdup(arena, owner->region);
    metadata->client_id = arena_strdup(arena, owner->client);
    unpack_attributes(arena, owner->attributes, metadata);
    to->session_id = arena_strdup(arena, id);
    to->metadata = metadata;
    to->created_at = convert_time(arena, times->created_ms);
    to->last_accessed = convert_time(arena, times->used_ms);
    to->expires_at = convert_time(arena, times->expires_ms);
    to->version = (int64_t)version;
    return to;
}
