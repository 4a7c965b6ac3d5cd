/* Acknowledge, Reject, Extend and Unsubscribe: errands to the home of the subscription. */
#include "patterns/consumer/member.h"
#include "patterns/errand.h"

#include "pool/worker.h"
#include "src/base/clock.h"

struct unary {
    struct errand errand;
    struct call *call;
    struct consumer *home; /* of the subscription */
    const pb_deliveries *deliveries;
    struct which which;
    struct receipt receipt;
    bool has_receipt;
    /* Reject, Extend */
    pb_disposition disposition;
    uint64_t delay_ms, lease_ms;
    const char *reason;
    struct extension extension;
    /* Unsubscribe */
    const char *id, *consumer_id;
    struct slice topic, group;
    bool existed;
};

/* ---- at the subscription's home ---- */

static void settled(struct receipt *receipt)
{
    struct unary *unary = CONTAINER_OF(receipt, struct unary, receipt);
    struct member *member = receipt->member;

    member->receipts--;
    feed_wake(member->feed);
    member_maybe_free(member);
    op_finish(&unary->errand.op, ERR_NONE);
}

static struct receipt *open_receipt(struct unary *unary)
{
    struct member *member = shared_find(unary->home, unary->deliveries->subscription_id);

    if (member == NULL) {
        op_finish(&unary->errand.op,
                  err_about(ERR_NOT_FOUND, "subscription_id", "there is no such subscription"));
        return NULL;
    }
    if (member->automatic) {
        op_finish(&unary->errand.op,
                  err_about(ERR_FAILED_PRECONDITION, "ack_mode", "ACK_AUTO settles by itself"));
        return NULL;
    }
    unary->has_receipt = true;
    receipt_init(&unary->receipt, member, settled);
    return &unary->receipt;
}

static void acknowledge_there(struct errand *errand)
{
    struct unary *unary = CONTAINER_OF(errand, struct unary, errand);
    struct receipt *receipt = open_receipt(unary);

    if (receipt == NULL)
        return;
    settle_acknowledge(receipt, &unary->which);
    receipt_leave(receipt);
}

static void reject_there(struct errand *errand)
{
    struct unary *unary = CONTAINER_OF(errand, struct unary, errand);
    struct receipt *receipt = open_receipt(unary);

    if (receipt == NULL)
        return;
    settle_reject(receipt, &unary->which, unary->disposition, unary->delay_ms, unary->reason);
    receipt_leave(receipt);
}

static void extend_there(struct errand *errand)
{
    struct unary *unary = CONTAINER_OF(errand, struct unary, errand);
    struct receipt *receipt = open_receipt(unary);

    if (receipt == NULL)
        return;
    unary->extension = settle_extend(receipt, &unary->which, unary->lease_ms);
    receipt_leave(receipt);
}

static void end_members(struct unary *unary, struct feed *feed)
{
    for (struct member *member = feed->members; member != NULL; member = member->next) {
        if (member->leaving ||
            (unary->consumer_id[0] != '\0' && strcmp(member->consumer_id, unary->consumer_id) != 0))
            continue;
        unary->existed = true;
        member_end(member, ERR_NONE, false);
    }
}

static void unsubscribe_there(struct errand *errand)
{
    struct unary *unary = CONTAINER_OF(errand, struct unary, errand);

    if (unary->id[0] != '\0') {
        struct member *member = shared_find(unary->home, unary->id);

        unary->existed = member != NULL;
        if (member != NULL)
            member_end(member, ERR_NONE, false);
    } else {
        for (struct feed *feed = unary->home->feeds; feed != NULL; feed = feed->next) {
            if (feed->shared && !feed->letters && slice_equal(feed->topic, unary->topic) &&
                slice_equal(feed->group_name, unary->group))
                end_members(unary, feed);
        }
    }
    op_finish(&unary->errand.op, ERR_NONE);
}

/* ---- on the call's worker ---- */

static struct unary *unary_new(struct call *call)
{
    struct unary *unary = arena_zalloc(call_arena(call), sizeof *unary);

    unary->call = call;
    return unary;
}

static void clear_arena(void *arena)
{
    arena_clear(arena);
}

/* Ends the call if the errand failed. The failures live as long as the call. */
static bool came_back(struct unary *unary)
{
    if (unary->has_receipt)
        arena_adopt(call_arena(unary->call), &unary->receipt.memory, clear_arena);
    if (unary->errand.op.err.code == ERR_OK)
        return true;
    call_fail(unary->call, unary->errand.op.err);
    return false;
}

static struct unary *unary_of(struct op *op)
{
    return CONTAINER_OF(CONTAINER_OF(op, struct errand, op), struct unary, errand);
}

/* An answer that tells of every one of them as a failure fits a message: each takes its identifier
 * and at most this much. */
static struct err check_named(const struct consumer *consumer, const pb_deliveries *deliveries)
{
    enum { FAILURE_BYTES = 20 };
    size_t most = consumer->binding.max_message_bytes;
    size_t bytes = (deliveries->n_sequences + deliveries->n_message_ids) * FAILURE_BYTES;

    if (deliveries->n_message_ids > CONSUMER_MAX_IDS)
        return err_about(ERR_INVALID_ARGUMENT, "deliveries.message_ids",
                         "more than 10,000 identifiers in one request");
    for (size_t i = 0; i < deliveries->n_message_ids; i++)
        bytes += strlen(deliveries->message_ids[i]);
    if (bytes > most - most / 4)
        return err_about(ERR_INVALID_ARGUMENT, "deliveries",
                         "more deliveries than an answer could tell of");
    return ERR_NONE;
}

/* Codes and names always fit; texts, which are for people, are left out where they would not. */
static void shorten(const struct unary *unary, const ProtobufCMessage *response)
{
    if (protobuf_c_message_get_packed_size(response) <= unary->home->binding.max_message_bytes)
        return;
    for (size_t i = 0; i < unary->receipt.n_failures; i++)
        unary->receipt.failures[i]->error = pb_text("");
}

/* True: the errand can go. Otherwise the call has ended. */
static bool read_deliveries(struct unary *unary, const pb_deliveries *deliveries)
{
    struct consumer *consumer = consumer_of(unary->call);
    struct err err = ERR_NONE;

    unary->deliveries = deliveries;
    if (consumer->plan.from.settling == NULL)
        err = need_unmet(consumer_need_of(NEED_SETTLING));
    else if (deliveries == NULL)
        err = err_about(ERR_INVALID_ARGUMENT, "deliveries", "deliveries has to be set");
    else if (deliveries->n_ack_tokens > 0) /* of Extend */
        err =
            err_make(ERR_UNIMPLEMENTED, "extension by ack_token not supported: a lease belongs to "
                                        "the subscription that has the delivery");
    else if (deliveries->through < 0)
        err = err_about(ERR_INVALID_ARGUMENT, "deliveries.through", "through is negative");
    else if (deliveries->n_sequences + deliveries->n_message_ids == 0 && deliveries->through == 0)
        err = err_about(ERR_INVALID_ARGUMENT, "deliveries", "no delivery is named");
    else if ((unary->home = shared_home_of(consumer, deliveries->subscription_id)) == NULL)
        err = err_about(ERR_NOT_FOUND, "subscription_id", "there is no such subscription");
    else
        err = check_named(consumer, deliveries);
    if (err.code != ERR_OK) {
        call_fail(unary->call, err);
        return false;
    }
    unary->which = (struct which){.sequences = deliveries->sequences,
                                  .n = deliveries->n_sequences,
                                  .through = (uint64_t)deliveries->through,
                                  .message_ids = deliveries->message_ids,
                                  .n_message_ids = deliveries->n_message_ids};
    return true;
}

static void go(struct unary *unary, void (*there)(struct errand *), op_done_fn *done)
{
    unary->errand.there = there;
    errand_start(&unary->errand, call_group(unary->call), unary->home->base.home, done);
}

static bool names_tokens(const pb_deliveries *deliveries)
{
    return deliveries != NULL && deliveries->n_ack_tokens > 0;
}

static void acknowledged(struct op *op)
{
    struct unary *unary = unary_of(op);
    pb_acknowledge_response response;

    if (!came_back(unary))
        return;
    prism__patterns__consumer__acknowledge_response__init(&response);
    response.acknowledged_count = unary->receipt.settled;
    response.failures = unary->receipt.failures;
    response.n_failures = unary->receipt.n_failures;
    shorten(unary, &response.base);
    call_reply(unary->call, &response.base);
}

void consumer_acknowledge(struct call *call)
{
    const pb_acknowledge_request *request = call_request(call);
    struct unary *unary;

    if (names_tokens(request->deliveries)) {
        consumer_settle_tokens(call, request->deliveries, false);
        return;
    }
    unary = unary_new(call);
    if (read_deliveries(unary, request->deliveries))
        go(unary, acknowledge_there, acknowledged);
}

static void rejected(struct op *op)
{
    struct unary *unary = unary_of(op);
    pb_reject_response response;

    if (!came_back(unary))
        return;
    prism__patterns__consumer__reject_response__init(&response);
    response.rejected_count = unary->receipt.settled;
    response.dead_lettered_count = unary->receipt.dead;
    response.failures = unary->receipt.failures;
    response.n_failures = unary->receipt.n_failures;
    shorten(unary, &response.base);
    call_reply(unary->call, &response.base);
}

/* What comes again has to be ordered and counted by whoever holds it. */
static void reject_tokens(struct call *call, const pb_reject_request *request)
{
    if (request->disposition != CONSUMER_PB(DISPOSITION__DROP) &&
        consumer_meets(&consumer_of(call)->plan, NEED_ANYWHERE))
        call_fail(call, err_about(ERR_FAILED_PRECONDITION, "disposition",
                                  "by ack_token only DROP: RETRY, RELEASE and DEAD_LETTER need the "
                                  "subscription that has the delivery"));
    else
        consumer_settle_tokens(call, request->deliveries, true);
}

void consumer_reject(struct call *call)
{
    const pb_reject_request *request = call_request(call);
    struct unary *unary = unary_new(call);
    bool delayed = request->_delay_ms_case == CONSUMER_PB(REJECT_REQUEST___DELAY_MS_DELAY_MS);
    struct err err = consumer_check_disposition(request->disposition);

    if (err.code == ERR_OK && delayed)
        err = consumer_check_delay(request->delay_ms);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    if (names_tokens(request->deliveries)) {
        reject_tokens(call, request);
        return;
    }
    if (!read_deliveries(unary, request->deliveries))
        return;
    unary->disposition = request->disposition;
    unary->delay_ms =
        delayed ? (uint64_t)request->delay_ms : consumer_of(call)->settings.retry_delay_ms;
    unary->reason = request->reason;
    go(unary, reject_there, rejected);
}

static void was_extended(struct op *op)
{
    struct unary *unary = unary_of(op);
    pb_extend_response response;

    if (!came_back(unary))
        return;
    prism__patterns__consumer__extend_response__init(&response);
    response.extended_count = unary->extension.n;
    response.expires_at_ms = unary->extension.expires_at_ms;
    response.failures = unary->receipt.failures;
    response.n_failures = unary->receipt.n_failures;
    shorten(unary, &response.base);
    call_reply(unary->call, &response.base);
}

void consumer_extend(struct call *call)
{
    const pb_extend_request *request = call_request(call);
    struct unary *unary = unary_new(call);

    if (!read_deliveries(unary, request->deliveries))
        return;
    if (request->lease_ms < 1 || request->lease_ms > CONSUMER_MAX_DELAY_MS) {
        call_fail(call, err_about(ERR_INVALID_ARGUMENT, "lease_ms", "lease_ms is out of range"));
        return;
    }
    unary->lease_ms = (uint64_t)request->lease_ms;
    go(unary, extend_there, was_extended);
}

static void unsubscribed(struct op *op)
{
    struct unary *unary = unary_of(op);
    pb_unsubscribe_response response;

    if (!came_back(unary))
        return;
    prism__patterns__consumer__unsubscribe_response__init(&response);
    response.success = true;
    response.existed = unary->existed;
    call_reply(unary->call, &response.base);
}

static void reply_absent(struct call *call)
{
    pb_unsubscribe_response response;

    prism__patterns__consumer__unsubscribe_response__init(&response);
    response.success = true;
    call_reply(call, &response.base);
}

void consumer_unsubscribe(struct call *call)
{
    const pb_unsubscribe_request *request = call_request(call);
    struct consumer *consumer = consumer_of(call);
    struct unary *unary = unary_new(call);
    struct slice name;

    unary->id = request->subscription_id;
    unary->consumer_id = request->consumer_id;
    if (unary->id[0] != '\0') {
        unary->home = shared_home_of(consumer, unary->id);
    } else {
        struct err err = consumer_read_group(consumer, call_arena(call), request->topic,
                                             request->consumer_group, &unary->topic, &name);

        if (err.code != ERR_OK) {
            call_fail(call, err);
            return;
        }
        unary->group = name;
        unary->home = shared_home_of_group(consumer, unary->topic, unary->group);
    }
    if (unary->home == NULL)
        reply_absent(call);
    else
        go(unary, unsubscribe_there, unsubscribed);
}
