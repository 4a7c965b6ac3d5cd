/* The descriptors that the build embeds, found by file, symbol and extension. Made once, never
 * changed: any thread may look things up. Bytes and names are borrowed from the index. */
#ifndef PRISM_SERVICES_REFLECTION_INDEX_H
#define PRISM_SERVICES_REFLECTION_INDEX_H

#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reflection_file {
    const char *name;      /* "prism/patterns/keyvalue/keyvalue_pattern.proto" */
    struct slice bytes;    /* an encoded FileDescriptorProto, in the set */
    const size_t *imports; /* indexes of files, all smaller than its own */
    size_t import_count;
};

struct reflection_symbol {
    const char *name; /* "prism.patterns.keyvalue.StoreRequest.key": no leading dot */
    size_t file;
};

struct reflection_extension {
    const char *extendee; /* no leading dot */
    int32_t number;
    size_t file;
};

struct reflection_index {
    struct reflection_file *files;
    struct reflection_symbol *symbols; /* sorted */
    struct reflection_extension *extensions;
    size_t file_count, symbol_count, extension_count;
    struct arena arena;
};

/* `set`: an encoded FileDescriptorSet, each file after those that it imports; borrowed for the
 * index's life. False: it is not one (the index is empty then, and to be cleared all the same). */
bool reflection_index_init(struct reflection_index *index, struct slice set);
void reflection_index_clear(struct reflection_index *index);

/* NULL: no such thing. */
const struct reflection_file *reflection_find_file(const struct reflection_index *index,
                                                   const char *name);
const struct reflection_file *reflection_find_symbol(const struct reflection_index *index,
                                                     const char *name);
const struct reflection_file *reflection_find_extension(const struct reflection_index *index,
                                                        const char *extendee, int32_t number);

/* The file and all that it imports, directly or not, each once, the file first. `out` has room for
 * file_count; `taken` for as many, all false. Returns how many. */
size_t reflection_closure(const struct reflection_index *index, const struct reflection_file *file,
                          const struct reflection_file **out, bool *taken);

#endif
