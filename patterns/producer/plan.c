/* The plan: made when the slots are bound, and again when a connected server turns out to offer
 * something else. RPCs follow it, GetCapabilities prints it, and `prismctl check` makes one from
 * descriptors alone. */
#include "backends/queue.h"
#include "backends/stream.h"
#include "backends/topic.h"
#include "patterns/need.h"
#include "patterns/producer/producer_priv.h"

enum { WIDTH_DEFAULT = 8 };

static const struct need needs[NEED_COUNT] = {
    [NEED_KEYED] = NEED_PROPERTY("ordering_key not supported: the message_sink carries payloads "
                                 "only"),
    [NEED_HEADERS] = NEED_PROPERTY("headers not supported: the message_sink carries payloads only"),
    [NEED_DEDUP] = NEED_PROPERTY("deduplication not supported: the message_sink does not remember "
                                 "identifiers, and no state_store is bound"),
    [NEED_NULL_PAYLOAD] = NEED_PROPERTY("null payload not supported: the message_sink cannot tell "
                                        "null from empty"),
    [NEED_CLAIM] = NEED_PROPERTY("claim check not supported: no object_store is bound"),
    [NEED_ATOMIC] = NEED_PROPERTY("atomic batch not supported: the message_sink does not take "
                                  "several messages as one"),
};

const struct producer_operation producer_operation_table[] = {
    {"GetCapabilities", NULL, NEED_NOTHING, false, false},
    {"Publish", NULL, NEED_NOTHING, true, false},
    {"Publish", "ordering_key", NEED_KEYED, true, false},
    {"Publish", "headers", NEED_HEADERS, true, false},
    {"Publish", "null_payload", NEED_NULL_PAYLOAD, true, false},
    {"Publish", "deduplication", NEED_DEDUP, true, false},
    {"Publish", "claim_check", NEED_CLAIM, true, false},
    {"PublishBatch", NULL, NEED_NOTHING, true, true},
    {"PublishBatch", "atomic", NEED_ATOMIC, true, true},
    {"PublishStream", NULL, NEED_NOTHING, true, true},
    {"Flush", NULL, NEED_NOTHING, false, false},
    {"GetStats", NULL, NEED_NOTHING, false, false},
    {.name = NULL},
};

static const struct message_sink *sink_of(const struct backend_interfaces *has)
{
    if (has->stream != NULL)
        return &has->stream->sink;
    if (has->queue != NULL)
        return &has->queue->sink;
    return has->topic != NULL ? &has->topic->sink : NULL;
}

static uint64_t smaller_unless_0(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

struct producer_plan producer_plan_make(const struct backend_interfaces *const *slots)
{
    const struct backend_interfaces *has = slots[SLOT_SINK];
    struct producer_plan plan = {.sink = has != NULL ? sink_of(has) : NULL};

    if (plan.sink == NULL)
        return plan;
    plan.stream = has->stream;
    plan.keeps = has->stream != NULL || has->queue != NULL;
    plan.max_items = plan.sink->max_items;
    plan.width = plan.sink->width != 0 ? plan.sink->width : WIDTH_DEFAULT;
    plan.max_message_bytes =
        smaller_unless_0(plan.sink->max_message_bytes, plan.sink->max_frame_bytes);
    plan.dedups_by_state = !plan.sink->dedups && slots[SLOT_STATE] != NULL &&
                           slots[SLOT_STATE]->kv_cas != NULL && slots[SLOT_STATE]->kv_ttl != NULL;
    if (slots[SLOT_OBJECT] != NULL)
        plan.object = slots[SLOT_OBJECT]->kv_basic;
    return plan;
}

enum pattern_how producer_how(const struct producer_plan *plan,
                              const struct producer_operation *row)
{
    const struct message_sink *sink = plan->sink;

    if (sink == NULL)
        return PATTERN_UNAVAILABLE;
    switch (row->need) {
    case NEED_KEYED:
        return sink->bare ? PATTERN_UNAVAILABLE : sink->keyed ? PATTERN_NATIVE : PATTERN_EMULATED;
    case NEED_HEADERS:
        return sink->bare ? PATTERN_UNAVAILABLE : PATTERN_NATIVE;
    case NEED_DEDUP:
        if (sink->dedups)
            return PATTERN_NATIVE;
        return plan->dedups_by_state ? PATTERN_EMULATED : PATTERN_UNAVAILABLE;
    case NEED_NULL_PAYLOAD:
        return sink->null_payload ? PATTERN_NATIVE : PATTERN_UNAVAILABLE;
    case NEED_CLAIM:
        return plan->object != NULL ? PATTERN_EMULATED : PATTERN_UNAVAILABLE;
    case NEED_ATOMIC:
        return sink->atomic_items > 0 ? PATTERN_NATIVE : PATTERN_UNAVAILABLE;
    case NEED_NOTHING:
    case NEED_COUNT:
        break;
    }
    return row->many && plan->max_items == 1 ? PATTERN_PIPELINED : PATTERN_NATIVE;
}

const struct need *producer_need_of(enum producer_need need)
{
    return &needs[need];
}

size_t producer_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                           struct pattern_operation *out, size_t max)
{
    const struct backend_interfaces *has[SLOT_COUNT] = {0};
    struct producer_plan plan;
    size_t n = 0;

    (void)emulate;
    for (size_t i = 0; i < SLOT_COUNT; i++)
        has[i] = slots[i] != NULL ? &slots[i]->interfaces : NULL;
    plan = producer_plan_make(has);
    for (const struct producer_operation *row = producer_operation_table; row->name; row++) {
        enum pattern_how how = producer_how(&plan, row);

        if (n == max)
            break;
        out[n++] = (struct pattern_operation){
            .name = row->name,
            .variant = row->variant,
            .how = how,
            .why = how != PATTERN_UNAVAILABLE ? NULL
                   : plan.sink == NULL        ? "no backend that takes messages in slot "
                                                "`message_sink`"
                                              : needs[row->need].why,
        };
    }
    return n;
}
