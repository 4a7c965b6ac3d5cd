/* Single gets and puts that come at the same time go out together: 60 of them cost postgres little
 * more than one. Each is still an operation of its own, with its own deadline and its own outcome.
 *
 *   line    waits in the order in which they came; at most GROUPS_AT_ONCE groups are on the wire,
 *           so that while postgres works on these, the next ones gather
 *   group   up to GROUP_ITEMS of them in one statement; it outlives those that are cancelled
 *
 * A group of puts is one transaction. If it fails as a whole, each of its puts is sent once more by
 * itself: nothing was written, and one of them must not fail the others. Not where postgres lacks
 * room: it would refuse each of them.
 *
 * A group of gets asks for values up to GROUP_VALUE; a longer one is fetched by itself, as far as
 * its caller has room for it. */
#include "backends/postgres/postgres_kv.h"

#include <stdlib.h>

enum {
    GROUPS_AT_ONCE = 2,
    GROUP_ITEMS = 128,
    GROUP_BYTES = 1 << 20, /* of keys and values of puts; one of any size passes */
    GROUP_VALUE = 16 << 10
};

struct postgres_wait {
    struct postgres_wait *next, **at; /* in the line; at NULL: in a group */
    struct postgres *postgres;
    struct postgres_line *line;
    struct op *op; /* of a kv_get or kv_put */
    struct digest digest;
    struct postgres_group *group;
    size_t place; /* in the group */
    bool alone;   /* its group has failed: it goes by itself */
};

struct postgres_group {
    struct postgres *postgres;
    struct postgres_line *line;
    size_t n;
    bool alone;
    struct postgres_row rows[GROUP_ITEMS];
    struct postgres_wait *waits[GROUP_ITEMS]; /* by place; NULL: cancelled */
};

static bool is_gets(const struct postgres_line *line, const struct postgres *postgres)
{
    return line == &postgres->gets;
}

static struct kv_get *get_of(const struct postgres_wait *wait)
{
    return CONTAINER_OF(wait->op, struct kv_get, op);
}

static struct kv_put *put_of(const struct postgres_wait *wait)
{
    return CONTAINER_OF(wait->op, struct kv_put, op);
}

/* Of one group. Gets are shared out: a group of all of them would have postgres idle until the last
 * answer has gone out, and then clients wait for all of the next one. Puts are not: a transaction
 * costs more than what it writes. */
static size_t group_items(const struct postgres *postgres, const struct postgres_line *line)
{
    size_t share = (line->n + GROUPS_AT_ONCE - 1) / GROUPS_AT_ONCE;

    return is_gets(line, postgres) && share < GROUP_ITEMS ? share : GROUP_ITEMS;
}

/* ---- the line ---- */

static void line_up(struct postgres_wait *wait)
{
    struct postgres_line *line = wait->line;

    wait->next = NULL;
    wait->at = line->last;
    *line->last = wait;
    line->last = &wait->next;
}

static void leave_line(struct postgres_wait *wait)
{
    *wait->at = wait->next;
    if (wait->next != NULL)
        wait->next->at = wait->at;
    else
        wait->line->last = wait->at;
    wait->at = NULL;
}

static void finish(struct postgres_wait *wait, struct err err)
{
    wait->line->n--;
    postgres_finish(wait->postgres, wait->op, err);
}

static void cancel(struct op *op, struct err why)
{
    struct postgres_wait *wait = op->backend_data;

    if (wait->group == NULL)
        counter_add(&wait->postgres->base.stats.withdrawn, 1);
    if (wait->at != NULL) {
        leave_line(wait);
    } else if (wait->group != NULL) {
        wait->group->waits[wait->place] = NULL;
        if (!is_gets(wait->line, wait->postgres))
            why = err_lost(why);
    }
    finish(wait, why);
}

static void wait_for(struct backend *backend, struct op *op, struct postgres_line *line,
                     struct slice key, size_t bytes)
{
    struct postgres *postgres = postgres_of(backend);
    struct postgres_wait *wait;

    if (!postgres_admit(postgres, op, bytes))
        return;
    wait = arena_zalloc(op_arena(op), sizeof *wait);
    wait->postgres = postgres;
    wait->line = line;
    wait->op = op;
    op->backend_data = wait;
    line->n++;
    op_park(op, cancel);
    if (op->state != OP_STARTED)
        return; /* cancelled before it began */
    wait->digest = postgres_digest(key);
    line_up(wait);
}

void postgres_get_one(struct backend *backend, struct kv_get *req)
{
    wait_for(backend, &req->op, &postgres_of(backend)->gets, req->key, req->key.len + 64);
}

void postgres_put_one(struct backend *backend, struct kv_put *req)
{
    wait_for(backend, &req->op, &postgres_of(backend)->puts, req->key,
             req->key.len + req->value.len + 64);
}

/* ---- answers ---- */

static void finish_wait(struct postgres_wait *wait, struct err err)
{
    if (wait->group != NULL)
        wait->group->waits[wait->place] = NULL;
    finish(wait, err);
}

static void go_alone(struct postgres_wait *wait)
{
    wait->group->waits[wait->place] = NULL;
    wait->group = NULL;
    wait->alone = true;
    line_up(wait);
}

/* The value is NULL if it was longer than what the group asked for. */
static void take_value(struct postgres_wait *wait, const PGresult *result, int row)
{
    struct kv_get *req = get_of(wait);
    struct arena *arena = op_arena(&req->op);
    bool sent = !PQgetisnull(result, row, 2);
    size_t len = (size_t)postgres_int4(result, row, 1);
    bool fits = req->room == NULL || len <= req->room->bytes;

    if (!sent && fits && !wait->alone) {
        go_alone(wait);
        return;
    }
    req->found = true;
    req->value =
        kv_room_copy(req->room, arena, sent ? postgres_bytes(result, row, 2) : slice_of("", len));
    if (req->want_version && req->value.data != NULL)
        req->version = postgres_version(arena, postgres_int8(result, row, 3));
    finish_wait(wait, ERR_NONE);
}

static void gets_result(struct postgres_call *call, const PGresult *result)
{
    struct postgres_group *group = call->state;

    for (int row = 0; row < PQntuples(result); row++) {
        struct slice digest = postgres_bytes(result, row, 0);
        size_t at = postgres_rows_find(group->rows, group->n, digest);

        for (; at < group->n && slice_equal(postgres_digest_slice(&group->rows[at].digest), digest);
             at++) {
            struct postgres_wait *wait = group->waits[group->rows[at].place];

            if (wait != NULL)
                take_value(wait, result, row);
        }
    }
}

/* Nothing to look at: all rows are written. */
static void puts_result(struct postgres_call *call, const PGresult *result)
{
    (void)call;
    (void)result;
}

/* One of the group may be the reason, or the connection: then each is sent alone, the latter within
 * the budget of retries. What postgres refuses to all, as a full disk, it would refuse to each. */
static bool goes_alone(const struct postgres_group *group, struct err err)
{
    struct postgres *postgres = group->postgres;

    if (err.code == ERR_OK || err.code == ERR_RESOURCE_EXHAUSTED || err.effect != EFFECT_NONE ||
        is_gets(group->line, postgres) || group->n < 2 || postgres_choose(postgres) == NULL)
        return false;
    return err.code != ERR_UNAVAILABLE ||
           retry_budget_spend(&postgres->retries, &postgres->base.stats);
}

/* Who is still there was not found, or has its put written; or shares the group's failure. */
static void group_end(struct postgres_call *call)
{
    struct postgres_group *group = call->state;
    bool gets = is_gets(group->line, group->postgres);

    group->line->groups--;
    for (size_t i = 0; i < group->n; i++) {
        struct postgres_wait *wait = group->waits[i];

        if (wait == NULL)
            continue;
        if (call->err.code == ERR_OK)
            retry_budget_earn(&group->postgres->retries);
        if (goes_alone(group, call->err)) {
            go_alone(wait);
            continue;
        }
        if (gets && call->err.code == ERR_OK)
            get_of(wait)->found = false;
        finish_wait(wait, postgres_err(call, wait->op));
    }
    free(group);
}

static const struct postgres_kind gets_kind = {.result = gets_result, .end = group_end};
static const struct postgres_kind puts_kind = {
    .writes = true, .result = puts_result, .end = group_end};

/* ---- sending ---- */

static size_t bytes_of(const struct postgres_wait *wait)
{
    const struct kv_put *put = put_of(wait);

    return is_gets(wait->line, wait->postgres) ? 0 : put->key.len + put->value.len;
}

/* The first ones of the line, as many as go together. */
static struct postgres_group *gather(struct postgres *postgres, struct postgres_line *line)
{
    struct postgres_group *group = malloc(sizeof *group);
    size_t bytes = 0, items = group_items(postgres, line);

    if (group == NULL)
        abort();
    group->postgres = postgres;
    group->line = line;
    group->n = 0;
    group->alone = line->first->alone;
    while (line->first != NULL && group->n < items) {
        struct postgres_wait *wait = line->first;

        if (group->n > 0 && (group->alone || wait->alone || bytes + bytes_of(wait) > GROUP_BYTES))
            break;
        bytes += bytes_of(wait);
        leave_line(wait);
        wait->group = group;
        wait->place = group->n;
        group->rows[group->n] =
            (struct postgres_row){.digest = wait->digest, .place = (uint32_t)group->n};
        group->waits[group->n++] = wait;
    }
    postgres_rows_sort(group->rows, group->n);
    return group;
}

static uint64_t cap_of(const struct postgres_group *group)
{
    const struct kv_room *room = get_of(group->waits[0])->room;

    if (!group->alone)
        return GROUP_VALUE;
    return room != NULL ? room->bytes : INT64_MAX;
}

static void send_group(struct postgres_conn *conn, struct postgres_line *line)
{
    struct postgres *postgres = conn->postgres;
    struct postgres_group *group = gather(postgres, line);
    struct postgres_write writes[GROUP_ITEMS];
    struct postgres_params params;
    struct arena scratch;

    arena_init(&scratch, &postgres->base.home->arenas);
    postgres_params_init(&params, &scratch);
    line->groups++;
    if (is_gets(line, postgres)) {
        postgres_lookup_params(&params, postgres->space, group->rows, group->n, cap_of(group));
        postgres_run_own(conn, &gets_kind, group, SQL_LOOKUP, &params);
    } else {
        for (size_t i = 0; i < group->n; i++) {
            const struct kv_put *put = put_of(group->waits[i]);

            writes[i] = (struct postgres_write){
                .key = put->key, .value = put->value, .ttl_ms = put->ttl_ms};
        }
        postgres_upsert_params(&params, postgres->space, group->rows, group->n, writes);
        postgres_run_own(conn, &puts_kind, group, SQL_UPSERT, &params);
    }
    arena_clear(&scratch);
}

void postgres_send_groups(struct postgres *postgres)
{
    struct postgres_line *lines[] = {&postgres->gets, &postgres->puts};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        while (lines[i]->first != NULL && lines[i]->groups < GROUPS_AT_ONCE) {
            struct postgres_conn *conn = postgres_choose(postgres);

            if (conn == NULL)
                return;
            send_group(conn, lines[i]);
        }
    }
}

void postgres_fail_waiting(struct postgres *postgres, struct err why)
{
    struct postgres_line *lines[] = {&postgres->gets, &postgres->puts};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        while (lines[i]->first != NULL) {
            struct postgres_wait *wait = lines[i]->first;

            leave_line(wait);
            finish(wait, why);
        }
    }
}
