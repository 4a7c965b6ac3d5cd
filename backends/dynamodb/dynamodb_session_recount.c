/* The count of all sessions, compared with what there is.
 *
 * It is written before the session is, and after it is removed; so an operation whose outcome stays
 * unknown leaves it too high, for ever. A creation that it refuses compares it with the entries,
 * a few pages at a time, and puts it right:
 *
 *   first pass    the counter is read, all entries are counted. Fewer than the counter says: that
 *                 may be drift, or operations under way
 *   pause         longer than one is under way (dynamodb_session_hold_ns and what follows)
 *   second pass   the same once more. Whoever was under way would have changed the counter or the
 *                 entries, and the pass begins anew. Nobody has: the difference is drift, and taken
 *                 off on condition that the counter is still the same
 *
 * So it never becomes too low. Where sessions come and go without pause it stays as it is. */
#include "backends/dynamodb/dynamodb_session.h"

#include <cjson/cJSON.h>

enum {
    PAGES = 8,         /* of 1 MiB, for one creation */
    STEPS = 3,         /* requests of one operation that follow each other after it took a place */
    BACKOFF_MS = 2000, /* between two attempts of a request */
    MARGIN_MS = 1000,
    RARELY = 10 /* pauses, where nothing was wrong */
};

static void query(struct session_recount *r);

static uint64_t request_ms(const struct aws_store *store)
{
    return (uint64_t)store->max_attempts * store->request_timeout_ms +
           (uint64_t)(store->max_attempts - 1) * BACKOFF_MS;
}

uint64_t dynamodb_session_hold_ns(const struct aws_store *store)
{
    return request_ms(store) * NS_PER_MS;
}

static uint64_t pause_ns(const struct session_recount *r)
{
    return (STEPS * request_ms(aws_store_of(r->task->client)) + MARGIN_MS) * NS_PER_MS;
}

static struct dynamodb_recount *recount_of(const struct session_recount *r)
{
    return &CONTAINER_OF(r->task->client, struct dynamodb, aws)->recount;
}

static uint64_t now_ns(const struct session_recount *r)
{
    return r->task->client->base.home->now_ns;
}

void dynamodb_session_recount_abandon(struct session_recount *r)
{
    if (r->taken)
        recount_of(r)->busy = false;
    r->taken = false;
}

static void end(struct session_recount *r, bool mended)
{
    dynamodb_session_recount_abandon(r);
    r->done(r, mended);
}

/* ---- mend ---- */

static void on_mended(struct aws_call *call)
{
    struct session_recount *r = call->state;
    const cJSON *answer;

    end(r, !dynamodb_unheld(call) && dynamodb_outcome(call, &answer).code == ERR_OK);
}

static void mend(struct session_recount *r)
{
    struct dynamodb_recount *seen = recount_of(r);
    struct aws_call *call = dynamodb_session_call(r->task, "UpdateItem", on_mended);
    struct text body = text_new(r->task->arena, 512);

    call->state = r;
    text_add(&body, "{");
    text_entry_at(&body, dynamodb_store_of(r->task), INDEX_ALL, slice_of(NULL, 0), 0);
    text_add(&body, ",\"UpdateExpression\":\"SET c = :n\",\"ConditionExpression\":"
                    "\"c = :c AND l = :l\",\"ExpressionAttributeValues\":{\":n\":{\"N\":\"");
    text_number(&body, seen->entries);
    text_add(&body, "\"}");
    text_count(&body, ":c", seen->count);
    text_count(&body, ":l", seen->place);
    text_add(&body, "}}");
    *seen = (struct dynamodb_recount){.busy = true};
    dynamodb_send(call, &body);
}

/* ---- a pass ---- */

static void pass_over(struct session_recount *r)
{
    struct dynamodb_recount *seen = recount_of(r);
    bool drifts = seen->entries < seen->count;

    if (drifts && seen->second && seen->entries == seen->first_entries) {
        mend(r);
        return;
    }
    seen->next_ns = now_ns(r) + (drifts ? 1 : RARELY) * pause_ns(r);
    seen->first_entries = seen->entries;
    seen->second = drifts;
    seen->begun = drifts; /* the counter has to be the same in the second pass */
    seen->entries = seen->after = 0;
    end(r, false);
}

static void on_page(struct aws_call *call)
{
    struct session_recount *r = call->state;
    struct dynamodb_recount *seen = recount_of(r);
    const cJSON *answer, *last, *count;

    if (dynamodb_outcome(call, &answer).code != ERR_OK) {
        end(r, false);
        return;
    }
    count = cJSON_GetObjectItemCaseSensitive(answer, "Count");
    if (!cJSON_IsNumber(count)) {
        end(r, false);
        return;
    }
    seen->entries += (uint64_t)cJSON_GetNumberValue(count);
    last = cJSON_GetObjectItemCaseSensitive(answer, "LastEvaluatedKey");
    if (last == NULL) {
        pass_over(r);
        return;
    }
    seen->after = dynamodb_place(last);
    if (seen->after == 0)
        seen->begun = false;
    if (++r->pages < PAGES && seen->begun)
        query(r);
    else
        end(r, false); /* the next one goes on from here */
}

static void query(struct session_recount *r)
{
    struct dynamodb_store *store = dynamodb_store_of(r->task);
    struct aws_call *call = dynamodb_session_call(r->task, "Query", on_page);
    struct text body = text_new(r->task->arena, 512);

    call->state = r;
    text_add(&body, "{");
    text_table(&body, store);
    text_add(&body, ",\"Select\":\"COUNT\",\"ConsistentRead\":true,\"KeyConditionExpression\":"
                    "\"p = :p AND k > :k\",\"ExpressionAttributeValues\":{\":p\":{\"S\":");
    text_string(&body, dynamodb_index_name(&body, store, INDEX_ALL, slice_of(NULL, 0)));
    text_add(&body, "},\":k\":");
    text_place(&body, recount_of(r)->after);
    text_add(&body, "}}");
    dynamodb_send(call, &body);
}

/* ---- the beginning ---- */

static void on_counter(struct aws_call *call)
{
    struct session_recount *r = call->state;
    struct dynamodb_recount *seen = recount_of(r);
    const cJSON *answer, *item;
    uint64_t place, count;

    if (dynamodb_outcome(call, &answer).code != ERR_OK) {
        end(r, false);
        return;
    }
    item = cJSON_GetObjectItemCaseSensitive(answer, "Item");
    place = dynamodb_number(item, "l");
    count = dynamodb_number(item, "c");
    if (!seen->begun || seen->place != place || seen->count != count)
        *seen =
            (struct dynamodb_recount){.place = place, .count = count, .begun = true, .busy = true};
    query(r);
}

void dynamodb_session_recount(struct session_recount *r)
{
    struct dynamodb_recount *seen = recount_of(r);
    struct aws_call *call;
    struct text body;

    if (seen->busy || now_ns(r) < seen->next_ns) {
        r->done(r, false);
        return;
    }
    r->taken = seen->busy = true;
    r->pages = 0;
    call = dynamodb_session_call(r->task, "GetItem", on_counter);
    body = text_new(r->task->arena, 512);
    call->state = r;
    text_add(&body, "{");
    text_entry_at(&body, dynamodb_store_of(r->task), INDEX_ALL, slice_of(NULL, 0), 0);
    text_add(&body, ",\"ConsistentRead\":true}");
    dynamodb_send(call, &body);
}
