#include "client/prismctl/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

static void fill(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

void interrupt_block(void)
{
    sigset_t set;

    fill(&set);
    sigaddset(&set, SIGUSR1); /* ours: the work is done */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void *wait_for_signal(void *arg)
{
    struct interrupt *interrupt = arg;
    sigset_t set;
    int signal;

    fill(&set);
    sigaddset(&set, SIGUSR1);
    if (sigwait(&set, &signal) != 0 || signal == SIGUSR1)
        return NULL;
    fill(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    interrupt->run(interrupt->context);
    return NULL;
}

void interrupt_start(struct interrupt *interrupt)
{
    if (pthread_create(&interrupt->thread, NULL, wait_for_signal, interrupt) != 0)
        abort();
}

void interrupt_stop(struct interrupt *interrupt)
{
    pthread_kill(interrupt->thread, SIGUSR1);
    pthread_join(interrupt->thread, NULL);
}
