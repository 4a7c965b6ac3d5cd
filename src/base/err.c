#include "src/base/err.h"

const char *err_code_name(enum err_code code)
{
    switch (code) {
#define X(name, number)                                                                            \
    case ERR_##name:                                                                               \
        return #name;
        ERR_CODES(X)
#undef X
    case ERR_CODE_COUNT:
        break;
    }
    return "UNKNOWN";
}
