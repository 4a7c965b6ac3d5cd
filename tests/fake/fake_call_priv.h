/* What fake_call.c and fake_sends.c share. */
#ifndef PRISM_TESTS_FAKE_FAKE_CALL_PRIV_H
#define PRISM_TESTS_FAKE_FAKE_CALL_PRIV_H

#include "tests/fake/fake_call.h"

#include <stdlib.h>

static inline void *fake_room(size_t bytes)
{
    void *memory = malloc(bytes > 0 ? bytes : 1);

    if (memory == NULL)
        abort();
    return memory;
}

/* Aborts: somebody broke the contract of src/rpc/call.h. */
void fake_call_bug(const struct call *call, const char *what);

/* What a client makes of the message. */
struct fake_message fake_message_of(const struct call *call, const ProtobufCMessage *message);

#endif
