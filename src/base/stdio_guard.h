/* Descriptors 0 to 2. */
#ifndef PRISM_BASE_STDIO_GUARD_H
#define PRISM_BASE_STDIO_GUARD_H

/* Fills those of them that the caller of this program had closed, so that no socket of ours ever
 * takes their place: log lines would be written to it. Each is opened for the wrong direction, so
 * that reading standard input and writing the others fail as they would if closed. Aborts if
 * /dev/null cannot be opened. thread: main, first of all. */
void stdio_guard(void);

/* In the file of a program's main: calls stdio_guard before the constructors of libraries,
 * for gRPC's opens an eventfd. ThreadSanitizer cannot have that: main itself calls it as well. */
#ifdef __SANITIZE_THREAD__
#define STDIO_GUARD_FIRST extern void stdio_guard(void)
#else
#define STDIO_GUARD_FIRST                                                                          \
    __attribute__((section(".preinit_array"), used)) static void (*const guard_first)(void) =      \
        stdio_guard
#endif

#endif
