/* What is said first on a new connection, in one write: who we are, which database, and questions
 * about the server. The questions are asked again by the periodic probe.
 *
 *   fatal    a refused login or database, a server that is not ready or wants no client, a node of
 *            a cluster: the connection is given up and tried again later, because somebody may mend
 *            it meanwhile; ops are told why
 *   not so   another refused word (CONFIG and INFO are often denied): the fact stays unknown
 *
 * A sentinel is only asked who the primary is. */
#include "backends/redis/redis_call.h"

#include <stdio.h>
#include <string.h>

enum step { STEP_AUTH, STEP_SELECT, STEP_NAME, STEP_CONFIG, STEP_INFO, STEP_PING, STEP_PRIMARY };

enum {
    NAME_BYTES = 128,
    QUERY_SPARE = 64 << 10 /* of client-query-buffer-limit, for what stands around a value */
};

enum naming {
    NAMES_NOTHING,
    NAMES_APPENDONLY,
    NAMES_APPENDFSYNC,
    NAMES_BULK,
    NAMES_QUERY,
    NAMES_MAXMEMORY,
    NAMES_POLICY
};

/* ---- answers ---- */

static void fail(struct redis_hello *hello, enum err_code code, uint32_t retry_ms, const char *text)
{
    if (hello->fatal.code == ERR_OK)
        hello->fatal = (struct err){.code = code, .retry_after_ms = retry_ms, .text = text};
}

static void on_error(struct redis_hello *hello, unsigned step, struct slice text)
{
    if (redis_error_is(text, "LOADING"))
        fail(hello, ERR_UNAVAILABLE, 500, "redis is loading its data");
    else if (redis_error_is(text, "MASTERDOWN"))
        fail(hello, ERR_UNAVAILABLE, 500, "this redis replica has lost its primary");
    else if (redis_error_is(text, "ERR max number of clients"))
        fail(hello, ERR_UNAVAILABLE, 1000, "redis has reached its maxclients and refuses us");
    else if (redis_error_is(text, "DENIED"))
        fail(hello, ERR_FAILED_PRECONDITION, 0, "redis runs in protected mode and refuses us");
    else if (step == STEP_AUTH)
        fail(hello, ERR_FAILED_PRECONDITION, 0, "redis refused the user name or password");
    else if (redis_error_is(text, "NOAUTH"))
        fail(hello, ERR_FAILED_PRECONDITION, 0, "redis asks for a password and none is set");
    else if (step == STEP_SELECT)
        fail(hello, ERR_FAILED_PRECONDITION, 0, "redis refused the number of the database");
}

static enum naming naming_of(struct slice name)
{
    static const struct {
        const char *name;
        enum naming naming;
    } names[] = {{"appendonly", NAMES_APPENDONLY},   {"appendfsync", NAMES_APPENDFSYNC},
                 {"proto-max-bulk-len", NAMES_BULK}, {"client-query-buffer-limit", NAMES_QUERY},
                 {"maxmemory", NAMES_MAXMEMORY},     {"maxmemory-policy", NAMES_POLICY}};

    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (slice_equal(name, slice_str(names[i].name)))
            return names[i].naming;
    }
    return NAMES_NOTHING;
}

/* 0: no number. */
static uint64_t number_of(struct slice text)
{
    uint64_t number = 0;

    for (size_t i = 0; i < text.len && i < 19; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return 0;
        number = 10 * number + (uint64_t)(text.data[i] - '0');
    }
    return number;
}

static void on_setting(struct redis_facts *facts, enum naming naming, struct slice value)
{
    switch (naming) {
    case NAMES_NOTHING:
        return;
    case NAMES_APPENDONLY:
        facts->appendonly_known = true;
        facts->appendonly = slice_equal(value, slice_str("yes"));
        return;
    case NAMES_APPENDFSYNC:
        facts->fsync_always = slice_equal(value, slice_str("always"));
        return;
    case NAMES_BULK:
        facts->bulk_bytes = number_of(value);
        return;
    case NAMES_QUERY:
        facts->query_bytes = number_of(value);
        return;
    case NAMES_MAXMEMORY:
        facts->maxmemory_known = true;
        facts->maxmemory = number_of(value) > 0;
        return;
    case NAMES_POLICY:
        facts->policy_evicts = !slice_equal(value, slice_str("noeviction"));
        return;
    }
}

static void on_config(struct redis_hello *hello, const struct redis_node *node)
{
    if (node->depth != 1 || node->type != REDIS_REPLY_STRING)
        return;
    if (node->index % 2 == 0)
        hello->naming = (uint8_t)naming_of(node->text);
    else
        on_setting(&hello->facts, (enum naming)hello->naming, node->text);
}

static bool holds(struct slice text, const char *part)
{
    return memmem(text.data, text.len, part, strlen(part)) != NULL;
}

static void on_info(struct redis_facts *facts, struct slice text)
{
    if (holds(text, "role:")) {
        facts->role_known = true;
        facts->replica = holds(text, "role:slave");
    }
    if (holds(text, "cluster_enabled:")) {
        facts->cluster_known = true;
        facts->cluster = holds(text, "cluster_enabled:1");
    }
}

/* What a sentinel says: OK to a login; the primary's host and port, nil if it knows no such name.
 */
static void on_primary(struct redis_hello *hello, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_ERROR)
        fail(hello, ERR_UNAVAILABLE, REDIS_RETRY_MS,
             "what is asked as a sentinel does not say who the primary is: it is none, or wants "
             "another sentinel_password");
    else if (node->type == REDIS_REPLY_NIL)
        fail(hello, ERR_FAILED_PRECONDITION, 0, "the sentinels know no such sentinel_master");
    else if (node->depth == 1 && node->index == 0 && node->text.len < sizeof hello->found.host)
        memcpy(hello->found.host, node->text.data, node->text.len);
    else if (node->depth == 1 && node->index == 1)
        hello->found.port = (uint16_t)number_of(node->text);
}

static void facts_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_hello *hello = call->state;
    unsigned step = hello->steps[call->answered];

    if (call->redis->to.sentinel)
        on_primary(hello, node);
    else if (node->type == REDIS_REPLY_ERROR)
        on_error(hello, step, node->text);
    else if (step == STEP_CONFIG)
        on_config(hello, node);
    else if (step == STEP_INFO && node->type == REDIS_REPLY_STRING)
        on_info(&hello->facts, node->text);
}

static void facts_end(struct redis_call *call)
{
    struct redis_hello *hello = call->state;

    if (call->redis->to.sentinel && hello->found.port == 0)
        fail(hello, ERR_UNAVAILABLE, REDIS_RETRY_MS, "a sentinel has named no primary");
    if (redis_store_of(call->redis)->sentinel_master != NULL && hello->facts.replica)
        fail(hello, ERR_UNAVAILABLE, REDIS_RETRY_MS,
             "what the sentinels call the primary is a replica");
    if (hello->facts.cluster && call->redis->cluster == NULL)
        fail(hello, ERR_FAILED_PRECONDITION, 0,
             "this redis is a node of a cluster: see the setting `cluster`");
    if (hello->facts.cluster_known && !hello->facts.cluster && call->redis->cluster != NULL)
        fail(hello, ERR_FAILED_PRECONDITION, 0,
             "this redis is no node of a cluster, as `cluster: true` says");
    hello->asking = false;
    hello->done = true;
}

static const struct redis_kind facts_kind = {
    .item_errors = true, .node = facts_node, .end = facts_end};

/* ---- questions ---- */

static void say(struct redis_call *call, enum step step, unsigned argc, const char *name)
{
    struct redis_hello *hello = call->state;

    hello->steps[call->answers] = (uint8_t)step;
    redis_command(call, argc, name);
}

static void say_word(struct redis_call *call, const char *word)
{
    redis_word(call, slice_str(word));
}

/* CLIENT SETNAME takes what can be printed and has no space. */
static void say_name(struct redis_call *call)
{
    const struct redis *redis = call->redis;
    char name[NAME_BYTES];

    snprintf(name, sizeof name, "%s%s:%u", redis_store_of(redis)->prefix, redis->base.store->slot,
             redis->base.home->id);
    for (char *c = name; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~')
            *c = '_';
    }
    say(call, STEP_NAME, 3, "CLIENT");
    say_word(call, "SETNAME");
    say_word(call, name);
}

static void say_login(struct redis_call *call)
{
    struct redis_login login =
        redis_store_login(redis_store_of(call->redis), call->redis->to.sentinel);

    if (login.username != NULL || login.password != NULL) {
        say(call, STEP_AUTH, login.username != NULL ? 3 : 2, "AUTH");
        if (login.username != NULL)
            say_word(call, login.username);
        say_word(call, login.password != NULL ? login.password : "");
    }
    redis_login_clear(&login);
}

/* One name for each CONFIG GET: redis 6 takes no more. */
static void say_questions(struct redis_call *call)
{
    static const char *const settings[] = {"append*", "maxmemory*", "proto-max-bulk-len",
                                           "client-query-buffer-limit"};
    static const char *const sections[] = {"replication", "cluster"};

    for (unsigned i = 0; i < ARRAY_LEN(settings); i++) {
        say(call, STEP_CONFIG, 3, "CONFIG");
        say_word(call, "GET");
        say_word(call, settings[i]);
    }
    for (unsigned i = 0; i < ARRAY_LEN(sections); i++) {
        say(call, STEP_INFO, 2, "INFO");
        say_word(call, sections[i]);
    }
}

void redis_say_hello(struct redis *redis)
{
    const struct redis_store *store = redis_store_of(redis);
    struct redis_call *call = redis_begin_own(redis, &facts_kind, &redis->hello);

    redis->hello = (struct redis_hello){.asking = true};
    say_login(call);
    if (redis->to.sentinel) {
        say(call, STEP_PRIMARY, 3, "SENTINEL");
        say_word(call, "GET-MASTER-ADDR-BY-NAME");
        say_word(call, store->sentinel_master);
        return;
    }
    if (store->database != 0) {
        say(call, STEP_SELECT, 2, "SELECT");
        redis_word_number(call, store->database);
    }
    say_name(call);
    say_questions(call);
    say(call, STEP_PING, 1, "PING");
}

void redis_ask_facts(struct redis *redis)
{
    if (redis->hello.asking)
        return;
    redis->hello = (struct redis_hello){.asking = true};
    say_questions(redis_begin_own(redis, &facts_kind, &redis->hello));
}

/* ---- the probe ---- */

/* A user that may not say PING is told so by a redis that is well. */
static void probe_node(struct redis_call *call, const struct redis_node *node)
{
    if (node->type == REDIS_REPLY_ERROR && !redis_error_is(node->text, "NOPERM"))
        call->err = redis_error(op_arena(call->op), node->text);
    else if (node->type != REDIS_REPLY_ERROR && node->type != REDIS_REPLY_STATUS)
        redis_unexpected(call);
}

static const struct redis_kind probe_kind = {.item_errors = true, .node = probe_node};

void redis_probe(struct backend *backend, struct op *op)
{
    struct redis *redis = redis_of(backend);
    struct redis_call *call = redis_begin(redis, op, &probe_kind, redis_words(1));

    if (call == NULL)
        return;
    redis_command(call, 1, "PING");
    redis_ask_facts(redis);
    redis_check_others(redis);
}

/* ---- what the facts mean ---- */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void take_limits(struct redis *redis)
{
    struct redis_store *store = redis_store_of(redis);
    const struct redis_facts *facts = &redis->facts;
    uint64_t refused = atomic_load_explicit(&store->refused_bytes, memory_order_relaxed);
    uint64_t most = REDIS_VALUE_BYTES;

    if (facts->bulk_bytes > 0)
        most = min_u64(most, facts->bulk_bytes);
    else if (refused > 0)
        most = min_u64(most, refused - 1);
    if (facts->query_bytes > QUERY_SPARE)
        most = min_u64(most, facts->query_bytes - QUERY_SPARE);
    if (redis->base.limits.value_bytes == most)
        return;
    redis->base.limits.value_bytes = most;
    redis->base.limits.key_bytes = most > store->prefix_len ? most - store->prefix_len : 1;
    redis_facts_changed(store);
}

void redis_take_facts(struct redis *redis)
{
    struct redis_store *store = redis_store_of(redis);
    const struct redis_facts *facts = &redis->facts;
    enum backend_ack ack = BACKEND_ACK_UNKNOWN;
    enum backend_eviction eviction = BACKEND_EVICTION_UNKNOWN;

    if (facts->appendonly_known)
        ack = facts->appendonly && facts->fsync_always ? BACKEND_ACK_DISK : BACKEND_ACK_MEMORY;
    if (facts->maxmemory_known)
        eviction = facts->maxmemory && facts->policy_evicts ? BACKEND_EVICTION_POSSIBLE
                                                            : BACKEND_EVICTION_NEVER;
    take_limits(redis);
    redis_report_ack(store, ack);
    redis_report_eviction(store, eviction);
}
