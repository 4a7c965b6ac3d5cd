#include "src/services/reflection_index.h"

#include "google/protobuf/descriptor.pb-c.h"
#include "prism_descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- fixture: the embedded set ---- */

static int setup(void **state)
{
    struct reflection_index *index = malloc(sizeof *index);

    *state = index;
    return reflection_index_init(index, slice_of(prism_descriptor_set, prism_descriptor_set_len))
               ? 0
               : -1;
}

static int teardown(void **state)
{
    reflection_index_clear(*state);
    free(*state);
    return 0;
}

static const char keyvalue[] = "prism/patterns/keyvalue/keyvalue_pattern.proto";

static void assert_symbol(const struct reflection_index *index, const char *name, const char *file)
{
    const struct reflection_file *found = reflection_find_symbol(index, name);

    if (found == NULL || strcmp(found->name, file) != 0)
        fail_msg("%s is in %s", name, found != NULL ? found->name : "no file");
}

/* ---- tests ---- */

static void test_files(void **state)
{
    const struct reflection_index *index = *state;
    const struct reflection_file *file = reflection_find_file(index, keyvalue);

    assert_non_null(file);
    assert_string_equal(file->name, keyvalue);
    assert_null(reflection_find_file(index, "prism/patterns/keyvalue"));
    assert_null(reflection_find_file(index, ""));

    /* The bytes are the file itself. */
    Google__Protobuf__FileDescriptorProto *proto =
        google__protobuf__file_descriptor_proto__unpack(NULL, file->bytes.len, file->bytes.data);

    assert_non_null(proto);
    assert_string_equal(proto->name, keyvalue);
    assert_int_equal(proto->n_dependency, file->import_count);
    google__protobuf__file_descriptor_proto__free_unpacked(proto, NULL);
}

static void test_every_kind_of_symbol(void **state)
{
    const struct reflection_index *index = *state;
    static const char health[] = "grpc/health/v1/health.proto";
    static const char descriptor[] = "google/protobuf/descriptor.proto";

    assert_symbol(index, "prism.patterns.keyvalue.KeyValuePattern", keyvalue);
    assert_symbol(index, "prism.patterns.keyvalue.KeyValuePattern.Store", keyvalue);
    assert_symbol(index, "prism.patterns.keyvalue.StoreRequest", keyvalue);
    assert_symbol(index, "prism.patterns.keyvalue.StoreRequest.key", keyvalue);
    assert_symbol(index, "grpc.health.v1.HealthCheckResponse.ServingStatus", health);
    assert_symbol(index, "grpc.health.v1.HealthCheckResponse.SERVING", health); /* as in C++ */
    assert_symbol(index, "google.protobuf.DescriptorProto.ExtensionRange.start", descriptor);
    assert_symbol(index, "grpc.reflection.v1.ServerReflectionRequest.message_request",
                  "grpc/reflection/v1/reflection.proto"); /* a oneof */
    assert_symbol(index, "grpc.reflection.v1alpha.ServerReflection.ServerReflectionInfo",
                  "grpc/reflection/v1alpha/reflection.proto");
}

static void test_missing_symbols(void **state)
{
    const struct reflection_index *index = *state;

    assert_null(reflection_find_symbol(index, ""));
    assert_null(reflection_find_symbol(index, "prism"));
    assert_null(reflection_find_symbol(index, ".prism.patterns.keyvalue.KeyValuePattern"));
    assert_null(reflection_find_symbol(index, "prism.patterns.keyvalue.KeyValuePatter"));
    assert_null(reflection_find_symbol(index, "prism.patterns.keyvalue.KeyValuePattern."));
}

static void test_symbols_are_unique_and_sorted(void **state)
{
    const struct reflection_index *index = *state;

    assert_true(index->symbol_count > 300);
    for (size_t i = 1; i < index->symbol_count; i++)
        assert_true(strcmp(index->symbols[i - 1].name, index->symbols[i].name) < 0);
}

static void test_extensions(void **state)
{
    const struct reflection_index *index = *state;

    assert_true(index->extension_count > 0);
    for (size_t i = 0; i < index->extension_count; i++) {
        const struct reflection_extension *e = &index->extensions[i];
        const struct reflection_file *file =
            reflection_find_extension(index, e->extendee, e->number);

        assert_ptr_equal(file, &index->files[e->file]);
        assert_non_null(reflection_find_symbol(index, e->extendee));
    }
    assert_null(reflection_find_extension(index, "google.protobuf.MethodOptions", 1));
    assert_null(reflection_find_extension(index, "no.Such", 50000));
}

/* Complete, without repeats, the file first. */
static void test_closure(void **state)
{
    const struct reflection_index *index = *state;
    const struct reflection_file **out =
        malloc(index->file_count * sizeof(struct reflection_file *));
    bool *taken = malloc(index->file_count);

    for (size_t f = 0; f < index->file_count; f++) {
        memset(taken, 0, index->file_count);
        size_t n = reflection_closure(index, &index->files[f], out, taken);

        assert_ptr_equal(out[0], &index->files[f]);
        memset(taken, 0, index->file_count);
        for (size_t i = 0; i < n; i++) {
            assert_false(taken[out[i] - index->files]);
            taken[out[i] - index->files] = true;
        }
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < out[i]->import_count; k++)
                assert_true(taken[out[i]->imports[k]]);
    }
    free(out);
    free(taken);
}

static void test_closure_is_small(void **state)
{
    const struct reflection_index *index = *state;
    const struct reflection_file **out =
        malloc(index->file_count * sizeof(struct reflection_file *));
    bool *taken = calloc(index->file_count, 1);

    assert_int_equal(reflection_closure(index,
                                        reflection_find_file(index, "grpc/health/v1/health.proto"),
                                        out, taken),
                     1);
    free(out);
    free(taken);
}

static void test_damaged_sets_are_refused(void **state)
{
    (void)state;
    struct reflection_index index;
    /* Past the first files: each cut that is not between two files is a fault. */
    size_t len = prism_descriptor_set_len;
    uint8_t *copy = malloc(len);

    for (size_t cut = 1; cut <= 64; cut++) {
        uint8_t *part = malloc(len - cut); /* exact, so that a read beyond it shows */

        memcpy(part, prism_descriptor_set, len - cut);
        assert_false(reflection_index_init(&index, slice_of(part, len - cut)));
        assert_int_equal(index.file_count, 0);
        reflection_index_clear(&index);
        free(part);
    }
    memcpy(copy, prism_descriptor_set, len);
    copy[0] = 0x12; /* another field */
    assert_false(reflection_index_init(&index, slice_of(copy, len)));
    reflection_index_clear(&index);
    memset(copy, 0xff, len);
    copy[0] = 0x0a; /* a length without end */
    assert_false(reflection_index_init(&index, slice_of(copy, len)));
    reflection_index_clear(&index);
    assert_false(reflection_index_init(&index, slice_of(NULL, 0)));
    reflection_index_clear(&index);
    free(copy);
}

/* A file that imports what has not come before. */
static void test_unknown_import_is_refused(void **state)
{
    (void)state;
    static const uint8_t set[] = {0x0a, 10, 0x0a, 1, 'a', 0x1a, 5, 'b', '.', 'p', 'r', 'o'};
    static const uint8_t good[] = {0x0a, 3, 0x0a, 1, 'b', 0x0a, 6, 0x0a, 1, 'a', 0x1a, 1, 'b'};
    struct reflection_index index;

    assert_false(reflection_index_init(&index, slice_of(set, sizeof set)));
    reflection_index_clear(&index);
    assert_true(reflection_index_init(&index, slice_of(good, sizeof good)));
    assert_int_equal(index.file_count, 2);
    assert_int_equal(index.files[1].import_count, 1);
    assert_int_equal(index.files[1].imports[0], 0);
    assert_null(reflection_find_symbol(&index, "a"));
    reflection_index_clear(&index);
}

/* d imports b and c, which both import a: a comes once. */
static void test_diamond(void **state)
{
    (void)state;
    static const uint8_t set[] = {
        0x0a, 3, 0x0a, 1, 'a',                             /* a */
        0x0a, 6, 0x0a, 1, 'b', 0x1a, 1, 'a',               /* b */
        0x0a, 6, 0x0a, 1, 'c', 0x1a, 1, 'a',               /* c */
        0x0a, 9, 0x0a, 1, 'd', 0x1a, 1, 'b', 0x1a, 1, 'c', /* d */
    };
    struct reflection_index index;
    const struct reflection_file *out[8];
    bool taken[4] = {false};

    assert_true(reflection_index_init(&index, slice_of(set, sizeof set)));
    assert_int_equal(reflection_closure(&index, reflection_find_file(&index, "d"), out, taken), 4);
    assert_string_equal(out[0]->name, "d");
    assert_string_equal(out[3]->name, "a");
    reflection_index_clear(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_every_kind_of_symbol),
        cmocka_unit_test(test_missing_symbols),
        cmocka_unit_test(test_symbols_are_unique_and_sorted),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_closure),
        cmocka_unit_test(test_closure_is_small),
        cmocka_unit_test(test_damaged_sets_are_refused),
        cmocka_unit_test(test_unknown_import_is_refused),
        cmocka_unit_test(test_diamond),
    };

    return cmocka_run_group_tests_name("reflection index", tests, setup, teardown);
}
