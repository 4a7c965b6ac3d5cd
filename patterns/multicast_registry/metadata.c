#include "patterns/multicast_registry/metadata.h"

/* ---- from the protocol ---- */

static void write_value(struct document_writer *writer, const Google__Protobuf__Value *value);

static void write_struct(struct document_writer *writer, const Google__Protobuf__Struct *from)
{
    document_begin(writer, DOCUMENT_STRUCT);
    for (size_t i = 0; from != NULL && i < from->n_fields && writer->err.code == ERR_OK; i++) {
        document_name(writer, slice_str(from->fields[i]->key));
        write_value(writer, from->fields[i]->value);
    }
    document_end(writer);
}

static void write_list(struct document_writer *writer, const Google__Protobuf__ListValue *from)
{
    document_begin(writer, DOCUMENT_LIST);
    for (size_t i = 0; i < from->n_values && writer->err.code == ERR_OK; i++)
        write_value(writer, from->values[i]);
    document_end(writer);
}

/* Nesting is bounded by the writer: beyond DOCUMENT_DEPTH it has an error, and nobody goes on. */
static void write_value(struct document_writer *writer, const Google__Protobuf__Value *value)
{
    switch (value != NULL ? value->kind_case : GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        document_number(writer, value->number_value);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        document_string(writer, slice_str(value->string_value));
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        document_bool(writer, value->bool_value);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        write_struct(writer, value->struct_value);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
        write_list(writer, value->list_value);
        return;
    default:
        document_null(writer);
        return;
    }
}

struct err metadata_read(struct arena *arena, const Google__Protobuf__Struct *metadata,
                         size_t max_bytes, struct slice *document)
{
    struct document_writer writer;

    document_start(&writer, arena, max_bytes);
    write_struct(&writer, metadata);

    struct err err = document_finish(&writer, document);

    if (err.code != ERR_OK)
        err.subject = "metadata";
    return err;
}

struct err metadata_read_value(struct arena *arena, const Google__Protobuf__Value *value,
                               size_t max_bytes, struct slice *out)
{
    struct document_writer writer;

    document_start(&writer, arena, max_bytes);
    write_value(&writer, value);
    return document_finish(&writer, out);
}

/* ---- to the protocol ---- */

static size_t count(struct slice container)
{
    struct document_walk walk = document_walk(container);
    size_t n = 0;

    while (document_next(&walk))
        n++;
    return n;
}

static Google__Protobuf__Value *read_value(struct arena *arena, struct slice value);

static Google__Protobuf__ListValue *read_list(struct arena *arena, struct slice list)
{
    Google__Protobuf__ListValue *out = arena_alloc(arena, sizeof *out);
    struct document_walk walk = document_walk(list);

    google__protobuf__list_value__init(out);
    out->n_values = count(list);
    out->values = arena_array(arena, out->n_values, sizeof *out->values);
    for (size_t i = 0; document_next(&walk); i++)
        out->values[i] = read_value(arena, walk.value);
    return out;
}

Google__Protobuf__Struct *metadata_write(struct arena *arena, struct slice document)
{
    Google__Protobuf__Struct *out = arena_alloc(arena, sizeof *out);
    struct document_walk walk = document_walk(document);

    google__protobuf__struct__init(out);
    out->n_fields = count(document);
    out->fields = arena_array(arena, out->n_fields, sizeof *out->fields);
    for (size_t i = 0; document_next(&walk); i++) {
        Google__Protobuf__Struct__FieldsEntry *field = arena_alloc(arena, sizeof *field);

        google__protobuf__struct__fields_entry__init(field);
        field->key = arena_strdup(arena, walk.name);
        field->value = read_value(arena, walk.value);
        out->fields[i] = field;
    }
    return out;
}

static Google__Protobuf__Value *read_value(struct arena *arena, struct slice value)
{
    Google__Protobuf__Value *out = arena_alloc(arena, sizeof *out);

    google__protobuf__value__init(out);
    switch (document_type_of(value)) {
    case DOCUMENT_FALSE:
    case DOCUMENT_TRUE:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        out->bool_value = document_type_of(value) == DOCUMENT_TRUE;
        break;
    case DOCUMENT_NUMBER:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        out->number_value = document_number_of(value);
        break;
    case DOCUMENT_STRING:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        out->string_value = arena_strdup(arena, document_payload(value));
        break;
    case DOCUMENT_LIST:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
        out->list_value = read_list(arena, value);
        break;
    case DOCUMENT_STRUCT:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
        out->struct_value = metadata_write(arena, value);
        break;
    case DOCUMENT_NULL:
    case DOCUMENT_TYPES:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
        break;
    }
    return out;
}
