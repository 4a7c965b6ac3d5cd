/* The MulticastRegistry client object. */
#include "client/src/registry_priv.h"

#include "client/src/channel.h"
#include "client/src/error.h"
#include "client/src/operations.h"

#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/struct.pb-c.h"

#include <stdlib.h>
#include <string.h>

typedef Prism__Patterns__MulticastRegistry__MulticastProgress wire_progress;
typedef Prism__Patterns__MulticastRegistry__MulticastCost wire_cost;
typedef Prism__Patterns__MulticastRegistry__MulticastRequest wire_multicast;
typedef Prism__Patterns__MulticastRegistry__RegisterRequest wire_register;
typedef Prism__Patterns__MulticastRegistry__RegisterResponse wire_registered;
typedef Prism__Patterns__MulticastRegistry__RegisterBatchResponse wire_batched;
typedef Prism__Patterns__MulticastRegistry__SubscribeRequest wire_subscribe;
typedef Prism__Patterns__MulticastRegistry__SubscribeResponse wire_frame;
typedef Prism__Patterns__MulticastRegistry__UnregisterRequest wire_unregister;
typedef Prism__Patterns__MulticastRegistry__UnregisterResponse wire_unregistered;

#define METHOD(name_, response_, reads_only_)                                                      \
    {                                                                                              \
        .name = name_,                                                                             \
        .path = "/prism.patterns.multicast_registry.MulticastRegistryPattern/" name_,              \
        .response = &prism__patterns__multicast_registry__##response_##__descriptor,               \
        .reads_only = (reads_only_)                                                                \
    }

static const struct rpc_method methods[REGISTRY_METHOD_COUNT] = {
    [REGISTRY_GET_CAPABILITIES] = METHOD("GetCapabilities", capabilities, true),
    [REGISTRY_REGISTER] = METHOD("Register", register_response, false),
    [REGISTRY_REGISTER_MANY] = METHOD("RegisterBatch", register_batch_response, false),
    [REGISTRY_UNREGISTER] = METHOD("Unregister", unregister_response, false),
    [REGISTRY_ENUMERATE] = METHOD("Enumerate", enumerate_response, true),
    [REGISTRY_MULTICAST] = METHOD("MulticastStream", multicast_progress, false),
    [REGISTRY_SUBSCRIBE] = METHOD("Subscribe", subscribe_response, false),
};

/* ---- the client object ---- */

static void begin(struct prism_registry *registry, struct rpc *rpc, enum registry_method method,
                  uint32_t deadline_ms, const ProtobufCMessage *request)
{
    rpc_init(rpc, registry->channel, &methods[method], registry->registered[method], deadline_ms);
    rpc_set_request(rpc, request);
}

enum prism_code registry_run(struct prism_registry *registry, struct rpc *rpc,
                             enum registry_method method, const ProtobufCMessage *request)
{
    begin(registry, rpc, method, 0, request);
    return rpc_run(rpc);
}

static enum prism_code end(struct rpc *rpc, struct prism_error *error)
{
    rpc_clear(rpc);
    return error_copy(error, &rpc->error);
}

/* What the answer says of the one thing that the call was about. */
static void take_outcome(struct rpc *rpc, bool success, int32_t code, const char *text)
{
    if (success)
        return;
    error_set(&rpc->error,
              code > 0 && code <= PRISM_UNAUTHENTICATED ? (enum prism_code)code : PRISM_UNKNOWN,
              "%s", text != NULL ? text : "the server gives no reason");
}

static const char *text_or_none(const char *text)
{
    return text != NULL ? text : "";
}

static void take_capabilities(struct prism_registry *registry, struct rpc *rpc)
{
    const Prism__Patterns__MulticastRegistry__SlotConfiguration *slots;

    registry->answer = (Prism__Patterns__MulticastRegistry__Capabilities *)rpc->response;
    rpc->response = NULL;
    slots = registry->answer->slots;
    registry->capabilities = (struct prism_registry_capabilities){
        .backend_type = slots != NULL ? text_or_none(slots->registry_backend_type) : "",
        .messaging_backend_type = slots != NULL ? text_or_none(slots->messaging_backend_type) : "",
        .durability_backend_type =
            slots != NULL ? text_or_none(slots->durability_backend_type) : "",
        .operations = operations_from(registry->answer->operations, registry->answer->n_operations),
        .operation_count = registry->answer->n_operations,
    };
    registry_operators_take(registry);
}

enum prism_code prism_registry_open(struct prism_channel *channel, struct prism_registry **registry,
                                    struct prism_error *error)
{
    Prism__Patterns__MulticastRegistry__GetCapabilitiesRequest request =
        WIRE(GET_CAPABILITIES_REQUEST__INIT);
    struct prism_registry *made = alloc_zeroed(1, sizeof *made);
    struct rpc rpc;

    *registry = NULL;
    made->channel = channel;
    for (int i = 0; i < REGISTRY_METHOD_COUNT; i++)
        made->registered[i] =
            grpc_channel_register_call(channel->grpc, methods[i].path, NULL, NULL);
    if (registry_run(made, &rpc, REGISTRY_GET_CAPABILITIES, &request.base) == PRISM_OK) {
        take_capabilities(made, &rpc);
        *registry = made;
    } else {
        free(made);
    }
    return end(&rpc, error);
}

void prism_registry_close(struct prism_registry *registry)
{
    if (registry == NULL)
        return;
    operations_free(registry->capabilities.operations);
    registry_operators_free(registry);
    prism__patterns__multicast_registry__capabilities__free_unpacked(registry->answer, NULL);
    free(registry);
}

const struct prism_registry_capabilities *prism_registry_capabilities(
    const struct prism_registry *registry)
{
    return &registry->capabilities;
}

/* ---- identities ---- */

/* The metadata as it is packed; it borrows the caller's texts. */
struct packing {
    Google__Protobuf__Struct metadata;
    Google__Protobuf__Struct__FieldsEntry *entries, **list;
    Google__Protobuf__Value *values;
    Google__Protobuf__Duration ttl;
};

static void pack_field(Google__Protobuf__Value *to, const struct prism_field *from)
{
    google__protobuf__value__init(to);
    switch (from->type) {
    case PRISM_FIELD_TEXT:
        to->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        to->string_value = (char *)(uintptr_t)from->text;
        break;
    case PRISM_FIELD_NUMBER:
        to->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        to->number_value = from->number;
        break;
    case PRISM_FIELD_BOOL:
        to->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        to->bool_value = from->truth;
        break;
    default:
        to->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
    }
}

static void pack(struct packing *packing, const struct prism_register_options *options,
                 wire_register *request)
{
    size_t n = options->field_count;

    google__protobuf__struct__init(&packing->metadata);
    packing->entries = alloc_zeroed(n, sizeof *packing->entries);
    packing->values = alloc_zeroed(n, sizeof *packing->values);
    packing->list = alloc_zeroed(n, sizeof(void *));
    for (size_t i = 0; i < n; i++) {
        google__protobuf__struct__fields_entry__init(&packing->entries[i]);
        packing->entries[i].key = (char *)(uintptr_t)options->fields[i].name;
        packing->entries[i].value = &packing->values[i];
        pack_field(&packing->values[i], &options->fields[i]);
        packing->list[i] = &packing->entries[i];
    }
    packing->metadata.n_fields = n;
    packing->metadata.fields = packing->list;
    request->metadata = &packing->metadata;
    request->n_tags = options->tag_count;
    request->tags = (char **)(uintptr_t)options->tags;
    request->replace = options->replace;
    google__protobuf__duration__init(&packing->ttl);
    if (options->ttl_ms > 0) {
        packing->ttl.seconds = options->ttl_ms / 1000;
        packing->ttl.nanos = (int32_t)(options->ttl_ms % 1000) * 1000000;
        request->ttl = &packing->ttl;
    }
    if (options->if_generation > 0) {
        request->_if_generation_case = WIRE(REGISTER_REQUEST___IF_GENERATION_IF_GENERATION);
        request->if_generation = options->if_generation;
    }
}

static void packing_free(struct packing *packing)
{
    free(packing->entries);
    free(packing->values);
    free(packing->list);
}

enum prism_code prism_registry_register(struct prism_registry *registry, const char *identity,
                                        const struct prism_register_options *options,
                                        int64_t *generation, struct prism_error *error)
{
    static const struct prism_register_options defaults = {0};
    wire_register request = WIRE(REGISTER_REQUEST__INIT);
    struct packing packing;
    struct rpc rpc;

    if (options == NULL)
        options = &defaults;
    pack(&packing, options, &request);
    request.identity = (char *)(uintptr_t)identity;
    if (registry_run(registry, &rpc, REGISTRY_REGISTER, &request.base) == PRISM_OK) {
        const wire_registered *answer = (const wire_registered *)rpc.response;

        if (generation != NULL)
            *generation = answer->generation;
        take_outcome(&rpc, answer->success, answer->code, answer->error);
    }
    packing_free(&packing);
    return end(&rpc, error);
}

/* The first that is no success is what is told, by its name. */
static size_t take_outcomes(struct rpc *rpc, const wire_batched *answer,
                            const char *const *identities, size_t count)
{
    size_t registered = 0;

    for (size_t i = 0; i < answer->n_results; i++) {
        const wire_registered *one = answer->results[i];
        struct prism_error why;

        registered += one->success != 0;
        if (one->success || rpc->error.code != PRISM_OK)
            continue;
        take_outcome(rpc, one->success, one->code, one->error);
        why = rpc->error;
        error_set(&rpc->error, why.code, "%s: %s", i < count ? identities[i] : "", why.message);
    }
    return registered;
}

enum prism_code prism_registry_register_many(struct prism_registry *registry,
                                             const char *const *identities, size_t count,
                                             const struct prism_register_options *options,
                                             size_t *registered, struct prism_error *error)
{
    static const struct prism_register_options defaults = {0};
    Prism__Patterns__MulticastRegistry__RegisterBatchRequest request =
        WIRE(REGISTER_BATCH_REQUEST__INIT);
    wire_register like = WIRE(REGISTER_REQUEST__INIT), *each = alloc_zeroed(count, sizeof *each),
                  **list = alloc_zeroed(count, sizeof *list);
    struct packing packing;
    size_t n = 0;
    struct rpc rpc;

    pack(&packing, options != NULL ? options : &defaults, &like);
    for (size_t i = 0; i < count; i++) {
        each[i] = like;
        each[i].identity = (char *)(uintptr_t)identities[i];
        list[i] = &each[i];
    }
    request.n_registrations = count;
    request.registrations = list;
    if (registry_run(registry, &rpc, REGISTRY_REGISTER_MANY, &request.base) == PRISM_OK)
        n = take_outcomes(&rpc, (const wire_batched *)rpc.response, identities, count);
    if (registered != NULL)
        *registered = n;
    packing_free(&packing);
    free(each);
    free(list);
    return end(&rpc, error);
}

enum prism_code prism_registry_unregister(struct prism_registry *registry, const char *identity,
                                          int64_t if_generation, bool *existed,
                                          struct prism_error *error)
{
    wire_unregister request = WIRE(UNREGISTER_REQUEST__INIT);
    struct rpc rpc;

    request.identity = (char *)(uintptr_t)identity;
    if (if_generation > 0) {
        request._if_generation_case = WIRE(UNREGISTER_REQUEST___IF_GENERATION_IF_GENERATION);
        request.if_generation = if_generation;
    }
    if (registry_run(registry, &rpc, REGISTRY_UNREGISTER, &request.base) == PRISM_OK) {
        const wire_unregistered *answer = (const wire_unregistered *)rpc.response;

        if (existed != NULL)
            *existed = answer->existed;
        take_outcome(&rpc, answer->success, answer->code, answer->error);
    }
    return end(&rpc, error);
}

wire_filter *registry_filter(wire_filter *filter, const char *json)
{
    if (json == NULL)
        return NULL;
    prism__patterns__multicast_registry__filter__init(filter);
    filter->kind_case = WIRE(FILTER__KIND_JSON);
    filter->json = (char *)(uintptr_t)json;
    return filter;
}

enum prism_code prism_registry_count(struct prism_registry *registry, const char *filter,
                                     int64_t *count, struct prism_error *error)
{
    Prism__Patterns__MulticastRegistry__EnumerateRequest request = WIRE(ENUMERATE_REQUEST__INIT);
    wire_filter packed;
    struct rpc rpc;

    request.filter = registry_filter(&packed, filter);
    request.count_only = true;
    if (registry_run(registry, &rpc, REGISTRY_ENUMERATE, &request.base) == PRISM_OK)
        *count = ((const Prism__Patterns__MulticastRegistry__EnumerateResponse *)rpc.response)
                     ->match_count;
    return end(&rpc, error);
}

/* ---- multicasts ---- */

struct watching {
    prism_multicast_fn *progress;
    void *context;
    struct prism_multicast_counts *counts;
    struct prism_error outcome;
    bool done;
};

static void take_cost(const wire_cost *from, struct prism_multicast_cost *to)
{
    if (from != NULL)
        *to = (struct prism_multicast_cost){.told = true,
                                            .published_messages = from->published_messages,
                                            .stored_messages = from->stored_messages,
                                            .message_bytes = from->message_bytes,
                                            .least_ms = from->least_ms};
}

static bool on_progress(void *context, ProtobufCMessage *message)
{
    const wire_progress *progress = (const wire_progress *)message;
    struct watching *watching = context;

    *watching->counts = (struct prism_multicast_counts){.targets = progress->target_count,
                                                        .delivered = progress->delivered_count,
                                                        .no_receiver = progress->no_receiver_count,
                                                        .pending = progress->pending_count,
                                                        .skipped = progress->skipped_count,
                                                        .confirmed = progress->confirmed_count,
                                                        .failed = progress->failed_count};
    take_cost(progress->cost, &watching->counts->cost);
    if (progress->done && progress->code > 0 && progress->code <= PRISM_UNAUTHENTICATED)
        error_set(&watching->outcome, (enum prism_code)progress->code, "%s",
                  progress->error != NULL ? progress->error : "the server gives no reason");
    watching->done = watching->done || progress->done;
    if (watching->progress != NULL)
        watching->progress(watching->context, watching->counts);
    protobuf_c_message_free_unpacked(message, NULL);
    return true;
}

static void pack_multicast(wire_multicast *to, const struct prism_multicast *from)
{
    to->n_identities = from->identity_count;
    to->identities = (char **)(uintptr_t)from->identities;
    to->payload.len = from->payload.len;
    to->payload.data = (uint8_t *)(uintptr_t)from->payload.data;
    to->results = WIRE(RESULTS_MODE__RESULTS_NONE);
    to->dry_run = from->dry_run;
    if (from->message_id != NULL)
        to->message_id = (char *)(uintptr_t)from->message_id;
    if (from->content_type != NULL) {
        to->_content_type_case = WIRE(MULTICAST_REQUEST___CONTENT_TYPE_CONTENT_TYPE);
        to->content_type = (char *)(uintptr_t)from->content_type;
    }
    if (from->max_targets > 0) {
        to->_max_targets_case = WIRE(MULTICAST_REQUEST___MAX_TARGETS_MAX_TARGETS);
        to->max_targets = from->max_targets;
    }
    if (from->rate_per_second > 0) {
        to->_rate_per_second_case = WIRE(MULTICAST_REQUEST___RATE_PER_SECOND_RATE_PER_SECOND);
        to->rate_per_second = from->rate_per_second;
    }
    if (from->timeout_ms > 0) {
        to->_timeout_ms_case = WIRE(MULTICAST_REQUEST___TIMEOUT_MS_TIMEOUT_MS);
        to->timeout_ms = from->timeout_ms;
    }
}

enum prism_code prism_registry_multicast(struct prism_registry *registry,
                                         const struct prism_multicast *multicast,
                                         prism_multicast_fn *progress, void *context,
                                         struct prism_multicast_counts *counts,
                                         struct prism_error *error)
{
    wire_multicast request = WIRE(MULTICAST_REQUEST__INIT);
    struct watching watching = {.progress = progress, .context = context, .counts = counts};
    wire_filter filter;
    struct rpc rpc;

    *counts = (struct prism_multicast_counts){0};
    pack_multicast(&request, multicast);
    request.filter = registry_filter(&filter, multicast->filter);
    begin(registry, &rpc, REGISTRY_MULTICAST, multicast->deadline_ms, &request.base);
    rpc_wait(&rpc);
    rpc_stream(&rpc, on_progress, &watching);
    rpc.error.retryable = false; /* a part may have been sent */
    if (rpc.error.code == PRISM_OK && watching.outcome.code != PRISM_OK)
        rpc.error = watching.outcome;
    else if (rpc.error.code == PRISM_OK && !watching.done)
        error_set(&rpc.error, PRISM_INTERNAL, "MulticastStream: ended without an outcome");
    return end(&rpc, error);
}

/* ---- receiving ---- */

struct receiving {
    const struct prism_receiver *receiver;
    int64_t dropped, dropped_by[PRISM_DROP_REASONS]; /* not told yet */
    bool stands, stopped;
};

/* A frame may tell of nothing else: that is told with the next message. */
static void note_dropped(struct receiving *receiving, const wire_frame *frame)
{
    receiving->dropped += frame->dropped_count;
    for (size_t i = 0; i < frame->n_drops; i++) {
        unsigned reason = (unsigned)frame->drops[i]->reason;

        if (reason < PRISM_DROP_REASONS)
            receiving->dropped_by[reason] += frame->drops[i]->count;
    }
}

static bool hand_over(struct receiving *receiving, const wire_frame *frame)
{
    note_dropped(receiving, frame);
    if (!receiving->stands && !receiving->receiver->receive(receiving->receiver->context, NULL))
        return false;
    receiving->stands = true;
    for (size_t i = 0; i < frame->n_messages; i++) {
        const Prism__Patterns__MulticastRegistry__MulticastMessage *from = frame->messages[i];
        struct prism_multicast_message message = {
            .message_id = from->message_id,
            .content_type = from->content_type,
            .payload = prism_bytes_of(from->payload.data, from->payload.len),
            .identities = (const char *const *)from->identities,
            .identity_count = from->n_identities,
            .published_at_ms = from->published_at_ms,
            .dropped = receiving->dropped};

        memcpy(message.dropped_by, receiving->dropped_by, sizeof message.dropped_by);
        memset(receiving->dropped_by, 0, sizeof receiving->dropped_by);
        receiving->dropped = 0;
        if (!receiving->receiver->receive(receiving->receiver->context, &message))
            return false;
    }
    return true;
}

static bool on_frame(void *context, ProtobufCMessage *message)
{
    struct receiving *receiving = context;

    receiving->stopped = !hand_over(receiving, (const wire_frame *)message);
    protobuf_c_message_free_unpacked(message, NULL);
    return !receiving->stopped;
}

enum prism_code prism_registry_receive(struct prism_registry *registry,
                                       const struct prism_receiver *receiver,
                                       struct prism_error *error)
{
    wire_subscribe request = WIRE(SUBSCRIBE_REQUEST__INIT);
    struct receiving receiving = {.receiver = receiver};
    struct rpc rpc;

    request.identities = (char **)(uintptr_t)receiver->identities;
    request.n_identities = receiver->identity_count;
    request.ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    request.when_full = (Prism__Patterns__MulticastRegistry__FullPolicy)receiver->when_full;
    begin(registry, &rpc, REGISTRY_SUBSCRIBE, receiver->deadline_ms, &request.base);
    rpc_wait(&rpc);
    rpc_stream(&rpc, on_frame, &receiving);
    if (receiving.stopped)
        error_none(&rpc.error);
    return end(&rpc, error);
}
