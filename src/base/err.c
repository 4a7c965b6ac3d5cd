#include "src/base/err.h"

const char *err_code_name(enum err_code code)
{
    switch (code) {
#define X(name, number, retryable)                                                                 \
    case ERR_##name:                                                                               \
        return #name;
        ERR_CODES(X)
#undef X
    case ERR_CODE_COUNT:
        break;
    }
    return "UNKNOWN";
}

bool err_code_retryable(enum err_code code)
{
    switch (code) {
#define X(name, number, retryable)                                                                 \
    case ERR_##name:                                                                               \
        return (retryable);
        ERR_CODES(X)
#undef X
    case ERR_CODE_COUNT:
        break;
    }
    return false;
}
