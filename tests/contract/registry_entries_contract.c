/* Registering, changing and leaving; registry_life_contract.c: staying. */
#include "tests/contract/registry_contract.h"

#include <stdio.h>

static registry_peer_fn *peer_of;

static struct kv_fixture *fixture_of(void **state)
{
    return *state;
}

static void expect_document(struct kv_fixture *fixture, const char *identity, const char *json)
{
    const struct registry_entry *entry = registry_find(fixture, fixture->backend, identity);

    assert_non_null(entry);
    if (!slice_equal(entry->document, registry_document(fixture, json)))
        fail_msg("%s: %s", identity,
                 arena_strdup(&fixture->arena, document_to_json(&fixture->arena, entry->document)));
}

/* ---- the acceptance cases of the redis registry, by name; Scan, ScanSkipsExpired and
 * EnumerateFallback are among the pages ---- */

static void set_get(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    static const char json[] =
        "{\"city\":\"Oslo\",\"n\":-1.5e300,\"on\":true,\"none\":null,\"list\":[1,[],{}],"
        "\"deep\":{\"a\":{\"b\":\"\xf0\x9f\x98\x80\"}}}";
    const struct slice tags[] = {slice_str("zebra"), slice_str("alpha"), slice_str("zebra")};
    struct registry_put_item item = registry_item(fixture, "phone-7", json, 0);
    const struct registry_entry *entry;

    assert_int_equal(document_of_strings(&fixture->arena, tags, 3, 1000, &item.tags).code, ERR_OK);
    kv_expect(registry_put_one(fixture, fixture->backend, &item), ERR_OK, NULL);
    assert_false(item.replaced);
    assert_int_equal(item.expires_at_ms, 0);
    expect_document(fixture, "phone-7", json);
    entry = registry_find(fixture, fixture->backend, "phone-7");
    assert_true(slice_equal(entry->tags, item.tags)); /* in the order given, repeats too */
    assert_int_equal(entry->generation, item.generation);
    assert_int_equal(entry->registered_at_ms, item.registered_at_ms);
    assert_int_equal(entry->expires_at_ms, 0);
    assert_true(entry->registered_at_ms > 1600000000000); /* Unix time in ms */
}

static void set_with_ttl(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_put_item item = registry_item(fixture, "a", "{}", 60000);
    const struct registry_entry *entry;

    kv_expect(registry_put_one(fixture, fixture->backend, &item), ERR_OK, NULL);
    assert_int_equal(item.expires_at_ms, item.registered_at_ms + 60000);
    entry = registry_find(fixture, fixture->backend, "a");
    assert_int_equal(entry->expires_at_ms, item.expires_at_ms);
}

static void delete (void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    bool existed;

    registry_put_ok(fixture, "a", NULL, 0);
    kv_expect(registry_remove_one(fixture, fixture->backend, "a", 0, &existed), ERR_OK, NULL);
    assert_true(existed);
    assert_null(registry_find(fixture, fixture->backend, "a"));
    kv_expect(registry_remove_one(fixture, fixture->backend, "a", 0, &existed), ERR_OK, NULL);
    assert_false(existed);
}

static void get_not_found(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    registry_put_ok(fixture, "ab", NULL, 0);
    assert_null(registry_find(fixture, fixture->backend, "a"));
    assert_null(registry_find(fixture, fixture->backend, "abc"));
}

/* ---- put ---- */

static void put_conditions(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_put_item first = registry_item(fixture, "a", "{\"v\":1}", 0);
    struct registry_put_item again = registry_item(fixture, "a", "{\"v\":2}", 0);

    kv_expect(registry_put_one(fixture, fixture->backend, &first), ERR_OK, NULL);
    kv_expect(registry_put_one(fixture, fixture->backend, &again), ERR_ALREADY_EXISTS, NULL);
    expect_document(fixture, "a", "{\"v\":1}");
    kv_pass(fixture, 5);
    again.replace = true;
    kv_expect(registry_put_one(fixture, fixture->backend, &again), ERR_OK, NULL);
    assert_true(again.replaced);
    assert_true(again.generation > first.generation);
    assert_int_equal(again.registered_at_ms, first.registered_at_ms);
    expect_document(fixture, "a", "{\"v\":2}");

    again.if_generation = first.generation;
    kv_expect(registry_put_one(fixture, fixture->backend, &again), ERR_FAILED_PRECONDITION,
              "if_generation");
    again.if_generation = registry_find(fixture, fixture->backend, "a")->generation;
    again.document = registry_document(fixture, "{\"v\":3}");
    kv_expect(registry_put_one(fixture, fixture->backend, &again), ERR_OK, NULL);
    expect_document(fixture, "a", "{\"v\":3}");
    again.identity = slice_str("b");
    kv_expect(registry_put_one(fixture, fixture->backend, &again), ERR_FAILED_PRECONDITION,
              "if_generation");
    assert_null(registry_find(fixture, fixture->backend, "b"));
}

static void put_many(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_put_item items[REGISTRY_BATCH];
    struct registry_put put = {.items = items, .n = REGISTRY_BATCH};
    uint64_t first[REGISTRY_BATCH];

    for (unsigned i = 0; i < REGISTRY_BATCH; i++)
        items[i] = registry_item(fixture, kv_key(fixture, "many-", i % 999), "{\"v\":1}", 0);
    kv_expect(kv_do(fixture, registry_start_put, &put.op), ERR_OK, NULL);
    for (unsigned i = 0; i < 999; i++) {
        kv_expect(items[i].err, ERR_OK, NULL);
        first[i] = items[i].generation;
        items[i].replace = true;
    }
    kv_expect(items[999].err, ERR_ALREADY_EXISTS, NULL); /* the first one, again */
    assert_int_equal(registry_count_of(fixture, fixture->backend, NULL), 999);
    put.op = (struct op){0};
    put.n = 999;
    kv_expect(kv_do(fixture, registry_start_put, &put.op), ERR_OK, NULL);
    for (unsigned i = 0; i < 999; i++) {
        kv_expect(items[i].err, ERR_OK, NULL);
        assert_true(items[i].replaced && items[i].generation > first[i]);
    }
}

static void quota(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_put_item items[] = {
        registry_item(fixture, "a", NULL, 0), registry_item(fixture, "b", NULL, 50),
        registry_item(fixture, "c", NULL, 0), registry_item(fixture, "a", NULL, 0)};
    struct registry_put put = {.items = items, .n = 4, .max_identities = 2};

    items[3].replace = true;
    kv_expect(kv_do(fixture, registry_start_put, &put.op), ERR_OK, NULL);
    kv_expect(items[1].err, ERR_OK, NULL);
    kv_expect(items[2].err, ERR_RESOURCE_EXHAUSTED, "max_identities");
    kv_expect(items[3].err, ERR_OK, NULL); /* no new one */
    assert_null(registry_find(fixture, fixture->backend, "c"));
    KV_UNTIL(fixture, registry_find(fixture, fixture->backend, "b") == NULL);
    put = (struct registry_put){.items = &items[2], .n = 1, .max_identities = 2};
    kv_expect(kv_do(fixture, registry_start_put, &put.op), ERR_OK, NULL);
    kv_expect(items[2].err, ERR_OK, NULL); /* what has expired does not count */
}

/* ---- patch ---- */

static void patches(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    uint64_t generation = registry_put_ok(fixture, "a", "{\"a\":1,\"b\":{\"x\":1},\"c\":3}", 0);
    struct registry_patch patch = {
        .identity = slice_str("a"),
        .mode = REGISTRY_MERGE,
        .document = registry_document(fixture, "{\"b\":{\"y\":2},\"c\":null,\"d\":4}")};

    kv_expect(kv_do(fixture, registry_start_patch, &patch.op), ERR_OK, NULL);
    assert_int_equal(patch.generation, generation);
    assert_int_equal(patch.expires_at_ms, 0);
    expect_document(fixture, "a", "{\"a\":1,\"b\":{\"y\":2},\"d\":4}");
    assert_string_equal(
        registry_names(fixture, fixture->backend, registry_filter(fixture, "{\"d\":4}"), 9), "a");
    assert_string_equal(
        registry_names(fixture, fixture->backend, registry_filter(fixture, "{\"c\":3}"), 9), "");

    patch = (struct registry_patch){.identity = slice_str("a"),
                                    .mode = REGISTRY_REPLACE,
                                    .document = registry_document(fixture, "{\"z\":[]}"),
                                    .set_ttl = true,
                                    .ttl_ms = 60000,
                                    .if_generation = generation};
    kv_expect(kv_do(fixture, registry_start_patch, &patch.op), ERR_OK, NULL);
    assert_true(patch.expires_at_ms > 0);
    expect_document(fixture, "a", "{\"z\":[]}");

    patch = (struct registry_patch){.identity = slice_str("a"), .set_ttl = true};
    kv_expect(kv_do(fixture, registry_start_patch, &patch.op), ERR_OK, NULL);
    assert_int_equal(registry_find(fixture, fixture->backend, "a")->expires_at_ms, 0);
    expect_document(fixture, "a", "{\"z\":[]}");

    patch.op = (struct op){0};
    patch.if_generation = generation + 1;
    kv_expect(kv_do(fixture, registry_start_patch, &patch.op), ERR_FAILED_PRECONDITION,
              "if_generation");
    patch = (struct registry_patch){.identity = slice_str("b")};
    kv_expect(kv_do(fixture, registry_start_patch, &patch.op), ERR_NOT_FOUND, NULL);
}

static void patch_too_large(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    char *json = arena_alloc(&fixture->arena, 50000);
    struct registry_patch patch = {.identity = slice_str("a"), .mode = REGISTRY_MERGE};

    memset(json, 'x', 50000);
    memcpy(json, "{\"a\":\"", 6);
    memcpy(json + 49997, "\"}", 3);
    registry_put_ok(fixture, "a", json, 0);
    json[2] = 'b';
    patch.document = registry_document(fixture, json);
    kv_expect(kv_do(fixture, registry_start_patch, &patch.op), ERR_INVALID_ARGUMENT, "metadata");
    json[2] = 'a';
    expect_document(fixture, "a", json);
}

/* ---- at the same time, from two instances ---- */

static struct backend *other; /* of the steps that say so; the peer, or the same instance */

static void choose_other(struct kv_fixture *fixture)
{
    other = peer_of != NULL ? peer_of(fixture) : fixture->backend;
}

static void start_put_on_other(struct backend *backend, struct op *op)
{
    (void)backend;
    registry_start_put(other, op);
}

static void start_patch_on_other(struct backend *backend, struct op *op)
{
    (void)backend;
    registry_start_patch(other, op);
}

/* M13: of 1,000 changes none is lost, and 1,000 heartbeats undo none. */
static void m13_heartbeats_undo_no_change(void **state)
{
    enum { ROUNDS = 20, CHANGES = 50 };

    struct kv_fixture *fixture = fixture_of(state);
    struct registry_patch patches[CHANGES];
    struct registry_beat_item alive[CHANGES];
    struct registry_beat beats[CHANGES];
    struct kv_step steps[2 * CHANGES];
    unsigned fields = 0;

    choose_other(fixture);
    registry_put_ok(fixture, "a", "{}", 60000);
    for (unsigned first = 0; first < ROUNDS * CHANGES; first += CHANGES) {
        for (unsigned i = 0; i < CHANGES; i++) {
            char *json = arena_printf(&fixture->arena, "{\"f%u\":%u}", first + i, i);

            patches[i] = (struct registry_patch){.identity = slice_str("a"),
                                                 .mode = REGISTRY_MERGE,
                                                 .document = registry_document(fixture, json)};
            alive[i] = (struct registry_beat_item){.identity = slice_str("a")};
            beats[i] = (struct registry_beat){.items = &alive[i], .n = 1, .ttl_ms = 60000};
            steps[2 * i].start = i % 2 == 0 ? registry_start_patch : start_patch_on_other;
            steps[2 * i].op = &patches[i].op;
            steps[2 * i + 1] = (struct kv_step){registry_start_beat, &beats[i].op};
        }
        kv_run(fixture, fixture->backend, steps, 2 * CHANGES);
        for (unsigned i = 0; i < CHANGES; i++) {
            kv_expect(patches[i].op.err, ERR_OK, NULL);
            kv_expect(alive[i].err, ERR_OK, NULL);
        }
    }

    struct document_walk walk =
        document_walk(registry_find(fixture, fixture->backend, "a")->document);

    while (document_next(&walk))
        fields++;
    assert_int_equal(fields, ROUNDS * CHANGES);
}

/* Both register the same names: of each name one was first. */
static void registrations_at_once(void **state)
{
    enum { NAMES = 200 };

    struct kv_fixture *fixture = fixture_of(state);
    struct registry_put_item items[2 * NAMES];
    struct registry_put puts[2 * NAMES] = {0};
    struct kv_step steps[2 * NAMES];

    choose_other(fixture);
    for (unsigned i = 0; i < 2 * NAMES; i++) {
        items[i] = registry_item(fixture, kv_key(fixture, "race-", i / 2), NULL, 0);
        puts[i] = (struct registry_put){.items = &items[i], .n = 1};
        steps[i].start = i % 2 == 0 ? registry_start_put : start_put_on_other;
        steps[i].op = &puts[i].op;
    }
    kv_run(fixture, fixture->backend, steps, 2 * NAMES);
    for (unsigned i = 0; i < 2 * NAMES; i += 2)
        assert_int_equal((items[i].err.code == ERR_OK) + (items[i + 1].err.code == ERR_OK), 1);
    assert_int_equal(registry_count_of(fixture, other, NULL), NAMES);
}

/* ---- remove ---- */

/* M2: the old connection does not take the new one out. */
static void removes_by_generation(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    uint64_t old = registry_put_ok(fixture, "a", NULL, 0);
    uint64_t new = registry_put_ok(fixture, "a", NULL, 0);
    bool existed;

    kv_expect(registry_remove_one(fixture, fixture->backend, "a", old, &existed),
              ERR_FAILED_PRECONDITION, "if_generation");
    assert_true(existed);
    assert_non_null(registry_find(fixture, fixture->backend, "a"));
    kv_expect(registry_remove_one(fixture, fixture->backend, "a", new, &existed), ERR_OK, NULL);
    assert_true(existed);
    kv_expect(registry_remove_one(fixture, fixture->backend, "a", new, &existed), ERR_OK, NULL);
    assert_false(existed);
}

static void start_remove_on_other(struct backend *backend, struct op *op)
{
    (void)backend;
    registry_start_remove(other, op);
}

enum { DEVICES = 100 };

struct reconnects {
    struct registry_put_item new[DEVICES];
    struct registry_remove_item old[DEVICES];
    struct registry_put puts[DEVICES];
    struct registry_remove removes[DEVICES];
    struct kv_step steps[2 * DEVICES];
};

/* Each device registers anew, and its old connection takes out what it had, on another instance: in
 * the first round behind that, in the second before it, then at once. */
static void reconnect_all(struct kv_fixture *fixture, struct reconnects *all, unsigned round)
{
    size_t together = round < 2 ? DEVICES : 2 * DEVICES;

    for (unsigned i = 0; i < DEVICES; i++) {
        unsigned new = round == 0 ? i : round == 1 ? DEVICES + i : 2 * i + (round + i) % 2;
        unsigned old = round == 0 ? DEVICES + i : round == 1 ? i : 2 * i + (round + i + 1) % 2;
        struct slice name = slice_str(kv_key(fixture, "device", i));

        all->old[i] = (struct registry_remove_item){.identity = name,
                                                    .if_generation = all->new[i].generation};
        all->new[i] = (struct registry_put_item){.identity = name, .replace = true};
        all->puts[i] = (struct registry_put){.items = &all->new[i], .n = 1};
        all->removes[i] = (struct registry_remove){.items = &all->old[i], .n = 1};
        all->steps[new] = (struct kv_step){registry_start_put, &all->puts[i].op};
        all->steps[old] = (struct kv_step){start_remove_on_other, &all->removes[i].op};
    }
    for (size_t at = 0; at < 2 * DEVICES; at += together)
        kv_run(fixture, fixture->backend, &all->steps[at], together);
}

/* M2: 10,000 reconnects, or as many as ten seconds have; the live one is there after each. */
static void m2_reconnects(void **state)
{
    enum { ROUNDS = 100, MOST_MS = 10000 };
    struct kv_fixture *fixture = fixture_of(state);
    struct reconnects all = {0};
    uint64_t until_ms = kv_clock_ms() + MOST_MS;
    unsigned met[2] = {0, 0};

    choose_other(fixture);
    for (unsigned i = 0; i < DEVICES; i++)
        all.new[i].generation = registry_put_ok(fixture, kv_key(fixture, "device", i), NULL, 0);
    for (unsigned round = 0; round < ROUNDS && kv_clock_ms() < until_ms; round++) {
        reconnect_all(fixture, &all, round);
        for (unsigned i = 0; i < DEVICES; i++) {
            bool late = all.old[i].err.code != ERR_OK;

            kv_expect(all.new[i].err, ERR_OK, NULL);
            if (late)
                kv_expect(all.old[i].err, ERR_FAILED_PRECONDITION, "if_generation");
            met[late]++;
        }
        assert_int_equal(registry_count_of(fixture, other, NULL), DEVICES);
        assert_int_equal(registry_find(fixture, other, "device00042")->generation,
                         all.new[42].generation);
        arena_clear(&fixture->arena);
    }
    assert_true(met[0] > 0 && met[1] > 0);
}

/* ---- get ---- */

static void gets_many(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct slice names[REGISTRY_BATCH];
    struct registry_get get = {.identities = names, .n = REGISTRY_BATCH, .with_documents = true};

    for (unsigned i = 0; i < REGISTRY_BATCH; i++) {
        names[i] = slice_str(kv_key(fixture, "get-", i));
        if (i % 100 == 0)
            registry_put_ok(fixture, (const char *)names[i].data, "{\"v\":\"0123456789\"}", 0);
    }
    kv_expect(kv_do(fixture, registry_start_get, &get.op), ERR_OK, NULL);
    assert_int_equal(get.looked_up, REGISTRY_BATCH);
    for (unsigned i = 0; i < REGISTRY_BATCH; i++)
        assert_int_equal(get.entries[i].generation > 0, i % 100 == 0);
    assert_true(get.entries[100].document.len > 10);

    get.op = (struct op){0};
    get.with_documents = false;
    kv_expect(kv_do(fixture, registry_start_get, &get.op), ERR_OK, NULL);
    assert_int_equal(get.entries[100].document.len, 0);
    get.op = (struct op){0};
    get.with_documents = true;
    get.max_bytes = 60;
    kv_expect(kv_do(fixture, registry_start_get, &get.op), ERR_OK, NULL);
    assert_true(get.looked_up >= 101 && get.looked_up < 500);
}

/* ---- two instances, two namespaces ---- */

static void instances_agree(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct backend *peer = peer_of != NULL ? peer_of(fixture) : NULL;
    struct registry_put_item item = registry_item(fixture, "a", "{\"v\":2}", 0);
    uint64_t generation;
    bool existed;

    if (peer == NULL)
        skip();
    generation = registry_put_ok(fixture, "a", "{\"v\":1}", 60000);
    assert_int_equal(registry_find(fixture, peer, "a")->generation, generation);
    assert_string_equal(registry_names(fixture, peer, registry_filter(fixture, "{\"v\":1}"), 9),
                        "a");
    kv_expect(registry_put_one(fixture, peer, &item), ERR_ALREADY_EXISTS, NULL);
    item.replace = true;
    kv_expect(registry_put_one(fixture, peer, &item), ERR_OK, NULL);
    kv_expect(registry_remove_one(fixture, fixture->backend, "a", generation, &existed),
              ERR_FAILED_PRECONDITION, "if_generation");
    expect_document(fixture, "a", "{\"v\":2}");
    kv_expect(registry_remove_one(fixture, peer, "a", item.generation, &existed), ERR_OK, NULL);
    assert_null(registry_find(fixture, fixture->backend, "a"));
}

static void namespaces_are_apart(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    if (fixture->elsewhere == NULL)
        skip();
    registry_put_ok(fixture, "a", NULL, 0);
    assert_null(registry_find(fixture, fixture->elsewhere, "a"));
    assert_string_equal(registry_names(fixture, fixture->elsewhere, NULL, 10), "");
    assert_int_equal(registry_count_of(fixture, fixture->elsewhere, NULL), 0);
}

static int tear_down(void **state)
{
    registry_empty(state);
    return kv_forget(state);
}

int registry_entries_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                              registry_peer_fn *peer)
{
#define ENTRY(test)                                                                                \
    {                                                                                              \
#test, test, NULL, tear_down, NULL                                                         \
    }
    const struct CMUnitTest tests[] = {
        ENTRY(set_get),
        ENTRY(set_with_ttl),
        ENTRY(delete),
        ENTRY(get_not_found),
        ENTRY(put_conditions),
        ENTRY(put_many),
        ENTRY(quota),
        ENTRY(patches),
        ENTRY(patch_too_large),
        ENTRY(m13_heartbeats_undo_no_change),
        ENTRY(removes_by_generation),
        ENTRY(m2_reconnects),
        ENTRY(gets_many),
        ENTRY(instances_agree),
        ENTRY(registrations_at_once),
        ENTRY(namespaces_are_apart),
    };
#undef ENTRY

    peer_of = peer;
    return kv_group(name, "registry, entries", tests, sizeof tests / sizeof *tests, setup,
                    teardown);
}
