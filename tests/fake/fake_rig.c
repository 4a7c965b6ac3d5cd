/* The worker of a test, and what drives it. */
#include "tests/fake/fake_call.h"

#include "src/base/container.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { START_MS = 1000, PATIENCE_MS = 20000, A_TURN = 1024, RESTLESS_JOBS = 5000000 };

static void wake(struct worker *worker)
{
    struct fake_rig *rig = CONTAINER_OF(worker, struct fake_rig, worker);
    uint64_t one = 1;

    if (write(rig->wake_fd, &one, sizeof one) != sizeof one)
        abort();
}

static void set_time(struct fake_rig *rig, uint64_t ms)
{
    rig->world.now_ms = ms;
    rig->worker.now_ns = ms * 1000000;
    timer_wheel_advance(&rig->worker.timers, rig->worker.now_ns);
    while (timer_wheel_fire(&rig->worker.timers))
        ;
    fake_messages_look(&rig->world);
}

static void read_defaults(const struct backend_setting *settings, struct backend_value *values)
{
    for (size_t i = 0; settings[i].name != NULL; i++) {
        if (i == FAKE_SETTINGS)
            abort();
        values[i].text = settings[i].fallback;
        values[i].number = strtoull(settings[i].fallback, NULL, 10);
    }
}

void fake_rig_init(struct fake_rig *rig, const struct pattern_type *type, unsigned mask)
{
    memset(rig, 0, sizeof *rig);
    rig->type = type;
    rig->max_message_bytes = FAKE_MAX_MESSAGE_BYTES;
    rig->slots = 1;
    rig->wake_fd = eventfd(0, EFD_CLOEXEC);
    worker_init(&rig->worker, 0, wake);
    timer_wheel_init(&rig->worker.timers, START_MS * 1000000ull);
    worker_set_current(&rig->worker);
    fake_world_init(&rig->world, mask);
    set_time(rig, START_MS);
    read_defaults(type->behavior, rig->behavior);
}

static struct backend_value *behavior_of(struct fake_rig *rig, const char *setting)
{
    size_t i = 0;

    while (strcmp(rig->type->behavior[i].name, setting) != 0)
        i++;
    return &rig->behavior[i];
}

void fake_rig_set(struct fake_rig *rig, const char *setting, uint64_t number)
{
    behavior_of(rig, setting)->number = number;
}

void fake_rig_set_text(struct fake_rig *rig, const char *setting, const char *text)
{
    behavior_of(rig, setting)->text = text;
}

static void open_shared(struct fake_rig *rig, struct pattern_binding *binding)
{
    struct pattern_sharing sharing = {.namespace_name = binding->namespace_name, .workers = 1};

    if (rig->type->open_shared == NULL)
        return;
    for (size_t i = 0; i < binding->slot_count; i++)
        sharing.stores[i] = binding->slots[i] != NULL ? binding->slots[i]->store : NULL;
    sharing.behavior = binding->behavior;
    rig->shared = rig->type->open_shared(&sharing);
    binding->shared = rig->shared;
}

static void bind_to(struct fake_rig *rig, struct backend *backend)
{
    struct pattern_binding binding = {
        .namespace_name = "default",
        .worker = &rig->worker,
        .slot_count = rig->type->slot_count,
        .slots = {backend},
        .emulate = {rig->emulate},
        .behavior = rig->behavior,
        .max_message_bytes = rig->max_message_bytes,
    };

    for (size_t i = 1; i < rig->type->slot_count; i++)
        binding.slots[i] = (rig->slots & 1u << i) != 0 ? backend : NULL;
    open_shared(rig, &binding);
    rig->pattern = rig->type->bind(&binding);
}

void fake_rig_bind(struct fake_rig *rig)
{
    bind_to(rig, fake_open(&rig->world, &rig->worker));
}

void fake_rig_bind_real(struct fake_rig *rig, const char *backend)
{
    const struct backend_type *type = backend_find(slice_str(backend));
    struct backend_value values[FAKE_SETTINGS];
    struct backend_options options = {
        .namespace_name = "default", .slot = "primary", .values = values};

    read_defaults(type->settings, values);
    if (type->store_open(&rig->real_store, &options).code != ERR_OK)
        abort();
    rig->real = type->open(rig->real_store, &rig->worker);
    bind_to(rig, rig->real);
}

static void pattern_stopped(void *arg)
{
    struct fake_rig *rig = arg;

    rig->stopped = true;
}

/* As the server does it: what outlives calls ends before the instance. */
static void unbind(struct fake_rig *rig)
{
    if (rig->type->stop != NULL) {
        rig->type->stop(rig->pattern, pattern_stopped, rig);
        fake_rig_run(rig);
        if (!rig->stopped)
            abort();
    }
    rig->type->unbind(rig->pattern);
    if (rig->shared != NULL)
        rig->type->close_shared(rig->shared);
}

static void real_closed(void *arg)
{
    struct fake_rig *rig = arg;

    rig->real = NULL;
}

static void close_real(struct fake_rig *rig)
{
    const struct backend_type *type;

    if (rig->real == NULL)
        return;
    type = rig->real->type;
    type->close(rig->real, real_closed, rig);
    fake_rig_drain(rig);
    if (rig->real != NULL)
        abort(); /* it does need an event loop */
    type->store_close(rig->real_store);
}

void fake_rig_clear(struct fake_rig *rig)
{
    if (rig->calls != NULL) {
        fprintf(stderr, "fake rig: a call was not freed: %s\n", rig->calls->method->path);
        abort();
    }
    if (rig->pattern != NULL)
        unbind(rig);
    close_real(rig);
    fake_world_clear(&rig->world);
    worker_clear(&rig->worker);
    worker_set_current(NULL);
    close(rig->wake_fd);
}

/* What lands itself again without end would run for ever. */
void fake_rig_drain(struct fake_rig *rig)
{
    size_t total = 0, ran;

    while ((ran = worker_drain(&rig->worker, A_TURN)) > 0) {
        total += ran;
        if (total > RESTLESS_JOBS) {
            fprintf(stderr, "fake rig: the worker does not come to rest\n");
            abort();
        }
    }
}

void fake_rig_advance(struct fake_rig *rig, uint64_t ms)
{
    set_time(rig, rig->world.now_ms + ms);
    fake_rig_drain(rig);
}

/* Is there a call that only the world's thread can bring on? */
static bool waits_for_thread(const struct fake_rig *rig)
{
    if (rig->world.mode != FAKE_THREAD)
        return false;
    for (const struct call *call = rig->calls; call != NULL; call = call->next) {
        if (call->ends == 0 && call->n_sending == 0 && call->group.pending > 0)
            return true;
    }
    return false;
}

static void sleep_until_woken(struct fake_rig *rig)
{
    struct pollfd fd = {.fd = rig->wake_fd, .events = POLLIN};
    uint64_t count;

    atomic_store(&rig->worker.sleeping, true);
    if (!worker_idle(&rig->worker)) {
        atomic_store(&rig->worker.sleeping, false);
        return;
    }
    if (poll(&fd, 1, PATIENCE_MS) != 1 || read(rig->wake_fd, &count, sizeof count) < 0) {
        fprintf(stderr, "fake rig: the world's thread finishes nothing\n");
        abort();
    }
}

void fake_rig_run(struct fake_rig *rig)
{
    for (;;) {
        fake_rig_drain(rig);
        if (fake_release(&rig->world, 1) > 0)
            continue;
        if (!waits_for_thread(rig))
            break;
        sleep_until_woken(rig);
    }
}

/* ---- methods by name ---- */

static const struct method *method_in(const struct service *service, const char *path)
{
    for (size_t i = 0; i < service->method_count; i++) {
        const char *full = service->methods[i].path, *last = strrchr(full, '/') + 1;

        if (strcmp(full, path) == 0 || strcmp(last, path) == 0)
            return &service->methods[i];
    }
    return NULL;
}

const struct method *fake_method(const struct pattern_type *type, const char *path)
{
    for (size_t i = 0; type->services[i] != NULL; i++) {
        const struct method *method = method_in(type->services[i], path);

        if (method != NULL)
            return method;
    }
    fprintf(stderr, "fake call: no method %s\n", path);
    abort();
}

static void published(struct op *op)
{
    (void)op;
}

struct err fake_rig_publish(struct fake_rig *rig, struct outgoing *item)
{
    const struct backend_interfaces *has = &rig->world.base.has;
    bool queue = has->stream == NULL && has->queue != NULL;
    struct publish publish = {.items = item, .n = 1};
    struct op_group group;
    struct arena arena;

    arena_init(&arena, NULL);
    op_group_init(&group, &rig->worker, &arena, 0);
    op_start(&publish.op, &group, published);
    (queue ? &rig->world.messages.queue.sink : &rig->world.messages.stream.sink)
        ->publish(&rig->world.base, &publish);
    fake_rig_run(rig);
    arena_clear(&arena);
    return publish.op.err.code != ERR_OK ? publish.op.err : item->err;
}
