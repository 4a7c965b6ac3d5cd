/* A fuzz target is one file, x_fuzz.c, that defines this function; its seeds are in seeds/x/. It
 * must accept any input and fail, by aborting or under a sanitizer, only for a fault of ours.
 * Returns 0. */
#ifndef PRISM_TESTS_FUZZ_H
#define PRISM_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
