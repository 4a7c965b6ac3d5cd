#include "src/base/file.h"

#include "src/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

/* A FIFO that had no writer yet reads as ended; poll tells the two apart. Regular files are always
 * ready. Returns 1 when there is something to read, or -1 with errno. */
static int await_bytes(int fd, uint64_t until_ns)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int ready;

    do {
        uint64_t now = clock_now_ns();
        int left_ms = now < until_ns ? (int)((until_ns - now) / NS_PER_MS) + 1 : 0;

        ready = poll(&wait, 1, left_ms);
    } while (ready < 0 && errno == EINTR);
    if (ready == 0)
        errno = ETIMEDOUT;
    return ready > 0 ? 1 : -1;
}

static ssize_t read_to_end(int fd, char *out, size_t max, uint64_t until_ns)
{
    size_t len = 0;

    while (len <= max) {
        ssize_t got = -1;

        if (await_bytes(fd, until_ns) > 0)
            got = read(fd, out + len, max + 1 - len);
        if (got == 0)
            return (ssize_t)len;
        if (got > 0)
            len += (size_t)got;
        else if (errno != EINTR && errno != EAGAIN)
            return -1;
    }
    errno = EFBIG;
    return -1;
}

static ssize_t read_path(const char *path, char *out, size_t max, uint32_t timeout_ms,
                         bool regular_only)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t len = -1;
    struct stat about;

    if (fd < 0)
        return -1;
    if (regular_only && (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)))
        errno = EINVAL;
    else
        len = read_to_end(fd, out, max, clock_now_ns() + timeout_ms * NS_PER_MS);

    int error = errno;

    close(fd);
    errno = error;
    return len;
}

ssize_t file_read(const char *path, void *out, size_t max)
{
    return read_path(path, out, max, 0, true);
}

ssize_t file_read_stream(const char *path, void *out, size_t max, uint32_t timeout_ms)
{
    return read_path(path, out, max, timeout_ms, false);
}

const char *file_problem(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return "does not exist";
    case EACCES:
    case EPERM:
        return "may not be read by this user";
    case EISDIR:
        return "is a folder, not a file";
    case EINVAL:
        return "is not a regular file";
    case EFBIG:
        return "is too large";
    case ETIMEDOUT:
        return "did not come to its end in time";
    default:
        return "cannot be read";
    }
}
