/* Removal: of a session with all that names it, in one transaction; of several, as many at once as
 * a transaction takes. */
#include "backends/dynamodb/dynamodb_session.h"

#include <cjson/cJSON.h>

enum { AT_ONCE = 20 }; /* five items for each at most, of the hundred that a transaction takes */

/* ---- parts of transactions ---- */

static void text_at(struct text *text, const char *kind)
{
    text_add(text, ",{\"");
    text_add(text, kind);
    text_add(text, "\":{");
}

static void text_drop_entry(struct text *text, const struct dynamodb_store *store,
                            enum dynamodb_index index, const struct dynamodb_session *session)
{
    struct slice whose = index == INDEX_USER ? session->owner.user : session->owner.region;

    if (index != INDEX_ALL && whose.len == 0)
        return;
    text_at(text, "Delete");
    text_entry_at(text, store, index, whose, session->place);
    if (index == INDEX_ALL) { /* it is still named so */
        text_add(text, ",\"ConditionExpression\":\"i = :i\",\"ExpressionAttributeValues\":{"
                       "\":i\":{\"S\":");
        text_string(text, arena_strdup(text->arena, session->id));
        text_add(text, "}}");
    }
    text_add(text, "}}");
}

void text_removal(struct text *text, const struct dynamodb_store *store,
                  const struct session_found *doomed)
{
    const struct dynamodb_session *session = &doomed->session;
    const char *condition = "attribute_not_exists(k) OR l <> :l";

    if (doomed->life != SESSION_GONE)
        condition = doomed->life == SESSION_LIVES ? "l = :l AND e > :now" : "l = :l AND e <= :now";
    text_at(text, doomed->life == SESSION_GONE ? "ConditionCheck" : "Delete");
    text_session_at(text, store, session->id);
    text_add(text, ",\"ConditionExpression\":\"");
    text_add(text, condition);
    text_add(text, "\",\"ExpressionAttributeValues\":{\":l\":{\"N\":\"");
    text_number(text, session->place);
    text_add(text, "\"}");
    if (doomed->life != SESSION_GONE)
        text_count(text, ":now", dynamodb_now_ms());
    text_add(text, "}}}");
    text_drop_entry(text, store, INDEX_ALL, session);
    text_drop_entry(text, store, INDEX_USER, session);
    text_drop_entry(text, store, INDEX_REGION, session);
}

void text_user_count(struct text *text, const struct dynamodb_store *store, struct slice user,
                     int64_t more)
{
    text_at(text, "Update");
    text_entry_at(text, store, INDEX_USER, user, 0);
    text_add(text, arena_printf(text->arena,
                                ",\"UpdateExpression\":\"ADD c :c\",\"ExpressionAttributeValues\":"
                                "{\":c\":{\"N\":\"%lld\"}}}}",
                                (long long)more));
}

void dynamodb_session_count(struct aws_task *task, int64_t more, void (*done)(struct aws_call *),
                            void *state)
{
    struct aws_call *call = dynamodb_session_call(task, "UpdateItem", done);
    struct text body = text_new(task->arena, 512);

    call->state = state;
    text_add(&body, "{");
    text_entry_at(&body, dynamodb_store_of(task), INDEX_ALL, slice_of(NULL, 0), 0);
    text_add(&body, arena_printf(task->arena,
                                 ",\"UpdateExpression\":\"ADD c :c\",\"ExpressionAttributeValues\":"
                                 "{\":c\":{\"N\":\"%lld\"}}}",
                                 (long long)more));
    dynamodb_send(call, &body);
}

/* ---- removals ---- */

static void on_counted(struct aws_call *call);

static void on_removed(struct aws_call *call)
{
    struct session_removal *removal = call->state;
    const cJSON *answer;
    struct err err = ERR_NONE;

    if (dynamodb_unheld(call))
        err = dynamodb_session_contended();
    else
        err = dynamodb_outcome(call, &answer);
    if (err.code != ERR_OK) {
        removal->done(removal, err);
        return;
    }
    call->task->unsure = true; /* from here on it is not true that nothing was done */
    removal->removed += removal->chunk;
    dynamodb_session_count(removal->task, -(int64_t)removal->chunk, on_counted, removal);
}

static bool is_first_of_user(const struct session_found *doomed, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (slice_equal(doomed[k].session.owner.user, doomed[i].session.owner.user))
            return false;
    }
    return doomed[i].session.owner.user.len > 0;
}

static void remove_chunk(struct session_removal *removal)
{
    const struct dynamodb_store *store = dynamodb_store_of(removal->task);
    const struct session_found *doomed = removal->doomed + removal->removed;
    struct aws_call *call = dynamodb_txn_call(removal->task, on_removed);
    struct text body = dynamodb_txn_begin(removal->task);
    size_t begin = body.len;

    removal->chunk = removal->n - removal->removed;
    if (removal->chunk > AT_ONCE)
        removal->chunk = AT_ONCE;
    for (size_t i = 0; i < removal->chunk; i++) {
        int64_t of_user = 0;

        text_removal(&body, store, &doomed[i]);
        for (size_t k = i; k < removal->chunk; k++)
            of_user += slice_equal(doomed[k].session.owner.user, doomed[i].session.owner.user);
        if (is_first_of_user(doomed, i))
            text_user_count(&body, store, doomed[i].session.owner.user, -of_user);
    }
    body.data[begin] = ' '; /* the first comma */
    text_add(&body, "]}");
    call->state = removal;
    dynamodb_send(call, &body);
}

/* A count that could not be written stays too high: creations may be refused early, never late. */
static void on_counted(struct aws_call *call)
{
    struct session_removal *removal = call->state;

    if (removal->removed == removal->n)
        removal->done(removal, ERR_NONE);
    else
        remove_chunk(removal);
}

void dynamodb_session_remove_all(struct session_removal *removal)
{
    removal->removed = 0;
    remove_chunk(removal);
}

/* ---- one ---- */

struct removing {
    struct session_remove *req;
    struct session_found found;
    struct session_removal removal;
    unsigned rounds;
};

static void on_fetched(struct aws_call *call);

static void on_gone(struct session_removal *removal, struct err err)
{
    struct removing *r = removal->state;

    if (err.code == ERR_ABORTED && ++r->rounds < DYNAMODB_SESSION_ROUNDS) {
        dynamodb_session_fetch(removal->task, r->req->id, on_fetched);
        return;
    }
    r->req->existed = err.code == ERR_OK;
    aws_task_finish(removal->task, err);
}

static void on_fetched(struct aws_call *call)
{
    struct removing *r = call->task->state;
    struct err err = dynamodb_session_fetched(call, &r->found.session);

    r->req->existed = false;
    if (err.code == ERR_NOT_FOUND)
        err = ERR_NONE;
    else if (err.code == ERR_OK) {
        r->removal = (struct session_removal){
            .task = call->task, .doomed = &r->found, .n = 1, .done = on_gone, .state = r};
        dynamodb_session_remove_all(&r->removal);
        return;
    }
    aws_task_finish(call->task, err);
}

void dynamodb_session_remove(struct backend *backend, struct session_remove *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct removing *r;

    if (task == NULL)
        return;
    r = arena_zalloc(task->arena, sizeof *r);
    r->req = req;
    task->state = r;
    dynamodb_session_fetch(task, req->id, on_fetched);
}

/* ---- all of a user ---- */

struct clearing {
    struct session_turn turn;
    struct session_remove_user *req;
    struct session_look look;
    struct session_removal removal;
    struct session_found *doomed;
    unsigned rounds; /* that brought nothing */
};

static void end_clearing(struct clearing *c, struct err err)
{
    dynamodb_turn_end(&c->turn);
    aws_task_finish(c->turn.task, err);
}

static void clearing_abandoned(struct aws_task *task)
{
    struct clearing *c = task->state;

    dynamodb_turn_end(&c->turn);
}

static void begin_clearing(struct session_turn *turn)
{
    dynamodb_session_look(&CONTAINER_OF(turn, struct clearing, turn)->look);
}

static void count_removed(struct clearing *c)
{
    for (size_t i = 0; i < c->removal.removed; i++)
        c->req->removed += c->doomed[i].life == SESSION_LIVES;
}

static void on_cleared(struct session_removal *removal, struct err err)
{
    struct clearing *c = removal->state;

    count_removed(c);
    c->rounds = removal->removed > 0 ? 0 : c->rounds + 1;
    if (err.code == ERR_OK && !c->look.more)
        end_clearing(c, ERR_NONE);
    else if (err.code == ERR_OK || (err.code == ERR_ABORTED && c->rounds < DYNAMODB_SESSION_ROUNDS))
        dynamodb_session_look(&c->look); /* from the beginning: what was removed is not there */
    else
        end_clearing(c, err);
}

static void on_looked(struct session_look *look, struct err err)
{
    struct clearing *c = look->state;
    size_t n = 0;

    if (err.code != ERR_OK) {
        end_clearing(c, err);
        return;
    }
    c->doomed = look->found;
    for (size_t i = 0; i < look->n; i++) {
        if (look->found[i].life == SESSION_LIVES &&
            slice_equal(look->found[i].session.id, c->req->except))
            continue;
        c->doomed[n++] = look->found[i];
    }
    c->removal = (struct session_removal){
        .task = look->task, .doomed = c->doomed, .n = n, .done = on_cleared, .state = c};
    if (n > 0)
        dynamodb_session_remove_all(&c->removal);
    else if (look->more)
        dynamodb_session_look(look); /* only the one that is left out was on this page */
    else
        end_clearing(c, ERR_NONE);
}

void dynamodb_session_remove_user(struct backend *backend, struct session_remove_user *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct clearing *c;

    req->removed = 0;
    if (task == NULL)
        return;
    c = arena_zalloc(task->arena, sizeof *c);
    c->req = req;
    c->turn = (struct session_turn){.task = task, .user = req->user, .begin = begin_clearing};
    c->look = (struct session_look){.task = task,
                                    .index = INDEX_USER,
                                    .whose = req->user,
                                    .max = DYNAMODB_SESSION_LOOK,
                                    .done = on_looked,
                                    .state = c};
    task->state = c;
    task->abandoned = clearing_abandoned;
    dynamodb_turn_take(&c->turn);
}
