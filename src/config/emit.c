/* The checked tree as YAML in flow style, which libcyaml loads into the structs. Every value is in
 * double quotes and plain ASCII, so that nothing in it can be taken for syntax. */
#include "src/config/config_priv.h"

#include "src/base/utf8.h"

#include <stdio.h>
#include <string.h>

/* Two passes: at == NULL counts. */
struct out {
    char *at;
    size_t len;
};

static void put(struct out *out, const char *text, size_t len)
{
    if (out->at != NULL)
        memcpy(out->at + out->len, text, len);
    out->len += len;
}

static uint32_t code_point(const uint8_t *p, size_t n)
{
    uint32_t c = n == 1 ? p[0] : p[0] & (0xffu >> (n + 1));

    for (size_t i = 1; i < n; i++)
        c = c << 6 | (p[i] & 0x3f);
    return c;
}

static void put_quoted(struct out *out, const char *text)
{
    struct slice rest = slice_str(text);

    put(out, "\"", 1);
    while (rest.len > 0) {
        size_t n = utf8_char_bytes(rest); /* not 0: checked where the text came in */
        uint32_t c = code_point(rest.data, n > 0 ? n : 1);
        char escape[16];

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
            put(out, (const char *)rest.data, 1);
        else
            put(out, escape, (size_t)snprintf(escape, sizeof escape, "\\U%08x", (unsigned)c));
        n = n > 0 ? n : 1;
        rest = slice_of(rest.data + n, rest.len - n);
    }
    put(out, "\"", 1);
}

/* NOLINTNEXTLINE(misc-no-recursion): CONFIG_MAX_DEPTH bounds it */
static void put_node(struct out *out, const struct node *node)
{
    bool mapping = node->kind == NODE_MAPPING;

    if (node->kind == NODE_SCALAR) {
        put_quoted(out, node->text);
        return;
    }
    put(out, mapping ? "{" : "[", 1);
    for (const struct node *child = node->children; child != NULL; child = child->next) {
        if (mapping) {
            put_quoted(out, child->key);
            put(out, ": ", 2);
        }
        put_node(out, child);
        if (child->next != NULL)
            put(out, ",\n", 2);
    }
    put(out, mapping ? "}" : "]", 1);
}

/* libcyaml's allocator on the config's arena: what it loads needs no free of its own. Growing lists
 * leave their old copies behind, which the bounds of the schema keep small. */
static void *cyaml_memory(void *ctx, void *ptr, size_t size)
{
    struct header {
        _Alignas(max_align_t) size_t size;
    } * header;

    if (size == 0)
        return NULL;
    header = arena_zalloc(ctx, sizeof *header + size);
    header->size = size;
    if (ptr != NULL) {
        const struct header *old = (const struct header *)ptr - 1;

        memcpy(header + 1, ptr, old->size < size ? old->size : size);
    }
    return header + 1;
}

struct raw_config *emit_and_load(struct load *load, const struct node *root)
{
    const struct cyaml_config how = {
        .mem_fn = cyaml_memory,
        .mem_ctx = load->keep,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    struct out out = {NULL, 0};
    struct raw_config *raw = NULL;

    put_node(&out, root);
    out = (struct out){arena_alloc(&load->scratch, out.len + 1), 0};
    put_node(&out, root);

    cyaml_err_t e = cyaml_load_data((const uint8_t *)out.at, out.len, &how, &config_schema,
                                    (cyaml_data_t **)&raw, NULL);

    if (e == CYAML_OK && raw != NULL)
        return raw;
    fault_add(load,
              (struct fault){.path = "",
                             .message = fault_text(load, "libcyaml refuses what was checked: %s",
                                                   cyaml_strerror(e)),
                             .fix = "please report this as a bug"});
    return NULL;
}
