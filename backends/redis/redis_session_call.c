/* What the calls of sessions begin with. */
#include "backends/redis/redis_topic.h"

void *redis_session_new(struct backend *backend, struct op *op, size_t bytes,
                        enum redis_session_call script)
{
    static const char *const keys[] = {"due", "all", "place"};
    struct redis_instance *instance = redis_instance_of(backend);
    struct redis_scripted *work =
        redis_scripted_new(&instance->shared, op, bytes, "session:", keys, ARRAY_LEN(keys));

    work->script = &redis_session_scripts[script];
    work->name = &instance->session_names[script];
    redis_session_sweep_start(&instance->sweep, &instance->shared);
    return work;
}

void redis_session_say_use(struct redis_call *call, const struct session_use *use)
{
    redis_word_number(call, use->percent);
    redis_word_number(call, use->max_interval_ms);
}
