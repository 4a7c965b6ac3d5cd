/* The KeyValue client object: its methods, opening (which asks for the capabilities), closing. */
#include "client/src/keyvalue_priv.h"

#include "client/src/channel.h"
#include "client/src/error.h"

#include <stdlib.h>
#include <string.h>

#define METHOD(name_, response_, reads_only_)                                                      \
    {                                                                                              \
        .name = name_, .path = "/prism.patterns.keyvalue.KeyValuePattern/" name_,                  \
        .response = &prism__patterns__keyvalue__##response_##__descriptor,                         \
        .reads_only = (reads_only_)                                                                \
    }

const struct rpc_method keyvalue_methods[KEYVALUE_METHOD_COUNT] = {
    [KEYVALUE_GET_CAPABILITIES] = METHOD("GetCapabilities", capabilities, true),
    [KEYVALUE_STORE] = METHOD("Store", store_response, false),
    [KEYVALUE_RETRIEVE] = METHOD("Retrieve", retrieve_response, true),
    [KEYVALUE_REMOVE] = METHOD("Remove", remove_response, false),
    [KEYVALUE_EXISTS] = METHOD("Exists", exists_response, true),
    [KEYVALUE_STORE_BATCH] = METHOD("StoreBatch", store_batch_response, false),
    [KEYVALUE_RETRIEVE_BATCH] = METHOD("RetrieveBatch", retrieve_batch_response, true),
    [KEYVALUE_REMOVE_BATCH] = METHOD("RemoveBatch", remove_batch_response, false),
    [KEYVALUE_SCAN] = METHOD("Scan", scan_response, true),
    [KEYVALUE_SET_EXPIRATION] = METHOD("SetExpiration", set_expiration_response, false),
    [KEYVALUE_GET_EXPIRATION] = METHOD("GetExpiration", get_expiration_response, true),
    [KEYVALUE_CLEAR_EXPIRATION] = METHOD("ClearExpiration", clear_expiration_response, false),
    [KEYVALUE_COUNT] = METHOD("Count", count_response, true),
};

enum prism_code prism_keyvalue_open(struct prism_channel *channel, struct prism_keyvalue **keyvalue,
                                    struct prism_error *error)
{
    Prism__Patterns__Keyvalue__GetCapabilitiesRequest request =
        PRISM__PATTERNS__KEYVALUE__GET_CAPABILITIES_REQUEST__INIT;
    struct prism_keyvalue *made = alloc_zeroed(1, sizeof *made);
    struct rpc rpc;
    enum prism_code code;

    *keyvalue = NULL;
    made->channel = channel;
    for (int i = 0; i < KEYVALUE_METHOD_COUNT; i++)
        made->registered[i] =
            grpc_channel_register_call(channel->grpc, keyvalue_methods[i].path, NULL, NULL);
    keyvalue_prepare(&rpc, made, KEYVALUE_GET_CAPABILITIES, 0, &request.base);
    code = keyvalue_run(&rpc, error);
    if (code != PRISM_OK) {
        free(made);
        return code;
    }
    capabilities_init(made, (Prism__Patterns__Keyvalue__Capabilities *)rpc.response);
    rpc.response = NULL;
    rpc_clear(&rpc);
    *keyvalue = made;
    return error_none(error);
}

void prism_keyvalue_close(struct prism_keyvalue *keyvalue)
{
    if (keyvalue == NULL)
        return;
    capabilities_clear(keyvalue);
    free(keyvalue);
}

void keyvalue_prepare(struct rpc *rpc, struct prism_keyvalue *keyvalue, enum keyvalue_method method,
                      uint32_t deadline_ms, const ProtobufCMessage *request)
{
    rpc_init(rpc, keyvalue->channel, &keyvalue_methods[method], keyvalue->registered[method],
             deadline_ms);
    rpc_set_request(rpc, request);
}

enum prism_code keyvalue_run(struct rpc *rpc, struct prism_error *error)
{
    if (rpc_run(rpc) == PRISM_OK)
        return error_none(error);
    rpc_clear(rpc);
    return error_copy(error, &rpc->error);
}

enum prism_code keyvalue_outcome(struct prism_error *error, int32_t code, bool failed,
                                 const char *text)
{
    enum prism_code number = PRISM_UNKNOWN;

    if (code == 0 && !failed)
        return error_none(error);
    if (code > 0 && code <= PRISM_UNAUTHENTICATED)
        number = (enum prism_code)code;
    return error_set(error, number, "%s",
                     text != NULL && *text != '\0' ? text : "the server gives no reason");
}

enum prism_code keyvalue_check_key(const char *key, const char *field, struct prism_error *error)
{
    if (key == NULL || *key == '\0')
        return error_about(error, field, "%s must not be empty", field);
    return PRISM_OK;
}

struct prism_buffer keyvalue_take_bytes(ProtobufCBinaryData *from)
{
    struct prism_buffer buffer = {.data = from->data, .len = from->len};

    *from = (ProtobufCBinaryData){0};
    return buffer;
}

ProtobufCBinaryData keyvalue_bytes(struct prism_bytes bytes)
{
    /* protobuf-c does not write to what it packs. */
    return (ProtobufCBinaryData){.len = bytes.len, .data = (uint8_t *)(uintptr_t)bytes.data};
}
