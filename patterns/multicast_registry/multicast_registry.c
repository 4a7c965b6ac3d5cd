/* The pattern's instance: its slots, its settings, its methods, and how it is bound. */
#include "patterns/multicast_registry/multicast_registry.h"
#include "patterns/check.h"
#include "patterns/multicast_registry/multicast_priv.h"
#include "patterns/multicast_registry/sorted.h"

#include "src/base/container.h"
#include "src/base/hash.h"

/* ---- slots and settings ---- */

static const enum backend_interface registers[] = {BACKEND_REGISTRY, BACKEND_INTERFACE_COUNT};
static const enum backend_interface remembers[] = {BACKEND_KV_BASIC, BACKEND_KV_TTL, BACKEND_KV_CAS,
                                                   BACKEND_INTERFACE_COUNT};
static const enum backend_interface carries[] = {BACKEND_TOPIC, BACKEND_INTERFACE_COUNT};
static const enum backend_interface keeps[] = {BACKEND_QUEUE, BACKEND_STREAM,
                                               BACKEND_INTERFACE_COUNT};

static const enum backend_interface letters[] = {BACKEND_STREAM, BACKEND_QUEUE,
                                                 BACKEND_INTERFACE_COUNT};

static const struct slot_schema slots[] = {
    [SLOT_REGISTRY] =
        {
            .name = "registry",
            .doc = "Holds the identities.",
            .required = registers,
            .used_if_offered = remembers,
        },
    [SLOT_MESSAGING] =
        {
            .name = "messaging",
            .doc = "Carries messages to receivers: a topic for each identity.",
            .required = carries,
            .meets = true,
        },
    [SLOT_DURABILITY] =
        {
            .name = "durability",
            .doc = "Keeps messages until receivers have confirmed them: a queue for each identity, "
                   "else a stream.",
            .optional = true,
            .any_of = keeps,
            .meets = true,
        },
    [SLOT_DEAD] =
        {
            .name = "dead_letter_queue",
            .doc =
                "Takes kept messages that were handed over too often: a stream for each identity "
                "that has any, else a queue.",
            .optional = true,
            .any_of = letters,
            .meets = true,
        },
};

enum behavior {
    TOPIC_PREFIX = BEHAVIOR_TOPIC_PREFIX,
    QUEUE_PREFIX = BEHAVIOR_QUEUE_PREFIX,
    WHEN_FULL = BEHAVIOR_WHEN_FULL,
    RECEIVER_QUEUE_MESSAGES,
    RECEIVER_QUEUE_BYTES,
    DEFAULT_TTL_SECONDS,
    MAX_IDENTITIES,
    MAX_UNBOUNDED_TARGETS,
    RETRY_ATTEMPTS,
    RETRY_DELAY_MS,
    PUBLISH_PERMITS,
    MAX_ATTACHED,
    MAX_IN_FLIGHT,
    MAX_DELIVERIES,
    MAX_FILTER_DEPTH,
    MAX_FILTER_CLAUSES,
    MESSAGE_ID_WINDOW_SECONDS,
    MAX_SORTED
};

static const struct backend_setting behavior[] = {
    [TOPIC_PREFIX] = {"topic_prefix", SETTING_TEXT, "prism.multicast.", 0, 0,
                      "Put before the topic of every identity; at most 128 bytes."},
    [QUEUE_PREFIX] = {"queue_prefix", SETTING_TEXT, "prism.queue.", 0, 0,
                      "Put before the queue of every identity; at most 128 bytes."},
    [WHEN_FULL] = {"when_full", SETTING_TEXT, "drop_oldest", 0, 0,
                   "What happens to messages of those who listen when a receiver is too slow: "
                   "`drop_oldest`, `drop_newest`, `latest_per_key` or `end_stream`. A receiver may "
                   "say otherwise."},
    [RECEIVER_QUEUE_MESSAGES] = {"receiver_queue_messages", SETTING_UINT, "256", 1, 65536,
                                 "Messages that wait for one identity of a receiver. With "
                                 "`drop_oldest` the messaging backend's own bound holds, but on "
                                 "Kafka."},
    [RECEIVER_QUEUE_BYTES] = {"receiver_queue_bytes", SETTING_UINT, "1048576", 1024, 1u << 30,
                              "The same in bytes; one message may pass it alone."},
    [DEFAULT_TTL_SECONDS] = {"default_ttl_seconds", SETTING_UINT, "0", 0, 3153600000u,
                             "How long an identity that names no ttl is registered. 0: until it is "
                             "taken out."},
    [MAX_IDENTITIES] = {"max_identities", SETTING_UINT, "0", 0, 2000000000,
                        "Most identities of the namespace. 0: no bound."},
    [MAX_UNBOUNDED_TARGETS] = {"max_unbounded_targets", SETTING_UINT, "0", 0, 2000000000,
                               "Most matches of a multicast that names no max_targets itself; with "
                               "more, nothing is sent. 0: no bound."},
    [RETRY_ATTEMPTS] = {"retry_attempts", SETTING_UINT, "3", 1, 100,
                        "Times that a delivery is tried which the messaging backend did not take."},
    [RETRY_DELAY_MS] = {"retry_delay_ms", SETTING_UINT, "100", 1, 60000,
                        "Before the second attempt; doubles with each."},
    [PUBLISH_PERMITS] = {"publish_permits", SETTING_UINT, "16", 1, 1000000,
                         "Pages of all multicasts of one worker that are being sent at a time."},
    [MAX_ATTACHED] = {"max_attached", SETTING_UINT, "10000", 1, 1000000,
                      "Most identities of one Subscribe or Attach stream."},
    [MAX_IN_FLIGHT] = {"max_in_flight", SETTING_UINT, "1000", 1, 1000000,
                       "Most kept messages that one stream has and has not confirmed."},
    [MAX_DELIVERIES] = {"max_deliveries", SETTING_UINT, "16", 1, 1000000,
                        "Times that a kept message is handed to receivers of its identity; then it "
                        "goes to the dead letters or, without any, is given up, and counted."},
    [MAX_FILTER_DEPTH] = {"max_filter_depth", SETTING_UINT, "5", 1, 32,
                          "Deepest nesting of a filter; a single condition has depth 1."},
    [MAX_FILTER_CLAUSES] = {"max_filter_clauses", SETTING_UINT, "20", 1, 1000,
                            "Most conditions of a filter."},
    [MESSAGE_ID_WINDOW_SECONDS] =
        {"message_id_window_seconds", SETTING_UINT, "120", 1, 31536000,
         "How long the registry's backend remembers what was sent under a "
         "message_id. A durability slot that compares identifiers itself "
         "has its own time."},
    [MAX_SORTED] =
        {"max_sorted", SETTING_UINT, "100000", 1, 2000000000,
         "Most matches of an Enumerate with sort_by, which looks at all of them for each "
         "page; more are refused."},
    {.name = NULL},
};

/* ---- methods ---- */

#define METHOD(rpc, rpc_kind, often, request_name, response_name, handler)                         \
    {                                                                                              \
        .path = "/prism.patterns.multicast_registry.MulticastRegistryPattern/" rpc,                \
        .kind = (rpc_kind), .busy = (often),                                                       \
        .request = &prism__patterns__multicast_registry__##request_name##__descriptor,             \
        .response = &prism__patterns__multicast_registry__##response_name##__descriptor,           \
        .handle = (handler)                                                                        \
    }

static const struct method methods[] = {
    METHOD("GetCapabilities", METHOD_UNARY, false, get_capabilities_request, capabilities,
           multicast_get_capabilities),
    METHOD("Register", METHOD_UNARY, true, register_request, register_response, multicast_register),
    METHOD("RegisterBatch", METHOD_UNARY, false, register_batch_request, register_batch_response,
           multicast_register_batch),
    METHOD("Heartbeat", METHOD_UNARY, true, heartbeat_request, heartbeat_response,
           multicast_heartbeat),
    METHOD("Unregister", METHOD_UNARY, false, unregister_request, unregister_response,
           multicast_unregister),
    METHOD("UpdateMetadata", METHOD_UNARY, false, update_metadata_request, update_metadata_response,
           multicast_update_metadata),
    METHOD("Enumerate", METHOD_UNARY, false, enumerate_request, enumerate_response,
           multicast_enumerate),
    METHOD("Multicast", METHOD_UNARY, true, multicast_request, multicast_response,
           multicast_multicast),
    METHOD("MulticastStream", METHOD_SERVER_STREAM, false, multicast_request, multicast_progress,
           multicast_multicast_stream),
    METHOD("Attach", METHOD_BIDI, false, attach_request, subscribe_response, multicast_attach),
    METHOD("Subscribe", METHOD_SERVER_STREAM, false, subscribe_request, subscribe_response,
           multicast_subscribe),
    METHOD("Acknowledge", METHOD_UNARY, false, acknowledge_request, acknowledge_response,
           multicast_acknowledge),
};

static const struct service service = {
    .name = "prism.patterns.multicast_registry.MulticastRegistryPattern",
    .pattern = "multicast_registry",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};

static const struct service *const services[] = {&service, NULL};

/* Even one registration may be a large document. */
static const uint32_t *multicast_inline_bytes(const struct pattern *pattern, size_t index)
{
    (void)pattern;
    (void)index;
    return NULL;
}

/* ---- the instance ---- */

/* Values of a document, with their names. */
enum { MAX_ELEMENTS = 200000, MS_PER_S = 1000 };

static void read_settings(struct multicast *multicast)
{
    const struct backend_value *values = multicast->binding.behavior;
    struct multicast_settings *to = &multicast->settings;

    to->topic_prefix = slice_str(values[TOPIC_PREFIX].text);
    to->queue_prefix = slice_str(values[QUEUE_PREFIX].text);
    to->default_ttl_ms = values[DEFAULT_TTL_SECONDS].number * MS_PER_S;
    to->max_identities = values[MAX_IDENTITIES].number;
    to->max_targets = values[MAX_UNBOUNDED_TARGETS].number;
    to->attempts = (uint32_t)values[RETRY_ATTEMPTS].number;
    to->retry_delay_ms = values[RETRY_DELAY_MS].number;
    to->permits = (uint32_t)values[PUBLISH_PERMITS].number;
    to->max_attached = (uint32_t)values[MAX_ATTACHED].number;
    to->max_in_flight = (uint32_t)values[MAX_IN_FLIGHT].number;
    to->max_deliveries = (uint32_t)values[MAX_DELIVERIES].number;
    to->max_sorted = values[MAX_SORTED].number;
    to->memory_ms = values[MESSAGE_ID_WINDOW_SECONDS].number * MS_PER_S;
    to->when_full = multicast_full_policy(values[WHEN_FULL].text);
    to->queue_messages = values[RECEIVER_QUEUE_MESSAGES].number;
    to->queue_bytes = values[RECEIVER_QUEUE_BYTES].number;
    to->filter = filter_limits_default();
    to->filter.max_depth = (uint32_t)values[MAX_FILTER_DEPTH].number;
    to->filter.max_clauses = (uint32_t)values[MAX_FILTER_CLAUSES].number;
}

static void lower(uint64_t *most, uint64_t bound)
{
    if (bound < *most)
        *most = bound;
}

/* A message has its topic, the identity as key, and our headers beside the payload. */
static void bound_by(uint64_t *most, const struct message_sink *sink, const struct backend *backend)
{
    uint64_t message = check_most(sink, backend);

    lower(most, sink->max_frame_bytes - MESSAGE_HEADER_BYTES - MESSAGE_TOPIC_BYTES);
    if (message != 0)
        lower(most, check_fitting_message((uint32_t)message));
}

static void bound_payloads(struct multicast *multicast)
{
    struct multicast_plan *plan = &multicast->plan;

    plan->max_payload_bytes = check_fitting_message(multicast->binding.max_message_bytes);
    if (plan->topic != NULL)
        bound_by(&plan->max_payload_bytes, &plan->topic->sink, multicast->messaging);
    if (plan->kept_sink != NULL)
        bound_by(&plan->max_payload_bytes, plan->kept_sink, multicast->durability);
}

static void make_plan(struct multicast *multicast)
{
    const struct backend_interfaces *has[SLOT_COUNT];

    multicast->facts = pattern_facts(&multicast->binding);
    for (size_t i = 0; i < SLOT_COUNT; i++)
        has[i] = multicast->binding.slots[i] != NULL ? &multicast->binding.slots[i]->has : NULL;
    multicast->plan = multicast_plan_make(has, multicast->binding.emulate);
    bound_payloads(multicast);
    multicast->caps = NULL;
}

static struct pattern *multicast_bind(const struct pattern_binding *binding)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct multicast *multicast = arena_zalloc(&memory, sizeof *multicast);

    multicast->base = (struct pattern){
        .type = &pattern_multicast_registry,
        .namespace_name = arena_strdup(&memory, slice_str(binding->namespace_name)),
        .home = binding->worker,
        .max_elements = MAX_ELEMENTS,
    };
    multicast->memory = memory;
    multicast->binding = *binding;
    multicast->registry = binding->slots[SLOT_REGISTRY];
    multicast->messaging = binding->slots[SLOT_MESSAGING];
    multicast->durability = binding->slots[SLOT_DURABILITY];
    multicast->dead = binding->slots[SLOT_DEAD];
    letters_init(&multicast->letters, multicast->base.namespace_name);
    read_settings(multicast);
    multicast->seed = hash_seed();
    semaphore_init(&multicast->semaphore, multicast->settings.permits);
    semaphore_init(&multicast->sorting, SORTED_AT_ONCE);
    arena_init(&multicast->caps_memory, NULL);
    make_plan(multicast);
    multicast_caps_build(multicast);
    hub_init(multicast);
    multicast_share(multicast);
    return &multicast->base;
}

static void multicast_unbind(struct pattern *pattern)
{
    struct multicast *multicast = CONTAINER_OF(pattern, struct multicast, base);
    struct arena memory = multicast->memory;

    arena_clear(&multicast->caps_memory);
    arena_clear(&memory);
}

struct multicast *multicast_of(const struct call *call)
{
    struct multicast *multicast = call_pattern(call);

    if (pattern_facts(&multicast->binding) != multicast->facts)
        make_plan(multicast);
    return multicast;
}

static const char *multicast_restriction(const struct pattern *pattern, size_t slot)
{
    const struct multicast *multicast = CONTAINER_OF(pattern, struct multicast, base);

    return slot == SLOT_DEAD ? trouble_text(&multicast->letters.trouble) : NULL;
}

const struct pattern_type pattern_multicast_registry = {
    .name = "multicast_registry",
    .service = "prism.patterns.multicast_registry.MulticastRegistryPattern",
    .embedded = true,
    .slots = slots,
    .slot_count = ARRAY_LEN(slots),
    .behavior = behavior,
    .services = services,
    .check = multicast_check,
    .open_shared = multicast_open_shared,
    .close_shared = multicast_close_shared,
    .bind = multicast_bind,
    .unbind = multicast_unbind,
    .inline_bytes = multicast_inline_bytes,
    .operations = multicast_operations,
    .restriction = multicast_restriction,
    .render = multicast_render,
};
