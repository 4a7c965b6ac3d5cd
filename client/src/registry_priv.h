/* What the files of the MulticastRegistry client share. */
#ifndef PRISM_CLIENT_REGISTRY_PRIV_H
#define PRISM_CLIENT_REGISTRY_PRIV_H

#include "client/src/rpc.h"
#include "prism/registry.h"

#include "prism/patterns/multicast_registry/multicast_registry_pattern.pb-c.h"

#define WIRE(name) PRISM__PATTERNS__MULTICAST_REGISTRY__##name

typedef Prism__Patterns__MulticastRegistry__Filter wire_filter;

enum registry_method {
    REGISTRY_GET_CAPABILITIES,
    REGISTRY_REGISTER,
    REGISTRY_REGISTER_MANY,
    REGISTRY_UNREGISTER,
    REGISTRY_ENUMERATE,
    REGISTRY_MULTICAST,
    REGISTRY_SUBSCRIBE,
    REGISTRY_METHOD_COUNT
};

struct prism_registry {
    struct prism_channel *channel;
    void *registered[REGISTRY_METHOD_COUNT];
    Prism__Patterns__MulticastRegistry__Capabilities *answer;
    struct prism_registry_capabilities capabilities; /* its texts are the answer's, or owned */
};

/* One unary call with the channel's deadline; rpc_clear in every case. */
enum prism_code registry_run(struct prism_registry *registry, struct rpc *rpc,
                             enum registry_method method, const ProtobufCMessage *request);

/* Fills the filter, which borrows the JSON text. NULL: there is none. */
wire_filter *registry_filter(wire_filter *filter, const char *json);

/* Which operators of filters the answer says are evaluated where, as text of the capabilities. */
void registry_operators_take(struct prism_registry *registry);
void registry_operators_free(struct prism_registry *registry);

#endif
