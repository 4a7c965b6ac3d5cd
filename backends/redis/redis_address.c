/* Where the server is, as people write it. */
#include "backends/redis/redis_text.h"

#include "src/base/secret.h"

#include <ctype.h>
#include <stdlib.h>

static struct err fault(const char *text)
{
    return err_about(ERR_INVALID_ARGUMENT, "address", text);
}

static char *copy(struct slice from)
{
    char *out = malloc(from.len + 1);

    if (out == NULL)
        abort();
    if (from.len > 0)
        memcpy(out, from.data, from.len);
    out[from.len] = '\0';
    return out;
}

static struct slice skip(struct slice s, size_t n)
{
    return slice_of(s.data + n, s.len - n);
}

/* Position of c, or s.len. */
static size_t find(struct slice s, char c)
{
    const uint8_t *at = s.len > 0 ? memchr(s.data, c, s.len) : NULL;

    return at == NULL ? s.len : (size_t)(at - s.data);
}

static bool number(struct slice text, uint64_t max, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(text.data[i] - '0');
        if (*out > max)
            return false;
    }
    return text.len > 0;
}

static bool unpercent(char *text)
{
    char *out = text;

    for (; *text != '\0'; text++) {
        if (*text == '%') {
            char hex[3] = {text[1], text[1] != '\0' ? text[2] : '\0', '\0'}, *end;
            long byte = strtol(hex, &end, 16);

            if (end != hex + 2 || byte == 0)
                return false;
            *out++ = (char)byte;
            text += 2;
            continue;
        }
        *out++ = *text;
    }
    *out = '\0';
    return true;
}

static struct err parse_user(struct redis_address *address, struct slice info)
{
    size_t colon = find(info, ':');

    address->username = copy(slice_of(info.data, colon));
    if (colon < info.len)
        address->password = copy(skip(info, colon + 1));
    if (!unpercent(address->username) ||
        (address->password != NULL && !unpercent(address->password)))
        return fault("user name or password holds a % that is not followed by two hex digits");
    return ERR_NONE;
}

static struct err parse_seed(struct redis_seed *seed, struct slice text)
{
    struct slice port;
    uint64_t n = 0;
    size_t end;

    if (text.len > 0 && text.data[0] == '[') {
        end = find(text, ']');
        if (end == text.len)
            return fault("the bracket of an IPv6 address is not closed");
        seed->host = copy(slice_of(text.data + 1, end - 1));
        port = skip(text, end + 1);
    } else {
        end = find(text, ':');
        if (end < text.len && find(skip(text, end + 1), ':') < text.len - end - 1)
            return fault("an IPv6 address is written in brackets: [::1]:6379");
        seed->host = copy(slice_of(text.data, end));
        port = skip(text, end);
    }
    if (seed->host[0] == '\0' || strlen(seed->host) > REDIS_HOST_BYTES)
        return fault("the host is empty or too long");
    for (const char *c = seed->host; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && strchr(".-_:%", *c) == NULL)
            return fault("the host holds a character that no host name has");
    }
    if (port.len > 0 && (port.data[0] != ':' || !number(skip(port, 1), UINT16_MAX, &n) || n == 0))
        return fault("the port is not a number from 1 to 65535");
    seed->port = (uint16_t)n;
    return ERR_NONE;
}

static struct err parse_host(struct redis_address *address, struct slice text)
{
    bool more = true;

    while (more) {
        size_t comma = find(text, ',');
        struct err e;

        if (address->seed_count == REDIS_SEEDS)
            return fault("these are more than 16 servers");
        e = parse_seed(&address->seeds[address->seed_count++], slice_of(text.data, comma));
        if (e.code != ERR_OK)
            return e;
        more = comma < text.len;
        if (more)
            text = skip(text, comma + 1);
    }
    address->host = address->seeds[0].host;
    address->port = address->seeds[0].port != 0 ? address->seeds[0].port : REDIS_PORT;
    return ERR_NONE;
}

static struct err parse_url(struct redis_address *address, struct slice text)
{
    size_t slash = find(text, '/'), at;
    struct slice host = slice_of(text.data, slash);
    uint64_t database;

    for (at = slash; at > 0 && text.data[at - 1] != '@'; at--)
        ;
    if (at > 0) {
        struct err e = parse_user(address, slice_of(text.data, at - 1));

        if (e.code != ERR_OK)
            return e;
        host = slice_of(text.data + at, slash - at);
    }
    if (slash + 1 < text.len) {
        if (!number(skip(text, slash + 1), INT32_MAX, &database))
            return fault("what follows the host is not the number of a database");
        address->database = (int64_t)database;
    }
    return parse_host(address, host);
}

static struct err parse_path(struct redis_address *address, struct slice path)
{
    if (slice_starts_with(path, slice_str("//")))
        path = skip(path, 2);
    if (path.len == 0 || path.len > REDIS_PATH_BYTES || find(path, '\0') < path.len)
        return fault("the path of a unix socket has 1 to 107 bytes");
    address->unix_socket = true;
    address->host = address->seeds[0].host = copy(path);
    address->seed_count = 1;
    return ERR_NONE;
}

static struct err parse(struct redis_address *address, struct slice text)
{
    if (slice_starts_with(text, slice_str("unix:")))
        return parse_path(address, skip(text, 5));
    if (slice_starts_with(text, slice_str("redis://")))
        return parse_url(address, skip(text, 8));
    if (slice_starts_with(text, slice_str("rediss://"))) {
        address->tls = true;
        return parse_url(address, skip(text, 9));
    }
    return parse_host(address, text);
}

struct err redis_address_parse(struct redis_address *address, struct slice text)
{
    *address = (struct redis_address){.database = -1};

    struct err e = parse(address, text);

    if (e.code != ERR_OK)
        redis_address_clear(address);
    return e;
}

void redis_address_clear(struct redis_address *address)
{
    secret_free(address->password);
    for (unsigned i = 0; i < address->seed_count; i++)
        free(address->seeds[i].host);
    free(address->username);
    *address = (struct redis_address){.database = -1};
}
