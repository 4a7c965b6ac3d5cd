/* What the files of the Consumer client share. */
#ifndef PRISM_CLIENT_CONSUMER_PRIV_H
#define PRISM_CLIENT_CONSUMER_PRIV_H

#include "client/src/rpc.h"
#include "prism/consumer.h"

#include "prism/patterns/consumer/consumer_pattern.pb-c.h"

enum consumer_method {
    CONSUMER_GET_CAPABILITIES,
    CONSUMER_CONSUME,
    CONSUMER_REDRIVE,
    CONSUMER_GET_STATE,
    CONSUMER_METHOD_COUNT
};

struct prism_consumer {
    struct prism_channel *channel;
    void *registered[CONSUMER_METHOD_COUNT];
    struct prism_consumer_capabilities capabilities; /* its texts live in answer */
    Prism__Patterns__Consumer__Capabilities *answer;
};

#endif
