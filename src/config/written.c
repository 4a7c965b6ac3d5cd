/* The file as it was written, kept beside the tree that check.c makes fit for libcyaml: from a
 * path, by which all stages name their faults, to a line. */
#include "src/config/config_priv.h"

#include <string.h>

/* NOLINTNEXTLINE(misc-no-recursion): CONFIG_MAX_DEPTH bounds it */
struct node *written_copy(struct arena *arena, const struct node *node)
{
    struct node *copy = node_new(arena, node->kind, node->line);

    copy->text = node->text;
    for (const struct node *child = node->children; child != NULL; child = child->next)
        node_append(copy, child->key, written_copy(arena, child));
    return copy;
}

/* How much of the path names this child; 0: it leads elsewhere. */
static size_t step(struct load *load, const char *path, const struct node *child, unsigned index)
{
    const char *name = child->key != NULL ? tame(&load->scratch, child->key)
                                          : arena_printf(&load->scratch, "[%u]", index);
    size_t len = strlen(name);

    if (strncmp(path, name, len) != 0)
        return 0;
    return path[len] == '\0' || path[len] == '.' || path[len] == '[' ? len : 0;
}

/* The deepest node on the way; *rest is what is left of the path. */
static const struct node *walk(struct load *load, const char *path, const char **rest)
{
    const struct node *at = load->written, *child = at != NULL ? at->children : NULL;
    unsigned index = 0;

    while (child != NULL) {
        size_t len = step(load, path, child, index++);

        if (len == 0) {
            child = child->next;
            continue;
        }
        path += len + (path[len] == '.');
        at = child;
        child = *path != '\0' ? at->children : NULL;
        index = 0;
    }
    *rest = path;
    return at;
}

const struct node *written_at(struct load *load, const char *path)
{
    const char *rest;
    const struct node *node = walk(load, path, &rest);

    return *rest == '\0' ? node : NULL;
}

unsigned written_line(struct load *load, const char *path)
{
    const char *rest;
    const struct node *node = walk(load, path, &rest);

    return node != NULL && node != load->written ? node->line : 0;
}
