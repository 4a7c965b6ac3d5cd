/* prismctl register, unregister, multicast, subscribe: the MulticastRegistry pattern. */
#include "prism/registry.h"
#include "client/prismctl/command.h"
#include "client/prismctl/interrupt.h"
#include "client/prismctl/output.h"
#include "src/base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_MS = 500, DAY_MS = 86400000, MS_PER_S = 1000, NAMES_AT_ONCE = 500 };

struct registry_session {
    struct session session;
    struct prism_registry *registry;
};

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* As session_open. */
static int open_registry(struct registry_session *s, const struct options *options)
{
    struct prism_error error;
    int code = session_connect(&s->session, options);

    s->registry = NULL;
    if (code == EXIT_DONE &&
        prism_registry_open(s->session.channel, &s->registry, &error) != PRISM_OK)
        code = fail_unserved(&s->session, options, "multicast_registry", &error);
    return code;
}

static void close_registry(struct registry_session *s)
{
    prism_registry_close(s->registry);
    session_close(&s->session);
}

/* ---- register ---- */

/* NAME=VALUE: a number, true, false and null are what they look like; all else is text, and so is
 * what stands in double quotes. Cuts the argument, which is a copy. */
static bool read_field(char *argument, struct prism_field *field)
{
    char *value = strchr(argument, '='), *end;
    size_t len;

    if (value == NULL || value == argument)
        return false;
    *value++ = '\0';
    len = strlen(value);
    *field = (struct prism_field){.name = argument, .type = PRISM_FIELD_TEXT, .text = value};
    if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
        value[len - 1] = '\0';
        field->text = value + 1;
        return true;
    }
    field->truth = strcmp(value, "true") == 0;
    if (field->truth || strcmp(value, "false") == 0)
        field->type = PRISM_FIELD_BOOL;
    else if (strcmp(value, "null") == 0)
        field->type = PRISM_FIELD_NULL;
    field->number = strtod(value, &end);
    if (end != value && *end == '\0' && isfinite(field->number))
        field->type = PRISM_FIELD_NUMBER;
    return true;
}

/* NULL: it can be a name. Cuts the end of the line off, as files of Windows have it, too: nobody
 * means a name that ends with a carriage return. */
static const char *fault_of(char *line, size_t len)
{
    len -= line[len - 1] == '\n';
    len -= len > 0 && line[len - 1] == '\r';
    line[len] = '\0';
    if (len == 0)
        return "is empty";
    if (strlen(line) < len)
        return "holds a NUL";
    return utf8_valid(slice_of(line, len)) ? NULL : "is not UTF-8";
}

/* Reads lines; returns how many. Ends before one that is at fault. */
static size_t read_names(char **names, size_t most, const char **fault)
{
    size_t n = 0, room;
    ssize_t len;

    *fault = NULL;
    for (; n < most; n++) {
        names[n] = NULL;
        room = 0;
        len = getline(&names[n], &room, stdin);
        if (len > 0)
            *fault = fault_of(names[n], (size_t)len);
        if (len <= 0 || *fault != NULL) {
            free(names[n]);
            break;
        }
    }
    return n;
}

static enum prism_code refuse_line(int64_t number, const char *fault, struct prism_error *error)
{
    *error = (struct prism_error){.code = PRISM_INVALID_ARGUMENT, .field = "identity"};
    snprintf(error->message, sizeof error->message,
             "line %lld %s, and is no identity; those before it are registered", (long long)number,
             fault);
    return error->code;
}

/* Those whose names are the lines of the standard input. */
static enum prism_code register_lines(struct prism_registry *registry,
                                      const struct prism_register_options *options, int64_t *count,
                                      struct prism_error *error)
{
    char *names[NAMES_AT_ONCE];
    enum prism_code code = PRISM_OK;
    const char *fault = NULL;
    size_t n, registered;

    while (code == PRISM_OK && fault == NULL &&
           (n = read_names(names, NAMES_AT_ONCE, &fault)) > 0) {
        code = prism_registry_register_many(registry, (const char *const *)names, n, options,
                                            &registered, error);
        *count += (int64_t)registered;
        for (size_t i = 0; i < n; i++)
            free(names[i]);
    }
    return code == PRISM_OK && fault != NULL ? refuse_line(*count + 1, fault, error) : code;
}

static void print_registered(const char *identity, int64_t number)
{
    struct json json = {.out = stdout};

    json_open(&json, NULL, '{');
    if (identity != NULL)
        json_text(&json, "identity", identity);
    json_int(&json, identity != NULL ? "generation" : "registered", number);
    json_close(&json, '}');
}

static int register_with(const struct invocation *in, const struct prism_field *fields, size_t n)
{
    const struct prism_register_options options = {.fields = fields,
                                                   .field_count = n,
                                                   .ttl_ms = in->options->ttl_s * MS_PER_S,
                                                   .replace = in->options->replace};
    struct registry_session s;
    const char *identity = strcmp(in->arguments[0], "-") != 0 ? in->arguments[0] : NULL;
    struct prism_error error;
    int64_t number = 0; /* the generation, or how many */
    int code = open_registry(&s, in->options);

    if (code == EXIT_DONE &&
        (identity != NULL ? prism_registry_register(s.registry, identity, &options, &number, &error)
                          : register_lines(s.registry, &options, &number, &error)) != PRISM_OK)
        code = fail(in->options, &error);
    if (code == EXIT_DONE && in->options->json)
        print_registered(identity, number);
    else if (code == EXIT_DONE && identity == NULL)
        printf("%lld registered\n", (long long)number);
    close_registry(&s);
    return code;
}

static bool is_named(const struct prism_field *fields, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(fields[i].name, name) == 0)
            return true;
    }
    return false;
}

int command_register(const struct invocation *in)
{
    size_t n = in->count - 1;
    char **copies = calloc(n + 1, sizeof *copies);
    struct prism_field *fields = calloc(n + 1, sizeof *fields);
    int code = EXIT_DONE;

    if (copies == NULL || fields == NULL)
        abort();
    for (size_t i = 0; i < n && code == EXIT_DONE; i++) {
        copies[i] = strdup(in->arguments[i + 1]);
        if (copies[i] == NULL)
            abort();
        if (!read_field(copies[i], &fields[i]))
            code = fail_usage(in->options, "not NAME=VALUE", in->arguments[i + 1]);
        else if (is_named(fields, i, fields[i].name))
            code = fail_usage(in->options, "given more than once", fields[i].name);
    }
    if (code == EXIT_DONE)
        code = register_with(in, fields, n);
    for (size_t i = 0; i < n; i++)
        free(copies[i]);
    free(copies);
    free(fields);
    return code;
}

int command_unregister(const struct invocation *in)
{
    struct registry_session s;
    struct prism_error error;
    bool existed = false;
    int code = open_registry(&s, in->options);

    if (code == EXIT_DONE &&
        prism_registry_unregister(s.registry, in->arguments[0], 0, &existed, &error) != PRISM_OK)
        code = fail(in->options, &error);
    if (code == EXIT_DONE && in->options->json) {
        struct json json = {.out = stdout};

        json_open(&json, NULL, '{');
        json_bool(&json, "existed", existed);
        json_close(&json, '}');
    }
    close_registry(&s);
    if (code == EXIT_DONE && !existed && !in->options->json)
        printf("absent\n");
    return code == EXIT_DONE && !existed ? EXIT_NOT_FOUND : code;
}

/* ---- multicast ---- */

struct sending {
    const struct options *options;
    double began_s, told_s;
    bool shows_progress;
    pthread_mutex_t lock;
    struct prism_multicast_counts counts; /* under the lock */
};

static void tell_progress(void *context, const struct prism_multicast_counts *counts)
{
    struct sending *sending = context;
    double now = now_s();

    pthread_mutex_lock(&sending->lock);
    sending->counts = *counts;
    pthread_mutex_unlock(&sending->lock);
    if (!sending->shows_progress || (now - sending->told_s) * MS_PER_S < PROGRESS_MS)
        return;
    sending->told_s = now;
    fprintf(stderr, "\r%lld targets, %.0f targets/s ", (long long)counts->targets,
            (double)counts->targets / (now - sending->began_s));
}

static void print_some(int64_t count, const char *what)
{
    if (count > 0)
        printf("%lld %s, ", (long long)count, what);
}

static void print_cost(const struct prism_multicast_cost *cost)
{
    if (!cost->told)
        return;
    if (cost->stored_messages > 0)
        printf("it would store %lld messages", (long long)cost->stored_messages);
    else
        printf("it would publish at most %lld messages", (long long)cost->published_messages);
    printf(", %lld bytes", (long long)cost->message_bytes);
    if (cost->least_ms > 0)
        printf(", in %.3f s or more", (double)cost->least_ms / MS_PER_S);
    putchar('\n');
}

static void json_cost(struct json *json, const struct prism_multicast_cost *cost)
{
    if (!cost->told)
        return;
    json_open(json, "cost", '{');
    json_int(json, "published_messages", cost->published_messages);
    json_int(json, "stored_messages", cost->stored_messages);
    json_int(json, "message_bytes", cost->message_bytes);
    json_int(json, "least_ms", cost->least_ms);
    json_close(json, '}');
}

static void print_text(const struct options *options, const struct prism_multicast_counts *counts,
                       double seconds)
{
    if (options->dry_run) {
        printf("%lld targets match; nothing was sent\n", (long long)counts->targets);
        print_cost(&counts->cost);
        return;
    }
    printf("%lld targets: %lld delivered, ", (long long)counts->targets,
           (long long)counts->delivered);
    print_some(counts->confirmed, "confirmed");
    print_some(counts->pending, "kept until they are received");
    print_some(counts->skipped, "skipped");
    printf("%lld without a receiver, %lld failed, in %.3f s, %.0f targets/s\n",
           (long long)counts->no_receiver, (long long)counts->failed, seconds,
           (double)counts->targets / seconds);
}

static void print_counts(const struct options *options, const struct prism_multicast_counts *counts,
                         double seconds)
{
    struct json json = {.out = stdout};

    if (!options->json) {
        print_text(options, counts, seconds);
        return;
    }
    json_open(&json, NULL, '{');
    json_int(&json, "targets", counts->targets);
    json_bool(&json, "dry_run", options->dry_run);
    json_int(&json, "delivered", counts->delivered);
    json_int(&json, "confirmed", counts->confirmed);
    json_int(&json, "no_receiver", counts->no_receiver);
    json_int(&json, "pending", counts->pending);
    json_int(&json, "skipped", counts->skipped);
    json_int(&json, "failed", counts->failed);
    json_cost(&json, &counts->cost);
    json_close(&json, '}');
}

/* Ends the program: the server ends a multicast whose caller is gone. What it reached after its
 * last word is not known here. */
static void interrupted(void *arg)
{
    struct sending *sending = arg;

    pthread_mutex_lock(&sending->lock);
    notice(sending->options, "interrupted: the rest is not sent; as far as the server has told:");
    print_counts(sending->options, &sending->counts, now_s() - sending->began_s);
    fflush(stdout);
    _exit(sending->counts.targets > 0 ? EXIT_PARTIAL : EXIT_OTHER);
}

int command_multicast(const struct invocation *in)
{
    const struct options *options = in->options;
    const struct prism_multicast multicast = {
        .filter = options->filter,
        .payload = prism_bytes_of(in->arguments[0], strlen(in->arguments[0])),
        .max_targets = options->max_targets,
        .rate_per_second = (int32_t)options->rate,
        .dry_run = options->dry_run,
        .deadline_ms = options->timeout_ms > 0 ? options->timeout_ms : DAY_MS};
    struct sending sending = {.options = options,
                              .began_s = now_s(),
                              .lock = PTHREAD_MUTEX_INITIALIZER,
                              .shows_progress = !options->json && isatty(STDERR_FILENO)};
    struct prism_multicast_counts counts = {0};
    struct interrupt interrupt = {.run = interrupted, .context = &sending};
    struct registry_session s;
    struct prism_error error;
    int code;

    interrupt_block();
    code = open_registry(&s, options);
    if (code == EXIT_DONE) {
        interrupt_start(&interrupt);

        enum prism_code sent = prism_registry_multicast(s.registry, &multicast, tell_progress,
                                                        &sending, &counts, &error);

        interrupt_stop(&interrupt);
        if (sending.told_s > 0)
            fputc('\r', stderr);
        if (sent != PRISM_OK)
            code = fail(options, &error);
        if (sent == PRISM_OK || counts.targets > 0)
            print_counts(options, &counts, now_s() - sending.began_s);
        if (sent != PRISM_OK && counts.targets > 0)
            code = EXIT_PARTIAL;
    }
    close_registry(&s);
    return code;
}

/* ---- subscribe ---- */

struct listening {
    const struct options *options;
    int64_t count;
};

static void print_json(const struct prism_multicast_message *message)
{
    struct json json = {.out = stdout};

    json_open(&json, NULL, '{');
    json_text(&json, "message_id", message->message_id);
    if (*message->content_type != '\0')
        json_text(&json, "content_type", message->content_type);
    if (message->published_at_ms > 0)
        json_int(&json, "published_at_ms", message->published_at_ms);
    json_open(&json, "identities", '[');
    for (size_t i = 0; i < message->identity_count; i++)
        json_text(&json, NULL, message->identities[i]);
    json_close(&json, ']');
    json_bytes(&json, "payload", message->payload);
    json_close(&json, '}');
}

static void print_dropped(const struct prism_multicast_message *message)
{
    static const char *const reasons[PRISM_DROP_REASONS] = {
        [PRISM_DROP_OLDEST] = "too slow, the oldest went",
        [PRISM_DROP_NEWEST] = "too slow, the newest went",
        [PRISM_DROP_REPLACED] = "replaced by later ones",
        [PRISM_DROP_GAP] = "lost on their way to the server, perhaps more",
        [PRISM_DROP_GIVEN_UP] = "handed over too often",
        [PRISM_DROP_ENDED] = "no longer received for"};
    int64_t rest = message->dropped;

    for (int i = PRISM_DROP_OLDEST; i < PRISM_DROP_REASONS; i++) {
        if (message->dropped_by[i] > 0)
            fprintf(stderr, "prismctl: %lld messages lost: %s\n", (long long)message->dropped_by[i],
                    reasons[i]);
        rest -= message->dropped_by[i];
    }
    if (rest > 0)
        fprintf(stderr, "prismctl: %lld messages lost\n", (long long)rest);
}

static bool print_message(void *context, const struct prism_multicast_message *message)
{
    struct listening *listening = context;

    if (message == NULL) {
        fprintf(stderr, "listening\n");
        return true;
    }
    print_dropped(message);
    if (listening->options->json) {
        print_json(message);
    } else {
        fwrite(message->payload.data, 1, message->payload.len, stdout);
        putchar('\n');
    }
    listening->count++;
    if (fflush(stdout) != 0)
        return false;
    return listening->options->limit == 0 || listening->count < listening->options->limit;
}

/* False: there is no such policy. */
static bool policy_of(const char *name, enum prism_full_policy *policy)
{
    static const char *const names[] = {[PRISM_FULL_DROP_OLDEST] = "drop-oldest",
                                        [PRISM_FULL_DROP_NEWEST] = "drop-newest",
                                        [PRISM_FULL_LATEST_PER_KEY] = "latest-per-key",
                                        [PRISM_FULL_END_STREAM] = "end-stream"};

    *policy = PRISM_FULL_NAMESPACE;
    for (int i = PRISM_FULL_DROP_OLDEST; name != NULL && i <= PRISM_FULL_END_STREAM; i++) {
        if (strcmp(name, names[i]) == 0)
            *policy = (enum prism_full_policy)i;
    }
    return name == NULL || *policy != PRISM_FULL_NAMESPACE;
}

int command_subscribe(const struct invocation *in)
{
    struct listening listening = {.options = in->options};
    struct prism_receiver receiver = {
        .identities = in->arguments,
        .identity_count = in->count,
        .deadline_ms = in->options->timeout_ms > 0 ? in->options->timeout_ms : DAY_MS,
        .receive = print_message,
        .context = &listening};
    struct registry_session s;
    struct prism_error error;
    int code;

    if (!policy_of(in->options->when_full, &receiver.when_full))
        return fail_usage(in->options,
                          "--when-full: not drop-oldest, drop-newest, latest-per-key or end-stream",
                          in->options->when_full);
    code = open_registry(&s, in->options);
    if (code == EXIT_DONE && prism_registry_receive(s.registry, &receiver, &error) != PRISM_OK)
        code = fail(in->options, &error);
    close_registry(&s);
    return code;
}
