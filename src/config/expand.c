/* ${NAME}, ${NAME:-default} and ${file:PATH} in values; $${ stands for ${ itself.
 *
 * What is put in is data, not YAML: it cannot add keys, and it is not expanded again. It may be a
 * secret, so the node is marked and never shown in a message. */
#include "src/config/config_priv.h"

#include "src/base/file.h"
#include "src/base/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct expansion {
    struct load *load;
    struct node *node;
    char *out; /* CONFIG_MAX_SCALAR + 1 bytes */
    size_t len;
};

static bool append(struct expansion *x, const char *text, size_t len)
{
    if (CONFIG_MAX_SCALAR - x->len < len) {
        fault_at(x->load, x->node, NULL, "longer than 64 KiB once ${..} is put in");
        return false;
    }
    memcpy(x->out + x->len, text, len);
    x->len += len;
    return true;
}

/* A value from outside: counted, marked, checked. */
static bool append_foreign(struct expansion *x, const char *text, size_t len, const char *source)
{
    x->node->expanded = true;
    if (x->load->expand_left < len) {
        fault_at(x->load, x->node, NULL, "all ${..} together add more than 1 MiB");
        return false;
    }
    x->load->expand_left -= len;
    if (memchr(text, '\0', len) != NULL || !utf8_valid(slice_of(text, len))) {
        fault_at(x->load, x->node, "it must hold UTF-8 text", "%s holds binary data", source);
        return false;
    }
    return append(x, text, len);
}

/* ---- ${file:PATH} ---- */

static bool expand_file(struct expansion *x, struct slice path)
{
    struct load *load = x->load;
    const char *name = arena_strdup(&load->scratch, path);
    char *text = load->expand_file;
    ssize_t len = file_read(name, text, CONFIG_MAX_SCALAR);

    if (len < 0) {
        fault_at(load, x->node, NULL, "the file %s %s", quoted(load, name),
                 errno == EFBIG ? "is larger than 64 KiB" : file_problem(errno));
        return false;
    }
    /* Editors and `echo` end a file with a line end that is no part of a password. */
    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > 0 && text[len - 1] == '\r')
        len--;
    return append_foreign(x, text, (size_t)len,
                          fault_text(load, "the file %s", quoted(load, name)));
}

/* ---- ${NAME} ---- */

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = (char)name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

        if (!letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return name.len > 0;
}

static bool expand_env(struct expansion *x, struct slice inner)
{
    struct load *load = x->load;
    const uint8_t *colon = memmem(inner.data, inner.len, ":-", 2);
    struct slice name = colon != NULL ? slice_of(inner.data, (size_t)(colon - inner.data)) : inner;

    if (!is_name(name)) {
        fault_at(load, x->node,
                 "write ${NAME}, ${NAME:-default} or ${file:PATH}; $${ for a plain ${",
                 "a ${..} without a proper name");
        return false;
    }
    const char *key = arena_strdup(&load->scratch, name);
    const char *value = getenv(key);

    if (colon != NULL && (value == NULL || value[0] == '\0'))
        return append(x, (const char *)colon + 2, inner.len - name.len - 2);
    if (value == NULL) {
        fault_at(load, x->node, fault_text(load, "set it, or give a default: ${%.64s:-value}", key),
                 "the environment variable %s is not set", quoted(load, key));
        return false;
    }
    return append_foreign(x, value, strlen(value),
                          fault_text(load, "the environment variable %s", quoted(load, key)));
}

/* ---- scanning ---- */

/* `at` is behind "${"; returns what follows "}", NULL after a fault. */
static const char *expand_one(struct expansion *x, const char *at)
{
    const char *end = strchr(at, '}');
    static const char file[] = "file:";

    if (end == NULL) {
        fault_at(x->load, x->node, "close it with }, or write $${ for a plain ${",
                 "a ${ without its }");
        return NULL;
    }
    struct slice inner = slice_of(at, (size_t)(end - at));
    bool done;

    if (slice_starts_with(inner, slice_str(file)))
        done =
            expand_file(x, slice_of(inner.data + sizeof file - 1, inner.len - (sizeof file - 1)));
    else
        done = expand_env(x, inner);
    return done ? end + 1 : NULL;
}

bool expand_scalar(struct load *load, struct node *scalar)
{
    const char *at = scalar->text;

    if (strstr(at, "${") == NULL)
        return true;

    struct expansion x = {load, scalar, load->expand_out, 0};

    while (*at != '\0') {
        const char *dollar = strchrnul(at, '$');
        bool done = append(&x, at, (size_t)(dollar - at));

        at = dollar;
        if (done && strncmp(at, "$${", 3) == 0) {
            done = append(&x, "${", 2);
            at += 3;
        } else if (done && strncmp(at, "${", 2) == 0) {
            at = expand_one(&x, at + 2);
            done = at != NULL;
        } else if (done && *at != '\0') {
            done = append(&x, at++, 1);
        }
        if (!done)
            return false;
    }
    x.out[x.len] = '\0';
    scalar->text = arena_strdup(&load->scratch, slice_of(x.out, x.len));
    return true;
}
