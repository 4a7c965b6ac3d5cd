/* What the patterns themselves find before the server starts to listen: one namespace after the
 * other, on the first worker, while main waits. */
#include "src/slots_priv.h"

#include "src/base/log.h"

#include <semaphore.h>

struct vetting {
    struct pattern *pattern;
    sem_t over;
    struct err err;
    char text[ERR_KEPT_BYTES];
};

static void vetted(void *arg, struct err err)
{
    struct vetting *vetting = arg;

    vetting->err = err.code != ERR_OK ? err_keep(err, vetting->text) : ERR_NONE;
    sem_post(&vetting->over);
}

static void vet_here(void *arg)
{
    struct vetting *vetting = arg;

    vetting->pattern->type->vet(vetting->pattern, vetted, vetting);
}

static struct err vet(struct slots *slots, const struct space *space)
{
    struct vetting vetting = {.pattern = space->patterns[0]};
    struct err err;

    if (vetting.pattern->type->vet == NULL)
        return ERR_NONE;
    sem_init(&vetting.over, 0, 0);
    slots_run_on(slots, 0, vet_here, &vetting);
    while (sem_wait(&vetting.over) != 0)
        continue; /* a signal */
    sem_destroy(&vetting.over);
    if (vetting.err.code == ERR_OK)
        return ERR_NONE;
    err = err_keep(vetting.err, slots->vet_text);
    log_event(LOG_ERROR, "pattern_not_opened", LOG_S("namespace", space->config->name),
              LOG_S("pattern", space->config->pattern->name), LOG_S("error", err.text),
              LOG_S("about", err.subject));
    return err;
}

struct err slots_vet(struct slots *slots)
{
    struct err err = ERR_NONE;

    for (size_t i = 0; i < slots->space_count && err.code == ERR_OK; i++)
        err = vet(slots, &slots->spaces[i]);
    return err;
}
