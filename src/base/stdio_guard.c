#include "src/base/stdio_guard.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void stdio_guard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        int wrong_way = fd == STDIN_FILENO ? O_WRONLY : O_RDONLY;

        /* Open gives the smallest free number, which is fd: those below are taken. */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", wrong_way) != fd)
            abort();
    }
}
