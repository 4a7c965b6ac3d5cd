/* Where a cluster keeps a key. */
#include "backends/redis/redis_text.h"

#include <stdio.h>

/* One byte of CRC-16/XMODEM, without a table. */
static uint16_t crc_add(uint16_t crc, uint8_t byte)
{
    crc = (uint16_t)(crc << 8 | crc >> 8);
    crc ^= byte;
    crc ^= (uint16_t)((crc & 0xff) >> 4);
    crc ^= (uint16_t)(crc << 12);
    crc ^= (uint16_t)((crc & 0xff) << 5);
    return crc;
}

struct parts {
    struct slice head, tail;
};

static uint8_t byte_at(const struct parts *key, size_t i)
{
    return i < key->head.len ? key->head.data[i] : key->tail.data[i - key->head.len];
}

/* The first c from `from` on; the key's length: none. */
static size_t find(const struct parts *key, size_t from, char c)
{
    size_t len = key->head.len + key->tail.len;

    while (from < len && byte_at(key, from) != (uint8_t)c)
        from++;
    return from;
}

/* The bytes that count. */
static void bounds_of(const struct parts *key, size_t *from, size_t *to)
{
    size_t len = key->head.len + key->tail.len;
    size_t open = find(key, 0, '{'), shut = open < len ? find(key, open, '}') : len;
    bool tagged = shut < len && shut > open + 1;

    *from = tagged ? open + 1 : 0;
    *to = tagged ? shut : len;
}

unsigned redis_slot(struct slice head, struct slice tail)
{
    const struct parts key = {head, tail};
    uint16_t crc = 0;
    size_t i, to;

    for (bounds_of(&key, &i, &to); i < to; i++)
        crc = crc_add(crc, byte_at(&key, i));
    return crc % REDIS_SLOTS;
}

struct slice redis_slot_tag(struct arena *arena, struct slice key)
{
    const struct slice none = slice_of(NULL, 0);
    size_t from, to;

    bounds_of(&(const struct parts){key, none}, &from, &to);

    struct parts part = {slice_of(key.data + from, to - from), none};

    if (find(&part, 0, '}') == part.head.len)
        return arena_copy(arena, part.head);
    for (unsigned n = 0;; n++) { /* some 16,000 of them */
        char text[16];
        struct slice tag = slice_of(text, (size_t)snprintf(text, sizeof text, "%u", n));

        if (redis_slot(tag, none) == redis_slot(key, none))
            return arena_copy(arena, tag);
    }
}

/* The next word of digits, and what comes behind the space after it. */
static bool take_number(struct slice *text, unsigned max, unsigned *out)
{
    size_t i = 0;

    *out = 0;
    for (; i < text->len && text->data[i] >= '0' && text->data[i] <= '9'; i++) {
        *out = *out * 10 + (unsigned)(text->data[i] - '0');
        if (*out > max)
            return false;
    }
    if (i == 0)
        return false;
    i += i < text->len;
    *text = slice_of(text->data + i, text->len - i);
    return true;
}

bool redis_redirect_parse(struct slice error, struct redis_redirect *redirect)
{
    bool ask = slice_starts_with(error, slice_str("ASK "));
    size_t skip = ask ? 4 : 6, host;
    struct slice rest;
    unsigned port;

    if (!ask && !slice_starts_with(error, slice_str("MOVED ")))
        return false;
    *redirect = (struct redis_redirect){.ask = ask};
    rest = slice_of(error.data + skip, error.len - skip);
    if (!take_number(&rest, REDIS_SLOTS - 1, &redirect->slot))
        return false;
    for (host = rest.len; host > 0 && rest.data[host - 1] != ':'; host--)
        ;
    if (host == 0 || host > sizeof redirect->to.host)
        return false;
    if (rest.data[0] != '?')
        memcpy(redirect->to.host, rest.data, host - 1);
    rest = slice_of(rest.data + host, rest.len - host);
    if (!take_number(&rest, UINT16_MAX, &port) || port == 0)
        return false;
    redirect->to.port = (uint16_t)port;
    return true;
}
