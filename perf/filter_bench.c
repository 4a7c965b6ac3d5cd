/* A compiled filter, one equality on a document of five fields: what each evaluation costs.
 *
 *   ns             CPU time of one evaluation
 *   allocations    of all of them
 *
 * Instructions are counted by running this twice under callgrind, with few and with many
 * (perf/multicast.py).
 *
 * usage: prism-filter-bench [EVALUATIONS]       default: 10000000 */
#include "src/filter/document.h"
#include "src/filter/filter.h"

#include "perf/common/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { DOCUMENTS = 16, EVALUATIONS = 10000000, DECIMAL = 10 };

/* The linker sends all calls of malloc here. */
static uint64_t allocations;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    allocations++;
    return __real_malloc(bytes);
}

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "prism-filter-bench: %s\n", what);
    exit(1);
}

int main(int argc, char **argv)
{
    struct filter_limits limits = filter_limits_default();
    struct filter_subject subjects[DOCUMENTS] = {0};
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, DECIMAL) : EVALUATIONS, found = 0;
    const struct filter *filter;
    struct filter_node *root;
    struct arena arena;

    arena_init(&arena, NULL);
    for (size_t i = 0; i < DOCUMENTS; i++) {
        const char *json =
            arena_printf(&arena,
                         "{\"level\": 3, \"beta\": true, \"city\": \"%s\", \"team\": \"blue\", "
                         "\"score\": 1.5}",
                         i % 2 == 0 ? "Oslo" : "Bergen");

        if (document_from_json(&arena, slice_str(json), 1 << 16, &subjects[i].document).code !=
            ERR_OK)
            fail("no document");
    }
    if (filter_from_json(&arena, slice_str("{\"city\": \"Oslo\"}"), &limits, &root).code !=
            ERR_OK ||
        filter_compile(&arena, root, &limits, &filter).code != ERR_OK)
        fail("no filter");
    allocations = 0;

    uint64_t began_ns = clock_own_cpu_ns();

    for (uint64_t i = 0; i < n; i++)
        found += filter_match(filter, &subjects[i % DOCUMENTS]);
    printf("{\"ns\": %.1f, \"allocations\": %" PRIu64 "}\n",
           (double)(clock_own_cpu_ns() - began_ns) / (double)n, allocations);
    if (found != (n + 1) / 2)
        fail("a wrong answer");
    arena_clear(&arena);
    return 0;
}
