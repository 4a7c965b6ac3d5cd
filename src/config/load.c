#include "src/config/config_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Served when the file, or its `namespaces`, is absent. */
static const char default_yaml[] = "namespaces:\n"
                                   "  - name: default\n"
                                   "    pattern: keyvalue\n"
                                   "    slots:\n"
                                   "      primary:\n"
                                   "        backend: memstore\n";

static void add_default_namespaces(struct load *load, struct node *root)
{
    if (root->kind != NODE_MAPPING || node_find(root, "namespaces") != NULL)
        return;
    struct node *embedded = document_parse(load, slice_str(default_yaml));

    node_append(root, "namespaces", node_find(embedded, "namespaces"));
}

static void load_document(struct load *load, struct slice yaml, struct config *config)
{
    struct node *root = document_parse(load, yaml);

    if (root == NULL)
        return;
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
    enum err_code code = error == EACCES || error == EPERM ? ERR_PERMISSION_DENIED : ERR_NOT_FOUND;
    const char *text = code == ERR_PERMISSION_DENIED ? "the file may not be read by this user"
                       : error == EISDIR             ? "this is a folder, not a file"
                                                     : "the file does not exist or cannot be read";
    struct load load = {.faults = faults};

    *config = (struct config){.listen = NULL};
    fault_add(&load, (struct fault){.path = "", .message = text});
    return err_make(code, text);
}

/* Up to one byte more than is allowed, so that "too large" is seen; pipes are fine (`--config
 * /dev/stdin`). -1: errno. */
static ssize_t read_up_to(int fd, char *out, size_t max)
{
    ssize_t got;
    size_t len = 0;

    do {
        got = read(fd, out + len, max - len);
        if (got > 0)
            len += (size_t)got;
    } while (len < max && (got > 0 || (got < 0 && errno == EINTR)));
    return got < 0 ? -1 : (ssize_t)len;
}

struct err config_load(struct config *config, const char *path,
                       const struct config_catalog *catalog, struct faults *faults)
{
    struct arena arena;
    struct err e;

    if (path == NULL)
        return config_parse(config, slice_of(NULL, 0), catalog, faults);

    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return fail_read(config, faults, errno);
    arena_init(&arena, NULL);
    char *text = arena_alloc(&arena, CONFIG_MAX_BYTES + 1);
    ssize_t len = read_up_to(fd, text, CONFIG_MAX_BYTES + 1);

    if (len < 0)
        e = fail_read(config, faults, errno);
    else
        e = config_parse(config, slice_of(text, (size_t)len), catalog, faults);
    arena_clear(&arena);
    close(fd);
    return e;
}

void config_clear(struct config *config)
{
    arena_clear(&config->arena);
    *config = (struct config){.listen = NULL};
}
