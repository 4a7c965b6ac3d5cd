/* The claims of the session store, against a prismd that runs:
 *
 *   touch    how often 10,000 reads of a session in use move its expiry: each move is one write to
 *            the backend. Bound: 1 for each touch interval.
 *   ghosts   how long ListSessions of a user takes after many of his sessions expired unseen,
 *            against the same for a user who never had any. Bound: 1.2, after one pass over them.
 *
 * The server decides what is measured: give it the backend that is meant. Lists of both users are
 * taken alternately; the figures are medians.
 *
 * usage: prism-session-bench [ADDRESS:PORT [GHOSTS]]         default: 127.0.0.1:8980 100000 */
#include "perf/common/clock.h"
#include "perf/common/samples.h"

#include <prism/session.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { READS = 10000, LIVING = 50, THREADS = 16, LISTS = 200, LASTS_S = 3600, GHOST_TTL_S = 2 };

struct bench {
    struct prism_channel *channel;
    struct prism_sessions *sessions;
    char haunted[64], clean[64]; /* users */
    _Atomic long ghosts;         /* to be created yet */
};

_Noreturn static void fail(const char *what, const struct prism_error *error)
{
    fprintf(stderr, "prism-session-bench: %s: %s\n", what, error->message);
    exit(1);
}

/* ---- touch ---- */

static bool note_expiry(void *context, const struct prism_session *session)
{
    *(int64_t *)context = session->expires_at_ms;
    return true;
}

static void measure_touch(struct bench *bench)
{
    const struct prism_session_options options = {.ttl_s = LASTS_S};
    struct prism_session_created created;
    struct prism_error error;
    int64_t before, now;
    unsigned moves = 0;

    if (prism_session_create(bench->sessions, &options, &created, &error) != PRISM_OK)
        fail("create", &error);
    before = created.expires_at_ms;
    for (int i = 0; i < READS; i++) {
        if (prism_session_get(bench->sessions, created.id, true, note_expiry, &now, &error) !=
            PRISM_OK)
            fail("get", &error);
        moves += now != before;
        before = now;
    }
    prism_session_delete(bench->sessions, created.id, NULL, NULL);
    printf("session-touch        writes in %d reads  %u\n", READS, moves);
}

/* ---- ghosts ---- */

static void create_for(struct bench *bench, const char *user, int64_t ttl_s)
{
    const struct prism_session_options options = {.user = user, .ttl_s = ttl_s};
    struct prism_session_created created;
    struct prism_error error;

    if (prism_session_create(bench->sessions, &options, &created, &error) != PRISM_OK)
        fail("create", &error);
}

static void *create_ghosts(void *arg)
{
    struct bench *bench = arg;

    while (atomic_fetch_sub(&bench->ghosts, 1) > 0)
        create_for(bench, bench->haunted, GHOST_TTL_S);
    return NULL;
}

static void create_all(struct bench *bench)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, create_ghosts, bench) != 0)
            abort();
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < LIVING; i++) {
        create_for(bench, bench->haunted, LASTS_S);
        create_for(bench, bench->clean, LASTS_S);
    }
}

static bool count_one(void *context, const struct prism_session *session)
{
    (void)session;
    ++*(unsigned *)context;
    return true;
}

/* Milliseconds of one list, and how many sessions it has. */
static double list_ms(struct bench *bench, const char *user, unsigned *found)
{
    const struct prism_session_filter filter = {.user = user};
    uint64_t begin = clock_now_ns();
    struct prism_error error;

    *found = 0;
    if (prism_session_list(bench->sessions, &filter, count_one, found, &error) != PRISM_OK)
        fail("list", &error);
    return (double)(clock_now_ns() - begin) / 1e6;
}

static void measure_ghosts(struct bench *bench, long ghosts)
{
    static double haunted[LISTS], clean[LISTS];
    const struct timespec until_they_are_gone = {.tv_sec = GHOST_TTL_S + 1};
    unsigned found;
    double pass_ms;

    bench->ghosts = ghosts;
    create_all(bench);
    nanosleep(&until_they_are_gone, NULL);
    pass_ms = list_ms(bench, bench->haunted, &found);
    for (int i = 0; i < LISTS; i++) {
        haunted[i] = list_ms(bench, bench->haunted, &found);
        if (found != LIVING) {
            fprintf(stderr, "prism-session-bench: %u of %d sessions listed\n", found, LIVING);
            exit(1);
        }
        clean[i] = list_ms(bench, bench->clean, &found);
    }

    double ours = samples_median(haunted, LISTS), baseline = samples_median(clean, LISTS);

    printf("session-list-ghosts  ms, %d living, %ld ghosts: first pass %.2f, then %.3f; without "
           "ghosts %.3f; ratio %.2f\n",
           LIVING, ghosts, pass_ms, ours, baseline, ours / baseline);
    prism_session_delete_user(bench->sessions, bench->haunted, NULL, NULL, NULL);
    prism_session_delete_user(bench->sessions, bench->clean, NULL, NULL, NULL);
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    long ghosts = argc > 2 ? strtol(argv[2], NULL, 10) : 100000;
    struct prism_channel_options options = {.deadline_ms = 60000};
    struct bench bench = {0};
    struct prism_error error;

    snprintf(bench.haunted, sizeof bench.haunted, "haunted-%llu",
             (unsigned long long)clock_now_ns());
    snprintf(bench.clean, sizeof bench.clean, "clean-%llu", (unsigned long long)clock_now_ns());
    if (ghosts < 0 || prism_channel_open(server, &options, &bench.channel, &error) != PRISM_OK ||
        prism_sessions_open(bench.channel, &bench.sessions, &error) != PRISM_OK)
        fail(server, &error);
    measure_touch(&bench);
    measure_ghosts(&bench, ghosts);
    prism_sessions_close(bench.sessions);
    prism_channel_close(bench.channel);
    return 0;
}
