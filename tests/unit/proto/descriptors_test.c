/* The embedded descriptors are what reflection hands out: complete, and in an order in which a
 * client can take them in one file after the other. */
#include "google/protobuf/descriptor.pb-c.h"
#include "prism_descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef Google__Protobuf__FileDescriptorSet file_set;
typedef Google__Protobuf__FileDescriptorProto file_descriptor;

static int load(void **state)
{
    *state = google__protobuf__file_descriptor_set__unpack(NULL, prism_descriptor_set_len,
                                                           prism_descriptor_set);
    return *state != NULL ? 0 : -1;
}

static int unload(void **state)
{
    google__protobuf__file_descriptor_set__free_unpacked(*state, NULL);
    return 0;
}

static bool has_service(const file_set *set, const char *name)
{
    char full[128];

    for (size_t i = 0; i < set->n_file; i++) {
        for (size_t j = 0; j < set->file[i]->n_service; j++) {
            snprintf(full, sizeof full, "%s.%s", set->file[i]->package,
                     set->file[i]->service[j]->name);
            if (strcmp(full, name) == 0)
                return true;
        }
    }
    return false;
}

static void every_served_service_is_described(void **state)
{
    static const char *const services[] = {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "prism.interfaces.keyvalue.KeyValueBasicInterface",
        "prism.interfaces.keyvalue.KeyValueBatchInterface",
        "prism.interfaces.keyvalue.KeyValueScanInterface",
        "prism.interfaces.keyvalue.KeyValueTTLInterface",
        "prism.interfaces.pubsub.PubSubBasicInterface",
        "prism.patterns.consumer.ConsumerPattern",
        "prism.patterns.keyvalue.KeyValuePattern",
        "prism.patterns.multicast_registry.MulticastRegistryPattern",
        "prism.patterns.producer.ProducerPattern",
        "prism.patterns.session_store.SessionStorePattern",
    };

    for (size_t i = 0; i < sizeof services / sizeof services[0]; i++)
        if (!has_service(*state, services[i]))
            fail_msg("%s is not described", services[i]);
    assert_false(has_service(*state, "prism.patterns.keyvalue.NoSuchService"));
}

static bool stands_before(const file_set *set, size_t end, const char *name)
{
    for (size_t i = 0; i < end; i++)
        if (strcmp(set->file[i]->name, name) == 0)
            return true;
    return false;
}

static void imports_stand_before_their_importers(void **state)
{
    const file_set *set = *state;
    size_t imports = 0;

    for (size_t i = 0; i < set->n_file; i++) {
        const file_descriptor *file = set->file[i];

        assert_false(stands_before(set, i, file->name));
        for (size_t j = 0; j < file->n_dependency; j++, imports++)
            if (!stands_before(set, i, file->dependency[j]))
                fail_msg("%s comes before its import %s", file->name, file->dependency[j]);
    }
    assert_true(imports > 10);
}

/* Status details travel as Any, so that grpcurl can only show them if reflection knows the types.
 */
static void status_details_are_described(void **state)
{
    const file_set *set = *state;

    assert_true(stands_before(set, set->n_file, "google/rpc/status.proto"));
    assert_true(stands_before(set, set->n_file, "google/rpc/error_details.proto"));
    assert_true(stands_before(set, set->n_file, "google/protobuf/any.proto"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_served_service_is_described),
        cmocka_unit_test(imports_stand_before_their_importers),
        cmocka_unit_test(status_details_are_described),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
