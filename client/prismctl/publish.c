/* prismctl publish: arguments, or the lines of a file, in batches. The batches go one after the
 * other, and the first message that is not stored ends the command: later ones must not overtake
 * it, and only the user knows whether an unknown one may be published again. With --atomic a batch
 * is sent as a whole or not at all: what would be a part of one is refused. */
#include "client/prismctl/command.h"
#include "client/prismctl/interrupt.h"
#include "client/prismctl/lines.h"
#include "client/prismctl/output.h"
#include "prism/producer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_BATCH = 100, MOST_BATCH = 1 << 16, MOST_LINE_BYTES = 256 << 20 };

struct publisher {
    const struct invocation *in;
    struct prism_producer *producer;
    struct prism_header *headers;
    struct prism_message *messages; /* room for one batch */
    struct prism_bytes *batch;      /* their payloads */
    size_t batch_size;
    bool one_batch;   /* atomic, of all that there is */
    int interrupt_fd; /* readable: Ctrl-C */
    atomic_bool interrupted;
    uint64_t count, stored, duplicates, not_stored, unknown;
};

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- what became of the messages ---- */

static void print_result(const struct publisher *p, const struct prism_publish_result *result)
{
    struct json json = {.out = stdout};

    json_open(&json, NULL, '{');
    json_int(&json, "number", (int64_t)p->count);
    json_text(&json, "outcome", prism_outcome_name(result->outcome));
    json_text(&json, "code", prism_code_name(result->code));
    if (result->code != PRISM_OK)
        json_text(&json, "message", result->message);
    if (*result->message_id != '\0')
        json_text(&json, "message_id", result->message_id);
    json_bool(&json, "deduplicated", result->deduplicated);
    if (result->partition >= 0)
        json_int(&json, "partition", result->partition);
    if (result->offset >= 0)
        json_int(&json, "offset", result->offset);
    if (*result->position != '\0')
        json_text(&json, "position", result->position);
    json_close(&json, '}');
}

static void count(struct publisher *p, const struct prism_publish_result *result)
{
    p->count++;
    p->stored += result->outcome == PRISM_STORED;
    p->duplicates += result->deduplicated;
    p->not_stored += result->outcome == PRISM_NOT_STORED;
    p->unknown += result->outcome == PRISM_OUTCOME_UNKNOWN;
    if (p->in->options->json)
        print_result(p, result);
    else if (result->outcome != PRISM_STORED)
        fprintf(stderr, "prismctl: message %llu: %s: %s: %s\n", (unsigned long long)p->count,
                prism_outcome_name(result->outcome), prism_code_name(result->code),
                result->message);
}

static int take(struct publisher *p, const struct prism_published *published)
{
    for (size_t i = 0; i < published->count; i++)
        count(p, &published->results[i]);
    return published->stored == published->count ? EXIT_DONE : EXIT_PARTIAL;
}

/* Every message of a call that failed is accounted for, too. */
static int take_failure(struct publisher *p, size_t n, enum prism_outcome outcome,
                        const struct prism_error *error)
{
    const struct prism_publish_result result = {.outcome = outcome,
                                                .code = error->code,
                                                .message = error->message,
                                                .message_id = "",
                                                .position = "",
                                                .offset = -1,
                                                .partition = -1};

    for (size_t i = 0; i < n && p->in->options->json; i++)
        count(p, &result);
    if (!p->in->options->json) {
        p->count += n;
        *(outcome == PRISM_NOT_STORED ? &p->not_stored : &p->unknown) += n;
    }
    return fail(p->in->options, error);
}

static void print_summary(const struct publisher *p, double seconds)
{
    if (p->in->options->json)
        return;
    printf("%llu stored", (unsigned long long)p->stored);
    if (p->duplicates > 0)
        printf(" (%llu of them before)", (unsigned long long)p->duplicates);
    if (p->not_stored > 0)
        printf(", %llu not stored", (unsigned long long)p->not_stored);
    if (p->unknown > 0)
        printf(", %llu unknown", (unsigned long long)p->unknown);
    printf(" in %.3f s, %.0f messages/s\n", seconds,
           seconds > 0 ? (double)p->stored / seconds : 0.0);
}

/* ---- Ctrl-C: what was read is sent, and nothing more is read ---- */

static void interrupted(void *arg)
{
    struct publisher *p = arg;

    atomic_store(&p->interrupted, true);
    eventfd_write(p->interrupt_fd, 1);
}

static int tell_interrupt(const struct publisher *p, const char *what)
{
    char text[160];

    snprintf(text, sizeof text, "interrupted: message %llu %s", (unsigned long long)p->count + 1,
             what);
    notice(p->in->options, text);
    return EXIT_OTHER;
}

static int tell_cut_input(const struct publisher *p, bool within)
{
    if (within)
        return tell_interrupt(p, "was read in part, and not sent");
    if (p->in->options->file != NULL && strcmp(p->in->options->file, "-") != 0)
        return tell_interrupt(p, "and those behind it were not read");
    notice(p->in->options, "interrupted: all that was read was sent");
    return EXIT_DONE;
}

/* ---- sending ---- */

static int send_batch(struct publisher *p, size_t n)
{
    const struct prism_publish_options options = {.atomic = p->in->options->atomic};
    struct prism_published published;
    struct prism_error error;
    enum prism_code code;
    int exit_code;

    for (size_t i = 0; i < n; i++)
        p->messages[i].payload = p->batch[i];
    /* A backend without batches still takes single messages. */
    if (n == 1 && !options.atomic)
        code = prism_publish(p->producer, p->messages, &options, &published, &error);
    else
        code = prism_publish_batch(p->producer, p->messages, n, &options, &published, &error);
    exit_code =
        code == PRISM_OK ? take(p, &published) : take_failure(p, n, published.outcome, &error);
    prism_published_free(&published);
    return exit_code;
}

static int refuse_whole(const struct publisher *p, size_t most, const char *of_what)
{
    struct prism_error error = {.code = PRISM_INVALID_ARGUMENT};

    snprintf(
        error.message, sizeof error.message,
        "a whole batch has at most %zu %s, and there are more from message %llu on: nothing of "
        "that was sent",
        most, of_what, (unsigned long long)p->count + 1);
    return fail(p->in->options, &error);
}

static int send_arguments(struct publisher *p)
{
    int code = EXIT_DONE;

    if (p->one_batch && p->in->count - 1 > p->batch_size)
        return refuse_whole(p, p->batch_size, "messages");
    for (size_t i = 1; i < p->in->count && code == EXIT_DONE;) {
        size_t n = 0;

        if (atomic_load(&p->interrupted))
            return tell_interrupt(p, "and those behind it were not sent");
        while (n < p->batch_size && i < p->in->count) {
            p->batch[n++] = prism_bytes_of(p->in->arguments[i], strlen(p->in->arguments[i]));
            i++;
        }
        code = send_batch(p, n);
    }
    return code;
}

/* unsent: lines before it, which were read. */
static int refuse_line(const struct publisher *p, size_t unsent, size_t max_bytes)
{
    struct prism_error error = {.code = PRISM_INVALID_ARGUMENT, .field = "payload"};

    snprintf(error.message, sizeof error.message,
             "line %llu holds more than %zu bytes, the largest message",
             (unsigned long long)p->count + unsent + 1, max_bytes);
    return fail(p->in->options, &error);
}

/* Batches as large as they are to be, and the rest at the end. *unsent: lines that were read of one
 * that did not become whole. */
static int send_whole(struct publisher *p, struct lines *lines, size_t *unsent)
{
    size_t most = p->batch_size + p->one_batch, n;
    int code = EXIT_DONE;

    lines->whole_bytes = MOST_LINE_BYTES;
    while (code == EXIT_DONE && (n = lines_next(lines, p->batch, most)) > 0) {
        bool broken = lines->interrupted || lines->too_long || lines->cut || lines->fault != 0;

        if (n > p->batch_size)
            return refuse_whole(p, p->batch_size, "messages");
        if (lines->kept_full)
            return refuse_whole(p, lines->whole_bytes, "bytes");
        if (broken && n < most) {
            *unsent = n;
            return lines->interrupted ? tell_interrupt(p, "and those behind it were not sent")
                                      : EXIT_DONE;
        }
        code = send_batch(p, n);
    }
    return code;
}

static int send_lines(struct publisher *p, int fd, const char *name)
{
    int64_t announced = prism_producer_capabilities(p->producer)->max_message_bytes;
    struct lines lines = {.fd = fd,
                          .interrupt_fd = p->interrupt_fd,
                          .delimited = p->in->options->delimited,
                          .max_line_bytes = MOST_LINE_BYTES};
    int code = EXIT_DONE;
    size_t n, unsent = 0;

    if (announced > 0 && announced < MOST_LINE_BYTES)
        lines.max_line_bytes = (size_t)announced;
    if (p->in->options->atomic)
        code = send_whole(p, &lines, &unsent);
    while (code == EXIT_DONE && unsent == 0 &&
           (n = lines_next(&lines, p->batch, p->batch_size)) > 0)
        code = send_batch(p, n);
    if (code == EXIT_DONE && lines.too_long)
        code = refuse_line(p, unsent, lines.max_line_bytes);
    else if (code == EXIT_DONE && lines.interrupted)
        code = tell_cut_input(p, lines.cut);
    else if (code == EXIT_DONE && lines.cut)
        code = fail_usage(p->in->options, name, "ends within a message");
    else if (code == EXIT_DONE && lines.fault != 0)
        code = fail_usage(p->in->options, name, strerror(lines.fault));
    lines_clear(&lines);
    return code;
}

/* ---- the command ---- */

/* Splits NAME=VALUE at the first '='. Free the names. */
static int split_headers(struct publisher *p)
{
    const struct options *options = p->in->options;

    for (size_t i = 0; i < options->header_count; i++) {
        const char *equals = strchr(options->headers[i], '=');

        if (equals == NULL || equals == options->headers[i])
            return fail_usage(options, "--header: not NAME=VALUE", options->headers[i]);
        p->headers[i].name = strndup(options->headers[i], (size_t)(equals - options->headers[i]));
        if (p->headers[i].name == NULL)
            abort();
        p->headers[i].value = prism_bytes_of(equals + 1, strlen(equals + 1));
    }
    return EXIT_DONE;
}

static void choose_batch_size(struct publisher *p)
{
    const struct prism_producer_capabilities *can = prism_producer_capabilities(p->producer);
    uint64_t most = can->max_batch_messages > 0 ? (uint64_t)can->max_batch_messages : MOST_BATCH;

    p->batch_size = p->in->options->batch > 0 ? p->in->options->batch : DEFAULT_BATCH;
    if (!can->supports_batching)
        p->batch_size = 1;
    else if (p->batch_size > most)
        p->batch_size = (size_t)most;
}

/* A server that does not know of it would not keep batches whole. */
static const struct prism_operation *atomic_batch(const struct prism_producer_capabilities *can)
{
    for (size_t i = 0; i < can->operation_count; i++) {
        if (strcmp(can->operations[i].name, "PublishBatch") == 0 &&
            strcmp(can->operations[i].variant, "atomic") == 0)
            return &can->operations[i];
    }
    return NULL;
}

static int choose_whole_size(struct publisher *p)
{
    const struct prism_operation *batch = atomic_batch(prism_producer_capabilities(p->producer));
    uint32_t wanted = p->in->options->batch;
    struct prism_error error = {.code = PRISM_UNIMPLEMENTED};

    if (batch == NULL || !batch->available) {
        snprintf(error.message, sizeof error.message, "%s",
                 batch != NULL ? batch->reason : "this server knows no atomic batches");
        return fail(p->in->options, &error);
    }
    p->batch_size = batch->max_items > 0 && batch->max_items < MOST_BATCH ? (size_t)batch->max_items
                                                                          : MOST_BATCH;
    p->one_batch = wanted == 0;
    if (wanted > p->batch_size) {
        error.code = PRISM_INVALID_ARGUMENT;
        snprintf(error.message, sizeof error.message,
                 "--batch: a whole batch has at most %zu messages here", p->batch_size);
        return fail(p->in->options, &error);
    }
    if (wanted > 0)
        p->batch_size = wanted;
    return EXIT_DONE;
}

/* With room for one message more than a batch has: it shows that there are more. */
static int prepare_messages(struct publisher *p)
{
    const struct options *options = p->in->options;
    int code = EXIT_DONE;

    if (options->atomic)
        code = choose_whole_size(p);
    else
        choose_batch_size(p);
    p->messages = calloc(p->batch_size + 1, sizeof *p->messages);
    p->batch = calloc(p->batch_size + 1, sizeof *p->batch);
    if (p->messages == NULL || p->batch == NULL)
        abort();
    for (size_t i = 0; i < p->batch_size; i++) {
        p->messages[i] = (struct prism_message){.topic = p->in->arguments[0],
                                                .headers = p->headers,
                                                .header_count = options->header_count};
        if (options->key != NULL)
            p->messages[i].ordering_key = prism_bytes_of(options->key, strlen(options->key));
    }
    return code;
}

static int publish(struct publisher *p, int fd, const char *name)
{
    struct interrupt interrupt = {.run = interrupted, .context = p};
    struct session session;
    struct prism_error error;
    double start;
    int code;

    interrupt_block();
    p->interrupt_fd = eventfd(0, EFD_CLOEXEC);
    if (p->interrupt_fd < 0)
        abort();
    code = session_connect(&session, p->in->options);

    if (code == EXIT_DONE && prism_producer_open(session.channel, &p->producer, &error) != PRISM_OK)
        code = fail_unserved(&session, p->in->options, "producer", &error);
    if (code == EXIT_DONE)
        code = prepare_messages(p);
    if (code == EXIT_DONE) {
        interrupt_start(&interrupt);
        start = now_s();
        code = fd >= 0 ? send_lines(p, fd, name) : send_arguments(p);
        print_summary(p, now_s() - start);
        interrupt_stop(&interrupt);
    }
    free(p->messages);
    free(p->batch);
    prism_producer_close(p->producer);
    session_close(&session);
    close(p->interrupt_fd);
    return code;
}

int command_publish(const struct invocation *in)
{
    const char *path = in->options->file;
    struct prism_header headers[MOST_HEADERS] = {{NULL, {NULL, 0}}};
    struct publisher p = {.in = in, .headers = headers};
    int fd = -1, code;

    if (in->count > 1 && path != NULL)
        return fail_usage(in->options, "messages and --file exclude each other", NULL);
    if (in->count == 1 && (path == NULL || strcmp(path, "-") == 0))
        fd = STDIN_FILENO;
    else if (path != NULL && (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return fail_usage(in->options, path, strerror(errno));
    code = split_headers(&p);
    if (code == EXIT_DONE)
        code = publish(&p, fd, fd == STDIN_FILENO ? "standard input" : path);
    for (size_t i = 0; i < MOST_HEADERS; i++)
        free((void *)(uintptr_t)headers[i].name);
    if (fd > STDIN_FILENO)
        close(fd);
    return code;
}
