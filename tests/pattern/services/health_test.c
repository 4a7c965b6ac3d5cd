#include "tests/pattern/services/service_rig.h"

#include "src/base/clock.h"

#include "grpc/health/v1/health.pb-c.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

typedef Grpc__Health__V1__HealthCheckRequest check_request;
typedef Grpc__Health__V1__HealthCheckResponse check_response;

enum { SERVING = 1, NOT_SERVING = 2, NAME_UNKNOWN = 3 };

static const char check_path[] = "/grpc.health.v1.Health/Check";
static const char list_path[] = "/grpc.health.v1.Health/List";
static const char watch_path[] = "/grpc.health.v1.Health/Watch";

/* ---- fixture ---- */

struct place {
    struct health *health;
    struct fake_rig *rig;
};

static int setup(void **state)
{
    struct place *p = malloc(sizeof *p);

    p->health = health_new();
    p->rig = service_rig_new(p->health);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    service_rig_free(p->rig); /* aborts if a call is left */
    health_destroy(p->health);
    free(p);
    return 0;
}

/* ---- helpers ---- */

static struct call *call_with(struct place *p, const char *path, const char *name, bool slow)
{
    check_request request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

    request.service = (char *)(uintptr_t)name;
    struct call *call = fake_call_with(p->rig, path, &request.base, 0, slow);

    fake_rig_drain(p->rig);
    return call;
}

static struct call *watch(struct place *p, const char *name)
{
    return call_with(p, watch_path, name, false);
}

static int sent_status(const struct call *call, size_t i)
{
    assert_true(i < call->sent_count);
    return (int)((const check_response *)(const void *)call->sent[i].message)->status;
}

static void assert_sent(const struct call *call, const int *expected, size_t n)
{
    assert_int_equal(call->sent_count, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(sent_status(call, i), expected[i]);
}

#define ASSERT_SENT(call, ...)                                                                     \
    assert_sent((call), (const int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int))

static void set(struct place *p, const char *name, bool serving)
{
    health_set(p->health, name, serving);
    fake_rig_drain(p->rig);
}

/* The client goes away. */
static void leave(struct place *p, struct call *call)
{
    uint64_t deadline = clock_now_ns() + 60 * NS_PER_S;

    fake_call_cancel(call);
    do /* a change that another thread has on its way comes home first */
        fake_rig_drain(p->rig);
    while (call->ends == 0 && clock_now_ns() < deadline);
    assert_int_equal(call->status.code, ERR_CANCELLED);
    fake_call_free(call);
}

static int checked(struct place *p, const char *name)
{
    struct call *call = call_with(p, check_path, name, false);
    int status = call->status.code == ERR_NOT_FOUND ? NAME_UNKNOWN : -1;

    if (call->status.code == ERR_OK)
        status = (int)((check_response *)(void *)call->reply)->status;
    else
        assert_string_equal(call->status.subject, "service");
    fake_call_free(call);
    return status;
}

/* ---- Check ---- */

static void test_check(void **state)
{
    struct place *p = *state;

    assert_int_equal(checked(p, ""), NAME_UNKNOWN);
    health_set(p->health, "", true);
    health_set(p->health, "keyvalue/default/primary", false);
    assert_int_equal(checked(p, ""), SERVING);
    assert_int_equal(checked(p, "keyvalue/default/primary"), NOT_SERVING);
    assert_int_equal(checked(p, "keyvalue"), NAME_UNKNOWN);
    health_set(p->health, "", false);
    assert_int_equal(checked(p, ""), NOT_SERVING);
}

static void test_check_after_shutdown(void **state)
{
    struct place *p = *state;

    health_set(p->health, "a", true);
    health_shutdown(p->health);
    assert_int_equal(checked(p, "a"), NOT_SERVING);
    health_set(p->health, "a", true); /* too late */
    health_set(p->health, "b", true);
    assert_int_equal(checked(p, "a"), NOT_SERVING);
    assert_int_equal(checked(p, "b"), NOT_SERVING);
}

/* ---- List ---- */

static void test_list(void **state)
{
    struct place *p = *state;
    Grpc__Health__V1__HealthListRequest request = GRPC__HEALTH__V1__HEALTH_LIST_REQUEST__INIT;
    char name[32];

    health_set(p->health, "", true);
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "slot/%d", i);
        health_set(p->health, name, i % 2 == 0);
    }
    health_set(p->health, "slot/0", true); /* again: no second entry */

    struct call *call = fake_call(p->rig, list_path, &request.base);
    const Grpc__Health__V1__HealthListResponse *list = (void *)call->reply;

    assert_int_equal(call->status.code, ERR_OK);
    assert_int_equal(list->n_statuses, 51);
    assert_string_equal(list->statuses[0]->key, "");
    assert_string_equal(list->statuses[50]->key, "slot/49");
    assert_int_equal(list->statuses[49]->value->status, SERVING);
    assert_int_equal(list->statuses[50]->value->status, NOT_SERVING);
    fake_call_free(call);
}

static void test_list_of_nothing(void **state)
{
    struct place *p = *state;
    Grpc__Health__V1__HealthListRequest request = GRPC__HEALTH__V1__HEALTH_LIST_REQUEST__INIT;
    struct call *call = fake_call(p->rig, list_path, &request.base);

    assert_int_equal(((Grpc__Health__V1__HealthListResponse *)(void *)call->reply)->n_statuses, 0);
    fake_call_free(call);
}

/* ---- Watch ---- */

static void test_watch_tells_changes(void **state)
{
    struct place *p = *state;

    health_set(p->health, "a", true);
    struct call *call = watch(p, "a");

    ASSERT_SENT(call, SERVING);
    set(p, "a", false);
    ASSERT_SENT(call, SERVING, NOT_SERVING);
    set(p, "a", false); /* no change */
    set(p, "b", true);  /* another name */
    ASSERT_SENT(call, SERVING, NOT_SERVING);
    set(p, "a", true);
    ASSERT_SENT(call, SERVING, NOT_SERVING, SERVING);
    assert_int_equal(call->ends, 0);
    leave(p, call);
}

static void test_watch_of_unknown_name_stays_open(void **state)
{
    struct place *p = *state;
    struct call *call = watch(p, "later");

    ASSERT_SENT(call, NAME_UNKNOWN);
    set(p, "later", false);
    set(p, "later", true);
    ASSERT_SENT(call, NAME_UNKNOWN, NOT_SERVING, SERVING);
    leave(p, call);
}

static void test_many_watches(void **state)
{
    struct place *p = *state;
    struct call *calls[20];

    for (size_t i = 0; i < 20; i++)
        calls[i] = watch(p, i % 2 == 0 ? "even" : "odd");
    set(p, "even", true);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(calls[i]->sent_count, i % 2 == 0 ? 2 : 1);
    for (size_t i = 5; i < 15; i++) /* from the middle of the list */
        leave(p, calls[i]);
    set(p, "odd", true);
    for (size_t i = 0; i < 20; i++)
        if (i < 5 || i >= 15)
            assert_int_equal(calls[i]->sent_count, 2);
    for (size_t i = 0; i < 20; i++)
        if (i < 5 || i >= 15)
            leave(p, calls[i]);
}

/* Changes that come faster than the client reads: none is queued up, the last one counts. */
static void test_slow_reader_gets_the_last_status(void **state)
{
    struct place *p = *state;

    health_set(p->health, "a", true);
    struct call *call = call_with(p, watch_path, "a", true);

    for (int i = 0; i < 1000; i++)
        set(p, "a", i % 2 != 0);
    set(p, "a", false);
    ASSERT_SENT(call, SERVING);
    assert_true(fake_call_take(call));
    fake_rig_drain(p->rig);
    ASSERT_SENT(call, SERVING, NOT_SERVING);
    set(p, "a", true);
    set(p, "a", false); /* back to what was sent last: nothing to tell */
    assert_true(fake_call_take(call));
    fake_rig_drain(p->rig);
    ASSERT_SENT(call, SERVING, NOT_SERVING);
    leave(p, call);
}

static void test_client_leaves_during_a_send(void **state)
{
    struct place *p = *state;
    struct call *call = call_with(p, watch_path, "a", true);

    set(p, "a", true);
    leave(p, call);
    set(p, "a", false); /* nobody is told */
}

/* The change is under way to the watch when its client leaves: the call waits for it. */
static void test_client_leaves_during_a_change(void **state)
{
    struct place *p = *state;
    struct call *call = watch(p, "a");

    health_set(p->health, "a", true);
    fake_call_cancel(call);
    assert_int_equal(call->ends, 0);
    fake_rig_drain(p->rig);
    assert_int_equal(call->ends, 1);
    ASSERT_SENT(call, NAME_UNKNOWN);
    fake_call_free(call);
}

static void test_both_under_way(void **state)
{
    struct place *p = *state;
    struct call *call = call_with(p, watch_path, "a", true);

    health_set(p->health, "a", true);
    leave(p, call);
}

/* ---- drain ---- */

static void test_drain_says_goodbye(void **state)
{
    struct place *p = *state;

    health_set(p->health, "a", true);
    struct call *call = watch(p, "a");

    health_shutdown(p->health);
    fake_call_drain(call); /* before the change has arrived */
    fake_rig_drain(p->rig);
    ASSERT_SENT(call, SERVING, NOT_SERVING);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    assert_int_equal(call->status.retry_after_ms, 1000);
    fake_call_free(call);
}

static void test_drain_after_the_change(void **state)
{
    struct place *p = *state;

    health_set(p->health, "a", true);
    struct call *call = watch(p, "a");

    health_shutdown(p->health);
    fake_rig_drain(p->rig);
    ASSERT_SENT(call, SERVING, NOT_SERVING);
    assert_int_equal(call->ends, 0);
    fake_call_drain(call);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    fake_call_free(call);
}

/* One goodbye, however often the status changes meanwhile. */
static void test_drain_with_a_slow_reader(void **state)
{
    struct place *p = *state;

    health_set(p->health, "a", true);
    struct call *call = call_with(p, watch_path, "a", true);

    set(p, "a", false);
    fake_call_drain(call);
    fake_rig_drain(p->rig);
    assert_int_equal(call->ends, 0); /* the first send is still out */
    assert_true(fake_call_take(call));
    fake_rig_drain(p->rig);
    ASSERT_SENT(call, SERVING, NOT_SERVING);
    set(p, "a", true);
    assert_true(fake_call_take(call));
    fake_rig_drain(p->rig);
    ASSERT_SENT(call, SERVING, NOT_SERVING);
    assert_int_equal(call->status.code, ERR_UNAVAILABLE);
    fake_call_free(call);
}

/* ---- threads ---- */

enum { CHANGES = 20000 };

static void *change(void *arg)
{
    for (int i = 0; i < CHANGES; i++)
        health_set(arg, "a", i % 2 != 0); /* the last one: true */
    return NULL;
}

static void test_changes_from_other_threads(void **state)
{
    struct place *p = *state;
    struct call *calls[8];
    pthread_t thread;
    uint64_t deadline = clock_now_ns() + 60 * NS_PER_S;

    for (size_t i = 0; i < 8; i++)
        calls[i] = watch(p, "a");
    assert_int_equal(pthread_create(&thread, NULL, change, p->health), 0);
    for (size_t i = 0; i < 4; i++) /* some leave while changes are on their way */
        leave(p, calls[i]);
    pthread_join(thread, NULL);
    for (size_t i = 4; i < 8; i++) {
        while (sent_status(calls[i], calls[i]->sent_count - 1) != SERVING &&
               clock_now_ns() < deadline)
            fake_rig_drain(p->rig);
        assert_int_equal(sent_status(calls[i], calls[i]->sent_count - 1), SERVING);
        for (size_t s = 1; s < calls[i]->sent_count; s++)
            assert_int_not_equal(sent_status(calls[i], s), sent_status(calls[i], s - 1));
        leave(p, calls[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_check),
        TEST(test_check_after_shutdown),
        TEST(test_list),
        TEST(test_list_of_nothing),
        TEST(test_watch_tells_changes),
        TEST(test_watch_of_unknown_name_stays_open),
        TEST(test_many_watches),
        TEST(test_slow_reader_gets_the_last_status),
        TEST(test_client_leaves_during_a_send),
        TEST(test_client_leaves_during_a_change),
        TEST(test_both_under_way),
        TEST(test_drain_says_goodbye),
        TEST(test_drain_after_the_change),
        TEST(test_drain_with_a_slow_reader),
        TEST(test_changes_from_other_threads),
    };

    return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
