/* A server that is not redis, or not well: what it says must neither crash us nor reach a caller as
 * an answer. The server is a thread of this program that plays a script on a unix socket. */
#include "src/base/container.h"
#include "tests/contract/redis_fixture.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The answers to hello without login and database: SETNAME, four CONFIG, two INFO, PING. */
#define HELLO "+OK\r\n*0\r\n*0\r\n*0\r\n*0\r\n$10\r\nrole:maste\r\n$0\r\n\r\n+PONG\r\n"

struct actor {
    int listener;
    const char *first;  /* said once something has been heard */
    const char *second; /* said once more has been heard after that; NULL: hangs up then */
    unsigned repeats;   /* of the second, one for each more that is heard */
    const char *last;   /* said after them; NULL: nothing is */
    size_t first_len;
    int slow_ms;             /* how long each but the first takes to be said */
    _Atomic(unsigned) heard; /* connections that have said something */
    _Atomic(bool) stop;
    pthread_t thread;
    char folder[64], address[128];
};

/* False: the other side has gone, or the play is over. */
static bool hear(struct actor *actor, int fd)
{
    char bytes[4096];
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    while (!atomic_load(&actor->stop)) {
        if (poll(&wait, 1, 10) > 0)
            return read(fd, bytes, sizeof bytes) > 0;
    }
    return false;
}

static void tell(int fd, const char *text, size_t len)
{
    if (send(fd, text, len, MSG_NOSIGNAL) < 0)
        return; /* hung up on: the test sees what follows */
}

static void tell_slowly(struct actor *actor, int fd, const char *text)
{
    poll(NULL, 0, actor->slow_ms);
    tell(fd, text, strlen(text));
}

static void play(struct actor *actor, int fd)
{
    if (!hear(actor, fd))
        return;
    atomic_fetch_add(&actor->heard, 1);
    tell(fd, actor->first, actor->first_len);
    if (!hear(actor, fd) || actor->second == NULL)
        return;
    tell_slowly(actor, fd, actor->second);
    for (unsigned i = 0; i < actor->repeats && hear(actor, fd); i++)
        tell_slowly(actor, fd, actor->second);
    if (actor->last != NULL && hear(actor, fd))
        tell_slowly(actor, fd, actor->last);
    while (hear(actor, fd))
        ;
}

static void *act(void *arg)
{
    struct actor *actor = arg;
    struct pollfd wait = {.fd = actor->listener, .events = POLLIN};

    while (!atomic_load(&actor->stop)) {
        int fd = poll(&wait, 1, 10) > 0 ? accept(actor->listener, NULL, NULL) : -1;

        if (fd < 0)
            continue;
        play(actor, fd);
        close(fd);
    }
    return NULL;
}

/* What the actor says has been filled in. */
static void actor_open(struct actor *actor)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    snprintf(actor->folder, sizeof actor->folder, "/tmp/prism-actor-XXXXXX");
    assert_non_null(mkdtemp(actor->folder));
    snprintf(at.sun_path, sizeof at.sun_path, "%s/s", actor->folder);
    snprintf(actor->address, sizeof actor->address, "unix:%s", at.sun_path);
    actor->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(actor->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(actor->listener, 8), 0);
    assert_int_equal(pthread_create(&actor->thread, NULL, act, actor), 0);
}

static void actor_start(struct actor *actor, const char *first, size_t len, const char *second)
{
    *actor = (struct actor){.first = first, .first_len = len, .second = second};
    actor_open(actor);
}

static void actor_stop(struct actor *actor)
{
    atomic_store(&actor->stop, true);
    pthread_join(actor->thread, NULL);
    close(actor->listener);
    unlink(actor->address + strlen("unix:"));
    rmdir(actor->folder);
}

/* ---- instead of hello ---- */

static void hello_is_not_understood(void **state)
{
    static const struct {
        const char *answer;
        size_t len;
        const char *why; /* part of the state's text */
    } cases[] = {
#define CASE(text, why) {text, sizeof(text) - 1, why}
        CASE("HTTP/1.1 400 Bad Request\r\n\r\n", "cannot connect"),
        CASE("\0\0\0\0\0\0\0\0", "cannot connect"),
        CASE("$99999999999999999999\r\n", "cannot connect"),
        CASE("*4294967296\r\n", "cannot connect"),
        CASE("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
             "cannot connect"),
        CASE(":99999999999999999999\r\n", "cannot connect"),
        CASE("-ERR max number of clients reached\r\n", "maxclients"),
        CASE("-DENIED Redis is running in protected mode.\r\n", "protected mode"),
        CASE("-LOADING a\r\n-LOADING b\r\n-LOADING c\r\n-LOADING d\r\n", "loading its data"),
        CASE("-NOAUTH a\r\n-NOAUTH b\r\n-NOAUTH c\r\n-NOAUTH d\r\n", "asks for a password"),
        CASE("+OK\r\n-NOPERM x\r\n-NOPERM y\r\n-MASTERDOWN z\r\n", "lost its primary"),
        CASE("", "did not answer"),
        CASE("+OK\r\n", "did not answer"),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct actor actor;
        struct redis_fixture fixture;

        actor_start(&actor, cases[i].answer, cases[i].len, NULL);
        redis_fixture_open(
            &fixture, "default",
            (redis_settings){"address", actor.address, "dial_timeout_ms", "100", NULL});
        redis_until(&fixture, BACKEND_DOWN);

        const char *text = atomic_load(&fixture.store->state_text);

        /* A refusal that is followed by a hang-up may be seen as either. */
        if (strstr(text, cases[i].why) == NULL && strstr(text, "did not answer") == NULL)
            fail_msg("%s: %s", cases[i].answer, text);
        KV_UNTIL(&fixture.kv, atomic_load(&actor.heard) > 1); /* it is tried again */
        redis_fixture_close(&fixture);
        actor_stop(&actor);
    }
}

/* ---- instead of an answer ---- */

static void answers_of_the_wrong_kind(void **state)
{
    static const char *const cases[] = {":1\r\n",       "+OK\r\n", "*1\r\n$1\r\nx\r\n",
                                        "*0\r\n",       "*-1\r\n", "*2\r\n:1\r\n*1\r\n+x\r\n",
                                        "-ERR what\r\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct actor actor;
        struct redis_fixture fixture;
        struct kv_get get = {.key = slice_str("k")};

        actor_start(&actor, HELLO, strlen(HELLO), cases[i]);
        redis_fixture_open(&fixture, "default", (redis_settings){"address", actor.address, NULL});
        redis_until(&fixture, BACKEND_READY);

        struct err e = kv_do(&fixture.kv, kv_start_get, &get.op);

        if (strcmp(cases[i], "*-1\r\n") == 0)
            assert_int_equal(e.code, ERR_OK); /* nil, as an older protocol writes it */
        else
            assert_int_equal(e.code, ERR_INTERNAL);
        redis_fixture_close(&fixture);
        actor_stop(&actor);
    }
}

/* Scan and batches read answers in depth; each is given to each. */
static void deep_answers_of_the_wrong_kind(void **state)
{
    static const char *const cases[] = {
        ":1\r\n",
        "*2\r\n$1\r\n0\r\n:1\r\n",
        "*2\r\n$1\r\nx\r\n*0\r\n",
        "*2\r\n*1\r\n:1\r\n*1\r\n:2\r\n",
        "*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*3\r\n$1\r\n0\r\n*0\r\n*0\r\n",
        "*2\r\n$25\r\n1234567890123456789012345\r\n*0\r\n",
    };

    (void)state;
    for (size_t i = 0; i < 3 * ARRAY_LEN(cases); i++) {
        struct actor actor;
        struct redis_fixture fixture;
        struct kv_get_item items[3] = {{.base.key = slice_str("a")},
                                       {.base.key = slice_str("b")},
                                       {.base.key = slice_str("c")}};
        struct kv_get_many many = {.items = items, .n = 1};
        struct kv_scan_page page = {.max_items = 10};
        struct kv_count count = {0};
        struct op *const ops[] = {&many.op, &page.op, &count.op};
        kv_start_fn *const starts[] = {kv_start_get_many, kv_start_page, kv_start_count};

        actor_start(&actor, HELLO, strlen(HELLO), cases[i / 3]);
        redis_fixture_open(&fixture, "default", (redis_settings){"address", actor.address, NULL});
        redis_until(&fixture, BACKEND_READY);

        struct err e = kv_do(&fixture.kv, starts[i % 3], ops[i % 3]);

        if (e.code != ERR_INTERNAL)
            fail_msg("case %zu: %s", i, err_code_name(e.code));
        redis_fixture_close(&fixture);
        actor_stop(&actor);
    }
}

/* One question, many answers: the ones nobody asked for end the connection, and the next one is
 * made. */
static void answers_that_nobody_asked_for(void **state)
{
    struct actor actor;
    struct redis_fixture fixture;
    struct kv_get get = {.key = slice_str("k")};

    (void)state;
    actor_start(&actor, HELLO, strlen(HELLO), "$1\r\nv\r\n+OK\r\n+OK\r\n:1\r\n");
    redis_fixture_open(&fixture, "default", (redis_settings){"address", actor.address, NULL});
    redis_until(&fixture, BACKEND_READY);
    assert_int_equal(kv_do(&fixture.kv, kv_start_get, &get.op).code, ERR_OK);
    assert_true(get.found && slice_equal(get.value, slice_str("v")));
    KV_UNTIL(&fixture.kv, atomic_load(&actor.heard) > 1);
    redis_fixture_close(&fixture);
    actor_stop(&actor);
}

/* SCAN may repeat itself; a count does not. Both answers come at once: the second is for the call
 * that the first one leads to. */
static void repeated_keys_count_once(void **state)
{
    static const char answers[] = "*2\r\n$1\r\n5\r\n*3\r\n$15\r\nprism:default:a\r\n"
                                  "$15\r\nprism:default:a\r\n$15\r\nprism:default:b\r\n"
                                  "*2\r\n$1\r\n0\r\n*2\r\n$15\r\nprism:default:b\r\n"
                                  "$15\r\nprism:default:c\r\n";
    struct actor actor;
    struct redis_fixture fixture;
    struct kv_count count = {0};

    (void)state;
    actor_start(&actor, HELLO, strlen(HELLO), answers);
    redis_fixture_open(&fixture, "default", (redis_settings){"address", actor.address, NULL});
    redis_until(&fixture, BACKEND_READY);
    assert_int_equal(kv_do(&fixture.kv, kv_start_count, &count.op).code, ERR_OK);
    assert_int_equal(count.count, 3);
    redis_fixture_close(&fixture);
    actor_stop(&actor);
}

/* Slow is not silent: each answer comes in time, though all of them together take longer than one
 * may. The worker sleeps before each of them, and its clock with it: by up to a second, as often
 * its timers wake it, so one answer alone may meet a clock that is right. */
static void many_slow_answers_are_not_silence(void **state)
{
    struct actor actor = {.first = HELLO,
                          .first_len = strlen(HELLO),
                          .second = "*2\r\n$1\r\n5\r\n*1\r\n$15\r\nprism:default:a\r\n",
                          .repeats = 2,
                          .last = "*2\r\n$1\r\n0\r\n*1\r\n$15\r\nprism:default:b\r\n",
                          .slow_ms = 700};
    struct redis_fixture fixture;
    struct kv_count count = {0};

    (void)state;
    actor_open(&actor);
    redis_fixture_open(
        &fixture, "default",
        (redis_settings){"address", actor.address, "command_timeout_ms", "1200", NULL});
    redis_until(&fixture, BACKEND_READY);
    assert_int_equal(kv_do(&fixture.kv, kv_start_count, &count.op).code, ERR_OK);
    assert_int_equal(count.count, 2);
    assert_int_equal(atomic_load(&actor.heard), 1);
    redis_fixture_close(&fixture);
    actor_stop(&actor);
}

/* A listener that is bound and does not listen, on the loopback address of the family; -1 without
 * such a family. */
static int bind_loopback(int family, uint16_t *port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool four = family == AF_INET;
    struct sockaddr *at = four ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    socklen_t len = four ? sizeof v4 : sizeof v6;
    int fd = socket(family, SOCK_STREAM, 0);

    v4.sin_port = v6.sin6_port = htons(*port);
    if (fd < 0 || bind(fd, at, len) != 0 || getsockname(fd, at, &len) != 0) {
        close(fd);
        return -1;
    }
    *port = ntohs(four ? v4.sin_port : v6.sin6_port);
    return fd;
}

/* localhost is 127.0.0.1 and ::1: it is away only when both refuse, and there when one does not. */
static void localhost_has_two_addresses(void **state)
{
    struct actor actor = {.first = HELLO, .first_len = strlen(HELLO), .second = "+OK\r\n"};
    struct redis_fixture fixture;
    char address[64];
    uint16_t port = 0;
    int refuses = bind_loopback(AF_INET, &port);

    (void)state;
    actor.listener = bind_loopback(AF_INET6, &port);
    if (actor.listener < 0) {
        close(refuses);
        skip();
    }
    snprintf(address, sizeof address, "localhost:%u", port);
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(&fixture, BACKEND_DOWN);
    assert_int_equal(listen(actor.listener, 8), 0);
    assert_int_equal(pthread_create(&actor.thread, NULL, act, &actor), 0);
    redis_until(&fixture, BACKEND_READY);
    assert_int_equal(redis_put(&fixture, "k", "v").code, ERR_OK);
    redis_fixture_close(&fixture);
    atomic_store(&actor.stop, true);
    pthread_join(actor.thread, NULL);
    close(actor.listener);
    close(refuses);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeated_keys_count_once),
        cmocka_unit_test(many_slow_answers_are_not_silence),
        cmocka_unit_test(localhost_has_two_addresses),
        cmocka_unit_test(hello_is_not_understood),
        cmocka_unit_test(answers_of_the_wrong_kind),
        cmocka_unit_test(deep_answers_of_the_wrong_kind),
        cmocka_unit_test(answers_that_nobody_asked_for),
    };

    return cmocka_run_group_tests_name("redis_nonsense", tests, NULL, NULL);
}
