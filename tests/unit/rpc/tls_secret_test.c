/* No private key stays behind in freed memory: every block is looked at when it is freed (linked
 * with --wrap=free). */
#include "src/base/secret.h"
#include "src/rpc/tls_set.h"

#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SECRET "-----BEGIN PRIVATE KEY-----c2VjcmV0"

void __real_free(void *block);
void __wrap_free(void *block);

static unsigned left_behind;

void __wrap_free(void *block)
{
    if (block != NULL &&
        memmem(block, malloc_usable_size(block), SECRET, sizeof SECRET - 1) != NULL)
        left_behind++;
    __real_free(block);
}

static char *copy(void)
{
    char *text = strdup(SECRET);

    assert_non_null(text);
    return text;
}

static void test_seen(void **state) /* this test can fail */
{
    (void)state;
    left_behind = 0;
    free(copy());
    assert_int_equal(left_behind, 1);
}

static void test_overwritten(void **state)
{
    struct tls_set set = {.cert = copy(), .key = copy()};

    (void)state;
    left_behind = 0;
    secret_free(copy());
    secret_free(NULL);
    tls_set_clear(&set);
    assert_null(set.key);
    assert_int_equal(left_behind, 0);
}

static void test_refused_set(void **state)
{
    char path[] = "/tmp/prism-key-XXXXXX";
    int fd = mkstemp(path);
    struct tls_set set;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, SECRET, sizeof SECRET - 1), sizeof SECRET - 1);
    close(fd);
    left_behind = 0;
    assert_int_equal(tls_set_read(&set, "/nowhere", path, NULL).code, ERR_FAILED_PRECONDITION);
    assert_null(set.key);
    assert_int_equal(tls_set_try(path, path, NULL).code, ERR_FAILED_PRECONDITION);
    assert_int_equal(left_behind, 0);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seen),
        cmocka_unit_test(test_overwritten),
        cmocka_unit_test(test_refused_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
