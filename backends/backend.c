#include "backends/backend.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct interface_names {
    const char *name, *key;
};

static const struct interface_names names[] = {
#define X(NAME, member, name, key) [BACKEND_##NAME] = {name, key},
    BACKEND_INTERFACES(X)
#undef X
};

_Static_assert(BACKEND_INTERFACE_COUNT <= 32, "emulate is 32 bits");

const char *backend_interface_name(enum backend_interface interface)
{
    assert(interface < BACKEND_INTERFACE_COUNT);
    return names[interface].name;
}

const char *backend_interface_key(enum backend_interface interface)
{
    assert(interface < BACKEND_INTERFACE_COUNT);
    return names[interface].key;
}

bool backend_offers(const struct backend_interfaces *has, enum backend_interface interface)
{
    switch (interface) {
#define X(NAME, member, name, key)                                                                 \
    case BACKEND_##NAME:                                                                           \
        return has->member != NULL;
        BACKEND_INTERFACES(X)
#undef X
    case BACKEND_INTERFACE_COUNT:
        break;
    }
    return false;
}

static char *copy(const char *text)
{
    char *out = strdup(text != NULL ? text : "");

    if (out == NULL)
        abort();
    return out;
}

void backend_fault_add(struct backend_faults *faults, struct backend_fault fault)
{
    assert(faults->count < BACKEND_MAX_FAULTS);
    faults->items[faults->count++] = fault;
}

void backend_store_init(struct backend_store *store, const struct backend_type *type,
                        const struct backend_options *options)
{
    store->type = type;
    store->namespace_name = copy(options->namespace_name);
    store->slot = copy(options->slot);
    store->place = NULL;
    atomic_init(&store->facts_version, 0);
    atomic_init(&store->ack, BACKEND_ACK_UNKNOWN);
    atomic_init(&store->eviction, BACKEND_EVICTION_UNKNOWN);
    atomic_init(&store->message_bytes, 0);
    atomic_init(&store->state, BACKEND_CONNECTING);
    atomic_init(&store->state_text, NULL);
}

void backend_store_clear(struct backend_store *store)
{
    free(store->namespace_name);
    free(store->slot);
    free(store->place);
    store->namespace_name = NULL;
    store->slot = NULL;
    store->place = NULL;
}

void backend_store_place(struct backend_store *store, const char *host, const char *port,
                         bool several)
{
    bool bare_ipv6 = strchr(host, ':') != NULL && port[0] != '\0';

    free(store->place);
    if (asprintf(&store->place, "%s%s%s%s%s%s", bare_ipv6 ? "[" : "", host, bare_ipv6 ? "]" : "",
                 port[0] != '\0' ? ":" : "", port, several ? ", .." : "") < 0)
        abort();
}

/* State and text are two loads: a reader may see the new state with the text of the one before.
 * Both are true of the recent past, and the text is dropped where it cannot belong. */
struct backend_health backend_health(const struct backend_store *store)
{
    enum backend_state state = (enum backend_state)atomic_load(&store->state);
    const char *text = atomic_load(&store->state_text);

    if (state == BACKEND_READY)
        return (struct backend_health){.state = state};
    if (text == NULL)
        text = state == BACKEND_CONNECTING ? "connecting" : "not ready";
    return (struct backend_health){.state = state, .text = text};
}
