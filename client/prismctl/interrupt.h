/* What Ctrl-C does to a command that has something to finish. */
#ifndef PRISM_CLIENT_PRISMCTL_INTERRUPT_H
#define PRISM_CLIENT_PRISMCTL_INTERRUPT_H

#include <pthread.h>

struct interrupt {
    void (*run)(void *context); /* once, on a thread of its own */
    void *context;
    pthread_t thread;
};

/* SIGINT and SIGTERM are the thread's from now on. Call it before there are threads: they inherit
 * it. */
void interrupt_block(void);

/* After the first signal the next one ends the program. */
void interrupt_start(struct interrupt *interrupt);

/* It does not run afterwards. */
void interrupt_stop(struct interrupt *interrupt);

#endif
