/* Reading option values; see commands.h. */
#include "perf/bench/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool option_number(const char *name, const char *text, uint64_t max, uint64_t *value)
{
    char *end;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || number > max) {
        fprintf(stderr, "prism-bench: --%s %s is not a whole number up to %" PRIu64 "\n", name,
                text, max);
        return false;
    }
    *value = number;
    return true;
}

bool option_seconds(const char *name, const char *text, double *value)
{
    char *end;
    double number = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(number) || number < 0) {
        fprintf(stderr, "prism-bench: --%s %s is not a number of at least 0\n", name, text);
        return false;
    }
    *value = number;
    return true;
}

bool option_output(const char *text, bool *as_json)
{
    *as_json = strcmp(text, "json") == 0;
    if (*as_json || strcmp(text, "table") == 0)
        return true;
    fprintf(stderr, "prism-bench: --output %s is neither table nor json\n", text);
    return false;
}

bool list_has(const char *list, const char *name)
{
    size_t bytes = strlen(name);

    if (list == NULL || *list == '\0')
        return true;
    for (const char *at = list; *at != '\0';) {
        size_t word = strcspn(at, ",");
        if (word == bytes && memcmp(at, name, bytes) == 0)
            return true;
        at += word;
        at += *at == ',';
    }
    return false;
}
