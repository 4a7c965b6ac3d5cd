/* Reflection answers from the descriptors that the build embeds (reflection_index.h). v1 and
 * v1alpha have the same messages on the wire, so both services share the handler and v1's types.
 *
 * A stream answers one request after the other: receive, answer, send, receive. Each answer is
 * built in an arena of its own, because a client may keep the stream for long. */
#include "src/services/reflection.h"

#include "pool/worker.h"
#include "src/base/container.h"
#include "src/services/reflection_index.h"

#include "grpc/reflection/v1/reflection.pb-c.h"
#include "prism_descriptors.h"

#include <stdlib.h>
#include <string.h>

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

#define ASKS(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define TELLS(name)                                                                                \
    GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name##_RESPONSE

struct reflection {
    const struct service **services;
    size_t service_count;
    struct reflection_index index;
};

struct reflection *reflection_new(const struct service *const *services, size_t n)
{
    struct reflection *r = calloc(1, sizeof *r);

    if (r == NULL)
        abort();
    if (!reflection_index_init(&r->index, slice_of(prism_descriptor_set, prism_descriptor_set_len)))
        abort(); /* the build embeds what protoc wrote */
    r->services = arena_array(&r->index.arena, n, sizeof(struct service *));
    for (size_t i = 0; i < n; i++)
        r->services[i] = services[i];
    r->service_count = n;
    return r;
}

void reflection_destroy(struct reflection *r)
{
    if (r == NULL)
        return;
    reflection_index_clear(&r->index);
    free(r);
}

/* ---- answers ---- */

/* What an answer is made of. */
struct asked {
    const struct reflection *r;
    struct arena *arena;
    const reflection_request *request;
    reflection_response *response;
};

static void answer_error(const struct asked *a, enum err_code code, const char *text)
{
    Grpc__Reflection__V1__ErrorResponse *error = arena_alloc(a->arena, sizeof *error);

    grpc__reflection__v1__error_response__init(error);
    error->error_code = (int32_t)code;
    error->error_message = (char *)(uintptr_t)text;
    a->response->message_response_case = TELLS(ERROR);
    a->response->error_response = error;
}

static void answer_file(const struct asked *a, const struct reflection_file *file,
                        const char *missing)
{
    Grpc__Reflection__V1__FileDescriptorResponse *out = arena_alloc(a->arena, sizeof *out);
    const struct reflection_index *index = &a->r->index;
    const struct reflection_file **files =
        arena_array(a->arena, index->file_count, sizeof(struct reflection_file *));
    bool *taken = arena_array(a->arena, index->file_count, sizeof *taken);

    if (file == NULL) {
        answer_error(a, ERR_NOT_FOUND, missing);
        return;
    }
    grpc__reflection__v1__file_descriptor_response__init(out);
    out->n_file_descriptor_proto = reflection_closure(index, file, files, taken);
    out->file_descriptor_proto =
        arena_array(a->arena, out->n_file_descriptor_proto, sizeof *out->file_descriptor_proto);
    for (size_t i = 0; i < out->n_file_descriptor_proto; i++)
        out->file_descriptor_proto[i] = (ProtobufCBinaryData){
            .data = (uint8_t *)(uintptr_t)files[i]->bytes.data, .len = files[i]->bytes.len};
    a->response->message_response_case = TELLS(FILE_DESCRIPTOR);
    a->response->file_descriptor_response = out;
}

static void answer_services(const struct asked *a)
{
    Grpc__Reflection__V1__ListServiceResponse *list = arena_alloc(a->arena, sizeof *list);

    grpc__reflection__v1__list_service_response__init(list);
    list->service = arena_array(a->arena, a->r->service_count, sizeof *list->service);
    for (size_t i = 0; i < a->r->service_count; i++) {
        Grpc__Reflection__V1__ServiceResponse *one = arena_alloc(a->arena, sizeof *one);

        grpc__reflection__v1__service_response__init(one);
        one->name = (char *)(uintptr_t)a->r->services[i]->name;
        list->service[list->n_service++] = one;
    }
    a->response->message_response_case = TELLS(LIST_SERVICES);
    a->response->list_services_response = list;
}

static void answer_numbers(const struct asked *a, const char *type)
{
    Grpc__Reflection__V1__ExtensionNumberResponse *out = arena_alloc(a->arena, sizeof *out);
    const struct reflection_index *index = &a->r->index;

    if (reflection_find_symbol(index, type) == NULL) {
        answer_error(a, ERR_NOT_FOUND, "no such type");
        return;
    }
    grpc__reflection__v1__extension_number_response__init(out);
    out->base_type_name = (char *)(uintptr_t)type;
    out->extension_number =
        arena_array(a->arena, index->extension_count, sizeof *out->extension_number);
    for (size_t i = 0; i < index->extension_count; i++)
        if (strcmp(index->extensions[i].extendee, type) == 0)
            out->extension_number[out->n_extension_number++] = index->extensions[i].number;
    a->response->message_response_case = TELLS(ALL_EXTENSION_NUMBERS);
    a->response->all_extension_numbers_response = out;
}

static void answer(const struct asked *a)
{
    const reflection_request *q = a->request;
    const struct reflection_index *index = &a->r->index;

    switch (q->message_request_case) {
    case ASKS(FILE_BY_FILENAME):
        answer_file(a, reflection_find_file(index, q->file_by_filename), "no such file");
        return;
    case ASKS(FILE_CONTAINING_SYMBOL):
        answer_file(a, reflection_find_symbol(index, q->file_containing_symbol), "no such symbol");
        return;
    case ASKS(FILE_CONTAINING_EXTENSION):
        answer_file(a,
                    reflection_find_extension(index, q->file_containing_extension->containing_type,
                                              q->file_containing_extension->extension_number),
                    "no such extension");
        return;
    case ASKS(ALL_EXTENSION_NUMBERS_OF_TYPE):
        answer_numbers(a, q->all_extension_numbers_of_type);
        return;
    case ASKS(LIST_SERVICES):
        answer_services(a);
        return;
    case ASKS(_NOT_SET):
    case _GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__CASE_IS_INT_SIZE:
        break;
    }
    answer_error(a, ERR_INVALID_ARGUMENT, "the request asks for nothing");
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
    reflection_response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    const reflection_request *request =
        (const reflection_request *)(const void *)s->receive.message;

    if (op->err.code != ERR_OK) {
        call_fail(s->call, op->err);
    } else if (request == NULL) {
        call_close(s->call);
    } else {
        response.valid_host = request->host;
        response.original_request = (reflection_request *)(uintptr_t)request;
        answer(&(struct asked){call_pattern(s->call), &s->arena, request, &response});
        call_send(s->call, &response.base, &s->sent, sent);
    }
}

/* The outstanding receive, or send, ends with the call. */
static void cancelled(struct call *call, void *arg)
{
    ((struct stream *)arg)->over = true;
    call_fail(call, call_group(call)->cancelled);
}

static void draining(struct call *call, void *arg)
{
    ((struct stream *)arg)->over = true;
    call_fail(call, err_make(ERR_UNAVAILABLE, "the server is draining"));
}

static void info(struct call *call)
{
    struct stream *s = arena_zalloc(call_arena(call), sizeof *s);

    s->call = call;
    arena_init(&s->arena, &call_group(call)->home->arenas);
    arena_adopt(call_arena(call), &s->arena, clear_arena);
    s->receive.arena = &s->arena;
    call_on_cancel(call, cancelled, s);
    call_on_drain(call, draining, s);
    next_request(s);
}

#define INFO(version)                                                                              \
    {                                                                                              \
        .path = "/grpc.reflection." version ".ServerReflection/ServerReflectionInfo",              \
        .kind = METHOD_BIDI,                                                                       \
        .request = &grpc__reflection__v1__server_reflection_request__descriptor,                   \
        .response = &grpc__reflection__v1__server_reflection_response__descriptor, .handle = info  \
    }

static const struct method v1[] = {INFO("v1")};
static const struct method v1alpha[] = {INFO("v1alpha")};

const struct service reflection_v1_service = {
    .name = "grpc.reflection.v1.ServerReflection", .methods = v1, .method_count = ARRAY_LEN(v1)};
const struct service reflection_v1alpha_service = {.name =
                                                       "grpc.reflection.v1alpha.ServerReflection",
                                                   .methods = v1alpha,
                                                   .method_count = ARRAY_LEN(v1alpha)};
