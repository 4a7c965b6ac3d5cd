/* Create.
 *
 *   reserve   one more is counted, if max_sessions allows, which gives the place
 *   insert    the session and what names it in one transaction, which holds if the identifier is
 *             free and the user has fewer than he may
 *   look      he has not: those of his that have expired are removed, the oldest that live end, and
 *             it is inserted in the place of one of them
 *   sweep     now and then: some entries of all sessions are looked at, and what has expired goes
 *   recount   max_sessions refuses it, and the sweep brought nothing: is the count right?
 *
 * What creates or ends sessions of one user takes turns. */
#include "backends/dynamodb/dynamodb_session.h"

#include "src/base/container.h"

#include <cjson/cJSON.h>

enum { SWEEP_EVERY = 16, SWEEP = 64 };

struct session_creation {
    struct session_turn turn;
    struct session_create *req;
    struct aws_task *task;
    struct dynamodb_session session; /* place 0: none is reserved */
    struct session_found *victim;    /* that it comes in the place of; NULL: none */
    uint64_t at_most;                /* with a victim: sessions that the user has */
    uint32_t owed;                   /* that its reservation counts less */
    uint64_t reserved_ns;            /* when */
    bool swept, inserting, recounted;
    unsigned rounds;
    struct session_look look;
    struct session_removal removal;
    struct session_recount recount;
    struct session_found *dead, *oldest; /* of the user; SESSION_ENDED of each at most */
    size_t dead_n, oldest_n;
    uint64_t living;
    struct err outcome;
};

static void reserve(struct session_creation *c);
static void insert(struct session_creation *c);
static void look(struct session_creation *c);

static struct dynamodb *instance_of(const struct session_creation *c)
{
    return CONTAINER_OF(c->task->client, struct dynamodb, aws);
}

/* ---- the end ---- */

static void finish(struct session_creation *c, struct err err)
{
    dynamodb_turn_end(&c->turn);
    aws_task_finish(c->task, err);
}

static uint64_t now_ns(const struct session_creation *c)
{
    return c->task->client->base.home->now_ns;
}

static uint64_t holds_until_ns(const struct session_creation *c)
{
    return c->reserved_ns + dynamodb_session_hold_ns(aws_store_of(c->task->client));
}

/* A place that was held for too long is not used any more, nor given back: a recount may have taken
 * it off already. */
static bool holds_place(const struct session_creation *c)
{
    return c->session.place > 0 && now_ns(c) <= holds_until_ns(c);
}

static void owe(struct session_creation *c)
{
    struct dynamodb *instance = instance_of(c);

    if (instance->owed == 0 || holds_until_ns(c) < instance->owed_until_ns)
        instance->owed_until_ns = holds_until_ns(c);
    instance->owed++;
}

/* A transaction that is under way may have used the place. */
static void abandoned(struct aws_task *task)
{
    struct session_creation *c = task->state;

    if (holds_place(c) && !c->task->unsure && !c->inserting)
        owe(c);
    dynamodb_session_recount_abandon(&c->recount);
    dynamodb_turn_end(&c->turn);
}

static void on_released(struct aws_call *call)
{
    struct session_creation *c = call->state;

    finish(c, c->outcome);
}

/* What was reserved is given back first. */
static void end_with(struct session_creation *c, struct err err)
{
    c->outcome = err;
    if (!holds_place(c))
        finish(c, err);
    else
        dynamodb_session_count(c->task, -1, on_released, c);
}

/* ---- recount ---- */

static void on_recounted(struct session_recount *recount, bool mended)
{
    struct session_creation *c = recount->state;

    if (mended)
        reserve(c);
    else
        finish(c, dynamodb_session_namespace_full());
}

/* Is the namespace full, or does the count say so? */
static void doubt(struct session_creation *c)
{
    if (c->recounted) {
        finish(c, dynamodb_session_namespace_full());
        return;
    }
    c->recounted = true;
    c->recount = (struct session_recount){.task = c->task, .done = on_recounted, .state = c};
    dynamodb_session_recount(&c->recount);
}

/* ---- sweep ---- */

static void swept(struct session_creation *c, bool brought)
{
    c->swept = true;
    if (c->session.place > 0)
        finish(c, ERR_NONE); /* it is created */
    else if (brought)
        reserve(c);
    else
        doubt(c);
}

static void on_swept(struct session_removal *removal, struct err err)
{
    (void)err;
    swept(removal->state, removal->removed > 0);
}

static void on_sweep(struct session_look *look, struct err err)
{
    struct session_creation *c = look->state;
    size_t n = 0;

    if (err.code != ERR_OK) {
        swept(c, false);
        return;
    }
    instance_of(c)->sweep_after =
        look->more && look->n > 0 ? look->found[look->n - 1].session.place : 0;
    for (size_t i = 0; i < look->n; i++) {
        if (look->found[i].life != SESSION_LIVES)
            look->found[n++] = look->found[i];
    }
    c->removal = (struct session_removal){
        .task = c->task, .doomed = look->found, .n = n, .done = on_swept, .state = c};
    if (n > 0)
        dynamodb_session_remove_all(&c->removal);
    else
        swept(c, false);
}

static void sweep(struct session_creation *c)
{
    c->look = (struct session_look){.task = c->task,
                                    .index = INDEX_ALL,
                                    .after = instance_of(c)->sweep_after,
                                    .max = SWEEP,
                                    .done = on_sweep,
                                    .state = c};
    dynamodb_session_look(&c->look);
}

static void created(struct session_creation *c)
{
    if (++instance_of(c)->creations % SWEEP_EVERY == 0)
        sweep(c);
    else
        finish(c, ERR_NONE);
}

/* ---- reserve ---- */

static void on_reserved(struct aws_call *call)
{
    struct session_creation *c = call->task->state;
    const cJSON *answer;
    struct err err;

    if (dynamodb_unheld(call)) {
        if (c->req->end_oldest && c->req->max_per_user > 0 && c->rounds == 0 &&
            c->req->owner.user.len > 0)
            look(c); /* it may be in the place of another */
        else if (!c->swept)
            sweep(c);
        else
            doubt(c);
        return;
    }
    err = dynamodb_outcome(call, &answer);
    if (err.code != ERR_OK) {
        finish(c, err);
        return;
    }
    instance_of(c)->owed -= c->owed < instance_of(c)->owed ? c->owed : instance_of(c)->owed;
    c->session.place = dynamodb_number(cJSON_GetObjectItemCaseSensitive(answer, "Attributes"), "l");
    insert(c);
}

static void reserve(struct session_creation *c)
{
    struct aws_call *call = dynamodb_session_call(c->task, "UpdateItem", on_reserved);
    struct text body = text_new(c->task->arena, 512);

    if (now_ns(c) > instance_of(c)->owed_until_ns)
        instance_of(c)->owed = 0;
    c->owed = instance_of(c)->owed;
    c->reserved_ns = now_ns(c);
    text_add(&body, "{");
    text_entry_at(&body, dynamodb_store_of(c->task), INDEX_ALL, slice_of(NULL, 0), 0);
    text_add(&body, ",\"UpdateExpression\":\"ADD l :one, c :c\",\"ReturnValues\":\"UPDATED_NEW\"");
    if (c->req->max_sessions > 0)
        text_add(&body, ",\"ConditionExpression\":\"attribute_not_exists(c) OR c < :max\"");
    text_add(&body, arena_printf(c->task->arena,
                                 ",\"ExpressionAttributeValues\":{\":one\":{\"N\":\"1\"},"
                                 "\":c\":{\"N\":\"%lld\"}",
                                 1 - (long long)c->owed));
    if (c->req->max_sessions > 0)
        text_count(&body, ":max", c->req->max_sessions + c->owed + (c->victim != NULL));
    text_add(&body, "}}");
    dynamodb_send(call, &body);
}

/* ---- insert ---- */

/* In the place of another: the user's count stays. */
static void text_user(struct text *body, const struct session_creation *c)
{
    const struct dynamodb_store *store = dynamodb_store_of(c->task);
    struct slice user = c->req->owner.user;

    if (user.len == 0)
        return;
    if (c->victim == NULL && c->req->max_per_user == 0) {
        text_user_count(body, store, user, 1);
        return;
    }
    text_add(body, c->victim != NULL ? ",{\"ConditionCheck\":{" : ",{\"Update\":{");
    text_entry_at(body, store, INDEX_USER, user, 0);
    if (c->victim != NULL) {
        text_add(body, ",\"ConditionExpression\":\"c <= :most\",\"ExpressionAttributeValues\":{"
                       "\":most\":{\"N\":\"");
        text_number(body, c->at_most);
    } else {
        text_add(body, ",\"UpdateExpression\":\"ADD c :one\",\"ConditionExpression\":"
                       "\"attribute_not_exists(c) OR c < :max\",\"ExpressionAttributeValues\":{"
                       "\":one\":{\"N\":\"1\"},\":max\":{\"N\":\"");
        text_number(body, c->req->max_per_user);
    }
    text_add(body, "\"}}}}");
}

static void on_inserted(struct aws_call *call)
{
    struct session_creation *c = call->task->state;
    struct session_create *req = c->req;
    const cJSON *answer;

    c->inserting = false;
    if (dynamodb_unheld_at(call, 0)) {
        end_with(c, err_make(ERR_ALREADY_EXISTS, "the identifier is taken"));
        return;
    }
    if (dynamodb_unheld(call)) {
        look(c);
        return;
    }
    if (dynamodb_outcome(call, &answer).code != ERR_OK) {
        if (call->task->unsure)
            c->session.place = 0; /* a session may have it: a recount finds out */
        end_with(c, dynamodb_session_failure(call));
        return;
    }
    call->task->unsure = true; /* from here on it is not true that nothing was done */
    req->times = c->session.times;
    if (c->victim == NULL) {
        created(c);
        return;
    }
    req->ended[req->ended_n++] = c->victim->session.id;
    end_with(c, ERR_NONE); /* the place of its own is given back */
}

static void set_times(struct session_creation *c)
{
    struct session_create *req = c->req;
    uint64_t now_ms = dynamodb_now_ms();

    c->session.times = (struct session_times){now_ms, now_ms, now_ms + req->ttl_ms};
    c->session.end_ms = req->max_life_ms > 0 ? now_ms + req->max_life_ms : 0;
    if (c->session.end_ms > 0 && c->session.times.expires_ms > c->session.end_ms)
        c->session.times.expires_ms = c->session.end_ms;
}

static void insert(struct session_creation *c)
{
    const struct dynamodb_store *store = dynamodb_store_of(c->task);
    struct aws_call *call;
    struct text body;

    if (!holds_place(c)) {
        finish(c, dynamodb_session_contended());
        return;
    }
    call = dynamodb_txn_call(c->task, on_inserted);
    body = dynamodb_txn_begin(c->task);
    c->inserting = true;
    set_times(c);
    text_add(&body, "{\"Put\":{");
    text_table(&body, store);
    text_add(&body, ",\"Item\":{");
    text_session_key(&body, store, c->session.id);
    text_session_head(&body, &c->session);
    for (size_t i = 0; i < c->req->n; i++)
        text_value(&body, &c->req->values[i], 1);
    text_add(&body, "},\"ConditionExpression\":\"attribute_not_exists(k) OR e <= :now\","
                    "\"ExpressionAttributeValues\":{\":now\":{\"N\":\"");
    text_number(&body, c->session.times.created_ms);
    text_add(&body, "\"}}}}");
    text_user(&body, c);
    text_put_entries(&body, store, &c->session);
    if (c->victim != NULL)
        text_removal(&body, store, c->victim);
    text_add(&body, "]}");
    dynamodb_send(call, &body);
}

/* ---- look ---- */

static void go_on(struct session_creation *c)
{
    if (c->session.place > 0)
        insert(c);
    else
        reserve(c);
}

static void on_ended(struct session_removal *removal, struct err err)
{
    struct session_creation *c = removal->state;

    for (size_t i = 0; i < removal->removed; i++)
        c->req->ended[c->req->ended_n++] = c->oldest[i].session.id;
    if (err.code == ERR_ABORTED)
        look(c);
    else if (err.code != ERR_OK)
        end_with(c, err);
    else
        go_on(c);
}

/* The oldest end: all but the last of them before, the last with the creation. */
static void end_oldest(struct session_creation *c)
{
    uint64_t surplus = c->living - c->req->max_per_user + 1;
    size_t left = SESSION_ENDED - c->req->ended_n;
    size_t n = surplus < left ? (size_t)surplus : left;

    if (n == 0 || n > c->oldest_n) {
        end_with(c, dynamodb_session_contended());
        return;
    }
    c->victim = &c->oldest[n - 1];
    c->at_most = n < surplus ? INT64_MAX : c->req->max_per_user;
    c->removal = (struct session_removal){
        .task = c->task, .doomed = c->oldest, .n = n - 1, .done = on_ended, .state = c};
    if (n > 1)
        dynamodb_session_remove_all(&c->removal);
    else
        go_on(c);
}

static void decide(struct session_creation *c)
{
    if (c->living < c->req->max_per_user)
        go_on(c);
    else if (c->req->end_oldest)
        end_oldest(c);
    else
        end_with(c, dynamodb_session_user_full());
}

static void on_buried(struct session_removal *removal, struct err err)
{
    struct session_creation *c = removal->state;

    if (err.code == ERR_ABORTED)
        look(c);
    else if (err.code != ERR_OK)
        end_with(c, err);
    else
        decide(c);
}

static void on_looked(struct session_look *at, struct err err)
{
    struct session_creation *c = at->state;

    if (err.code != ERR_OK) {
        end_with(c, err);
        return;
    }
    for (size_t i = 0; i < at->n; i++) {
        bool lives = at->found[i].life == SESSION_LIVES;

        c->living += lives;
        if (lives && c->oldest_n < SESSION_ENDED)
            c->oldest[c->oldest_n++] = at->found[i];
        else if (!lives && c->dead_n < SESSION_ENDED)
            c->dead[c->dead_n++] = at->found[i];
        at->after = at->found[i].session.place;
    }
    if (at->more && c->living < (uint64_t)c->req->max_per_user + SESSION_ENDED) {
        dynamodb_session_look(at);
        return;
    }
    c->removal = (struct session_removal){
        .task = c->task, .doomed = c->dead, .n = c->dead_n, .done = on_buried, .state = c};
    if (c->dead_n > 0)
        dynamodb_session_remove_all(&c->removal);
    else
        decide(c);
}

static void look(struct session_creation *c)
{
    if (++c->rounds > DYNAMODB_SESSION_ROUNDS) {
        end_with(c, dynamodb_session_contended());
        return;
    }
    c->victim = NULL;
    c->living = c->oldest_n = c->dead_n = 0;
    c->oldest = arena_array(c->task->arena, SESSION_ENDED, sizeof *c->oldest);
    c->dead = arena_array(c->task->arena, SESSION_ENDED, sizeof *c->dead);
    c->look = (struct session_look){.task = c->task,
                                    .index = INDEX_USER,
                                    .whose = c->req->owner.user,
                                    .max = DYNAMODB_SESSION_LOOK,
                                    .done = on_looked,
                                    .state = c};
    dynamodb_session_look(&c->look);
}

/* ---- the beginning ---- */

static void begin(struct session_turn *turn)
{
    reserve(CONTAINER_OF(turn, struct session_creation, turn));
}

void dynamodb_session_create(struct backend *backend, struct session_create *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct session_creation *c;

    req->ended_n = 0;
    if (task == NULL)
        return;
    c = arena_zalloc(task->arena, sizeof *c);
    c->req = req;
    c->task = task;
    c->turn = (struct session_turn){.task = task, .user = req->owner.user, .begin = begin};
    c->session = (struct dynamodb_session){
        .id = req->id, .owner = req->owner, .ttl_ms = req->ttl_ms, .version = 1};
    for (size_t i = 0; i < req->n; i++)
        c->session.bytes += session_value_bytes(req->values[i].name, req->values[i].value);
    task->state = c;
    if (c->session.bytes > req->max_bytes) {
        aws_task_finish(task, dynamodb_session_too_large());
        return;
    }
    task->abandoned = abandoned;
    dynamodb_turn_take(&c->turn);
}
