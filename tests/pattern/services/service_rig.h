/* A service that belongs to no pattern, on the fake call layer. */
#ifndef PRISM_TESTS_SERVICE_RIG_H
#define PRISM_TESTS_SERVICE_RIG_H

#include "tests/fake/fake_call.h"

#include "src/services/health.h"
#include "src/services/reflection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct service *const general_services[] = {&health_service, &reflection_v1_service,
                                                         &reflection_v1alpha_service, NULL};

static const struct backend_setting no_settings[] = {{.name = NULL}};

static const struct pattern_type general = {
    .name = "general", .services = general_services, .behavior = no_settings};

/* `instance` is what call_pattern returns. */
static inline struct fake_rig *service_rig_new(void *instance)
{
    struct fake_rig *rig = malloc(sizeof *rig);

    assert_non_null(rig);
    fake_rig_init(rig, &general, 0);
    rig->pattern = instance;
    return rig;
}

static inline void service_rig_free(struct fake_rig *rig)
{
    rig->pattern = NULL; /* not one that could be unbound */
    fake_rig_clear(rig);
    free(rig);
}

#endif
