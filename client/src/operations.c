#include "client/src/operations.h"

#include "client/src/error.h"

#include <stdlib.h>

typedef Prism__Patterns__Schemas__OperationCapability wire_operation;

const char *prism_performance_name(enum prism_performance performance)
{
    switch (performance) {
    case PRISM_NATIVE:
        return "NATIVE";
    case PRISM_PIPELINED:
        return "PIPELINED";
    case PRISM_EMULATED:
        return "EMULATED";
    case PRISM_CLIENT_SIDE:
        return "CLIENT_SIDE";
    case PRISM_UNAVAILABLE_OPERATION:
        return "UNAVAILABLE";
    case PRISM_PERFORMANCE_UNKNOWN:
        break;
    }
    return "UNKNOWN";
}

/* "" for numbers that this library does not know, and for "unspecified". */
static const char *enum_name(const ProtobufCEnumDescriptor *descriptor, int value)
{
    const ProtobufCEnumValue *found =
        value == 0 ? NULL : protobuf_c_enum_descriptor_get_value(descriptor, value);

    return found != NULL ? found->name : "";
}

static enum prism_performance implementation(int value)
{
    switch (value) {
    case PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__NATIVE:
        return PRISM_NATIVE;
    case PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__PIPELINED:
        return PRISM_PIPELINED;
    case PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__EMULATED:
        return PRISM_EMULATED;
    case PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__CLIENT_SIDE:
        return PRISM_CLIENT_SIDE;
    default:
        return PRISM_PERFORMANCE_UNKNOWN;
    }
}

static struct prism_operation operation_from(const wire_operation *wire)
{
    const Prism__Patterns__Schemas__OperationLimits *limits = wire->limits;
    struct prism_operation operation = {
        .name = wire->operation,
        .variant = wire->variant,
        .available = wire->availability == PRISM__PATTERNS__SCHEMAS__AVAILABILITY__AVAILABLE,
        .how = implementation((int)wire->how),
        .backend_calls = wire->backend_calls,
        .atomicity =
            enum_name(&prism__patterns__schemas__atomicity__descriptor, (int)wire->atomicity),
        .ordering = enum_name(&prism__patterns__schemas__ordering__descriptor, (int)wire->ordering),
        .acknowledgement = enum_name(&prism__patterns__schemas__acknowledgement__descriptor,
                                     (int)wire->acknowledgement),
        .reason = wire->unavailable_reason ? wire->unavailable_reason->message : "",
    };

    if (!operation.available)
        operation.how = PRISM_UNAVAILABLE_OPERATION;
    if (limits != NULL) { /* absent numbers are 0, which means the same here */
        operation.max_items = limits->max_items;
        operation.max_page = limits->max_limit;
    }
    return operation;
}

const struct prism_operation *operations_from(wire_operation *const *wire, size_t n)
{
    struct prism_operation *operations = alloc_zeroed(n, sizeof *operations);

    for (size_t i = 0; i < n; i++)
        operations[i] = operation_from(wire[i]);
    return operations;
}

void operations_free(const struct prism_operation *operations)
{
    free((void *)(uintptr_t)operations);
}
