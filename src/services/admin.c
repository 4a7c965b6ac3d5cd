/* libmicrohttpd, driven by the caller's loop. The endpoint is small on purpose: GET (and HEAD) of
 * three paths, few connections, short requests, so that nobody who can reach it can make the server
 * work hard.
 *
 * A probe is answered at once, whatever holds the connections. So when CROWDED connections are
 * open, one is ended for the sake of the next: of those that wait for their peer, and not for us,
 * the one that has waited longest. It is never the next itself, which has had no time to ask. A
 * request that is not complete within TIMEOUT_S ends its connection as well, however slowly its
 * bytes go on coming. */
#include "src/services/admin.h"

#include "src/base/address.h"
#include "src/base/clock.h"
#include "src/base/log.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { MAX_CONNECTIONS = 64, CROWDED = 32, TIMEOUT_S = 10, REQUEST_BYTES = 16 * 1024 };

struct visitor {
    int fd; /* -1: a free place */
    bool ended;
    uint64_t waits_since_ns; /* accepted, or answered last */
};

struct admin {
    struct MHD_Daemon *daemon;
    struct admin_options options;
    struct visitor visitors[MAX_CONNECTIONS];
    struct log_budget complaints; /* of libmicrohttpd: its clients can provoke them */
    int port;
    char why[512]; /* the text of an error */
};

/* ---- answers ---- */

struct readiness {
    struct metrics_page json; /* a growing text, nothing more */
    size_t count;
};

static void append(struct metrics_page *page, const char *text, size_t len)
{
    if (page->len + len + 1 > page->cap) {
        size_t cap = (page->len + len + 1) * 2;
        char *grown = realloc(page->text, cap);

        if (grown == NULL)
            abort();
        page->text = grown;
        page->cap = cap;
    }
    memcpy(page->text + page->len, text, len);
    page->len += len;
    page->text[page->len] = '\0';
}

static void append_json(struct metrics_page *page, const char *text)
{
    append(page, "\"", 1);
    for (; *text != '\0'; text++) {
        char escaped[8];
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            append(page, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\%c", c));
        else if (c < 0x20)
            append(page, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", c));
        else
            append(page, text, 1);
    }
    append(page, "\"", 1);
}

void readiness_add(struct readiness *reasons, const char *text)
{
    if (reasons->count++ > 0)
        append(&reasons->json, ",", 1);
    append_json(&reasons->json, text);
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              char *text, size_t len, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(len, text, mode);
    enum MHD_Result result;

    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status,
                                   const char *text)
{
    return answer(connection, status, "application/json", (char *)(uintptr_t)text, strlen(text),
                  MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result answer_metrics(const struct admin *admin, struct MHD_Connection *connection)
{
    struct metrics_page page;

    metrics_page_init(&page);
    for (size_t i = 0; i < admin->options.source_count; i++)
        admin->options.sources[i].render(admin->options.sources[i].arg, &page);

    enum MHD_Result result =
        answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", page.text,
               page.len, MHD_RESPMEM_MUST_COPY);

    metrics_page_clear(&page);
    return result;
}

static enum MHD_Result answer_ready(const struct admin *admin, struct MHD_Connection *connection)
{
    static const char refused[] = "{\"status\":\"not ready\",\"reasons\":[",
                      restricted[] = "{\"status\":\"ready\",\"restrictions\":[", close[] = "]}";
    struct readiness reasons = {.count = 0};
    bool ready = admin->options.ready(admin->options.ready_arg, &reasons);
    const char *open = ready ? restricted : refused;
    struct metrics_page text = {0};
    enum MHD_Result result;

    append(&text, open, strlen(open));
    if (reasons.count > 0)
        append(&text, reasons.json.text, reasons.json.len);
    append(&text, close, sizeof close - 1);
    if (ready && reasons.count == 0)
        result = answer_text(connection, MHD_HTTP_OK, "{\"status\":\"ready\"}");
    else
        result = answer(connection, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                        "application/json", text.text, text.len, MHD_RESPMEM_MUST_COPY);
    free(text.text);
    free(reasons.json.text);
    return result;
}

/* Called once the head has been read, then again behind the body. A good request is answered the
 * second time, which keeps the connection for the next scrape; a bad one at once, without reading
 * its body. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **state)
{
    struct admin *admin = arg;
    bool first = *state == NULL;

    (void)version;
    (void)upload;
    *state = admin;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                           "{\"error\":\"GET or HEAD only\"}");
    if (first || *upload_bytes > 0) {
        *upload_bytes = 0; /* not looked at */
        return MHD_YES;
    }
    if (strcmp(url, "/metrics") == 0)
        return answer_metrics(admin, connection);
    if (strcmp(url, "/healthz") == 0)
        return answer_text(connection, MHD_HTTP_OK, "{\"status\":\"healthy\"}");
    if (strcmp(url, "/readyz") == 0)
        return answer_ready(admin, connection);
    return answer_text(connection, MHD_HTTP_NOT_FOUND,
                       "{\"error\":\"try /metrics, /healthz or /readyz\"}");
}

/* ---- connections ---- */

/* libmicrohttpd sees the end of the stream, and closes. */
static void end_visitor(struct visitor *v)
{
    v->ended = true;
    shutdown(v->fd, SHUT_RDWR);
}

/* It waits for us: what it has sent was not read yet. */
static bool waits_for_us(const struct visitor *v)
{
    int bytes = 0;

    return ioctl(v->fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

static bool goes_before(const struct visitor *v, const struct visitor *other)
{
    if (other == NULL || waits_for_us(v) != waits_for_us(other))
        return other == NULL || !waits_for_us(v);
    return v->waits_since_ns < other->waits_since_ns;
}

static void end_oldest_if_crowded(struct admin *admin, const struct visitor *next)
{
    struct visitor *oldest = NULL;
    unsigned open = 0;

    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        struct visitor *v = &admin->visitors[i];

        if (v->fd < 0 || v->ended)
            continue;
        open++;
        if (v != next && goes_before(v, oldest))
            oldest = v;
    }
    if (open > CROWDED)
        end_visitor(oldest);
}

static void end_overdue(struct admin *admin)
{
    uint64_t now_ns = clock_now_ns();

    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        struct visitor *v = &admin->visitors[i];

        if (v->fd >= 0 && !v->ended && now_ns - v->waits_since_ns > TIMEOUT_S * NS_PER_S)
            end_visitor(v);
    }
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **place,
                          enum MHD_ConnectionNotificationCode what)
{
    struct admin *admin = arg;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*place != NULL)
            ((struct visitor *)*place)->fd = -1;
        return;
    }
    for (size_t i = 0; i < MAX_CONNECTIONS && *place == NULL; i++) {
        if (admin->visitors[i].fd < 0)
            *place = &admin->visitors[i];
    }
    if (*place == NULL)
        return; /* there are not more than MAX_CONNECTIONS */
    *(struct visitor *)*place = (struct visitor){
        .fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
        .waits_since_ns = clock_now_ns()};
    end_oldest_if_crowded(admin, *place);
}

static void on_answered(void *arg, struct MHD_Connection *connection, void **state,
                        enum MHD_RequestTerminationCode how)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    (void)arg;
    (void)state;
    (void)how;
    if (info != NULL && info->socket_context != NULL)
        ((struct visitor *)info->socket_context)->waits_since_ns = clock_now_ns();
}

/* ---- life ---- */

static void log_mhd(void *arg, const char *format, va_list args)
{
    struct admin *admin = arg;
    char text[512];

    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0'; /* its lines end as those of a file */
    log_limited(&admin->complaints, LOG_WARN, "admin_http",
                (const struct log_field[]){LOG_S("message", text)}, 1);
}

/* fd: a listening socket, which the daemon takes over. */
static struct MHD_Daemon *start_daemon(struct admin *admin, int fd)
{
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, admin,
                            MHD_OPTION_EXTERNAL_LOGGER, log_mhd, admin, MHD_OPTION_LISTEN_SOCKET,
                            fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS,
                            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, admin,
                            MHD_OPTION_NOTIFY_COMPLETED, on_answered, admin, MHD_OPTION_END);
}

struct err admin_start(struct admin **out, const struct admin_options *options)
{
    struct admin *admin = calloc(1, sizeof *admin);
    const char *why;

    if (admin == NULL)
        abort();
    *out = admin;
    admin->options = *options;
    for (size_t i = 0; i < MAX_CONNECTIONS; i++)
        admin->visitors[i].fd = -1;
    admin->complaints = (struct log_budget)LOG_BUDGET(5, 10000);

    int fd = address_listen(options->listen, &why);

    if (fd < 0) {
        snprintf(admin->why, sizeof admin->why, "cannot listen on %s: %s",
                 options->listen_shown != NULL ? options->listen_shown : options->listen, why);
        return err_about(ERR_UNAVAILABLE, "admin", admin->why);
    }
    admin->port = address_port(fd);
    admin->daemon = start_daemon(admin, fd);
    if (admin->daemon == NULL)
        return err_about(ERR_UNAVAILABLE, "admin", "the admin endpoint does not start");
    return ERR_NONE;
}

int admin_port(const struct admin *admin)
{
    return admin->port;
}

int admin_fd(const struct admin *admin)
{
    return MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

static unsigned connection_count(const struct admin *admin)
{
    return MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

/* At its limit of connections libmicrohttpd takes the listening socket out of the epoll set, and
 * puts it back only in the run after the one in which a connection ended. Without that second run
 * nobody would ever be let in again. */
int admin_run(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG ms;
    unsigned before;

    do {
        before = connection_count(admin);
        end_overdue(admin);
        MHD_run(admin->daemon);
    } while (connection_count(admin) < before);
    if (MHD_get_timeout(admin->daemon, &ms) != MHD_YES)
        return -1;
    return ms > TIMEOUT_S * 1000 ? TIMEOUT_S * 1000 : (int)ms;
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL)
        return;
    if (admin->daemon != NULL)
        MHD_stop_daemon(admin->daemon);
    free(admin);
}
