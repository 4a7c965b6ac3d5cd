/* Each file is unpacked once, its names are noted, and the unpacked form is dropped: what stays is
 * a table of names and, for the answers, the embedded bytes themselves. */
#include "src/services/reflection_index.h"

#include "google/protobuf/descriptor.pb-c.h"

#include <stdlib.h>
#include <string.h>

typedef Google__Protobuf__FileDescriptorProto file_proto;
typedef Google__Protobuf__DescriptorProto message_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;
typedef Google__Protobuf__FieldDescriptorProto field_proto;

struct builder {
    struct reflection_index *index;
    size_t file_room, symbol_room, extension_room;
    size_t file; /* the one being read */
};

static void *grown(void *items, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return items;
    *room = *room == 0 ? 64 : *room * 2;
    items = realloc(items, *room * size);
    if (items == NULL)
        abort();
    return items;
}

/* ---- names ---- */

static const char *add_symbol(struct builder *b, const char *scope, const char *name)
{
    struct reflection_index *index = b->index;
    const char *full =
        arena_printf(&index->arena, "%s%s%s", scope, scope[0] != '\0' ? "." : "", name);

    index->symbols =
        grown(index->symbols, index->symbol_count, &b->symbol_room, sizeof *index->symbols);
    index->symbols[index->symbol_count++] =
        (struct reflection_symbol){.name = full, .file = b->file};
    return full;
}

static void add_extensions(struct builder *b, const char *scope, field_proto *const *list, size_t n)
{
    struct reflection_index *index = b->index;

    for (size_t i = 0; i < n; i++) {
        struct slice extendee = slice_str(list[i]->extendee);

        if (extendee.len > 0 && extendee.data[0] == '.')
            extendee = slice_of(extendee.data + 1, extendee.len - 1);
        add_symbol(b, scope, list[i]->name);
        index->extensions = grown(index->extensions, index->extension_count, &b->extension_room,
                                  sizeof *index->extensions);
        index->extensions[index->extension_count++] = (struct reflection_extension){
            .extendee = arena_strdup(&index->arena, extendee),
            .number = list[i]->number,
            .file = b->file,
        };
    }
}

/* Values of an enum are siblings of it, as in C++. */
static void add_enum(struct builder *b, const char *scope, const enum_proto *type)
{
    add_symbol(b, scope, type->name);
    for (size_t i = 0; i < type->n_value; i++)
        add_symbol(b, scope, type->value[i]->name);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the built-in protocol nests */
static void add_message(struct builder *b, const char *scope, const message_proto *type)
{
    const char *full = add_symbol(b, scope, type->name);

    for (size_t i = 0; i < type->n_field; i++)
        add_symbol(b, full, type->field[i]->name);
    for (size_t i = 0; i < type->n_oneof_decl; i++)
        add_symbol(b, full, type->oneof_decl[i]->name);
    for (size_t i = 0; i < type->n_enum_type; i++)
        add_enum(b, full, type->enum_type[i]);
    add_extensions(b, full, type->extension, type->n_extension);
    for (size_t i = 0; i < type->n_nested_type; i++)
        add_message(b, full, type->nested_type[i]);
}

static void add_names(struct builder *b, const file_proto *file)
{
    const char *scope = file->package != NULL ? file->package : "";

    for (size_t i = 0; i < file->n_message_type; i++)
        add_message(b, scope, file->message_type[i]);
    for (size_t i = 0; i < file->n_enum_type; i++)
        add_enum(b, scope, file->enum_type[i]);
    add_extensions(b, scope, file->extension, file->n_extension);
    for (size_t s = 0; s < file->n_service; s++) {
        const char *service = add_symbol(b, scope, file->service[s]->name);

        for (size_t m = 0; m < file->service[s]->n_method; m++)
            add_symbol(b, service, file->service[s]->method[m]->name);
    }
}

/* ---- files ---- */

/* The set is one field, repeated: tag 0x0a, a length, a FileDescriptorProto. False at the end, or
 * when something else comes. */
static bool next_file(struct slice *rest, struct slice *bytes)
{
    uint64_t len = 0;
    size_t at = 1;
    uint8_t octet = 0x80;

    if (rest->len < 2 || rest->data[0] != 0x0a)
        return false;
    for (unsigned shift = 0; octet >= 0x80 && at < rest->len && shift < 35; shift += 7) {
        octet = rest->data[at++];
        len |= (uint64_t)(octet & 0x7f) << shift;
    }
    if (octet >= 0x80 || len > rest->len - at)
        return false;
    *bytes = slice_of(rest->data + at, (size_t)len);
    *rest = slice_of(bytes->data + len, rest->len - at - (size_t)len);
    return true;
}

/* False: an import that did not come before. */
static bool add_imports(struct builder *b, struct reflection_file *file, const file_proto *proto)
{
    struct reflection_index *index = b->index;
    size_t *imports = arena_array(&index->arena, proto->n_dependency, sizeof *imports);

    file->imports = imports;
    file->import_count = proto->n_dependency;
    for (size_t i = 0; i < proto->n_dependency; i++) {
        const struct reflection_file *found = reflection_find_file(index, proto->dependency[i]);

        if (found == NULL)
            return false;
        imports[i] = (size_t)(found - index->files);
    }
    return true;
}

static bool add_file(struct builder *b, struct slice bytes)
{
    struct reflection_index *index = b->index;
    file_proto *proto =
        google__protobuf__file_descriptor_proto__unpack(NULL, bytes.len, bytes.data);
    struct reflection_file file = {.bytes = bytes};

    if (proto == NULL)
        return false;
    bool good = proto->name != NULL && add_imports(b, &file, proto);

    if (good) {
        file.name = arena_strdup(&index->arena, slice_str(proto->name));
        index->files = grown(index->files, index->file_count, &b->file_room, sizeof *index->files);
        b->file = index->file_count;
        index->files[index->file_count++] = file;
        add_names(b, proto);
    }
    google__protobuf__file_descriptor_proto__free_unpacked(proto, NULL);
    return good;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct reflection_symbol *)a)->name,
                  ((const struct reflection_symbol *)b)->name);
}

bool reflection_index_init(struct reflection_index *index, struct slice set)
{
    struct builder b = {.index = index};
    struct slice bytes;

    *index = (struct reflection_index){.files = NULL};
    arena_init(&index->arena, NULL);
    while (next_file(&set, &bytes)) {
        if (!add_file(&b, bytes)) {
            reflection_index_clear(index);
            return false;
        }
    }
    if (set.len > 0 || index->file_count == 0) {
        reflection_index_clear(index);
        return false;
    }
    if (index->symbol_count > 0)
        qsort(index->symbols, index->symbol_count, sizeof *index->symbols, by_name);
    return true;
}

void reflection_index_clear(struct reflection_index *index)
{
    free(index->files);
    free(index->symbols);
    free(index->extensions);
    arena_clear(&index->arena);
    *index = (struct reflection_index){.files = NULL};
}

/* ---- look-ups ---- */

const struct reflection_file *reflection_find_file(const struct reflection_index *index,
                                                   const char *name)
{
    for (size_t i = 0; i < index->file_count; i++)
        if (strcmp(index->files[i].name, name) == 0)
            return &index->files[i];
    return NULL;
}

const struct reflection_file *reflection_find_symbol(const struct reflection_index *index,
                                                     const char *name)
{
    const struct reflection_symbol key = {.name = name};
    const struct reflection_symbol *found = NULL;

    if (index->symbol_count > 0)
        found = bsearch(&key, index->symbols, index->symbol_count, sizeof key, by_name);
    return found != NULL ? &index->files[found->file] : NULL;
}

const struct reflection_file *reflection_find_extension(const struct reflection_index *index,
                                                        const char *extendee, int32_t number)
{
    for (size_t i = 0; i < index->extension_count; i++) {
        const struct reflection_extension *e = &index->extensions[i];

        if (e->number == number && strcmp(e->extendee, extendee) == 0)
            return &index->files[e->file];
    }
    return NULL;
}

size_t reflection_closure(const struct reflection_index *index, const struct reflection_file *file,
                          const struct reflection_file **out, bool *taken)
{
    size_t n = 0;

    out[n++] = file;
    taken[file - index->files] = true;
    for (size_t done = 0; done < n; done++) {
        for (size_t i = 0; i < out[done]->import_count; i++) {
            size_t import = out[done]->imports[i];

            if (!taken[import])
                out[n++] = &index->files[import];
            taken[import] = true;
        }
    }
    return n;
}
