/* cmocka with what it needs before it, and an assertion that tells why a call of the library
 * failed. */
#ifndef PRISM_TESTS_CLIENT_ASSERT_OK_H
#define PRISM_TESTS_CLIENT_ASSERT_OK_H

#include "prism/prism.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define assert_ok(call_, error_)                                                                   \
    do {                                                                                           \
        if ((call_) != PRISM_OK)                                                                   \
            fail_msg("%s: %s", prism_code_name((error_).code), (error_).message);                  \
    } while (0)

#endif
