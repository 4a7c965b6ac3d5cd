/* Leases of what subscriptions hold. A delivery's lease is as long as a process that has vanished
 * keeps its messages from others; one that is there renews it, also for a subscription that has
 * named no lease of its own. That one ends with the subscription.
 *
 * A round begins every quarter of the lease, while anything is held: the tokens of all listeners,
 * in portions, one statement for each and one at a time. What has more than three quarters of its
 * lease left is not written anew, so at least half is left whenever one is. A row that somebody
 * else has locked is left to the next round, so a renewal waits for nobody and has no part in a
 * deadlock.
 *
 *   renewed    the delivery is ours for another lease
 *   lost       no row has it: the lease ran out while the server was away, and another one took the
 *              message. The subscription is told, unless one of its settlements is under way, which
 *              may be what has taken the row away: then with the next round
 *   failed     the round ends, and the next one begins soon
 *
 * Memory: a place for each delivery of the listeners whose turn it is: RENEW_TOKENS, or those of
 * one listener if it has more, which its credit bounds. A listener in it stays until the portion's
 * answer is in. */
#include "backends/postgres/postgres_queue.h"

#include <stdlib.h>

enum { RENEW_TOKENS = 1000, RENEW_AGAIN = 10, ROUNDS = 4 };

static void send_portion(struct postgres *postgres);
static void on_round(struct timer *timer);

static uint64_t lease_ns(const struct postgres *postgres)
{
    return postgres_store_of(postgres)->queue_lease_ms * NS_PER_MS;
}

static void round_in(struct postgres *postgres, uint64_t ns)
{
    timer_arm(&postgres->base.home->timers, &postgres->renewal.timer, postgres_now(postgres) + ns,
              on_round);
}

static bool is_closing(const struct postgres_listener *listener)
{
    return listener->subscription->state == SUB_CLOSING;
}

static bool holds(const struct postgres_listener *listener)
{
    return listener->n > 0 && listener->subscription->want.lease_ms == 0 && !is_closing(listener);
}

/* ---- whose turn it is ---- */

static void add(struct postgres_renewal *renewal, struct postgres_listener *listener)
{
    if (renewal->n + listener->n > renewal->room) {
        renewal->room = 2 * (renewal->n + listener->n);
        renewal->items = realloc(renewal->items, renewal->room * sizeof *renewal->items);
        if (renewal->items == NULL)
            abort();
    }
    for (size_t i = 0; i < listener->room; i++) {
        if (listener->tokens[i] != 0)
            renewal->items[renewal->n++] =
                (struct postgres_held){.listener = listener, .token = listener->tokens[i]};
    }
    listener->renewing = true;
}

/* What a take has brought is not committed yet: its listener waits for the next round. */
static void gather(struct postgres *postgres)
{
    struct postgres_renewal *renewal = &postgres->renewal;

    for (struct postgres_listener *l = postgres->listeners; l != NULL && renewal->n < RENEW_TOKENS;
         l = l->next) {
        if (l->round == renewal->round)
            continue;
        l->round = renewal->round;
        if (holds(l) && l->batch == NULL)
            add(renewal, l);
    }
}

/* Those that close have waited for it. */
static void let_go(struct postgres *postgres)
{
    struct postgres_renewal *renewal = &postgres->renewal;
    struct postgres_held *items = renewal->items;
    size_t n = renewal->n;

    renewal->items = NULL;
    renewal->n = renewal->at = renewal->room = 0;
    for (size_t i = 0; i < n; i++) {
        if (!items[i].listener->renewing)
            continue;
        items[i].listener->renewing = false;
        postgres_queue_settled(items[i].listener);
    }
    free(items);
}

/* The next one begins at next_ns, if that is still to come. */
static void end_round(struct postgres *postgres, uint64_t next_ns)
{
    uint64_t now_ns = postgres_now(postgres), pause_ns = next_ns > now_ns ? next_ns - now_ns : 0;

    let_go(postgres);
    for (const struct postgres_listener *l = postgres->closing ? NULL : postgres->listeners;
         l != NULL; l = l->next) {
        if (holds(l)) {
            round_in(postgres, pause_ns);
            return;
        }
    }
}

/* ---- a portion's answer ---- */

static void renew_result(struct postgres_call *call, const PGresult *result)
{
    struct postgres_renewal *renewal = &call->conn->postgres->renewal;
    size_t at = renewal->at;

    for (int row = 0; row < PQntuples(result); row++) {
        uint64_t token = (uint64_t)postgres_int8(result, row, 0);
        size_t end = renewal->sent_to, from = at;

        while (at < end && renewal->items[at].token != token)
            at++;
        for (size_t i = renewal->at; at == end && i < from; i++) {
            if (renewal->items[i].token == token)
                at = i;
        }
        if (at < end)
            renewal->items[at].lost = true;
        else
            at = from;
    }
}

/* The deliveries of one listener, from item `at` on. Returns where the next one's begin. */
static size_t tell(struct postgres_renewal *renewal, size_t at)
{
    struct postgres_listener *listener = renewal->items[at].listener;
    struct subscription_move move = {.kind = MOVE_LOST, .reason = MOVED_BY_LEASE};
    bool may = listener->settling == 0 && !is_closing(listener);
    uint64_t tokens[RENEW_TOKENS];

    for (; at < renewal->sent_to && renewal->items[at].listener == listener; at++) {
        uint64_t token = renewal->items[at].token;

        if (!may || !renewal->items[at].lost || !postgres_tokens_has(listener, token))
            continue;
        postgres_tokens_remove(listener, token);
        tokens[move.n_tokens++] = token;
    }
    move.tokens = tokens;
    if (move.n_tokens > 0)
        subscription_moved(listener->subscription, &move);
    return at;
}

static void renew_end(struct postgres_call *call)
{
    struct postgres *postgres = call->conn->postgres;
    struct postgres_renewal *renewal = &postgres->renewal;

    if (call->err.code != ERR_OK) {
        end_round(postgres, postgres_now(postgres) + lease_ns(postgres) / RENEW_AGAIN);
        return;
    }
    for (size_t at = renewal->at; at < renewal->sent_to;)
        at = tell(renewal, at);
    renewal->at = renewal->sent_to;
    send_portion(postgres);
}

static const struct postgres_kind renew_kind = {
    .writes = true, .result = renew_result, .end = renew_end};

/* ---- a portion ---- */

static bool is_held(const struct postgres_held *held)
{
    return !is_closing(held->listener) && postgres_tokens_has(held->listener, held->token);
}

/* Leaves out what has been settled meanwhile. Returns how many are left, RENEW_TOKENS at most. */
static size_t choose(struct postgres_renewal *renewal)
{
    size_t n = 0, from = renewal->at;

    for (; from < renewal->n && n < RENEW_TOKENS; from++) {
        if (is_held(&renewal->items[from]))
            n++;
        else
            renewal->items[from].token = 0;
    }
    renewal->sent_to = from;
    return n;
}

static void send_tokens(struct postgres *postgres, struct postgres_conn *conn, size_t n)
{
    struct postgres_renewal *renewal = &postgres->renewal;
    struct postgres_array tokens;
    struct postgres_params params;
    struct arena scratch;

    arena_init(&scratch, &postgres->base.home->arenas);
    postgres_params_init(&params, &scratch);
    tokens = postgres_add_array(&params, POSTGRES_INT8, n, 8 * n);
    for (size_t i = renewal->at; i < renewal->sent_to; i++) {
        if (renewal->items[i].token != 0)
            postgres_element_int8(&tokens, (int64_t)renewal->items[i].token);
    }
    postgres_add_int8(&params, (int64_t)postgres_store_of(postgres)->queue_lease_ms);
    postgres_run_own(conn, &renew_kind, NULL, SQL_RENEW, &params);
    arena_clear(&scratch);
}

static void send_portion(struct postgres *postgres)
{
    struct postgres_renewal *renewal = &postgres->renewal;
    struct postgres_conn *conn = postgres->closing ? NULL : postgres_choose(postgres);
    size_t n;

    for (;;) {
        if (renewal->at == renewal->n) {
            let_go(postgres);
            gather(postgres);
        }
        if (renewal->n == 0 || conn == NULL)
            break;
        if ((n = choose(renewal)) > 0) {
            send_tokens(postgres, conn, n);
            return;
        }
        renewal->at = renewal->sent_to;
    }
    end_round(postgres, conn != NULL ? renewal->began_ns + lease_ns(postgres) / ROUNDS
                                     : postgres_now(postgres) + lease_ns(postgres) / RENEW_AGAIN);
}

static void on_round(struct timer *timer)
{
    struct postgres_renewal *renewal = CONTAINER_OF(timer, struct postgres_renewal, timer);

    struct postgres *postgres = CONTAINER_OF(renewal, struct postgres, renewal);

    renewal->round++;
    renewal->began_ns = postgres_now(postgres);
    send_portion(postgres);
}

/* ---- for the others ---- */

void postgres_renew_look(struct postgres *postgres)
{
    const struct postgres_renewal *renewal = &postgres->renewal;

    if (renewal->n == 0 && !timer_armed(&renewal->timer) && !postgres->closing)
        round_in(postgres, lease_ns(postgres) / ROUNDS);
}

void postgres_renew_now(struct postgres *postgres)
{
    if (postgres->renewal.n == 0 && !postgres->closing)
        round_in(postgres, 0);
}

void postgres_renew_stop(struct postgres *postgres)
{
    timer_disarm(&postgres->base.home->timers, &postgres->renewal.timer);
}
