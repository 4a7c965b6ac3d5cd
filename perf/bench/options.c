/* Reading option values; see commands.h. */
#include "perf/bench/commands.h"

#include "perf/common/memory.h"

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

/* The identifiers move together over their line ends. */
static bool gather(char *text, size_t bytes, struct workload_options *options)
{
    size_t line = strcspn(text, "\n"), n = 0;

    for (size_t at = 0; at + line < bytes; at += line + 1, n++) {
        if (text[at + line] != '\n' || memchr(text + at, '\n', line) != NULL)
            return false;
        memmove(text + n * line, text + at, line);
    }
    options->ids = text;
    options->id_bytes = (uint32_t)line;
    options->id_count = (uint32_t)n;
    return line > 0 && n > 0 && bytes == n * (line + 1);
}

bool option_ids(const char *name, const char *path, struct workload_options *options)
{
    enum { BYTES_MAX = 64 << 20 };
    FILE *file = fopen(path, "rb");
    char *text = memory_zalloc(BYTES_MAX, 1);
    size_t bytes = file != NULL ? fread(text, 1, BYTES_MAX - 1, file) : 0;

    if (file != NULL)
        fclose(file);
    if (bytes > 0 && gather(text, bytes, options))
        return true;
    free(text);
    fprintf(stderr, "prism-bench: --%s %s: no file with identifiers of one length, one a line\n",
            name, path);
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
