/* The plan: made when the slots are bound, and again when a connected server turns out to offer
 * something else. RPCs follow it, GetCapabilities prints it, and `prismctl check` makes one from
 * descriptors alone. */
#include "patterns/consumer/consumer_priv.h"

static const struct need needs[NEED_COUNT] = {
    [NEED_SETTLING] = NEED_PROPERTY("acknowledgement not supported: the message_source delivers at "
                                    "most once"),
    [NEED_REPLAY] = NEED_PROPERTY("replay not supported: the message_source keeps no positions"),
    [NEED_POSITION] = NEED("state", BACKEND_STREAM, "StreamBasicInterface"),
    [NEED_DEAD_LETTER] = NEED_PROPERTY("dead letters not supported: no backend in slot "
                                       "`dead_letter_queue`"),
    [NEED_KEYED] = NEED_PROPERTY("order per key not supported: the message_source does not keep "
                                 "the order of keys"),
    [NEED_NULL_PAYLOAD] = NEED_PROPERTY("null payload not supported: the message_source cannot "
                                        "tell null from empty"),
    [NEED_REDRIVE] = NEED_PROPERTY("reading and redriving of dead letters not supported: no "
                                   "backend that keeps messages in slot `dead_letter_queue`"),
    [NEED_PARTITION_ORDER] = NEED_PROPERTY("order per partition not supported: the message_source "
                                           "does not keep the order of what comes again"),
    [NEED_ATTEMPTS] = NEED_PROPERTY("attempts that survive a restart not supported: the "
                                    "message_source does not count them, and no backend is in "
                                    "slot `state_store`"),
    [NEED_ANYWHERE] =
        NEED_PROPERTY("settlement by token not supported: the message_source settles a "
                      "delivery only for the subscription that has it"),
};

const struct consumer_operation consumer_operation_table[] = {
    {"GetCapabilities", NULL, NEED_NOTHING},
    {"Consume", NULL, NEED_NOTHING},
    {"Consume", "start", NEED_REPLAY},
    {"Consume", "extend", NEED_SETTLING},
    {"Consume", "delay", NEED_SETTLING},
    {"Consume", "dead_letter", NEED_DEAD_LETTER},
    {"Consume", "order_per_key", NEED_KEYED},
    {"Consume", "order_partition", NEED_PARTITION_ORDER},
    {"Consume", "settle_anywhere", NEED_ANYWHERE},
    {"Consume", "kept_attempts", NEED_ATTEMPTS},
    {"Consume", "null_payload", NEED_NULL_PAYLOAD},
    {"Subscribe", NULL, NEED_NOTHING},
    {"Unsubscribe", NULL, NEED_NOTHING},
    {"Acknowledge", NULL, NEED_SETTLING},
    {"Reject", NULL, NEED_SETTLING},
    {"Extend", NULL, NEED_SETTLING},
    {"Seek", NULL, NEED_REPLAY},
    {"Redrive", NULL, NEED_REDRIVE},
    {"GetState", NULL, NEED_POSITION},
    {.name = NULL},
};

static const struct message_sink *sink_of(const struct backend_interfaces *has)
{
    if (has == NULL)
        return NULL;
    if (has->stream != NULL)
        return &has->stream->sink;
    if (has->queue != NULL)
        return &has->queue->sink;
    return has->topic != NULL ? &has->topic->sink : NULL;
}

static struct origin origin_of(const struct backend_interfaces *has)
{
    if (has == NULL)
        return (struct origin){0};
    if (has->stream != NULL)
        return (struct origin){.source = &has->stream->source,
                               .settling = &has->stream->settling,
                               .stream = has->stream};
    if (has->queue != NULL)
        return (struct origin){
            .source = &has->queue->source, .settling = &has->queue->settling, .queue = has->queue};
    return (struct origin){.source = has->topic != NULL ? &has->topic->source : NULL};
}

struct consumer_plan consumer_plan_make(const struct backend_interfaces *const *slots)
{
    const struct backend_interfaces *objects = slots[SLOT_OBJECT], *states = slots[SLOT_STATE];
    struct origin from = origin_of(slots[SLOT_SOURCE]);
    bool counts = from.settling == NULL || from.settling->counts_attempts;

    return (struct consumer_plan){.from = from,
                                  .letters = origin_of(slots[SLOT_DEAD]),
                                  .sink = sink_of(slots[SLOT_SOURCE]),
                                  .dead = sink_of(slots[SLOT_DEAD]),
                                  .object = objects != NULL ? objects->kv_basic : NULL,
                                  .state = states != NULL && !counts ? states->kv_basic : NULL};
}

bool consumer_meets(const struct consumer_plan *plan, enum consumer_need need)
{
    const struct origin *from = &plan->from;

    if (from->source == NULL)
        return false;
    switch (need) {
    case NEED_SETTLING:
        return from->settling != NULL;
    case NEED_REPLAY:
        return from->stream != NULL && from->stream->seek != NULL;
    case NEED_POSITION:
        return from->stream != NULL;
    case NEED_DEAD_LETTER:
        return plan->dead != NULL && from->settling != NULL;
    case NEED_REDRIVE:
        return plan->letters.settling != NULL && from->settling != NULL;
    case NEED_KEYED:
    case NEED_PARTITION_ORDER:
        return from->settling != NULL && from->source->keyed;
    case NEED_ATTEMPTS:
        return from->settling != NULL && (from->settling->counts_attempts || plan->state != NULL);
    case NEED_NULL_PAYLOAD:
        return from->stream != NULL && from->stream->sink.null_payload;
    case NEED_ANYWHERE:
        return from->settling != NULL && from->settling->tickets != NULL;
    case NEED_NOTHING:
    case NEED_COUNT:
        break;
    }
    return true;
}

enum pattern_how consumer_how(const struct consumer_plan *plan, enum consumer_need need)
{
    if (!consumer_meets(plan, need))
        return PATTERN_UNAVAILABLE;
    if (need == NEED_ATTEMPTS)
        return plan->state != NULL ? PATTERN_EMULATED : PATTERN_NATIVE;
    return need == NEED_SETTLING && !plan->from.settling->single ? PATTERN_EMULATED
                                                                 : PATTERN_NATIVE;
}

const struct need *consumer_need_of(enum consumer_need need)
{
    return &needs[need];
}

size_t consumer_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                           struct pattern_operation *out, size_t max)
{
    const struct backend_interfaces *has[SLOT_COUNT] = {0};
    struct consumer_plan plan;
    size_t n = 0;

    (void)emulate;
    for (size_t i = 0; i < SLOT_COUNT; i++)
        has[i] = slots[i] != NULL ? &slots[i]->interfaces : NULL;
    plan = consumer_plan_make(has);
    for (const struct consumer_operation *row = consumer_operation_table; row->name; row++) {
        enum pattern_how how = consumer_how(&plan, row->need);

        if (n == max)
            break;
        out[n++] = (struct pattern_operation){
            .name = row->name,
            .variant = row->variant,
            .how = how,
            .why = how != PATTERN_UNAVAILABLE ? NULL
                   : plan.from.source == NULL ? "no backend that holds messages in slot "
                                                "`message_source`"
                                              : needs[row->need].why,
        };
    }
    return n;
}
