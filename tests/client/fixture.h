/* A scripted server with capabilities, and a client on it. */
#ifndef PRISM_TESTS_CLIENT_FIXTURE_H
#define PRISM_TESTS_CLIENT_FIXTURE_H

#include "prism/keyvalue.h"
#include "tests/client/assert_ok.h"
#include "tests/client/script_server.h"

#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"

#include <string.h>
#include <time.h>

struct fixture {
    struct script_server *server;
    struct prism_channel *channel;
    struct prism_keyvalue *keyvalue;
    struct prism_error error;
};

/* The server offers everything, natively, by its flags. */
static inline void offer_everything(struct script_server *server)
{
    Prism__Patterns__Keyvalue__SlotConfiguration slots =
        PRISM__PATTERNS__KEYVALUE__SLOT_CONFIGURATION__INIT;
    Prism__Patterns__Keyvalue__Capabilities all = PRISM__PATTERNS__KEYVALUE__CAPABILITIES__INIT;

    slots.primary_backend_type = (char *)(uintptr_t) "scripted";
    all.slots = &slots;
    all.supports_batch = all.supports_scan = all.supports_expiration = true;
    all.supports_transactions = all.supports_preconditions = true;
    all.scan_performance = PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_NATIVE;
    all.batch_performance = PRISM__PATTERNS__KEYVALUE__BATCH_PERFORMANCE__BATCH_NATIVE;
    script_always(server,
                  (struct script_step){.method = "GetCapabilities", .messages = {&all.base}});
}

static inline void fixture_connect(struct fixture *f, const char *target,
                                   const struct prism_channel_options *options)
{
    assert_ok(prism_channel_open(target, options, &f->channel, &f->error), f->error);
    assert_ok(prism_keyvalue_open(f->channel, &f->keyvalue, &f->error), f->error);
}

static inline void fixture_open(struct fixture *f, const struct prism_channel_options *options)
{
    memset(f, 0, sizeof *f);
    f->server = script_server_start(0);
    offer_everything(f->server);
    fixture_connect(f, script_server_target(f->server), options);
}

static inline void fixture_close(struct fixture *f)
{
    prism_keyvalue_close(f->keyvalue);
    prism_channel_close(f->channel);
    if (f->server != NULL)
        script_server_stop(f->server);
}

static inline uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#endif
