/* The generated message types by names that can be read: pb_ of the pattern's protocol, old_ of the
 * deprecated one, schema_ of what all patterns share. */
#ifndef PRISM_PATTERNS_KEYVALUE_MESSAGES_H
#define PRISM_PATTERNS_KEYVALUE_MESSAGES_H

#include "prism/interfaces/keyvalue/keyvalue_basic.pb-c.h"
#include "prism/interfaces/keyvalue/keyvalue_batch.pb-c.h"
#include "prism/interfaces/keyvalue/keyvalue_scan.pb-c.h"
#include "prism/interfaces/keyvalue/keyvalue_ttl.pb-c.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"
#include "prism/patterns/schemas/slot_schema.pb-c.h"

#define pb_capabilities              Prism__Patterns__Keyvalue__Capabilities
#define pb_clear_expiration_request  Prism__Patterns__Keyvalue__ClearExpirationRequest
#define pb_clear_expiration_response Prism__Patterns__Keyvalue__ClearExpirationResponse
#define pb_count_request             Prism__Patterns__Keyvalue__CountRequest
#define pb_count_response            Prism__Patterns__Keyvalue__CountResponse
#define pb_exists_request            Prism__Patterns__Keyvalue__ExistsRequest
#define pb_exists_response           Prism__Patterns__Keyvalue__ExistsResponse
#define pb_get_capabilities_request  Prism__Patterns__Keyvalue__GetCapabilitiesRequest
#define pb_get_expiration_request    Prism__Patterns__Keyvalue__GetExpirationRequest
#define pb_get_expiration_response   Prism__Patterns__Keyvalue__GetExpirationResponse
#define pb_precondition              Prism__Patterns__Keyvalue__Precondition
#define pb_remove_batch_request      Prism__Patterns__Keyvalue__RemoveBatchRequest
#define pb_remove_batch_response     Prism__Patterns__Keyvalue__RemoveBatchResponse
#define pb_remove_request            Prism__Patterns__Keyvalue__RemoveRequest
#define pb_remove_response           Prism__Patterns__Keyvalue__RemoveResponse
#define pb_retrieve_batch_request    Prism__Patterns__Keyvalue__RetrieveBatchRequest
#define pb_retrieve_batch_response   Prism__Patterns__Keyvalue__RetrieveBatchResponse
#define pb_retrieve_request          Prism__Patterns__Keyvalue__RetrieveRequest
#define pb_retrieve_response         Prism__Patterns__Keyvalue__RetrieveResponse
#define pb_scan_request              Prism__Patterns__Keyvalue__ScanRequest
#define pb_scan_response             Prism__Patterns__Keyvalue__ScanResponse
#define pb_set_expiration_request    Prism__Patterns__Keyvalue__SetExpirationRequest
#define pb_set_expiration_response   Prism__Patterns__Keyvalue__SetExpirationResponse
#define pb_slot_configuration        Prism__Patterns__Keyvalue__SlotConfiguration
#define pb_store_batch_request       Prism__Patterns__Keyvalue__StoreBatchRequest
#define pb_store_batch_response      Prism__Patterns__Keyvalue__StoreBatchResponse
#define pb_store_request             Prism__Patterns__Keyvalue__StoreRequest
#define pb_store_response            Prism__Patterns__Keyvalue__StoreResponse

#define old_batch_delete_request  Prism__Interfaces__Keyvalue__BatchDeleteRequest
#define old_batch_delete_response Prism__Interfaces__Keyvalue__BatchDeleteResponse
#define old_batch_get_request     Prism__Interfaces__Keyvalue__BatchGetRequest
#define old_batch_get_response    Prism__Interfaces__Keyvalue__BatchGetResponse
#define old_batch_set_request     Prism__Interfaces__Keyvalue__BatchSetRequest
#define old_batch_set_response    Prism__Interfaces__Keyvalue__BatchSetResponse
#define old_count_request         Prism__Interfaces__Keyvalue__CountRequest
#define old_count_response        Prism__Interfaces__Keyvalue__CountResponse
#define old_delete_request        Prism__Interfaces__Keyvalue__DeleteRequest
#define old_delete_response       Prism__Interfaces__Keyvalue__DeleteResponse
#define old_exists_request        Prism__Interfaces__Keyvalue__ExistsRequest
#define old_exists_response       Prism__Interfaces__Keyvalue__ExistsResponse
#define old_expire_request        Prism__Interfaces__Keyvalue__ExpireRequest
#define old_expire_response       Prism__Interfaces__Keyvalue__ExpireResponse
#define old_get_request           Prism__Interfaces__Keyvalue__GetRequest
#define old_get_response          Prism__Interfaces__Keyvalue__GetResponse
#define old_get_ttl_request       Prism__Interfaces__Keyvalue__GetTTLRequest
#define old_get_ttl_response      Prism__Interfaces__Keyvalue__GetTTLResponse
#define old_key_response          Prism__Interfaces__Keyvalue__KeyResponse
#define old_persist_request       Prism__Interfaces__Keyvalue__PersistRequest
#define old_persist_response      Prism__Interfaces__Keyvalue__PersistResponse
#define old_scan_keys_request     Prism__Interfaces__Keyvalue__ScanKeysRequest
#define old_scan_request          Prism__Interfaces__Keyvalue__ScanRequest
#define old_scan_response         Prism__Interfaces__Keyvalue__ScanResponse
#define old_set_request           Prism__Interfaces__Keyvalue__SetRequest
#define old_set_response          Prism__Interfaces__Keyvalue__SetResponse

#define schema_acknowledgement      Prism__Patterns__Schemas__Acknowledgement
#define schema_atomicity            Prism__Patterns__Schemas__Atomicity
#define schema_implementation       Prism__Patterns__Schemas__Implementation
#define schema_operation_capability Prism__Patterns__Schemas__OperationCapability
#define schema_operation_limits     Prism__Patterns__Schemas__OperationLimits
#define schema_ordering             Prism__Patterns__Schemas__Ordering
#define schema_unavailable_reason   Prism__Patterns__Schemas__UnavailableReason

#endif
