/* prismctl consume: messages of a topic to standard output, and dead letters likewise. A message is
 * settled when its output has been written, not before; Ctrl-C settles what was written and gives
 * back the rest. */
#include "client/prismctl/command.h"
#include "client/prismctl/interrupt.h"
#include "client/prismctl/output.h"
#include "prism/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_UNWRITTEN = 1000,
    PROGRESS_MS = 500,
    LISTING_IDLE_MS = 1000,
    LOOK_MS = 100,
    CONNECT_MS = 10000,
    STALLED_MS = 1000
};

struct consuming {
    const struct invocation *in;
    struct prism_consumer *consumer;
    struct prism_subscription *subscription;
    struct prism_receipt printed[MOST_UNWRITTEN]; /* and not settled */
    size_t printed_count;
    uint64_t count, bytes;
    double began_s, told_s;
    bool keep, dead_letters, shows_progress;
    uint32_t idle_ms, connect_ms; /* idle_ms UINT32_MAX: without end */
    bool stands, told_loss;
    double changed_s; /* since when it stands, or does not; or the last message came */
};

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void stop(void *arg)
{
    prism_subscription_stop(((struct consuming *)arg)->subscription);
}

/* ---- output ---- */

static void print_json(const struct prism_delivery *d)
{
    struct json json = {.out = stdout};

    json_open(&json, NULL, '{');
    json_text(&json, "topic", d->topic);
    json_text(&json, "message_id", d->message_id);
    if (d->partition >= 0)
        json_int(&json, "partition", d->partition);
    if (d->offset >= 0)
        json_int(&json, "offset", d->offset);
    if (*d->position != '\0')
        json_text(&json, "position", d->position);
    if (d->timestamp_ms >= 0)
        json_int(&json, "timestamp_ms", d->timestamp_ms);
    if (d->attempt > 0)
        json_int(&json, "attempt", d->attempt);
    if (d->ordering_key.data != NULL)
        json_bytes(&json, "key", d->ordering_key);
    json_open(&json, "headers", '[');
    for (size_t i = 0; i < d->header_count; i++) {
        json_open(&json, NULL, '{');
        json_text(&json, "name", d->headers[i].name);
        json_bytes(&json, "value", d->headers[i].value);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    if (d->null_payload)
        json_null(&json, "payload");
    else
        json_bytes(&json, "payload", d->payload);
    json_close(&json, '}');
}

static void print_payload(const struct consuming *c, struct prism_bytes payload)
{
    const uint8_t length[4] = {(uint8_t)(payload.len >> 24), (uint8_t)(payload.len >> 16),
                               (uint8_t)(payload.len >> 8), (uint8_t)payload.len};

    if (c->in->options->delimited)
        fwrite(length, 1, sizeof length, stdout);
    if (payload.len > 0)
        fwrite(payload.data, 1, payload.len, stdout);
    if (!c->in->options->delimited)
        putchar('\n');
}

static void tell_progress(struct consuming *c)
{
    double now = now_s();

    if (!c->shows_progress || (now - c->told_s) * 1000 < PROGRESS_MS)
        return;
    c->told_s = now;
    fprintf(stderr, "\r%llu messages, %.0f messages/s ", (unsigned long long)c->count,
            (double)c->count / (now - c->began_s));
}

/* Writes what was printed, and settles it then. False: it could not be written. */
static bool write_and_settle(struct consuming *c)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return false;
    for (size_t i = 0; i < c->printed_count && !c->keep; i++)
        prism_settle(c->subscription, c->printed[i], PRISM_DONE, NULL, NULL);
    c->printed_count = 0;
    tell_progress(c);
    return true;
}

static bool take(struct consuming *c, const struct prism_delivery *delivery)
{
    if (c->in->options->json)
        print_json(delivery);
    else
        print_payload(c, delivery->payload);
    c->count++;
    c->changed_s = now_s();
    c->bytes += delivery->payload.len;
    c->printed[c->printed_count++] = delivery->receipt;
    return c->printed_count < MOST_UNWRITTEN || write_and_settle(c);
}

/* ---- the loop ---- */

static bool is_enough(const struct consuming *c)
{
    int64_t limit = c->in->options->limit;

    return limit > 0 && c->count >= (uint64_t)limit;
}

/* ---- whether it stands ---- */

static void tell_waiting(struct consuming *c)
{
    char text[256];

    snprintf(text, sizeof text,
             "the subscription does not stand yet: the server does not reach its backend (%.64s)",
             prism_consumer_capabilities(c->consumer)->backend_type);
    notice(c->in->options, text);
    c->told_loss = true;
}

/* Standing is told where its loss was. */
static void look(struct consuming *c)
{
    struct prism_error why;
    bool stands = prism_subscription_stands(c->subscription, &why);
    char text[sizeof why.message + 64];

    if (stands != c->stands)
        c->changed_s = now_s();
    if (stands && c->told_loss)
        notice(c->in->options, "connected again");
    if (!stands && !c->told_loss && why.code != PRISM_OK) {
        snprintf(text, sizeof text, "%s: %s; reconnecting", prism_code_name(why.code), why.message);
        notice(c->in->options, text);
    }
    c->told_loss = !stands && (c->told_loss || why.code != PRISM_OK);
    c->stands = stands;
    if (!stands && !c->told_loss && c->idle_ms == UINT32_MAX &&
        (now_s() - c->changed_s) * 1000 >= c->connect_ms)
        tell_waiting(c);
}

/* It has waited long enough: for a message, or for the subscription to stand. Without --idle it
 * waits for both. */
static bool is_over(struct consuming *c)
{
    look(c);
    return c->idle_ms != UINT32_MAX &&
           (now_s() - c->changed_s) * 1000 >= (c->stands ? c->idle_ms : c->connect_ms);
}

/* Messages wait that the server cannot hand over: to end as if there were none would be wrong. */
static int look_for_more(struct consuming *c)
{
    struct prism_error error = {.code = PRISM_UNAVAILABLE};
    char reason[PRISM_STALLED_BYTES];

    if (c->dead_letters || prism_stalled(c->consumer, c->in->arguments[0], c->in->options->group,
                                         STALLED_MS, reason, NULL) != PRISM_OK)
        return EXIT_DONE;
    if (reason[0] == '\0')
        return EXIT_DONE;
    snprintf(error.message, sizeof error.message,
             "messages wait that cannot be received: %.200s; what there is to receive is not known",
             reason);
    return fail(c->in->options, &error);
}

/* The command ends as it was told to. What came may be all there is only if the subscription
 * stands. */
static int finish(struct consuming *c)
{
    const char *backend = prism_consumer_capabilities(c->consumer)->backend_type;
    struct prism_error why, error = {.code = PRISM_UNAVAILABLE};

    look(c);
    if (c->stands)
        return look_for_more(c);
    prism_subscription_stands(c->subscription, &why);
    snprintf(
        error.message, sizeof error.message,
        "the subscription does not stand: %.200s%s%.64s%s; what there is to receive is not known",
        why.code != PRISM_OK ? why.message : "the server does not reach its backend",
        why.code != PRISM_OK ? "" : " (", why.code != PRISM_OK ? "" : backend,
        why.code != PRISM_OK ? "" : ")");
    return fail(c->in->options, &error);
}

/* What is there first; before it waits, what was printed is written. */
static enum prism_code next(struct consuming *c, struct prism_delivery *delivery,
                            struct prism_error *error, bool *written)
{
    enum prism_code code = prism_receive(c->subscription, 0, delivery, error);

    *written = true;
    if (code != PRISM_DEADLINE_EXCEEDED)
        return code;
    *written = write_and_settle(c);
    while (*written && code == PRISM_DEADLINE_EXCEEDED && !is_over(c))
        code = prism_receive(c->subscription, LOOK_MS, delivery, error);
    return code;
}

static int consume_all(struct consuming *c)
{
    struct prism_delivery delivery;
    struct prism_error error;
    bool written = true, ended = false;

    while (written && !ended && !is_enough(c)) {
        enum prism_code code = next(c, &delivery, &error, &written);

        if (!written)
            break;
        ended = code == PRISM_CANCELLED || code == PRISM_DEADLINE_EXCEEDED;
        if (code != PRISM_OK && !ended)
            return fail(c->in->options, &error);
        written = ended || take(c, &delivery);
    }
    if (!written || !write_and_settle(c)) {
        perror("prismctl: standard output");
        return EXIT_OTHER;
    }
    return ended ? finish(c) : EXIT_DONE;
}

static void print_summary(const struct consuming *c)
{
    double seconds = now_s() - c->began_s;

    if (c->in->options->json)
        return;
    fprintf(stderr, "%s%llu received in %.3f s, %.0f messages/s\n", c->shows_progress ? "\r" : "",
            (unsigned long long)c->count, seconds, (double)c->count / seconds);
}

static int consume_until_stopped(struct consuming *c)
{
    struct interrupt interrupt = {.run = stop, .context = c};
    struct prism_error error;
    int code;

    interrupt_start(&interrupt);
    c->began_s = c->told_s = c->changed_s = now_s();
    code = consume_all(c);
    interrupt_stop(&interrupt);
    /* Without its word, what was settled last may come again. */
    if (prism_subscription_close(c->subscription, &error) != PRISM_OK && code == EXIT_DONE)
        code = fail(c->in->options, &error);
    if (code == EXIT_DONE || c->count > 0)
        print_summary(c);
    return code;
}

/* ---- the commands ---- */

static int read_start(const struct options *options, enum prism_start *start)
{
    const char *from = options->from;

    *start = PRISM_START_COMMITTED;
    if (from == NULL || strcmp(from, "committed") == 0)
        return EXIT_DONE;
    *start = strcmp(from, "earliest") == 0 ? PRISM_START_EARLIEST : PRISM_START_LATEST;
    if (strcmp(from, "earliest") != 0 && strcmp(from, "latest") != 0)
        return fail_usage(options, "--from: not committed, earliest or latest", from);
    return EXIT_DONE;
}

static int consume(struct consuming *c, const struct prism_subscribe_options *wanted,
                   uint32_t idle_ms)
{
    const uint32_t timeout_ms = c->in->options->timeout_ms;
    struct session session;
    struct prism_error error;
    int code;

    interrupt_block();
    c->idle_ms = idle_ms;
    c->connect_ms = timeout_ms > 0 ? timeout_ms : CONNECT_MS;
    c->shows_progress = !c->in->options->json && isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO);
    code = session_connect(&session, c->in->options);
    if (code == EXIT_DONE && prism_consumer_open(session.channel, &c->consumer, &error) != PRISM_OK)
        code = fail_unserved(&session, c->in->options, "consumer", &error);
    if (code == EXIT_DONE && prism_subscribe(c->consumer, c->in->arguments[0], wanted,
                                             &c->subscription, &error) != PRISM_OK)
        code = fail(c->in->options, &error);
    if (code == EXIT_DONE)
        code = consume_until_stopped(c);
    prism_consumer_close(c->consumer);
    session_close(&session);
    return code;
}

int command_consume(const struct invocation *in)
{
    const struct options *options = in->options;
    struct prism_subscribe_options wanted = {.group = options->group};
    struct consuming *c = calloc(1, sizeof *c);
    int code;

    if (c == NULL)
        abort();
    c->in = in;
    c->keep = options->keep;
    if (options->per_key)
        wanted.order = PRISM_ORDER_PER_KEY;
    code = read_start(options, &wanted.start);
    if (code == EXIT_DONE)
        code = consume(c, &wanted, options->idle_ms > 0 ? options->idle_ms : UINT32_MAX);
    free(c);
    return code;
}

/* They are shown, not taken: all go back when the command ends. */
int command_deadletters_list(const struct invocation *in)
{
    const struct prism_subscribe_options wanted = {.group = in->arguments[1], .dead_letters = true};
    struct consuming *c = calloc(1, sizeof *c);
    int code;

    if (c == NULL)
        abort();
    c->in = in;
    c->keep = c->dead_letters = true;
    code = consume(c, &wanted, in->options->idle_ms > 0 ? in->options->idle_ms : LISTING_IDLE_MS);
    free(c);
    return code;
}

int command_deadletters_redrive(const struct invocation *in)
{
    struct prism_consumer *consumer = NULL;
    struct session session;
    struct prism_error error;
    uint64_t redriven = 0;
    int code = session_connect(&session, in->options);

    if (code == EXIT_DONE &&
        (prism_consumer_open(session.channel, &consumer, &error) != PRISM_OK ||
         prism_redrive(consumer, in->arguments[0], in->arguments[1], (uint64_t)in->options->limit,
                       &redriven, &error) != PRISM_OK))
        code = fail(in->options, &error);
    if (in->options->json && (code == EXIT_DONE || redriven > 0)) {
        struct json json = {.out = stdout};

        json_open(&json, NULL, '{');
        json_int(&json, "redriven", (int64_t)redriven);
        json_close(&json, '}');
    } else if (code == EXIT_DONE || redriven > 0) {
        printf("%llu published again\n", (unsigned long long)redriven);
    }
    prism_consumer_close(consumer);
    session_close(&session);
    return code;
}
