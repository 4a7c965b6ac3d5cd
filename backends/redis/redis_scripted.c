#include "backends/redis/redis_scripted.h"

#include "backends/redis/redis_store.h"
#include "backends/redis/redis_tags.h"

#include <string.h>

/* ---- keys ---- */

struct slice redis_scripted_space(const struct redis_store *store)
{
    const char *colon = strchr(store->prefix, ':');

    return slice_of(colon + 1, store->prefix_len - (size_t)(colon - store->prefix) - 2);
}

struct slice redis_scripted_key(const struct redis *redis, struct arena *arena, unsigned part,
                                const char *family, const char *name)
{
    struct redis_store *store = redis_store_of(redis);
    const struct redis_tags *tags = atomic_load(&store->tags);
    struct slice space = redis_scripted_space(store);
    int root = (int)(strchr(store->prefix, ':') - store->prefix);

    if (tags != NULL && tags->n > 1)
        space = slice_str(tags->texts[part]);
    return slice_str(arena_printf(arena, "%.*s:{%.*s}%%%s%s", root, store->prefix, (int)space.len,
                                  (const char *)space.data, family, name));
}

unsigned redis_scripted_parts(const struct redis_scripted *work)
{
    const struct redis_tags *tags = atomic_load(&redis_store_of(work->redis)->tags);

    return tags != NULL ? tags->n : 1;
}

void *redis_scripted_new(struct redis *redis, struct op *op, size_t bytes, const char *family,
                         const char *const *keys, unsigned keys_n)
{
    struct redis_scripted *work = arena_zalloc(op_arena(op), bytes);

    work->op = op;
    work->keys_n = keys_n;
    if (redis->cluster != NULL) {
        work->part = (unsigned)op->backend_word;
        op->backend_word = 0;
    }
    for (unsigned i = 0; i < keys_n; i++)
        work->keys[i] = redis_scripted_key(redis, op_arena(op), work->part, family, keys[i]);
    work->redis = redis_to_key(redis, work->keys[0]);
    return work;
}

/* ---- calls ---- */

void redis_scripted_name(struct redis_scripted_name *names, const struct redis_scripted_text *texts,
                         size_t n)
{
    for (size_t i = 0; i < n; i++)
        redis_sha1_hex(slice_str(texts[i].text), names[i].sha1);
}

/* An error leaves nothing behind, but for one. */
static struct err refusal(const struct redis_scripted *work, struct redis_call *call,
                          struct slice reply)
{
    struct err err = redis_error(op_arena(call->op), reply);

    return work->script->writes && redis_error_is(reply, REDIS_ERROR_ASTRAY) ? err_lost(err) : err;
}

static void on_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_scripted *work = call->state;

    if (node->type != REDIS_REPLY_ERROR)
        work->node(work, call, node);
    else if (redis_error_is(node->text, "NOSCRIPT"))
        work->unknown = true;
    else if (call->err.code == ERR_OK)
        call->err = refusal(work, call, node->text);
}

static void end(struct redis_scripted *work, struct err err)
{
    if (err.code != ERR_OK && work->wrote)
        err = redis_in_part(op_arena(work->op), err);
    redis_finish(work->redis, work->op, err);
}

static void on_end(struct redis_call *call)
{
    struct redis_scripted *work = call->state;

    if (work->unknown && call->err.code == ERR_OK) {
        redis_scripted_run(work);
        return;
    }
    if (call->err.code != ERR_OK) {
        end(work, call->err);
        return;
    }
    work->wrote = work->script->writes;
    work->next(work);
}

static void on_lost(struct redis_call *call, struct err why)
{
    end(call->state, why);
}

/* At another node of the cluster, which need not know the script: the whole text goes, since what
 * follows an ASK is one command alone. */
static void again(struct redis *redis, struct op *op)
{
    struct redis_call *call = op->backend_data;
    struct redis_scripted *work = call->state;

    work->redis = redis;
    work->unknown = true;
    redis_scripted_run(work);
}

static const struct redis_kind reads = {
    .item_errors = true, .node = on_node, .end = on_end, .lost = on_lost, .again = again};
static const struct redis_kind writes = {.writes = true,
                                         .item_errors = true,
                                         .node = on_node,
                                         .end = on_end,
                                         .lost = on_lost,
                                         .again = again};

static void say(struct redis_scripted *work, struct redis_call *call)
{
    call->state = work;
    call->hops = &work->hops;
    redis_command(call, 3 + work->keys_n + work->words, work->unknown ? "EVAL" : "EVALSHA");
    redis_word(call, work->unknown ? slice_str(work->script->text)
                                   : slice_of(work->name->sha1, REDIS_SHA1_HEX));
    redis_word_number(call, work->keys_n);
    for (unsigned i = 0; i < work->keys_n; i++)
        redis_word(call, work->keys[i]);
    work->unknown = false;
    work->say(call, work);
}

static size_t bytes_of(const struct redis_scripted *work)
{
    return work->bytes + redis_words(3 + work->keys_n + work->words) +
           (work->unknown ? strlen(work->script->text) : 0);
}

static void start_turn(struct redis_turn *turn)
{
    struct redis_scripted *work = CONTAINER_OF(turn, struct redis_scripted, turn);
    struct redis_call *call = redis_begin_turn(turn, &reads, bytes_of(work));

    if (call != NULL)
        say(work, call);
}

void redis_scripted_run(struct redis_scripted *work)
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
    call =
        redis_begin(work->redis, work->op, work->script->writes ? &writes : &reads, bytes_of(work));
    if (call != NULL)
        say(work, call);
}
