/* The word between a program that is measured and what drives it. The driver reads the CPU clocks
 * of other processes before it answers, so nothing that counts has begun by then. */
#ifndef PRISM_PERF_COMMON_BEGIN_H
#define PRISM_PERF_COMMON_BEGIN_H

#include <stdio.h>

/* Prints "begin" and waits for a line on standard input, or for its end. thread: any, blocks. */
static inline void begin_measuring(void)
{
    int c;

    puts("begin");
    fflush(stdout);
    do
        c = getchar();
    while (c != '\n' && c != EOF);
}

#endif
