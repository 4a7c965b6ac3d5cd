/* Commands on single keys. */
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "client/prismctl/value.h"
#include "prism/keyvalue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void json_begin(struct json *json, const char *key)
{
    *json = (struct json){.out = stdout};
    json_open(json, NULL, '{');
    json_text(json, "key", key);
}

/* ---- store ---- */

static int store(struct session *session, const struct invocation *in, struct prism_bytes value,
                 struct prism_bytes if_version)
{
    const struct prism_store_options options = {.expiration_s = in->options->ttl_s,
                                                .if_absent = in->options->if_absent,
                                                .if_version = if_version};
    struct prism_buffer version;
    struct prism_error error;
    struct json json;
    enum prism_code code = prism_keyvalue_store(session->keyvalue, in->arguments[0], value,
                                                &options, &version, &error);

    if (code != PRISM_OK) {
        prism_buffer_free(&version);
        return fail(in->options, &error);
    }
    if (in->options->json) {
        json_begin(&json, in->arguments[0]);
        json_bool(&json, "stored", true);
        if (version.len > 0)
            json_base64(&json, "version", prism_bytes_of(version.data, version.len));
        json_close(&json, '}');
    } else if (version.len > 0) {
        fputs("version ", stdout);
        print_base64(stdout, prism_bytes_of(version.data, version.len));
        fputc('\n', stdout);
    }
    prism_buffer_free(&version);
    return EXIT_DONE;
}

int command_store(const struct invocation *in)
{
    struct prism_buffer if_version = {0};
    struct session session = {0};
    struct value_source value;
    int code = value_open(&value, in);

    if (code == EXIT_DONE && in->options->if_version != NULL &&
        !parse_base64(in->options->if_version, &if_version))
        code = fail_usage(in->options, "--if-version: not base64", NULL);
    if (code == EXIT_DONE)
        code = session_open(&session, in->options);
    if (code == EXIT_DONE)
        code = value_read(&value, in->options,
                          prism_keyvalue_capabilities(session.keyvalue)->max_value_bytes);
    if (code == EXIT_DONE)
        code = store(&session, in, value.bytes, prism_bytes_of(if_version.data, if_version.len));
    session_close(&session);
    value_close(&value);
    free(if_version.data);
    return code;
}

/* ---- retrieve ---- */

static void print_value(const struct invocation *in, const struct prism_value *value)
{
    struct prism_bytes data = prism_bytes_of(value->data.data, value->data.len);
    struct prism_bytes version = prism_bytes_of(value->version.data, value->version.len);
    struct json json;

    if (in->options->json) {
        json_begin(&json, in->arguments[0]);
        json_bool(&json, "found", value->found);
        if (value->found)
            json_bytes(&json, "value", data);
        if (version.len > 0)
            json_base64(&json, "version", version);
        json_close(&json, '}');
        return;
    }
    if (!value->found) {
        fprintf(stderr, "prismctl: no such key\n");
        return;
    }
    if (data.len > 0)
        fwrite(data.data, 1, data.len, stdout);
    /* People want the prompt on a new line; pipes want the bytes. */
    if (isatty(STDOUT_FILENO) && (data.len == 0 || value->data.data[data.len - 1] != '\n'))
        fputc('\n', stdout);
    if (version.len > 0) {
        fputs("version ", stderr);
        print_base64(stderr, version);
        fputc('\n', stderr);
    }
}

int command_retrieve(const struct invocation *in)
{
    const struct prism_retrieve_options options = {.with_version = in->options->with_version};
    struct prism_value value;
    struct prism_error error;
    struct session session;
    int code = session_open(&session, in->options);

    if (code == EXIT_DONE) {
        if (prism_keyvalue_retrieve(session.keyvalue, in->arguments[0], &options, &value, &error) ==
            PRISM_OK) {
            print_value(in, &value);
            code = value.found ? EXIT_DONE : EXIT_NOT_FOUND;
            prism_value_free(&value);
        } else {
            code = fail(in->options, &error);
        }
    }
    session_close(&session);
    return code;
}

/* ---- commands that answer with one fact ---- */

/* Prints {"key":..., name: fact}, or one of two words. */
static void print_fact(const struct invocation *in, const char *name, bool fact,
                       const char *const words[2])
{
    struct json json;

    if (in->options->json) {
        json_begin(&json, in->arguments[0]);
        json_bool(&json, name, fact);
        json_close(&json, '}');
    } else {
        puts(words[fact]);
    }
}

int command_remove(const struct invocation *in)
{
    static const char *const words[] = {"absent", "removed"};
    struct prism_error error;
    struct session session;
    bool existed;
    int code = session_open(&session, in->options);

    if (code == EXIT_DONE) {
        if (prism_keyvalue_remove(session.keyvalue, in->arguments[0], NULL, &existed, &error) ==
            PRISM_OK)
            print_fact(in, "existed", existed, words);
        else
            code = fail(in->options, &error);
    }
    session_close(&session);
    return code;
}

int command_exists(const struct invocation *in)
{
    static const char *const words[] = {"absent", "present"};
    struct prism_error error;
    struct session session;
    bool exists = false;
    int code = session_open(&session, in->options);

    if (code == EXIT_DONE) {
        if (prism_keyvalue_exists(session.keyvalue, in->arguments[0], NULL, &exists, &error) ==
            PRISM_OK) {
            print_fact(in, "exists", exists, words);
            code = exists ? EXIT_DONE : EXIT_NOT_FOUND;
        } else {
            code = fail(in->options, &error);
        }
    }
    session_close(&session);
    return code;
}

int command_expire(const struct invocation *in)
{
    static const char *const words[] = {"absent", "set"};
    const char *text = in->arguments[1];
    struct prism_error error;
    struct session session;
    bool existed = false;
    uint64_t seconds;
    int code;

    if (!read_number(text, INT64_MAX, &seconds))
        return fail_usage(in->options, "not a number of seconds from 0 to 9223372036854775807",
                          text);
    code = session_open(&session, in->options);
    if (code == EXIT_DONE) {
        if (prism_keyvalue_set_expiration(session.keyvalue, in->arguments[0], (int64_t)seconds,
                                          NULL, &existed, &error) == PRISM_OK) {
            print_fact(in, "existed", existed, words);
            code = existed ? EXIT_DONE : EXIT_NOT_FOUND;
        } else {
            code = fail(in->options, &error);
        }
    }
    session_close(&session);
    return code;
}

static void print_ttl(const struct invocation *in, int64_t seconds)
{
    struct json json;

    if (in->options->json) {
        json_begin(&json, in->arguments[0]);
        json_bool(&json, "exists", seconds != PRISM_NO_SUCH_KEY);
        if (seconds >= 0)
            json_int(&json, "expiration_seconds", seconds);
        else
            json_null(&json, "expiration_seconds");
        json_close(&json, '}');
    } else if (seconds >= 0) {
        printf("%lld\n", (long long)seconds);
    } else {
        puts(seconds == PRISM_NO_SUCH_KEY ? "absent" : "never");
    }
}

int command_ttl(const struct invocation *in)
{
    struct prism_error error;
    struct session session;
    int64_t seconds;
    int code = session_open(&session, in->options);

    if (code == EXIT_DONE) {
        if (prism_keyvalue_get_expiration(session.keyvalue, in->arguments[0], NULL, &seconds,
                                          &error) == PRISM_OK) {
            print_ttl(in, seconds);
            code = seconds == PRISM_NO_SUCH_KEY ? EXIT_NOT_FOUND : EXIT_DONE;
        } else {
            code = fail(in->options, &error);
        }
    }
    session_close(&session);
    return code;
}

int command_persist(const struct invocation *in)
{
    static const char *const words[] = {"no expiry", "taken away"}, *const none[] = {"absent"};
    struct prism_error error;
    struct session session;
    bool removed, exists = true;
    int code = session_open(&session, in->options);

    if (code == EXIT_DONE) {
        enum prism_code done = prism_keyvalue_clear_expiration(session.keyvalue, in->arguments[0],
                                                               NULL, &removed, &error);

        if (done == PRISM_OK && !removed)
            done = prism_keyvalue_exists(session.keyvalue, in->arguments[0], NULL, &exists, &error);
        if (done != PRISM_OK)
            code = fail(in->options, &error);
        else
            print_fact(in, "expiration_removed", removed, exists ? words : none);
        if (done == PRISM_OK && !exists)
            code = EXIT_NOT_FOUND;
    }
    session_close(&session);
    return code;
}
