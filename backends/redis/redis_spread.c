#include "backends/redis/redis_spread.h"

#include "backends/redis/redis_topic.h"

enum { HOPS = 5, FAMILIES = 2 };

/* KEYS: where the number is remembered; what stands in a registry and in a store of sessions of one
 * partition. ARGV: the number to remember, "known" if it is no first use. Returns the number. */
static const char script[] =
    "local n = redis.call('GET', KEYS[1])\n"
    "if n then return tonumber(n) end\n"
    "n = ARGV[1]\n"
    "if ARGV[2] ~= 'known' and redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then n = '1' end\n"
    "redis.call('SET', KEYS[1], n)\n"
    "return tonumber(n)\n";

static struct redis_spreads *spreads_of(const struct redis_spread *spread)
{
    return &redis_instance_of(spread->backend)->spreads;
}

void redis_spreads_init(struct redis_spreads *spreads)
{
    spreads->waiting.last = &spreads->waiting.first;
    spreads->counting.last = &spreads->counting.first;
}

/* ---- lines ---- */

static void leave(struct redis_spread *spread)
{
    struct redis_spread_line *line = spread->line;

    *spread->at = spread->next;
    if (spread->next != NULL)
        spread->next->at = spread->at;
    else
        line->last = spread->at;
    spread->line = NULL;
    line->n--;
}

static void refuse(struct redis_spread *spread, struct err err)
{
    redis_spread_end(spread, spread->ends != NULL ? spread->ends(spread, err) : err);
}

/* An op that was cancelled before it came here is not asked again to let go. */
static void line_up(struct redis_spread *spread, struct redis_spread_line *line)
{
    if (spread->group.cancelled.code != ERR_OK) {
        refuse(spread, spread->group.cancelled);
    } else if (line->n >= redis_store_of(redis_of(spread->backend))->max_in_flight) {
        refuse(spread, redis_too_many());
    } else {
        spread->next = NULL;
        spread->at = line->last;
        spread->line = line;
        *line->last = spread;
        line->last = &spread->next;
        line->n++;
    }
}

/* ---- their course ---- */

static struct err other_number(void)
{
    return err_make(ERR_FAILED_PRECONDITION,
                    "this namespace has another number of partitions in redis than when prism "
                    "began: restart prism");
}

/* Another worker can learn of another number at any moment, so it is read once. */
static void begin(struct redis_spread *spread)
{
    if (spread->parts == 0)
        spread->parts = redis_spread_parts(spread->backend);
    if (spread->parts == 0) {
        redis_spread_end(spread, other_number());
        return;
    }
    op_group_enter(&spread->group);
    spread->start(spread);
    op_group_leave(&spread->group);
}

static void on_idle(struct op_group *group)
{
    struct redis_spread *spread = CONTAINER_OF(group, struct redis_spread, group);

    spread->done(spread);
}

static void cancel(struct op *op, struct err why)
{
    struct redis_spread *spread = op->backend_data;

    if (spread->line == NULL) {
        op_group_cancel(&spread->group, why);
        return;
    }
    leave(spread);
    refuse(spread, why);
}

void *redis_spread_new(struct backend *backend, struct op *op, size_t bytes)
{
    struct redis_spread *spread = arena_zalloc(op_arena(op), bytes);

    op_group_init(&spread->group, backend->home, op_arena(op), op_deadline_ns(op));
    spread->group.idle = on_idle;
    spread->backend = backend;
    spread->op = op;
    return spread;
}

static void give_turn(struct redis_spreads *spreads)
{
    struct redis_spread *spread = spreads->counting.first;

    spreads->counted = spread != NULL;
    if (spread == NULL)
        return;
    leave(spread);
    spread->counts = true;
    begin(spread);
}

void redis_spread_end(struct redis_spread *spread, struct err err)
{
    struct redis_spreads *spreads = spreads_of(spread);
    bool counts = spread->counts;

    redis_finish(redis_of(spread->backend), spread->op, err);
    if (counts)
        give_turn(spreads);
}

void redis_spread_again(struct redis_spread *spread)
{
    begin(spread);
}

void redis_spread_count(struct redis_spread *spread)
{
    struct redis_spreads *spreads = spreads_of(spread);

    if (!spread->counts && spreads->counted) {
        line_up(spread, &spreads->counting);
        return;
    }
    spread->counts = spreads->counted = true;
    begin(spread);
}

static void on_part_done(struct op *op)
{
    (void)op; /* done() looks at all of them */
}

void redis_spread_start(struct redis_spread *spread, struct op *op, unsigned part)
{
    op_start(op, &spread->group, on_part_done);
    op->backend_word = part;
}

struct err redis_spread_worse(struct err a, struct err b)
{
    if (a.code == ERR_OK || (a.effect != EFFECT_UNKNOWN && b.effect == EFFECT_UNKNOWN))
        return b;
    return a;
}

/* Half as many again, and some: partitions are even, but not quite. */
uint32_t redis_spread_share(uint32_t items, unsigned parts)
{
    uint32_t share = items / parts + items / parts / 2 + 4;

    return parts == 1 || share > items ? items : share;
}

uint64_t redis_spread_bytes(uint64_t bytes, unsigned parts)
{
    enum { SOME = 4096 };
    uint64_t share = bytes / parts + bytes / parts / 2 + SOME;

    return share > bytes ? bytes : share;
}

uint64_t redis_spread_floor(uint64_t most, unsigned parts)
{
    enum { LARGE = 128 };

    return most / parts >= LARGE ? most / parts / 2 : 0;
}

/* ---- the number ---- */

unsigned redis_spread_parts(struct backend *backend)
{
    struct redis_store *store = redis_store_of(redis_of(backend));
    const struct redis_tags *tags = atomic_load(&store->tags);

    return tags == NULL || atomic_load(&store->tags_wrong) ? 0 : tags->n;
}

static void ask(struct redis *shared);

static void tell(const struct redis_store *store, unsigned n)
{
    bool as_set = n == store->partitions;

    log_event(as_set ? LOG_INFO : LOG_WARN, "redis_partitions",
              LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
              LOG_U("partitions", n), LOG_U("cluster_partitions", store->partitions),
              LOG_S("why", as_set ? "remembered in redis"
                                  : "redis holds data in so many, so the setting is not used"));
}

static void learn(struct redis *shared, unsigned n)
{
    struct redis_store *store = redis_store_of(shared);
    struct redis_tags *known = atomic_load(&store->tags);

    if (known == NULL) {
        struct redis_tags *tags = redis_tags_new(redis_scripted_space(store), n);

        if (atomic_compare_exchange_strong(&store->tags, &known, tags)) {
            tell(store, n);
            return;
        }
        redis_tags_free(tags);
    }
    if (atomic_exchange(&store->tags_wrong, known->n != n) != (known->n != n))
        tell(store, n);
}

/* Those that have waited go on, or end with the error. */
static void release(struct redis_instance *instance, struct err err)
{
    struct redis_spreads *spreads = &instance->spreads;

    while (spreads->waiting.first != NULL) {
        struct redis_spread *spread = spreads->waiting.first;

        leave(spread);
        if (err.code == ERR_OK)
            begin(spread);
        else if (spreads->error[0] != '\0')
            redis_spread_end(spread, redis_error(op_arena(spread->op), slice_str(spreads->error)));
        else
            redis_spread_end(spread, err);
    }
}

static void on_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_instance *instance = call->state;
    struct redis_spreads *spreads = &instance->spreads;

    if (node->type == REDIS_REPLY_INTEGER && node->depth == 0)
        spreads->number = node->number;
    if (node->type != REDIS_REPLY_ERROR)
        return;
    counter_add(&instance->shared.stats->errors, 1);
    spreads->moved = redis_error_is(node->text, REDIS_ERROR_MOVING);
    snprintf(spreads->error, sizeof spreads->error, "%.*s", (int)node->text.len,
             (const char *)node->text.data);
}

static void on_end(struct redis_call *call)
{
    struct redis_instance *instance = call->state;
    struct redis_spreads *spreads = &instance->spreads;
    struct err err = ERR_NONE;

    spreads->asking = false;
    if (spreads->moved && spreads->hops++ < HOPS) {
        ask(&instance->shared);
        return;
    }
    spreads->hops = 0;
    if (spreads->number >= 1 && spreads->number <= REDIS_TAGS)
        learn(&instance->shared, (unsigned)spreads->number);
    else
        err = err_make(ERR_INTERNAL, "the number of partitions in redis is none");
    if (err.code == ERR_OK && atomic_load(&redis_store_of(&instance->shared)->tags_wrong))
        err = other_number();
    release(instance, err);
}

static void on_lost(struct redis_call *call, struct err why)
{
    struct redis_instance *instance = call->state;

    instance->spreads.asking = false;
    instance->spreads.error[0] = '\0';
    release(instance, why);
}

static const struct redis_kind asking = {
    .item_errors = true, .node = on_node, .end = on_end, .lost = on_lost};

static void say(struct redis_call *call, struct redis *shared, struct slice remembered,
                struct arena *arena)
{
    static const char *const families[FAMILIES][2] = {{"registry:", "order"}, {"session:", "all"}};
    const struct redis_store *store = redis_store_of(shared);
    const struct redis_tags *tags = atomic_load(&store->tags);
    int stem = (int)(remembered.len - strlen("partitions"));

    redis_command(call, 3 + 1 + FAMILIES + 2, "EVAL");
    redis_word(call, slice_str(script));
    redis_word_number(call, 1 + FAMILIES);
    redis_word(call, remembered);
    for (unsigned i = 0; i < FAMILIES; i++)
        redis_word(call,
                   slice_str(arena_printf(arena, "%.*s%s%s", stem, (const char *)remembered.data,
                                          families[i][0], families[i][1])));
    redis_word_number(call, tags != NULL ? tags->n : store->partitions);
    redis_word(call, slice_str(tags != NULL ? "known" : ""));
}

static void ask(struct redis *shared)
{
    struct redis_instance *instance = redis_instance_of(&shared->base);
    struct redis_spreads *spreads = &instance->spreads;
    struct redis_store *store = redis_store_of(shared);
    struct slice space = redis_scripted_space(store), key;
    struct arena arena;
    struct redis *redis;

    arena_init(&arena, NULL);
    key = slice_str(arena_printf(&arena, "%.*s:{%.*s}%%partitions",
                                 (int)(strchr(store->prefix, ':') - store->prefix), store->prefix,
                                 (int)space.len, (const char *)space.data));
    redis = redis_to_key(shared, key);
    spreads->error[0] = '\0';
    spreads->moved = false;
    spreads->number = 0;
    spreads->asked_ns = shared->base.home->now_ns;
    if (redis->phase == REDIS_READY) {
        spreads->asking = true;
        say(redis_begin_own(redis, &asking, instance), shared, key, &arena);
    } else {
        release(instance, redis->down);
    }
    arena_clear(&arena);
}

void redis_spread_check(struct redis *shared)
{
    struct redis_instance *instance = redis_instance_of(&shared->base);
    const struct redis_store *store = redis_store_of(shared);
    uint64_t rest_ns = store->cluster_refresh_ms / 2 * NS_PER_MS;

    if (atomic_load(&store->tags) != NULL && !instance->spreads.asking &&
        shared->base.home->now_ns - instance->spreads.asked_ns >= rest_ns)
        ask(shared);
}

void redis_spread_run(struct redis_spread *spread)
{
    struct redis_spreads *spreads = spreads_of(spread);

    spread->op->backend_data = spread;
    op_park(spread->op, cancel);
    spread->parts = redis_spread_parts(spread->backend);
    if (spread->parts > 0) {
        begin(spread);
        return;
    }
    line_up(spread, &spreads->waiting);
    if (!spreads->asking && spreads->waiting.first != NULL)
        ask(redis_of(spread->backend));
}

/* ---- operations of one partition ---- */

struct op *redis_spread_copy(struct op *op, size_t bytes)
{
    struct op *copy = arena_alloc(op_arena(op), bytes);

    memcpy(copy, op, bytes);
    *copy = (struct op){0};
    return copy;
}

void redis_spread_return(struct op *op, const struct op *copy, size_t bytes)
{
    size_t skip = sizeof *op;

    memcpy((uint8_t *)op + skip, (const uint8_t *)copy + skip, bytes - skip);
}

struct one {
    struct redis_spread spread; /* first */
    const struct redis_spread_kind *kind;
    uint32_t hash;
    struct op *request; /* a copy of the caller's */
};

static void one_start(struct redis_spread *spread)
{
    struct one *one = (struct one *)spread;

    redis_spread_start(spread, one->request, one->hash % spread->parts);
    one->kind->method(spread->backend, one->request);
}

static void one_done(struct redis_spread *spread)
{
    struct one *one = (struct one *)spread;

    redis_spread_return(spread->op, one->request, one->kind->bytes);
    redis_spread_end(spread, one->request->err);
}

void redis_spread_one(struct backend *backend, struct op *op, const struct redis_spread_kind *kind,
                      uint32_t hash)
{
    unsigned parts = redis_spread_parts(backend);

    if (parts > 0) {
        op->backend_word = hash % parts;
        kind->method(backend, op);
        return;
    }

    struct one *one = redis_spread_new(backend, op, sizeof *one);

    one->kind = kind;
    one->hash = hash;
    one->request = redis_spread_copy(op, kind->bytes);
    one->spread.start = one_start;
    one->spread.done = one_done;
    redis_spread_run(&one->spread);
}
