/* What other processes and other workers push: who has brought a message tells so by NOTIFY, and
 * one of the connections of each instance that has subscriptions of queues LISTENs.
 *
 * A transaction that notifies takes a lock of the whole server before it commits and keeps it until
 * its commit is flushed. In the push's own transaction that would make all pushes commit one after
 * the other. So a push is noted when it is known to be committed, and
 * what has been noted goes in a transaction of its own, which has nothing to flush: one at a time
 * from each instance, and not more often than every GAP_MS.
 *
 * Nothing depends on it. What is told while no connection listens, or is lost in a pooler, is found
 * when the queue is looked at again after queue_poll_ms. If the connection is lost, another one
 * listens in its place, and all queues are looked at: what came meanwhile has been told to nobody.
 */
#include "backends/postgres/postgres_queue.h"

#include <stdio.h>
#include <string.h>

enum { CHANNEL_DIGITS = 32, CHANNEL_SIZE = sizeof "prism_" + CHANNEL_DIGITS, GAP_MS = 5 };

/* The payload that is no queue's: look at all. */
static const char everything[] = "*";

/* Digits alone, whatever the names are. */
static void channel_of(const struct postgres *postgres, char channel[CHANNEL_SIZE])
{
    char of[96], hex[DIGEST_HEX];
    struct slice whole;
    struct digest digest;

    snprintf(of, sizeof of, "\"%s\" %d", postgres_store_of(postgres)->config.schema,
             (int)postgres->space);
    whole = slice_str(of);
    digest = digest_of(&whole, 1);
    digest_hex(&digest, hex);
    snprintf(channel, CHANNEL_SIZE, "prism_%.*s", CHANNEL_DIGITS, hex);
}

/* Of what was settled by ticket; no queue has it. */
static struct digest settled_digest(struct slice queue)
{
    const struct slice parts[] = {slice_str("settled by ticket: "), queue};

    return digest_of(parts, 2);
}

/* Of what has come to its old place; no queue has it. */
static struct digest returned_digest(struct slice queue)
{
    const struct slice parts[] = {slice_str("given back: "), queue};

    return digest_of(parts, 2);
}

void postgres_wake_name(struct postgres_listener *listener)
{
    struct digest digest = digest_of(&listener->subscription->want.topic, 1);
    struct digest returned = returned_digest(listener->subscription->want.topic);
    struct digest settled = settled_digest(listener->subscription->want.topic);

    digest_hex(&digest, listener->digest);
    digest_hex(&returned, listener->returned_digest);
    digest_hex(&settled, listener->settled_digest);
}

static void nothing(struct postgres_call *call, const PGresult *result)
{
    (void)call;
    (void)result;
}

/* ---- telling ---- */

/* What was refused is not told again: polling finds it. */
static void told(struct postgres_call *call)
{
    call->conn->postgres->news.telling = false;
    postgres_wake_tell(call->conn->postgres);
}

static const struct postgres_kind tell_kind = {.writes = true, .result = nothing, .end = told};

static void add_payloads(struct postgres_params *params, const struct postgres_news *news)
{
    struct postgres_array array;
    char hex[DIGEST_HEX];

    if (news->all) {
        array = postgres_add_array(params, POSTGRES_TEXT, 1, strlen(everything));
        postgres_element(&array, slice_str(everything));
        return;
    }
    array = postgres_add_array(params, POSTGRES_TEXT, news->n, (size_t)news->n * DIGEST_HEX);
    for (unsigned i = 0; i < news->n; i++) {
        digest_hex(&news->queues[i], hex);
        postgres_element(&array, slice_of(hex, sizeof hex));
    }
}

static void send_news(struct postgres *postgres, struct postgres_conn *conn)
{
    struct postgres_news *news = &postgres->news;
    char channel[CHANNEL_SIZE];
    struct postgres_params params;
    struct arena scratch;

    channel_of(postgres, channel);
    arena_init(&scratch, &postgres->base.home->arenas);
    postgres_params_init(&params, &scratch);
    postgres_add(&params, slice_str(channel));
    add_payloads(&params, news);
    news->n = 0;
    news->all = false;
    news->telling = true;
    news->told_ns = postgres_now(postgres);
    postgres_run_own(conn, &tell_kind, NULL, SQL_TELL, &params);
    arena_clear(&scratch);
}

static void on_gap_over(struct timer *timer)
{
    struct postgres_news *news = CONTAINER_OF(timer, struct postgres_news, timer);

    postgres_wake_tell(CONTAINER_OF(news, struct postgres, news));
}

void postgres_wake_tell(struct postgres *postgres)
{
    struct postgres_news *news = &postgres->news;
    struct postgres_conn *conn;
    uint64_t from_ns = news->told_ns + GAP_MS * NS_PER_MS;

    if ((news->n == 0 && !news->all) || news->telling || timer_armed(&news->timer) ||
        postgres->closing)
        return;
    if (news->told_ns > 0 && postgres_now(postgres) < from_ns)
        timer_arm(&postgres->base.home->timers, &news->timer, from_ns, on_gap_over);
    else if ((conn = postgres_choose(postgres)) != NULL)
        send_news(postgres, conn);
}

static void note(struct postgres *postgres, struct digest digest)
{
    struct postgres_news *news = &postgres->news;

    if (news->all)
        return;
    for (unsigned i = 0; i < news->n; i++) {
        if (memcmp(&news->queues[i], &digest, sizeof digest) == 0)
            return;
    }
    if (news->n < POSTGRES_NEWS)
        news->queues[news->n++] = digest;
    else
        news->all = true;
}

void postgres_wake_note(struct postgres *postgres, struct slice queue)
{
    if (!postgres->news.all)
        note(postgres, digest_of(&queue, 1));
}

void postgres_wake_note_returned(struct postgres *postgres, struct slice queue)
{
    note(postgres, returned_digest(queue));
}

void postgres_wake_note_settled(struct postgres *postgres, struct slice queue)
{
    note(postgres, settled_digest(queue));
}

void postgres_wake_stop(struct postgres *postgres)
{
    timer_disarm(&postgres->base.home->timers, &postgres->news.timer);
}

/* ---- listening ---- */

/* If LISTEN is refused, the connection is not asked again: polling remains. */
static void listening(struct postgres_call *call)
{
    if (call->err.code == ERR_OK)
        postgres_queue_poke(call->conn->postgres);
}

static const struct postgres_kind listen_kind = {
    .writes = true, .result = nothing, .end = listening};

void postgres_wake_listen(struct postgres *postgres)
{
    struct postgres_conn *conn = postgres_choose(postgres);
    char channel[CHANNEL_SIZE], sql[sizeof "LISTEN " + CHANNEL_SIZE];

    if (postgres->listeners == NULL || postgres->ear != NULL || postgres->closing || conn == NULL)
        return;
    channel_of(postgres, channel);
    snprintf(sql, sizeof sql, "LISTEN %s", channel);
    postgres->ear = conn;
    postgres_run_own_text(conn, &listen_kind, NULL, sql);
}

/* What this instance has done itself, it knows already. */
static bool is_own(const struct postgres *postgres, int pid)
{
    for (unsigned i = 0; i < postgres->n_conns; i++) {
        if (postgres->conns[i].pg != NULL && PQbackendPID(postgres->conns[i].pg) == pid)
            return true;
    }
    return false;
}

static void hear(struct postgres_listener *listener, const char *told)
{
    bool all = strcmp(told, everything) == 0;

    if (all || strcmp(listener->returned_digest, told) == 0)
        postgres_listener_returned(listener);
    else if (strcmp(listener->digest, told) == 0)
        postgres_listener_poke(listener);
    if (listener->tickets && (all || strcmp(listener->settled_digest, told) == 0))
        postgres_renew_now(listener->postgres);
}

/* A connection listens on one channel, so only the payload is looked at. */
void postgres_wake_read(struct postgres_conn *conn)
{
    PGnotify *told;

    while ((told = PQnotifies(conn->pg)) != NULL) {
        bool own = is_own(conn->postgres, told->be_pid);

        for (struct postgres_listener *l = conn->postgres->listeners; l != NULL && !own;
             l = l->next)
            hear(l, told->extra);
        PQfreemem(told);
    }
}
