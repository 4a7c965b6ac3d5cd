#include "backends/aws/sigv4.h"

#include "src/base/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void sigv4_time(int64_t unix_seconds, char out[SIGV4_TIME_BYTES])
{
    time_t t = (time_t)unix_seconds;
    struct tm utc;

    gmtime_r(&t, &utc);
    strftime(out, SIGV4_TIME_BYTES, "%Y%m%dT%H%M%SZ", &utc);
}

void sigv4_forget(struct sigv4_key *key)
{
    secret_wipe(key, sizeof *key);
}

static struct slice bytes_of(const struct digest *digest)
{
    return slice_of(digest->bytes, DIGEST_BYTES);
}

/* The secret key is hashed with the day, the region, the service and a constant, one by one. */
static void key_make(struct sigv4_key *key, const struct sigv4_scope *scope, const char *time)
{
    size_t len = strlen(scope->secret_key) + 4;
    char *secret = malloc(len + 1);

    if (secret == NULL)
        abort();
    memcpy(secret, "AWS4", 4);
    memcpy(secret + 4, scope->secret_key, len - 3);
    memcpy(key->day, time, SIGV4_DAY_DIGITS);
    key->day[SIGV4_DAY_DIGITS] = '\0';
    key->digest = digest_hmac(slice_of(secret, len), slice_str(key->day));
    key->digest = digest_hmac(bytes_of(&key->digest), slice_str(scope->region));
    key->digest = digest_hmac(bytes_of(&key->digest), slice_str(scope->service));
    key->digest = digest_hmac(bytes_of(&key->digest), slice_str("aws4_request"));
    secret_free(secret);
}

/* "host;x-amz-date" */
static char *names_of(const struct sigv4_request *request, struct arena *arena)
{
    size_t len = 1;
    char *names, *at;

    for (unsigned i = 0; i < request->header_count; i++)
        len += strlen(request->headers[i].name) + 1;
    names = at = arena_alloc(arena, len);
    for (unsigned i = 0; i < request->header_count; i++)
        at = stpcpy(stpcpy(at, i > 0 ? ";" : ""), request->headers[i].name);
    *at = '\0';
    return names;
}

/* The request in the form that both sides hash. */
static struct digest hash_of(const struct sigv4_request *request, const char *names,
                             struct arena *arena)
{
    unsigned n = 0;
    struct slice *parts = arena_array(arena, 4 * request->header_count + 10, sizeof *parts);

    parts[n++] = slice_str(request->method);
    parts[n++] = slice_str("\n");
    parts[n++] = slice_str(request->path);
    parts[n++] = slice_str("\n");
    parts[n++] = slice_str(request->query);
    parts[n++] = slice_str("\n");
    for (unsigned i = 0; i < request->header_count; i++) {
        parts[n++] = slice_str(request->headers[i].name);
        parts[n++] = slice_str(":");
        parts[n++] = slice_str(request->headers[i].value);
        parts[n++] = slice_str("\n");
    }
    parts[n++] = slice_str("\n");
    parts[n++] = slice_str(names);
    parts[n++] = slice_str("\n");
    parts[n++] = slice_str(request->payload);
    return digest_of(parts, n);
}

const char *sigv4_authorization(const struct sigv4_request *request,
                                const struct sigv4_scope *scope, struct sigv4_key *key,
                                const char time[SIGV4_TIME_BYTES], struct arena *arena)
{
    const char *names = names_of(request, arena);
    struct digest hash = hash_of(request, names, arena), signature;
    char hex[DIGEST_HEX + 1] = {0};
    const char *where, *text;

    if (strncmp(key->day, time, SIGV4_DAY_DIGITS) != 0)
        key_make(key, scope, time);
    where = arena_printf(arena, "%s/%s/%s/aws4_request", key->day, scope->region, scope->service);
    digest_hex(&hash, hex);
    text = arena_printf(arena, "AWS4-HMAC-SHA256\n%s\n%s\n%s", time, where, hex);
    signature = digest_hmac(bytes_of(&key->digest), slice_str(text));
    digest_hex(&signature, hex);
    return arena_printf(arena, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                        scope->access_key, where, names, hex);
}

static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

size_t sigv4_encode(struct slice text, bool keep_slashes, char *out)
{
    static const char digits[] = "0123456789ABCDEF";
    char *at = out;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if (is_plain(c) || (c == '/' && keep_slashes)) {
            *at++ = (char)c;
            continue;
        }
        *at++ = '%';
        *at++ = digits[c >> 4];
        *at++ = digits[c & 15];
    }
    *at = '\0';
    return (size_t)(at - out);
}
