/* Errors to gRPC: the only place that maps. Codes need no table, theirs are ours. Details go along
 * as google.rpc.Status in grpc-status-details-bin: BadRequest for a field, ErrorInfo for a missing
 * interface, an exhausted limit or whether something may have happened, RetryInfo for when to come
 * again. */
#include "src/rpc/rpc_priv.h"

#include "google/protobuf/any.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

#include <grpc/slice.h>

enum { MAX_DETAILS = 3, DETAIL_BYTES = 1024 };

struct details {
    Google__Protobuf__Any any[MAX_DETAILS];
    Google__Protobuf__Any *list[MAX_DETAILS];
    uint8_t bytes[MAX_DETAILS][DETAIL_BYTES];
    size_t n;
};

grpc_status_code status_code(enum err_code code)
{
    return (grpc_status_code)code;
}

static void add_detail(struct details *d, char *type_url, const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);

    if (bytes > DETAIL_BYTES)
        return; /* the text says the same */
    google__protobuf__any__init(&d->any[d->n]);
    protobuf_c_message_pack(message, d->bytes[d->n]);
    d->any[d->n].type_url = type_url;
    d->any[d->n].value = (ProtobufCBinaryData){.data = d->bytes[d->n], .len = bytes};
    d->list[d->n] = &d->any[d->n];
    d->n++;
}

static void add_field(struct details *d, struct err err)
{
    Google__Rpc__BadRequest__FieldViolation violation =
        GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};
    Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;

    violation.field = (char *)(uintptr_t)err.subject;
    violation.description = (char *)(uintptr_t)err.text;
    bad.n_field_violations = 1;
    bad.field_violations = violations;
    add_detail(d, "type.googleapis.com/google.rpc.BadRequest", &bad.base);
}

/* Said where clients have to decide by it: "none" only of the code that a broken connection has,
 * too. */
static char *effect_of(struct err err)
{
    if (err.effect == EFFECT_UNKNOWN)
        return "unknown";
    return err.code == ERR_UNAVAILABLE ? "none" : NULL;
}

static void add_info(struct details *d, struct err err)
{
    Google__Rpc__ErrorInfo__MetadataEntry list[2];
    Google__Rpc__ErrorInfo__MetadataEntry *entries[] = {&list[0], &list[1]};
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;

    google__rpc__error_info__metadata_entry__init(&list[0]);
    google__rpc__error_info__metadata_entry__init(&list[1]);
    if (err.subject != NULL && err.code != ERR_INVALID_ARGUMENT) {
        list[info.n_metadata].key = err.code == ERR_UNIMPLEMENTED ? "interface" : "subject";
        list[info.n_metadata++].value = (char *)(uintptr_t)err.subject;
    }
    if (effect_of(err) != NULL) {
        list[info.n_metadata].key = "effect";
        list[info.n_metadata++].value = effect_of(err);
    }
    if (info.n_metadata == 0)
        return;
    info.reason = err.code == ERR_UNIMPLEMENTED        ? "INTERFACE_NOT_OFFERED"
                  : err.code == ERR_RESOURCE_EXHAUSTED ? "LIMIT_EXHAUSTED"
                                                       : (char *)(uintptr_t)err_code_name(err.code);
    info.domain = "prism";
    info.metadata = entries;
    add_detail(d, "type.googleapis.com/google.rpc.ErrorInfo", &info.base);
}

static void add_retry(struct details *d, struct err err)
{
    Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;
    Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;

    delay.seconds = err.retry_after_ms / 1000;
    delay.nanos = (int32_t)(err.retry_after_ms % 1000) * 1000000;
    retry.retry_delay = &delay;
    add_detail(d, "type.googleapis.com/google.rpc.RetryInfo", &retry.base);
}

static grpc_slice pack_details(struct err err)
{
    struct details d = {.n = 0};
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;

    if (err.subject != NULL && err.code == ERR_INVALID_ARGUMENT)
        add_field(&d, err);
    add_info(&d, err);
    if (err.retry_after_ms != 0)
        add_retry(&d, err);
    if (d.n == 0)
        return grpc_empty_slice();
    status.code = (int32_t)err.code;
    status.message = (char *)(uintptr_t)err.text;
    status.n_details = d.n;
    status.details = d.list;

    grpc_slice slice = grpc_slice_malloc(google__rpc__status__get_packed_size(&status));

    google__rpc__status__pack(&status, GRPC_SLICE_START_PTR(slice));
    return slice;
}

struct ending status_ending(struct err err)
{
    if (err.text == NULL)
        err.text = err_code_name(err.code);
    return (struct ending){.code = err.code,
                           .text = grpc_slice_from_copied_string(err.text),
                           .details = pack_details(err)};
}
