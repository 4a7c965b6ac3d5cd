#include "patterns/caps.h"

#include <stdlib.h>

schema_acknowledgement caps_acknowledgement(const struct backend_store *store)
{
    return caps_ack((enum backend_ack)atomic_load(&store->ack));
}

schema_acknowledgement caps_ack(enum backend_ack ack)
{
    switch (ack) {
    case BACKEND_ACK_MEMORY:
        return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__MEMORY;
    case BACKEND_ACK_DISK:
        return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__DISK;
    case BACKEND_ACK_QUORUM_MEMORY:
        return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__QUORUM_MEMORY;
    case BACKEND_ACK_QUORUM_DISK:
        return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__QUORUM_DISK;
    case BACKEND_ACK_UNKNOWN:
        break;
    }
    return PRISM__PATTERNS__SCHEMAS__ACKNOWLEDGEMENT__UNKNOWN;
}

schema_operation_limits *caps_limits(struct arena *arena)
{
    schema_operation_limits *limits = arena_alloc(arena, sizeof *limits);

    prism__patterns__schemas__operation_limits__init(limits);
    return limits;
}

static size_t count_types(void)
{
    size_t n = 0;

    while (backend_all()[n] != NULL)
        n++;
    return n;
}

static schema_unavailable_reason *reason_of(const struct need *need, struct arena *arena)
{
    schema_unavailable_reason *reason = arena_alloc(arena, sizeof *reason);
    const struct backend_type *const *types = backend_all();

    prism__patterns__schemas__unavailable_reason__init(reason);
    reason->message = pb_text(need->text);
    if (need->interface == BACKEND_INTERFACE_COUNT)
        return reason;
    reason->missing_interface = pb_text(backend_interface_name(need->interface));
    reason->provided_by = arena_alloc(arena, (count_types() + 1) * sizeof *reason->provided_by);
    for (size_t i = 0; types[i] != NULL; i++) {
        if (backend_offers(&types[i]->interfaces, need->interface))
            reason->provided_by[reason->n_provided_by++] = pb_text(types[i]->name);
    }
    if (need->emulatable)
        reason->provided_by[reason->n_provided_by++] =
            arena_printf(arena, "emulate: [%s]", backend_interface_key(need->interface));
    return reason;
}

schema_operation_capability *caps_operation(const struct caps_operation *row, struct arena *arena)
{
    static const schema_implementation implementations[] = {
        [PATTERN_NATIVE] = PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__NATIVE,
        [PATTERN_PIPELINED] = PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__PIPELINED,
        [PATTERN_EMULATED] = PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__EMULATED,
    };
    schema_operation_capability *operation = arena_alloc(arena, sizeof *operation);

    prism__patterns__schemas__operation_capability__init(operation);
    operation->operation = pb_text(row->name);
    if (row->variant != NULL)
        operation->variant = pb_text(row->variant);
    if (row->how == PATTERN_UNAVAILABLE) {
        operation->availability = PRISM__PATTERNS__SCHEMAS__AVAILABILITY__UNAVAILABLE;
        operation->unavailable_reason = reason_of(row->unmet, arena);
        return operation;
    }
    operation->availability = PRISM__PATTERNS__SCHEMAS__AVAILABILITY__AVAILABLE;
    operation->how = implementations[row->how];
    operation->backend_calls = pb_text(row->calls);
    operation->atomicity = row->atomicity;
    operation->ordering = row->ordering;
    operation->acknowledgement = row->acknowledgement;
    operation->limits = row->limits;
    if (row->eviction != BACKEND_EVICTION_UNKNOWN) {
        operation->_may_be_evicted_case =
            PRISM__PATTERNS__SCHEMAS__OPERATION_CAPABILITY___MAY_BE_EVICTED_MAY_BE_EVICTED;
        operation->may_be_evicted = row->eviction == BACKEND_EVICTION_POSSIBLE;
    }
    return operation;
}

char **caps_interfaces(const struct backend *backend, struct arena *arena, size_t *n)
{
    char **names = arena_alloc(arena, BACKEND_INTERFACE_COUNT * sizeof *names);

    *n = 0;
    for (int i = 0; i < BACKEND_INTERFACE_COUNT; i++) {
        if (backend_offers(&backend->has, (enum backend_interface)i))
            names[(*n)++] = pb_text(backend_interface_name((enum backend_interface)i));
    }
    return names;
}

/* FNV-1a of the packed message. The same capabilities have the same generation on every server. */
int64_t caps_generation(const ProtobufCMessage *caps)
{
    const uint64_t offset_basis = 14695981039346656037u, prime = 1099511628211u;
    struct arena scratch;
    uint64_t hash = offset_basis;

    arena_init(&scratch, NULL);

    size_t bytes = protobuf_c_message_get_packed_size(caps);
    uint8_t *packed = arena_alloc(&scratch, bytes);

    protobuf_c_message_pack(caps, packed);
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ packed[i]) * prime;
    arena_clear(&scratch);
    hash &= INT64_MAX;
    return hash != 0 ? (int64_t)hash : 1;
}

/* An otherwise empty message whose one unknown field is all of the packed one: its first field's
 * tag, and as "data" the rest, length included. */
ProtobufCMessage *caps_freeze(const ProtobufCMessage *caps, struct arena *arena)
{
    enum { TYPE_BITS = 3, ONE_BYTE_TAGS = 0x80 };
    size_t bytes = protobuf_c_message_get_packed_size(caps);
    uint8_t *packed = arena_alloc(arena, bytes);
    ProtobufCMessageUnknownField *all = arena_zalloc(arena, sizeof *all);
    ProtobufCMessage *frozen = arena_alloc(arena, caps->descriptor->sizeof_message);

    protobuf_c_message_pack(caps, packed);
    if (bytes == 0 || packed[0] >= ONE_BYTE_TAGS ||
        (packed[0] & ((1 << TYPE_BITS) - 1)) != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
        abort();
    all->tag = packed[0] >> TYPE_BITS;
    all->wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    all->data = packed + 1;
    all->len = bytes - 1;
    caps->descriptor->message_init(frozen);
    frozen->n_unknown_fields = 1;
    frozen->unknown_fields = all;
    return frozen;
}
