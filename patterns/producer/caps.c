/* GetCapabilities: the plan, printed. Built when the pattern is bound and again when a backend's
 * facts change or a topic turns out to be lossy, and kept as packed bytes, so that answering is one
 * copy. */
#include "patterns/caps.h"
#include "patterns/producer/producer_priv.h"
#include "patterns/producer/whole.h"

#define CAPS(NAME) PRISM__PATTERNS__PRODUCER__##NAME

static const char *calls_of(const struct producer *producer, const struct producer_operation *row,
                            struct arena *arena)
{
    if (!row->writes)
        return "0";
    if (!row->many || row->need == NEED_ATOMIC)
        return "1";
    return producer->plan.max_items == 1
               ? "n"
               : arena_printf(arena, "ceil(n/%u)", producer->plan.max_items);
}

static schema_operation_limits *limits_of(const struct producer *producer,
                                          const struct producer_operation *row, struct arena *arena)
{
    schema_operation_limits *limits = caps_limits(arena);

    if (!row->writes)
        return NULL;
    CAPS_LIMIT(limits, max_key_bytes, MAX_KEY_BYTES, (int64_t)producer->topics.max_bytes);
    CAPS_LIMIT(limits, max_value_bytes, MAX_VALUE_BYTES, (int64_t)producer_max_payload(producer));
    if (row->need == NEED_ATOMIC) {
        CAPS_LIMIT(limits, max_items, MAX_ITEMS, whole_max_items(producer));
        CAPS_LIMIT(limits, max_batch_bytes, MAX_BATCH_BYTES, (int64_t)whole_max_bytes(producer));
    } else if (row->many) {
        CAPS_LIMIT(limits, max_items, MAX_ITEMS, producer->settings.max_batch_items);
        CAPS_LIMIT(limits, max_in_flight, MAX_IN_FLIGHT, (int32_t)producer->plan.width);
    }
    return limits;
}

static schema_operation_capability *operation_of(const struct producer *producer,
                                                 const struct producer_operation *row,
                                                 struct arena *arena)
{
    struct caps_operation operation = {
        .name = row->name,
        .variant = row->variant,
        .how = producer_how(&producer->plan, row),
        .unmet = producer_need_of(row->need),
    };

    if (operation.how == PATTERN_UNAVAILABLE)
        return caps_operation(&operation, arena);
    operation.calls = calls_of(producer, row, arena);
    operation.limits = limits_of(producer, row, arena);
    if (row->writes) {
        operation.atomicity = PRISM__PATTERNS__SCHEMAS__ATOMICITY__PER_ITEM;
        operation.ordering = producer->plan.sink->bare
                                 ? PRISM__PATTERNS__SCHEMAS__ORDERING__UNORDERED
                                 : PRISM__PATTERNS__SCHEMAS__ORDERING__PER_KEY_ORDER;
        operation.acknowledgement = producer->plan.keeps
                                        ? caps_ack((enum backend_ack)producer->caps_ack)
                                        : PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__MEMORY;
    }
    if (row->need == NEED_ATOMIC) {
        operation.atomicity = PRISM__PATTERNS__SCHEMAS__ATOMICITY__ALL_OR_NOTHING;
        operation.ordering = PRISM__PATTERNS__SCHEMAS__ORDERING__REQUEST_ORDER;
    }
    return caps_operation(&operation, arena);
}

static void describe_operations(const struct producer *producer, struct arena *arena,
                                pb_capabilities *caps)
{
    size_t n = 0;

    while (producer_operation_table[n].name != NULL)
        n++;
    caps->operations = arena_alloc(arena, n * sizeof *caps->operations);
    for (; caps->n_operations < n; caps->n_operations++)
        caps->operations[caps->n_operations] =
            operation_of(producer, &producer_operation_table[caps->n_operations], arena);
}

static pb_slot_configuration *slots_of(const struct producer *producer, struct arena *arena)
{
    pb_slot_configuration *slots = arena_alloc(arena, sizeof *slots);
    const struct backend *state = producer->binding.slots[SLOT_STATE];
    const struct backend *object = producer->binding.slots[SLOT_OBJECT];

    prism__patterns__producer__slot_configuration__init(slots);
    slots->sink_backend_type = pb_text(producer->sink->type->name);
    slots->sink_interfaces = caps_interfaces(producer->sink, arena, &slots->n_sink_interfaces);
    if (state != NULL) {
        slots->_state_backend_type_case =
            CAPS(SLOT_CONFIGURATION___STATE_BACKEND_TYPE_STATE_BACKEND_TYPE);
        slots->state_backend_type = pb_text(state->type->name);
    }
    if (object != NULL) {
        slots->_object_backend_type_case =
            CAPS(SLOT_CONFIGURATION___OBJECT_BACKEND_TYPE_OBJECT_BACKEND_TYPE);
        slots->object_backend_type = pb_text(object->type->name);
    }
    return slots;
}

/* Does what the store has acknowledged survive its own restart? */
static bool survives(const struct backend_store *store)
{
    schema_acknowledgement ack = caps_acknowledgement(store);

    return ack == PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__DISK ||
           ack == PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__QUORUM_DISK;
}

static void describe_dedup(const struct producer *producer, pb_capabilities *caps)
{
    const struct message_sink *sink = producer->plan.sink;
    uint64_t window_ms = sink->dedup_window_ms;

    caps->supports_deduplication = sink->dedups || producer->plan.dedups_by_state;
    if (!caps->supports_deduplication)
        return;
    caps->deduplication_survives_restart = sink->dedup_survives;
    caps->deduplication_compares_payload = sink->dedup_compares;
    if (producer->plan.dedups_by_state) {
        caps->deduplication_survives_restart = survives(producer->state->store);
        caps->deduplication_compares_payload = true;
        window_ms = producer->settings.dedup_window_ms;
    }
    caps->_deduplication_window_seconds_case =
        CAPS(CAPABILITIES___DEDUPLICATION_WINDOW_SECONDS_DEDUPLICATION_WINDOW_SECONDS);
    caps->deduplication_window_seconds = (int64_t)(window_ms / 1000);
    if (sink->dedup_max_ids != 0) {
        caps->_deduplication_max_ids_case =
            CAPS(CAPABILITIES___DEDUPLICATION_MAX_IDS_DEDUPLICATION_MAX_IDS);
        caps->deduplication_max_ids = (int64_t)sink->dedup_max_ids;
    }
}

static void describe_sink(const struct producer *producer, pb_capabilities *caps)
{
    const struct message_sink *sink = producer->plan.sink;

    caps->supports_ordering = !sink->bare;
    caps->supports_batching = true;
    caps->ordering_performance = sink->bare    ? CAPS(ORDERING_PERFORMANCE__ORDERING_UNAVAILABLE)
                                 : sink->keyed ? CAPS(ORDERING_PERFORMANCE__ORDERING_NATIVE)
                                               : CAPS(ORDERING_PERFORMANCE__ORDERING_EMULATED);
    caps->batch_performance = producer->plan.max_items > 1
                                  ? CAPS(BATCH_PERFORMANCE__BATCH_NATIVE)
                                  : CAPS(BATCH_PERFORMANCE__BATCH_PIPELINE);
    caps->delivery = producer->plan.keeps
                         ? PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_LEAST_ONCE
                         : PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_MOST_ONCE;
    caps->retention = producer->plan.keeps && !producer->caps_lossy
                          ? PRISM__PATTERNS__SCHEMAS__RETENTION__RETENTION_UNKNOWN
                          : PRISM__PATTERNS__SCHEMAS__RETENTION__RETENTION_LOSSY;
    caps->_max_message_size_case = CAPS(CAPABILITIES___MAX_MESSAGE_SIZE_MAX_MESSAGE_SIZE);
    caps->max_message_size = (int64_t)producer_max_payload(producer);
    if (sink->ack_means != NULL)
        caps->ack_means = pb_text(sink->ack_means);
    if (sink->partitioner != NULL)
        caps->partitioner = pb_text(sink->partitioner);
    describe_dedup(producer, caps);
    if (producer->plan.object != NULL) {
        caps->supports_claim_check = true;
        caps->supports_compression = producer->settings.claim_gzip;
        caps->_claim_check_threshold_case =
            CAPS(CAPABILITIES___CLAIM_CHECK_THRESHOLD_CLAIM_CHECK_THRESHOLD);
        caps->claim_check_threshold = (int64_t)producer->plan.claim_threshold;
    }
}

static pb_capabilities *describe(const struct producer *producer, struct arena *arena)
{
    pb_capabilities *caps = arena_alloc(arena, sizeof *caps);

    prism__patterns__producer__capabilities__init(caps);
    caps->slots = slots_of(producer, arena);
    describe_sink(producer, caps);
    caps->max_topic_bytes = (int32_t)producer->topics.max_bytes;
    caps->max_headers = producer->plan.sink->bare ? 0 : MESSAGE_HEADERS;
    caps->max_header_bytes = producer->plan.sink->bare ? 0 : MESSAGE_HEADER_BYTES;
    describe_operations(producer, arena, caps);
    caps->generation = caps_generation(&caps->base);
    return caps;
}

static bool is_lossy(const struct producer *producer)
{
    const struct retention_book *book = producer_retention(producer);

    return book != NULL && retention_is_lossy(book);
}

/* Of the whole store, if it says so, else of the topics that were published to. */
static int ack_of(const struct producer *producer)
{
    const struct retention_book *book = producer_retention(producer);
    int ack = atomic_load(&producer->sink->store->ack);

    return ack != BACKEND_ACK_UNKNOWN || book == NULL ? ack : (int)retention_ack(book);
}

void producer_caps_build(struct producer *producer)
{
    struct arena scratch;

    arena_clear(&producer->caps_memory);
    arena_init(&scratch, NULL);
    producer->caps_lossy = is_lossy(producer);
    producer->caps_ack = ack_of(producer);

    const pb_capabilities *caps = describe(producer, &scratch);

    producer->generation = caps->generation;
    producer->caps = caps_freeze(&caps->base, &producer->caps_memory);
    arena_clear(&scratch);
}

int64_t producer_generation(struct producer *producer)
{
    if (producer->caps == NULL || producer->caps_lossy != is_lossy(producer) ||
        producer->caps_ack != ack_of(producer))
        producer_caps_build(producer);
    return producer->generation;
}

void producer_get_capabilities(struct call *call)
{
    struct producer *producer = producer_of(call);

    producer_generation(producer);
    call_reply(call, producer->caps);
}
