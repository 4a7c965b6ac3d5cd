/* Put, patch, beat, remove, get: calls of a script for REDIS_REGISTRY_STEP items each, one after
 * the other. */
#include "backends/redis/redis_registry.h"

/* An op on n items; `done` of them have their outcome. */
struct items {
    struct redis_scripted work; /* first */
    size_t n, done, step;
    /* Of an answer that is being read. */
    size_t parts;
    /* What one more item adds to the call; words: of each. */
    size_t (*item_bytes)(const struct items *items, size_t i);
    unsigned head_words, item_words;
};

static size_t step_of(const struct items *items)
{
    size_t bytes = 0, i = items->done;

    while (i < items->n && i - items->done < REDIS_REGISTRY_STEP &&
           (i == items->done || bytes < REDIS_REGISTRY_BYTES))
        bytes += items->item_bytes(items, i++);
    return i - items->done;
}

static void items_call(struct items *items)
{
    items->step = step_of(items);
    items->parts = 0;
    items->work.words = items->head_words + items->item_words * (unsigned)items->step;
    items->work.bytes = 64;
    for (size_t i = 0; i < items->step; i++)
        items->work.bytes += items->item_bytes(items, items->done + i);
    redis_scripted_run(&items->work);
}

static void items_next(struct redis_scripted *work)
{
    struct items *items = (struct items *)work;

    items->done += items->step;
    if (items->done < items->n)
        items_call(items);
    else
        redis_finish(work->redis, work->op, ERR_NONE);
}

/* An answer of `each` parts for each item; false: this part is none of them. */
static bool items_part(struct items *items, struct redis_call *call, const struct redis_node *node,
                       size_t each, int type)
{
    if (node->depth == 0 && node->type == REDIS_REPLY_ARRAY) {
        if ((size_t)node->number != each * items->step)
            redis_unexpected(call);
        return false;
    }
    if (node->depth != 1 || node->type != type || items->parts == each * items->step) {
        redis_unexpected(call);
        return false;
    }
    items->parts++;
    return call->err.code == ERR_OK;
}

static struct err other_generation(void)
{
    return err_about(ERR_FAILED_PRECONDITION, "if_generation",
                     "the identity has been registered anew");
}

static struct err absent(void)
{
    return err_make(ERR_NOT_FOUND, "the identity is not registered");
}

/* ---- put ---- */

enum { PUT_PARTS = 5 };

static struct registry_put *put_of(const struct items *items)
{
    return CONTAINER_OF(items->work.op, struct registry_put, op);
}

static size_t put_bytes(const struct items *items, size_t i)
{
    const struct registry_put_item *item = &put_of(items)->items[i];

    return item->identity.len + item->document.len + item->tags.len + 64;
}

/* u32 length of the document, the document, the tags. */
static struct slice body_of(struct arena *arena, const struct registry_put_item *item)
{
    static const uint8_t no_tags[] = {DOCUMENT_LIST};
    struct slice document = item->document.len > 0 ? item->document : document_empty();
    struct slice tags = item->tags.len > 0 ? item->tags : slice_of(no_tags, sizeof no_tags);
    uint32_t len = (uint32_t)document.len;
    uint8_t *body = arena_alloc(arena, sizeof len + document.len + tags.len);

    memcpy(body, &len, sizeof len);
    memcpy(body + sizeof len, document.data, document.len);
    memcpy(body + sizeof len + document.len, tags.data, tags.len);
    return slice_of(body, sizeof len + document.len + tags.len);
}

static void put_say(struct redis_call *call, struct redis_scripted *work)
{
    struct items *items = (struct items *)work;
    const struct registry_put *put = put_of(items);

    if (put->max_identities == REDIS_REGISTRY_NOBODY)
        redis_word(call, slice_str("-1"));
    else
        redis_word_number(call, put->max_identities);
    for (size_t i = 0; i < items->step; i++) {
        const struct registry_put_item *item = &put->items[items->done + i];

        redis_word(call, item->identity);
        redis_word(call, slice_str(item->replace ? "replace" : ""));
        redis_word_number(call, item->if_generation);
        redis_word_number(call, item->ttl_ms);
        redis_word(call, body_of(op_arena(work->op), item));
    }
}

static const char limit[] = "max_identities";

struct err redis_registry_full(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, limit,
                     "the namespace holds as many identities as it may");
}

bool redis_registry_is_full(struct err err)
{
    return err.code == ERR_RESOURCE_EXHAUSTED && err.subject == limit;
}

static struct err put_outcome(long long code)
{
    switch (code) {
    case 0:
        return ERR_NONE;
    case 1:
        return err_make(ERR_ALREADY_EXISTS, "the identity is registered");
    case 2:
        return redis_registry_full();
    default:
        return other_generation();
    }
}

static void put_node(struct redis_scripted *work, struct redis_call *call,
                     const struct redis_node *node)
{
    struct items *items = (struct items *)work;

    if (!items_part(items, call, node, PUT_PARTS, REDIS_REPLY_INTEGER))
        return;

    size_t part = items->parts - 1;
    struct registry_put_item *item = &put_of(items)->items[items->done + part / PUT_PARTS];

    switch (part % PUT_PARTS) {
    case 0:
        item->err = put_outcome(node->number);
        break;
    case 1:
        item->replaced = node->number != 0;
        break;
    case 2:
        item->generation = (uint64_t)node->number;
        break;
    case 3:
        item->registered_at_ms = (uint64_t)node->number;
        break;
    default:
        item->expires_at_ms = (uint64_t)node->number;
        break;
    }
}

static void put(struct backend *backend, struct registry_put *put)
{
    struct items *items = redis_registry_new(backend, &put->op, sizeof *items, REDIS_REGISTRY_PUT);

    items->n = put->n;
    items->item_bytes = put_bytes;
    items->head_words = 1;
    items->item_words = 5;
    items->work.say = put_say;
    items->work.node = put_node;
    items->work.next = items_next;
    items_call(items);
}

/* ---- beat ---- */

static size_t beat_bytes(const struct items *items, size_t i)
{
    return CONTAINER_OF(items->work.op, struct registry_beat, op)->items[i].identity.len + 20;
}

static void beat_say(struct redis_call *call, struct redis_scripted *work)
{
    struct items *items = (struct items *)work;
    const struct registry_beat *beat = CONTAINER_OF(work->op, struct registry_beat, op);

    redis_word_number(call, beat->ttl_ms);
    for (size_t i = 0; i < items->step; i++) {
        redis_word(call, beat->items[items->done + i].identity);
        redis_word_number(call, beat->items[items->done + i].if_generation);
    }
}

static void beat_node(struct redis_scripted *work, struct redis_call *call,
                      const struct redis_node *node)
{
    struct items *items = (struct items *)work;

    if (!items_part(items, call, node, 1, REDIS_REPLY_INTEGER))
        return;

    struct registry_beat_item *item =
        &CONTAINER_OF(work->op, struct registry_beat, op)->items[items->done + items->parts - 1];

    item->err = node->number == -1 ? absent() : node->number < 0 ? other_generation() : ERR_NONE;
    item->expires_at_ms = node->number > 0 ? (uint64_t)node->number : 0;
}

static void beat(struct backend *backend, struct registry_beat *beat)
{
    struct items *items =
        redis_registry_new(backend, &beat->op, sizeof *items, REDIS_REGISTRY_BEAT);

    items->n = beat->n;
    items->item_bytes = beat_bytes;
    items->head_words = 1;
    items->item_words = 2;
    items->work.say = beat_say;
    items->work.node = beat_node;
    items->work.next = items_next;
    items_call(items);
}

/* ---- remove ---- */

static size_t remove_bytes(const struct items *items, size_t i)
{
    return CONTAINER_OF(items->work.op, struct registry_remove, op)->items[i].identity.len + 20;
}

static void remove_say(struct redis_call *call, struct redis_scripted *work)
{
    struct items *items = (struct items *)work;
    const struct registry_remove *remove = CONTAINER_OF(work->op, struct registry_remove, op);

    for (size_t i = 0; i < items->step; i++) {
        redis_word(call, remove->items[items->done + i].identity);
        redis_word_number(call, remove->items[items->done + i].if_generation);
    }
}

static void remove_node(struct redis_scripted *work, struct redis_call *call,
                        const struct redis_node *node)
{
    struct items *items = (struct items *)work;

    if (!items_part(items, call, node, 1, REDIS_REPLY_INTEGER))
        return;

    struct registry_remove_item *item =
        &CONTAINER_OF(work->op, struct registry_remove, op)->items[items->done + items->parts - 1];

    item->err = node->number == 2 ? other_generation() : ERR_NONE;
    item->existed = node->number != 0;
}

static void remove_many(struct backend *backend, struct registry_remove *remove)
{
    struct items *items =
        redis_registry_new(backend, &remove->op, sizeof *items, REDIS_REGISTRY_REMOVE);

    items->n = remove->n;
    items->item_bytes = remove_bytes;
    items->item_words = 2;
    items->work.say = remove_say;
    items->work.node = remove_node;
    items->work.next = items_next;
    items_call(items);
}

/* ---- patch ---- */

struct patching {
    struct redis_scripted work; /* first */
    long long parts[3];
    size_t n;
};

static void patch_say(struct redis_call *call, struct redis_scripted *work)
{
    static const char *const modes[] = {
        [REGISTRY_KEEP] = "keep", [REGISTRY_MERGE] = "merge", [REGISTRY_REPLACE] = "replace"};
    const struct registry_patch *patch = CONTAINER_OF(work->op, struct registry_patch, op);

    redis_word(call, patch->identity);
    redis_word(call, slice_str(modes[patch->mode]));
    redis_word(call, patch->document);
    if (patch->set_ttl)
        redis_word_number(call, patch->ttl_ms);
    else
        redis_word(call, slice_str(""));
    redis_word_number(call, patch->if_generation);
    redis_word_number(call, REGISTRY_DOCUMENT_BYTES);
}

static void patch_node(struct redis_scripted *work, struct redis_call *call,
                       const struct redis_node *node)
{
    struct patching *patching = (struct patching *)work;

    if (node->depth == 0 && node->type == REDIS_REPLY_ARRAY)
        return;
    if (node->depth == 1 && node->type == REDIS_REPLY_INTEGER &&
        patching->n < ARRAY_LEN(patching->parts))
        patching->parts[patching->n++] = node->number;
    else
        redis_unexpected(call);
}

static struct err patch_outcome(const struct patching *patching)
{
    if (patching->n == 0 || (patching->parts[0] == 0 && patching->n < 3))
        return err_make(ERR_INTERNAL, "redis gave an answer that the script does not have");
    switch (patching->parts[0]) {
    case 0:
        return ERR_NONE;
    case 1:
        return absent();
    case 4:
        return err_about(ERR_INVALID_ARGUMENT, "metadata",
                         "the metadata would become larger than the limit");
    default:
        return other_generation();
    }
}

static void patch_next(struct redis_scripted *work)
{
    struct patching *patching = (struct patching *)work;
    struct registry_patch *patch = CONTAINER_OF(work->op, struct registry_patch, op);
    struct err err = patch_outcome(patching);

    if (err.code == ERR_OK) {
        patch->generation = (uint64_t)patching->parts[1];
        patch->expires_at_ms = (uint64_t)patching->parts[2];
    }
    redis_finish(work->redis, work->op, err);
}

static void patch(struct backend *backend, struct registry_patch *patch)
{
    struct patching *patching =
        redis_registry_new(backend, &patch->op, sizeof *patching, REDIS_REGISTRY_PATCH);

    patching->work.words = 6;
    patching->work.bytes = patch->identity.len + patch->document.len + 64;
    patching->work.say = patch_say;
    patching->work.node = patch_node;
    patching->work.next = patch_next;
    redis_scripted_run(&patching->work);
}

/* ---- get ---- */

struct getting {
    struct items items; /* first */
    uint64_t bytes;
    uint64_t expires_at_ms; /* of the entry that is being read */
    bool here;
};

static struct registry_get *get_of(const struct items *items)
{
    return CONTAINER_OF(items->work.op, struct registry_get, op);
}

static uint64_t get_room(const struct getting *getting)
{
    uint64_t most = get_of(&getting->items)->max_bytes;

    most = most == 0 ? REDIS_REGISTRY_BYTES : most - getting->bytes;
    return most < REDIS_REGISTRY_BYTES ? most : REDIS_REGISTRY_BYTES;
}

static size_t get_bytes(const struct items *items, size_t i)
{
    return get_of(items)->identities[i].len;
}

static void get_say(struct redis_call *call, struct redis_scripted *work)
{
    struct getting *getting = (struct getting *)work;
    const struct registry_get *get = get_of(&getting->items);

    redis_word_number(call, get_room(getting));
    redis_word(call, slice_str(get->with_documents ? "whole" : ""));
    for (size_t i = 0; i < getting->items.step; i++)
        redis_word(call, get->identities[getting->items.done + i]);
}

static void get_record(struct getting *getting, struct slice text)
{
    struct registry_get *get = get_of(&getting->items);
    struct registry_entry *entry = &get->entries[get->looked_up++];
    struct arena *arena = op_arena(&get->op);

    if (!getting->here)
        return;
    if (!redis_registry_record(arena_copy(arena, text), entry)) {
        counter_add(&getting->items.work.redis->stats->errors, 1); /* as in pages */
        *entry = (struct registry_entry){0};
        return;
    }
    entry->identity = arena_copy(arena, get->identities[get->looked_up - 1]);
    entry->expires_at_ms = getting->expires_at_ms;
    getting->bytes += entry->identity.len + entry->document.len + entry->tags.len;
}

/* Pairs of expiry and record, fewer than were asked for where the room has ended. */
static void get_node(struct redis_scripted *work, struct redis_call *call,
                     const struct redis_node *node)
{
    struct getting *getting = (struct getting *)work;
    struct items *items = &getting->items;

    if (node->depth == 0 && node->type == REDIS_REPLY_ARRAY &&
        (size_t)node->number <= 2 * items->step)
        return;
    if (node->depth != 1 || node->type != REDIS_REPLY_STRING || items->parts == 2 * items->step) {
        redis_unexpected(call);
        return;
    }
    if (items->parts++ % 2 == 1) {
        get_record(getting, node->text);
        return;
    }
    getting->here = node->text.len > 0;
    if (getting->here && !redis_registry_life(node->text, &getting->expires_at_ms))
        redis_unexpected(call);
}

static void get_next(struct redis_scripted *work)
{
    struct getting *getting = (struct getting *)work;
    struct items *items = &getting->items;
    const struct registry_get *get = get_of(items);

    items->done = get->looked_up;
    if (items->done < items->n && (get->max_bytes == 0 || getting->bytes < get->max_bytes))
        items_call(items);
    else
        redis_finish(work->redis, work->op, ERR_NONE);
}

static void get(struct backend *backend, struct registry_get *get)
{
    struct getting *getting =
        redis_registry_new(backend, &get->op, sizeof *getting, REDIS_REGISTRY_GET);
    struct items *items = &getting->items;

    get->entries = arena_array(op_arena(&get->op), get->n, sizeof *get->entries);
    get->looked_up = 0;
    items->n = get->n;
    items->item_bytes = get_bytes;
    items->head_words = 2;
    items->item_words = 1;
    items->work.say = get_say;
    items->work.node = get_node;
    items->work.next = get_next;
    items_call(items);
}

const struct registry redis_registry = {.native = REDIS_REGISTRY_OPS,
                                        .indexed = true,
                                        .calls = "ceil(n/100)",
                                        .page_calls = "1..16",
                                        .put = put,
                                        .patch = patch,
                                        .beat = beat,
                                        .remove = remove_many,
                                        .get = get,
                                        .page = redis_registry_page,
                                        .count = redis_registry_count};
