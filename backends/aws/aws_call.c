/* One request of a task: signed, sent, judged, and sent again where that is safe and may help.
 *
 * Sent again is what the server has refused for now (nothing was done), what never reached it, and
 * what only reads; within the client's budget of retries (backends/retry.h). */
#include "backends/aws/aws_client.h"

#include "src/base/random.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BACKOFF_MS = 50,
    BACKOFF_MAX_MS = 2000,
    SLACK_MS = 1000, /* the op's own deadline comes first */
    HTTP_REFUSED = 400
};

static void transmit(struct aws_call *call);

/* ---- the request ---- */

struct aws_call *aws_call_new(struct aws_task *task, const char *method, const char *path,
                              void (*done)(struct aws_call *))
{
    struct aws_call *call = arena_zalloc(task->arena, sizeof *call);

    call->task = task;
    call->method = method;
    call->path = path;
    call->query = "";
    call->done = done;
    return call;
}

void aws_call_header(struct aws_call *call, const char *name, const char *value)
{
    if (call->header_count == AWS_CALL_HEADERS)
        abort();
    call->headers[call->header_count++] = (struct sigv4_header){.name = name, .value = value};
}

static const char *payload_of(const struct aws_call *call)
{
    struct digest digest;
    char *hex;

    if (call->unsigned_body)
        return SIGV4_UNSIGNED;
    digest = digest_of(&call->body, 1);
    hex = arena_zalloc(call->task->arena, DIGEST_HEX + 1);
    digest_hex(&digest, hex);
    return hex;
}

/* Insertion into the few that are there keeps them sorted. */
static void add_signed(struct sigv4_header *headers, unsigned *n, const char *name,
                       const char *value)
{
    unsigned at = (*n)++;

    for (; at > 0 && strcmp(headers[at - 1].name, name) > 0; at--)
        headers[at] = headers[at - 1];
    headers[at] = (struct sigv4_header){.name = name, .value = value};
}

static void add_header(struct aws_call *call, const char *name, const char *value)
{
    call->http.headers[call->http.header_count++] =
        arena_printf(call->task->arena, "%s: %s", name, value);
}

static void sign(struct aws_call *call, const char *host)
{
    struct aws_client *client = call->task->client;
    struct aws_store *store = aws_store_of(client);
    struct sigv4_header headers[AWS_CALL_HEADERS + 4];
    const char *payload = payload_of(call);
    unsigned n = 0;
    const struct sigv4_scope scope = {.access_key = client->login.access_key,
                                      .secret_key = client->login.secret_key,
                                      .region = store->region,
                                      .service = store->service};
    struct sigv4_request request = {.method = call->method,
                                    .path = call->path,
                                    .query = call->query,
                                    .headers = headers,
                                    .payload = payload};

    sigv4_time((int64_t)time(NULL), call->time);
    add_signed(headers, &n, "host", host);
    add_signed(headers, &n, "x-amz-content-sha256", payload);
    add_signed(headers, &n, "x-amz-date", call->time);
    if (client->login.session_token != NULL)
        add_signed(headers, &n, "x-amz-security-token", client->login.session_token);
    for (unsigned i = 0; i < call->header_count; i++) {
        if (strncmp(call->headers[i].name, "x-amz-", 6) == 0)
            add_signed(headers, &n, call->headers[i].name, call->headers[i].value);
        else
            add_header(call, call->headers[i].name, call->headers[i].value);
    }
    request.header_count = n;
    for (unsigned i = 0; i < n; i++)
        add_header(call, headers[i].name, headers[i].value);
    add_header(call, "Authorization",
               sigv4_authorization(&request, &scope, &client->key, call->time, call->task->arena));
}

/* Credentials that were read anew sign from the next request on. */
static void take_login(struct aws_client *client)
{
    struct aws_store *store = aws_store_of(client);
    uint32_t version = atomic_load(&store->login_version);

    if (version == client->login_version)
        return;
    client->login_version = version;
    aws_login_clear(&client->login);
    client->login = aws_store_login(store);
    sigv4_forget(&client->key);
}

/* ---- attempts ---- */

static void unlink_call(struct aws_call *call)
{
    if (call->at == NULL)
        return;
    *call->at = call->next;
    if (call->next != NULL)
        call->next->at = call->at;
    call->at = NULL;
}

/* What a later attempt was refused, an earlier one may have done. */
static void end(struct aws_call *call, struct err err)
{
    bool refused = err.code != ERR_OK || call->http.status >= HTTP_REFUSED;

    call->err = err;
    call->unsure = call->doubt && refused;
    call->task->unsure |= call->unsure;
    unlink_call(call);
    call->done(call);
}

static uint64_t delay_ms(struct aws_call *call)
{
    struct aws_client *client = call->task->client;
    uint64_t ms = BACKOFF_MS;

    for (unsigned i = 1; i < call->attempts && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    ms = random_delay(&client->random, ms);
    return ms > call->http.retry_after_ms ? ms : call->http.retry_after_ms;
}

static void on_retry(struct timer *timer)
{
    transmit(CONTAINER_OF(timer, struct aws_call, timer));
}

/* False: it is not to be tried again. */
static bool retry(struct aws_call *call)
{
    struct aws_client *client = call->task->client;
    uint64_t at_ns = client->base.home->now_ns + delay_ms(call) * NS_PER_MS;

    if (call->attempts >= aws_store_of(client)->max_attempts)
        return false;
    if (call->task->deadline_ns != 0 && at_ns >= call->task->deadline_ns)
        return false;
    if (!retry_budget_spend(&client->retries, &client->base.stats))
        return false;
    timer_arm(&client->base.home->timers, &call->timer, at_ns, on_retry);
    return true;
}

/* There was no answer. */
static void failed(struct aws_call *call)
{
    struct err err = call->http.err;
    bool given_away = call->http.reach == HTTP_MAYBE_DONE;

    call->doubt |= given_away && call->writes;
    if (err.code != ERR_RESOURCE_EXHAUSTED)
        aws_suspect(call->task->client);
    if (err.code == ERR_UNAVAILABLE) {
        err.retry_after_ms = AWS_RETRY_MS;
        if (!(given_away && call->writes && !call->repeatable) && retry(call))
            return;
    }
    end(call, err);
}

static void on_answer(struct http_request *http)
{
    struct aws_call *call = CONTAINER_OF(http, struct aws_call, http);
    struct aws_client *client = call->task->client;
    enum aws_verdict verdict;

    if (http->err.code != ERR_OK) {
        failed(call);
        return;
    }
    call->err = ERR_NONE;
    verdict = client->service->judge(call);
    if (verdict != AWS_ANSWERED) {
        bool lost = verdict == AWS_TROUBLED && call->writes;

        call->doubt |= lost;
        if (!(lost && call->once) && retry(call))
            return;
        if (call->err.retry_after_ms < call->http.retry_after_ms)
            call->err.retry_after_ms = call->http.retry_after_ms;
    } else {
        retry_budget_earn(&client->retries);
    }
    end(call, call->err);
}

static uint32_t timeout_of(const struct aws_call *call)
{
    const struct aws_client *client = call->task->client;
    uint64_t timeout = aws_store_of(client)->request_timeout_ms, now = client->base.home->now_ns;
    uint64_t deadline = call->task->deadline_ns, left;

    if (deadline == 0)
        return (uint32_t)timeout;
    left = (deadline > now ? (deadline - now) / NS_PER_MS : 0) + SLACK_MS;
    return (uint32_t)(left < timeout ? left : timeout);
}

static void on_refused(struct timer *timer)
{
    struct aws_call *call = CONTAINER_OF(timer, struct aws_call, timer);

    end(call, call->err);
}

/* Memory of an attempt stays until the operation ends: attempts are few. */
static void transmit(struct aws_call *call)
{
    struct aws_task *task = call->task;
    struct aws_client *client = task->client;
    struct aws_store *store = aws_store_of(client);
    struct http_request *http = &call->http;
    const char *prefix = call->host_prefix != NULL ? call->host_prefix : "";

    take_login(client);
    call->attempts++;
    http->header_count = 0;
    http->method = call->method;
    http->url =
        arena_printf(task->arena, "%s%s%s%s%s%s", store->tls ? "https://" : "http://", prefix,
                     store->host, call->path, call->query[0] != '\0' ? "?" : "", call->query);
    sign(call, arena_printf(task->arena, "%s%s", prefix, store->host));
    http->body = call->body;
    http->once = call->writes && !call->repeatable;
    http->timeout_ms = timeout_of(call);
    http->max_body = call->max_answer;
    http->arena = task->arena;
    http->done = on_answer;
    call->err = http_begin(client->http, http);
    if (call->err.code == ERR_OK)
        return;
    call->err.retry_after_ms = AWS_RETRY_MS;
    timer_arm(&client->base.home->timers, &call->timer, client->base.home->now_ns, on_refused);
}

static void link_call(struct aws_call *call)
{
    struct aws_task *task = call->task;

    call->next = task->calls;
    call->at = &task->calls;
    if (call->next != NULL)
        call->next->at = &call->next;
    task->calls = call;
}

void aws_call_start(struct aws_call *call)
{
    call->attempts = 0;
    link_call(call);
    transmit(call);
}

bool aws_call_later(struct aws_call *call, bool brought_something)
{
    if (brought_something)
        call->attempts = 1;
    if (!retry(call))
        return false;
    link_call(call);
    return true;
}

void aws_call_drop(struct aws_call *call)
{
    struct aws_client *client = call->task->client;

    if (timer_armed(&call->timer))
        timer_disarm(&client->base.home->timers, &call->timer);
    else if (http_drop(&call->http) == HTTP_MAYBE_DONE && call->writes)
        call->doubt = true;
    call->task->unsure |= call->doubt;
    unlink_call(call);
}
