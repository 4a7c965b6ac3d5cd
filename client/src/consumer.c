/* The Consumer client object; its subscriptions are in subscription.c. */
#include "client/src/channel.h"
#include "client/src/consumer_priv.h"
#include "client/src/error.h"
#include "client/src/operations.h"

#include "prism/patterns/schemas/slot_schema.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define METHOD(name_, response_, reads_only_)                                                      \
    {                                                                                              \
        .name = name_, .path = "/prism.patterns.consumer.ConsumerPattern/" name_,                  \
        .response = &prism__patterns__consumer__##response_##__descriptor,                         \
        .reads_only = (reads_only_)                                                                \
    }

static const struct rpc_method methods[CONSUMER_METHOD_COUNT] = {
    [CONSUMER_GET_CAPABILITIES] = METHOD("GetCapabilities", capabilities, true),
    [CONSUMER_CONSUME] = METHOD("Consume", consume_response, false),
    [CONSUMER_REDRIVE] = METHOD("Redrive", redrive_response, false),
    [CONSUMER_GET_STATE] = METHOD("GetState", get_state_response, true),
};

static enum prism_code run_within(struct prism_consumer *consumer, struct rpc *rpc,
                                  enum consumer_method method, const ProtobufCMessage *request,
                                  uint32_t deadline_ms)
{
    rpc_init(rpc, consumer->channel, &methods[method], consumer->registered[method], deadline_ms);
    rpc_set_request(rpc, request);
    return rpc_run(rpc);
}

static enum prism_code run(struct prism_consumer *consumer, struct rpc *rpc,
                           enum consumer_method method, const ProtobufCMessage *request)
{
    return run_within(consumer, rpc, method, request, 0);
}

enum prism_code prism_consumer_open(struct prism_channel *channel, struct prism_consumer **consumer,
                                    struct prism_error *error)
{
    Prism__Patterns__Consumer__GetCapabilitiesRequest request =
        PRISM__PATTERNS__CONSUMER__GET_CAPABILITIES_REQUEST__INIT;
    struct prism_consumer *made = alloc_zeroed(1, sizeof *made);
    const Prism__Patterns__Consumer__Capabilities *answer;
    struct rpc rpc;

    *consumer = NULL;
    made->channel = channel;
    for (int i = 0; i < CONSUMER_METHOD_COUNT; i++)
        made->registered[i] =
            grpc_channel_register_call(channel->grpc, methods[i].path, NULL, NULL);
    if (run(made, &rpc, CONSUMER_GET_CAPABILITIES, &request.base) != PRISM_OK) {
        rpc_clear(&rpc);
        free(made);
        return error_copy(error, &rpc.error);
    }
    made->answer = (Prism__Patterns__Consumer__Capabilities *)rpc.response;
    rpc.response = NULL;
    rpc_clear(&rpc);
    answer = made->answer;
    made->capabilities = (struct prism_consumer_capabilities){
        .operations = operations_from(answer->operations, answer->n_operations),
        .operation_count = answer->n_operations,
        .backend_type = answer->slots != NULL ? answer->slots->source_backend_type : "",
        .ack_means = answer->ack_means,
        .supports_groups = answer->supports_consumer_groups,
        .supports_settling = answer->supports_acknowledgment,
        .supports_replay = answer->supports_replay,
        .supports_dead_letters = answer->supports_dead_letter,
        .supports_ordering = answer->supports_ordering,
        .max_attempts = answer->max_attempts,
        .lease_ms = answer->_lease_ms_case != 0 ? answer->lease_ms : 0,
    };
    *consumer = made;
    return error_none(error);
}

void prism_consumer_close(struct prism_consumer *consumer)
{
    if (consumer == NULL)
        return;
    operations_free(consumer->capabilities.operations);
    prism__patterns__consumer__capabilities__free_unpacked(consumer->answer, NULL);
    free(consumer);
}

const struct prism_consumer_capabilities *prism_consumer_capabilities(
    const struct prism_consumer *consumer)
{
    return &consumer->capabilities;
}

enum prism_code prism_redrive(struct prism_consumer *consumer, const char *topic, const char *group,
                              uint64_t most, uint64_t *redriven, struct prism_error *error)
{
    Prism__Patterns__Consumer__RedriveRequest request =
        PRISM__PATTERNS__CONSUMER__REDRIVE_REQUEST__INIT;
    const Prism__Patterns__Consumer__RedriveResponse *answer;
    struct rpc rpc;

    *redriven = 0;
    request.topic = (char *)(uintptr_t)topic;
    request.consumer_group = (char *)(uintptr_t)group;
    if (most > 0) {
        request._max_messages_case =
            PRISM__PATTERNS__CONSUMER__REDRIVE_REQUEST___MAX_MESSAGES_MAX_MESSAGES;
        request.max_messages = most < INT64_MAX ? (int64_t)most : INT64_MAX;
    }
    if (run(consumer, &rpc, CONSUMER_REDRIVE, &request.base) == PRISM_OK) {
        answer = (const Prism__Patterns__Consumer__RedriveResponse *)rpc.response;
        *redriven = answer->redriven_count > 0 ? (uint64_t)answer->redriven_count : 0;
        if (answer->code > 0 && answer->code <= PRISM_UNAUTHENTICATED)
            error_set(&rpc.error, (enum prism_code)answer->code,
                      "%lld dead letters could not be published: %s",
                      (long long)answer->failed_count,
                      answer->error != NULL ? answer->error : "the server gives no reason");
    }
    rpc_clear(&rpc);
    return error_copy(error, &rpc.error);
}

enum prism_code prism_stalled(struct prism_consumer *consumer, const char *topic, const char *group,
                              uint32_t deadline_ms, char reason[PRISM_STALLED_BYTES],
                              struct prism_error *error)
{
    Prism__Patterns__Consumer__GetStateRequest request =
        PRISM__PATTERNS__CONSUMER__GET_STATE_REQUEST__INIT;
    const Prism__Patterns__Consumer__GetStateResponse *answer;
    struct rpc rpc;

    reason[0] = '\0';
    request.topic = (char *)(uintptr_t)topic;
    if (group != NULL)
        request.consumer_group = (char *)(uintptr_t)group;
    if (run_within(consumer, &rpc, CONSUMER_GET_STATE, &request.base, deadline_ms) == PRISM_OK) {
        answer = (const Prism__Patterns__Consumer__GetStateResponse *)rpc.response;
        if (answer->stuck)
            error_text(reason, PRISM_STALLED_BYTES, answer->stalled_reason,
                       strlen(answer->stalled_reason));
    }
    rpc_clear(&rpc);
    return error_copy(error, &rpc.error);
}

enum prism_code prism_consume(struct prism_subscription *subscription, prism_consume_fn *consume,
                              void *context, struct prism_error *error)
{
    for (;;) {
        struct prism_delivery delivery;
        enum prism_code code = prism_receive(subscription, UINT32_MAX, &delivery, error);

        if (code == PRISM_CANCELLED)
            return error_none(error);
        if (code == PRISM_DEADLINE_EXCEEDED)
            continue;
        if (code != PRISM_OK)
            return code;
        prism_settle(subscription, delivery.receipt, consume(context, &delivery), NULL, NULL);
    }
}
