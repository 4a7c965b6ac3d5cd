#include "backends/backend.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct backend_type nothing = {.name = "nothing"};

static void test_interface_names(void **state)
{
    (void)state;
    for (int i = 0; i < BACKEND_INTERFACE_COUNT; i++) {
        const char *name = backend_interface_name((enum backend_interface)i);
        const char *key = backend_interface_key((enum backend_interface)i);

        assert_string_equal(name + strlen(name) - strlen("Interface"), "Interface");
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(name, backend_interface_name((enum backend_interface)k));
            assert_string_not_equal(key, backend_interface_key((enum backend_interface)k));
        }
    }
    assert_string_equal(backend_interface_name(BACKEND_KV_SCAN), "KeyValueScanInterface");
    assert_string_equal(backend_interface_key(BACKEND_KV_SCAN), "keyvalue_scan");
    assert_string_equal(backend_interface_name(BACKEND_STREAM), "StreamBasicInterface");
    assert_string_equal(backend_interface_key(BACKEND_STREAM), "stream_basic");
}

/* Each interface is told by its own pointer. */
static void test_offers(void **state)
{
    struct backend_interfaces has = {0};
    const void **pointers[] = {
        [BACKEND_KV_BASIC] = (const void **)&has.kv_basic,
        [BACKEND_KV_TTL] = (const void **)&has.kv_ttl,
        [BACKEND_KV_SCAN] = (const void **)&has.kv_scan,
        [BACKEND_KV_BATCH] = (const void **)&has.kv_batch,
        [BACKEND_KV_TXN] = (const void **)&has.kv_txn,
        [BACKEND_KV_CAS] = (const void **)&has.kv_cas,
        [BACKEND_TOPIC] = (const void **)&has.topic,
        [BACKEND_STREAM] = (const void **)&has.stream,
        [BACKEND_QUEUE] = (const void **)&has.queue,
        [BACKEND_REGISTRY] = (const void **)&has.registry,
        [BACKEND_SESSION] = (const void **)&has.session,
    };

    (void)state;
    for (int i = 0; i < BACKEND_INTERFACE_COUNT; i++) {
        assert_false(backend_offers(&has, (enum backend_interface)i));
        *pointers[i] = &has;
        for (int k = 0; k < BACKEND_INTERFACE_COUNT; k++)
            assert_int_equal(backend_offers(&has, (enum backend_interface)k), k == i);
        *pointers[i] = NULL;
    }
}

/* The store keeps copies: the options may go. */
static void test_store(void **state)
{
    char namespace_name[] = "tenant", slot[] = "primary";
    const struct backend_options options = {.namespace_name = namespace_name, .slot = slot};
    struct backend_store store;

    (void)state;
    backend_store_init(&store, &nothing, &options);
    namespace_name[0] = slot[0] = 'X';
    assert_string_equal(store.namespace_name, "tenant");
    assert_string_equal(store.slot, "primary");
    assert_ptr_equal(store.type, &nothing);
    assert_int_equal(store.ack, BACKEND_ACK_UNKNOWN);
    assert_int_equal(store.facts_version, 0);
    backend_store_clear(&store);
    backend_store_clear(&store);
}

static void test_health(void **state)
{
    const struct backend_options options = {.namespace_name = "ns", .slot = "primary"};
    struct backend_store store;

    (void)state;
    backend_store_init(&store, &nothing, &options);
    assert_int_equal(backend_health(&store).state, BACKEND_CONNECTING);
    assert_non_null(backend_health(&store).text);
    store.state = BACKEND_DOWN;
    assert_non_null(backend_health(&store).text);
    store.state_text = "refused";
    assert_string_equal(backend_health(&store).text, "refused");
    store.state = BACKEND_READY;
    assert_int_equal(backend_health(&store).state, BACKEND_READY);
    assert_null(backend_health(&store).text);
    backend_store_clear(&store);
}

/* Every backend can be found by its name and is complete enough to be bound. */
static void test_registry(void **state)
{
    unsigned n = 0;

    (void)state;
    for (const struct backend_type *const *type = backend_all(); *type != NULL; type++, n++) {
        assert_ptr_equal(backend_find(slice_str((*type)->name)), *type);
        assert_non_null((*type)->doc);
        assert_true((*type)->store_open != NULL && (*type)->store_close != NULL);
        assert_true((*type)->open != NULL && (*type)->close != NULL);
        for (const struct backend_setting *s = (*type)->settings; s->name != NULL; s++) {
            assert_non_null(s->doc);
            assert_true(s->kind != SETTING_UINT || s->min < s->max);
        }
    }
    assert_true(n >= 1);
    assert_non_null(backend_find(slice_str("memstore")));
    assert_true(backend_find(slice_str("memstore"))->inline_ok);
    assert_true(backend_find(slice_str("memstore"))->ordered);
    assert_null(backend_find(slice_str("memstor")));
    assert_null(backend_find(slice_str("memstore2")));
    assert_null(backend_find(slice_str("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interface_names), cmocka_unit_test(test_offers),
        cmocka_unit_test(test_store),           cmocka_unit_test(test_health),
        cmocka_unit_test(test_registry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
