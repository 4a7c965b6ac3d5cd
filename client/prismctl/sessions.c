/* prismctl session ...: the SessionStore pattern. Values are texts, of the type StringValue. */
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "prism/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char text_type[] = "type.googleapis.com/google.protobuf.StringValue";

enum { MS_PER_S = 1000, TAG = 0x0a /* field 1, with a length */, LENGTH_BYTES = 5 };

struct open_sessions {
    struct session session;
    struct prism_sessions *sessions;
};

/* As session_open. */
static int open_sessions(struct open_sessions *s, const struct options *options)
{
    struct prism_error error;
    int code = session_connect(&s->session, options);

    s->sessions = NULL;
    if (code == EXIT_DONE &&
        prism_sessions_open(s->session.channel, &s->sessions, &error) != PRISM_OK)
        code = fail_unserved(&s->session, options, "session_store", &error);
    return code;
}

/* The exit code of a call on one session. */
static int end(struct open_sessions *s, const struct options *options, enum prism_code done,
               const struct prism_error *error)
{
    int code = EXIT_DONE;

    if (done != PRISM_OK)
        code = fail(options, error);
    prism_sessions_close(s->sessions);
    session_close(&s->session);
    return done == PRISM_NOT_FOUND ? EXIT_NOT_FOUND : code;
}

static int close_unopened(struct open_sessions *s, int code)
{
    session_close(&s->session);
    return code;
}

/* ---- values ---- */

struct values {
    char **names; /* copies, cut at the "=" */
    struct prism_session_value *values;
    uint8_t **bytes;
    size_t n;
};

static size_t put_length(uint8_t *at, size_t len)
{
    size_t n = 0;

    for (; len > 0x7f; len >>= 7)
        at[n++] = (uint8_t)(len | 0x80);
    at[n++] = (uint8_t)len;
    return n;
}

/* A message StringValue: a tag, the length, the text. */
static struct prism_bytes pack_text(const char *text, uint8_t **bytes)
{
    size_t len = strlen(text), at = 1;
    uint8_t *packed = malloc(1 + LENGTH_BYTES + len);

    if (packed == NULL)
        abort();
    *bytes = packed;
    packed[0] = TAG;
    at += put_length(packed + at, len);
    memcpy(packed + at, text, len);
    return prism_bytes_of(packed, at + len);
}

/* The text of a StringValue; false: it is something else. */
static bool unpack_text(const struct prism_session_value *value, struct prism_bytes *text)
{
    const uint8_t *data = value->bytes.data;
    size_t len = 0, at = 1;

    *text = prism_bytes_of("", 0);
    if (strcmp(value->type, text_type) != 0 || value->bytes.len == 0)
        return strcmp(value->type, text_type) == 0;
    if (data[0] != TAG)
        return false;
    for (unsigned shift = 0; at < value->bytes.len && at <= LENGTH_BYTES; shift += 7) {
        len |= (size_t)(data[at] & 0x7f) << shift;
        if ((data[at++] & 0x80) == 0)
            break;
    }
    if (len != value->bytes.len - at)
        return false;
    *text = prism_bytes_of(data + at, len);
    return true;
}

static void values_free(struct values *values)
{
    for (size_t i = 0; i < values->n; i++) {
        free(values->names[i]);
        free(values->bytes[i]);
    }
    free(values->names);
    free(values->bytes);
    free(values->values);
}

static bool is_named(const struct values *values, const char *name)
{
    for (size_t i = 0; i + 1 < values->n; i++) {
        if (strcmp(values->names[i], name) == 0)
            return true;
    }
    return false;
}

/* NAME=TEXT from each argument, each name once. Returns an exit code; to be freed in every case. */
static int values_read(struct values *values, const struct invocation *in, size_t from)
{
    size_t n = in->count - from;

    values->n = 0;
    values->names = calloc(n + 1, sizeof *values->names);
    values->bytes = calloc(n + 1, sizeof *values->bytes);
    values->values = calloc(n + 1, sizeof *values->values);
    if (values->names == NULL || values->bytes == NULL || values->values == NULL)
        abort();
    for (size_t i = 0; i < n; i++) {
        char *name = strdup(in->arguments[from + i]), *text;

        if (name == NULL)
            abort();
        values->names[values->n] = name;
        values->bytes[values->n++] = NULL;
        text = strchr(name, '=');
        if (text == NULL || text == name)
            return fail_usage(in->options, "not NAME=TEXT", in->arguments[from + i]);
        *text++ = '\0';
        if (is_named(values, name))
            return fail_usage(in->options, "given more than once", name);
        values->values[i] = (struct prism_session_value){
            .name = name, .type = text_type, .bytes = pack_text(text, &values->bytes[i])};
    }
    return EXIT_DONE;
}

/* ---- printing ---- */

static void json_session(struct json *json, const struct prism_session *session, bool values)
{
    json_open(json, NULL, '{');
    json_text(json, "session_id", session->id);
    json_text(json, "user_id", session->user);
    json_text(json, "region", session->region);
    json_text(json, "client_id", session->client);
    json_int(json, "created_at_ms", session->created_at_ms);
    json_int(json, "used_at_ms", session->used_at_ms);
    json_int(json, "expires_at_ms", session->expires_at_ms);
    json_int(json, "version", session->version);
    if (values)
        json_open(json, "values", '[');
    for (size_t i = 0; values && i < session->value_count; i++) {
        struct prism_bytes text;
        bool is_text = unpack_text(&session->values[i], &text);

        json_open(json, NULL, '{');
        json_text(json, "name", session->values[i].name);
        json_text(json, "type", session->values[i].type);
        json_bytes(json, "value", is_text ? text : session->values[i].bytes);
        json_int(json, "version", session->values[i].version);
        json_close(json, '}');
    }
    if (values)
        json_close(json, ']');
    json_close(json, '}');
}

static void print_ms(const char *name, int64_t ms)
{
    time_t seconds = (time_t)(ms / MS_PER_S);
    struct tm tm;
    char text[32] = "?";

    if (gmtime_r(&seconds, &tm) != NULL)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    printf("%s %s", name, text);
}

static bool print_session(void *context, const struct prism_session *session)
{
    const struct options *options = context;
    struct json json = {.out = stdout};

    if (options->json) {
        json_session(&json, session, true);
        return true;
    }
    printf("user %s, region %s, client %s, version %lld\n",
           *session->user != '\0' ? session->user : "-",
           *session->region != '\0' ? session->region : "-",
           *session->client != '\0' ? session->client : "-", (long long)session->version);
    print_ms("created", session->created_at_ms);
    print_ms(", expires", session->expires_at_ms);
    putchar('\n');
    for (size_t i = 0; i < session->value_count; i++) {
        struct prism_bytes text;
        bool is_text = unpack_text(&session->values[i], &text);

        print_escaped(stdout,
                      prism_bytes_of(session->values[i].name, strlen(session->values[i].name)));
        putchar('=');
        print_escaped(stdout, is_text ? text : session->values[i].bytes);
        putchar('\n');
    }
    return true;
}

/* ---- commands ---- */

static void print_id(const struct options *options, const char *id, int64_t expires_at_ms,
                     int64_t ended)
{
    struct json json = {.out = stdout};

    if (!options->json) {
        printf("%s\n", id);
        if (ended > 0)
            fprintf(stderr, "%lld older sessions ended\n", (long long)ended);
        return;
    }
    json_open(&json, NULL, '{');
    json_text(&json, "session_id", id);
    if (expires_at_ms > 0)
        json_int(&json, "expires_at_ms", expires_at_ms);
    if (ended >= 0)
        json_int(&json, "ended", ended);
    json_close(&json, '}');
}

int command_session_create(const struct invocation *in)
{
    const struct options *o = in->options;
    struct prism_session_created created;
    struct open_sessions s;
    struct prism_error error;
    struct values values;
    int code = values_read(&values, in, 0);

    if (code == EXIT_DONE) {
        const struct prism_session_options options = {.user = o->user,
                                                      .region = o->region,
                                                      .client = o->client,
                                                      .ttl_s = o->ttl_s,
                                                      .values = values.values,
                                                      .value_count = values.n};

        code = open_sessions(&s, o);
        if (code == EXIT_DONE) {
            enum prism_code done = prism_session_create(s.sessions, &options, &created, &error);

            if (done == PRISM_OK)
                print_id(o, created.id, created.expires_at_ms, created.ended_count);
            code = end(&s, o, done, &error);
        } else {
            code = close_unopened(&s, code);
        }
    }
    values_free(&values);
    return code;
}

int command_session_get(const struct invocation *in)
{
    struct open_sessions s;
    struct prism_error error;
    int code = open_sessions(&s, in->options);

    if (code != EXIT_DONE)
        return close_unopened(&s, code);
    return end(&s, in->options,
               prism_session_get(s.sessions, in->arguments[0], in->options->touch, print_session,
                                 (void *)(uintptr_t)in->options, &error),
               &error);
}

static int update(const struct invocation *in, const struct prism_session_update *update)
{
    struct open_sessions s;
    struct prism_error error;
    int64_t version = 0;
    int code = open_sessions(&s, in->options);

    if (code != EXIT_DONE)
        return close_unopened(&s, code);

    enum prism_code done =
        prism_session_update(s.sessions, in->arguments[0], update, &version, &error);

    if (done == PRISM_OK && in->options->json) {
        struct json json = {.out = stdout};

        json_open(&json, NULL, '{');
        json_int(&json, "version", version);
        json_close(&json, '}');
    }
    return end(&s, in->options, done, &error);
}

int command_session_set(const struct invocation *in)
{
    struct values values;
    int code = values_read(&values, in, 1);

    if (code == EXIT_DONE)
        code =
            update(in, &(struct prism_session_update){.set = values.values, .set_count = values.n});
    values_free(&values);
    return code;
}

int command_session_unset(const struct invocation *in)
{
    return update(in, &(struct prism_session_update){.remove = in->arguments + 1,
                                                     .remove_count = in->count - 1});
}

int command_session_rotate(const struct invocation *in)
{
    char id[PRISM_SESSION_ID_BYTES];
    struct open_sessions s;
    struct prism_error error;
    int code = open_sessions(&s, in->options);

    if (code != EXIT_DONE)
        return close_unopened(&s, code);

    enum prism_code done = prism_session_rotate(s.sessions, in->arguments[0], id, &error);

    if (done == PRISM_OK)
        print_id(in->options, id, 0, -1);
    return end(&s, in->options, done, &error);
}

int command_session_extend(const struct invocation *in)
{
    struct open_sessions s;
    struct prism_error error;
    struct timespec now;
    uint64_t seconds;
    int64_t until = 0;
    int code;

    if (!read_number(in->arguments[1], UINT32_MAX, &seconds))
        return fail_usage(in->options, "not a number of seconds from 0 to 4294967295",
                          in->arguments[1]);
    clock_gettime(CLOCK_REALTIME, &now);
    code = open_sessions(&s, in->options);
    if (code != EXIT_DONE)
        return close_unopened(&s, code);

    enum prism_code done = prism_session_extend(
        s.sessions, in->arguments[0],
        ((int64_t)now.tv_sec + (int64_t)seconds) * MS_PER_S + now.tv_nsec / 1000000, &until,
        &error);

    if (done == PRISM_OK && in->options->json) {
        struct json json = {.out = stdout};

        json_open(&json, NULL, '{');
        json_int(&json, "expires_at_ms", until);
        json_close(&json, '}');
    } else if (done == PRISM_OK) {
        print_ms("expires", until);
        putchar('\n');
    }
    return end(&s, in->options, done, &error);
}

int command_session_end(const struct invocation *in)
{
    struct open_sessions s;
    struct prism_error error;
    bool existed = false;
    int code = open_sessions(&s, in->options);

    if (code != EXIT_DONE)
        return close_unopened(&s, code);

    enum prism_code done = prism_session_delete(s.sessions, in->arguments[0], &existed, &error);

    if (done == PRISM_OK && in->options->json) {
        struct json json = {.out = stdout};

        json_open(&json, NULL, '{');
        json_bool(&json, "existed", existed);
        json_close(&json, '}');
    } else if (done == PRISM_OK && !existed) {
        puts("absent");
    }
    code = end(&s, in->options, done, &error);
    return code == EXIT_DONE && !existed ? EXIT_NOT_FOUND : code;
}

int command_session_end_user(const struct invocation *in)
{
    struct open_sessions s;
    struct prism_error error;
    int64_t n = 0;
    int code = open_sessions(&s, in->options);

    if (code != EXIT_DONE)
        return close_unopened(&s, code);

    enum prism_code done =
        prism_session_delete_user(s.sessions, in->arguments[0], in->options->except, &n, &error);

    if (done == PRISM_OK && in->options->json) {
        struct json json = {.out = stdout};

        json_open(&json, NULL, '{');
        json_int(&json, "ended", n);
        json_close(&json, '}');
    } else if (done == PRISM_OK) {
        printf("%lld session%s ended\n", (long long)n, n == 1 ? "" : "s");
    }
    return end(&s, in->options, done, &error);
}

/* ---- list ---- */

struct listing {
    const struct options *options;
    struct json json;
    int64_t count;
};

static bool print_listed(void *context, const struct prism_session *session)
{
    struct listing *listing = context;

    if (listing->options->json) {
        json_session(&listing->json, session, false);
    } else {
        printf("%s  %-16s %-10s %-10s", session->id, *session->user != '\0' ? session->user : "-",
               *session->region != '\0' ? session->region : "-",
               *session->client != '\0' ? session->client : "-");
        print_ms(" expires", session->expires_at_ms);
        putchar('\n');
    }
    listing->count++;
    return listing->options->limit == 0 || listing->count < listing->options->limit;
}

int command_session_list(const struct invocation *in)
{
    const struct options *o = in->options;
    const struct prism_session_filter filter = {
        .user = o->user, .region = o->region, .client = o->client};
    struct listing listing = {.options = o, .json = {.out = stdout}};
    struct open_sessions s;
    struct prism_error error;
    int code = open_sessions(&s, o);

    if (code != EXIT_DONE)
        return close_unopened(&s, code);
    if (o->json)
        json_open(&listing.json, NULL, '[');

    enum prism_code done = prism_session_list(s.sessions, &filter, print_listed, &listing, &error);

    if (o->json)
        json_close(&listing.json, ']');
    return end(&s, o, done, &error);
}
