/* GetCapabilities: the plan, printed. Built when the pattern is bound and again when a backend's
 * facts change or a topic turns out to be lossy, and kept as packed bytes, so that answering is one
 * copy. */
#include "patterns/caps.h"
#include "patterns/consumer/consumer_priv.h"

/* What attempts outlive is for whoever keeps them to say: memory goes with its process. */
static void describe_keeper(const struct consumer *consumer, struct caps_operation *operation)
{
    const struct backend *keeper =
        consumer->plan.state != NULL ? consumer->states : consumer->source;

    operation->acknowledgement = caps_acknowledgement(keeper->store);
    operation->eviction = (enum backend_eviction)atomic_load(&keeper->store->eviction);
}

static schema_operation_capability *operation_of(const struct consumer *consumer,
                                                 const struct consumer_operation *row,
                                                 struct arena *arena)
{
    struct caps_operation operation = {
        .name = row->name,
        .variant = row->variant,
        .how = consumer_how(&consumer->plan, row->need),
        .unmet = consumer_need_of(row->need),
        .calls = "1",
    };

    if (operation.how == PATTERN_UNAVAILABLE)
        return caps_operation(&operation, arena);
    operation.limits = caps_limits(arena);
    CAPS_LIMIT(operation.limits, max_key_bytes, MAX_KEY_BYTES, (int64_t)consumer->topics.max_bytes);
    CAPS_LIMIT(operation.limits, max_in_flight, MAX_IN_FLIGHT,
               (int32_t)consumer->settings.max_in_flight);
    operation.atomicity = PRISM__PATTERNS__SCHEMAS__ATOMICITY__PER_ITEM;
    operation.ordering = PRISM__PATTERNS__SCHEMAS__ORDERING__PER_KEY_ORDER;
    if (row->need == NEED_ATTEMPTS)
        describe_keeper(consumer, &operation);
    return caps_operation(&operation, arena);
}

static void describe_operations(const struct consumer *consumer, struct arena *arena,
                                pb_consumer_capabilities *caps)
{
    size_t n = 0;

    while (consumer_operation_table[n].name != NULL)
        n++;
    caps->operations = arena_alloc(arena, n * sizeof *caps->operations);
    for (; caps->n_operations < n; caps->n_operations++)
        caps->operations[caps->n_operations] =
            operation_of(consumer, &consumer_operation_table[caps->n_operations], arena);
}

static pb_consumer_slots *slots_of(const struct consumer *consumer, struct arena *arena)
{
    pb_consumer_slots *slots = arena_alloc(arena, sizeof *slots);

    prism__patterns__consumer__slot_configuration__init(slots);
    slots->source_backend_type = pb_text(consumer->source->type->name);
    slots->source_interfaces =
        caps_interfaces(consumer->source, arena, &slots->n_source_interfaces);
    if (consumer->dead != NULL) {
        slots->_dead_letter_backend_type_case =
            CONSUMER_PB(SLOT_CONFIGURATION___DEAD_LETTER_BACKEND_TYPE_DEAD_LETTER_BACKEND_TYPE);
        slots->dead_letter_backend_type = pb_text(consumer->dead->type->name);
    }
    if (consumer->states != NULL) {
        slots->_state_backend_type_case =
            CONSUMER_PB(SLOT_CONFIGURATION___STATE_BACKEND_TYPE_STATE_BACKEND_TYPE);
        slots->state_backend_type = pb_text(consumer->states->type->name);
    }
    if (consumer->objects != NULL) {
        slots->_object_backend_type_case =
            CONSUMER_PB(SLOT_CONFIGURATION___OBJECT_BACKEND_TYPE_OBJECT_BACKEND_TYPE);
        slots->object_backend_type = pb_text(consumer->objects->type->name);
    }
    return slots;
}

static void describe_mode(const struct consumer *consumer, pb_consumer_capabilities *caps)
{
    const struct consumer_plan *plan = &consumer->plan;
    bool keeps = plan->from.settling != NULL;

    caps->stateful = plan->from.stream != NULL;
    caps->mode = caps->supports_dead_letter && caps->stateful
                     ? CONSUMER_PB(CONSUMER_MODE__FULL_DURABILITY)
                 : caps->stateful ? CONSUMER_PB(CONSUMER_MODE__STATEFUL)
                                  : CONSUMER_PB(CONSUMER_MODE__STATELESS);
    caps->replay_performance = caps->supports_replay
                                   ? CONSUMER_PB(REPLAY_PERFORMANCE__REPLAY_NATIVE)
                                   : CONSUMER_PB(REPLAY_PERFORMANCE__REPLAY_UNAVAILABLE);
    caps->ack_performance = !keeps ? CONSUMER_PB(ACK_PERFORMANCE__ACK_UNAVAILABLE)
                            : plan->from.settling->single
                                ? CONSUMER_PB(ACK_PERFORMANCE__ACK_NATIVE)
                                : CONSUMER_PB(ACK_PERFORMANCE__ACK_EMULATED);
    caps->delivery = keeps ? PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_LEAST_ONCE
                           : PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_MOST_ONCE;
    caps->retention = keeps && !consumer->caps_lossy
                          ? PRISM__PATTERNS__SCHEMAS__RETENTION__RETENTION_UNKNOWN
                          : PRISM__PATTERNS__SCHEMAS__RETENTION__RETENTION_LOSSY;
    caps->ack_means = pb_text(keeps ? "the source has taken the settlement: the group does not get "
                                      "the message again"
                                    : "messages count as done when they are sent");
}

static pb_consumer_capabilities *describe(const struct consumer *consumer, struct arena *arena)
{
    pb_consumer_capabilities *caps = arena_alloc(arena, sizeof *caps);
    const struct consumer_plan *plan = &consumer->plan;

    prism__patterns__consumer__capabilities__init(caps);
    caps->slots = slots_of(consumer, arena);
    caps->supports_consumer_groups = true;
    caps->supports_replay = consumer_meets(plan, NEED_REPLAY);
    caps->supports_acknowledgment = plan->from.settling != NULL;
    caps->supports_negative_ack = plan->from.settling != NULL;
    caps->supports_dead_letter = consumer_meets(plan, NEED_DEAD_LETTER);
    caps->supports_ordering = consumer_meets(plan, NEED_KEYED);
    describe_mode(consumer, caps);
    caps->max_attempts = (int32_t)consumer->settings.max_attempts;
    if (plan->from.settling != NULL) {
        caps->_max_lease_ms_case = CONSUMER_PB(CAPABILITIES___MAX_LEASE_MS_MAX_LEASE_MS);
        caps->max_lease_ms = (int64_t)consumer->settings.max_lease_ms;
    }
    describe_operations(consumer, arena, caps);
    caps->generation = caps_generation(&caps->base);
    return caps;
}

void consumer_caps_build(struct consumer *consumer)
{
    struct arena scratch;

    arena_clear(&consumer->caps_memory);
    arena_init(&scratch, NULL);
    consumer->caps_lossy = retention_is_lossy(shared_retention(consumer));

    const pb_consumer_capabilities *caps = describe(consumer, &scratch);

    consumer->generation = caps->generation;
    consumer->caps = caps_freeze(&caps->base, &consumer->caps_memory);
    arena_clear(&scratch);
}

int64_t consumer_generation(struct consumer *consumer)
{
    if (consumer->caps == NULL ||
        consumer->caps_lossy != retention_is_lossy(shared_retention(consumer)))
        consumer_caps_build(consumer);
    return consumer->generation;
}

void consumer_get_capabilities(struct call *call)
{
    struct consumer *consumer = consumer_of(call);

    consumer_generation(consumer);
    call_reply(call, consumer->caps);
}
