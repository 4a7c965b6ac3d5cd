#include "src/signals.h"

#include "src/base/container.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int stopping[] = {SIGTERM, SIGINT, SIGQUIT};
static const int others[] = {SIGHUP, SIGUSR1, SIGUSR2};

static void add(sigset_t *set, const int *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sigaddset(set, numbers[i]);
}

static sigset_t all(void)
{
    sigset_t set;

    sigemptyset(&set);
    add(&set, stopping, ARRAY_LEN(stopping));
    add(&set, others, ARRAY_LEN(others));
    return set;
}

static void leave(int number)
{
    (void)number;
    _exit(EXIT_SUCCESS); /* nothing was begun that would have to be ended */
}

void signals_begin(void)
{
    struct sigaction at_once = {.sa_handler = leave};
    sigset_t wait;

    sigemptyset(&wait);
    add(&wait, others, ARRAY_LEN(others));
    sigprocmask(SIG_BLOCK, &wait, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_LEN(stopping); i++)
        sigaction(stopping[i], &at_once, NULL);

    sigset_t set;

    sigemptyset(&set); /* our parent may have blocked them */
    add(&set, stopping, ARRAY_LEN(stopping));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

void signals_hold(void)
{
    sigset_t set = all();

    sigprocmask(SIG_BLOCK, &set, NULL);
}

int signals_open(void)
{
    sigset_t set = all();
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);

    if (fd < 0)
        abort();
    return fd;
}

void signals_let_interrupt(void)
{
    sigset_t set;

    signal(SIGINT, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
