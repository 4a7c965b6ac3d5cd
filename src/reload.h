/* SIGHUP: the secrets of backends are read again. */
#ifndef PRISM_RELOAD_H
#define PRISM_RELOAD_H

#include "src/config/config.h"
#include "src/slots.h"

/* Reads the configuration's file anew and hands each slot the secrets of its namesake there, if
 * that has the same backend; nothing else of the file is taken. Logs the outcome: a file with
 * faults changes nothing. thread: main. */
void reload_secrets(const struct config *config, const struct slots *slots);

#endif
