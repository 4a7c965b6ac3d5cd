/* The table against a model: a sorted list of (tag, entry). */
#include "backends/memstore/index.h"

#include "tests/unit/backends/memstore/memstore_rig.h"

enum { MODEL_MAX = 5000 };

struct model {
    struct index index;
    size_t n;
    struct {
        uint32_t tag;
        void *entry;
    } items[MODEL_MAX];
};

/* Any address aligned to 16 will do: entries are never looked at. */
static void *address(uint64_t number)
{
    return (void *)(uintptr_t)((number + 1) * 16);
}

static void add(struct model *model, uint32_t tag, void *entry)
{
    assert_true(model->n < MODEL_MAX);
    index_insert(&model->index, tag, entry);
    model->items[model->n].tag = tag;
    model->items[model->n++].entry = entry;
}

/* The position of the entry, by search. */
static size_t find(const struct model *model, uint32_t tag, const void *entry)
{
    size_t at = index_first(&model->index, tag);

    while (index_tag(&model->index, at) == tag) {
        if (index_entry(&model->index, at) == entry)
            return at;
        at++;
    }
    fail_msg("an entry is not found");
    return 0;
}

static void drop(struct model *model, size_t which)
{
    index_remove(&model->index, find(model, model->items[which].tag, model->items[which].entry));
    model->items[which] = model->items[--model->n];
}

/* In order, complete, each in reach of its home, the last bucket empty. */
static void check(const struct model *model)
{
    const struct index *index = &model->index;
    size_t seen = 0;
    uint32_t last = 0;

    assert_int_equal(index->count, model->n);
    for (size_t i = 0; i < model->n; i++)
        find(model, model->items[i].tag, model->items[i].entry);
    for (size_t at = index_from(index, 0); at < index->room; at = index_skip(index, at + 1)) {
        uint32_t tag = index_tag(index, at);

        assert_true(tag >= last);
        assert_true(index_home(index, tag) <= at);
        for (size_t between = index_home(index, tag); between < at; between++)
            assert_int_not_equal(index->buckets[between], 0);
        last = tag;
        seen++;
    }
    assert_int_equal(seen, model->n);
    if (index->buckets != NULL)
        assert_int_equal(index->buckets[index->room - 1], 0);
}

static struct model *model_new(void)
{
    struct model *model = calloc(1, sizeof *model);

    assert_non_null(model);
    index_init(&model->index);
    return model;
}

static void model_destroy(struct model *model)
{
    index_clear(&model->index);
    free(model);
}

/* Grows to `most` and shrinks to nothing, at random, with tags below `tags`. */
static void grow_and_shrink(uint32_t tags, uint32_t first, size_t most, uint64_t seed)
{
    struct model *model = model_new();
    bool growing = true;
    uint64_t number = 0;

    for (;;) {
        bool more = rig_random(&seed) % 100 < (growing ? 70 : 30);

        if (more && model->n < MODEL_MAX)
            add(model, first + (uint32_t)(rig_random(&seed) % tags), address(number++));
        else if (model->n > 0)
            drop(model, rig_random(&seed) % model->n);
        if (number % 97 == 0)
            check(model);
        growing = growing && model->n < most;
        if (!growing && model->n == 0)
            break;
    }
    check(model);
    assert_true(model->index.room <= 64);
    model_destroy(model);
}

static void test_random(void **state)
{
    (void)state;
    grow_and_shrink(INDEX_TAGS, 0, 3000, 1);
    grow_and_shrink(1000, 0, 2000, 2);
    grow_and_shrink(64, INDEX_TAGS / 2, 1000, 3);
}

/* All at one home, also at the very end of the table, where there is no room behind. */
static void test_one_tag(void **state)
{
    (void)state;
    grow_and_shrink(1, 0, 600, 4);
    grow_and_shrink(1, INDEX_TAGS / 3, 600, 5);
    grow_and_shrink(1, INDEX_TAGS - 1, 600, 6);
    grow_and_shrink(3, INDEX_TAGS - 3, 600, 7);
}

static void test_walk_from(void **state)
{
    struct model *model = model_new();
    uint64_t seed = 8;

    (void)state;
    assert_int_equal(index_from(&model->index, 0), model->index.room);
    for (unsigned i = 0; i < 1000; i++)
        add(model, (uint32_t)(rig_random(&seed) % INDEX_TAGS), address(i));
    for (unsigned i = 0; i < 1000; i++) {
        uint32_t from = (uint32_t)(rig_random(&seed) % INDEX_TAGS);
        size_t at = index_from(&model->index, from), larger = 0, walked = 0;

        for (size_t k = 0; k < model->n; k++)
            larger += model->items[k].tag >= from;
        for (; at < model->index.room; at = index_skip(&model->index, at + 1)) {
            assert_true(index_tag(&model->index, at) >= from);
            walked++;
        }
        assert_int_equal(walked, larger);
    }
    model_destroy(model);
}

static void test_replace(void **state)
{
    struct model *model = model_new();

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        add(model, i * 1000, address(i));
    for (unsigned i = 0; i < 100; i++) {
        index_replace(&model->index, find(model, i * 1000, address(i)), address(1000 + i));
        model->items[i].entry = address(1000 + i);
    }
    check(model);
    model_destroy(model);
}

/* Large addresses and tags keep their bits. */
static void test_packing(void **state)
{
    struct index index;
    void *high = (void *)(uintptr_t)0x0000fffffffffff0u;

    (void)state;
    index_init(&index);
    index_insert(&index, INDEX_TAGS - 1, high);
    index_insert(&index, 0, address(0));
    assert_ptr_equal(index_entry(&index, index_first(&index, INDEX_TAGS - 1)), high);
    assert_int_equal(index_tag(&index, index_first(&index, INDEX_TAGS - 1)), INDEX_TAGS - 1);
    assert_ptr_equal(index_entry(&index, index_first(&index, 0)), address(0));
    index_clear(&index);
}

/* The table stays between a quarter and seven eighths full while it grows and shrinks by random
 * tags. */
static void test_load(void **state)
{
    struct model *model = model_new();
    uint64_t seed = 9;

    (void)state;
    while (model->n < 4000) {
        add(model, (uint32_t)(rig_random(&seed) % INDEX_TAGS), address(model->n));
        if (model->n > 100)
            assert_in_range(model->n * 100 / model->index.room, 50, 88);
    }
    while (model->n > 100) {
        drop(model, rig_random(&seed) % model->n);
        assert_in_range(model->n * 100 / model->index.room, 15, 88);
    }
    model_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),    cmocka_unit_test(test_one_tag),
        cmocka_unit_test(test_walk_from), cmocka_unit_test(test_replace),
        cmocka_unit_test(test_packing),   cmocka_unit_test(test_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
