/* A configuration loaded from text, with its faults. */
#ifndef PRISM_TESTS_LOADED_H
#define PRISM_TESTS_LOADED_H

#include "tests/unit/config/fake_catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct loaded {
    struct config config;
    struct faults faults;
    struct err err;
};

static inline struct loaded *load_bytes(struct slice yaml)
{
    struct loaded *l = malloc(sizeof *l);
    /* A copy of the exact size, so that AddressSanitizer sees a read beyond it. */
    uint8_t *copy = malloc(yaml.len > 0 ? yaml.len : 1);

    assert_non_null(l);
    assert_non_null(copy);
    if (yaml.len > 0)
        memcpy(copy, yaml.data, yaml.len);
    faults_init(&l->faults);
    l->err = config_parse(&l->config, slice_of(copy, yaml.len), &fake_catalog, &l->faults);
    free(copy); /* nothing of it may be kept */
    assert_int_equal(l->err.code, l->faults.count > 0 ? ERR_INVALID_ARGUMENT : ERR_OK);
    return l;
}

static inline struct loaded *load_text(const char *yaml)
{
    return load_bytes(slice_str(yaml));
}

static inline void unload(struct loaded *l)
{
    config_clear(&l->config);
    faults_clear(&l->faults);
    free(l);
}

/* Prints what is not wanted before the test fails. */
static inline void assert_no_fault(const struct loaded *l)
{
    for (size_t i = 0; i < l->faults.count; i++)
        print_error("line %u, %s: %s (%s)\n", l->faults.items[i].line, l->faults.items[i].path,
                    l->faults.items[i].message, l->faults.items[i].fix);
    assert_int_equal(l->faults.count, 0);
}

#endif
