/* Settlement by token: deliveries of whatever server, settled at the source by the instance that
 * the call has reached. No other instance is asked: whoever holds one of them is told by the source
 * (moves.c), or finds out before it gives the delivery to somebody else (recall.c).
 *
 *   read    each token on its own: one that is none fails alone
 *   parts   one operation for each topic and group, all at once
 *   reply   when the last one is done, failures in the order of the tokens */
#include "patterns/consumer/consumer_priv.h"
#include "patterns/consumer/token.h"

#include "src/base/container.h"

enum { MOST_PARTS = 64, FAILURE_BYTES = 20 };

/* The tokens of one topic and group. */
struct part {
    struct settle_tickets settle;
    struct anywhere *all;
    struct slice topic; /* as clients name it */
    size_t *which;      /* by item: which token of the request */
};

struct anywhere {
    struct call *call;
    struct consumer *consumer;
    const pb_deliveries *deliveries;
    bool drop;
    struct err *errs; /* by token */
    struct part parts[MOST_PARTS];
    size_t n_parts, left;
};

static struct arena *arena_of(const struct anywhere *all)
{
    return call_arena(all->call);
}

/* ---- reply ---- */

static void add_failure(const struct anywhere *all, size_t i, pb_settlement_failure *failure)
{
    struct err err = all->errs[i];

    prism__patterns__consumer__settlement_failure__init(failure);
    failure->code = (int32_t)err.code;
    failure->error =
        arena_printf(arena_of(all), "ack_tokens[%zu]: %s", i, err.text != NULL ? err.text : "");
    failure->ack_token = all->deliveries->ack_tokens[i];
}

static pb_settlement_failure **failures_of(const struct anywhere *all, size_t *n)
{
    size_t count = all->deliveries->n_ack_tokens;
    pb_settlement_failure **failures = arena_array(arena_of(all), count, sizeof(void *));

    *n = 0;
    for (size_t i = 0; i < count; i++) {
        if (all->errs[i].code == ERR_OK)
            continue;
        failures[*n] = arena_alloc(arena_of(all), sizeof **failures);
        add_failure(all, i, failures[(*n)++]);
    }
    return failures;
}

/* Codes and tokens always fit; texts, which are for people, are left out where they would not. */
static void reply(const struct anywhere *all, const ProtobufCMessage *response,
                  pb_settlement_failure **failures, size_t n)
{
    if (protobuf_c_message_get_packed_size(response) > all->consumer->binding.max_message_bytes) {
        for (size_t i = 0; i < n; i++)
            failures[i]->error = pb_text("");
    }
    call_reply(all->call, response);
}

static void finish(struct anywhere *all)
{
    size_t n;
    pb_settlement_failure **failures = failures_of(all, &n);
    int32_t settled = (int32_t)(all->deliveries->n_ack_tokens - n);

    if (all->drop) {
        pb_reject_response response;

        prism__patterns__consumer__reject_response__init(&response);
        response.rejected_count = settled;
        response.failures = failures;
        response.n_failures = n;
        reply(all, &response.base, failures, n);
    } else {
        pb_acknowledge_response response;

        prism__patterns__consumer__acknowledge_response__init(&response);
        response.acknowledged_count = settled;
        response.failures = failures;
        response.n_failures = n;
        reply(all, &response.base, failures, n);
    }
}

/* ---- the source ---- */

static void settled(struct op *op)
{
    struct settle_tickets *settle = CONTAINER_OF(op, struct settle_tickets, op);
    struct part *part = CONTAINER_OF(settle, struct part, settle);
    struct anywhere *all = part->all;
    struct consumer_stats *stats = &all->consumer->stats;

    for (size_t i = 0; i < settle->n; i++) {
        struct err err = op->err.code != ERR_OK ? op->err : settle->items[i].err;

        all->errs[part->which[i]] = err;
        counter_add(&stats->settled, err.code == ERR_OK);
        counter_add(&stats->dropped, err.code == ERR_OK && all->drop);
        counter_add(&stats->late, err.code == ERR_ABORTED);
    }
    if (--all->left == 0)
        finish(all);
}

static void begin(struct anywhere *all)
{
    struct consumer *consumer = all->consumer;

    all->left = all->n_parts;
    if (all->n_parts == 0) {
        finish(all);
        return;
    }
    for (size_t p = 0, n = all->n_parts; p < n; p++) {
        call_start(all->call, &all->parts[p].settle.op, settled);
        consumer->plan.from.settling->tickets->settle(consumer->source, &all->parts[p].settle);
    }
}

/* ---- reading ---- */

static struct slice group_of(const struct consumer *consumer, struct slice group)
{
    return consumer->plan.from.queue != NULL ? message_null() : group;
}

/* NULL: there are too many, or the names are none; *err says so. */
static struct part *part_of(struct anywhere *all, const struct token *token, struct err *err)
{
    struct slice topic;
    struct part *part;

    *err = ERR_NONE;
    for (size_t p = 0; p < all->n_parts; p++) {
        if (slice_equal(all->parts[p].topic, token->topic) &&
            slice_equal(all->parts[p].settle.group, token->group))
            return &all->parts[p];
    }
    if (token->group.len > MESSAGE_TOPIC_BYTES ||
        (token->group.len == 0 && all->consumer->plan.from.queue == NULL))
        *err = err_make(ERR_INVALID_ARGUMENT, "not an ack_token: it names no group");
    else
        *err = topics_map(&all->consumer->topics, arena_of(all), token->topic, &topic);
    if (err->code != ERR_OK || all->n_parts == MOST_PARTS)
        return NULL;
    part = &all->parts[all->n_parts++];
    part->all = all;
    part->topic = token->topic;
    part->settle.topic = topic;
    part->settle.group = group_of(all->consumer, token->group);
    return part;
}

/* Room for as many as there are in each: all parts have it together, whoever made the tokens. */
static void fill_parts(struct anywhere *all, struct part *const *part_at,
                       const struct slice *tickets)
{
    for (size_t p = 0; p < all->n_parts; p++) {
        struct part *part = &all->parts[p];

        part->which = arena_array(arena_of(all), part->settle.n, sizeof *part->which);
        part->settle.items = arena_array(arena_of(all), part->settle.n, sizeof *part->settle.items);
        part->settle.n = 0;
    }
    for (size_t i = 0; i < all->deliveries->n_ack_tokens; i++) {
        struct part *part = part_at[i];

        if (part == NULL)
            continue;
        part->which[part->settle.n] = i;
        part->settle.items[part->settle.n++].bytes = tickets[i];
    }
}

/* False: the request is no good. */
static bool read_all(struct anywhere *all)
{
    const struct consumer *consumer = all->consumer;
    const struct token_scope scope = {.namespace_name = consumer->base.namespace_name,
                                      .backend = consumer->source->type->name};
    size_t n = all->deliveries->n_ack_tokens;
    struct part **part_at = arena_array(arena_of(all), n, sizeof(struct part *));
    struct slice *tickets = arena_array(arena_of(all), n, sizeof *tickets);

    for (size_t i = 0; i < n; i++) {
        const ProtobufCBinaryData *bytes = &all->deliveries->ack_tokens[i];
        struct token token;

        if (!token_read(slice_of(bytes->data, bytes->len), &scope, &token)) {
            all->errs[i] =
                err_make(ERR_INVALID_ARGUMENT, "not an ack_token of this namespace and source");
            continue;
        }
        part_at[i] = part_of(all, &token, &all->errs[i]);
        tickets[i] = token.ticket;
        if (part_at[i] != NULL)
            part_at[i]->settle.n++;
        else if (all->errs[i].code == ERR_OK)
            return false;
    }
    fill_parts(all, part_at, tickets);
    return true;
}

static struct err check(const struct consumer *consumer, const pb_deliveries *deliveries)
{
    size_t most = consumer->binding.max_message_bytes;
    size_t bytes = deliveries->n_ack_tokens * FAILURE_BYTES;

    for (size_t i = 0; i < deliveries->n_ack_tokens; i++)
        bytes += deliveries->ack_tokens[i].len;
    if (!consumer_meets(&consumer->plan, NEED_ANYWHERE))
        return need_unmet(consumer_need_of(NEED_ANYWHERE));
    if (deliveries->n_sequences + deliveries->n_message_ids > 0 || deliveries->through != 0)
        return err_about(ERR_INVALID_ARGUMENT, "deliveries.ack_tokens",
                         "ack_tokens go without sequences, through and message_ids");
    if (deliveries->n_ack_tokens > CONSUMER_MAX_IDS)
        return err_about(ERR_INVALID_ARGUMENT, "deliveries.ack_tokens",
                         "more than 10,000 tokens in one request");
    if (bytes > most - most / 4)
        return err_about(ERR_INVALID_ARGUMENT, "deliveries",
                         "more deliveries than an answer could tell of");
    return ERR_NONE;
}

void consumer_settle_tokens(struct call *call, const pb_deliveries *deliveries, bool drop)
{
    struct consumer *consumer = consumer_of(call);
    struct err err = check(consumer, deliveries);
    struct anywhere *all;

    if (err.code == ERR_OK) {
        all = arena_zalloc(call_arena(call), sizeof *all);
        *all = (struct anywhere){
            .call = call, .consumer = consumer, .deliveries = deliveries, .drop = drop};
        all->errs = arena_zalloc(call_arena(call), deliveries->n_ack_tokens * sizeof *all->errs);
        if (!read_all(all))
            err = err_about(ERR_INVALID_ARGUMENT, "deliveries.ack_tokens",
                            "tokens of more than 64 topics and groups in one request");
    }
    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        begin(all);
}
