/* The free maps `config:` and `behavior:` against the table of whoever owns the settings, and then
 * by its own check, which knows what no table says. A setting at fault has its default from there
 * on, and what check says of it is dropped: the owner sees nothing that its table forbids, and
 * nobody is told of the consequences of a fault that he knows. */
#include "src/config/config_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

static const char *path_of(struct load *load, const struct settings_request *r, const char *key)
{
    return fault_text(load, "%s.%s", r->path, tame(&load->scratch, key));
}

static void fault_setting(struct load *load, const struct settings_request *r,
                          const struct raw_pair *pair, const char *message, const char *fix)
{
    fault_add(load, (struct fault){
                        .path = path_of(load, r, pair->name),
                        .message = message,
                        .fix = fix,
                        .slot = r->slot,
                        .backend = r->backend,
                    });
}

static const struct backend_setting *setting_find(const struct backend_setting *table,
                                                  const char *name)
{
    for (; table != NULL && table->name != NULL; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

static void fault_unknown(struct load *load, const struct settings_request *r,
                          const struct raw_pair *pair)
{
    struct words known = {.count = 0};

    for (const struct backend_setting *s = r->table; s != NULL && s->name != NULL; s++)
        words_add(&known, s->name);
    fault_setting(load, r, pair,
                  fault_text(load, "%s has no setting %s", r->who, quoted(load, pair->name)),
                  suggest(load, pair->name, &known));
}

/* A secret is never shown, even when it is no secret but a typing error. */
static const char *value_text(struct load *load, const struct backend_setting *setting,
                              const struct raw_pair *pair)
{
    return pair->hidden || setting->kind == SETTING_SECRET ? "(hidden)" : quoted(load, pair->value);
}

static bool read_value(const struct backend_setting *setting, const char *text,
                       struct backend_value *value)
{
    bool on;

    switch (setting->kind) {
    case SETTING_TEXT:
    case SETTING_SECRET:
    case SETTING_FILE:
    case SETTING_PEM:
    case SETTING_CERTIFICATES:
    case SETTING_KEY:
        value->text = text;
        return true;
    case SETTING_UINT:
        return parse_number(text, &value->number) && value->number >= setting->min &&
               value->number <= setting->max;
    case SETTING_BOOL:
        if (!parse_bool(text, &on))
            return false;
        value->number = on;
        return true;
    }
    return false;
}

static void fault_value(struct load *load, const struct settings_request *r,
                        const struct backend_setting *setting, const struct raw_pair *pair)
{
    uint64_t number;
    const char *what = value_text(load, setting, pair);

    if (setting->kind == SETTING_BOOL)
        fault_setting(load, r, pair, fault_text(load, "%s is neither true nor false", what),
                      "write true or false");
    else if (!parse_number(pair->value, &number))
        fault_setting(load, r, pair, fault_text(load, "%s is not a whole number", what),
                      "write digits only, like 4096");
    else
        fault_setting(load, r, pair, fault_text(load, "%s is out of bounds", what),
                      fault_text(load, "use %" PRIu64 "..%" PRIu64, setting->min, setting->max));
}

/* value: its place among those of the table, where a key's comes behind its certificates'. */
static const char *pem_fault(struct load *load, const struct backend_setting *setting,
                             const struct backend_value *value)
{
    const char *why = file_is_no_pem(value->text), *certificates;

    if (why != NULL || setting->kind == SETTING_PEM || load->catalog->pem_fault == NULL)
        return why;
    if (setting->kind == SETTING_CERTIFICATES)
        return load->catalog->pem_fault(value->text, NULL);
    certificates = value[-1].text;
    return load->catalog->pem_fault(certificates[0] != '\0' ? certificates : NULL, value->text);
}

/* The value has been read as it is. */
static void check_file(struct load *load, const struct settings_request *r,
                       const struct backend_setting *setting, const struct raw_pair *pair,
                       const struct backend_value *value)
{
    const char *why = NULL;

    if (pair->value[0] == '\0')
        return;
    switch (setting->kind) {
    case SETTING_TEXT:
    case SETTING_SECRET:
    case SETTING_UINT:
    case SETTING_BOOL:
        return;
    case SETTING_FILE:
        why = file_unreadable(pair->value);
        break;
    case SETTING_PEM:
    case SETTING_CERTIFICATES:
    case SETTING_KEY:
        assert(setting->kind != SETTING_KEY ||
               (setting > r->table && setting[-1].kind == SETTING_CERTIFICATES));
        why = file_unreadable(pair->value);
        if (why == NULL)
            why = pem_fault(load, setting, value);
        break;
    }
    if (why != NULL)
        fault_setting(load, r, pair, why, NULL);
}

static void bind_one(struct load *load, const struct settings_request *r,
                     const struct backend_setting *setting, struct backend_value *value)
{
    *value = (struct backend_value){.text = ""};
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->pairs[i].name, setting->name) != 0)
            continue;
        if (!read_value(setting, r->pairs[i].value, value)) {
            fault_value(load, r, setting, &r->pairs[i]);
            break;
        }
        value->expanded = r->pairs[i].hidden;
        value->given = true;
        check_file(load, r, setting, &r->pairs[i], value);
        return;
    }
    if (setting->fallback != NULL) {
        read_value(setting, setting->fallback, value);
    } else if (!fault_known(load, r->path) && !fault_known(load, path_of(load, r, setting->name))) {
        fault_add(load, (struct fault){
                            .path = path_of(load, r, setting->name),
                            .message = fault_text(load, "%s needs the setting `%s`", r->who,
                                                  setting->name),
                            .fix = fault_text(load, "add `%s:` (%s)", setting->name, setting->doc),
                            .slot = r->slot,
                            .backend = r->backend,
                        });
    }
}

static bool is_at_fault(struct load *load, const struct finder *finder, const char *name)
{
    return name != NULL && fault_known(load, finder->path_of(load, finder->arg, name));
}

/* The word that was meant, where the setting takes one of a few. */
static const char *fix_of(struct load *load, const struct finder *finder,
                          const struct backend_fault *fault)
{
    struct words words = {.count = 0};
    size_t i = 0;

    while (fault->words != NULL && finder->table[i].name != NULL &&
           strcmp(finder->table[i].name, fault->setting) != 0)
        i++;
    if (fault->words == NULL || finder->table[i].name == NULL || finder->values[i].expanded)
        return fault->fix;
    for (const char *const *word = fault->words; *word != NULL; word++)
        words_add(&words, *word);

    const char *meant = suggest_word(finder->values[i].text, &words);

    return meant != NULL ? fault_text(load, "did you mean `%s`?", meant) : fault->fix;
}

void settings_found(struct load *load, const struct finder *finder)
{
    const struct backend_faults *found = finder->found;
    bool dropped[BACKEND_MAX_FAULTS];

    /* All are looked up before any is added: two of them may be about one setting. */
    for (size_t i = 0; i < found->count; i++)
        dropped[i] = is_at_fault(load, finder, found->items[i].setting) ||
                     is_at_fault(load, finder, found->items[i].other);
    for (size_t i = 0; i < found->count; i++)
        if (!dropped[i])
            fault_add(load, (struct fault){
                                .path = finder->path_of(load, finder->arg, found->items[i].setting),
                                .message = found->items[i].text,
                                .fix = fix_of(load, finder, &found->items[i]),
                                .slot = finder->slot,
                                .backend = finder->backend,
                            });
}

static const char *path_of_setting(struct load *load, const void *arg, const char *name)
{
    return path_of(load, arg, name);
}

static void check_values(struct load *load, const struct settings_request *r,
                         const struct backend_value *values)
{
    struct backend_faults found = {.count = 0};
    const struct finder finder = {.found = &found,
                                  .path_of = path_of_setting,
                                  .arg = r,
                                  .table = r->table,
                                  .values = values,
                                  .slot = r->slot,
                                  .backend = r->backend};

    r->check(values, &found);
    settings_found(load, &finder);
}

const struct backend_value *settings_bind(struct load *load, const struct settings_request *request)
{
    const struct backend_setting *table = request->table;
    struct backend_value *values;
    size_t n = 0;

    for (size_t i = 0; i < request->count; i++)
        if (setting_find(table, request->pairs[i].name) == NULL)
            fault_unknown(load, request, &request->pairs[i]);
    while (table != NULL && table[n].name != NULL)
        n++;
    if (n == 0)
        return NULL;
    values = arena_array(load->keep, n, sizeof *values);
    for (size_t i = 0; i < n; i++)
        bind_one(load, request, &table[i], &values[i]);
    if (request->check != NULL && !fault_known(load, request->path))
        check_values(load, request, values);
    return values;
}
