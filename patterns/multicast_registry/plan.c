/* The plan: made when the slots are bound, and again when a connected server turns out to offer
 * something else. */
#include "patterns/multicast_registry/multicast_priv.h"
#include "patterns/need.h"

static const struct need needs[NEED_COUNT] = {
    [NEED_HEADERS] = NEED_PROPERTY("metadata not supported: the messaging backend carries payloads "
                                   "only"),
    [NEED_RECEIVERS] = NEED_PROPERTY("NO_RECEIVER is not told: the messaging backend does not say "
                                     "how many receivers there are"),
    [NEED_IDEMPOTENCE] = NEED_PROPERTY(
        "idempotent multicast not supported: nothing remembers which identity had which message. "
        "It needs in slot `registry` a backend with expiry and conditional writes (`emulate: "
        "[keyvalue_ttl]` where expiry is emulated), or in slot `durability` one that compares "
        "identifiers. Receivers can tell a repetition by its message_id"),
    [NEED_DURABILITY] = NEED_PROPERTY("messages that wait for their receivers are not supported: "
                                      "no backend is bound to slot `durability`"),
    [NEED_COLLAPSING] = NEED_PROPERTY("collapse_key is not supported: the messaging backend "
                                      "carries payloads only, and no backend is bound to slot "
                                      "`durability`"),
    [NEED_DEAD_LETTER] = NEED_PROPERTY("dead letters not supported: no backend is bound to slot "
                                       "`dead_letter_queue`, or none to slot `durability`"),
    [NEED_CONFIRMATION] = NEED_PROPERTY(
        "await_confirmation not supported: Multicast (not MulticastStream) waits for messages that "
        "are kept, in slot `durability`, and needs in slot `messaging` a backend whose topics cost "
        "little: one is made for each such multicast"),
};

const struct multicast_operation multicast_operation_table[] = {
    {"GetCapabilities", NULL, NEED_NOTHING, false, false, false},
    {"Register", NULL, NEED_NOTHING, true, false, false},
    {"RegisterBatch", NULL, NEED_NOTHING, true, true, false},
    {"Heartbeat", NULL, NEED_NOTHING, true, true, false},
    {"Unregister", NULL, NEED_NOTHING, true, false, false},
    {"UpdateMetadata", NULL, NEED_NOTHING, true, false, false},
    {"Enumerate", NULL, NEED_NOTHING, false, true, false},
    {"Enumerate", "sort_by", NEED_SORTING, false, true, false},
    {"Multicast", NULL, NEED_NOTHING, false, true, true},
    {"Multicast", "metadata", NEED_HEADERS, false, true, true},
    {"Multicast", "no_receiver", NEED_RECEIVERS, false, true, true},
    {"Multicast", "at_least_once", NEED_DURABILITY, false, true, true},
    {"Multicast", "idempotent", NEED_IDEMPOTENCE, false, true, true},
    {"Multicast", "expires", NEED_DURABILITY, false, true, true},
    {"Multicast", "collapse", NEED_COLLAPSING, false, true, true},
    {"Multicast", "await_confirmation", NEED_CONFIRMATION, false, true, true},
    {"MulticastStream", NULL, NEED_NOTHING, false, true, true},
    {"Subscribe", NULL, NEED_NOTHING, false, true, false},
    {"Subscribe", "when_full", NEED_POLICY, false, true, false},
    {"Attach", NULL, NEED_NOTHING, false, true, false},
    {"Subscribe", "dead_letter", NEED_DEAD_LETTER, false, true, false},
    {"Attach", "when_full", NEED_POLICY, false, true, false},
    {"Attach", "dead_letter", NEED_DEAD_LETTER, false, true, false},
    {"Acknowledge", NULL, NEED_DURABILITY, false, false, false},
    {.name = NULL},
};

/* A queue forgets what is settled; a stream keeps it for as long as its retention says. */
static void plan_durability(struct multicast_plan *plan, const struct backend_interfaces *has)
{
    const struct queue *queue = has->queue;
    const struct stream *stream = has->stream;

    if (queue == NULL && stream == NULL)
        return;
    plan->kept_in_stream = queue == NULL;
    plan->kept_sink = queue != NULL ? &queue->sink : &stream->sink;
    plan->kept_source = queue != NULL ? &queue->source : &stream->source;
    plan->settling = queue != NULL ? &queue->settling : &stream->settling;
}

/* Dead letters are of kept messages. They lie where the Consumer looks for them. */
static void plan_letters(struct multicast_plan *plan, const struct backend_interfaces *has)
{
    if (has == NULL || plan->kept_sink == NULL)
        return;
    plan->dead_in_stream = has->stream != NULL;
    plan->dead = has->stream != NULL  ? &has->stream->sink
                 : has->queue != NULL ? &has->queue->sink
                                      : NULL;
}

/* Emulated expiry is the backend's own, for slots that ask for it. */
static bool can_remember(const struct backend_interfaces *has, uint32_t emulate)
{
    return has->kv_basic != NULL && has->kv_cas != NULL &&
           (has->kv_ttl != NULL || (emulate & 1u << BACKEND_KV_TTL) != 0);
}

struct multicast_plan multicast_plan_make(const struct backend_interfaces *const *slots,
                                          const uint32_t *emulate)
{
    struct multicast_plan plan = {0};

    if (slots[SLOT_REGISTRY] != NULL)
        plan.registry = slots[SLOT_REGISTRY]->registry;
    if (slots[SLOT_REGISTRY] != NULL && can_remember(slots[SLOT_REGISTRY], emulate[SLOT_REGISTRY]))
        plan.memory = slots[SLOT_REGISTRY];
    if (slots[SLOT_MESSAGING] != NULL)
        plan.topic = slots[SLOT_MESSAGING]->topic;
    if (plan.topic == NULL)
        return plan;

    plan.one_topic = !plan.topic->sink.many_topics;
    if (slots[SLOT_DURABILITY] != NULL)
        plan_durability(&plan, slots[SLOT_DURABILITY]);
    plan_letters(&plan, slots[SLOT_DEAD]);
    plan.confirms = plan.kept_sink != NULL && !plan.kept_sink->bare && !plan.one_topic;
    plan.carries_headers = plan.kept_sink != NULL ? !plan.kept_sink->bare : !plan.topic->sink.bare;
    return plan;
}

enum pattern_how multicast_how(const struct multicast_plan *plan,
                               const struct multicast_operation *row)
{
    if (plan->registry == NULL || plan->topic == NULL)
        return PATTERN_UNAVAILABLE;
    switch (row->need) {
    case NEED_HEADERS:
        return plan->carries_headers ? PATTERN_NATIVE : PATTERN_UNAVAILABLE;
    case NEED_SORTING:
        return PATTERN_EMULATED;
    case NEED_RECEIVERS:
        return plan->topic->sink.tells_receivers ? PATTERN_NATIVE : PATTERN_UNAVAILABLE;
    case NEED_DURABILITY:
        return plan->kept_sink == NULL ? PATTERN_UNAVAILABLE : PATTERN_NATIVE;
    case NEED_COLLAPSING:
        return plan->carries_headers ? PATTERN_EMULATED : PATTERN_UNAVAILABLE;
    case NEED_POLICY:
        return PATTERN_EMULATED;
    case NEED_DEAD_LETTER:
        return plan->dead != NULL ? PATTERN_NATIVE : PATTERN_UNAVAILABLE;
    case NEED_CONFIRMATION:
        return plan->confirms ? PATTERN_EMULATED : PATTERN_UNAVAILABLE;
    case NEED_IDEMPOTENCE:
        return plan->kept_sink != NULL && plan->kept_sink->dedups ? PATTERN_NATIVE
               : plan->memory != NULL                             ? PATTERN_EMULATED
                                                                  : PATTERN_UNAVAILABLE;
    case NEED_NOTHING:
        return row->sends ? PATTERN_PIPELINED : PATTERN_NATIVE;
    default:
        return PATTERN_UNAVAILABLE;
    }
}

const struct need *multicast_need_of(enum multicast_need need)
{
    return &needs[need];
}

size_t multicast_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                            struct pattern_operation *out, size_t max)
{
    const struct backend_interfaces *has[SLOT_COUNT] = {0};
    struct multicast_plan plan;
    size_t n = 0;

    for (size_t i = 0; i < SLOT_COUNT; i++)
        has[i] = slots[i] != NULL ? &slots[i]->interfaces : NULL;
    plan = multicast_plan_make(has, emulate);
    for (const struct multicast_operation *row = multicast_operation_table; row->name; row++) {
        enum pattern_how how = multicast_how(&plan, row);

        if (n == max)
            break;
        out[n++] = (struct pattern_operation){
            .name = row->name,
            .variant = row->variant,
            .how = how,
            .why = how != PATTERN_UNAVAILABLE ? NULL
                   : plan.registry == NULL    ? "no identity registry in slot `registry`"
                   : plan.topic == NULL       ? "no backend with topics in slot `messaging`"
                                              : needs[row->need].why,
        };
    }
    return n;
}
