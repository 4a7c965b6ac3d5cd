/* Configurations and the faults that each must have: no more, no fewer, in this order. */
#ifndef PRISM_TESTS_EXAMPLES_H
#define PRISM_TESTS_EXAMPLES_H

#include "tests/unit/config/loaded.h"

#include <string.h>

struct expected {
    const char *path;
    unsigned line;
    const char *message, *fix; /* parts of them; NULL fix: none */
};

enum { MAX_EXPECTED = 12 };

struct example {
    const char *yaml;
    struct expected faults[MAX_EXPECTED]; /* ends with .path == NULL */
};

#define NS    "namespaces:\n- name: a\n  pattern: keyvalue\n"
#define REDIS NS "  slots: {primary: {backend: redis, config: {address: 'h:1'"
#define RELAY "namespaces:\n- name: a\n  pattern: multicast_relay\n  slots:\n"

static inline bool contains(const char *text, const char *part)
{
    if (part == NULL)
        return text == NULL;
    return text != NULL && strstr(text, part) != NULL;
}

static inline bool is_expected(const struct fault *f, const struct expected *e)
{
    return strcmp(f->path, e->path) == 0 && f->line == e->line &&
           contains(f->message, e->message) && contains(f->fix, e->fix);
}

static inline void check(const struct example *example)
{
    struct loaded *l = load_text(example->yaml);
    size_t n = 0;

    while (n < MAX_EXPECTED && example->faults[n].path != NULL)
        n++;
    bool good = l->faults.count == n;

    for (size_t i = 0; good && i < n; i++)
        good = is_expected(&l->faults.items[i], &example->faults[i]);
    if (!good) {
        print_error("%s\nfaults:\n", example->yaml);
        for (size_t i = 0; i < l->faults.count; i++)
            print_error("  {\"%s\", %u, \"%s\", \"%s\"}\n", l->faults.items[i].path,
                        l->faults.items[i].line, l->faults.items[i].message,
                        l->faults.items[i].fix);
        fail();
    }
    assert_int_equal(l->faults.omitted, 0);
    unload(l);
}

#define CHECK_ALL(list)                                                                            \
    for (size_t i = 0; i < sizeof(list) / sizeof(list)[0]; i++)                                    \
    check(&(list)[i])

#endif
