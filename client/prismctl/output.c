#include "client/prismctl/output.h"

#include "src/base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- base64 ---- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void print_base64(FILE *out, struct prism_bytes bytes)
{
    const uint8_t *data = bytes.data;

    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t word = (uint32_t)data[i] << 16;

        if (left > 1)
            word |= (uint32_t)data[i + 1] << 8;
        if (left > 2)
            word |= data[i + 2];
        fputc(digits[word >> 18], out);
        fputc(digits[word >> 12 & 63], out);
        fputc(left > 1 ? digits[word >> 6 & 63] : '=', out);
        fputc(left > 2 ? digits[word & 63] : '=', out);
    }
}

bool parse_base64(const char *text, struct prism_buffer *to)
{
    size_t len = strlen(text), padding = 0;
    uint32_t word = 0;

    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    *to = (struct prism_buffer){0};
    if (len == 0 || len % 4 != 0)
        return false;
    to->data = malloc(len / 4 * 3);
    if (to->data == NULL)
        abort();
    for (size_t i = 0; i < len; i++) {
        const char *digit = i < len - padding ? strchr(digits, text[i]) : digits;

        if (digit == NULL || *digit == '\0') {
            free(to->data);
            *to = (struct prism_buffer){0};
            return false;
        }
        word = word << 6 | (uint32_t)(digit - digits);
        if (i % 4 == 3) {
            to->data[to->len++] = (uint8_t)(word >> 16);
            to->data[to->len++] = (uint8_t)(word >> 8);
            to->data[to->len++] = (uint8_t)word;
        }
    }
    to->len -= padding;
    return true;
}

/* ---- text ---- */

static void escape_byte(FILE *out, uint8_t byte)
{
    if (byte == '\n')
        fputs("\\n", out);
    else if (byte == '\t')
        fputs("\\t", out);
    else if (byte == '\\')
        fputs("\\\\", out);
    else
        fprintf(out, "\\x%02x", byte);
}

void print_escaped(FILE *out, struct prism_bytes bytes)
{
    struct slice rest = slice_of(bytes.data, bytes.len);

    while (rest.len > 0) {
        size_t n = utf8_char_bytes(rest);

        if (n == 0 ||
            (n == 1 && (rest.data[0] < 0x20 || rest.data[0] == 0x7f || rest.data[0] == '\\'))) {
            escape_byte(out, rest.data[0]);
            n = 1;
        } else {
            fwrite(rest.data, 1, n, out);
        }
        rest = slice_of(rest.data + n, rest.len - n);
    }
}

/* ---- JSON ---- */

static void quote(FILE *out, struct slice text)
{
    fputc('"', out);
    while (text.len > 0) {
        size_t n = utf8_char_bytes(text);

        if (n == 0)
            fputs("\\ufffd", out);
        else if (text.data[0] == '"' || text.data[0] == '\\')
            fprintf(out, "\\%c", text.data[0]);
        else if (text.data[0] < 0x20 || text.data[0] == 0x7f)
            fprintf(out, "\\u%04x", text.data[0]);
        else
            fwrite(text.data, 1, n, out);
        n = n > 0 ? n : 1;
        text = slice_of(text.data + n, text.len - n);
    }
    fputc('"', out);
}

static void begin(struct json *json, const char *name)
{
    if (json->comma)
        fputc(',', json->out);
    json->comma = true;
    if (name != NULL) {
        quote(json->out, slice_str(name));
        fputc(':', json->out);
    }
}

void json_open(struct json *json, const char *name, char bracket)
{
    begin(json, name);
    fputc(bracket, json->out);
    json->depth++;
    json->comma = false;
}

void json_close(struct json *json, char bracket)
{
    fputc(bracket, json->out);
    json->depth--;
    json->comma = true;
    if (json->depth == 0)
        fputc('\n', json->out);
}

void json_text(struct json *json, const char *name, const char *text)
{
    if (text == NULL) {
        json_null(json, name);
        return;
    }
    begin(json, name);
    quote(json->out, slice_str(text));
}

void json_int(struct json *json, const char *name, int64_t value)
{
    begin(json, name);
    fprintf(json->out, "%lld", (long long)value);
}

void json_bool(struct json *json, const char *name, bool value)
{
    begin(json, name);
    fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *name)
{
    begin(json, name);
    fputs("null", json->out);
}

void json_raw(struct json *json, const char *name, const char *text)
{
    begin(json, name);
    fputs(text, json->out);
}

void json_base64(struct json *json, const char *name, struct prism_bytes bytes)
{
    begin(json, name);
    fputc('"', json->out);
    print_base64(json->out, bytes);
    fputc('"', json->out);
}

void json_bytes(struct json *json, const char *name, struct prism_bytes bytes)
{
    struct slice text = slice_of(bytes.data, bytes.len);
    char encoded[64];

    if (utf8_valid(text)) {
        begin(json, name);
        quote(json->out, text);
        return;
    }
    snprintf(encoded, sizeof encoded, "%s_base64", name);
    json_base64(json, encoded, bytes);
}
