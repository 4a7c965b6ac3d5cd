/* Metadata on its way between the protocol (google.protobuf.Struct) and registries (documents). */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_METADATA_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_METADATA_H

#include "google/protobuf/struct.pb-c.h"
#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/filter/document.h"

#include <stddef.h>

/* NULL: the struct without fields. The text of an error is static, about "metadata". */
struct err metadata_read(struct arena *arena, const Google__Protobuf__Struct *metadata,
                         size_t max_bytes, struct slice *document);

/* One value; NULL or not set: null. Errors about nothing in particular. */
struct err metadata_read_value(struct arena *arena, const Google__Protobuf__Value *value,
                               size_t max_bytes, struct slice *out);

/* In the arena; refers to nothing of the document. About ten times as large as that. */
Google__Protobuf__Struct *metadata_write(struct arena *arena, struct slice document);

#endif
