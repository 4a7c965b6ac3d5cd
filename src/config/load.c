#include "src/config/config_priv.h"

#include "patterns/pattern.h"
#include "src/base/file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Served without a file, or when it has no `namespaces`: `default` of every embedded pattern, with
 * memstore in its required slots. */
static const char *default_yaml(const struct config_catalog *catalog, struct arena *arena)
{
    const char *yaml = "namespaces:\n";

    for (const struct pattern_type *const *type = catalog->all_patterns(); *type; type++) {
        if (!(*type)->embedded)
            continue;
        yaml = arena_printf(arena, "%s  - name: default\n    pattern: %s\n    slots:\n", yaml,
                            (*type)->name);
        for (size_t i = 0; i < (*type)->slot_count; i++) {
            if (!(*type)->slots[i].optional)
                yaml = arena_printf(arena, "%s      %s:\n        backend: memstore\n", yaml,
                                    (*type)->slots[i].name);
        }
    }
    return yaml;
}

static void add_default_namespaces(struct load *load, struct node *root)
{
    if (root->kind != NODE_MAPPING || node_find(root, "namespaces") != NULL)
        return;
    struct node *embedded =
        document_parse(load, slice_str(default_yaml(load->catalog, &load->scratch)));

    node_append(root, "namespaces", node_find(embedded, "namespaces"));
}

static void load_document(struct load *load, struct slice yaml, struct config *config)
{
    struct node *root = document_parse(load, yaml);

    if (root == NULL)
        return;
    if (root->kind == NODE_MAPPING && root->count == 0) {
        fault_add(load, (struct fault){.path = "",
                                       .message = "the configuration is empty: a template that "
                                                  "failed, or a mount that is not there",
                                       .fix = "start without a file to serve the defaults"});
        return;
    }
    load->written = written_copy(&load->scratch, root);
    add_default_namespaces(load, root);
    load->root = root;
    check_document(load, root);

    struct raw_config *raw = emit_and_load(load, root);

    if (raw == NULL)
        return;
    raw->config.arena = config->arena; /* the schema does not know it */
    load->keep = &config->arena;
    *config = raw->config;
    server_check(load, config);
    namespaces_bind(load, raw, config);
}

/* In the order of the file; what is nowhere in it comes last. Stable. */
static void sort_faults(struct faults *faults)
{
    for (size_t i = 1; i < faults->count; i++) {
        struct fault fault = faults->items[i];
        unsigned line = fault.line - 1; /* 0 becomes the largest */
        size_t at = i;

        while (at > 0 && faults->items[at - 1].line - 1 > line) {
            faults->items[at] = faults->items[at - 1];
            at--;
        }
        faults->items[at] = fault;
    }
}

struct err config_parse(struct config *config, struct slice yaml,
                        const struct config_catalog *catalog, struct faults *faults)
{
    struct load load = {
        .keep = &config->arena,
        .faults = faults,
        .catalog = catalog,
        .expand_left = CONFIG_MAX_BYTES,
    };

    *config = (struct config){.listen = NULL};
    arena_init(&config->arena, NULL);
    arena_init(&load.scratch, NULL);
    load.expand_out = arena_alloc(&load.scratch, CONFIG_MAX_SCALAR + 1);
    load.expand_file = arena_alloc(&load.scratch, CONFIG_MAX_SCALAR + 1);
    load_document(&load, yaml, config);
    arena_clear(&load.scratch);
    if (faults->count == 0)
        return ERR_NONE;
    sort_faults(faults);
    return err_make(ERR_INVALID_ARGUMENT, "the configuration has faults");
}

/* ---- the file ---- */

static struct err fail_read(struct config *config, struct faults *faults, int error)
{
    enum err_code code = ERR_NOT_FOUND;
    struct load load = {.faults = faults};
    const char *text;

    if (error == EACCES || error == EPERM)
        code = ERR_PERMISSION_DENIED;
    else if (error == EFBIG)
        code = ERR_INVALID_ARGUMENT;
    text = error == EFBIG ? "larger than 1 MiB"
                          : fault_text(&load, "the file %s", file_problem(error));
    *config = (struct config){.listen = NULL};
    fault_add(&load, (struct fault){.path = "", .message = text});
    return err_make(code, "the configuration cannot be read");
}

struct err config_load(struct config *config, const char *path,
                       const struct config_catalog *catalog, struct faults *faults)
{
    struct arena arena;
    struct err e;

    arena_init(&arena, NULL);
    if (path == NULL) {
        e = config_parse(config, slice_str(default_yaml(catalog, &arena)), catalog, faults);
        arena_clear(&arena);
        return e;
    }

    char *text = arena_alloc(&arena, CONFIG_MAX_BYTES + 1);
    ssize_t len = file_read_stream(path, text, CONFIG_MAX_BYTES, CONFIG_READ_TIMEOUT_MS);

    if (len < 0)
        e = fail_read(config, faults, errno);
    else
        e = config_parse(config, slice_of(text, (size_t)len), catalog, faults);
    config->path = path;
    config->catalog = catalog;
    arena_clear(&arena);
    return e;
}

void config_clear(struct config *config)
{
    arena_clear(&config->arena);
    *config = (struct config){.listen = NULL};
}

/* ---- for the log ---- */

static size_t put(char *out, size_t room, size_t at, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Where the next text goes: never beyond the terminating NUL. */
static size_t put(char *out, size_t room, size_t at, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(out + at, room - at, format, args);
    va_end(args);
    return n < 0 ? at : (size_t)n < room - at ? at + (size_t)n : room - 1;
}

void config_describe(const struct config *config, char *out, size_t room)
{
    size_t at = put(out, room, 0, "%s", "");

    for (size_t i = 0; i < config->namespace_count; i++) {
        const struct config_namespace *space = &config->namespaces[i];

        at = put(out, room, at, "%s%s (%s:", i > 0 ? ", " : "", space->name, space->pattern->name);
        for (size_t s = 0; s < space->pattern->slot_count; s++) {
            const struct backend_type *backend = space->slots[s].backend;

            at = put(out, room, at, " %s=%s", space->pattern->slots[s].name,
                     backend != NULL ? backend->name : "none");
        }
        at = put(out, room, at, ")");
    }
}
