/* The connection of one run of prismctl, and the translation of errors into exit codes. */
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "prism/keyvalue.h"

#include <stdio.h>
#include <string.h>

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
        bool named = error->field[0] == '\0' || strstr(error->message, error->field) != NULL;

        fprintf(stderr, "prismctl: %s: %s%s%s\n", prism_code_name(error->code),
                named ? "" : error->field, named ? "" : ": ", error->message);
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

static void tell(const struct options *options, const char *kind, const char *message)
{
    struct json json = {.out = stderr};

    if (!options->json) {
        fprintf(stderr, "prismctl: %s: %s\n", kind, message);
        return;
    }
    json_open(&json, NULL, '{');
    json_text(&json, kind, message);
    json_close(&json, '}');
}

static void warn(void *context, enum prism_log_level level, const char *message)
{
    tell(context, level == PRISM_LOG_WARNING ? "warning" : "info", message);
}

void notice(const struct options *options, const char *message)
{
    fflush(stdout);
    tell(options, "warning", message);
}

int session_connect(struct session *session, const struct options *options)
{
    const struct prism_channel_options channel_options = {
        .deadline_ms = options->timeout_ms,
        .namespace_name = options->namespace_name,
        .tls = options->tls,
        .log = warn,
        .log_context = (void *)(uintptr_t)options,
    };
    struct prism_error error;

    *session = (struct session){0};
    if (prism_channel_open(options->server, &channel_options, &session->channel, &error) !=
        PRISM_OK) { /* an option, or a file that one names: nobody has been asked yet */
        fail(options, &error);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

int session_open(struct session *session, const struct options *options)
{
    struct prism_error error;
    int code = session_connect(session, options);

    if (code != EXIT_DONE)
        return code;
    if (prism_keyvalue_open(session->channel, &session->keyvalue, &error) != PRISM_OK)
        return fail_unserved(session, options, "keyvalue", &error);
    return EXIT_DONE;
}

void session_close(struct session *session)
{
    prism_keyvalue_close(session->keyvalue);
    prism_channel_close(session->channel);
}
