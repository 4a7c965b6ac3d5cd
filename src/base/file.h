/* Files that are read whole, within a bound and without hanging: a FIFO that nobody writes to, or a
 * device that never ends, costs neither the process nor its memory. */
#ifndef PRISM_BASE_FILE_H
#define PRISM_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads a regular file to its end. out: room for max + 1 bytes; the last one tells "too large". The
 * file is opened without waiting, and links are followed. Returns the bytes read, or -1 with errno:
 * EFBIG if the file holds more than max, EINVAL if it is not a regular file, else open's or read's
 * own. What was read before a failure stays in out. thread: any. */
ssize_t file_read(const char *path, void *out, size_t max);

/* The same for pipes, FIFOs and devices as well, which have timeout_ms in all to come to their end:
 * ETIMEDOUT. thread: any, blocks. */
ssize_t file_read_stream(const char *path, void *out, size_t max, uint32_t timeout_ms);

/* What errno says about a file, for a message: "does not exist". Static. */
const char *file_problem(int error);

#endif
