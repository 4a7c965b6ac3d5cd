/* The tree against the schema. What is at fault is reported and cut out, and what is absent gets
 * its default, so that the later stages always see a whole, well-formed configuration and can
 * report their own faults in the same run. */
#include "src/config/config_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool check_value(struct load *load, struct node *node,
                        const struct cyaml_schema_value *schema);

/* ---- scalars ---- */

bool parse_number(const char *text, uint64_t *number)
{
    char *end;

    /* Digits only; a leading 0 would be octal for some readers and decimal for others. */
    if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && text[1] != '\0'))
        return false;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

bool parse_bool(const char *text, bool *value)
{
    *value = strcmp(text, "true") == 0;
    return *value || strcmp(text, "false") == 0;
}

static bool check_uint(struct load *load, const struct node *node)
{
    const struct config_fact *fact = config_fact_find(node_path(&load->scratch, node));
    uint64_t number;

    if (!parse_number(node->text, &number)) {
        fault_at(load, node, "write digits only, like 4096", "%s is not a whole number",
                 shown(load, node));
        return false;
    }
    if (fact == NULL || (number == 0 && fact->zero) || (number >= fact->min && number <= fact->max))
        return true;
    fault_at(load, node,
             fault_text(load, "use %s%" PRIu64 "..%" PRIu64, fact->zero ? "0 or " : "", fact->min,
                        fact->max),
             "%s is out of bounds", shown(load, node));
    return false;
}

static bool check_bool(struct load *load, const struct node *node)
{
    bool value;

    if (parse_bool(node->text, &value))
        return true;
    fault_at(load, node, "write true or false", "%s is neither true nor false", shown(load, node));
    return false;
}

static bool check_enum(struct load *load, const struct node *node,
                       const struct cyaml_schema_value *schema)
{
    struct words names = {.count = 0};

    for (uint32_t i = 0; i < schema->enumeration.count; i++) {
        if (strcmp(schema->enumeration.strings[i].str, node->text) == 0)
            return true;
        words_add(&names, schema->enumeration.strings[i].str);
    }
    fault_at(load, node,
             node->expanded ? fault_text(load, "use %s", words_list(load, &names, " or "))
                            : suggest(load, node->text, &names),
             "%s is not one of %s", shown(load, node), words_list(load, &names, ", "));
    return false;
}

static bool check_text(struct load *load, const struct node *node,
                       const struct cyaml_schema_value *schema)
{
    if (strlen(node->text) >= schema->string.min)
        return true;
    fault_at(load, node, "give it a value or remove the line", "is empty");
    return false;
}

static const char *kind_name(const struct cyaml_schema_value *schema)
{
    switch (schema->type) {
    case CYAML_UINT:
        return "a number";
    case CYAML_BOOL:
        return "true or false";
    case CYAML_MAPPING:
        return "a mapping (key: value)";
    case CYAML_SEQUENCE:
        return schema_is_free_map(schema) ? "a mapping (key: value)" : "a list (- item)";
    default:
        return "a text";
    }
}

static bool fault_kind(struct load *load, const struct node *node,
                       const struct cyaml_schema_value *schema)
{
    static const char *const names[] = {"a single value", "a list", "a mapping"};

    fault_at(load, node, NULL, "is %s, but must be %s", names[node->kind], kind_name(schema));
    return false;
}

static bool check_scalar(struct load *load, struct node *node,
                         const struct cyaml_schema_value *schema)
{
    if (node->kind != NODE_SCALAR)
        return fault_kind(load, node, schema);
    if (node->null) {
        fault_at(load, node, "give it a value or remove the line", "has no value, but must be %s",
                 kind_name(schema));
        return false;
    }
    if (!expand_scalar(load, node))
        return false;
    switch (schema->type) {
    case CYAML_UINT:
        return check_uint(load, node);
    case CYAML_BOOL:
        return check_bool(load, node);
    case CYAML_ENUM:
        return check_enum(load, node, schema);
    default:
        return check_text(load, node, schema);
    }
}

/* ---- mappings with known keys ---- */

static const struct cyaml_schema_field *field_find(const struct cyaml_schema_field *fields,
                                                   const char *key)
{
    for (; fields->key != NULL; fields++)
        if (fields->key[0] != '.' && strcmp(fields->key, key) == 0)
            return fields;
    return NULL;
}

static void fault_unknown_key(struct load *load, const struct node *node,
                              const struct cyaml_schema_field *fields)
{
    struct words keys = {.count = 0};

    for (; fields->key != NULL; fields++)
        if (fields->key[0] != '.')
            words_add(&keys, fields->key);
    fault_at(load, node, suggest(load, node->key, &keys), "unknown key %s",
             quoted(load, node->key));
}

static void put_hidden(struct load *load, struct node *mapping,
                       const struct cyaml_schema_field *fields)
{
    unsigned index = 0;

    if (mapping->parent != NULL)
        for (const struct node *n = mapping->parent->children; n != mapping; n = n->next)
            index++;
    for (; fields->key != NULL; fields++) {
        if (strcmp(fields->key, ".index") == 0)
            node_append(mapping, fields->key,
                        node_scalar(&load->scratch, arena_printf(&load->scratch, "%u", index), 0));
        else if (strcmp(fields->key, ".name") == 0)
            node_append(mapping, fields->key, node_scalar(&load->scratch, mapping->key, 0));
    }
}

/* Sections that are absent are made, so that their keys get their defaults in turn. */
static void put_default(struct load *load, struct node *mapping,
                        const struct cyaml_schema_field *field)
{
    struct node *node;

    if (field->value.type == CYAML_MAPPING) {
        node = node_new(&load->scratch, NODE_MAPPING, 0);
        node_append(mapping, field->key, node);
        check_value(load, node, &field->value);
        return;
    }
    node = node_scalar(&load->scratch, NULL, 0);
    node_append(mapping, field->key, node);

    const struct config_fact *fact = config_fact_find(node_path(&load->scratch, node));

    if (fact != NULL && fact->fallback != NULL)
        node->text = fact->fallback;
    else
        node_remove(node);
}

static bool check_mapping(struct load *load, struct node *node,
                          const struct cyaml_schema_value *schema)
{
    const struct cyaml_schema_field *fields = schema->mapping.fields;
    struct node *next;

    if (node->kind == NODE_SCALAR && node->null)
        node->kind = NODE_MAPPING;
    if (node->kind != NODE_MAPPING)
        return fault_kind(load, node, schema);
    for (struct node *child = node->children; child != NULL; child = next) {
        const struct cyaml_schema_field *field = field_find(fields, child->key);

        next = child->next;
        if (field == NULL)
            fault_unknown_key(load, child, fields);
        if (field == NULL || !check_value(load, child, &field->value))
            node_remove(child);
    }
    for (const struct cyaml_schema_field *field = fields; field->key != NULL; field++)
        if (field->key[0] != '.' && node_find(node, field->key) == NULL)
            put_default(load, node, field);
    put_hidden(load, node, fields);
    return true;
}

/* ---- lists, and mappings with free keys ---- */

static bool too_many(struct load *load, const struct node *node,
                     const struct cyaml_schema_value *schema)
{
    if (node->count <= schema->sequence.max)
        return false;
    fault_at(load, node, NULL, "has %u entries, %u are allowed", node->count, schema->sequence.max);
    return true;
}

/* Entries at fault leave a gap only after all have been looked at: paths count them. */
static void keep_good(struct node *node, const bool *good)
{
    struct node *child = node->children, *next;

    for (size_t i = 0; child != NULL; i++, child = next) {
        next = child->next;
        if (!good[i])
            node_remove(child);
    }
}

static bool check_list(struct load *load, struct node *node,
                       const struct cyaml_schema_value *schema)
{
    bool good[CONFIG_MAX_ENTRIES];
    size_t i = 0;

    if (node->kind == NODE_SCALAR && node->null)
        node->kind = NODE_SEQUENCE;
    if (node->kind != NODE_SEQUENCE)
        return fault_kind(load, node, schema);
    if (too_many(load, node, schema))
        return false;
    for (struct node *child = node->children; child != NULL; child = child->next)
        good[i++] = check_value(load, child, schema->sequence.entry);
    keep_good(node, good);
    return true;
}

/* A setting's value: checked by its kind later, when it is known whose setting it is. */
static bool check_setting(struct load *load, struct node *node)
{
    if (node->kind != NODE_SCALAR) {
        fault_at(load, node, NULL, "is %s, but a setting has a single value",
                 node->kind == NODE_SEQUENCE ? "a list" : "a mapping");
        return false;
    }
    if (node->null) {
        fault_at(load, node, "write \"\" for an empty text, or remove the line", "has no value");
        return false;
    }
    return expand_scalar(load, node);
}

static struct node *pair_of(struct load *load, const struct node *setting)
{
    struct node *pair = node_new(&load->scratch, NODE_MAPPING, setting->line);

    node_append(pair, ".name", node_scalar(&load->scratch, setting->key, 0));
    node_append(pair, ".value", node_scalar(&load->scratch, setting->text, 0));
    node_append(pair, ".hidden",
                node_scalar(&load->scratch, setting->expanded ? "true" : "false", 0));
    return pair;
}

static bool check_entry(struct load *load, struct node *child,
                        const struct cyaml_schema_value *entry)
{
    if (child->key[0] == '\0') {
        fault_at(load, child, "give it a name", "an entry without a name");
        return false;
    }
    return entry == &config_pair_schema ? check_setting(load, child)
                                        : check_value(load, child, entry);
}

/* Becomes the list that the schema asks for. */
static bool check_free_map(struct load *load, struct node *node,
                           const struct cyaml_schema_value *schema)
{
    struct node *child, *next;

    if (node->kind == NODE_SCALAR && node->null)
        node->kind = NODE_MAPPING;
    if (node->kind != NODE_MAPPING)
        return fault_kind(load, node, schema);
    if (too_many(load, node, schema))
        return false;
    for (child = node->children; child != NULL; child = next) {
        next = child->next;
        if (!check_entry(load, child, schema->sequence.entry))
            node_remove(child);
    }
    child = node->children;
    node->kind = NODE_SEQUENCE;
    node->children = NULL;
    node->tail = &node->children;
    node->count = 0;
    for (; child != NULL; child = next) {
        next = child->next;
        node_append(node, NULL,
                    schema->sequence.entry == &config_pair_schema ? pair_of(load, child) : child);
    }
    return true;
}

static bool check_value(struct load *load, struct node *node,
                        const struct cyaml_schema_value *schema)
{
    if (schema->type == CYAML_MAPPING)
        return check_mapping(load, node, schema);
    if (schema->type != CYAML_SEQUENCE)
        return check_scalar(load, node, schema);
    return schema_is_free_map(schema) ? check_free_map(load, node, schema)
                                      : check_list(load, node, schema);
}

void check_document(struct load *load, struct node *root)
{
    if (check_value(load, root, &config_schema))
        return;
    /* The fault is noted; the defaults let the other stages run. */
    root->kind = NODE_MAPPING;
    root->children = NULL;
    root->tail = &root->children;
    root->count = 0;
    check_value(load, root, &config_schema);
}
