/* Health by asking: a check when the instance opens, whenever a call has failed in a way that may
 * concern all of them, and again, after a growing delay, until one succeeds. */
#include "backends/aws/aws_client.h"

#include "src/base/random.h"

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 2000, DOUBT_MS = 1000 };

static void log_down(struct aws_client *client, const char *text)
{
    struct aws_store *store = aws_store_of(client);
    const struct log_field fields[] = {
        LOG_S("backend", client->service->name), LOG_S("namespace", store->base.namespace_name),
        LOG_S("slot", store->base.slot),         LOG_S("host", store->shown_host),
        LOG_U("worker", client->base.home->id),  LOG_S("why", text)};

    log_limited(&store->losses, LOG_WARN, "backend_down", fields, ARRAY_LEN(fields));
}

static void log_up(struct aws_client *client)
{
    struct aws_store *store = aws_store_of(client);
    const struct log_field fields[] = {
        LOG_S("backend", client->service->name), LOG_S("namespace", store->base.namespace_name),
        LOG_S("slot", store->base.slot), LOG_S("host", store->shown_host),
        LOG_U("worker", client->base.home->id)};

    log_limited(&store->losses, LOG_INFO, "backend_ready", fields, ARRAY_LEN(fields));
}

static void report(struct aws_client *client, enum backend_state state, const char *text)
{
    if (state != client->reported && state == BACKEND_READY)
        log_up(client);
    else if (state != BACKEND_READY)
        log_down(client, text);
    aws_tally(aws_store_of(client), (int)client->reported, (int)state, text);
    client->reported = state;
}

/* Half of the delay is chance, so that workers do not come back in step. */
static uint64_t backoff_ms(struct aws_client *client)
{
    uint64_t ms = BACKOFF_MIN_MS;

    for (unsigned i = 1; i < client->failed_checks && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    return random_delay(&client->random, ms);
}

static void begin(struct aws_client *client)
{
    struct aws_task *task;

    timer_disarm(&client->base.home->timers, &client->check_timer);
    arena_clear(&client->check_arena);
    task = arena_zalloc(&client->check_arena, sizeof *task);
    task->client = client;
    task->arena = &client->check_arena;
    task->next = client->tasks;
    task->at = &client->tasks;
    if (task->next != NULL)
        task->next->at = &task->next;
    client->tasks = task;
    client->check = task;
    client->service->check(task);
}

static void on_due(struct timer *timer)
{
    struct aws_client *client = CONTAINER_OF(timer, struct aws_client, check_timer);

    if (client->check == NULL)
        begin(client);
}

void aws_check_begin(struct aws_client *client)
{
    begin(client);
}

void aws_suspect(struct aws_client *client)
{
    if (client->closing || client->check != NULL || timer_armed(&client->check_timer))
        return;
    timer_arm(&client->base.home->timers, &client->check_timer, client->base.home->now_ns, on_due);
}

void aws_doubt(struct aws_client *client)
{
    if (client->base.home->now_ns - client->checked_ns >= DOUBT_MS * NS_PER_MS)
        aws_suspect(client);
}

/* Another check is due when this one has failed, whoever asked for it. */
void aws_checked(struct aws_client *client, enum backend_state state, const char *text)
{
    report(client, state, text);
    client->checked_ns = client->base.home->now_ns;
    if (state != BACKEND_DOWN) {
        client->failed_checks = 0;
        return;
    }
    client->failed_checks++;
    if (!client->closing)
        timer_arm(&client->base.home->timers, &client->check_timer,
                  client->base.home->now_ns + backoff_ms(client) * NS_PER_MS, on_due);
}

void aws_check_stop(struct aws_client *client)
{
    timer_disarm(&client->base.home->timers, &client->check_timer);
}
