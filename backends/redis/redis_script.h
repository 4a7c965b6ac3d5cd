/* Scripts of the streams; redis_script.c says what each takes and returns. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_SCRIPT_H
#define PRISM_BACKENDS_REDIS_REDIS_SCRIPT_H

#include "backends/redis/redis_call.h"

extern const char redis_script_enter[], redis_script_give[], redis_script_keep[],
    redis_script_settle[], redis_script_leave[], redis_script_sweep[], redis_script_trim[],
    redis_script_lock[], redis_script_unlock[], redis_script_push[], redis_script_ticket[],
    redis_script_recall[];

/* EVAL; its keys and arguments must follow. */
void redis_say_script(struct redis_call *call, const char *script, unsigned keys, unsigned args);

#endif
