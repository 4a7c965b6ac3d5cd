#include "src/reload.h"

#include "src/base/log.h"

#include <string.h>
#include <sys/stat.h>

static const struct config_namespace *namesake(const struct config *fresh,
                                               const struct config_namespace *config)
{
    for (size_t i = 0; i < fresh->namespace_count; i++) {
        const struct config_namespace *other = &fresh->namespaces[i];

        if (other->pattern == config->pattern && strcmp(other->name, config->name) == 0)
            return other;
    }
    return NULL;
}

/* Did the slot take its secrets? */
static bool hand_over(const struct config *fresh, struct slot_place place)
{
    const struct backend_type *type = place.store->type;
    const struct config_namespace *now = namesake(fresh, place.config);

    if (type->reload == NULL || now == NULL || now->slots[place.at].backend != type)
        return false;
    type->reload(place.store, now->slots[place.at].values);
    return true;
}

/* A pipe was read once and has nothing more to tell. */
static bool is_file(const char *path)
{
    struct stat about;

    return path != NULL && stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

static bool any_secrets(const struct slots *slots)
{
    for (size_t i = 0; i < slots_count(slots); i++) {
        if (slots_place(slots, i).store->type->reload != NULL)
            return true;
    }
    return false;
}

void reload_secrets(const struct config *config, const struct slots *slots)
{
    struct config fresh = {0};
    struct faults faults;
    size_t taken = 0;

    if (!is_file(config->path) || !any_secrets(slots))
        return;
    faults_init(&faults);
    if (config_load(&fresh, config->path, config->catalog, &faults).code == ERR_OK) {
        for (size_t i = 0; i < slots_count(slots); i++)
            taken += hand_over(&fresh, slots_place(slots, i));
        log_event(LOG_INFO, "secrets_reloaded", LOG_U("slots", taken));
    } else {
        faults_log(&faults);
        log_event(LOG_ERROR, "reload_failed", LOG_S("file", config->path),
                  LOG_S("effect", "the secrets in use are kept"));
    }
    config_clear(&fresh);
    faults_clear(&faults);
}
