/* A worker's connections, kept for ever.
 *
 *                    timer                resolved             logged in             hello
 *   WAITING ────────────────▶ RESOLVING ───────────▶ CONNECTING ──────────▶ GREETING ───────▶ READY
 *      ▲                          │                      │                     │               │
 *      └──────────────────────────┴── failed, lost, refused, silent, dial timeout ─────────────┘
 *
 * Every way back ends in lost(): calls in flight fail, and the next attempt is timed with backoff
 * and jitter. READY turns to LEAVING when postgres says what makes the connection useless (a
 * standby, no prepared statements): nothing new is sent, and with the last answer it is lost().
 *
 * libpq may close its socket and open another one within PQconnectPoll, with the same number: the
 * poll handle is stopped before each step, and made anew if the number has changed. */
#include "backends/postgres/postgres_call.h"
#include "src/base/random.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 2000 };

/* libuv frees a handle later than we let go of the connection, so it stands apart. */
struct postgres_poll {
    uv_poll_t handle;
    struct postgres_conn *conn;
    struct postgres *postgres;
    int fd;
};

static void dial(struct postgres_conn *conn);
static void on_poll(uv_poll_t *handle, int status, int events);
static void lost(struct postgres_conn *conn, const char *detail);

/* ---- timers ---- */

static struct timer_wheel *timers_of(const struct postgres_conn *conn)
{
    return &conn->postgres->base.home->timers;
}

static void on_attempt(struct timer *timer)
{
    postgres_attempt(CONTAINER_OF(timer, struct postgres_conn, timer));
}

static void on_dial_timeout(struct timer *timer)
{
    struct postgres_conn *conn = CONTAINER_OF(timer, struct postgres_conn, timer);

    conn->why = postgres_unavailable("postgres did not answer within dial_timeout_ms");
    if (conn->phase == POSTGRES_RESOLVING)
        uv_cancel((uv_req_t *)&conn->resolver); /* if that is too late, its own bounds hold */
    else
        lost(conn, "");
}

/* The server ends a statement after command_timeout_ms; its answer gets a little longer. */
static uint64_t silence_ns(const struct postgres_conn *conn)
{
    uint64_t timeout = postgres_store_of(conn->postgres)->command_timeout_ns;

    return timeout + timeout / 4 + 100 * NS_PER_MS;
}

static void on_watch(struct timer *timer)
{
    struct postgres_conn *conn = CONTAINER_OF(timer, struct postgres_conn, timer);
    uint64_t due_ns = conn->moved_ns + silence_ns(conn);

    if (conn->first == NULL)
        return;
    if (due_ns > postgres_now(conn->postgres)) {
        timer_arm(timers_of(conn), timer, due_ns, on_watch);
        return;
    }
    conn->why = postgres_unavailable("postgres did not answer within command_timeout_ms");
    lost(conn, "");
}

void postgres_watch(struct postgres_conn *conn)
{
    if (conn->first != NULL && !timer_armed(&conn->timer))
        timer_arm(timers_of(conn), &conn->timer, conn->moved_ns + silence_ns(conn), on_watch);
}

/* Half of the delay is fixed, half is chance, so that workers and servers do not come back in step.
 */
static uint64_t backoff_ms(struct postgres_conn *conn)
{
    uint64_t ms = BACKOFF_MIN_MS;

    for (unsigned i = 0; i < conn->attempts && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    return random_delay(&conn->postgres->random, ms);
}

/* ---- the socket ---- */

static void on_poll_closed(uv_handle_t *handle)
{
    struct postgres_poll *poll = handle->data;
    struct postgres *postgres = poll->postgres;

    free(poll);
    postgres->handles--;
    postgres_closed_if_idle(postgres);
}

static void poll_close(struct postgres_conn *conn)
{
    if (conn->poll == NULL)
        return;
    conn->poll->conn = NULL;
    uv_close((uv_handle_t *)&conn->poll->handle, on_poll_closed);
    conn->poll = NULL;
}

static void poll_for(struct postgres_conn *conn, int events)
{
    int fd = PQsocket(conn->pg);

    if (conn->poll != NULL && conn->poll->fd != fd)
        poll_close(conn);
    if (conn->poll == NULL) {
        if ((conn->poll = calloc(1, sizeof *conn->poll)) == NULL)
            abort();
        *conn->poll = (struct postgres_poll){.conn = conn, .postgres = conn->postgres, .fd = fd};
        if (uv_poll_init(conn->postgres->base.home->loop, &conn->poll->handle, fd) != 0)
            abort(); /* libpq's socket is open and non-blocking */
        conn->poll->handle.data = conn->poll;
        conn->postgres->handles++;
    }
    uv_poll_start(&conn->poll->handle, events, on_poll);
}

/* ---- the end of a connection or of an attempt ---- */

static void log_lost(struct postgres_conn *conn, const char *detail, uint64_t wait_ms)
{
    struct postgres_store *store = postgres_store_of(conn->postgres);
    char line[256];
    size_t n = strcspn(detail, "\n");
    const struct log_field fields[] = {LOG_S("namespace", store->base.namespace_name),
                                       LOG_S("slot", store->base.slot),
                                       LOG_S("host", store->config.shown_host),
                                       LOG_U("worker", conn->postgres->base.home->id),
                                       LOG_S("why", conn->why.text),
                                       LOG_S("detail", line),
                                       LOG_U("retry_ms", wait_ms)};

    n = n < sizeof line ? n : sizeof line - 1;
    memcpy(line, detail, n);
    line[n] = '\0';
    log_limited(&store->losses, LOG_WARN, "postgres_disconnected", fields, ARRAY_LEN(fields));
}

/* PQfinish says goodbye as far as the socket takes it, and closes it. */
void postgres_let_go(struct postgres_conn *conn)
{
    timer_disarm(timers_of(conn), &conn->timer);
    if (conn->ready_ns != 0)
        conn->postgres->ready--;
    conn->ready_ns = 0;
    if (conn->postgres->ear == conn)
        conn->postgres->ear = NULL;
    poll_close(conn);
    PQfinish(conn->pg);
    conn->pg = NULL;
    conn->drop = conn->unsent = false;
}

/* The other addresses of a name are tried without a delay. */
static uint64_t next_delay_ms(struct postgres_conn *conn)
{
    if (conn->phase == POSTGRES_CONNECTING && conn->address_count > 1) {
        conn->address_at = (conn->address_at + 1) % conn->address_count;
        if (conn->address_at != 0)
            return 0;
    }
    return backoff_ms(conn);
}

static void lost(struct postgres_conn *conn, const char *detail)
{
    struct postgres *postgres = conn->postgres;
    bool was_ready = conn->ready_ns != 0;
    uint64_t wait_ms = next_delay_ms(conn);

    if (conn->why.code == ERR_OK)
        conn->why = postgres_unavailable(was_ready ? "the connection to postgres was lost"
                                                   : "cannot connect to postgres");
    log_lost(conn, postgres_detail(detail), wait_ms);
    postgres_let_go(conn);
    conn->phase = POSTGRES_WAITING;
    conn->attempts++;
    postgres->down = conn->why;
    postgres_fail_calls(conn, conn->why);
    if (postgres->ready == 0)
        postgres_fail_waiting(postgres, conn->why);
    postgres_wake_listen(postgres);
    postgres_wake_tell(postgres);
    if (wait_ms > 0 || was_ready)
        postgres_tell(postgres);
    timer_arm(timers_of(conn), &conn->timer, postgres_now(postgres) + wait_ms * NS_PER_MS,
              on_attempt);
}

void postgres_drop(struct postgres_conn *conn, struct err why)
{
    if (conn->drop)
        return;
    conn->drop = true;
    conn->why = why;
}

/* At the end of whatever has run on the connection. True: it is gone. */
static bool drop_if_due(struct postgres_conn *conn)
{
    bool left = conn->phase == POSTGRES_LEAVING && conn->first == NULL;

    if (conn->pg == NULL)
        return true;
    if (!conn->drop && !left)
        return false;
    lost(conn, PQerrorMessage(conn->pg));
    return true;
}

/* ---- output ---- */

void postgres_flush(struct postgres_conn *conn)
{
    int unsent;

    if (conn->pg == NULL || conn->phase < POSTGRES_READY)
        return;
    postgres_sync(conn);
    unsent = PQflush(conn->pg);
    if (unsent < 0)
        postgres_drop(conn, ERR_NONE);
    if (drop_if_due(conn))
        return;
    if (conn->unsent != (unsent > 0))
        poll_for(conn, unsent > 0 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
    conn->unsent = unsent > 0;
    postgres_watch(conn);
}

/* ---- what has been read ---- */

static void greeted(struct postgres_conn *conn)
{
    struct postgres *postgres = conn->postgres;
    struct postgres_store *store = postgres_store_of(postgres);
    const struct log_field fields[] = {
        LOG_S("namespace", store->base.namespace_name), LOG_S("slot", store->base.slot),
        LOG_S("host", store->config.shown_host), LOG_U("worker", postgres->base.home->id)};

    timer_disarm(timers_of(conn), &conn->timer);
    if (conn->hello.err.code != ERR_OK || PQenterPipelineMode(conn->pg) != 1) {
        postgres_drop(conn, conn->hello.err);
        return;
    }
    conn->phase = POSTGRES_READY;
    conn->ready_ns = conn->moved_ns = postgres_now(postgres);
    conn->attempts = 0;
    conn->prepared = 0;
    conn->why = ERR_NONE;
    postgres->space = conn->hello.space;
    postgres->ready++;
    counter_add(&postgres->base.stats.connects, 1);
    log_limited(&store->connects, LOG_INFO, "postgres_connected", fields, ARRAY_LEN(fields));
    postgres_tell(postgres);
    postgres_sweep_start(postgres);
    postgres_wake_listen(postgres);
    postgres_wake_tell(postgres);
}

static void read_some(struct postgres_conn *conn)
{
    conn->moved_ns = postgres_now(conn->postgres);
    if (PQconsumeInput(conn->pg) != 1) {
        postgres_drop(conn, conn->why);
        return;
    }
    if (conn->phase == POSTGRES_GREETING) {
        if (postgres_hello_read(conn))
            greeted(conn);
        return;
    }
    postgres_take_results(conn);
    postgres_wake_tell(conn->postgres);
    postgres_wake_read(conn);
    postgres_send_groups(conn->postgres);
}

/* One step of libpq's connecting. */
static void connect_step(struct postgres_conn *conn)
{
    PostgresPollingStatusType next;

    uv_poll_stop(&conn->poll->handle);
    next = PQconnectPoll(conn->pg);
    if (next == PGRES_POLLING_FAILED) {
        conn->why = postgres_dial_error(PQerrorMessage(conn->pg));
        lost(conn, PQerrorMessage(conn->pg));
        return;
    }
    if (next != PGRES_POLLING_OK) {
        poll_for(conn, next == PGRES_POLLING_WRITING ? UV_WRITABLE : UV_READABLE);
        return;
    }
    conn->phase = POSTGRES_GREETING;
    PQsetnonblocking(conn->pg, 1);
    poll_for(conn, UV_READABLE);
    if (postgres_hello_begin(conn))
        greeted(conn);
    drop_if_due(conn);
}

/* libuv stops a handle when it reports an error, which for a poll handle is no more than "ask the
 * socket". */
static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct postgres_poll *poll = handle->data;
    struct postgres_conn *conn = poll->conn;

    if (conn == NULL)
        return;
    worker_look_at_clock(conn->postgres->base.home);
    if (conn->phase == POSTGRES_CONNECTING) {
        connect_step(conn);
        return;
    }
    if (status < 0)
        uv_poll_start(handle, UV_READABLE, on_poll);
    if (status < 0 || (events & (UV_READABLE | UV_DISCONNECT)) != 0)
        read_some(conn);
    if (drop_if_due(conn) || conn->phase < POSTGRES_READY)
        return;
    for (unsigned i = 0; i < conn->postgres->n_conns; i++)
        postgres_flush(&conn->postgres->conns[i]); /* further steps, other groups */
}

/* ---- an attempt ---- */

static void ignore_notice(void *arg, const PGresult *notice)
{
    (void)arg;
    (void)notice;
}

static PGconn *start(const struct postgres_conn *conn)
{
    struct postgres_store *store = postgres_store_of(conn->postgres);
    const struct postgres_config *config = &store->config;
    struct postgres_login login = postgres_store_login(store);
    const char *address = config->unix_socket ? NULL : conn->addresses[conn->address_at];
    const char *names[] = {"host",
                           "hostaddr",
                           "port",
                           "user",
                           "password",
                           "dbname",
                           "sslmode",
                           "sslrootcert",
                           "sslcert",
                           "sslkey",
                           "gssencmode",
                           "application_name",
                           "client_encoding",
                           "keepalives_idle",
                           "keepalives_interval",
                           "keepalives_count",
                           NULL};
    const char *values[] = {config->host,
                            address,
                            config->port,
                            login.username,
                            login.password,
                            config->database,
                            config->sslmode,
                            config->sslrootcert,
                            config->sslcert,
                            config->sslkey,
                            "disable",
                            "prism",
                            "UTF8",
                            "10",
                            "5",
                            "4",
                            NULL};
    PGconn *pg = PQconnectStartParams(names, values, 0);

    if (pg == NULL)
        abort();
    postgres_login_clear(&login);
    PQsetNoticeReceiver(pg, ignore_notice, NULL);
    return pg;
}

static void dial(struct postgres_conn *conn)
{
    conn->phase = POSTGRES_CONNECTING;
    conn->pg = start(conn);
    if (PQstatus(conn->pg) == CONNECTION_BAD || PQsocket(conn->pg) < 0) {
        conn->why = postgres_dial_error(PQerrorMessage(conn->pg));
        lost(conn, PQerrorMessage(conn->pg));
        return;
    }
    poll_for(conn, UV_WRITABLE);
}

void postgres_resolved(struct postgres_conn *conn, const char *problem)
{
    if (conn->phase == POSTGRES_CLOSING) {
        postgres_closed_if_idle(conn->postgres);
        return;
    }
    if (conn->address_at >= conn->address_count)
        conn->address_at = 0;
    if (conn->address_count > 0 && conn->why.code == ERR_OK) {
        dial(conn);
        return;
    }
    if (conn->why.code == ERR_OK)
        conn->why = postgres_unavailable("the host name of postgres cannot be resolved");
    lost(conn, problem);
}

void postgres_dial_watch(struct postgres_conn *conn)
{
    timer_arm(timers_of(conn), &conn->timer,
              postgres_now(conn->postgres) + postgres_store_of(conn->postgres)->dial_timeout_ns,
              on_dial_timeout);
}

void postgres_attempt(struct postgres_conn *conn)
{
    conn->why = ERR_NONE;
    postgres_dial_watch(conn);
    conn->phase = POSTGRES_RESOLVING;
    if (postgres_resolve(conn))
        dial(conn);
}
