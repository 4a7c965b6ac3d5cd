/* What other processes and other workers push: who has brought a message tells so by NOTIFY, and
 * one of the connections of each instance that has subscriptions of queues LISTENs.
 *
 * PostgreSQL commits transactions that notify one after the other, each with its flush: in the
 * push's own transaction it would cost most of the throughput. So it is a transaction of its own,
 * right behind, that waits for no flush, and one at a time: what comes meanwhile goes together.
 *
 * Nothing depends on it. What is told while no connection listens, or is lost in a pooler, is found
 * when the queue is looked at again after queue_poll_ms. If the connection is lost, another one
 * listens in its place, and all queues are looked at: what came meanwhile has been told to nobody.
 */
#include "backends/postgres/postgres_queue.h"

#include <stdio.h>
#include <string.h>

enum { CHANNEL_DIGITS = 32 };

void postgres_wake_name(struct postgres_listener *listener)
{
    struct digest digest = digest_of(&listener->subscription->want.topic, 1);

    digest_hex(&digest, listener->digest);
}

static void nothing(struct postgres_call *call, const PGresult *result)
{
    (void)call;
    (void)result;
}

/* If LISTEN is refused, the connection is not asked again: polling remains. */
static void listening(struct postgres_call *call)
{
    if (call->err.code == ERR_OK)
        postgres_queue_poke(call->conn->postgres);
}

static const struct postgres_kind listen_kind = {
    .writes = true, .result = nothing, .end = listening};

static void send_news(struct postgres *postgres);

static void told(struct postgres_call *call)
{
    struct postgres *postgres = call->conn->postgres;

    postgres->news.telling = false;
    if (call->err.code == ERR_OK)
        send_news(postgres);
}

static const struct postgres_kind tell_kind = {.writes = true, .result = nothing, .end = told};

static void send_news(struct postgres *postgres)
{
    struct postgres_news *news = &postgres->news;
    struct postgres_conn *conn = postgres_choose(postgres);
    struct postgres_array array;
    struct postgres_params params;
    struct arena scratch;

    if (news->n == 0 || news->telling || postgres->closing || conn == NULL)
        return;
    arena_init(&scratch, &postgres->base.home->arenas);
    postgres_params_init(&params, &scratch);
    postgres_add_int4(&params, postgres->space);
    array = postgres_add_array(&params, POSTGRES_BYTEA, news->n, (size_t)news->n * DIGEST_BYTES);
    for (unsigned i = 0; i < news->n; i++)
        postgres_element(&array, slice_of(news->queues[i].bytes, DIGEST_BYTES));
    news->telling = true;
    news->n = 0;
    postgres_run_own(conn, &tell_kind, NULL, SQL_TELL, &params);
    arena_clear(&scratch);
}

void postgres_wake_tell(struct postgres *postgres, struct slice queue)
{
    struct postgres_news *news = &postgres->news;
    struct digest digest = digest_of(&queue, 1);
    unsigned at = 0;

    while (at < news->n && memcmp(&news->queues[at], &digest, sizeof digest) != 0)
        at++;
    if (at == news->n && at < POSTGRES_NEWS)
        news->queues[news->n++] = digest;
    send_news(postgres);
}

/* The channel as SQL_TELL of postgres_sql_queue.c has it: digits alone, whatever the names are. */
void postgres_wake_listen(struct postgres *postgres)
{
    struct postgres_conn *conn = postgres_choose(postgres);
    char of[96], hex[DIGEST_HEX], sql[64];
    struct slice whole;
    struct digest digest;

    if (postgres->listeners == NULL || postgres->ear != NULL || postgres->closing || conn == NULL)
        return;
    snprintf(of, sizeof of, "\"%s\" %d", postgres_store_of(postgres)->config.schema,
             (int)postgres->space);
    whole = slice_str(of);
    digest = digest_of(&whole, 1);
    digest_hex(&digest, hex);
    snprintf(sql, sizeof sql, "LISTEN prism_%.*s", CHANNEL_DIGITS, hex);
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

/* A connection listens on one channel, so only the payload is looked at. */
void postgres_wake_read(struct postgres_conn *conn)
{
    PGnotify *told;

    while ((told = PQnotifies(conn->pg)) != NULL) {
        bool own = is_own(conn->postgres, told->be_pid);

        for (struct postgres_listener *l = conn->postgres->listeners; l != NULL && !own;
             l = l->next) {
            if (strcmp(l->digest, told->extra) == 0)
                postgres_listener_poke(l);
        }
        PQfreemem(told);
    }
}
