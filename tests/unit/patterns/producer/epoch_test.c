/* Who waits for which messages. */
#include "patterns/producer/epoch.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct waits {
    struct epoch_waiter waiter;
    int over;
};

static void over(struct epoch_waiter *waiter)
{
    CONTAINER_OF(waiter, struct waits, waiter)->over++;
}

static void expect(const struct waits *waits, uint64_t flushed, uint64_t failed, uint64_t pending)
{
    assert_int_equal(waits->waiter.flushed, flushed);
    assert_int_equal(waits->waiter.failed, failed);
    assert_int_equal(waits->waiter.pending, pending);
}

static void test_waiters_are_told_what_they_waited_for(void **state)
{
    struct waits first = {.waiter.over = over}, same = first, second = first, gives_up = first;
    struct epochs epochs;
    struct epoch *a, *b;
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    epochs_init(&epochs, &arena);
    assert_true(epoch_wait(&epochs, &first.waiter)); /* nothing is there */
    a = epoch_accept(&epochs, 5);
    epoch_settle(&epochs, a, 1, 1); /* before the wait: not told */
    assert_false(epoch_wait(&epochs, &first.waiter));
    epoch_settle(&epochs, a, 1, 0);
    assert_false(epoch_wait(&epochs, &same.waiter)); /* nothing new: no epoch of its own */
    b = epoch_accept(&epochs, 2);
    assert_false(epoch_wait(&epochs, &second.waiter));
    assert_false(epoch_wait(&epochs, &gives_up.waiter));
    epoch_accept(&epochs, 7); /* later than all of them */
    epoch_settle(&epochs, b, 2, 1);
    assert_int_equal(second.over, 0); /* the older epoch is not over */
    epoch_give_up(&gives_up.waiter);
    expect(&gives_up, 2, 1, 3);
    epoch_settle(&epochs, a, 3, 2);
    assert_int_equal(first.over, 1);
    assert_int_equal(same.over, 1);
    assert_int_equal(second.over, 1);
    assert_int_equal(gives_up.over, 0);
    expect(&first, 4, 2, 0);
    expect(&same, 3, 2, 0);
    expect(&second, 5, 3, 0);
    epoch_give_up(&second.waiter); /* nothing */
    arena_clear(&arena);
}

static void test_epochs_are_used_again(void **state)
{
    struct waits waits = {.waiter.over = over};
    struct epochs epochs;
    struct arena arena;
    size_t bytes = 0;

    (void)state;
    arena_init(&arena, NULL);
    epochs_init(&epochs, &arena);
    for (int i = 0; i < 1000; i++) {
        struct epoch *epoch = epoch_accept(&epochs, 1);

        assert_false(epoch_wait(&epochs, &waits.waiter));
        epoch_settle(&epochs, epoch, 1, 0);
        assert_int_equal(waits.over, i + 1);
        expect(&waits, 1, 0, 0);
        if (i == 1)
            bytes = arena.bytes;
    }
    assert_int_equal(arena.bytes, bytes);
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waiters_are_told_what_they_waited_for),
        cmocka_unit_test(test_epochs_are_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
