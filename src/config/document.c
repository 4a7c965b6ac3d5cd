/* YAML text to a tree of nodes, by libyaml's events.
 *
 * The tree is bounded before it is built: bytes, depth and nodes; aliases are refused, so nothing
 * multiplies and nothing is cyclic. A document that is no YAML, or too large, ends the load with
 * one fault; everything milder (a key twice, an alias, a tag) is noted and the rest is still read.
 */
#include "src/config/config_priv.h"

#include <assert.h>
#include <string.h>
#include <yaml.h>

/* ---- tree ---- */

struct node *node_new(struct arena *arena, enum node_kind kind, unsigned line)
{
    struct node *node = arena_zalloc(arena, sizeof *node);

    node->kind = kind;
    node->line = line;
    node->tail = &node->children;
    return node;
}

struct node *node_scalar(struct arena *arena, const char *text, unsigned line)
{
    struct node *node = node_new(arena, NODE_SCALAR, line);

    node->text = text;
    return node;
}

void node_append(struct node *parent, const char *key, struct node *child)
{
    child->parent = parent;
    child->key = key;
    child->next = NULL;
    *parent->tail = child;
    parent->tail = &child->next;
    parent->count++;
}

void node_remove(struct node *child)
{
    struct node *parent = child->parent;
    struct node **at = &parent->children;

    while (*at != child)
        at = &(*at)->next;
    *at = child->next;
    if (parent->tail == &child->next)
        parent->tail = at;
    parent->count--;
}

struct node *node_find(const struct node *mapping, const char *key)
{
    for (struct node *child = mapping->children; child != NULL; child = child->next)
        if (child->key != NULL && strcmp(child->key, key) == 0)
            return child;
    return NULL;
}

const struct node *node_at(const struct node *root, const char *path)
{
    while (root != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");
        const struct node *child = root->children;

        while (child != NULL && (child->key == NULL || strlen(child->key) != len ||
                                 memcmp(child->key, path, len) != 0))
            child = child->next;
        root = child;
        path += len + (path[len] == '.');
    }
    return root;
}

static unsigned index_of(const struct node *node)
{
    unsigned i = 0;

    for (const struct node *n = node->parent->children; n != node; n = n->next)
        i++;
    return i;
}

const char *node_path(struct arena *arena, const struct node *node)
{
    if (node->parent == NULL)
        return "";
    const char *prefix = node_path(arena, node->parent);

    if (node->key == NULL)
        return arena_printf(arena, "%s[%u]", prefix, index_of(node));
    return arena_printf(arena, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                        tame(arena, node->key));
}

/* ---- parser ---- */

struct builder {
    struct load *load;
    struct node *root, *at; /* at: the open collection; NULL outside */
    const char *key;        /* read, its value is due; NULL: none */
    unsigned key_line;
    unsigned depth, nodes;
    bool finished, failed;
};

static unsigned line_of(const yaml_mark_t *mark)
{
    return (unsigned)mark->line + 1;
}

static void fail(struct builder *b, unsigned line, const char *message, const char *fix)
{
    b->failed = true;
    fault_add(b->load, (struct fault){.path = "", .line = line, .message = message, .fix = fix});
}

/* libyaml's problem texts name syntax, never content. */
static void fail_syntax(struct builder *b, const yaml_parser_t *parser)
{
    const char *problem = parser->problem != NULL ? parser->problem : "unreadable";

    fail(b, line_of(&parser->problem_mark),
         fault_text(b->load, "not YAML: %s (column %zu)", problem, parser->problem_mark.column + 1),
         NULL);
}

/* Puts a value where it belongs. A second value for a key is noted and read on the side. */
static void place(struct builder *b, struct node *node)
{
    const char *key = b->key;

    b->key = NULL;
    if (key != NULL)
        node->line = b->key_line;
    if (b->at == NULL) {
        b->root = node;
        return;
    }
    if (b->at->count == CONFIG_MAX_ENTRIES) {
        fail(b, node->line, "too many entries", NULL);
        return;
    }
    if (b->at->kind == NODE_MAPPING && node_find(b->at, key) != NULL) {
        node->parent = b->at;
        node->key = key;
        fault_at(b->load, node, "keep one of them", "the key %s appears twice",
                 quoted(b->load, key));
        return;
    }
    node_append(b->at, key, node);
}

static bool wants_key(const struct builder *b)
{
    return b->at != NULL && b->at->kind == NODE_MAPPING && b->key == NULL;
}

static bool plain_null(const yaml_event_t *event)
{
    static const char *const forms[] = {"", "~", "null", "Null", "NULL"};

    if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (strcmp((const char *)event->data.scalar.value, forms[i]) == 0)
            return true;
    return false;
}

static void on_scalar(struct builder *b, const yaml_event_t *event)
{
    struct slice text = slice_of(event->data.scalar.value, event->data.scalar.length);
    unsigned line = line_of(&event->start_mark);

    if (memchr(event->data.scalar.value, '\0', text.len) != NULL || text.len > CONFIG_MAX_SCALAR) {
        fail(b, line, "a text with a NUL byte, or longer than 64 KiB", NULL);
        return;
    }
    if (wants_key(b)) {
        b->key = arena_strdup(&b->load->scratch, text);
        b->key_line = line;
        return;
    }
    struct node *node = node_scalar(&b->load->scratch, arena_strdup(&b->load->scratch, text), line);

    node->null = plain_null(event);
    place(b, node);
    if (event->data.scalar.tag != NULL)
        fault_at(b->load, node, "remove the tag", "YAML tags are not used here");
}

static void on_open(struct builder *b, enum node_kind kind, unsigned line, bool tagged)
{
    if (wants_key(b)) {
        fail(b, line, "a key must be a plain text", NULL);
        return;
    }
    if (++b->depth > CONFIG_MAX_DEPTH) {
        fail(b, line, "nested too deeply", NULL);
        return;
    }
    struct node *node = node_new(&b->load->scratch, kind, line);
    struct node *parent = b->at;

    place(b, node);
    node->parent = parent;
    b->at = node;
    if (tagged)
        fault_at(b->load, node, "remove the tag", "YAML tags are not used here");
}

static void on_close(struct builder *b)
{
    assert(b->at != NULL); /* libyaml balances its events */
    b->at = b->at->parent;
    b->depth--;
}

static void on_alias(struct builder *b, const yaml_event_t *event)
{
    unsigned line = line_of(&event->start_mark);

    if (wants_key(b)) {
        fail(b, line, "a key must be a plain text", NULL);
        return;
    }
    struct node *node = node_scalar(&b->load->scratch, "", line);

    node->null = true;
    place(b, node);
    fault_at(b->load, node, "write the value out", "YAML aliases (*name) are not used here");
}

static void on_document(struct builder *b, const yaml_event_t *event)
{
    if (b->root != NULL)
        fail(b, line_of(&event->start_mark), "a second document",
             "one file holds one document: remove the `---`");
}

static void on_event(struct builder *b, const yaml_event_t *event)
{
    unsigned line = line_of(&event->start_mark);

    if (++b->nodes > CONFIG_MAX_NODES) {
        fail(b, line, "too many entries", NULL);
        return;
    }
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        on_document(b, event);
        break;
    case YAML_ALIAS_EVENT:
        on_alias(b, event);
        break;
    case YAML_SCALAR_EVENT:
        on_scalar(b, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        on_open(b, NODE_SEQUENCE, line, event->data.sequence_start.tag != NULL);
        break;
    case YAML_MAPPING_START_EVENT:
        on_open(b, NODE_MAPPING, line, event->data.mapping_start.tag != NULL);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        on_close(b);
        break;
    case YAML_STREAM_END_EVENT:
        b->finished = true;
        break;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
}

struct node *document_parse(struct load *load, struct slice yaml)
{
    struct builder b = {.load = load};
    yaml_parser_t parser;

    if (yaml.len > CONFIG_MAX_BYTES) {
        fail(&b, 0, "larger than 1 MiB", NULL);
        return NULL;
    }
    if (!yaml_parser_initialize(&parser)) {
        fail(&b, 0, "out of memory", NULL);
        return NULL;
    }
    yaml_parser_set_input_string(&parser, yaml.len > 0 ? yaml.data : (const uint8_t *)"", yaml.len);
    while (!b.finished && !b.failed) {
        yaml_event_t event;

        if (!yaml_parser_parse(&parser, &event)) {
            fail_syntax(&b, &parser);
            break;
        }
        on_event(&b, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (b.failed)
        return NULL;
    if (b.root == NULL || b.root->null)
        return node_new(&load->scratch, NODE_MAPPING, 0);
    return b.root;
}
