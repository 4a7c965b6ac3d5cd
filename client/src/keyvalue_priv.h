/* What the files of the KeyValue client share. */
#ifndef PRISM_CLIENT_KEYVALUE_PRIV_H
#define PRISM_CLIENT_KEYVALUE_PRIV_H

#include "client/src/rpc.h"
#include "prism/keyvalue.h"

#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"

#include <stdatomic.h>

enum keyvalue_method {
    KEYVALUE_GET_CAPABILITIES,
    KEYVALUE_STORE,
    KEYVALUE_RETRIEVE,
    KEYVALUE_REMOVE,
    KEYVALUE_EXISTS,
    KEYVALUE_STORE_BATCH,
    KEYVALUE_RETRIEVE_BATCH,
    KEYVALUE_REMOVE_BATCH,
    KEYVALUE_SCAN,
    KEYVALUE_SET_EXPIRATION,
    KEYVALUE_GET_EXPIRATION,
    KEYVALUE_CLEAR_EXPIRATION,
    KEYVALUE_COUNT,
    KEYVALUE_METHOD_COUNT
};

/* What a backend may lack. Each names an operation, or a variant of one, in the capabilities. */
enum keyvalue_feature {
    FEATURE_STORE_BATCH,
    FEATURE_RETRIEVE_BATCH,
    FEATURE_REMOVE_BATCH,
    FEATURE_SCAN,
    FEATURE_COUNT_KEYS,
    FEATURE_SET_EXPIRATION,
    FEATURE_GET_EXPIRATION,
    FEATURE_CLEAR_EXPIRATION,
    FEATURE_STORE_EXPIRATION,
    FEATURE_IF_ABSENT,
    FEATURE_IF_VERSION,
    FEATURE_ATOMIC_STORE_BATCH,
    FEATURE_ATOMIC_REMOVE_BATCH,
    FEATURE_COUNT
};

struct feature {
    bool available, emulated;
    const char *reason;        /* why it is not available; "" = not told */
    const char *backend_calls; /* "" = not told */
    atomic_bool warned;
};

struct prism_keyvalue {
    struct prism_channel *channel;
    void *registered[KEYVALUE_METHOD_COUNT];
    struct prism_keyvalue_capabilities capabilities; /* its texts live in answer */
    struct feature features[FEATURE_COUNT];
    Prism__Patterns__Keyvalue__Capabilities *answer;
};

/* ---- keyvalue.c ---- */

extern const struct rpc_method keyvalue_methods[KEYVALUE_METHOD_COUNT];

/* rpc_init and rpc_set_request for one of the methods. */
void keyvalue_prepare(struct rpc *rpc, struct prism_keyvalue *keyvalue, enum keyvalue_method method,
                      uint32_t deadline_ms, const ProtobufCMessage *request);

/* Runs a prepared call. On PRISM_OK rpc->response is there; otherwise the rpc is cleared. */
enum prism_code keyvalue_run(struct rpc *rpc, struct prism_error *error);

/* An outcome inside an answer: code 0 with text means an error without a number. Returns the code
 * and fills *error. */
enum prism_code keyvalue_outcome(struct prism_error *error, int32_t code, bool failed,
                                 const char *text);

enum prism_code keyvalue_check_key(const char *key, const char *field, struct prism_error *error);

/* Moves bytes out of a message, which will not free them. */
struct prism_buffer keyvalue_take_bytes(ProtobufCBinaryData *from);

ProtobufCBinaryData keyvalue_bytes(struct prism_bytes bytes);

/* ---- capabilities.c ---- */

/* Takes over the answer; fills capabilities and features. */
void capabilities_init(struct prism_keyvalue *keyvalue,
                       Prism__Patterns__Keyvalue__Capabilities *answer);
void capabilities_clear(struct prism_keyvalue *keyvalue);

/* PRISM_OK if the backend has the feature, after warning once if it is emulated; otherwise
 * PRISM_UNIMPLEMENTED with "<word> not supported by backend (<type>): <reason>". */
enum prism_code feature_require(struct prism_keyvalue *keyvalue, enum keyvalue_feature feature,
                                struct prism_error *error);

/* ---- keyvalue_item.c ---- */

/* Fills a StoreRequest, borrowing key, value and version; *precondition is part of it. Checks the
 * arguments and the features they need. */
struct store_request {
    Prism__Patterns__Keyvalue__StoreRequest message;
    Prism__Patterns__Keyvalue__Precondition precondition;
};

enum prism_code store_request_init(struct store_request *request, struct prism_keyvalue *keyvalue,
                                   const struct prism_store_item *item, struct prism_error *error);

/* From the answer to the result; *version and *value are set whatever the outcome. */
enum prism_code store_take(struct rpc *rpc, struct prism_buffer *version,
                           struct prism_error *error);
enum prism_code retrieve_take(struct rpc *rpc, struct prism_value *value,
                              struct prism_error *error);
enum prism_code remove_take(struct rpc *rpc, bool *existed, struct prism_error *error);

/* Checks arguments and prepares the call; the rpc is set up only with PRISM_OK. */
enum prism_code store_prepare(struct rpc *rpc, struct prism_keyvalue *keyvalue, const char *key,
                              struct prism_bytes value, const struct prism_store_options *options,
                              struct prism_error *error);
enum prism_code retrieve_prepare(struct rpc *rpc, struct prism_keyvalue *keyvalue, const char *key,
                                 const struct prism_retrieve_options *options,
                                 struct prism_error *error);
enum prism_code remove_prepare(struct rpc *rpc, struct prism_keyvalue *keyvalue, const char *key,
                               const struct prism_call_options *options, struct prism_error *error);

#endif
