/* What the client of Consume says after `subscribe`. */
#include "patterns/consumer/member.h"

#include "pool/worker.h"
#include "src/base/container.h"

static struct which which_of(const int64_t *sequences, size_t n, int64_t through)
{
    return (struct which){
        .sequences = sequences, .n = n, .through = through > 0 ? (uint64_t)through : 0};
}

/* The failures ride on the next frames. */
static void told(struct receipt *receipt)
{
    struct member *member = receipt->member;

    member->receipts--;
    member->naming -= receipt->names;
    failures_add(&member->failures, receipt);
    feed_wake(member->feed);
    member_maybe_free(member);
}

static struct receipt *new_receipt(struct member *member, size_t names)
{
    struct arena memory;

    arena_init(&memory, &member->feed->consumer->base.home->arenas);

    struct receipt *receipt = arena_alloc(&memory, sizeof *receipt);

    receipt_init(receipt, member, told);
    receipt->memory = memory; /* holds the receipt itself */
    receipt->names = names;
    member->naming += names;
    return receipt;
}

static void add_credit(struct member *member,
                       const Prism__Patterns__Consumer__ConsumeCredit *credit)
{
    enum { MOST = 1 << 30 };

    if (credit->messages > 0) {
        member->credited = true;
        member->credit += (uint64_t)credit->messages;
        if (member->credit > MOST)
            member->credit = MOST;
    }
    if (credit->bytes > 0) {
        int64_t had = member->credited_bytes ? member->credit_bytes : 0;

        member->credited_bytes = true;
        member->credit_bytes = credit->bytes < INT64_MAX / 2 ? had + credit->bytes : INT64_MAX / 2;
        if (member->credit_bytes > INT64_MAX / 4)
            member->credit_bytes = INT64_MAX / 4;
    }
}

static void extend(struct member *member, const Prism__Patterns__Consumer__ConsumeExtend *request)
{
    struct receipt *receipt = new_receipt(member, request->n_sequences);
    struct which which = which_of(request->sequences, request->n_sequences, request->through);
    struct extension extension = settle_extend(receipt, &which, (uint64_t)request->lease_ms);

    if (extension.n > 0) {
        struct arena *arena = &member->notes_memory;
        pb_extended *extended = arena_alloc(arena, sizeof *extended);

        prism__patterns__consumer__extended__init(extended);
        extended->n_sequences = extension.n_sequences;
        extended->sequences =
            arena_alloc(arena, extension.n_sequences * sizeof *extended->sequences);
        if (extension.n_sequences > 0)
            memcpy(extended->sequences, extension.sequences,
                   extension.n_sequences * sizeof *extended->sequences);
        extended->through = request->through;
        extended->expires_at_ms = extension.expires_at_ms;
        member->n_extended += extension.n_sequences;
        member_note(member, &member->extended, extended);
    }
    receipt_leave(receipt);
}

static void reject(struct member *member, const Prism__Patterns__Consumer__ConsumeReject *request)
{
    struct receipt *receipt = new_receipt(member, request->n_sequences);
    struct which which = which_of(request->sequences, request->n_sequences, request->through);
    uint64_t delay = request->_delay_ms_case == CONSUMER_PB(CONSUME_REJECT___DELAY_MS_DELAY_MS)
                         ? (uint64_t)request->delay_ms
                         : member->feed->consumer->settings.retry_delay_ms;

    settle_reject(receipt, &which, request->disposition, delay, request->reason);
    receipt_leave(receipt);
}

static void acknowledge(struct member *member, const Prism__Patterns__Consumer__ConsumeAck *request)
{
    struct receipt *receipt = new_receipt(member, request->n_sequences);
    struct which which = which_of(request->sequences, request->n_sequences, request->through);

    settle_acknowledge(receipt, &which);
    receipt_leave(receipt);
}

size_t member_names(const pb_consume_request *request)
{
    switch (request->action_case) {
    case CONSUMER_PB(CONSUME_REQUEST__ACTION_ACK):
        return request->ack->n_sequences;
    case CONSUMER_PB(CONSUME_REQUEST__ACTION_REJECT):
        return request->reject->n_sequences;
    case CONSUMER_PB(CONSUME_REQUEST__ACTION_EXTEND):
        return request->extend->n_sequences;
    default:
        return 0;
    }
}

/* What is not told yet, and what may have to be. */
void member_hear(struct member *member)
{
    member->outlet->untold = member->failures.n + member->n_extended + member->naming;
    worker_land(member->outlet->worker, &member->outlet->heard);
}

/* Its own faults end the stream: what the client meant cannot be known. */
static struct err check(const struct member *member, const pb_consume_request *request)
{
    bool settles = false;
    struct err err = ERR_NONE;

    switch (request->action_case) {
    case CONSUMER_PB(CONSUME_REQUEST__ACTION_ACK):
        settles = true;
        break;
    case CONSUMER_PB(CONSUME_REQUEST__ACTION_REJECT):
        settles = true;
        err = consumer_check_disposition(request->reject->disposition);
        if (err.code == ERR_OK && request->reject->_delay_ms_case != 0)
            err = consumer_check_delay(request->reject->delay_ms);
        break;
    case CONSUMER_PB(CONSUME_REQUEST__ACTION_EXTEND):
        settles = true;
        if (request->extend->lease_ms < 1 || request->extend->lease_ms > CONSUMER_MAX_DELAY_MS)
            return err_about(ERR_INVALID_ARGUMENT, "extend.lease_ms", "lease_ms is out of range");
        break;
    case CONSUMER_PB(CONSUME_REQUEST__ACTION_CREDIT):
        if (request->credit->messages < 0 || request->credit->bytes < 0)
            return err_about(ERR_INVALID_ARGUMENT, "credit", "credit is negative");
        break;
    default:
        return err_about(ERR_INVALID_ARGUMENT, "action",
                         "one of ack, reject, credit, extend has to be set");
    }
    if (err.code == ERR_OK && settles && member->automatic)
        err = err_about(ERR_FAILED_PRECONDITION, "ack_mode", "ACK_AUTO settles by itself");
    return err;
}

static void carry_out(struct member *member, const pb_consume_request *request)
{
    struct err err = check(member, request);

    if (err.code != ERR_OK) {
        member_end(member, err, false);
        return;
    }
    if (request->action_case == CONSUMER_PB(CONSUME_REQUEST__ACTION_ACK))
        acknowledge(member, request->ack);
    else if (request->action_case == CONSUMER_PB(CONSUME_REQUEST__ACTION_REJECT))
        reject(member, request->reject);
    else if (request->action_case == CONSUMER_PB(CONSUME_REQUEST__ACTION_EXTEND))
        extend(member, request->extend);
    else
        add_credit(member, request->credit);
}

void member_said(struct job *job)
{
    struct outlet *outlet = CONTAINER_OF(job, struct outlet, said);
    struct member *member = outlet->member;

    if (!member->leaving)
        carry_out(member, (const void *)outlet->receive.message);
    /* Who does not read what failed is not heard any more. */
    if (!member->leaving && member_owes_much(member))
        member->unheard = true;
    else
        member_hear(member);
    feed_wake(member->feed);
}
