#include "tests/contract/kv_many.h"

#include <string.h>

struct kv_put_many kv_put_items(struct kv_fixture *fixture, const char *prefix, size_t n)
{
    struct kv_put_many many = {.n = n};

    many.items = arena_array(&fixture->arena, n, sizeof *many.items);
    for (size_t i = 0; i < n; i++) {
        many.items[i].base.key = slice_str(kv_key(fixture, prefix, (unsigned)i));
        many.items[i].value = many.items[i].base.key;
    }
    return many;
}

struct kv_get_many kv_get_items(struct kv_fixture *fixture, const char *prefix, size_t n)
{
    struct kv_get_many many = {.n = n};

    many.items = arena_array(&fixture->arena, n, sizeof *many.items);
    for (size_t i = 0; i < n; i++)
        many.items[i].base.key = slice_str(kv_key(fixture, prefix, (unsigned)i));
    return many;
}

struct kv_del_many kv_del_items(struct kv_fixture *fixture, const char *prefix, size_t n)
{
    struct kv_del_many many = {.n = n};

    many.items = arena_array(&fixture->arena, n, sizeof *many.items);
    for (size_t i = 0; i < n; i++)
        many.items[i].base.key = slice_str(kv_key(fixture, prefix, (unsigned)i));
    return many;
}

void kv_swell(struct kv_fixture *fixture, const char *prefix, unsigned n, size_t bytes)
{
    struct slice value = slice_of(memset(arena_alloc(&fixture->arena, bytes), 'x', bytes), bytes);

    for (unsigned i = 0; i < n; i++) {
        struct kv_put put = {.key = slice_str(kv_key(fixture, prefix, i)), .value = value};
        struct kv_step write = {kv_start_put, &put.op};

        kv_run(fixture, fixture->stranger, &write, 1);
        kv_expect(put.op.err, ERR_OK, NULL);
    }
}
