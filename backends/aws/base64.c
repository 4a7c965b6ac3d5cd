#include "backends/aws/base64.h"

#include <stdint.h>

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char of_urls[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static char *encode(struct slice bytes, const char *letters, bool pad, char *out)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;

    for (; left >= 3; left -= 3, at += 3) {
        *out++ = letters[at[0] >> 2];
        *out++ = letters[(at[0] << 4 | at[1] >> 4) & 63];
        *out++ = letters[(at[1] << 2 | at[2] >> 6) & 63];
        *out++ = letters[at[2] & 63];
    }
    if (left == 0)
        return out;
    *out++ = letters[at[0] >> 2];
    *out++ = letters[(at[0] << 4 | (left > 1 ? at[1] >> 4 : 0)) & 63];
    if (left > 1)
        *out++ = letters[at[1] << 2 & 63];
    for (; pad && left < 3; left++)
        *out++ = '=';
    return out;
}

char *base64_encode(struct slice bytes, char *out)
{
    return encode(bytes, standard, true, out);
}

char *base64_encode_url(struct slice bytes, char *out)
{
    return encode(bytes, of_urls, false, out);
}

size_t base64_decoded_bytes(struct slice text)
{
    size_t n = text.len / 4 * 3;

    if (text.len >= 4 && text.data[text.len - 1] == '=')
        n -= text.data[text.len - 2] == '=' ? 2 : 1;
    return n;
}

static int value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(struct slice text, void *out)
{
    uint8_t *to = out, *end = to + base64_decoded_bytes(text);

    if (text.len % 4 != 0)
        return false;
    for (size_t i = 0; i < text.len; i += 4) {
        uint32_t bits = 0;

        for (size_t j = 0; j < 4; j++) {
            uint8_t c = text.data[i + j];
            bool padding =
                c == '=' && i + 4 == text.len && (j == 3 || (j == 2 && text.data[i + 3] == '='));
            int value = padding ? 0 : value_of(c);

            if (value < 0)
                return false;
            bits = bits << 6 | (uint32_t)value;
        }
        for (int shift = 16; shift >= 0 && to < end; shift -= 8)
            *to++ = (uint8_t)(bits >> shift);
    }
    return to == end;
}
