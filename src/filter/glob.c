#include "src/filter/glob.h"

#include "src/base/utf8.h"

/* The character at the beginning, which is taken off; text is valid UTF-8 and not empty. */
static uint32_t take_char(struct slice *text)
{
    size_t n = utf8_char_bytes(*text);
    uint32_t code = n == 1 ? text->data[0] : text->data[0] & (0xffu >> (n + 1));

    for (size_t i = 1; i < n; i++)
        code = code << 6 | (text->data[i] & 0x3f);
    *text = slice_of(text->data + n, text->len - n);
    return code;
}

/* A character of a set or of the pattern, behind a backslash or not. */
static bool take_literal(struct slice *pattern, uint32_t *code)
{
    if (pattern->len > 0 && pattern->data[0] == '\\')
        *pattern = slice_of(pattern->data + 1, pattern->len - 1);
    if (pattern->len == 0)
        return false;
    *code = take_char(pattern);
    return true;
}

static bool starts(struct slice pattern, char c)
{
    return pattern.len > 0 && pattern.data[0] == (uint8_t)c;
}

bool glob_negates(struct slice *pattern)
{
    bool negates = starts(*pattern, '!') || starts(*pattern, '^');

    if (negates)
        take_char(pattern);
    return negates;
}

bool glob_take_range(struct slice *pattern, uint32_t *low, uint32_t *high)
{
    if (!take_literal(pattern, low))
        return false;
    *high = *low;
    if (!starts(*pattern, '-') || pattern->len == 1 || pattern->data[1] == ']')
        return true;
    take_char(pattern);
    return take_literal(pattern, high);
}

bool glob_set_ends(struct slice *pattern)
{
    bool ends = starts(*pattern, ']');

    if (ends)
        take_char(pattern);
    return ends;
}

/* A set, behind its opening bracket; false: it does not end. */
static bool take_set(struct slice *pattern, uint32_t code, bool *holds)
{
    bool negated = glob_negates(pattern), found = false;
    uint32_t low, high;

    do {
        if (!glob_take_range(pattern, &low, &high))
            return false;
        found |= code >= low && code <= high;
    } while (!glob_set_ends(pattern));
    *holds = found != negated;
    return true;
}

enum glob_piece glob_take(struct slice *pattern, uint32_t *code)
{
    switch (pattern->data[0]) {
    case '*':
        take_char(pattern);
        return GLOB_RUN;
    case '?':
        take_char(pattern);
        return GLOB_ONE;
    case '[':
        take_char(pattern);
        return GLOB_SET;
    default:
        take_literal(pattern, code);
        return GLOB_CHARACTER;
    }
}

const char *glob_fault(struct slice pattern)
{
    uint32_t code;
    bool holds;

    while (pattern.len > 0) {
        if (starts(pattern, '[')) {
            take_char(&pattern);
            if (!take_set(&pattern, 0, &holds))
                return "a set of the glob pattern does not end";
        } else if (!take_literal(&pattern, &code)) {
            return "the glob pattern ends with a backslash";
        }
    }
    return NULL;
}

enum glob_shape glob_shape(struct arena *arena, struct slice pattern, struct slice *text)
{
    bool before = starts(pattern, '*'), after = false;
    uint8_t *out = arena_alloc(arena, pattern.len);
    size_t len = 0;

    if (before)
        take_char(&pattern);
    for (size_t i = 0; i < pattern.len; i++) {
        uint8_t c = pattern.data[i];

        if (after || c == '?' || c == '[')
            return GLOB_GENERAL;
        if (c == '*') {
            after = true;
            continue;
        }
        if (c == '\\')
            c = pattern.data[++i];
        out[len++] = c;
    }
    *text = slice_of(out, len);
    if (len == 0 && (before || after))
        return GLOB_ANY;
    return before && after ? GLOB_GENERAL : before ? GLOB_END : after ? GLOB_START : GLOB_WHOLE;
}

/* One element of the pattern, which is no star, against one character. */
static bool match_one(struct slice *pattern, struct slice *text)
{
    struct slice rest = *pattern, left = *text;
    uint32_t code, wanted;
    bool holds = true;

    if (left.len == 0 || rest.len == 0)
        return false;
    code = take_char(&left);
    if (starts(rest, '?')) {
        take_char(&rest);
    } else if (starts(rest, '[')) {
        take_char(&rest);
        take_set(&rest, code, &holds);
    } else {
        holds = take_literal(&rest, &wanted) && wanted == code;
    }
    if (!holds)
        return false;
    *pattern = rest;
    *text = left;
    return true;
}

/* False: there is a star in it. *n: how many characters it takes. */
static bool is_tail(struct slice pattern, size_t *n)
{
    uint32_t code;
    bool holds;

    for (*n = 0; pattern.len > 0; (*n)++) {
        switch (glob_take(&pattern, &code)) {
        case GLOB_RUN:
            return false;
        case GLOB_SET:
            take_set(&pattern, 0, &holds);
            break;
        case GLOB_ONE:
        case GLOB_CHARACTER:
            break;
        }
    }
    return true;
}

static bool take_last(struct slice *text, size_t n)
{
    size_t at = text->len;

    for (; n > 0; n--) {
        if (at == 0)
            return false;
        do
            at--;
        while ((text->data[at] & 0xc0) == 0x80);
    }
    *text = slice_of(text->data + at, text->len - at);
    return true;
}

static bool match_without_stars(struct slice pattern, struct slice text)
{
    while (pattern.len > 0) {
        if (!match_one(&pattern, &text))
            return false;
    }
    return text.len == 0;
}

/* Only the last star that was met is ever tried again: what an earlier one could do, it can. And
 * what follows the pattern's last star is compared with the end of the text, once. */
bool glob_match(struct slice pattern, struct slice text)
{
    struct slice star = {0}, retry = {0};
    bool starred = false;
    size_t n;

    while (text.len > 0 || pattern.len > 0) {
        if (starts(pattern, '*')) {
            take_char(&pattern);
            if (is_tail(pattern, &n))
                return take_last(&text, n) && match_without_stars(pattern, text);
            starred = true;
            star = pattern;
            retry = text;
        } else if (!match_one(&pattern, &text)) {
            if (!starred || retry.len == 0)
                return false;
            take_char(&retry);
            text = retry;
            pattern = star;
        }
    }
    return true;
}
