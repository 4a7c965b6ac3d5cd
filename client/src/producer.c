/* The Producer client object. Happy path of a publish: messages_pack borrows the caller's messages
 * -> rpc_run -> published_take. The results point into the server's answer, which
 * prism_published.owned keeps together with the array of results. */
#include "client/src/producer_priv.h"

#include "client/src/channel.h"
#include "client/src/error.h"
#include "client/src/operations.h"

#include "prism/patterns/schemas/slot_schema.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef Prism__Patterns__Producer__Capabilities wire_capabilities;
typedef Prism__Patterns__Producer__PublishBatchRequest wire_batch_request;
typedef Prism__Patterns__Producer__PublishBatchResponse wire_batch_response;

#define METHOD(name_, response_, reads_only_)                                                      \
    {                                                                                              \
        .name = name_, .path = "/prism.patterns.producer.ProducerPattern/" name_,                  \
        .response = &prism__patterns__producer__##response_##__descriptor,                         \
        .reads_only = (reads_only_)                                                                \
    }

static const struct rpc_method methods[PRODUCER_METHOD_COUNT] = {
    [PRODUCER_GET_CAPABILITIES] = METHOD("GetCapabilities", capabilities, true),
    [PRODUCER_PUBLISH] = METHOD("Publish", publish_response, false),
    [PRODUCER_PUBLISH_BATCH] = METHOD("PublishBatch", publish_batch_response, false),
    [PRODUCER_PUBLISH_STREAM] = METHOD("PublishStream", publish_ack, false),
};

/* A server gives a message up after 10 s unless its configuration says otherwise, and then it knows
 * the outcome: waiting less would turn it into an unknown one. */
enum { PUBLISH_DEADLINE_MS = 15000 };

struct owned {
    ProtobufCMessage *answer;
    struct prism_publish_result results[];
};

/* ---- the client object ---- */

static int64_t max_batch(const wire_capabilities *answer)
{
    for (size_t i = 0; i < answer->n_operations; i++) {
        const Prism__Patterns__Schemas__OperationCapability *operation = answer->operations[i];

        if (strcmp(operation->operation, "PublishBatch") == 0 && *operation->variant == '\0')
            return operation->limits != NULL ? operation->limits->max_items : 0;
    }
    return 0;
}

static enum prism_code run(struct prism_producer *producer, struct rpc *rpc,
                           enum producer_method method, uint32_t deadline_ms,
                           const ProtobufCMessage *request)
{
    rpc_init(rpc, producer->channel, &methods[method], producer->registered[method], deadline_ms);
    rpc_set_request(rpc, request);
    return rpc_run(rpc);
}

enum prism_code prism_producer_open(struct prism_channel *channel, struct prism_producer **producer,
                                    struct prism_error *error)
{
    Prism__Patterns__Producer__GetCapabilitiesRequest request =
        PRISM__PATTERNS__PRODUCER__GET_CAPABILITIES_REQUEST__INIT;
    struct prism_producer *made = alloc_zeroed(1, sizeof *made);
    const wire_capabilities *answer;
    struct rpc rpc;

    *producer = NULL;
    made->channel = channel;
    for (int i = 0; i < PRODUCER_METHOD_COUNT; i++)
        made->registered[i] =
            grpc_channel_register_call(channel->grpc, methods[i].path, NULL, NULL);
    if (run(made, &rpc, PRODUCER_GET_CAPABILITIES, 0, &request.base) != PRISM_OK) {
        rpc_clear(&rpc);
        free(made);
        return error_copy(error, &rpc.error);
    }
    made->answer = (wire_capabilities *)rpc.response;
    rpc.response = NULL;
    rpc_clear(&rpc);
    answer = made->answer;
    made->capabilities = (struct prism_producer_capabilities){
        .operations = operations_from(answer->operations, answer->n_operations),
        .operation_count = answer->n_operations,
        .backend_type = answer->slots != NULL ? answer->slots->sink_backend_type : "",
        .ack_means = answer->ack_means,
        .supports_ordering = answer->supports_ordering,
        .supports_batching = answer->supports_batching,
        .supports_deduplication = answer->supports_deduplication,
        .max_message_bytes = answer->max_message_size,
        .max_batch_messages = max_batch(answer),
    };
    *producer = made;
    return error_none(error);
}

void prism_producer_close(struct prism_producer *producer)
{
    if (producer == NULL)
        return;
    operations_free(producer->capabilities.operations);
    prism__patterns__producer__capabilities__free_unpacked(producer->answer, NULL);
    free(producer);
}

const struct prism_producer_capabilities *prism_producer_capabilities(
    const struct prism_producer *producer)
{
    return &producer->capabilities;
}

/* ---- the request ---- */

/* The messages as they are packed; they borrow the caller's bytes. */
struct packing {
    wire_message *requests, **request_list;
    wire_header *headers, **header_list;
};

static ProtobufCBinaryData borrow(struct prism_bytes bytes)
{
    /* protobuf-c does not write to what it packs. */
    return (ProtobufCBinaryData){.len = bytes.len, .data = (uint8_t *)(uintptr_t)bytes.data};
}

static void packing_free(struct packing *packing)
{
    free(packing->requests);
    free(packing->request_list);
    free(packing->headers);
    free(packing->header_list);
}

enum prism_code producer_check(const struct prism_producer *producer,
                               const struct prism_message *message, struct prism_error *error)
{
    if (message->topic == NULL || *message->topic == '\0')
        return error_about(error, "topic", "topic must not be empty");
    if (message->message_id != NULL && *message->message_id == '\0')
        return error_about(error, "message_id", "message_id must not be empty");
    if (message->null_payload && message->payload.len > 0)
        return error_about(error, "payload", "a null payload has no bytes");
    for (size_t i = 0; i < message->header_count; i++) {
        if (message->headers[i].name == NULL || *message->headers[i].name == '\0')
            return error_about(error, "headers", "the name of header %zu must not be empty", i);
    }
    if (message->ordering_key.data != NULL && !producer->capabilities.supports_ordering)
        return error_set(error, PRISM_UNIMPLEMENTED, "ordering_key not supported by backend (%s)",
                         producer->capabilities.backend_type);
    return PRISM_OK;
}

static void fill_headers(wire_message *request, const struct prism_message *message,
                         wire_header *headers, wire_header **list)
{
    for (size_t i = 0; i < message->header_count; i++) {
        prism__patterns__schemas__header__init(&headers[i]);
        headers[i].name = (char *)(uintptr_t)message->headers[i].name;
        headers[i]._value_case = PRISM__PATTERNS__SCHEMAS__HEADER___VALUE_VALUE;
        headers[i].value = borrow(message->headers[i].value);
        list[i] = &headers[i];
    }
    request->n_headers = message->header_count;
    request->headers = list;
}

void producer_fill(wire_message *request, const struct prism_message *message, wire_header *headers,
                   wire_header **list)
{
    prism__patterns__producer__publish_request__init(request);
    request->topic = (char *)(uintptr_t)message->topic;
    if (!message->null_payload) {
        request->_payload_case = PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST___PAYLOAD_PAYLOAD;
        request->payload = borrow(message->payload);
    }
    if (message->message_id != NULL) {
        request->_message_id_case =
            PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST___MESSAGE_ID_MESSAGE_ID;
        request->message_id = (char *)(uintptr_t)message->message_id;
    }
    if (message->ordering_key.data != NULL) {
        request->_ordering_key_case =
            PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST___ORDERING_KEY_ORDERING_KEY;
        request->ordering_key = borrow(message->ordering_key);
    }
    fill_headers(request, message, headers, list);
}

static void packing_init(struct packing *packing, const struct prism_message *messages, size_t n)
{
    size_t headers = 0, next = 0;

    for (size_t i = 0; i < n; i++)
        headers += messages[i].header_count;
    packing->requests = alloc_zeroed(n, sizeof *packing->requests);
    packing->request_list = alloc_zeroed(n, sizeof(void *));
    packing->headers = alloc_zeroed(headers, sizeof *packing->headers);
    packing->header_list = alloc_zeroed(headers, sizeof(void *));
    for (size_t i = 0; i < n; i++) {
        producer_fill(&packing->requests[i], &messages[i], packing->headers + next,
                      packing->header_list + next);
        packing->request_list[i] = &packing->requests[i];
        next += messages[i].header_count;
    }
}

/* ---- the answer ---- */

const char *prism_outcome_name(enum prism_outcome outcome)
{
    return outcome == PRISM_STORED       ? "STORED"
           : outcome == PRISM_NOT_STORED ? "NOT_STORED"
                                         : "UNKNOWN";
}

void prism_published_free(struct prism_published *published)
{
    if (published == NULL)
        return;
    if (published->owned != NULL)
        protobuf_c_message_free_unpacked(((struct owned *)published->owned)->answer, NULL);
    free(published->owned);
    *published = (struct prism_published){0};
}

uint32_t producer_advice_ms(int64_t ms)
{
    return ms <= 0 ? 0 : ms < INT32_MAX ? (uint32_t)ms : INT32_MAX;
}

enum prism_code producer_code(int32_t code)
{
    return code > 0 && code <= PRISM_UNAUTHENTICATED ? (enum prism_code)code : PRISM_UNKNOWN;
}

struct prism_publish_result producer_result(const wire_result *from)
{
    struct prism_publish_result result = {
        .message = "",
        .message_id = from->message_id,
        .position = from->position,
        .offset = -1,
        .partition = -1,
        .retry_after_ms = producer_advice_ms(from->retry_after_ms),
        .deduplicated = from->deduplicated,
        .claim_checked = from->claim_checked,
    };

    if (from->_offset_case == PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE___OFFSET_OFFSET)
        result.offset = from->offset;
    if (from->_partition_case == PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE___PARTITION_PARTITION)
        result.partition = from->partition;
    if (from->success && from->code == 0 &&
        from->outcome == PRISM__PATTERNS__PRODUCER__OUTCOME__STORED) {
        result.outcome = PRISM_STORED;
        return result;
    }
    if (!from->success && from->outcome == PRISM__PATTERNS__PRODUCER__OUTCOME__NOT_STORED)
        result.outcome = PRISM_NOT_STORED;
    result.code = producer_code(from->code);
    result.message = from->_error_case == PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE___ERROR_ERROR
                         ? from->error
                         : "the server gives no reason";
    return result;
}

/* Takes the answer out of the rpc. An answer with another number of results cannot be matched to
 * the messages, so what became of them is unknown. */
static enum prism_code published_take(struct prism_published *published, struct rpc *rpc,
                                      wire_result *const *results, size_t count, size_t n,
                                      struct prism_error *error)
{
    struct owned *owned;

    if (count != n) {
        rpc_clear(rpc);
        return error_set(error, PRISM_INTERNAL, "%s: %zu results for %zu messages",
                         rpc->method->name, count, n);
    }
    owned = alloc_zeroed(1, sizeof *owned + n * sizeof owned->results[0]);
    for (size_t i = 0; i < n; i++) {
        owned->results[i] = producer_result(results[i]);
        published->stored += owned->results[i].outcome == PRISM_STORED;
    }
    owned->answer = rpc->response;
    rpc->response = NULL;
    rpc_clear(rpc);
    published->owned = owned;
    published->results = owned->results;
    published->count = n;
    published->outcome = published->stored == n ? PRISM_STORED : PRISM_OUTCOME_UNKNOWN;
    return error_none(error);
}

/* What a failed call says about its messages. The codes named are those with which a server refuses
 * a request before it publishes anything. */
static enum prism_outcome outcome_of(const struct rpc *rpc)
{
    switch (rpc->error.code) {
    case PRISM_INVALID_ARGUMENT:
    case PRISM_NOT_FOUND:
    case PRISM_PERMISSION_DENIED:
    case PRISM_UNIMPLEMENTED:
    case PRISM_UNAUTHENTICATED:
        return PRISM_NOT_STORED;
    default:
        return rpc->error.retryable || rpc->not_taken ? PRISM_NOT_STORED : PRISM_OUTCOME_UNKNOWN;
    }
}

static enum prism_code call_failed(struct prism_published *published, struct rpc *rpc,
                                   struct prism_error *error)
{
    rpc_clear(rpc);
    published->outcome = outcome_of(rpc);
    return error_copy(error, &rpc->error);
}

/* ---- the calls ---- */

static uint32_t deadline_of(const struct prism_producer *producer,
                            const struct prism_publish_options *options)
{
    if (options != NULL && options->deadline_ms > 0)
        return options->deadline_ms;
    return producer->channel->deadline_given ? 0 : PUBLISH_DEADLINE_MS;
}

enum prism_code prism_publish(struct prism_producer *producer, const struct prism_message *message,
                              const struct prism_publish_options *options,
                              struct prism_published *published, struct prism_error *error)
{
    struct packing packing;
    wire_result *result;
    struct rpc rpc;
    enum prism_code code;

    *published = (struct prism_published){.outcome = PRISM_NOT_STORED};
    code = producer_check(producer, message, error);
    if (code != PRISM_OK)
        return code;
    packing_init(&packing, message, 1);
    code = run(producer, &rpc, PRODUCER_PUBLISH, deadline_of(producer, options),
               &packing.requests[0].base);
    packing_free(&packing);
    published->outcome = PRISM_OUTCOME_UNKNOWN;
    if (code != PRISM_OK)
        return call_failed(published, &rpc, error);
    result = (wire_result *)rpc.response;
    return published_take(published, &rpc, &result, 1, 1, error);
}

/* Everything that is known without the server is checked before the call. */
static enum prism_code check_batch(const struct prism_producer *producer,
                                   const struct prism_message *messages, size_t n,
                                   struct prism_error *error)
{
    const struct prism_producer_capabilities *capabilities = &producer->capabilities;

    if (!capabilities->supports_batching)
        return error_set(error, PRISM_UNIMPLEMENTED, "batch not supported by backend (%s)",
                         capabilities->backend_type);
    if (capabilities->max_batch_messages > 0 && n > (uint64_t)capabilities->max_batch_messages)
        return error_about(error, "messages", "%zu messages, and a batch has at most %lld", n,
                           (long long)capabilities->max_batch_messages);
    for (size_t i = 0; i < n; i++) {
        enum prism_code code = producer_check(producer, &messages[i], error);
        char field[sizeof error->field];

        if (code == PRISM_OK)
            continue;
        if (error != NULL) {
            snprintf(field, sizeof field, "messages[%zu]%s%.64s", i,
                     error->field[0] != '\0' ? "." : "", error->field);
            memcpy(error->field, field, sizeof field);
        }
        return code;
    }
    return PRISM_OK;
}

enum prism_code prism_publish_batch(struct prism_producer *producer,
                                    const struct prism_message *messages, size_t n,
                                    const struct prism_publish_options *options,
                                    struct prism_published *published, struct prism_error *error)
{
    wire_batch_request request = PRISM__PATTERNS__PRODUCER__PUBLISH_BATCH_REQUEST__INIT;
    const wire_batch_response *response;
    struct packing packing;
    struct rpc rpc;
    enum prism_code code;

    *published = (struct prism_published){.outcome = PRISM_NOT_STORED};
    code = check_batch(producer, messages, n, error);
    if (code != PRISM_OK)
        return code;
    packing_init(&packing, messages, n);
    request.n_messages = n;
    request.messages = packing.request_list;
    request.atomic = options != NULL && options->atomic;
    code =
        run(producer, &rpc, PRODUCER_PUBLISH_BATCH, deadline_of(producer, options), &request.base);
    packing_free(&packing);
    published->outcome = PRISM_OUTCOME_UNKNOWN;
    if (code != PRISM_OK)
        return call_failed(published, &rpc, error);
    response = (const wire_batch_response *)rpc.response;
    return published_take(published, &rpc, response->results, response->n_results, n, error);
}
