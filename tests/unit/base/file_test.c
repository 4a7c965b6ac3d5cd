/* Files are read whole, within their bound, and without hanging. */
#include "src/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX = 16, PATIENCE_MS = 60000 };

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/prism-file-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path_of("file"));
    unlink(path_of("fifo"));
    return rmdir(folder);
}

static void assert_fails(const char *path, int error, const char *problem)
{
    char out[MAX + 1];

    assert_int_equal(file_read(path, out, MAX), -1);
    assert_int_equal(errno, error);
    assert_string_equal(file_problem(error), problem);
}

static void test_bound(void **state)
{
    char out[MAX + 1];

    (void)state;
    write_file("file", "0123456789abcdef");
    assert_int_equal(file_read(path_of("file"), out, MAX), MAX);
    assert_memory_equal(out, "0123456789abcdef", MAX);
    assert_int_equal(file_read_stream(path_of("file"), out, MAX, PATIENCE_MS), MAX);
    write_file("file", "0123456789abcdefg");
    assert_fails(path_of("file"), EFBIG, "is too large");
    write_file("file", "");
    assert_int_equal(file_read(path_of("file"), out, MAX), 0);
}

static void test_what_is_no_file(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    assert_fails(path_of("fifo"), EINVAL, "is not a regular file");
    assert_fails("/dev/zero", EINVAL, "is not a regular file");
    assert_fails(folder, EINVAL, "is not a regular file");
    assert_fails("/nowhere/at/all", ENOENT, "does not exist");
    unlink(path_of("fifo"));
}

static void test_devices_end(void **state)
{
    char out[MAX + 1];

    (void)state;
    assert_int_equal(file_read_stream("/dev/zero", out, MAX, PATIENCE_MS), -1);
    assert_int_equal(errno, EFBIG);
    assert_int_equal(file_read_stream("/dev/null", out, MAX, PATIENCE_MS), 0);
}

static void *write_in_parts(void *arg)
{
    int fd = open(arg, O_WRONLY | O_CLOEXEC); /* waits for the reader */

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "one ", 4), 4);
    assert_int_equal(write(fd, "two", 3), 3);
    close(fd);
    return NULL;
}

static void test_fifo(void **state)
{
    char out[MAX + 1], path[128];
    pthread_t writer;

    (void)state;
    snprintf(path, sizeof path, "%s", path_of("fifo"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_in_parts, path), 0);
    assert_int_equal(file_read_stream(path, out, MAX, PATIENCE_MS), 7);
    assert_memory_equal(out, "one two", 7);
    assert_int_equal(pthread_join(writer, NULL), 0);
}

static void test_silent_fifo(void **state)
{
    char out[MAX + 1];
    int writer;

    (void)state;
    assert_int_equal(file_read_stream(path_of("fifo"), out, MAX, 10), -1); /* nobody writes */
    assert_int_equal(errno, ETIMEDOUT);
    writer = open(path_of("fifo"), O_RDWR | O_CLOEXEC);
    assert_true(writer >= 0);
    assert_int_equal(write(writer, "x", 1), 1);
    assert_int_equal(file_read_stream(path_of("fifo"), out, MAX, 10), -1); /* it never ends */
    assert_int_equal(errno, ETIMEDOUT);
    close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bound),       cmocka_unit_test(test_what_is_no_file),
        cmocka_unit_test(test_devices_end), cmocka_unit_test(test_fifo),
        cmocka_unit_test(test_silent_fifo),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
