/* What is offered: everything, by any backend that keeps sessions. */
#include "patterns/session_store/session_store_priv.h"

const struct session_operation session_operation_table[] = {
    {"GetCapabilities", false, false},
    {"CreateSession", true, false},
    {"GetSession", false, false},
    {"SetSessionData", true, false},
    {"GetSessionData", false, false},
    {"DeleteSessionData", true, false},
    {"UpdateSession", true, false},
    {"RotateSession", true, false},
    {"DeleteSession", true, false},
    {"DeleteUserSessions", true, true},
    {"ExtendSession", true, false},
    {"ListSessions", false, true},
    {.name = NULL},
};

size_t session_store_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                                struct pattern_operation *out, size_t max)
{
    bool kept = slots[0] != NULL && slots[0]->interfaces.session != NULL;
    size_t n = 0;

    (void)emulate;
    for (; n < max && session_operation_table[n].name != NULL; n++)
        out[n] = (struct pattern_operation){
            .name = session_operation_table[n].name,
            .how = kept ? PATTERN_NATIVE : PATTERN_UNAVAILABLE,
            .why = kept ? NULL : "no backend that keeps sessions in slot `store`",
        };
    return n;
}
