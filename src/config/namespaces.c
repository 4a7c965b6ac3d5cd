/* Names to descriptors: which pattern, which slots, and what the pattern itself finds in them.
 * Nothing here knows a pattern by name. */
#include "src/config/config_priv.h"

#include <string.h>

enum { NAME_BYTES = 64, MAX_OPERATIONS = 64 };

/* One namespace on its way. */
struct binding {
    struct load *load;
    const struct raw_namespace *raw;
    struct config_namespace *out;
    const char *path; /* "namespaces[0]" */
};

static void fault_namespace(const struct binding *b, const char *key, const char *message,
                            const char *fix)
{
    fault_add(b->load, (struct fault){
                           .path = fault_text(b->load, "%s%s", b->path, key),
                           .message = message,
                           .fix = fix,
                       });
}

/* ---- all slots ---- */

static void fault_unknown_slot(const struct binding *b, const struct raw_slot *raw)
{
    const struct pattern_type *pattern = b->out->pattern;
    struct words names = {.count = 0};

    for (size_t i = 0; i < pattern->slot_count; i++)
        words_add(&names, pattern->slots[i].name);
    fault_add(b->load, (struct fault){
                           .path = fault_text(b->load, "%s.slots.%s", b->path,
                                              tame(&b->load->scratch, raw->name)),
                           .message = fault_text(b->load, "pattern %s has no slot %s",
                                                 pattern->name, quoted(b->load, raw->name)),
                           .fix = suggest(b->load, raw->name, &names),
                           .slot = tame(&b->load->faults->arena, raw->name),
                       });
}

static size_t slot_index(const struct pattern_type *pattern, const char *name)
{
    size_t i = 0;

    while (i < pattern->slot_count && strcmp(pattern->slots[i].name, name) != 0)
        i++;
    return i;
}

static void bind_raw_slot(struct binding *b, const struct raw_slot *raw)
{
    const struct pattern_type *pattern = b->out->pattern;
    struct config_slot nowhere = {0};
    struct slot_request s = {
        .load = b->load,
        .raw = raw,
        .out = &nowhere,
        .path = fault_text(b->load, "%s.slots.%s", b->path, tame(&b->load->scratch, raw->name)),
    };

    if (pattern != NULL) {
        size_t i = slot_index(pattern, raw->name);

        if (i < pattern->slot_count) {
            s.schema = &pattern->slots[i];
            s.out = &b->out->slots[i];
        } else {
            fault_unknown_slot(b, raw);
        }
    }
    s.out->line = written_line(b->load, s.path);
    slot_bind(&s);
}

static bool slot_given(const struct binding *b, const char *name)
{
    for (uint32_t i = 0; i < b->raw->slots_count; i++)
        if (strcmp(b->raw->slots[i].name, name) == 0)
            return true;
    return fault_known(b->load, fault_text(b->load, "%s.slots.%s", b->path, name));
}

static void check_required_slots(const struct binding *b)
{
    const struct pattern_type *pattern = b->out->pattern;

    if (fault_known(b->load, fault_text(b->load, "%s.slots", b->path)))
        return;
    for (size_t i = 0; i < pattern->slot_count; i++) {
        const struct slot_schema *schema = &pattern->slots[i];

        if (schema->optional || slot_given(b, schema->name))
            continue;
        fault_add(b->load,
                  (struct fault){
                      .path = fault_text(b->load, "%s.slots.%s", b->path, schema->name),
                      .message = fault_text(b->load, "pattern %s needs slot %s", pattern->name,
                                            schema->name),
                      .fix = fault_text(b->load, "add `slots: { %s: { backend: .. } }` with %s",
                                        schema->name, slot_backends(b->load, schema)),
                      .slot = schema->name,
                  });
    }
}

/* strict_slots: only for a namespace that is otherwise without fault, or it would repeat what was
 * said. */
static void check_strict(const struct binding *b)
{
    const struct pattern_type *pattern = b->out->pattern;
    const struct backend_type *backends[PATTERN_MAX_SLOTS] = {NULL};
    uint32_t emulate[PATTERN_MAX_SLOTS] = {0};
    struct pattern_operation operations[MAX_OPERATIONS];

    for (size_t i = 0; i < pattern->slot_count; i++) {
        backends[i] = b->out->slots[i].backend;
        emulate[i] = b->out->slots[i].emulate;
    }
    size_t n = pattern->operations(backends, emulate, operations, MAX_OPERATIONS);

    for (size_t i = 0; i < n && i < MAX_OPERATIONS; i++)
        if (operations[i].variant == NULL && operations[i].how == PATTERN_UNAVAILABLE)
            fault_namespace(
                b, "",
                fault_text(b->load, "strict_slots: %s is not available: %s", operations[i].name,
                           operations[i].why != NULL ? operations[i].why : "no reason given"),
                "another backend, `emulate:`, or `strict_slots: false`");
}

/* ---- one namespace ---- */

static bool name_is_good(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!plain && (i == 0 || (c != '.' && c != '_' && c != '-')))
            return false;
    }
    return len > 0 && len <= NAME_BYTES;
}

static void bind_name(struct binding *b)
{
    const char *name = b->raw->name;

    b->out->name = name;
    if (name == NULL) {
        if (!fault_known(b->load, fault_text(b->load, "%s.name", b->path)))
            fault_namespace(b, ".name", "the namespace has no name", "add `name: default`");
    } else if (!name_is_good(name)) {
        fault_namespace(
            b, ".name",
            "not a name: 1 to 64 letters, digits, dots, dashes and underscores, the first a "
            "letter or digit",
            NULL);
    }
}

static void bind_pattern(struct binding *b)
{
    const struct config_catalog *catalog = b->load->catalog;
    struct words names = {.count = 0};

    for (const struct pattern_type *const *type = catalog->all_patterns(); *type != NULL; type++)
        words_add(&names, (*type)->name);
    if (b->raw->pattern == NULL) {
        if (!fault_known(b->load, fault_text(b->load, "%s.pattern", b->path)))
            fault_namespace(
                b, ".pattern", "the namespace names no pattern",
                fault_text(b->load, "add `pattern: %s`", words_list(b->load, &names, " or ")));
        return;
    }
    b->out->pattern = catalog->find_pattern(slice_str(b->raw->pattern));
    if (b->out->pattern == NULL)
        fault_namespace(b, ".pattern", "no pattern has this name",
                        suggest(b->load, b->raw->pattern, &names));
}

static void check_unique(const struct binding *b, const struct config_namespace *first)
{
    for (; first != b->out; first++) {
        if (first->pattern != b->out->pattern || first->name == NULL ||
            strcmp(first->name, b->out->name) != 0)
            continue;
        fault_namespace(b, ".name",
                        fault_text(b->load, "another namespace has the same name and pattern (%s)",
                                   b->out->pattern->name),
                        "give it another name");
        return;
    }
}

static void bind_behavior(struct binding *b)
{
    const struct pattern_type *pattern = b->out->pattern;
    const struct settings_request settings = {
        .table = pattern->behavior,
        .pairs = b->raw->behavior,
        .count = b->raw->behavior_count,
        .path = fault_text(b->load, "%s.behavior", b->path),
        .who = fault_text(b->load, "pattern %s", pattern->name),
    };

    b->out->behavior = settings_bind(b->load, &settings);
}

/* A name that the pattern's check uses: of a slot, or of a setting. */
static const char *path_of_found(struct load *load, const void *arg, const char *name)
{
    const struct binding *b = arg;
    bool slot = slot_index(b->out->pattern, name) < b->out->pattern->slot_count;

    return fault_text(load, "%s.%s.%s", b->path, slot ? "slots" : "behavior", name);
}

static void check_pattern(struct binding *b)
{
    const struct pattern_type *pattern = b->out->pattern;
    struct pattern_proposal proposal = {.behavior = b->out->behavior};
    struct backend_faults found = {.count = 0};
    const struct finder finder = {.found = &found,
                                  .path_of = path_of_found,
                                  .arg = b,
                                  .table = pattern->behavior,
                                  .values = b->out->behavior};

    if (pattern->check == NULL)
        return;
    for (size_t i = 0; i < pattern->slot_count; i++)
        proposal.slots[i] = b->out->slots[i].backend;
    pattern->check(&proposal, &found);
    settings_found(b->load, &finder);
}

/* Of any stage. With faults omitted nobody knows. */
static bool is_faultless(const struct binding *b)
{
    return b->load->faults->omitted == 0 && !fault_known(b->load, b->path) &&
           !fault_below(b->load, fault_text(b->load, "%s.", b->path));
}

static void bind_namespace(struct binding *b, const struct config *config)
{
    bind_name(b);
    bind_pattern(b);
    for (uint32_t i = 0; i < b->raw->slots_count; i++)
        bind_raw_slot(b, &b->raw->slots[i]);
    if (b->out->pattern == NULL)
        return;
    check_required_slots(b);
    bind_behavior(b);
    check_pattern(b);
    if (b->out->name != NULL)
        check_unique(b, config->namespaces);
    if (config->strict_slots && is_faultless(b))
        check_strict(b);
}

void namespaces_bind(struct load *load, struct raw_config *raw, struct config *config)
{
    struct config_namespace *out = arena_array(load->keep, raw->namespaces_count, sizeof *out);
    const struct node *list = node_at(load->root, "namespaces");

    config->namespaces = out;
    config->namespace_count = raw->namespaces_count;
    if (raw->namespaces_count == 0 && list != NULL && !fault_below(load, "namespaces"))
        fault_add(load, (struct fault){
                            .path = "namespaces",
                            .message = "there is no namespace",
                            .fix = "add one, or remove the line for the embedded default",
                        });
    for (uint32_t i = 0; i < raw->namespaces_count; i++) {
        struct binding b = {
            .load = load,
            .raw = &raw->namespaces[i],
            .out = &out[i],
            .path = fault_text(load, "namespaces[%u]", raw->namespaces[i].index),
        };

        bind_namespace(&b, config);
    }
}
