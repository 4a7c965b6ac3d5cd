#include "src/slots_priv.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/log.h"
#include "src/rpc/server.h"

#include <stdlib.h>
#include <string.h>

enum { PROBE_TIMEOUT_MS = 2000 };

static bool is_poller(const struct slots *slots, unsigned worker)
{
    return worker == slots->workers - 1;
}

struct worker *slots_worker(const struct slots *slots, unsigned i)
{
    return is_poller(slots, i) ? rpc_server_poller(slots->server) : pool_worker(slots->pool, i);
}

void slots_run_on(const struct slots *slots, unsigned worker, void (*fn)(void *), void *arg)
{
    if (is_poller(slots, worker))
        rpc_server_on_poller(slots->server, fn, arg);
    else
        worker_run_sync(pool_worker(slots->pool, worker), fn, arg);
}

/* ---- opening ---- */

static bool same_values(const struct config_slot *a, const struct config_slot *b)
{
    const struct backend_setting *settings = a->backend->settings;

    for (size_t i = 0; settings[i].name != NULL; i++) {
        bool text = settings[i].kind != SETTING_UINT && settings[i].kind != SETTING_BOOL;

        if (text ? strcmp(a->values[i].text, b->values[i].text) != 0
                 : a->values[i].number != b->values[i].number)
            return false;
    }
    return true;
}

/* The slot opened before whose store this one uses as well; NULL: it has one of its own. */
static struct slot *meeting_place(const struct slots *slots, const struct space *space, size_t at)
{
    const struct config_slot *wanted = &space->config->slots[at];

    if (!space->config->pattern->slots[at].meets || !wanted->backend->inline_ok)
        return NULL;
    for (size_t i = 0; i < slots->filled_count; i++) {
        struct slot *other = slots->filled[i];
        const struct space *there = other->space;
        const struct config_slot *its = &there->config->slots[other - there->slots];

        if (other->schema->meets && its->backend == wanted->backend &&
            strcmp(there->config->name, space->config->name) == 0 && same_values(its, wanted))
            return other;
    }
    return NULL;
}

static struct err open_store(struct slots *slots, struct slot *slot,
                             const struct config_slot *wanted)
{
    const struct space *space = slot->space;
    struct backend_options options = {.namespace_name = space->config->name,
                                      .slot = slot->schema->name,
                                      .values = wanted->values};
    struct slot *other = meeting_place(slots, space, (size_t)(slot - space->slots));
    struct err err = ERR_NONE;

    slot->borrowed = other != NULL;
    if (slot->borrowed)
        slot->store = other->store;
    else
        err = wanted->backend->store_open(&slot->store, &options);
    if (err.code != ERR_OK)
        log_event(LOG_ERROR, "backend_not_opened", LOG_S("namespace", options.namespace_name),
                  LOG_S("slot", options.slot), LOG_S("backend", wanted->backend->name),
                  LOG_S("error", err.text));
    return err;
}

static struct err open_stores(struct slots *slots, struct space *space)
{
    const struct config_namespace *config = space->config;

    for (size_t i = 0; i < config->pattern->slot_count; i++) {
        const struct config_slot *wanted = &config->slots[i];
        struct slot *slot = &space->slots[i];

        if (wanted->backend == NULL)
            continue;
        slot->space = space;
        slot->schema = &config->pattern->slots[i];

        struct err err = open_store(slots, slot, wanted);

        if (err.code != ERR_OK)
            return err;
        slot->instances = slots_zalloc(slots->workers, sizeof(struct backend *));
        slots->filled[slots->filled_count++] = slot;
    }
    return ERR_NONE;
}

/* Before the instances are bound to it. */
static void open_shared(const struct slots *slots, struct space *space)
{
    const struct pattern_type *type = space->config->pattern;
    struct pattern_sharing sharing = {.namespace_name = space->config->name,
                                      .workers = slots->workers,
                                      .behavior = space->config->behavior};

    if (type->open_shared == NULL)
        return;
    for (size_t i = 0; i < type->slot_count; i++)
        sharing.stores[i] = space->slots[i].store;
    space->shared = type->open_shared(&sharing);
}

struct bind_errand {
    struct slots *slots;
    struct space *space;
    unsigned worker;
};

/* Every slot may run on the poller, or the namespace is not served there. */
static bool serves_here(const struct slots *slots, const struct space *space, unsigned worker)
{
    for (size_t i = 0; is_poller(slots, worker) && i < space->config->pattern->slot_count; i++) {
        const struct backend_store *store = space->slots[i].store;

        if (store != NULL && !store->type->inline_ok)
            return false;
    }
    return true;
}

static void bind_here(void *arg)
{
    struct bind_errand *errand = arg;
    struct space *space = errand->space;
    const struct pattern_type *type = space->config->pattern;
    struct worker *worker = slots_worker(errand->slots, errand->worker);
    struct pattern_binding binding = {.namespace_name = space->config->name,
                                      .worker = worker,
                                      .shared = space->shared,
                                      .slot_count = type->slot_count,
                                      .behavior = space->config->behavior,
                                      .max_message_bytes = errand->slots->max_message_bytes};

    for (size_t i = 0; i < type->slot_count; i++) {
        struct slot *slot = &space->slots[i];

        if (slot->store == NULL)
            continue;
        slot->instances[errand->worker] = slot->store->type->open(slot->store, worker);
        binding.slots[i] = slot->instances[errand->worker];
        binding.emulate[i] = space->config->slots[i].emulate;
    }
    space->patterns[errand->worker] = type->bind(&binding);
}

static void register_space(struct slots *slots, struct space *space)
{
    const struct pattern_type *type = space->config->pattern;
    struct rpc_instance *instances = slots_zalloc(slots->workers, sizeof *instances);

    for (size_t s = 0; type->services[s] != NULL; s++) {
        for (unsigned w = 0; w < slots->workers; w++) {
            struct pattern *pattern = space->patterns[w];

            instances[w] = (struct rpc_instance){
                .pattern = pattern,
                .inline_bytes = pattern != NULL ? type->inline_bytes(pattern, s) : NULL,
                .max_elements = pattern != NULL ? pattern->max_elements : 0};
        }
        rpc_server_bind(slots->server, type->services[s], space->config->name, instances);
    }
    free(instances);
}

static void bind_space(struct slots *slots, struct space *space)
{
    space->patterns = slots_zalloc(slots->workers, sizeof(struct pattern *));
    for (unsigned w = 0; w < slots->workers; w++) {
        struct bind_errand errand = {.slots = slots, .space = space, .worker = w};

        if (serves_here(slots, space, w))
            slots_run_on(slots, w, bind_here, &errand);
    }
    register_space(slots, space);
}

static void init_probe(struct slots *slots, struct slot *slot);

struct err slots_open(struct slots **out, const struct config *config, struct pool *pool,
                      struct rpc_server *server)
{
    struct slots *slots = slots_zalloc(1, sizeof *slots);

    slots->pool = pool;
    slots->server = server;
    slots->workers = pool_size(pool) + 1;
    slots->max_message_bytes = config->limits.max_message_bytes;
    slots->spaces = slots_zalloc(config->namespace_count, sizeof *slots->spaces);
    slots->filled =
        slots_zalloc(config->namespace_count * PATTERN_MAX_SLOTS, sizeof(struct slot *));
    *out = slots;
    /* The count tells slots_close how far it came. */
    for (size_t i = 0; i < config->namespace_count; i++) {
        struct space *space = &slots->spaces[slots->space_count++];

        space->config = &config->namespaces[i];

        struct err err = open_stores(slots, space);

        if (err.code != ERR_OK)
            return err;
        open_shared(slots, space);
    }
    for (size_t i = 0; i < slots->space_count; i++)
        bind_space(slots, &slots->spaces[i]);
    for (size_t i = 0; i < slots->filled_count; i++)
        init_probe(slots, slots->filled[i]);
    return ERR_NONE;
}

void slots_destroy(struct slots *slots)
{
    if (slots == NULL)
        return;
    for (size_t i = 0; i < slots->filled_count; i++) {
        struct slot *slot = slots->filled[i];

        if (!slot->borrowed)
            slot->store->type->store_close(slot->store);
        arena_clear(&slot->arena);
        free(slot->instances);
    }
    for (size_t i = 0; i < slots->space_count; i++)
        free(slots->spaces[i].patterns);
    free(slots->spaces);
    free(slots->filled);
    free(slots);
}

/* ---- health ---- */

static bool can_probe(const struct slot *slot)
{
    return slot->store->type->probe != NULL;
}

static bool is_up(const struct backend_health *health)
{
    return health->state == BACKEND_READY || health->state == BACKEND_DEGRADED;
}

/* A probe that failed for want of a connection says nothing that the state does not say, and would
 * still say it when the connection stands. */
static void probed(struct op *op)
{
    struct slot *slot = CONTAINER_OF(op, struct slot, probe);
    struct backend_health health = backend_health(slot->store);
    const char *error = op->err.code == ERR_OK                  ? NULL
                        : op->err.code == ERR_DEADLINE_EXCEEDED ? "the backend does not answer"
                        : op->err.code == ERR_UNAUTHENTICATED
                            ? "the backend refuses our credentials"
                            : "the backend's probe failed";

    atomic_store(&slot->probe_error, is_up(&health) ? error : NULL);
}

const struct registry *slots_registry(const struct slot *slot)
{
    const enum backend_interface *required = slot->schema->required;

    while (required != NULL && *required != BACKEND_INTERFACE_COUNT) {
        if (*required++ == BACKEND_REGISTRY)
            return slot->store->type->interfaces.registry;
    }
    return NULL;
}

static void counted(struct op *op)
{
    struct slot *slot = CONTAINER_OF(op, struct slot, count.op);

    atomic_store(&slot->identities, op->err.code == ERR_OK ? slot->count.count : UINT64_MAX);
}

static void start_count(struct slot *slot, struct backend *instance)
{
    const struct registry *registry = slots_registry(slot);

    if (registry == NULL || registry->estimate != NULL)
        return;
    slot->count = (struct registry_count){.aside = true};
    op_start(&slot->count.op, &slot->group, counted);
    registry->count(instance, &slot->count);
}

static void probe_over(struct op_group *group)
{
    struct slot *slot = CONTAINER_OF(group, struct slot, group);

    arena_clear(&slot->arena);
    atomic_store(&slot->probing, false);
}

static void start_probe(struct job *job)
{
    struct slot *slot = CONTAINER_OF(job, struct slot, start);
    struct backend *instance = slot->instances[0];

    if (instance == NULL) { /* closed meanwhile */
        atomic_store(&slot->probing, false);
        return;
    }
    op_group_init(&slot->group, instance->home, &slot->arena,
                  clock_now_ns() + PROBE_TIMEOUT_MS * NS_PER_MS);
    slot->group.idle = probe_over;
    op_start(&slot->probe, &slot->group, probed);
    instance->type->probe(instance, &slot->probe);
    start_count(slot, instance);
}

static void init_probe(struct slots *slots, struct slot *slot)
{
    arena_init(&slot->arena, NULL);
    slot->start.run = start_probe;
    atomic_store(&slot->identities, UINT64_MAX);
    (void)slots;
}

bool slots_remote(const struct slots *slots)
{
    for (size_t i = 0; i < slots->filled_count; i++) {
        if (can_probe(slots->filled[i]))
            return true;
    }
    return false;
}

void slots_probe(struct slots *slots)
{
    for (size_t i = 0; i < slots->filled_count; i++) {
        struct slot *slot = slots->filled[i];

        if (can_probe(slot) && !atomic_exchange(&slot->probing, true))
            worker_land(pool_worker(slots->pool, 0), &slot->start);
    }
}

size_t slots_count(const struct slots *slots)
{
    return slots->filled_count;
}

struct slot_place slots_place(const struct slots *slots, size_t i)
{
    const struct slot *slot = slots->filled[i];

    return (struct slot_place){.store = slot->store,
                               .config = slot->space->config,
                               .at = (size_t)(slot - slot->space->slots)};
}

/* What the patterns know of a slot whose backend finds nothing wrong. */
static const char *restriction_of(const struct slot *slot, unsigned workers)
{
    const struct space *space = slot->space;
    const struct pattern_type *type = space->config->pattern;

    for (unsigned w = 0; w < workers && type->restriction != NULL; w++) {
        const char *text = NULL;

        if (space->patterns[w] != NULL)
            text = type->restriction(space->patterns[w], (size_t)(slot - space->slots));
        if (text != NULL)
            return text;
    }
    return NULL;
}

struct slot_status slots_status(const struct slots *slots, size_t i)
{
    struct slot *slot = slots->filled[i];
    const struct pattern_type *type = slot->space->config->pattern;
    struct backend_health health = backend_health(slot->store);
    const char *probe_error = atomic_load(&slot->probe_error);
    bool up = is_up(&health);

    if (probe_error != NULL && health.text != NULL)
        probe_error = health.text; /* the backend knows better */

    return (struct slot_status){.namespace_name = slot->space->config->name,
                                .pattern = type->name,
                                .service = type->service,
                                .slot = slot->schema->name,
                                .backend = slot->store->type->name,
                                .place = slot->store->place,
                                .required = !slot->schema->optional,
                                .serving = up && probe_error == NULL,
                                .restriction = health.state == BACKEND_DEGRADED
                                                   ? health.text
                                                   : restriction_of(slot, slots->workers),
                                .why = up                    ? probe_error
                                       : health.text != NULL ? health.text
                                                             : "connecting"};
}
