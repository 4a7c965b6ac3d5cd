/* The pattern's instance: its slots, its settings, its methods, and how it is bound. */
#include "patterns/producer/producer.h"
#include "patterns/check.h"
#include "patterns/messaging/retention_vet.h"
#include "patterns/producer/producer_priv.h"

#include "pool/worker.h"
#include "src/base/container.h"

/* ---- slots and settings ---- */

static const enum backend_interface sinks[] = {BACKEND_STREAM, BACKEND_QUEUE, BACKEND_TOPIC,
                                               BACKEND_INTERFACE_COUNT};
static const enum backend_interface remembers[] = {BACKEND_KV_BASIC, BACKEND_KV_TTL, BACKEND_KV_CAS,
                                                   BACKEND_INTERFACE_COUNT};
static const enum backend_interface keeps[] = {BACKEND_KV_BASIC, BACKEND_INTERFACE_COUNT};
static const enum backend_interface expires[] = {BACKEND_KV_TTL, BACKEND_INTERFACE_COUNT};

static const struct slot_schema slots[] = {
    [SLOT_SINK] =
        {
            .name = "message_sink",
            .doc = "The backend that takes the messages: a stream, else a queue, else a topic.",
            .any_of = sinks,
            .meets = true,
        },
    [SLOT_STATE] =
        {
            .name = "state_store",
            .doc = "Remembers message identifiers where the sink does not.",
            .optional = true,
            .required = remembers,
        },
    [SLOT_OBJECT] =
        {
            .name = "object_store",
            .doc = "Takes payloads that are too large for the sink (claim check).",
            .optional = true,
            .required = keeps,
            .used_if_offered = expires,
            .meets = true,
        },
};

enum behavior {
    TOPIC_PREFIX,
    ALLOWED_TOPICS,
    WINDOW,
    WINDOW_BYTES,
    MAX_BATCH_ITEMS,
    PUBLISH_WIDTH,
    PUBLISH_PERMITS,
    RETRY_FOR_MS,
    DEDUPLICATION_WINDOW_SECONDS,
    DEDUPLICATE_CONTENT,
    CLAIM_CHECK_THRESHOLD,
    CLAIM_COMPRESSION,
    CLAIM_TTL_SECONDS,
    STRICT_RETENTION
};

static const struct backend_setting behavior[] = {
    [TOPIC_PREFIX] = {"topic_prefix", SETTING_TEXT, "", 0, 0,
                      "Put before every topic that a client names."},
    [ALLOWED_TOPICS] = {"allowed_topics", SETTING_TEXT, "*", 0, 0,
                        "Topics that clients may name, as a list with commas; * stands for any run "
                        "of characters."},
    [WINDOW] = {"window", SETTING_UINT, "10000", 1, 1000000,
                "Most unsettled messages of one PublishStream."},
    [WINDOW_BYTES] = {"window_bytes", SETTING_UINT, "8388608", 1024, 1u << 30,
                      "Most bytes of unsettled messages of one PublishStream. One frame may exceed "
                      "it."},
    [MAX_BATCH_ITEMS] = {"max_batch_items", SETTING_UINT, "10000", 1, 1000000,
                         "Most messages of one batch, and of one frame."},
    [PUBLISH_WIDTH] = {"publish_width", SETTING_UINT, "0", 0, 1024,
                       "Publish operations in flight for one call. Messages with a key are sent by "
                       "one at a time. 0: what the backend advises, else 8."},
    [PUBLISH_PERMITS] = {"publish_permits", SETTING_UINT, "16384", 1, 1000000,
                         "Publish operations in flight for all calls of one worker together."},
    [RETRY_FOR_MS] = {"retry_for_ms", SETTING_UINT, "2000", 0, 600000,
                      "How long a message that the backend has not taken is tried again. 0: not at "
                      "all."},
    [DEDUPLICATION_WINDOW_SECONDS] = {"deduplication_window_seconds", SETTING_UINT, "120", 1,
                                      31536000,
                                      "How long the state store remembers identifiers, from when "
                                      "the message was stored. A sink that remembers them itself "
                                      "has its own time."},
    [DEDUPLICATE_CONTENT] = {"deduplicate_content", SETTING_BOOL, "false", 0, 0,
                             "A message without an identifier gets one from the digest of its "
                             "topic, key and payload: equal messages within the window are one."},
    [CLAIM_CHECK_THRESHOLD] = {"claim_check_threshold", SETTING_UINT, "262144", 1, 1u << 31,
                               "Payloads with more bytes go to the object store, if one is bound."},
    [CLAIM_COMPRESSION] = {"claim_compression", SETTING_TEXT, "none", 0, 0,
                           "none or gzip: payloads are compressed before they go to the object "
                           "store, where that makes them smaller by an eighth."},
    [CLAIM_TTL_SECONDS] = {"claim_ttl_seconds", SETTING_UINT, "0", 0, 3153600000u,
                           "How long objects are kept, where the object store has expiry. 0: for "
                           "ever."},
    [STRICT_RETENTION] = {"strict_retention", SETTING_BOOL, "false", 0, 0,
                          "true: refuse to start, and refuse messages, where messages may go that "
                          "nobody has read."},
    {.name = NULL},
};

enum { NO_COMPRESSION, GZIP, COMPRESSIONS };

static const char *const compressions[] = {
    [NO_COMPRESSION] = "none", [GZIP] = "gzip", [COMPRESSIONS] = NULL};

/* ---- methods ---- */

#define METHOD(rpc, rpc_kind, often, request_name, response_name, handler)                         \
    {                                                                                              \
        .path = "/prism.patterns.producer.ProducerPattern/" rpc, .kind = (rpc_kind),               \
        .busy = (often), .request = &prism__patterns__producer__##request_name##__descriptor,      \
        .response = &prism__patterns__producer__##response_name##__descriptor, .handle = (handler) \
    }

static const struct method methods[] = {
    METHOD("GetCapabilities", METHOD_UNARY, false, get_capabilities_request, capabilities,
           producer_get_capabilities),
    METHOD("Publish", METHOD_UNARY, true, publish_request, publish_response, producer_publish),
    METHOD("PublishBatch", METHOD_UNARY, true, publish_batch_request, publish_batch_response,
           producer_publish_batch),
    METHOD("PublishStream", METHOD_BIDI, false, publish_frame, publish_ack,
           producer_publish_stream),
    METHOD("Flush", METHOD_UNARY, false, flush_request, flush_response, producer_flush),
    METHOD("GetStats", METHOD_UNARY, false, get_stats_request, get_stats_response,
           producer_get_stats),
};

static const struct service service = {
    .name = "prism.patterns.producer.ProducerPattern",
    .pattern = "producer",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};

static const struct service *const services[] = {&service, &producer_old_pubsub, NULL};

/* In the order of the methods; for sinks in this process. */
enum { ONE_MESSAGE = 16 * 1024, FEW_MESSAGES = 2560, NEVER = 0 };

static const uint32_t inline_bytes[] = {ONE_MESSAGE, ONE_MESSAGE, FEW_MESSAGES,
                                        NEVER,       NEVER,       ONE_MESSAGE};

_Static_assert(ARRAY_LEN(inline_bytes) == ARRAY_LEN(methods), "a bound for each method");

static const uint32_t *producer_inline_bytes(const struct pattern *pattern, size_t index)
{
    const struct producer *producer = CONTAINER_OF(pattern, struct producer, base);

    return index == 0 && producer->sink->type->inline_ok ? inline_bytes : NULL;
}

/* ---- the instance ---- */

/* A message of a frame and its headers, on the average of a frame. */
enum { ELEMENTS_PER_MESSAGE = 16, PREPARE_PERMITS = 256, MS_PER_S = 1000 };

static void read_settings(struct producer *producer)
{
    const struct backend_value *values = producer->binding.behavior;
    struct producer_settings *to = &producer->settings;
    /* A result takes 24 bytes at least, so a batch whose answer cannot be told is refused by its
     * number of messages. */
    uint32_t fitting = producer->binding.max_message_bytes / 24;

    topics_init(&producer->topics, &producer->memory, values[TOPIC_PREFIX].text,
                values[ALLOWED_TOPICS].text);
    to->window = (uint32_t)values[WINDOW].number;
    to->window_bytes = values[WINDOW_BYTES].number;
    to->max_batch_items = (uint32_t)values[MAX_BATCH_ITEMS].number;
    to->width = (uint32_t)values[PUBLISH_WIDTH].number;
    to->permits = (uint32_t)values[PUBLISH_PERMITS].number;
    to->retry_for_ms = values[RETRY_FOR_MS].number;
    to->dedup_window_ms = values[DEDUPLICATION_WINDOW_SECONDS].number * MS_PER_S;
    to->dedup_content = values[DEDUPLICATE_CONTENT].number != 0;
    to->claim_threshold = values[CLAIM_CHECK_THRESHOLD].number;
    to->claim_gzip = strcmp(values[CLAIM_COMPRESSION].text, compressions[GZIP]) == 0;
    if (producer->object != NULL && producer->object->has.kv_ttl != NULL)
        to->claim_ttl_ms = values[CLAIM_TTL_SECONDS].number * MS_PER_S;
    if (to->max_batch_items > fitting)
        to->max_batch_items = fitting;
}

bool producer_is_strict(const struct backend_value *values)
{
    return values[STRICT_RETENTION].number != 0;
}

static void check_compression(struct backend_faults *faults, const char *name)
{
    for (unsigned i = 0; i < COMPRESSIONS; i++) {
        if (strcmp(name, compressions[i]) == 0)
            return;
    }
    backend_fault_add(faults, (struct backend_fault){.setting = behavior[CLAIM_COMPRESSION].name,
                                                     .text = "is none of none, gzip",
                                                     .words = compressions});
}

static void producer_check(const struct pattern_proposal *proposal, struct backend_faults *faults)
{
    const struct backend_value *values = proposal->behavior;

    topics_check(faults, values[TOPIC_PREFIX].text, values[ALLOWED_TOPICS].text);
    check_compression(faults, values[CLAIM_COMPRESSION].text);
    if (producer_is_strict(values))
        retention_check(faults, slots[SLOT_SINK].name, proposal->slots[SLOT_SINK]);
}

/* A payload that the sink does not take goes to the object store, whatever is configured. */
static void bound_messages(struct producer *producer)
{
    struct producer_plan *plan = &producer->plan;
    uint64_t most = check_most(plan->sink, producer->sink), carried;

    if (most != 0 && most < plan->max_message_bytes)
        plan->max_message_bytes = most;
    carried = producer_max_carried(producer);
    plan->claim_threshold = producer->settings.claim_threshold;
    if (plan->claim_threshold > carried)
        plan->claim_threshold = carried;
}

static void make_plan(struct producer *producer)
{
    const struct backend_interfaces *has[SLOT_COUNT];

    producer->facts = pattern_facts(&producer->binding);
    for (size_t i = 0; i < SLOT_COUNT; i++)
        has[i] = producer->binding.slots[i] != NULL ? &producer->binding.slots[i]->has : NULL;
    producer->plan = producer_plan_make(has);
    bound_messages(producer);
    if (producer->settings.width != 0)
        producer->plan.width = producer->settings.width;
    producer->caps = NULL;
}

static struct pattern *producer_bind(const struct pattern_binding *binding)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct producer *producer = arena_zalloc(&memory, sizeof *producer);

    producer->base = (struct pattern){
        .type = &pattern_producer,
        .namespace_name = arena_strdup(&memory, slice_str(binding->namespace_name)),
        .home = binding->worker,
    };
    producer->memory = memory;
    producer->binding = *binding;
    producer->sink = binding->slots[SLOT_SINK];
    producer->state = binding->slots[SLOT_STATE];
    producer->object = binding->slots[SLOT_OBJECT];
    read_settings(producer);
    producer->base.max_elements = producer->settings.max_batch_items * ELEMENTS_PER_MESSAGE;
    semaphore_init(&producer->semaphore, producer->settings.permits);
    semaphore_init(&producer->before, PREPARE_PERMITS);
    semaphore_init(&producer->after, PREPARE_PERMITS);
    semaphore_init(&producer->compressing, 1);
    op_group_init(&producer->background, binding->worker, &producer->memory, 0);
    epochs_init(&producer->epochs, &producer->memory);
    producer->orphan_log = (struct log_budget)LOG_BUDGET(100, 60000);
    arena_init(&producer->caps_memory, NULL);
    producer_retention_init(producer);
    make_plan(producer);
    producer_caps_build(producer);
    producer_join(producer);
    return &producer->base;
}

static void producer_vet(struct pattern *pattern, void (*vetted)(void *arg, struct err err),
                         void *arg)
{
    struct producer *producer = CONTAINER_OF(pattern, struct producer, base);
    const struct retention_vet_want want = {.book = producer_retention(producer),
                                            .topics = &producer->topics,
                                            .backend = producer->sink,
                                            .stream = producer->plan.stream,
                                            .keeps = producer->plan.keeps,
                                            .home = producer->base.home,
                                            .vetted = vetted,
                                            .arg = arg};

    retention_vet(&want);
}

static void producer_stop(struct pattern *pattern, void (*stopped)(void *arg), void *arg)
{
    producer_retention_stop(CONTAINER_OF(pattern, struct producer, base), stopped, arg);
}

static void producer_unbind(struct pattern *pattern)
{
    struct producer *producer = CONTAINER_OF(pattern, struct producer, base);
    struct arena memory = producer->memory;

    producer_leave(producer);
    arena_clear(&producer->caps_memory);
    arena_clear(&memory);
}

struct producer *producer_of(const struct call *call)
{
    struct producer *producer = call_pattern(call);

    if (pattern_facts(&producer->binding) != producer->facts)
        make_plan(producer);
    return producer;
}

static const char *producer_restriction(const struct pattern *pattern, size_t slot)
{
    const struct producer *producer = CONTAINER_OF(pattern, struct producer, base);

    const char *text = NULL;

    if (slot == SLOT_OBJECT) {
        text = trouble_text(&producer->put_trouble);
        if (text == NULL)
            text = trouble_text(&producer->del_trouble);
    }
    return text;
}

const struct pattern_type pattern_producer = {
    .name = "producer",
    .service = "prism.patterns.producer.ProducerPattern",
    .embedded = true,
    .slots = slots,
    .slot_count = ARRAY_LEN(slots),
    .behavior = behavior,
    .services = services,
    .check = producer_check,
    .open_shared = producer_open_shared,
    .close_shared = producer_close_shared,
    .bind = producer_bind,
    .vet = producer_vet,
    .stop = producer_stop,
    .unbind = producer_unbind,
    .inline_bytes = producer_inline_bytes,
    .operations = producer_operations,
    .restriction = producer_restriction,
    .render = producer_render,
};
