#include "src/base/block.h"

#include "src/base/container.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- helpers ---- */

enum { THREADS = 4, ROUNDS = 20000 };

struct watched {
    struct block block;
    char bytes[8];
    int disposed;
};

static void count_dispose(struct block *block)
{
    struct watched *watched = CONTAINER_OF(block, struct watched, block);

    watched->bytes[0] = 'x'; /* a race with a reader, if one were left */
    watched->disposed++;
}

static void *share(void *arg)
{
    struct block *block = arg;

    for (int i = 0; i < ROUNDS; i++) {
        struct block *mine = block_ref(block);

        if (mine->bytes.data[0] != 'p')
            abort();
        block_unref(mine);
    }
    block_unref(block);
    return NULL;
}

/* ---- tests ---- */

static void test_a_copy_has_bytes_of_its_own(void **state)
{
    char text[] = "payload";
    struct block *block = block_copy(slice_str(text));

    (void)state;
    text[0] = 'X';
    assert_true(slice_equal(block->bytes, slice_str("payload")));
    block_unref(block);

    block = block_copy(slice_of(NULL, 0));
    assert_int_equal(0, block->bytes.len);
    block_unref(block);
    block_unref(NULL);
}

static void test_dispose_comes_with_the_last_reference(void **state)
{
    struct watched watched = {.bytes = "payload"};

    (void)state;
    block_init(&watched.block, slice_str(watched.bytes), count_dispose);
    assert_ptr_equal(&watched.block, block_ref(&watched.block));
    block_unref(&watched.block);
    assert_int_equal(0, watched.disposed);
    block_unref(&watched.block);
    assert_int_equal(1, watched.disposed);
}

static void test_threads_share_and_dispose_once(void **state)
{
    struct watched watched = {.bytes = "payload"};
    pthread_t threads[THREADS];

    (void)state;
    block_init(&watched.block, slice_str(watched.bytes), count_dispose);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(0, pthread_create(&threads[i], NULL, share, block_ref(&watched.block)));
    block_unref(&watched.block);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(1, watched.disposed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_copy_has_bytes_of_its_own),
        cmocka_unit_test(test_dispose_comes_with_the_last_reference),
        cmocka_unit_test(test_threads_share_and_dispose_once),
    };

    return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
