#include "src/base/err.h"

#include <stdio.h>

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

struct err err_keep(struct err err, char kept[static ERR_KEPT_BYTES])
{
    if (err.text != NULL && err.text != kept) {
        snprintf(kept, ERR_KEPT_BYTES, "%s", err.text);
        err.text = kept;
    }
    return err;
}
