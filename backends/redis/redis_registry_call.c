/* Calling scripts by their names; a server that does not know one (restarted, flushed) answers
 * NOSCRIPT and gets it whole. And what records hold. */
#include "backends/redis/redis_topic.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { RECORD_HEADER = 29, RECORD_VERSION = 1 };

/* ---- keys ---- */

/* "<root>:{<namespace>}%registry:": the braces keep the keys of one registry on one server of a
 * cluster. */
static struct slice key_of(const struct redis_store *store, struct arena *arena, const char *name)
{
    const char *colon = strchr(store->prefix, ':');
    int root = (int)(colon - store->prefix);
    int space = (int)store->prefix_len - root - 2;

    return slice_str(arena_printf(arena, "%.*s:{%.*s}%%registry:%s", root, store->prefix, space,
                                  colon + 1, name));
}

void *redis_registry_new(struct backend *backend, struct op *op, size_t bytes,
                         enum redis_registry_call script)
{
    static const char *const names[REDIS_REGISTRY_KEYS] = {"order", "due", "life", "entries",
                                                           "generation"};
    struct redis_registry_work *work = arena_zalloc(op_arena(op), bytes);

    work->redis = redis_of(backend);
    work->op = op;
    work->script = script;
    work->names = &redis_instance_of(backend)->names;
    for (unsigned i = 0; i < REDIS_REGISTRY_KEYS; i++)
        work->keys[i] = key_of(redis_store_of(work->redis), op_arena(op), names[i]);
    return work;
}

/* ---- calls ---- */

void redis_registry_name(struct redis_registry_names *names)
{
    for (size_t i = 0; i < REDIS_REGISTRY_SCRIPTS; i++)
        redis_sha1_hex(slice_str(redis_registry_scripts[i].text), names->sha1[i]);
}

static const struct redis_registry_script *script_of(const struct redis_registry_work *work)
{
    return &redis_registry_scripts[work->script];
}

static void on_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_registry_work *work = call->state;

    if (node->type != REDIS_REPLY_ERROR)
        work->node(work, call, node);
    else if (redis_error_is(node->text, "NOSCRIPT"))
        work->unknown = true;
    else if (call->err.code == ERR_OK)
        call->err = redis_error(op_arena(call->op), node->text);
}

static void end(struct redis_registry_work *work, struct err err)
{
    redis_finish(work->redis, work->op, err.code != ERR_OK && work->wrote ? err_lost(err) : err);
}

static void on_end(struct redis_call *call)
{
    struct redis_registry_work *work = call->state;

    if (work->unknown && call->err.code == ERR_OK) {
        redis_registry_run(work);
        return;
    }
    if (call->err.code != ERR_OK) {
        end(work, call->err);
        return;
    }
    work->wrote = script_of(work)->writes;
    work->next(work);
}

static void on_lost(struct redis_call *call, struct err why)
{
    end(call->state, why);
}

static const struct redis_kind reads = {
    .item_errors = true, .node = on_node, .end = on_end, .lost = on_lost};
static const struct redis_kind writes = {
    .writes = true, .item_errors = true, .node = on_node, .end = on_end, .lost = on_lost};

static void say(struct redis_registry_work *work, struct redis_call *call)
{
    call->state = work;
    redis_command(call, 3 + REDIS_REGISTRY_KEYS + work->words, work->unknown ? "EVAL" : "EVALSHA");
    redis_word(call, work->unknown ? slice_str(script_of(work)->text)
                                   : slice_of(work->names->sha1[work->script], REDIS_SHA1_HEX));
    redis_word_number(call, REDIS_REGISTRY_KEYS);
    for (unsigned i = 0; i < REDIS_REGISTRY_KEYS; i++)
        redis_word(call, work->keys[i]);
    work->unknown = false;
    work->say(call, work);
}

static size_t bytes_of(const struct redis_registry_work *work)
{
    return work->bytes + redis_words(3 + REDIS_REGISTRY_KEYS + work->words) +
           (work->unknown ? strlen(script_of(work)->text) : 0);
}

static void start_turn(struct redis_turn *turn)
{
    struct redis_registry_work *work = CONTAINER_OF(turn, struct redis_registry_work, turn);
    struct redis_call *call = redis_begin_turn(turn, &reads, bytes_of(work));

    if (call != NULL)
        say(work, call);
}

void redis_registry_run(struct redis_registry_work *work)
{
    struct redis_call *call;

    if (work->in_turns) {
        redis_turn_take(work->redis, &work->turn, work->op, start_turn);
        return;
    }
    if (work->wrote && work->redis->phase != REDIS_READY) {
        end(work, work->redis->down);
        return;
    }
    call = redis_begin(work->redis, work->op, script_of(work)->writes ? &writes : &reads,
                       bytes_of(work));
    if (call != NULL)
        say(work, call);
}

/* ---- records ---- */

static double double_at(const uint8_t *at)
{
    double number;

    memcpy(&number, at, sizeof number);
    return number;
}

static bool whole_number(double number, uint64_t *out)
{
    if (!(number >= 0 && number <= 9007199254740992.0))
        return false;
    *out = (uint64_t)number;
    return true;
}

/* A header without a document is what was asked for, or a record that is not whole. */
bool redis_registry_record(struct slice record, struct registry_entry *entry)
{
    uint32_t len;

    if (record.len < RECORD_HEADER || record.data[0] != RECORD_VERSION ||
        !whole_number(double_at(record.data + 1), &entry->generation) ||
        !whole_number(double_at(record.data + 9), &entry->registered_at_ms) ||
        entry->generation == 0)
        return false;
    entry->document = entry->tags = slice_of(NULL, 0);
    if (record.len == RECORD_HEADER)
        return true;
    memcpy(&len, record.data + RECORD_HEADER - sizeof len, sizeof len);
    if (len > record.len - RECORD_HEADER)
        return false;
    entry->document = slice_of(record.data + RECORD_HEADER, len);
    entry->tags = slice_of(record.data + RECORD_HEADER + len, record.len - RECORD_HEADER - len);
    return document_valid(entry->document) &&
           document_type_of(entry->document) == DOCUMENT_STRUCT && document_valid(entry->tags) &&
           document_type_of(entry->tags) == DOCUMENT_LIST;
}

bool redis_registry_life(struct slice text, uint64_t *expires_at_ms)
{
    char number[32], *rest;
    double score;

    *expires_at_ms = 0;
    if (slice_equal(text, slice_str("inf")))
        return true;
    if (text.len == 0 || text.len >= sizeof number)
        return false;
    memcpy(number, text.data, text.len);
    number[text.len] = '\0';
    score = strtod(number, &rest);
    return *rest == '\0' && whole_number(score, expires_at_ms) && *expires_at_ms > 0;
}
