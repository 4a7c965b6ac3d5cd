/* The pattern's instance: its slots, its settings, its methods, and how it is bound. */
#include "patterns/consumer/consumer.h"
#include "patterns/consumer/consumer_priv.h"
#include "patterns/messaging/dead.h"
#include "patterns/messaging/retention_vet.h"

#include "pool/worker.h"
#include "src/base/container.h"
#include "src/base/random.h"

/* ---- slots and settings ---- */

static const enum backend_interface sources[] = {BACKEND_STREAM, BACKEND_QUEUE, BACKEND_TOPIC,
                                                 BACKEND_INTERFACE_COUNT};

static const enum backend_interface keeps[] = {BACKEND_KV_BASIC, BACKEND_INTERFACE_COUNT};

static const struct slot_schema slots[] = {
    [SLOT_SOURCE] =
        {
            .name = "message_source",
            .doc = "The backend that holds the messages: a stream, else a queue, else a topic.",
            .any_of = sources,
            .meets = true,
        },
    [SLOT_DEAD] =
        {
            .name = "dead_letter_queue",
            .doc = "The backend for messages that failed too often.",
            .optional = true,
            .any_of = sources,
            .meets = true,
        },
    [SLOT_OBJECT] =
        {
            .name = "object_store",
            .doc = "Holds payloads that the producer put there (claim check).",
            .optional = true,
            .required = keeps,
            .meets = true,
        },
    [SLOT_STATE] =
        {
            .name = "state_store",
            .doc = "Keeps the attempts of messages where the source does not count them.",
            .optional = true,
            .required = keeps,
        },
};

enum behavior {
    TOPIC_PREFIX,
    ALLOWED_TOPICS,
    DEFAULT_GROUP,
    MAX_IN_FLIGHT,
    MAX_IN_FLIGHT_BYTES,
    MAX_FRAME_MESSAGES,
    MAX_FRAME_BYTES,
    MAX_GROUP_BYTES,
    MAX_MESSAGE_MEMORY,
    MAX_SUBSCRIPTIONS,
    MAX_PARKED,
    MAX_ATTEMPTS,
    RETRY_DELAY_MS,
    MAX_LEASE_MS,
    DEAD_LETTERS,
    STRICT_RETENTION
};

static const struct backend_setting behavior[] = {
    [TOPIC_PREFIX] = {"topic_prefix", SETTING_TEXT, "", 0, 0,
                      "Put before every topic that a client names."},
    [ALLOWED_TOPICS] = {"allowed_topics", SETTING_TEXT, "*", 0, 0,
                        "Topics that clients may name, as a list with commas; * stands for any run "
                        "of characters."},
    [DEFAULT_GROUP] = {"default_group", SETTING_TEXT, "", 0, 0,
                       "The group of subscriptions that name none. Empty: they get every message."},
    [MAX_IN_FLIGHT] = {"max_in_flight", SETTING_UINT, "1000", 1, 1000000,
                       "Most messages that one subscription holds without having settled them."},
    [MAX_IN_FLIGHT_BYTES] = {"max_in_flight_bytes", SETTING_UINT, "8388608", 1024, 1u << 30,
                             "Most bytes of those messages. One message may exceed it."},
    [MAX_FRAME_MESSAGES] = {"max_frame_messages", SETTING_UINT, "256", 1, 1024,
                            "Most messages of one frame."},
    [MAX_FRAME_BYTES] = {"max_frame_bytes", SETTING_UINT, "262144", 1024, 1u << 24,
                         "Most bytes of one frame; a larger message comes alone."},
    [MAX_GROUP_BYTES] = {"max_group_bytes", SETTING_UINT, "16777216", 1024, 1u << 30,
                         "Most bytes of messages that are held for one topic and group."},
    [MAX_MESSAGE_MEMORY] = {"max_message_memory", SETTING_UINT, "268435456", 1024, 1ull << 40,
                            "Most bytes of messages that one worker holds for all of its groups. "
                            "Each group can hold one message beyond it."},
    [MAX_SUBSCRIPTIONS] = {"max_subscriptions", SETTING_UINT, "10000", 1, 1000000,
                           "Most subscriptions of the namespace."},
    [MAX_PARKED] = {"max_parked", SETTING_UINT, "10000", 1, 1000000,
                    "Most messages of a group that wait here for a retry; those that wait in the "
                    "source are not counted."},
    [MAX_ATTEMPTS] = {"max_attempts", SETTING_UINT, "0", 0, 1000000,
                      "Deliveries of a message before it goes to the dead letters or, without "
                      "any, is dropped. 0: it is delivered again without end."},
    [RETRY_DELAY_MS] = {"retry_delay_ms", SETTING_UINT, "1000", 0, 86400000,
                        "How long a rejected message waits when the client does not say."},
    [MAX_LEASE_MS] = {"max_lease_ms", SETTING_UINT, "3600000", 1000, 86400000,
                      "Longest time for which a delivery can be kept, extensions included, where "
                      "the subscription asks for a lease."},
    [DEAD_LETTERS] = {"dead_letter_suffix", SETTING_TEXT, DEAD_LETTER_SUFFIX, 0, 0,
                      "End of the name of the topic of dead letters, behind topic and group."},
    [STRICT_RETENTION] = {"strict_retention", SETTING_BOOL, "false", 0, 0,
                          "true: refuse to start, and refuse subscriptions of a group, where "
                          "messages may go that nobody has read."},
    {.name = NULL},
};

/* ---- methods ---- */

#define METHOD(rpc, rpc_kind, often, request_name, response_name, handler)                         \
    {                                                                                              \
        .path = "/prism.patterns.consumer.ConsumerPattern/" rpc, .kind = (rpc_kind),               \
        .busy = (often), .request = &prism__patterns__consumer__##request_name##__descriptor,      \
        .response = &prism__patterns__consumer__##response_name##__descriptor, .handle = (handler) \
    }

static const struct method methods[] = {
    METHOD("GetCapabilities", METHOD_UNARY, false, get_capabilities_request, capabilities,
           consumer_get_capabilities),
    METHOD("Consume", METHOD_BIDI, false, consume_request, consume_response, consumer_consume),
    METHOD("Subscribe", METHOD_SERVER_STREAM, false, subscribe_request, consume_response,
           consumer_subscribe),
    METHOD("Unsubscribe", METHOD_UNARY, false, unsubscribe_request, unsubscribe_response,
           consumer_unsubscribe),
    METHOD("Acknowledge", METHOD_UNARY, true, acknowledge_request, acknowledge_response,
           consumer_acknowledge),
    METHOD("Reject", METHOD_UNARY, false, reject_request, reject_response, consumer_reject),
    METHOD("Extend", METHOD_UNARY, false, extend_request, extend_response, consumer_extend),
    METHOD("Seek", METHOD_UNARY, false, seek_request, seek_response, consumer_seek),
    METHOD("Redrive", METHOD_UNARY, false, redrive_request, redrive_response, consumer_redrive),
    METHOD("GetState", METHOD_UNARY, false, get_state_request, get_state_response,
           consumer_get_state),
};

static const struct service service = {
    .name = "prism.patterns.consumer.ConsumerPattern",
    .pattern = "consumer",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};

static const struct service *const services[] = {&service, &consumer_old_pubsub, NULL};

/* ---- the instance ---- */

enum {
    MAX_ELEMENTS = 100000, /* deliveries named by one request */
    /* of a message: its key, and its headers, which come twice where they are text; and of a frame:
     * what else it tells */
    ROOM_FOR_THE_REST = MESSAGE_KEY_BYTES + 3 * MESSAGE_HEADER_BYTES + FRAME_FAILURES_BYTES,
};

static void read_settings(struct consumer *consumer)
{
    const struct backend_value *values = consumer->binding.behavior;
    struct consumer_settings *to = &consumer->settings;
    struct arena *memory = &consumer->memory;

    topics_init(&consumer->topics, memory, values[TOPIC_PREFIX].text, values[ALLOWED_TOPICS].text);
    to->default_group = arena_strdup(memory, slice_str(values[DEFAULT_GROUP].text));
    to->dead_letter_suffix = arena_strdup(memory, slice_str(values[DEAD_LETTERS].text));
    to->max_in_flight = (uint32_t)values[MAX_IN_FLIGHT].number;
    to->max_in_flight_bytes = values[MAX_IN_FLIGHT_BYTES].number;
    to->max_frame_messages = (uint32_t)values[MAX_FRAME_MESSAGES].number;
    to->max_frame_bytes = values[MAX_FRAME_BYTES].number;
    to->max_group_bytes = values[MAX_GROUP_BYTES].number;
    to->max_message_memory = values[MAX_MESSAGE_MEMORY].number;
    to->max_subscriptions = (uint32_t)values[MAX_SUBSCRIPTIONS].number;
    to->max_parked = (uint32_t)values[MAX_PARKED].number;
    to->max_attempts = (uint32_t)values[MAX_ATTEMPTS].number;
    to->retry_delay_ms = values[RETRY_DELAY_MS].number;
    to->max_lease_ms = values[MAX_LEASE_MS].number;
    if (to->max_frame_bytes > consumer->binding.max_message_bytes / 2)
        to->max_frame_bytes = consumer->binding.max_message_bytes / 2;
    to->max_inline_bytes = consumer->binding.max_message_bytes > 2 * ROOM_FOR_THE_REST
                               ? consumer->binding.max_message_bytes - ROOM_FOR_THE_REST
                               : consumer->binding.max_message_bytes / 2;
}

bool consumer_is_strict(const struct backend_value *values)
{
    return values[STRICT_RETENTION].number != 0;
}

static void consumer_check(const struct pattern_proposal *proposal, struct backend_faults *faults)
{
    const struct backend_value *values = proposal->behavior;

    topics_check(faults, values[TOPIC_PREFIX].text, values[ALLOWED_TOPICS].text);
    topics_check_part(faults, behavior[DEFAULT_GROUP].name, values[DEFAULT_GROUP].text);
    topics_check_part(faults, behavior[DEAD_LETTERS].name, values[DEAD_LETTERS].text);
    if (consumer_is_strict(values))
        retention_check(faults, slots[SLOT_SOURCE].name, proposal->slots[SLOT_SOURCE]);
}

static void make_plan(struct consumer *consumer)
{
    const struct backend_interfaces *has[SLOT_COUNT] = {0};

    for (size_t i = 0; i < SLOT_COUNT; i++)
        has[i] = consumer->binding.slots[i] != NULL ? &consumer->binding.slots[i]->has : NULL;
    consumer->facts = pattern_facts(&consumer->binding);
    consumer->plan = consumer_plan_make(has);
    consumer->caps = NULL;
}

static struct pattern *consumer_bind(const struct pattern_binding *binding)
{
    struct arena memory;

    arena_init(&memory, NULL);

    struct consumer *consumer = arena_zalloc(&memory, sizeof *consumer);

    consumer->base = (struct pattern){
        .type = &pattern_consumer,
        .namespace_name = arena_strdup(&memory, slice_str(binding->namespace_name)),
        .home = binding->worker,
        .max_elements = MAX_ELEMENTS,
    };
    consumer->memory = memory;
    consumer->binding = *binding;
    consumer->source = binding->slots[SLOT_SOURCE];
    consumer->dead = binding->slots[SLOT_DEAD];
    consumer->objects = binding->slots[SLOT_OBJECT];
    consumer->states = binding->slots[SLOT_STATE];
    letters_init(&consumer->letters, consumer->base.namespace_name);
    consumer->drop_log = consumer->object_log = consumer->stall_log = consumer->state_log =
        (struct log_budget)LOG_BUDGET(1, 60000);
    semaphore_init(&consumer->inflating, 1);
    consumer->random = random_begin(consumer);
    read_settings(consumer);
    arena_init(&consumer->caps_memory, NULL);
    make_plan(consumer);
    consumer_caps_build(consumer);
    return &consumer->base;
}

static void consumer_unbind(struct pattern *pattern)
{
    struct consumer *consumer = CONTAINER_OF(pattern, struct consumer, base);
    struct arena memory = consumer->memory;

    arena_clear(&consumer->caps_memory);
    arena_clear(&memory);
}

static void consumer_vet(struct pattern *pattern, void (*vetted)(void *arg, struct err err),
                         void *arg)
{
    struct consumer *consumer = CONTAINER_OF(pattern, struct consumer, base);
    const struct retention_vet_want want = {.book = shared_retention(consumer),
                                            .topics = &consumer->topics,
                                            .backend = consumer->source,
                                            .stream = consumer->plan.from.stream,
                                            .keeps = consumer->plan.from.settling != NULL,
                                            .home = consumer->base.home,
                                            .vetted = vetted,
                                            .arg = arg};

    retention_vet(&want);
}

/* Streams, and errands to where they live: always on workers. */
static const uint32_t *consumer_inline_bytes(const struct pattern *pattern, size_t index)
{
    (void)pattern;
    (void)index;
    return NULL;
}

/* ---- stopping: the feeds give back what they hold ---- */

static void tell_stopped(struct job *job)
{
    struct consumer *consumer = CONTAINER_OF(job, struct consumer, stopping);
    const struct consumer_stats *stats = &consumer->stats;

    if (counter_read(&stats->delivered) > 0)
        log_event(LOG_INFO, "consumer_stopped", LOG_S("namespace", consumer->base.namespace_name),
                  LOG_U("delivered", counter_read(&stats->delivered)),
                  LOG_U("settled", counter_read(&stats->settled)),
                  LOG_U("dead_letters", counter_read(&stats->dead_letters)),
                  LOG_U("dropped", counter_read(&stats->dropped)),
                  LOG_U("given_back", counter_read(&stats->given_back)));
    consumer->stopped(consumer->stopped_arg);
}

static void maybe_stopped(struct consumer *consumer)
{
    if (consumer->stopped == NULL || consumer->feeds != NULL)
        return;
    consumer->stopping.run = tell_stopped;
    worker_land(consumer->base.home, &consumer->stopping);
}

void consumer_feed_gone(struct consumer *consumer)
{
    maybe_stopped(consumer);
}

static void consumer_stop(struct pattern *pattern, void (*stopped)(void *arg), void *arg)
{
    struct consumer *consumer = CONTAINER_OF(pattern, struct consumer, base);

    consumer->stopped = stopped;
    consumer->stopped_arg = arg;
    maybe_stopped(consumer);
}

struct consumer *consumer_of(const struct call *call)
{
    struct consumer *consumer = call_pattern(call);

    if (pattern_facts(&consumer->binding) != consumer->facts)
        make_plan(consumer);
    return consumer;
}

static const char *consumer_restriction(const struct pattern *pattern, size_t slot)
{
    const struct consumer *consumer = CONTAINER_OF(pattern, struct consumer, base);

    switch (slot) {
    case SLOT_DEAD:
        return trouble_text(&consumer->letters.trouble);
    case SLOT_STATE:
        return trouble_text(&consumer->state_trouble);
    case SLOT_OBJECT:
        return trouble_text(&consumer->object_trouble);
    default:
        return NULL;
    }
}

const struct pattern_type pattern_consumer = {
    .name = "consumer",
    .service = "prism.patterns.consumer.ConsumerPattern",
    .embedded = true,
    .slots = slots,
    .slot_count = ARRAY_LEN(slots),
    .behavior = behavior,
    .services = services,
    .check = consumer_check,
    .open_shared = consumer_open_shared,
    .close_shared = consumer_close_shared,
    .bind = consumer_bind,
    .vet = consumer_vet,
    .stop = consumer_stop,
    .unbind = consumer_unbind,
    .inline_bytes = consumer_inline_bytes,
    .operations = consumer_operations,
    .restriction = consumer_restriction,
    .render = consumer_render,
};
