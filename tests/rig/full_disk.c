/* Preloaded into a server of the tests. While the file that PRISM_TEST_FULL names is there, the
 * disk of the folder PRISM_TEST_DISK is full: what would make a file below it longer fails with
 * ENOSPC, what overwrites goes on, as on a file system without room. A small file system in its
 * place would need the right to mount, which a container or a chroot seldom gives. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static bool is_below(int fd, const char *folder)
{
    char link[32], path[PATH_MAX];
    size_t len = strlen(folder);
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path);
    return n > (ssize_t)len && memcmp(path, folder, len) == 0 && path[len] == '/';
}

static bool has_no_room(int fd, off_t end)
{
    const char *folder = getenv("PRISM_TEST_DISK"), *full = getenv("PRISM_TEST_FULL");
    struct stat file;

    return folder != NULL && full != NULL && access(full, F_OK) == 0 && fstat(fd, &file) == 0 &&
           end > file.st_size && is_below(fd, folder);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t);
    int before = errno;

    if (has_no_room(fd, at + (off_t)n)) {
        errno = ENOSPC;
        return -1;
    }
    errno = before;
    *(void **)&real = dlsym(RTLD_NEXT, "pwrite");
    return real(fd, bytes, n, at);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t);
    int before = errno;
    off_t end = at;

    for (int i = 0; i < count; i++)
        end += (off_t)pieces[i].iov_len;
    if (has_no_room(fd, end)) {
        errno = ENOSPC;
        return -1;
    }
    errno = before;
    *(void **)&real = dlsym(RTLD_NEXT, "pwritev");
    return real(fd, pieces, count, at);
}

/* Newer servers reserve many blocks at once. */
int posix_fallocate(int fd, off_t at, off_t n)
{
    int (*real)(int, off_t, off_t);

    if (has_no_room(fd, at + n))
        return ENOSPC;
    *(void **)&real = dlsym(RTLD_NEXT, "posix_fallocate");
    return real(fd, at, n);
}
