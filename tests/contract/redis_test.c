/* Redis against a real server: the contract of every interface, then what is special to this
 * backend. Faults have a program of their own (redis_faults_test.c), scans too (redis_scan_test.c).
 */
#include "tests/contract/redis_fixture.h"

#include "src/base/container.h"

#include <stdio.h>
#include <string.h>

enum { LARGE = 8 << 20 };

static struct redis_server server;

static int open_default(void **state)
{
    return redis_default_open(state, &server);
}

static int close_default(void **state)
{
    return redis_default_close(state, &server);
}

/* ---- the contract's fixture: as a user that may do what docs/backends/redis.md asks for, and with
 * a second namespace on the same server ---- */

struct contract_fixture {
    struct redis_fixture redis; /* first */
    struct backend_store *other, *stranger;
};

static int open_contract(void **state)
{
    struct contract_fixture *fixture = test_calloc(1, sizeof *fixture);
    char address[128];
    redis_settings login = {"address", address, "username", "prism", "password", "secret", NULL};

    snprintf(address, sizeof address, "unix:%s", server.socket);
    redis_server_say(&server,
                     "ACL SETUSER prism reset on >secret ~prism:* +get +set +del +exists "
                     "+pexpire +pttl +persist +mget +getrange +strlen +mset +multi +exec +scan "
                     "+evalsha +eval");
    redis_fixture_open(&fixture->redis, "a", login);
    assert_int_equal(redis_fixture_store(&fixture->other, "a:b", login).code, ERR_OK);
    fixture->redis.kv.elsewhere = kv_open(&fixture->redis.kv, fixture->other);
    assert_int_equal(redis_fixture_store(&fixture->stranger, "a", login).code, ERR_OK);
    fixture->redis.kv.stranger = kv_open(&fixture->redis.kv, fixture->stranger);
    redis_until(&fixture->redis, BACKEND_READY);
    KV_UNTIL(&fixture->redis.kv, atomic_load(&fixture->stranger->state) == BACKEND_READY);
    KV_UNTIL(&fixture->redis.kv, atomic_load(&fixture->other->state) == BACKEND_READY);
    *state = fixture;
    return 0;
}

static int close_contract(void **state)
{
    struct contract_fixture *fixture = *state;

    kv_close(&fixture->redis.kv, fixture->redis.kv.stranger);
    fixture->stranger->type->store_close(fixture->stranger);
    kv_close(&fixture->redis.kv, fixture->redis.kv.elsewhere);
    backend_redis.store_close(fixture->other);
    redis_fixture_close(&fixture->redis);
    test_free(fixture);
    return 0;
}

/* ---- where it connects, and as whom ---- */

/* Opens, waits, writes and reads one key, closes. */
static void expect_works(redis_settings settings)
{
    struct redis_fixture fixture;

    redis_fixture_open(&fixture, "default", settings);
    redis_until(&fixture, BACKEND_READY);
    kv_put_ok(&fixture.kv, "where", "here", 0);
    assert_string_equal(kv_get_ok(&fixture.kv, "where"), "here");
    redis_fixture_close(&fixture);
}

static void connects_by_tcp(void **state)
{
    char address[64];

    (void)state;
    snprintf(address, sizeof address, "127.0.0.1:%u", server.port);
    expect_works((redis_settings){"address", address, NULL});
    snprintf(address, sizeof address, "redis://localhost:%u/0", server.port);
    expect_works((redis_settings){"address", address, NULL});
}

/* A name that is not taken for numeric or known goes through the resolver; its case does not matter
 * there. */
static void resolves_names(void **state)
{
    char address[64];

    (void)state;
    snprintf(address, sizeof address, "LocalHost:%u", server.port);
    expect_works((redis_settings){"address", address, NULL});
}

static void selects_the_database(void **state)
{
    char address[128];

    (void)state;
    snprintf(address, sizeof address, "unix:%s", server.socket);
    redis_server_say(&server, "DEL prism:default:where");
    expect_works((redis_settings){"address", address, "database", "7", NULL});
    assert_string_equal(redis_server_say(&server, "EXISTS prism:default:where"), "0");
    expect_works((redis_settings){"address", address, "db", "9", NULL});
    assert_non_null(strstr(redis_server_say(&server, "INFO keyspace"), "db7:keys=1"));
    assert_non_null(strstr(redis_server_say(&server, "INFO keyspace"), "db9:keys=1"));
}

static void refuses_contradictions(void **state)
{
    static const char *const wrong[][5] = {
        {"address", "redis://localhost/3", "database", "4", NULL},
        {"address", "redis://u:p@localhost", "password", "q", NULL},
        {"address", "redis://u:p@localhost", "username", "v", NULL},
        {"database", "1", "db", "2", NULL},
        {"key_prefix", "a:b", NULL},
        {"key_prefix", "", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct backend_store *store;
        struct err e = redis_fixture_store(&store, "default", wrong[i]);

        assert_int_equal(e.code, ERR_INVALID_ARGUMENT);
        assert_non_null(e.subject);
        assert_null(store);
    }
}

static void logs_in_as_an_acl_user(void **state)
{
    char address[128];

    (void)state;
    snprintf(address, sizeof address, "unix:%s", server.socket);
    redis_server_say(&server, "ACL SETUSER writer on >secret ~prism:* +@all -@admin");
    expect_works(
        (redis_settings){"address", address, "username", "writer", "password", "secret", NULL});
}

/* A user that may do little: what is denied is said, what is not works; CONFIG is denied, so
 * nothing is known about what an acknowledgement means. */
static void tells_what_the_user_may_not_do(void **state)
{
    struct redis_fixture fixture;
    char address[128];

    (void)state;
    snprintf(address, sizeof address, "unix:%s", server.socket);
    redis_server_say(&server, "ACL SETUSER reader on >secret ~prism:* +get +mget");
    redis_fixture_open(
        &fixture, "default",
        (redis_settings){"address", address, "username", "reader", "password", "secret", NULL});
    redis_until(&fixture, BACKEND_READY);
    assert_int_equal(atomic_load(&fixture.store->ack), BACKEND_ACK_UNKNOWN);
    assert_null(kv_get_ok(&fixture.kv, "nothing"));
    assert_int_equal(redis_put(&fixture, "k", "v").code, ERR_PERMISSION_DENIED);
    redis_fixture_close(&fixture);
}

/* Without STRLEN, values are asked for in portions, and what was not asked for is not absent. */
static void many_values_by(const char *rights)
{
    enum { N = 40, BYTES = 100000, ROOM = 5 * BYTES };
    struct redis_fixture fixture;
    char address[128], command[160];
    struct kv_get_item items[N];
    struct kv_room room = {.bytes = ROOM};
    struct kv_get_many many = {.items = items, .n = N, .room = &room};

    snprintf(command, sizeof command, "ACL SETUSER portions reset on >secret ~prism:* %s", rights);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    redis_server_say(&server, command);
    redis_fixture_open(
        &fixture, "default",
        (redis_settings){"address", address, "username", "portions", "password", "secret", NULL});
    redis_until(&fixture, BACKEND_READY);

    char *text = test_calloc(1, BYTES + 1);

    memset(text, 'x', BYTES);
    for (size_t i = 0; i < N; i++)
        items[i] = (struct kv_get_item){.base.key = slice_str("big")};
    kv_put_ok(&fixture.kv, "big", text, 0);

    uint64_t before = counter_read(&fixture.kv.backend->stats.bytes_received);

    assert_int_equal(kv_do(&fixture.kv, kv_start_get_many, &many.op).code, ERR_OK);
    for (size_t i = 0; i < N; i++) {
        assert_true(items[i].base.err.code == ERR_OK && items[i].found);
        assert_int_equal(items[i].value.data != NULL, i < ROOM / BYTES);
    }
    assert_true(room.exceeded);
    assert_true(counter_read(&fixture.kv.backend->stats.bytes_received) - before < 20 * BYTES);
    redis_fixture_close(&fixture);
    test_free(text);
}

static void many_values_as_the_user_may(void **state)
{
    (void)state;
    many_values_by("+set +get +mget +exists");
    many_values_by("+set +get +mget +exists +strlen");
    many_values_by("+set +get +mget +exists +getrange");
}

static void acknowledgement_is_as_configured(void **state)
{
    static const struct {
        const char *appendonly, *fsync;
        enum backend_ack ack;
    } cases[] = {
        {"no", "always", BACKEND_ACK_MEMORY},
        {"yes", "everysec", BACKEND_ACK_MEMORY},
        {"yes", "always", BACKEND_ACK_DISK},
    };
    char address[128], command[64];

    (void)state;
    snprintf(address, sizeof address, "unix:%s", server.socket);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct redis_fixture fixture;

        snprintf(command, sizeof command, "CONFIG SET appendonly %s", cases[i].appendonly);
        assert_string_equal(redis_server_say(&server, command), "OK");
        snprintf(command, sizeof command, "CONFIG SET appendfsync %s", cases[i].fsync);
        assert_string_equal(redis_server_say(&server, command), "OK");
        redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
        redis_until(&fixture, BACKEND_READY);
        assert_int_equal(atomic_load(&fixture.store->ack), cases[i].ack);
        assert_true(atomic_load(&fixture.store->facts_version) > 0);
        redis_fixture_close(&fixture);
    }
    redis_server_say(&server, "CONFIG SET appendonly no");
}

/* ---- keys and values ---- */

static void keys_are_where_they_are_said_to_be(void **state)
{
    struct redis_fixture *fixture = *state;

    kv_put_ok(&fixture->kv, "visible", "yes", 0);
    assert_string_equal(redis_server_say(&server, "GET prism:default:visible"), "yes");
}

static void another_type_is_refused(void **state)
{
    struct redis_fixture *fixture = *state;
    struct kv_get get = {.key = slice_str("list")};
    struct kv_get_item items[3] = {{.base.key = slice_str("nothing")},
                                   {.base.key = slice_str("list")}};
    struct kv_room room = {.bytes = 1 << 20}, none = {0};
    struct kv_room *rooms[] = {&room, NULL, &none};

    redis_server_say(&server, "RPUSH prism:default:list a");
    kv_put_ok(&fixture->kv, "string", "value", 0);
    items[2].base.key = slice_str("string");
    assert_int_equal(kv_do(&fixture->kv, kv_start_get, &get.op).code, ERR_FAILED_PRECONDITION);
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
        struct kv_get_many many = {.items = items, .n = 3, .room = rooms[i]};

        assert_int_equal(kv_do(&fixture->kv, kv_start_get_many, &many.op).code, ERR_OK);
        assert_true(items[0].base.err.code == ERR_OK && !items[0].found);
        assert_int_equal(items[1].base.err.code, ERR_FAILED_PRECONDITION);
        assert_string_equal(items[1].base.err.text, get.op.err.text);
        assert_true(items[2].base.err.code == ERR_OK && items[2].found);
    }
    redis_server_say(&server, "DEL prism:default:list");
}

static void large_values_pass(void **state)
{
    struct redis_fixture *fixture = *state;
    uint8_t *large = test_malloc(LARGE);

    for (size_t i = 0; i < LARGE; i++)
        large[i] = (uint8_t)(i * 2654435761u >> 24);

    struct kv_put put = {.key = slice_str("large"), .value = slice_of(large, LARGE)};
    struct kv_get get = {.key = slice_str("large"), .want_version = true};

    assert_int_equal(kv_do(&fixture->kv, kv_start_put, &put.op).code, ERR_OK);
    assert_int_equal(kv_do(&fixture->kv, kv_start_get, &get.op).code, ERR_OK);
    assert_true(get.found && slice_equal(get.value, put.value));
    assert_true(kv_del_ok(&fixture->kv, "large"));
    test_free(large);
}

/* Ten thousand calls at once on one connection: every answer finds its call. */
static void ten_thousand_at_once(void **state)
{
    redis_many_at_once(*state, 10000);
}

/* ---- conditional writes ---- */

/* A server that has forgotten the script gets it again, unnoticed by the caller. */
static void scripts_are_sent_when_missing(void **state)
{
    struct redis_fixture *fixture = *state;
    struct kv_get get = {.key = slice_str("cas"), .want_version = true};

    kv_put_ok(&fixture->kv, "cas", "1", 0);
    assert_int_equal(kv_do(&fixture->kv, kv_start_get, &get.op).code, ERR_OK);
    for (int i = 0; i < 3; i++) {
        struct kv_put_if put = {.key = slice_str("cas"),
                                .value = slice_str("1"),
                                .condition = KV_IF_VERSION,
                                .version = get.version};

        if (i == 1)
            redis_server_say(&server, "SCRIPT FLUSH");
        assert_int_equal(kv_do(&fixture->kv, kv_start_put_if, &put.op).code, ERR_OK);
        assert_true(put.stored);
        assert_true(slice_equal(put.current_version, get.version));
    }
}

static void a_script_reports_the_type(void **state)
{
    struct redis_fixture *fixture = *state;
    struct kv_put_if put = {.key = slice_str("list"),
                            .value = slice_str("v"),
                            .condition = KV_IF_VERSION,
                            .version = slice_str("x")};

    redis_server_say(&server, "RPUSH prism:default:list a");
    assert_int_equal(kv_do(&fixture->kv, kv_start_put_if, &put.op).code, ERR_FAILED_PRECONDITION);
    redis_server_say(&server, "DEL prism:default:list");
}

static void probe(struct backend *backend, struct op *op)
{
    backend->type->probe(backend, op);
}

static void probe_is_answered(void **state)
{
    struct redis_fixture *fixture = *state;
    struct op op = {0};

    assert_int_equal(kv_do(&fixture->kv, probe, &op).code, ERR_OK);
    assert_true(counter_read(&fixture->kv.backend->stats.bytes_received) > 0);
    assert_true(counter_read(&fixture->kv.backend->stats.bytes_sent) > 0);
    assert_int_equal(counter_read(&fixture->kv.backend->stats.connects), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connects_by_tcp),
        cmocka_unit_test(resolves_names),
        cmocka_unit_test(selects_the_database),
        cmocka_unit_test(refuses_contradictions),
        cmocka_unit_test(logs_in_as_an_acl_user),
        cmocka_unit_test(tells_what_the_user_may_not_do),
        cmocka_unit_test(many_values_as_the_user_may),
        cmocka_unit_test(acknowledgement_is_as_configured),
        KV_TEST(keys_are_where_they_are_said_to_be),
        KV_TEST(another_type_is_refused),
        KV_TEST(large_values_pass),
        KV_TEST(ten_thousand_at_once),
        KV_TEST(scripts_are_sent_when_missing),
        KV_TEST(a_script_reports_the_type),
        KV_TEST(probe_is_answered),
    };

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);

    int failed = kv_contract("redis", open_contract, close_contract) +
                 cmocka_run_group_tests_name("redis", tests, open_default, close_default);

    redis_server_stop(&server);
    return failed;
}
