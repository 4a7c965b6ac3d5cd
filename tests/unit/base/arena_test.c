#include "src/base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

/* ---- helpers ---- */

struct trace {
    char order[8];
    size_t len;
};

struct hook {
    struct trace *trace;
    char name;
};

static void dispose(void *ptr)
{
    const struct hook *hook = ptr;

    hook->trace->order[hook->trace->len++] = hook->name;
}

/* Does it abort? In a child, whose output is not ours. */
static bool aborts(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        close(STDERR_FILENO);
        fn();
        _exit(0);
    }
    assert_int_equal(pid, waitpid(pid, &status, 0));
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- tests ---- */

static void test_alignment_and_no_overlap(void **state)
{
    (void)state;
    struct arena arena;
    unsigned char *got[400];

    arena_init(&arena, NULL);
    for (size_t i = 0; i < 400; i++) {
        size_t bytes = i * 7 % 301;

        got[i] = arena_alloc(&arena, bytes);
        assert_non_null(got[i]);
        assert_int_equal((uintptr_t)got[i] % _Alignof(max_align_t), 0);
        memset(got[i], (int)(i & 0xff), bytes);
    }
    for (size_t i = 0; i < 400; i++)
        for (size_t b = 0; b < i * 7 % 301; b++)
            assert_int_equal(got[i][b], i & 0xff);
    arena_clear(&arena);
}

static void test_zero_bytes_is_a_pointer(void **state)
{
    (void)state;
    struct arena arena;

    arena_init(&arena, NULL);
    assert_non_null(arena_alloc(&arena, 0));
    assert_non_null(arena_array(&arena, 0, 16));
    assert_non_null(arena_array(&arena, SIZE_MAX, 0));
    arena_clear(&arena);
}

/* A large request must not throw away the room that is left in the current block. */
static void test_large_block_keeps_current_room(void **state)
{
    (void)state;
    struct arena arena;

    arena_init(&arena, NULL);
    char *first = arena_alloc(&arena, 16);
    char *large = arena_alloc(&arena, 3 * ARENA_BLOCK_BYTES);
    char *second = arena_alloc(&arena, 16);

    memset(large, 'x', 3 * ARENA_BLOCK_BYTES);
    assert_ptr_equal(second, first + 16);
    arena_clear(&arena);
}

static void test_large_block_first(void **state)
{
    (void)state;
    struct arena arena;

    arena_init(&arena, NULL);
    memset(arena_alloc(&arena, 5 * ARENA_BLOCK_BYTES), 'x', 5 * ARENA_BLOCK_BYTES);
    memset(arena_alloc(&arena, 100), 'y', 100);
    assert_int_equal(arena.bytes, 5 * ARENA_BLOCK_BYTES + 112);
    arena_clear(&arena);
    assert_int_equal(arena.bytes, 0);
    assert_null(arena.blocks);
}

/* Without a cache an arena begins with 1 KiB; with one, blocks have the size that is kept. */
static void test_blocks_begin_small(void **state)
{
    struct arena_cache cache;
    struct arena arena;
    size_t rooms[5], n = 0;

    (void)state;
    arena_cache_init(&cache, 4);
    arena_init(&arena, NULL);
    while (n < 5) {
        arena_alloc(&arena, 16);
        rooms[n++] = (size_t)(arena.end - arena.at) + 16;
        arena.at = arena.end; /* it is full */
    }
    assert_int_equal(rooms[0], 1024 - 16);
    assert_int_equal(rooms[1], 2048 - 16);
    assert_int_equal(rooms[2], 4096 - 16);
    assert_int_equal(rooms[3], ARENA_BLOCK_BYTES);
    assert_int_equal(rooms[4], ARENA_BLOCK_BYTES);
    arena_clear(&arena);
    arena_alloc(&arena, 1504);
    assert_true(arena.end - arena.at >= 500 && arena.end - arena.at < 1024);
    arena_clear(&arena);
    arena_init(&arena, &cache);
    arena_alloc(&arena, 16);
    assert_int_equal(arena.end - arena.at, ARENA_BLOCK_BYTES - 16);
    arena_clear(&arena);
    arena_cache_clear(&cache);
}

static void test_array_is_zeroed(void **state)
{
    (void)state;
    struct arena_cache cache;
    struct arena arena;

    arena_cache_init(&cache, 4);
    arena_init(&arena, &cache);
    memset(arena_alloc(&arena, 4000), 0xff, 4000);
    arena_clear(&arena); /* the same block, dirty now, comes back */

    const unsigned char *again = arena_array(&arena, 500, 8);

    for (size_t i = 0; i < 4000; i++)
        assert_int_equal(again[i], 0);
    arena_clear(&arena);
    arena_cache_clear(&cache);
}

static void overflow_array(void)
{
    struct arena arena;

    arena_init(&arena, NULL);
    arena_array(&arena, SIZE_MAX / 8 + 2, 8);
}

static void overflow_alloc(void)
{
    struct arena arena;

    arena_init(&arena, NULL);
    arena_alloc(&arena, SIZE_MAX - 8);
}

static void overflow_none(void)
{
    struct arena arena;

    arena_init(&arena, NULL);
    arena_array(&arena, 8, 8);
    arena_clear(&arena);
}

static void test_overflow_aborts(void **state)
{
    (void)state;
    assert_true(aborts(overflow_array));
    assert_true(aborts(overflow_alloc));
    assert_false(aborts(overflow_none));
}

static void test_adopted_newest_first_and_once(void **state)
{
    (void)state;
    struct trace trace = {0};
    struct hook a = {&trace, 'a'}, b = {&trace, 'b'}, c = {&trace, 'c'};
    struct arena arena;

    arena_init(&arena, NULL);
    arena_adopt(&arena, &a, dispose);
    arena_adopt(&arena, &b, dispose);
    arena_alloc(&arena, 2 * ARENA_BLOCK_BYTES);
    arena_adopt(&arena, &c, dispose);
    arena_clear(&arena);
    assert_string_equal(trace.order, "cba");
    arena_clear(&arena);
    assert_string_equal(trace.order, "cba");
}

static void test_adopts_real_memory(void **state)
{
    (void)state;
    struct arena arena;

    arena_init(&arena, NULL);
    for (int i = 0; i < 50; i++)
        arena_adopt(&arena, malloc(10), free); /* LeakSanitizer counts them */
    arena_clear(&arena);
    assert_null(arena.adopted);
}

static void test_blocks_are_recycled_up_to_max(void **state)
{
    (void)state;
    struct arena_cache cache;
    struct arena arena;

    arena_cache_init(&cache, 2);
    arena_init(&arena, &cache);
    for (int i = 0; i < 40; i++)
        arena_alloc(&arena, 1024);              /* five blocks */
    arena_alloc(&arena, 2 * ARENA_BLOCK_BYTES); /* of no standard size: never kept */
    arena_clear(&arena);
    assert_int_equal(cache.count, UNDER_ASAN ? 0 : 2);
    if (!UNDER_ASAN) {
        struct arena_block *kept = cache.free;

        arena_alloc(&arena, 8);
        assert_ptr_equal(arena.blocks, kept);
        assert_int_equal(cache.count, 1);
    }
    arena_clear(&arena);
    arena_cache_clear(&cache);
    assert_int_equal(cache.count, 0);
    assert_null(cache.free);
}

static void test_copies(void **state)
{
    (void)state;
    struct arena arena;
    const char raw[] = {'a', '\0', 'b'};

    arena_init(&arena, NULL);
    struct slice copy = arena_copy(&arena, slice_of(raw, 3));

    assert_int_equal(copy.len, 3);
    assert_memory_equal(copy.data, raw, 3);
    assert_ptr_not_equal(copy.data, raw);
    assert_int_equal(arena_copy(&arena, slice_of(NULL, 0)).len, 0);
    assert_string_equal(arena_strdup(&arena, slice_str("key")), "key");
    assert_string_equal(arena_strdup(&arena, slice_of(NULL, 0)), "");
    arena_clear(&arena);
}

static void test_printf(void **state)
{
    (void)state;
    struct arena arena;
    char wide[ARENA_BLOCK_BYTES + 1];

    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    arena_init(&arena, NULL);
    assert_string_equal(arena_printf(&arena, "%s=%d", "n", 7), "n=7");
    assert_string_equal(arena_printf(&arena, "%s", wide), wide);
    assert_string_equal(arena_printf(&arena, "%s", ""), "");
    arena_clear(&arena);
}

static void test_decimal(void **state)
{
    static const int64_t numbers[] = {0, 7, -1, 10, 1234567890123, INT64_MAX, INT64_MIN};
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_string_equal(arena_decimal(&arena, numbers[i]),
                            arena_printf(&arena, "%lld", (long long)numbers[i]));
    arena_clear(&arena);
}

#if UNDER_ASAN
static void use_after_clear(void)
{
    struct arena_cache cache;
    struct arena arena;

    arena_cache_init(&cache, 4);
    arena_init(&arena, &cache);
    volatile char *p = arena_alloc(&arena, 16);
    arena_clear(&arena);
    p[0] = 'x';
}

static void test_use_after_clear_is_seen(void **state)
{
    (void)state;
    assert_true(aborts(use_after_clear));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alignment_and_no_overlap),
        cmocka_unit_test(test_zero_bytes_is_a_pointer),
        cmocka_unit_test(test_large_block_keeps_current_room),
        cmocka_unit_test(test_large_block_first),
        cmocka_unit_test(test_blocks_begin_small),
        cmocka_unit_test(test_array_is_zeroed),
        cmocka_unit_test(test_overflow_aborts),
        cmocka_unit_test(test_adopted_newest_first_and_once),
        cmocka_unit_test(test_adopts_real_memory),
        cmocka_unit_test(test_blocks_are_recycled_up_to_max),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_decimal),
#if UNDER_ASAN
        cmocka_unit_test(test_use_after_clear_is_seen),
#endif
    };

    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
