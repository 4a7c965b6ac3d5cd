/* What the load clients share; see client.h. */
#include "perf/load/client.h"

#include "perf/common/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct client *client_open(const struct client_type *type, const struct client_options *options,
                           client_end_fn *end, void *arg, char *error)
{
    struct client *c = memory_zalloc(1, type->bytes);

    c->type = type;
    c->options = *options;
    c->end = end;
    c->end_arg = arg;
    if (type->open(c))
        return c;
    memcpy(error, c->error, sizeof c->error);
    client_close(c);
    return NULL;
}

void client_use(struct client *c, const struct operation *operation, struct workload *workload)
{
    c->operation = operation;
    c->workload = workload;
}

bool client_start(struct client *c, unsigned connection, uint64_t started_ns)
{
    if (!c->type->start(c, connection, started_ns))
        return false;
    c->in_flight++;
    return true;
}

bool client_flush(struct client *c)
{
    return c->type->flush(c);
}

bool client_step(struct client *c, uint64_t timeout_ns)
{
    return c->type->step(c, timeout_ns);
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    c->type->close(c);
    free(c);
}

bool client_fail(struct client *c, const char *format, ...)
{
    va_list args;

    if (c->error[0] != '\0')
        return false;
    va_start(args, format);
    vsnprintf(c->error, sizeof c->error, format, args);
    va_end(args);
    return false;
}

void client_ended(struct client *c, const struct client_end *end)
{
    c->in_flight--;
    c->end(c->end_arg, end);
}
