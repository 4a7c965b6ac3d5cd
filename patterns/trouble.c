#include "patterns/trouble.h"

#include "src/base/clock.h"

#include <stddef.h>

void trouble_met(struct trouble *trouble, const char *text)
{
    atomic_store(&trouble->text, text);
    atomic_store(&trouble->met_ns, clock_now_ns());
}

void trouble_over(struct trouble *trouble)
{
    atomic_store(&trouble->met_ns, 0);
}

const char *trouble_text(const struct trouble *trouble)
{
    uint64_t met_ns = atomic_load(&trouble->met_ns);

    if (met_ns == 0 || clock_now_ns() > met_ns + TROUBLE_FORGOTTEN_MS * NS_PER_MS)
        return NULL;
    return atomic_load(&trouble->text);
}

const char *trouble_of_objects(struct err err)
{
    if (err.code == ERR_PERMISSION_DENIED || err.code == ERR_UNAUTHENTICATED)
        return "the object store denies access";
    if (err.code == ERR_RESOURCE_EXHAUSTED)
        return "the object store is full, or takes no more calls for now";
    if (err.code == ERR_UNAVAILABLE || err.code == ERR_DEADLINE_EXCEEDED)
        return "the object store is away";
    return "the object store answers with errors";
}
