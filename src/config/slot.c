/* One slot: which backend, does it offer what the slot needs, and what may be emulated. Nothing
 * here knows a backend by name. */
#include "src/config/config_priv.h"

#include <string.h>

static void fault_slot(const struct slot_request *s, const char *key, const char *interface,
                       const char *message, const char *fix)
{
    struct load *load = s->load;

    fault_add(load, (struct fault){
                        .path = fault_text(load, "%s%s", s->path, key),
                        .message = message,
                        .fix = fix,
                        .slot = tame(&load->faults->arena, s->raw->name),
                        .backend = s->out->backend != NULL ? s->out->backend->name : NULL,
                        .interface = interface,
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
static bool can_be_emulated(const struct slot_request *s, enum backend_interface interface)
{
    return in_set(s->schema->emulatable, interface) ||
           (s->out->backend != NULL && in_set(s->schema->used_if_offered, interface) &&
            s->load->catalog->offers(&s->out->backend->emulations, interface));
}

/* Those that may be emulated win over others of the same short name. */
static enum backend_interface interface_find(const struct slot_request *s, const char *word)
{
    const struct config_catalog *catalog = s->load->catalog;
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

const char *slot_backends(struct load *load, const struct slot_schema *schema)
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

static void bind_backend(const struct slot_request *s)
{
    struct load *load = s->load;
    const struct config_catalog *catalog = load->catalog;

    if (s->raw->backend == NULL) {
        if (!fault_known(load, fault_text(load, "%s.backend", s->path)))
            fault_slot(s, ".backend", NULL, "the slot names no backend",
                       s->schema != NULL
                           ? fault_text(load, "add `backend: %s`", slot_backends(load, s->schema))
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

static struct words emulatable_here(const struct slot_request *s)
{
    struct words allowed = {.count = 0};

    for (unsigned i = 0; i < BACKEND_INTERFACE_COUNT; i++) {
        if (can_be_emulated(s, (enum backend_interface)i))
            words_add(&allowed, s->load->catalog->interface_key((enum backend_interface)i));
    }
    return allowed;
}

/* "keyvalue_scan", or for short "scan". */
static const char *name_of(const struct config_catalog *catalog, unsigned interface, bool shortened)
{
    const char *key = catalog->interface_key((enum backend_interface)interface);
    const char *dash = shortened ? strchr(key, '_') : NULL;

    return dash != NULL ? dash + 1 : key;
}

/* Among all there are: one that cannot be emulated may be meant as well. */
static enum backend_interface interface_near(const struct load *load, const char *word)
{
    for (unsigned shortened = 0; shortened < 2; shortened++) {
        struct words names = {.count = 0};

        for (unsigned i = 0; i < BACKEND_INTERFACE_COUNT; i++)
            words_add(&names, name_of(load->catalog, i, shortened != 0));

        const char *meant = suggest_word(word, &names);

        for (unsigned i = 0; meant != NULL && i < names.count; i++)
            if (names.items[i] == meant)
                return (enum backend_interface)i;
    }
    return BACKEND_INTERFACE_COUNT;
}

static const char *fix_for_unknown(const struct slot_request *s, const char *word)
{
    struct load *load = s->load;
    const struct words allowed = emulatable_here(s);
    const char *list = words_list(load, &allowed, " and ");
    enum backend_interface near = interface_near(load, word);

    if (near == BACKEND_INTERFACE_COUNT)
        return allowed.count == 0 ? "remove it" : fault_text(load, "known here: %s", list);
    if (can_be_emulated(s, near))
        return fault_text(load, "did you mean `%s`?", load->catalog->interface_key(near));
    return fault_text(load, "did you mean `%s`? It cannot be emulated in slot %s; possible: %s",
                      load->catalog->interface_key(near), s->schema->name,
                      allowed.count == 0 ? "none" : list);
}

/* ".emulate[1]" where the file has the word as it is. NULL: it came from ${..}, and is not shown.
 */
static const char *item_key(const struct slot_request *s, const char *word)
{
    struct load *load = s->load;
    const struct node *list = written_at(load, fault_text(load, "%s.emulate", s->path));
    unsigned i = 0;

    for (const struct node *n = list != NULL ? list->children : NULL; n != NULL; n = n->next, i++)
        if (n->kind == NODE_SCALAR && strcmp(n->text, word) == 0)
            return fault_text(load, ".emulate[%u]", i);
    return NULL;
}

static void bind_one_emulation(const struct slot_request *s, const char *word)
{
    struct load *load = s->load;
    enum backend_interface interface = interface_find(s, word);
    const char *key = item_key(s, word);
    const struct words allowed = emulatable_here(s);

    if (interface == BACKEND_INTERFACE_COUNT)
        fault_slot(s, key != NULL ? key : ".emulate", NULL,
                   key != NULL
                       ? fault_text(load, "no interface has the name %s", quoted(load, word))
                       : "no interface has this name",
                   fix_for_unknown(s, word));
    else if (!can_be_emulated(s, interface))
        fault_slot(s, key != NULL ? key : ".emulate", load->catalog->interface_name(interface),
                   fault_text(load, "%s cannot be emulated in slot %s",
                              load->catalog->interface_name(interface), s->schema->name),
                   allowed.count == 0 ? "remove it"
                                      : fault_text(load, "remove it; possible here: %s",
                                                   words_list(load, &allowed, " and ")));
    else
        s->out->emulate |= 1u << interface;
}

static void bind_emulate(const struct slot_request *s)
{
    for (uint32_t e = 0; e < s->raw->emulate_count; e++)
        bind_one_emulation(s, s->raw->emulate[e]);
}

static const char *fix_for_missing(const struct slot_request *s, enum backend_interface interface)
{
    struct load *load = s->load;
    const char *others = slot_backends(load, s->schema);

    if (in_set(s->schema->emulatable, interface))
        return fault_text(load, "add `emulate: [%s]`", load->catalog->interface_key(interface));
    if (others[0] == '\0')
        return "no backend of this build offers it";
    return fault_text(load, "use backend: %s", others);
}

static void check_interfaces(const struct slot_request *s)
{
    struct load *load = s->load;
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

static void check_any_of(const struct slot_request *s)
{
    struct load *load = s->load;
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

void slot_bind(const struct slot_request *s)
{
    struct load *load = s->load;

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
