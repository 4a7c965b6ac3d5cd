/* The connection of one run of prismctl, and the translation of errors into exit codes. */
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "prism/keyvalue.h"

#include <stdio.h>

int exit_of(enum prism_code code)
{
    switch (code) {
    case PRISM_OK:
        return EXIT_DONE;
    case PRISM_UNAVAILABLE:
        return EXIT_UNAVAILABLE;
    case PRISM_INVALID_ARGUMENT:
    case PRISM_NOT_FOUND: /* of a namespace: EXIT_NOT_FOUND is about keys */
    case PRISM_ALREADY_EXISTS:
    case PRISM_PERMISSION_DENIED:
    case PRISM_FAILED_PRECONDITION:
    case PRISM_ABORTED:
    case PRISM_OUT_OF_RANGE:
    case PRISM_UNAUTHENTICATED:
        return EXIT_REFUSED;
    case PRISM_UNIMPLEMENTED:
        return EXIT_UNSUPPORTED;
    case PRISM_DEADLINE_EXCEEDED:
        return EXIT_DEADLINE;
    case PRISM_RESOURCE_EXHAUSTED:
        return EXIT_EXHAUSTED;
    case PRISM_CANCELLED:
    case PRISM_UNKNOWN:
    case PRISM_INTERNAL:
    case PRISM_DATA_LOSS:
        break;
    }
    return EXIT_OTHER;
}

int fail(const struct options *options, const struct prism_error *error)
{
    struct json json = {.out = stderr};

    fflush(stdout);
    if (!options->json) {
        fprintf(stderr, "prismctl: %s: %s\n", prism_code_name(error->code), error->message);
        return exit_of(error->code);
    }
    json_open(&json, NULL, '{');
    json_open(&json, "error", '{');
    json_text(&json, "code", prism_code_name(error->code));
    json_text(&json, "message", error->message);
    json_text(&json, "field", error->field[0] != '\0' ? error->field : NULL);
    json_bool(&json, "retryable", error->retryable);
    json_int(&json, "retry_after_ms", error->retry_after_ms);
    json_close(&json, '}');
    json_close(&json, '}');
    return exit_of(error->code);
}

int fail_usage(const struct options *options, const char *what, const char *about)
{
    struct prism_error error = {.code = PRISM_INVALID_ARGUMENT};

    snprintf(error.message, sizeof error.message, "%s%s%s", what, about != NULL ? ": " : "",
             about != NULL ? about : "");
    if (options->json)
        fail(options, &error);
    else
        fprintf(stderr, "prismctl: %s\n", error.message);
    return EXIT_USAGE;
}

static void warn(void *context, enum prism_log_level level, const char *message)
{
    (void)context;
    fprintf(stderr, "prismctl: %s: %s\n", level == PRISM_LOG_WARNING ? "warning" : "info", message);
}

int session_open(struct session *session, const struct options *options)
{
    const struct prism_channel_options channel_options = {
        .deadline_ms = options->timeout_ms,
        .namespace_name = options->namespace_name,
        .tls = options->tls,
        .log = warn,
    };
    struct prism_error error;
    enum prism_code code;

    *session = (struct session){0};
    code = prism_channel_open(options->server, &channel_options, &session->channel, &error);
    if (code == PRISM_OK)
        code = prism_keyvalue_open(session->channel, &session->keyvalue, &error);
    return code == PRISM_OK ? EXIT_DONE : fail(options, &error);
}

void session_close(struct session *session)
{
    prism_keyvalue_close(session->keyvalue);
    prism_channel_close(session->channel);
}
