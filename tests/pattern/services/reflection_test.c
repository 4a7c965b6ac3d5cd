#include "tests/pattern/services/service_rig.h"

#include "google/protobuf/descriptor.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"

#include <string.h>

/* Under AddressSanitizer blocks are freed, not kept. */
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_RECYCLES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_RECYCLES 0
#endif
#endif
#ifndef ARENA_RECYCLES
#define ARENA_RECYCLES 1
#endif

typedef Grpc__Reflection__V1__ServerReflectionRequest request_type;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_type;

#define ASKS(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define TOLD(name)                                                                                 \
    GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name##_RESPONSE

static const char v1_path[] = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
static const char v1alpha_path[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
static const char keyvalue[] = "prism/patterns/keyvalue/keyvalue_pattern.proto";

/* ---- fixture ---- */

struct place {
    struct reflection *reflection;
    struct fake_rig *rig;
};

static int setup(void **state)
{
    static const struct service *const listed[] = {&reflection_v1_service, &health_service};
    struct place *p = malloc(sizeof *p);

    p->reflection = reflection_new(listed, 2);
    p->rig = service_rig_new(p->reflection);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    service_rig_free(p->rig);
    reflection_destroy(p->reflection);
    reflection_destroy(NULL);
    free(p);
    return 0;
}

/* ---- helpers ---- */

static struct call *open_stream(struct place *p, const char *path, bool slow)
{
    return fake_call_with(p->rig, path, NULL, 0, slow);
}

static const response_type *ask(struct place *p, struct call *call, request_type request)
{
    size_t before = call->sent_count;

    request.host = (char *)(uintptr_t) "example:8980";
    fake_call_push(call, &request.base);
    fake_rig_drain(p->rig);
    assert_int_equal(call->sent_count, before + 1);

    const response_type *told = (const response_type *)(const void *)call->sent[before].message;

    assert_string_equal(told->valid_host, "example:8980");
    assert_int_equal(told->original_request->message_request_case, request.message_request_case);
    return told;
}

static request_type text_request(int kind, const char *text)
{
    request_type request = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;

    request.message_request_case =
        (Grpc__Reflection__V1__ServerReflectionRequest__MessageRequestCase)kind;
    request.file_by_filename = (char *)(uintptr_t)text; /* all of them share the union */
    return request;
}

static const response_type *ask_text(struct place *p, struct call *call, int kind, const char *text)
{
    return ask(p, call, text_request(kind, text));
}

static void close_stream(struct place *p, struct call *call)
{
    fake_call_push(call, NULL);
    fake_rig_drain(p->rig);
    assert_int_equal(call->status.code, ERR_OK);
    fake_call_free(call);
}

static void assert_error(const response_type *told, enum err_code code)
{
    assert_int_equal(told->message_response_case, TOLD(ERROR));
    assert_int_equal(told->error_response->error_code, code);
    assert_true(strlen(told->error_response->error_message) > 5);
}

/* The first file of the answer; every import of every file is in the answer as well. */
static void assert_files(const response_type *told, const char *first)
{
    const Grpc__Reflection__V1__FileDescriptorResponse *files = told->file_descriptor_response;
    Google__Protobuf__FileDescriptorProto *protos[64];

    assert_int_equal(told->message_response_case, TOLD(FILE_DESCRIPTOR));
    assert_true(files->n_file_descriptor_proto > 0 && files->n_file_descriptor_proto < 64);
    for (size_t i = 0; i < files->n_file_descriptor_proto; i++) {
        protos[i] = google__protobuf__file_descriptor_proto__unpack(
            NULL, files->file_descriptor_proto[i].len, files->file_descriptor_proto[i].data);
        assert_non_null(protos[i]);
    }
    assert_string_equal(protos[0]->name, first);
    for (size_t i = 0; i < files->n_file_descriptor_proto; i++) {
        for (size_t d = 0; d < protos[i]->n_dependency; d++) {
            size_t k = 0;

            while (k < files->n_file_descriptor_proto &&
                   strcmp(protos[k]->name, protos[i]->dependency[d]) != 0)
                k++;
            assert_true(k < files->n_file_descriptor_proto);
        }
    }
    for (size_t i = 0; i < files->n_file_descriptor_proto; i++)
        google__protobuf__file_descriptor_proto__free_unpacked(protos[i], NULL);
}

/* ---- answers ---- */

static void test_list_services(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1_path, false);
    const response_type *told = ask_text(p, call, ASKS(LIST_SERVICES), "*");

    assert_int_equal(told->message_response_case, TOLD(LIST_SERVICES));
    assert_int_equal(told->list_services_response->n_service, 2); /* those that were handed over */
    assert_string_equal(told->list_services_response->service[0]->name,
                        "grpc.reflection.v1.ServerReflection");
    assert_string_equal(told->list_services_response->service[1]->name, "grpc.health.v1.Health");
    close_stream(p, call);
}

static void test_files(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1_path, false);

    assert_files(ask_text(p, call, ASKS(FILE_BY_FILENAME), keyvalue), keyvalue);
    assert_files(ask_text(p, call, ASKS(FILE_CONTAINING_SYMBOL),
                          "prism.patterns.keyvalue.KeyValuePattern.Store"),
                 keyvalue);
    assert_error(ask_text(p, call, ASKS(FILE_BY_FILENAME), "nope.proto"), ERR_NOT_FOUND);
    assert_error(ask_text(p, call, ASKS(FILE_BY_FILENAME), ""), ERR_NOT_FOUND);
    assert_error(ask_text(p, call, ASKS(FILE_CONTAINING_SYMBOL), "prism.Nope"), ERR_NOT_FOUND);
    close_stream(p, call); /* errors do not end the stream */
}

static void test_extensions(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1_path, false);
    static const char options[] = "google.protobuf.MethodOptions";
    const response_type *told = ask_text(p, call, ASKS(ALL_EXTENSION_NUMBERS_OF_TYPE), options);
    Grpc__Reflection__V1__ExtensionRequest which = GRPC__REFLECTION__V1__EXTENSION_REQUEST__INIT;
    request_type request = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;

    assert_int_equal(told->message_response_case, TOLD(ALL_EXTENSION_NUMBERS));
    assert_string_equal(told->all_extension_numbers_response->base_type_name, options);
    assert_true(told->all_extension_numbers_response->n_extension_number > 0);

    which.containing_type = (char *)(uintptr_t)options;
    which.extension_number = told->all_extension_numbers_response->extension_number[0];
    request.message_request_case = ASKS(FILE_CONTAINING_EXTENSION);
    request.file_containing_extension = &which;
    assert_files(ask(p, call, request), "prism/options.proto");
    which.extension_number = 1;
    assert_error(ask(p, call, request), ERR_NOT_FOUND);

    told =
        ask_text(p, call, ASKS(ALL_EXTENSION_NUMBERS_OF_TYPE), "grpc.health.v1.HealthCheckRequest");
    assert_int_equal(told->message_response_case, TOLD(ALL_EXTENSION_NUMBERS));
    assert_int_equal(told->all_extension_numbers_response->n_extension_number, 0);
    assert_error(ask_text(p, call, ASKS(ALL_EXTENSION_NUMBERS_OF_TYPE), "no.Such"), ERR_NOT_FOUND);
    close_stream(p, call);
}

static void test_empty_request(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1_path, false);
    request_type request = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;

    assert_error(ask(p, call, request), ERR_INVALID_ARGUMENT);
    close_stream(p, call);
}

static void test_v1alpha_is_the_same(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1alpha_path, false);

    assert_files(ask_text(p, call, ASKS(FILE_BY_FILENAME), keyvalue), keyvalue);
    close_stream(p, call);
}

/* ---- the stream ---- */

/* A stream may live for long: what one answer took is given back before the next one. */
static void test_memory_of_a_long_stream(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1_path, false);

    ask_text(p, call, ASKS(FILE_BY_FILENAME), keyvalue);
    unsigned kept = p->rig->worker.arenas.count;

    assert_int_equal(kept, ARENA_RECYCLES ? 1 : 0); /* while it waits it holds nothing */
    for (int i = 0; i < 100; i++) {
        ask_text(p, call, ASKS(FILE_BY_FILENAME), keyvalue);
        assert_int_equal(p->rig->worker.arenas.count, kept);
    }
    close_stream(p, call);
}

static void test_half_close_at_once(void **state)
{
    struct place *p = *state;

    close_stream(p, open_stream(p, v1_path, false));
}

static void test_client_leaves_while_we_wait(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1_path, false);

    fake_call_cancel(call);
    fake_rig_drain(p->rig);
    assert_int_equal(call->status.code, ERR_CANCELLED);
    fake_call_free(call);
}

static void test_client_leaves_while_we_send(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1_path, true);
    request_type request = text_request(ASKS(LIST_SERVICES), "*");

    fake_call_push(call, &request.base);
    fake_rig_drain(p->rig);
    assert_int_equal(call->sent_count, 1);
    fake_call_cancel(call);
    fake_rig_drain(p->rig);
    assert_int_equal(call->status.code, ERR_CANCELLED);
    fake_call_free(call);
}

static void test_drain_ends_an_idle_stream(void **state)
{
    struct place *p = *state;
    struct call *call = open_stream(p, v1_path, false);

    ask_text(p, call, ASKS(LIST_SERVICES), "*");
    fake_call_drain(call);
    fake_rig_drain(p->rig);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    fake_call_free(call);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_list_services),
        TEST(test_files),
        TEST(test_extensions),
        TEST(test_empty_request),
        TEST(test_v1alpha_is_the_same),
        TEST(test_memory_of_a_long_stream),
        TEST(test_half_close_at_once),
        TEST(test_client_leaves_while_we_wait),
        TEST(test_client_leaves_while_we_send),
        TEST(test_drain_ends_an_idle_stream),
    };

    return cmocka_run_group_tests_name("reflection", tests, NULL, NULL);
}
