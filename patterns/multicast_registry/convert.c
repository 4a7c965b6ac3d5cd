/* Between the protocol and what backends take. */
#include "patterns/check.h"
#include "patterns/multicast_registry/metadata.h"
#include "patterns/multicast_registry/multicast_priv.h"
#include "src/base/digest.h"
#include "src/base/sixteen.h"

#include <string.h>

enum { MS_PER_S = 1000, NS_IN_MS = 1000000 };

struct err convert_identity(const char *text, const char *subject, struct slice *out)
{
    *out = slice_str(text);
    if (out->len == 0)
        return err_about(ERR_INVALID_ARGUMENT, subject, "an identity must not be empty");
    if (out->len > REGISTRY_IDENTITY_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, subject, "an identity has at most 512 bytes");
    return ERR_NONE;
}

struct err convert_ttl(const pb_duration *ttl, uint64_t otherwise, uint64_t *ms)
{
    *ms = otherwise;
    if (ttl == NULL || (ttl->seconds == 0 && ttl->nanos == 0))
        return ERR_NONE;
    if (ttl->seconds < 0 || ttl->nanos < 0 || ttl->nanos >= MS_PER_S * NS_IN_MS)
        return err_about(ERR_INVALID_ARGUMENT, "ttl", "ttl has to be more than zero");
    if ((uint64_t)ttl->seconds >= REGISTRY_TTL_MAX_MS / MS_PER_S)
        return err_about(ERR_INVALID_ARGUMENT, "ttl", "ttl is at most a hundred years");
    *ms = (uint64_t)ttl->seconds * MS_PER_S + (uint64_t)ttl->nanos / NS_IN_MS;
    if (*ms == 0)
        *ms = 1;
    return ERR_NONE;
}

struct err convert_tags(struct arena *arena, char *const *tags, size_t n, struct slice *out)
{
    struct slice *strings = arena_array(arena, n, sizeof *strings);

    *out = slice_of("", 0);
    for (size_t i = 0; i < n; i++)
        strings[i] = slice_str(tags[i]);
    if (n == 0)
        return ERR_NONE;

    struct err err = document_of_strings(arena, strings, n, REGISTRY_TAGS_BYTES, out);

    if (err.code != ERR_OK)
        err.subject = "tags";
    return err;
}

/* ---- the other way ---- */

static void read_tags(struct arena *arena, struct slice tags, pb_identity *to)
{
    struct document_walk walk = document_walk(tags);
    size_t n = 0;

    while (document_next(&walk))
        n++;
    to->tags = arena_array(arena, n, sizeof *to->tags);
    walk = document_walk(tags);
    while (document_next(&walk))
        to->tags[to->n_tags++] = arena_strdup(arena, document_payload(walk.value));
}

pb_identity *convert_entry(struct arena *arena, const struct registry_entry *entry)
{
    pb_identity *to = arena_alloc(arena, sizeof *to);

    prism__patterns__multicast_registry__identity__init(to);
    to->identity = arena_strdup(arena, entry->identity);
    if (entry->document.len > document_empty().len)
        to->metadata = metadata_write(arena, entry->document);
    if (entry->tags.len > 0)
        read_tags(arena, entry->tags, to);
    to->generation = (int64_t)entry->generation;
    to->registered_at_ms = (int64_t)entry->registered_at_ms;
    to->registered_at = to->registered_at_ms / MS_PER_S;
    if (entry->expires_at_ms == 0)
        return to;
    to->_expires_at_ms_case = MULTICAST_PB(IDENTITY___EXPIRES_AT_MS_EXPIRES_AT_MS);
    to->expires_at_ms = (int64_t)entry->expires_at_ms;
    to->_expires_at_case = MULTICAST_PB(IDENTITY___EXPIRES_AT_EXPIRES_AT);
    to->expires_at = to->expires_at_ms / MS_PER_S;
    return to;
}

/* ---- topics ---- */

/* clang-format off */
static const bool plain[UINT8_MAX + 1] = { /* letters, digits and "-" */
    0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0, 0,0,0,0,0,0,0,0,
    0,0,0,0,0,0,0,0, 0,0,0,0,0,1,0,0, 1,1,1,1,1,1,1,1, 1,1,0,0,0,0,0,0,
    0,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,0,0,0,0,0,
    0,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,1,1,1,1,1, 1,1,1,0,0,0,0,0,
};
/* clang-format on */

static bool is_plain(uint8_t byte)
{
    return plain[byte];
}

static inline bool are_plain(sixteen bytes)
{
    return sixteen_all(sixteen_are_letters_or_digits(bytes) | sixteen_are(bytes, '-'));
}

/* How many bytes are to be escaped. That is none of nearly all identities, and told by looking at
 * sixteen bytes at a time; the last ones with some before them. */
static size_t count_escaped(struct slice identity)
{
    size_t escaped = 0, at = 0, end = identity.len;

    while (end - at > SIXTEEN && are_plain(sixteen_at(identity.data + at)))
        at += SIXTEEN;
    if (end >= EIGHT && end - at <= SIXTEEN) {
        const uint8_t *last = identity.data + end - EIGHT;

        if (are_plain(sixteen_of(end - at > EIGHT ? identity.data + at : last, last)))
            return 0;
    }
    for (; at < end; at++)
        escaped += !is_plain(identity.data[at]);
    return escaped;
}

static void escape(char *to, struct slice identity)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < identity.len; i++) {
        uint8_t byte = identity.data[i];

        if (is_plain(byte)) {
            *to++ = (char)byte;
            continue;
        }
        *to++ = '_';
        *to++ = digits[byte >> 4];
        *to++ = digits[byte & 15];
    }
}

bool convert_is_plain(struct slice prefix, struct slice identity)
{
    return prefix.len + identity.len <= MESSAGE_TOPIC_BYTES && count_escaped(identity) == 0;
}

struct slice convert_plain_topic(struct slice prefix, struct arena *arena, struct slice identity)
{
    char *topic = arena_alloc(arena, prefix.len + identity.len);

    memcpy(topic, prefix.data, prefix.len);
    memcpy(topic + prefix.len, identity.data, identity.len);
    return slice_of(topic, prefix.len + identity.len);
}

/* A multicast makes one for each target: it is as short as it can be, and mostly a copy. */
struct slice convert_topic(struct slice prefix, struct arena *arena, struct slice identity)
{
    size_t escaped = count_escaped(identity), len;
    struct digest digest;
    char *topic;

    len = prefix.len + identity.len + 2 * escaped;
    if (len > MESSAGE_TOPIC_BYTES)
        len = prefix.len + 2 + DIGEST_HEX;
    topic = arena_alloc(arena, len);
    memcpy(topic, prefix.data, prefix.len);
    if (prefix.len + identity.len + 2 * escaped > MESSAGE_TOPIC_BYTES) {
        digest = digest_of(&identity, 1);
        memcpy(topic + prefix.len, "__", 2);
        digest_hex(&digest, topic + prefix.len + 2);
    } else if (escaped > 0) {
        escape(topic + prefix.len, identity);
    } else {
        memcpy(topic + prefix.len, identity.data, identity.len);
    }
    return slice_of(topic, len);
}
