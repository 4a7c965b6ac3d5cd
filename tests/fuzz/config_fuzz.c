/* Any bytes as a configuration file. Beyond not crashing:
 *   what check.c accepts libcyaml accepts too (its refusal would be a fault of ours);
 *   without faults the configuration is whole;
 *   messages are short UTF-8 text and never hold what ${..} put in. */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/config/fake_catalog.h"

#include "src/base/utf8.h"

#include <stdlib.h>
#include <string.h>

static const char secret[] = "kept-to-ourselves";

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void check_text(const char *text)
{
    REQUIRE(text == NULL || utf8_valid(slice_str(text)));
    REQUIRE(text == NULL || strlen(text) < 2048);
    REQUIRE(text == NULL || strstr(text, secret) == NULL);
}

static void check_faults(const struct faults *faults)
{
    REQUIRE(faults->count <= CONFIG_MAX_FAULTS);
    for (size_t i = 0; i < faults->count; i++) {
        const struct fault *f = &faults->items[i];

        REQUIRE(f->path != NULL && f->message != NULL);
        check_text(f->path);
        check_text(f->message);
        check_text(f->fix);
        REQUIRE(strncmp(f->message, "libcyaml refuses", 16) != 0);
    }
}

static void check_config(const struct config *config)
{
    const struct config_limits *limits = &config->limits;

    REQUIRE(config->listen[0] != '\0' && (config->admin == NULL || config->admin[0] != '\0'));
    REQUIRE(config->workers >= 1 && config->workers <= CONFIG_MAX_WORKERS);
    REQUIRE((limits->intake_depth & (limits->intake_depth - 1)) == 0 && limits->intake_depth > 1);
    REQUIRE(limits->max_inflight_bytes >= limits->max_message_bytes);
    REQUIRE((config->tls.cert == NULL) == (config->tls.key == NULL));
    REQUIRE(config->namespace_count >= 1 && config->namespace_count <= CONFIG_MAX_NAMESPACES);
    for (size_t i = 0; i < config->namespace_count; i++) {
        const struct config_namespace *ns = &config->namespaces[i];

        REQUIRE(ns->name != NULL && ns->pattern != NULL);
        for (size_t s = 0; s < ns->pattern->slot_count; s++) {
            REQUIRE(ns->slots[s].backend != NULL || ns->pattern->slots[s].optional);
            REQUIRE(ns->slots[s].backend != &fake_redis || ns->slots[s].values[0].text != NULL);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct faults *faults = malloc(sizeof *faults);
    struct config config;

    REQUIRE(faults != NULL);
    if (memmem(data, size, secret, sizeof secret - 1) !=
        NULL) { /* found out by the fuzzer: no secret */
        free(faults);
        return 0;
    }
    setenv("S", secret, 1);
    faults_init(faults);
    struct err err = config_parse(&config, slice_of(data, size), &fake_catalog, faults);

    REQUIRE((err.code == ERR_OK) == (faults->count == 0));
    check_faults(faults);
    if (err.code == ERR_OK)
        check_config(&config);
    config_clear(&config);
    faults_clear(faults);
    free(faults);
    return 0;
}
