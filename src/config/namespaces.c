/* Names to descriptors: which pattern, which backend in which slot, and does it offer what the slot
 * needs. Nothing here knows a pattern or a backend by name. */
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

/* One of its slots. */
struct slot_binding {
    struct binding *ns;
    const struct raw_slot *raw;
    const struct slot_schema *schema; /* NULL: the pattern has no such slot */
    struct config_slot *out;
    const char *path; /* "namespaces[0].slots.primary" */
};

static void fault_slot(const struct slot_binding *s, const char *key, const char *interface,
                       const char *message, const char *fix)
{
    struct load *load = s->ns->load;

    fault_add(load, (struct fault){
                        .path = fault_text(load, "%s%s", s->path, key),
                        .line = s->raw->line,
                        .message = message,
                        .fix = fix,
                        .slot = tame(&load->faults->arena, s->raw->name),
                        .backend = s->out->backend != NULL ? s->out->backend->name : NULL,
                        .interface = interface,
                    });
}

static void fault_namespace(const struct binding *b, const char *key, const char *message,
                            const char *fix)
{
    fault_add(b->load, (struct fault){
                           .path = fault_text(b->load, "%s%s", b->path, key),
                           .line = b->raw->line,
                           .message = message,
                           .fix = fix,
                       });
}

/* ---- interfaces ---- */

static bool in_set(const enum backend_interface *set, enum backend_interface interface)
{
    for (; set != NULL && *set != BACKEND_INTERFACE_COUNT; set++)
        if (*set == interface)
            return true;
    return false;
}

/* By the pattern, or by the backend itself. */
static bool can_be_emulated(const struct slot_binding *s, enum backend_interface interface)
{
    return in_set(s->schema->emulatable, interface) ||
           (s->out->backend != NULL && in_set(s->schema->used_if_offered, interface) &&
            s->ns->load->catalog->offers(&s->out->backend->emulations, interface));
}

/* Those that may be emulated win over others of the same short name. */
static enum backend_interface interface_find(const struct slot_binding *s, const char *word)
{
    const struct config_catalog *catalog = s->ns->load->catalog;
    enum backend_interface found = BACKEND_INTERFACE_COUNT;

    for (unsigned i = 0; i < BACKEND_INTERFACE_COUNT; i++) {
        enum backend_interface interface = (enum backend_interface)i;

        if (!config_interface_is(catalog, interface, word))
            continue;
        if (can_be_emulated(s, interface))
            return interface;
        if (found == BACKEND_INTERFACE_COUNT)
            found = interface;
    }
    return found;
}

static bool offers_any(const struct config_catalog *catalog, const struct backend_type *type,
                       const enum backend_interface *any_of)
{
    if (any_of == NULL)
        return true;
    for (; *any_of != BACKEND_INTERFACE_COUNT; any_of++)
        if (catalog->offers(&type->interfaces, *any_of))
            return true;
    return false;
}

static bool offers_all(const struct config_catalog *catalog, const struct backend_type *type,
                       const enum backend_interface *required)
{
    for (; required != NULL && *required != BACKEND_INTERFACE_COUNT; required++)
        if (!catalog->offers(&type->interfaces, *required))
            return false;
    return true;
}

/* "memstore or redis": the backends that would fill the slot. */
static const char *fitting_backends(struct load *load, const struct slot_schema *schema)
{
    struct words names = {.count = 0};

    for (const struct backend_type *const *type = load->catalog->all_backends(); *type != NULL;
         type++)
        if (offers_all(load->catalog, *type, schema->required) &&
            offers_any(load->catalog, *type, schema->any_of))
            words_add(&names, (*type)->name);
    return words_list(load, &names, " or ");
}

/* ---- one slot ---- */

static void bind_backend(struct slot_binding *s)
{
    struct load *load = s->ns->load;
    const struct config_catalog *catalog = load->catalog;

    if (s->raw->backend == NULL) {
        if (!fault_known(load, fault_text(load, "%s.backend", s->path)))
            fault_slot(s, ".backend", NULL, "the slot names no backend",
                       s->schema != NULL ? fault_text(load, "add `backend: %s`",
                                                      fitting_backends(load, s->schema))
                                         : "add `backend:`");
        return;
    }
    s->out->backend = catalog->find_backend(slice_str(s->raw->backend));
    if (s->out->backend == NULL) {
        struct words names = {.count = 0};

        for (const struct backend_type *const *type = catalog->all_backends(); *type != NULL;
             type++)
            words_add(&names, (*type)->name);
        /* The name is not repeated: it may have come from ${..}. */
        fault_slot(s, ".backend", NULL, "no backend has this name",
                   suggest(load, s->raw->backend, &names));
    }
}

static void bind_emulate(struct slot_binding *s)
{
    struct load *load = s->ns->load;
    struct words allowed = {.count = 0};

    for (const enum backend_interface *i = s->schema->emulatable;
         i != NULL && *i != BACKEND_INTERFACE_COUNT; i++)
        words_add(&allowed, load->catalog->interface_key(*i));
    for (unsigned i = 0; i < BACKEND_INTERFACE_COUNT; i++) {
        if (can_be_emulated(s, (enum backend_interface)i) &&
            !in_set(s->schema->emulatable, (enum backend_interface)i))
            words_add(&allowed, load->catalog->interface_key((enum backend_interface)i));
    }
    for (uint32_t e = 0; e < s->raw->emulate_count; e++) {
        enum backend_interface interface = interface_find(s, s->raw->emulate[e]);

        if (interface == BACKEND_INTERFACE_COUNT)
            fault_slot(s, ".emulate", NULL, "no interface has this name",
                       suggest(load, s->raw->emulate[e], &allowed));
        else if (!can_be_emulated(s, interface))
            fault_slot(s, ".emulate", load->catalog->interface_name(interface),
                       fault_text(load, "%s cannot be emulated in slot %s",
                                  load->catalog->interface_name(interface), s->schema->name),
                       allowed.count == 0 ? "remove it"
                                          : fault_text(load, "remove it; possible here: %s",
                                                       words_list(load, &allowed, " and ")));
        else
            s->out->emulate |= 1u << interface;
    }
}

static const char *fix_for_missing(const struct slot_binding *s, enum backend_interface interface)
{
    struct load *load = s->ns->load;
    const char *others = fitting_backends(load, s->schema);

    if (in_set(s->schema->emulatable, interface))
        return fault_text(load, "add `emulate: [%s]`", load->catalog->interface_key(interface));
    if (others[0] == '\0')
        return "no backend of this build offers it";
    return fault_text(load, "use backend: %s", others);
}

static void check_interfaces(const struct slot_binding *s)
{
    struct load *load = s->ns->load;
    const struct config_catalog *catalog = load->catalog;
    const enum backend_interface *required = s->schema->required;

    for (; required != NULL && *required != BACKEND_INTERFACE_COUNT; required++) {
        if (catalog->offers(&s->out->backend->interfaces, *required) ||
            (s->out->emulate & 1u << *required) != 0)
            continue;
        fault_slot(s, "", catalog->interface_name(*required),
                   fault_text(load, "slot %s needs %s, which backend %s does not implement",
                              s->schema->name, catalog->interface_name(*required),
                              s->out->backend->name),
                   fix_for_missing(s, *required));
    }
}

static void check_any_of(const struct slot_binding *s)
{
    struct load *load = s->ns->load;
    const struct config_catalog *catalog = load->catalog;
    struct words names = {.count = 0};
    const char *list;

    if (offers_any(catalog, s->out->backend, s->schema->any_of))
        return;
    for (const enum backend_interface *i = s->schema->any_of; *i != BACKEND_INTERFACE_COUNT; i++)
        words_add(&names, catalog->interface_name(*i));
    list = words_list(load, &names, " or ");
    fault_slot(s, "", catalog->interface_name(s->schema->any_of[0]),
               fault_text(load, "slot %s needs %s, of which backend %s implements none",
                          s->schema->name, list, s->out->backend->name),
               fix_for_missing(s, s->schema->any_of[0]));
}

static void bind_slot(struct slot_binding *s)
{
    struct load *load = s->ns->load;

    bind_backend(s);
    if (s->out->backend != NULL) {
        const struct settings_request settings = {
            .table = s->out->backend->settings,
            .check = s->out->backend->check,
            .pairs = s->raw->config,
            .count = s->raw->config_count,
            .path = fault_text(load, "%s.config", s->path),
            .who = fault_text(load, "backend %s", s->out->backend->name),
            .slot = tame(&load->faults->arena, s->raw->name),
            .backend = s->out->backend->name,
            .line = s->raw->line,
        };

        s->out->values = settings_bind(load, &settings);
        if (s->out->values != NULL && s->out->backend->variant != NULL)
            s->out->backend = s->out->backend->variant(s->out->values);
    }
    if (s->schema == NULL)
        return;
    bind_emulate(s);
    if (s->out->backend == NULL)
        return;
    check_interfaces(s);
    check_any_of(s);
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
                           .line = raw->line,
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
    struct slot_binding s = {
        .ns = b,
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
    bind_slot(&s);
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
                      .line = b->raw->line,
                      .message = fault_text(b->load, "pattern %s needs slot %s", pattern->name,
                                            schema->name),
                      .fix = fault_text(b->load, "add `slots: { %s: { backend: .. } }` with %s",
                                        schema->name, fitting_backends(b->load, schema)),
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
        .line = b->raw->line,
    };

    b->out->behavior = settings_bind(b->load, &settings);
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
                            .line = list->line,
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
