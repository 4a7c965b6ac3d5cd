/* Reflection reads the descriptors that the build embeds, once, into a sorted index of symbols; answers point into the
 * embedded bytes. v1 and v1alpha have the same messages on the wire, so both services share the handler and v1's types.
 *
 * A stream answers one request after the other: receive, answer, send, receive. Each answer is built in an arena of its own,
 * because a client may keep the stream for long. */
#include "src/services/reflection.h"

#include "src/base/container.h"

#include "google/protobuf/descriptor.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "prism_descriptors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;
typedef Google__Protobuf__FileDescriptorProto file_proto;
typedef Google__Protobuf__DescriptorProto message_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;
typedef Google__Protobuf__FieldDescriptorProto field_proto;

#define CASE(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name

struct file {
    struct slice bytes; /* in the embedded set */
    file_proto *proto;
};

struct symbol {
    const char *name; /* without a leading dot */
    size_t file;
};

struct extension {
    const char *extendee;
    int32_t number;
    size_t file;
};

struct reflection {
    const struct service *const *services;
    size_t service_count;
    struct file *files;
    size_t file_count;
    struct symbol *symbols;
    size_t symbol_count, symbol_room;
    struct extension *extensions;
    size_t extension_count, extension_room;
    struct arena arena; /* names */
};

/* ---- reading the embedded set ---- */

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

static const char *add_symbol(struct reflection *r, size_t file, const char *scope, const char *name)
{
    const char *full = arena_printf(&r->arena, "%s%s%s", scope, scope[0] != '\0' ? "." : "", name);

    r->symbols = grown(r->symbols, r->symbol_count, &r->symbol_room, sizeof *r->symbols);
    r->symbols[r->symbol_count++] = (struct symbol){.name = full, .file = file};
    return full;
}

static void add_extensions(struct reflection *r, size_t file, const char *scope, field_proto *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *extendee = list[i]->extendee;

        add_symbol(r, file, scope, list[i]->name);
        r->extensions = grown(r->extensions, r->extension_count, &r->extension_room, sizeof *r->extensions);
        r->extensions[r->extension_count++] = (struct extension){
            .extendee = extendee[0] == '.' ? extendee + 1 : extendee, .number = list[i]->number, .file = file};
    }
}

/* Values of an enum are siblings of it, as in C++. */
static void add_enum(struct reflection *r, size_t file, const char *scope, const enum_proto *type)
{
    add_symbol(r, file, scope, type->name);
    for (size_t i = 0; i < type->n_value; i++)
        add_symbol(r, file, scope, type->value[i]->name);
}

/* Recursion is bounded by how deep the built-in protocol nests. */
static void add_message(struct reflection *r, size_t file, const char *scope, const message_proto *type)
{
    const char *full = add_symbol(r, file, scope, type->name);

    for (size_t i = 0; i < type->n_field; i++)
        add_symbol(r, file, full, type->field[i]->name);
    for (size_t i = 0; i < type->n_enum_type; i++)
        add_enum(r, file, full, type->enum_type[i]);
    add_extensions(r, file, full, type->extension, type->n_extension);
    for (size_t i = 0; i < type->n_nested_type; i++)
        add_message(r, file, full, type->nested_type[i]);
}

static void add_file(struct reflection *r, size_t index)
{
    const file_proto *file = r->files[index].proto;
    const char *scope = file->package != NULL ? file->package : "";

    for (size_t i = 0; i < file->n_message_type; i++)
        add_message(r, index, scope, file->message_type[i]);
    for (size_t i = 0; i < file->n_enum_type; i++)
        add_enum(r, index, scope, file->enum_type[i]);
    add_extensions(r, index, scope, file->extension, file->n_extension);
    for (size_t s = 0; s < file->n_service; s++) {
        const char *service = add_symbol(r, index, scope, file->service[s]->name);

        for (size_t m = 0; m < file->service[s]->n_method; m++)
            add_symbol(r, index, service, file->service[s]->method[m]->name);
    }
}

/* The set is one field, repeated: tag 0x0a, a length, a FileDescriptorProto. */
static bool next_file(const uint8_t **at, const uint8_t *end, struct slice *bytes)
{
    uint64_t len = 0;
    unsigned shift = 0;

    if (*at == end || *(*at)++ != 0x0a)
        return false;
    for (uint8_t octet = 0x80; octet >= 0x80 && *at < end && shift < 35; shift += 7) {
        octet = *(*at)++;
        len |= (uint64_t)(octet & 0x7f) << shift;
    }
    if (len > (size_t)(end - *at))
        return false;
    *bytes = slice_of(*at, (size_t)len);
    *at += len;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct symbol *)a)->name, ((const struct symbol *)b)->name);
}

struct reflection *reflection_new(const struct service *const *services, size_t n)
{
    struct reflection *r = calloc(1, sizeof *r);
    const uint8_t *at = prism_descriptor_set, *end = at + prism_descriptor_set_len;
    size_t room = 0;
    struct slice bytes;

    if (r == NULL)
        abort();
    arena_init(&r->arena, NULL);

    const struct service **copy = arena_array(&r->arena, n, sizeof(struct service *));

    memcpy(copy, services, n * sizeof *copy);
    r->services = copy;
    r->service_count = n;
    while (next_file(&at, end, &bytes)) {
        file_proto *proto = google__protobuf__file_descriptor_proto__unpack(NULL, bytes.len, bytes.data);

        if (proto == NULL)
            abort(); /* the build embeds what protoc wrote */
        r->files = grown(r->files, r->file_count, &room, sizeof *r->files);
        r->files[r->file_count] = (struct file){.bytes = bytes, .proto = proto};
        add_file(r, r->file_count++);
    }
    qsort(r->symbols, r->symbol_count, sizeof *r->symbols, by_name);
    return r;
}

void reflection_destroy(struct reflection *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->file_count; i++)
        google__protobuf__file_descriptor_proto__free_unpacked(r->files[i].proto, NULL);
    free(r->files);
    free(r->symbols);
    free(r->extensions);
    arena_clear(&r->arena);
    free(r);
}

/* ---- answers ---- */

static const struct file *find_file(const struct reflection *r, const char *name)
{
    for (size_t i = 0; i < r->file_count; i++) {
        if (strcmp(r->files[i].proto->name, name) == 0)
            return &r->files[i];
    }
    return NULL;
}

static const struct file *find_symbol(const struct reflection *r, const char *name)
{
    const struct symbol key = {.name = name};
    const struct symbol *found = bsearch(&key, r->symbols, r->symbol_count, sizeof key, by_name);

    return found != NULL ? &r->files[found->file] : NULL;
}

static const struct file *find_extension(const struct reflection *r, const Grpc__Reflection__V1__ExtensionRequest *q)
{
    for (size_t i = 0; i < r->extension_count; i++) {
        if (r->extensions[i].number == q->extension_number &&
            strcmp(r->extensions[i].extendee, q->containing_type) == 0)
            return &r->files[r->extensions[i].file];
    }
    return NULL;
}

static void answer_error(struct arena *arena, reflection_response *out, enum err_code code, const char *text)
{
    Grpc__Reflection__V1__ErrorResponse *error = arena_alloc(arena, sizeof *error);

    grpc__reflection__v1__error_response__init(error);
    error->error_code = (int32_t)code;
    error->error_message = (char *)(uintptr_t)text;
    out->message_response_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    out->error_response = error;
}

/* The file and all that it imports, each once. */
static void collect(const struct reflection *r, const struct file *file, bool *taken,
                    Grpc__Reflection__V1__FileDescriptorResponse *out)
{
    size_t index = (size_t)(file - r->files);

    if (taken[index])
        return;
    taken[index] = true;
    out->file_descriptor_proto[out->n_file_descriptor_proto++] =
        (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)file->bytes.data, .len = file->bytes.len};
    for (size_t i = 0; i < file->proto->n_dependency; i++) {
        const struct file *import = find_file(r, file->proto->dependency[i]);

        if (import != NULL)
            collect(r, import, taken, out);
    }
}

static void answer_file(const struct reflection *r, struct arena *arena, reflection_response *out,
                        const struct file *file, const char *missing)
{
    Grpc__Reflection__V1__FileDescriptorResponse *files = arena_alloc(arena, sizeof *files);
    bool *taken = arena_array(arena, r->file_count, sizeof *taken);

    if (file == NULL) {
        answer_error(arena, out, ERR_NOT_FOUND, missing);
        return;
    }
    grpc__reflection__v1__file_descriptor_response__init(files);
    files->file_descriptor_proto = arena_array(arena, r->file_count, sizeof *files->file_descriptor_proto);
    collect(r, file, taken, files);
    out->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    out->file_descriptor_response = files;
}

static void answer_services(const struct reflection *r, struct arena *arena, reflection_response *out)
{
    Grpc__Reflection__V1__ListServiceResponse *list = arena_alloc(arena, sizeof *list);

    grpc__reflection__v1__list_service_response__init(list);
    list->service = arena_array(arena, r->service_count, sizeof *list->service);
    for (size_t i = 0; i < r->service_count; i++) {
        Grpc__Reflection__V1__ServiceResponse *service = arena_alloc(arena, sizeof *service);

        grpc__reflection__v1__service_response__init(service);
        service->name = (char *)(uintptr_t)r->services[i]->name;
        list->service[list->n_service++] = service;
    }
    out->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    out->list_services_response = list;
}

static void answer_numbers(const struct reflection *r, struct arena *arena, reflection_response *out, const char *type)
{
    Grpc__Reflection__V1__ExtensionNumberResponse *numbers = arena_alloc(arena, sizeof *numbers);

    if (find_symbol(r, type) == NULL) {
        answer_error(arena, out, ERR_NOT_FOUND, "no such type");
        return;
    }
    grpc__reflection__v1__extension_number_response__init(numbers);
    numbers->base_type_name = (char *)(uintptr_t)type;
    numbers->extension_number = arena_array(arena, r->extension_count, sizeof *numbers->extension_number);
    for (size_t i = 0; i < r->extension_count; i++) {
        if (strcmp(r->extensions[i].extendee, type) == 0)
            numbers->extension_number[numbers->n_extension_number++] = r->extensions[i].number;
    }
    out->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE;
    out->all_extension_numbers_response = numbers;
}

static void answer(const struct reflection *r, struct arena *arena, const reflection_request *q, reflection_response *out)
{
    grpc__reflection__v1__server_reflection_response__init(out);
    out->valid_host = q->host;
    out->original_request = (reflection_request *)(uintptr_t)q;
    switch (q->message_request_case) {
    case CASE(FILE_BY_FILENAME):
        answer_file(r, arena, out, find_file(r, q->file_by_filename), "no such file");
        return;
    case CASE(FILE_CONTAINING_SYMBOL):
        answer_file(r, arena, out, find_symbol(r, q->file_containing_symbol), "no such symbol");
        return;
    case CASE(FILE_CONTAINING_EXTENSION):
        answer_file(r, arena, out, find_extension(r, q->file_containing_extension), "no such extension");
        return;
    case CASE(ALL_EXTENSION_NUMBERS_OF_TYPE):
        answer_numbers(r, arena, out, q->all_extension_numbers_of_type);
        return;
    case CASE(LIST_SERVICES):
        answer_services(r, arena, out);
        return;
    case CASE(_NOT_SET):
    case _GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__CASE_IS_INT_SIZE:
        break;
    }
    answer_error(arena, out, ERR_INVALID_ARGUMENT, "the request asks for nothing");
}

/* ---- the stream ---- */

struct stream {
    struct call *call;
    struct call_receive receive;
    struct op sent;
    struct arena arena; /* of the request at hand and its answer */
    bool over;
};

static void received(struct op *op);

static void clear_arena(void *arena)
{
    arena_clear(arena);
}

static void next_request(struct stream *s)
{
    arena_clear(&s->arena);
    call_receive(s->call, &s->receive, received);
}

static void sent(struct op *op)
{
    struct stream *s = CONTAINER_OF(op, struct stream, sent);

    if (s->over)
        return; /* cancelled() ended the call while this was under way */
    if (op->err.code != ERR_OK)
        call_fail(s->call, op->err);
    else
        next_request(s);
}

static void received(struct op *op)
{
    struct stream *s = CONTAINER_OF(op, struct stream, receive.op);
    reflection_response response;

    if (op->err.code != ERR_OK) {
        call_fail(s->call, op->err);
    } else if (s->receive.message == NULL) {
        call_close(s->call);
    } else {
        answer(call_pattern(s->call), &s->arena, (const reflection_request *)(const void *)s->receive.message,
               &response);
        call_send(s->call, &response.base, &s->sent, sent);
    }
}

/* An idle stream is told of the drain; its outstanding receive ends with the call. */
static void cancelled(struct call *call, void *arg)
{
    ((struct stream *)arg)->over = true;
    call_fail(call, err_make(ERR_UNAVAILABLE, "the client is gone, or the server is draining"));
}

static void info(struct call *call)
{
    struct stream *s = arena_zalloc(call_arena(call), sizeof *s);

    s->call = call;
    arena_init(&s->arena, NULL);
    arena_adopt(call_arena(call), &s->arena, clear_arena);
    s->receive.arena = &s->arena;
    call_on_cancel(call, cancelled, s);
    next_request(s);
}

#define INFO(version)                                                                              \
    {                                                                                              \
        .path = "/grpc.reflection." version ".ServerReflection/ServerReflectionInfo", .kind = METHOD_BIDI, \
        .request = &grpc__reflection__v1__server_reflection_request__descriptor,                   \
        .response = &grpc__reflection__v1__server_reflection_response__descriptor, .handle = info  \
    }

static const struct method v1[] = {INFO("v1")};
static const struct method v1alpha[] = {INFO("v1alpha")};

const struct service reflection_v1_service = {
    .name = "grpc.reflection.v1.ServerReflection", .methods = v1, .method_count = ARRAY_LEN(v1)};
const struct service reflection_v1alpha_service = {
    .name = "grpc.reflection.v1alpha.ServerReflection", .methods = v1alpha, .method_count = ARRAY_LEN(v1alpha)};
