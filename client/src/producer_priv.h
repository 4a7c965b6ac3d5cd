/* What the Producer client object and its publishers share. */
#ifndef PRISM_CLIENT_PRODUCER_PRIV_H
#define PRISM_CLIENT_PRODUCER_PRIV_H

#include "prism/producer.h"

#include "client/src/rpc.h"

#include "prism/patterns/producer/producer_pattern.pb-c.h"
#include "prism/patterns/schemas/messaging.pb-c.h"

typedef Prism__Patterns__Producer__PublishRequest wire_message;
typedef Prism__Patterns__Producer__PublishResponse wire_result;
typedef Prism__Patterns__Schemas__Header wire_header;

enum producer_method {
    PRODUCER_GET_CAPABILITIES,
    PRODUCER_PUBLISH,
    PRODUCER_PUBLISH_BATCH,
    PRODUCER_PUBLISH_STREAM,
    PRODUCER_METHOD_COUNT
};

struct prism_producer {
    struct prism_channel *channel;
    void *registered[PRODUCER_METHOD_COUNT];
    struct prism_producer_capabilities capabilities; /* its texts live in answer */
    Prism__Patterns__Producer__Capabilities *answer;
};

/* Everything that is known of a message without the server. */
enum prism_code producer_check(const struct prism_producer *producer,
                               const struct prism_message *message, struct prism_error *error);

/* The message as it is packed; it borrows the caller's bytes. `headers` and `list` have room for
 * all of its headers. */
void producer_fill(wire_message *request, const struct prism_message *message, wire_header *headers,
                   wire_header **list);

/* Borrows the answer's texts. A contradiction between success, code and outcome counts as unknown.
 */
struct prism_publish_result producer_result(const wire_result *from);

/* A google.rpc.Code that a server told with a failure. */
enum prism_code producer_code(int32_t code);

/* The server's advice, 0 = none. */
uint32_t producer_advice_ms(int64_t ms);

#endif
