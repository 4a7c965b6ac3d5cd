/* Which operators of filters the registry's backend evaluates, as text. */
#include "client/src/registry_priv.h"

#include "client/src/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_operator(const Prism__Patterns__MulticastRegistry__FilterOperator *operators,
                         size_t n, Prism__Patterns__MulticastRegistry__FilterOperator op)
{
    for (size_t i = 0; i < n; i++) {
        if (operators[i] == op)
            return true;
    }
    return false;
}

static char *names_of(const Prism__Patterns__MulticastRegistry__Capabilities *answer, bool native)
{
    const ProtobufCEnumDescriptor *all =
        &prism__patterns__multicast_registry__filter_operator__descriptor;
    size_t room = 1, len = 0;
    char *names;

    for (unsigned i = 0; i < all->n_values; i++)
        room += strlen(all->values[i].name) + 1;
    names = alloc_zeroed(1, room);
    for (unsigned i = 0; i < all->n_values; i++) {
        Prism__Patterns__MulticastRegistry__FilterOperator op =
            (Prism__Patterns__MulticastRegistry__FilterOperator)all->values[i].value;

        if (has_operator(answer->filter_operators, answer->n_filter_operators, op) &&
            has_operator(answer->native_filter_operators, answer->n_native_filter_operators, op) ==
                native)
            len += (size_t)snprintf(names + len, room - len, "%s%s", len > 0 ? " " : "",
                                    all->values[i].name);
    }
    return names;
}

/* Servers from before the list announce all as native. */
static bool is_told(const Prism__Patterns__MulticastRegistry__Capabilities *answer)
{
    return answer->n_native_filter_operators > 0 ||
           answer->filter_performance != WIRE(FILTER_PERFORMANCE__FILTER_NATIVE);
}

void registry_operators_take(struct prism_registry *registry)
{
    if (!is_told(registry->answer)) {
        registry->capabilities.filters_in_backend = alloc_zeroed(1, 1);
        registry->capabilities.filters_in_prism = alloc_zeroed(1, 1);
        return;
    }
    registry->capabilities.filters_in_backend = names_of(registry->answer, true);
    registry->capabilities.filters_in_prism = names_of(registry->answer, false);
}

void registry_operators_free(struct prism_registry *registry)
{
    free((char *)registry->capabilities.filters_in_backend);
    free((char *)registry->capabilities.filters_in_prism);
}
