/* What all of messaging begins and ends with, and what can be told of an item of a publish without
 * its topic. */
#include "backends/memstore/messaging.h"

#include <stdlib.h>

struct messaging *messaging_new(struct memstore *store, const struct memstore_messaging *config)
{
    struct messaging *m = calloc(1, sizeof *m);

    if (m == NULL)
        abort();
    m->store = store;
    m->config = *config;
    names_init(&m->names);
    for (size_t i = 0; i < TOPIC_LOCKS; i++)
        pthread_mutex_init(&m->topic_locks[i], NULL);
    return m;
}

void messaging_destroy(struct messaging *m)
{
    names_clear(&m->names);
    for (size_t i = 0; i < TOPIC_LOCKS; i++)
        pthread_mutex_destroy(&m->topic_locks[i]);
    free(m);
}

struct err messaging_check_topic(struct slice topic)
{
    (void)topic; /* any bytes will do */
    return ERR_NONE;
}

struct err messaging_check(const struct outgoing *item)
{
    if (item->topic.len == 0 || item->topic.len > MESSAGE_TOPIC_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "topic", "a topic has 1 to 249 bytes");
    if (kept_cost(item) > MESSAGING_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "payload", "a message holds less than 64 MiB");
    return ERR_NONE;
}

void messaging_forget(struct outgoing *item)
{
    item->err = ERR_NONE;
    item->deduplicated = false;
    item->partition = item->receivers = -1;
    item->offset = -1;
    item->position = message_null();
}

size_t messaging_run(const struct publish *publish, size_t from, size_t most)
{
    size_t n = 1;

    while (n < most && from + n < publish->n &&
           slice_equal(publish->items[from + n].topic, publish->items[from].topic) &&
           messaging_check(&publish->items[from + n]).code == ERR_OK)
        n++;
    return n;
}

void messaging_end(struct backend *backend, struct op *op, struct err err)
{
    if (err.code != ERR_OK)
        counter_add(&backend->stats.errors, 1);
    op_finish(op, err);
}
