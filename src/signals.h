/* Signals of prismd. SIGTERM, SIGINT and SIGQUIT stop it; SIGHUP reloads; SIGUSR1 and SIGUSR2 are
 * for nothing, and do not end it as they would by default.
 *
 * thread: main. */
#ifndef PRISM_SIGNALS_H
#define PRISM_SIGNALS_H

/* First of all: until signals_hold, a signal that stops ends the process at once with exit code 0,
 * also as process 1 of a container; the others wait. */
void signals_begin(void);

/* Before the first thread, which inherits it: from now on all of them wait for signals_open. */
void signals_hold(void);

/* A descriptor to read struct signalfd_siginfo from; does not block. The caller closes it. */
int signals_open(void);

/* From now on SIGINT ends the process at once. */
void signals_let_interrupt(void);

#endif
