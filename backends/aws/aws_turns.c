/* Turns: an enumeration asks its server many times for one operation, and the answers are large. A
 * few of an instance ask at the same time; the others wait in a line, first come, first served. A
 * turn is one question, so a long count costs a short one no more than its questions. */
#include "backends/aws/aws_client.h"

/* Two arenas by turns: the calls of a turn live in one while the next turn begins. */
struct aws_memory {
    struct arena arenas[2];
    unsigned turn;
};

static void memory_clear(void *arena)
{
    arena_clear(arena);
}

void aws_turn_memory(struct aws_task *task)
{
    struct arena *arena = task->arena;

    task->memory = arena_zalloc(arena, sizeof *task->memory);
    for (unsigned i = 0; i < 2; i++) {
        arena_init(&task->memory->arenas[i], &task->client->base.home->arenas);
        arena_adopt(arena, &task->memory->arenas[i], memory_clear);
    }
}

static void use_memory(struct aws_task *task)
{
    struct aws_memory *memory = task->memory;

    if (memory == NULL)
        return;
    memory->turn ^= 1;
    task->arena = &memory->arenas[memory->turn];
    arena_clear(task->arena);
}

static void line_up(struct aws_client *client, struct aws_task *task)
{
    if (client->turns == NULL)
        client->turns_last = &client->turns;
    task->turn_next = NULL;
    task->turn_at = client->turns_last;
    *task->turn_at = task;
    client->turns_last = &task->turn_next;
}

static void leave_line(struct aws_client *client, struct aws_task *task)
{
    *task->turn_at = task->turn_next;
    if (task->turn_next != NULL)
        task->turn_next->turn_at = task->turn_at;
    else
        client->turns_last = task->turn_at;
    task->turn_at = NULL;
}

static void go_on(struct aws_client *client)
{
    while (!client->closing && client->turns != NULL && client->turns_held < AWS_TURNS) {
        struct aws_task *task = client->turns;

        leave_line(client, task);
        client->turns_held++;
        task->turn_held = true;
        use_memory(task);
        task->turn_start(task);
    }
}

void aws_turn_end(struct aws_task *task)
{
    struct aws_client *client = task->client;

    if (task->turn_at != NULL)
        leave_line(client, task);
    if (!task->turn_held)
        return;
    task->turn_held = false;
    client->turns_held--;
    go_on(client);
}

void aws_turn_take(struct aws_task *task, void (*start)(struct aws_task *))
{
    struct aws_client *client = task->client;

    task->turn_start = start;
    line_up(client, task);
    if (task->turn_held) {
        task->turn_held = false;
        client->turns_held--;
    }
    go_on(client);
}
