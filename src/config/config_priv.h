/* What the files of this module share. The road of a configuration:
 *
 *   document.c    bytes to a tree of nodes, by libyaml: bounded; a key twice, aliases and tags are
 *                 faults
 *   check.c       the tree against the schema (schema.c, facts.c): unknown keys, kinds, bounds.
 *                 ${ENV} and ${file:} are put in (expand.c), faulty parts are cut out, defaults
 *                 are filled in
 *   emit.c        the tree to bytes, and by libcyaml to structs, which cannot fail any more
 *   server.c      what one key cannot say: addresses, TLS files, limits that depend on each other
 *   namespaces.c  names to descriptors: patterns and their slots; slot.c backends and interfaces;
 *                 settings.c the settings of both
 *
 * written.c keeps the tree as it was written: it knows the lines of all paths.
 *
 * Why not libcyaml alone: it stops at the first fault, has no maps with free keys (`slots`,
 * `config`, `behavior`), no bounds for numbers and no defaults in the packaged version (1.3.1). So
 * its schema stays the one list of keys and types (schema.c), check.c walks that schema, and
 * libcyaml does what it is good at: filling the structs, strictly. A free map reaches it as a list
 * of {name, value}. */
#ifndef PRISM_CONFIG_CONFIG_PRIV_H
#define PRISM_CONFIG_CONFIG_PRIV_H

#include "src/config/config.h"

#include <cyaml/cyaml.h>

/* ---- tree ---- */

enum node_kind { NODE_SCALAR, NODE_SEQUENCE, NODE_MAPPING };

struct node {
    enum node_kind kind;
    bool null;     /* scalar without a value: `key:`, `~`, `null` */
    bool expanded; /* holds something from ${..}: never shown */
    unsigned line;
    const char *key;  /* in a mapping; else NULL */
    const char *text; /* scalar; NUL-terminated */
    struct node *parent, *next;
    struct node *children, **tail;
    unsigned count; /* children */
};

struct node *node_new(struct arena *arena, enum node_kind kind, unsigned line);
struct node *node_scalar(struct arena *arena, const char *text, unsigned line);
void node_append(struct node *parent, const char *key, struct node *child);
void node_remove(struct node *child); /* from its parent; siblings keep their order */
struct node *node_find(const struct node *mapping, const char *key); /* NULL: none */

/* By the keys of a dotted path; NULL: none. */
const struct node *node_at(const struct node *root, const char *path);

/* "namespaces[0].slots.primary". */
const char *node_path(struct arena *arena, const struct node *node);

/* ---- the context of one load ---- */

struct load {
    struct arena scratch; /* tree, texts on the way; gone after the load */
    struct arena *keep;   /* what the config keeps */
    struct faults *faults;
    const struct config_catalog *catalog;
    const struct node *root;
    const struct node *written; /* the tree before anything was put in or cut out; NULL: embedded */
    size_t expand_left;         /* bytes that ${..} may still add */
    char *expand_out,
        *expand_file; /* CONFIG_MAX_SCALAR + 1 bytes each, used one scalar after the other */
};

/* Without a line it gets the one of its path. */
void fault_add(struct load *load, struct fault fault);

/* About a node; fix may be NULL. */
void fault_at(struct load *load, const struct node *at, const char *fix, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Printed into the faults' arena. */
const char *fault_text(struct load *load, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Is there a fault at this path already? */
bool fault_known(const struct load *load, const char *path);

/* At one that begins like this? */
bool fault_below(const struct load *load, const char *prefix);

/* `text` fit for a message: shortened, without control characters. */
const char *tame(struct arena *arena, const char *text);

/* The same in backquotes. */
const char *quoted(struct load *load, const char *text);

/* The value for a message: in backquotes, or "(hidden)" when it came from ${..}. */
const char *shown(struct load *load, const struct node *scalar);

/* ---- the file as it was written (written.c) ---- */

struct node *written_copy(struct arena *arena, const struct node *node);

/* Where such a path leads; NULL: nowhere. */
const struct node *written_at(struct load *load, const char *path);

/* Its line or, if it is not there, that of what it would stand in; 0: of nothing. */
unsigned written_line(struct load *load, const char *path);

/* ---- suggestions ---- */

enum { WORDS_MAX = 64 };

struct words {
    const char *items[WORDS_MAX];
    size_t count;
};

void words_add(struct words *words, const char *word);

/* The known word that is near enough to be meant; NULL: none. */
const char *suggest_word(const char *word, const struct words *known);

/* "did you mean `address`?", or the known ones: "known here: a, b and c". */
const char *suggest(struct load *load, const char *word, const struct words *known);

/* "keyvalue_scan", "KeyValueScanInterface" or, for short, "scan"; "expiration" stands for "ttl". */
bool config_interface_is(const struct config_catalog *catalog, enum backend_interface interface,
                         const char *word);

/* "a, b or c"; "" when empty. */
const char *words_list(struct load *load, const struct words *words, const char *conjunction);

/* ---- stages ---- */

/* NULL after a fault that leaves nothing to look at. */
struct node *document_parse(struct load *load, struct slice yaml);

/* False after a fault. */
bool expand_scalar(struct load *load, struct node *scalar);

/* In place. */
void check_document(struct load *load, struct node *root);

bool parse_number(const char *text, uint64_t *number); /* decimal digits only */
bool parse_bool(const char *text, bool *value);        /* true, false */

/* ---- what libcyaml fills ---- */

struct raw_pair {
    const char *name, *value;
    bool hidden; /* from ${..} */
};

struct raw_slot {
    const char *name;
    const char *backend; /* NULL: missing */
    struct raw_pair *config;
    uint32_t config_count;
    const char **emulate;
    uint32_t emulate_count;
};

struct raw_namespace {
    const char *name, *pattern, *description; /* NULL: missing */
    struct raw_slot *slots;
    uint32_t slots_count;
    struct raw_pair *behavior;
    uint32_t behavior_count;
    uint32_t index; /* index: in the file, faulty neighbours included */
};

struct raw_config {
    struct config config; /* all but the namespaces */
    struct raw_namespace *namespaces;
    uint32_t namespaces_count;
};

extern const struct cyaml_schema_value config_schema;

/* The entries of lists that are mappings with free keys in the file. */
extern const struct cyaml_schema_value config_pair_schema, config_slot_schema;

const struct config_fact *config_fact_find(const char *path); /* NULL: none */

/* A list in the schema, a mapping with free keys in the file. */
bool schema_is_free_map(const struct cyaml_schema_value *schema);

/* NULL after a fault. Memory: load->keep. */
struct raw_config *emit_and_load(struct load *load, const struct node *root);

void server_check(struct load *load, struct config *config);

/* Why the file cannot be read; NULL: it can. */
const char *file_unreadable(const char *file);
/* NULL: it holds a certificate or a key in PEM form, or more than can be looked at. */
const char *file_is_no_pem(const char *file);

/* Fills config->namespaces. */
void namespaces_bind(struct load *load, struct raw_config *raw, struct config *config);

/* Fills config->slots[..] of one slot; schema NULL: the pattern has none of this name. */
struct slot_request {
    struct load *load;
    const struct raw_slot *raw;
    const struct slot_schema *schema;
    const char *path; /* "namespaces[0].slots.primary" */
    struct config_slot *out;
};

void slot_bind(const struct slot_request *request);

/* "memstore or redis": the backends that would fill the slot. */
const char *slot_backends(struct load *load, const struct slot_schema *schema);

/* The values of a settings table; `who` names its owner ("backend redis"). NULL if the table is
 * empty. */
struct settings_request {
    const struct backend_setting *table; /* NULL: no settings */
    void (*check)(const struct backend_value *values, struct backend_faults *faults); /* or NULL */
    const struct raw_pair *pairs;
    size_t count;
    const char *path; /* of the map */
    const char *who;
    const char *slot, *backend; /* for the faults; may be NULL */
};

const struct backend_value *settings_bind(struct load *load,
                                          const struct settings_request *request);

/* What a backend or a pattern finds in values that are as its table says. A fault that is about
 * something at fault already is dropped: nobody is told of the consequences of a fault that he
 * knows. `path_of` makes the path of a name that they use. */
struct finder {
    const struct backend_faults *found;
    const char *(*path_of)(struct load *load, const void *arg, const char *name);
    const void *arg;
    const struct backend_setting *table; /* NULL: no settings */
    const struct backend_value *values;
    const char *slot, *backend; /* for the faults; may be NULL */
};

void settings_found(struct load *load, const struct finder *finder);

#endif
