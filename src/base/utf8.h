/* Is this text? Names, labels and log lines must be UTF-8; keys and values need not be. */
#ifndef PRISM_BASE_UTF8_H
#define PRISM_BASE_UTF8_H

#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed character that text starts with (1..4); 0: text is empty or starts with
 * none. Overlong forms, surrogates and numbers above U+10FFFF are not well-formed. */
static inline size_t utf8_char_bytes(struct slice text)
{
    const uint8_t *p = text.data;
    size_t len;

    if (text.len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (text.len < len)
        return 0;

    /* The second byte carries the limits of its leader; further ones are plain continuations. */
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;

    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

static inline bool utf8_valid(struct slice text)
{
    while (text.len > 0) {
        uint64_t eight; /* mostly text is ASCII */

        if (text.len >= sizeof eight) {
            memcpy(&eight, text.data, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                text = slice_of(text.data + sizeof eight, text.len - sizeof eight);
                continue;
            }
        }

        size_t n = utf8_char_bytes(text);

        if (n == 0)
            return false;
        text = slice_of(text.data + n, text.len - n);
    }
    return true;
}

#endif
