/* What /metrics says of the slots, the patterns and the backends. */
#include "src/slots_priv.h"

#include <stdlib.h>

static void render_stat(const struct slots *slots, struct metrics_page *page, const char *name,
                        const char *type, const char *help, size_t offset)
{
    metrics_family(page, name, type, help);
    for (size_t i = 0; i < slots->filled_count; i++) {
        const struct slot *slot = slots->filled[i];
        const char *labels[] = {
            "namespace", slot->space->config->name, "pattern", slot->space->config->pattern->name,
            "slot",      slot->schema->name,        "backend", slot->store->type->name,
            NULL};
        uint64_t sum = 0;

        for (unsigned w = 0; w < slots->workers; w++) {
            const char *stats =
                slot->instances[w] != NULL ? (const char *)&slot->instances[w]->stats : NULL;

            if (stats != NULL)
                sum += counter_read((const struct counter *)(const void *)(stats + offset));
        }
        metrics_sample_u64(page, name, labels, sum);
    }
}

static void render_health(const struct slots *slots, struct metrics_page *page)
{
    metrics_family(page, "prism_backend_up", "gauge", "1 while the slot's backend answers.");
    for (size_t i = 0; i < slots->filled_count; i++) {
        struct slot_status s = slots_status(slots, i);
        const char *labels[] = {"namespace", s.namespace_name, "pattern", s.pattern, "slot",
                                s.slot,      "backend",        s.backend, NULL};

        metrics_sample_u64(page, "prism_backend_up", labels, s.serving ? 1 : 0);
    }
    metrics_family(page, "prism_backend_degraded", "gauge",
                   "1 while the slot's backend serves, but not all of what it should.");
    for (size_t i = 0; i < slots->filled_count; i++) {
        struct slot_status s = slots_status(slots, i);
        const char *labels[] = {"namespace", s.namespace_name, "pattern", s.pattern, "slot",
                                s.slot,      "backend",        s.backend, NULL};

        metrics_sample_u64(page, "prism_backend_degraded", labels, s.restriction != NULL ? 1 : 0);
    }
}

static void render_identities(const struct slots *slots, struct metrics_page *page)
{
    static const char name[] = "prism_backend_identities";

    metrics_family(page, name, "gauge",
                   "Identities in the registry, as the backend's page says: counted at the last "
                   "probe, or an estimate with expired ones not yet removed, and with those of "
                   "other namespaces in the same table. Absent while not known.");
    for (size_t i = 0; i < slots->filled_count; i++) {
        const struct slot *slot = slots->filled[i];
        const struct registry *registry = slots_registry(slot);
        const char *labels[] = {
            "namespace", slot->space->config->name, "pattern", slot->space->config->pattern->name,
            "slot",      slot->schema->name,        "backend", slot->store->type->name,
            NULL};
        uint64_t identities = UINT64_MAX;

        if (registry != NULL)
            identities = registry->estimate != NULL ? registry->estimate(slot->store)
                                                    : atomic_load(&slot->identities);
        if (identities != UINT64_MAX)
            metrics_sample_u64(page, name, labels, identities);
    }
}

/* Each pattern, and each backend type, once: with the instances of all namespaces. */
static void render_patterns(const struct slots *slots, struct metrics_page *page)
{
    struct pattern **all =
        slots_zalloc(slots->space_count * slots->workers, sizeof(struct pattern *));

    for (const struct pattern_type *const *type = pattern_all(); *type != NULL; type++) {
        size_t n = 0;

        for (size_t i = 0; i < slots->space_count; i++) {
            const struct space *space = &slots->spaces[i];

            for (unsigned w = 0; space->config->pattern == *type && w < slots->workers; w++) {
                /* nothing with a network backend runs on the poller */
                if (space->patterns[w] != NULL)
                    all[n++] = space->patterns[w];
            }
        }
        if (n > 0 && (*type)->render != NULL)
            (*type)->render(all, n, page);
    }
    free(all);
}

static void render_backends(const struct slots *slots, struct metrics_page *page)
{
    struct backend_store **all = slots_zalloc(slots->filled_count, sizeof(struct backend_store *));

    for (const struct backend_type *const *type = backend_all(); *type != NULL; type++) {
        size_t n = 0;

        for (size_t i = 0; i < slots->filled_count; i++) {
            const struct backend_type *of = slots->filled[i]->store->type;
            bool like = of == *type || (of->render != NULL && of->render == (*type)->render);

            if (like && !slots->filled[i]->borrowed) /* variants of a type have its function */
                all[n++] = slots->filled[i]->store;
        }
        if (n > 0 && (*type)->render != NULL)
            (*type)->render(all, n, page);
    }
    free(all);
}

void slots_render(void *arg, struct metrics_page *page)
{
    const struct slots *slots = arg;
#define STAT(name, type, help, member)                                                             \
    render_stat(slots, page, name, type, help, offsetof(struct backend_stats, member))
    render_health(slots, page);
    STAT("prism_backend_calls_total", "counter", "Operations given to the backend.", calls);
    STAT("prism_backend_errors_total", "counter", "Operations that ended with an error.", errors);
    STAT(
        "prism_backend_withdrawn_total", "counter",
        "Operations that were over, by deadline or cancellation, before anything of them was sent: "
        "not carried out. Not every backend counts them.",
        withdrawn);
    STAT("prism_backend_retries_total", "counter",
         "Calls that the backend was sent again by prismd itself.", retries);
    STAT("prism_backend_retries_refused_total", "counter",
         "Calls that were not sent again because the budget of retries was spent.",
         retries_refused);
    STAT("prism_backend_connects_total", "counter", "Connections made to the backend.", connects);
    STAT("prism_backend_sent_bytes_total", "counter", "Bytes sent to the backend.", bytes_sent);
    STAT("prism_backend_received_bytes_total", "counter", "Bytes received from the backend.",
         bytes_received);
    STAT("prism_backend_in_flight", "gauge", "Operations given to the backend and not yet ended.",
         in_flight);
#undef STAT
    render_identities(slots, page);
    render_patterns(slots, page);
    render_backends(slots, page);
}
