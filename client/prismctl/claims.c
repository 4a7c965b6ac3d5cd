/* prismctl claims ...: the objects of claim checks, by age. Each bears in its key when it was
 * written and when it may go, as the producer has named it:
 *
 *   claim/<32 digits>-<Unix time>-<Unix time, 0: never>
 *
 * Those that earlier versions wrote bear no times: they are listed, and never swept. */
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "prism/keyvalue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char prefix[] = "claim/";

enum { ID_DIGITS = 32, AT_ONCE = 100, MS_PER_S = 1000 };

struct times {
    bool known;
    int64_t written_s, expires_s; /* expires 0: never */
};

/* What stays whatever its age: lines of a file, sorted. */
struct referenced {
    char **keys;
    size_t n, room;
};

struct claims {
    const struct options *options;
    int64_t now_s, age_s; /* age -1: any */
    struct referenced referenced;
    struct json json;
    struct prism_scan *scan;

    /* sweep */
    struct session *session;
    size_t started; /* removals on their way */
    int64_t removed, kept, undated, failed;
    struct prism_error error; /* of the first that failed */
};

/* ---- reading ---- */

/* 7d, 12h, 30m, 45s, 45. */
static bool read_age(const char *text, int64_t *seconds)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t digits = strspn(text, "0123456789");
    char number[16];
    uint64_t value;

    if (digits == 0 || digits >= sizeof number)
        return false;
    memcpy(number, text, digits);
    number[digits] = '\0';
    if (!read_number(number, INT32_MAX, &value))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (text[digits] == units[i].letter && text[digits + 1] == '\0') {
            *seconds = (int64_t)value * units[i].seconds;
            return true;
        }
    }
    return false;
}

static bool read_time(const char **at, int64_t *time)
{
    char *end;

    if (**at != '-' || (*at)[1] < '0' || (*at)[1] > '9')
        return false;
    errno = 0;
    *time = strtoll(*at + 1, &end, 10);
    *at = end;
    return errno == 0;
}

static struct times times_of(const char *key)
{
    const char *at = key + strlen(prefix);
    struct times times = {.known = false};

    if (strspn(at, "0123456789abcdef") != ID_DIGITS)
        return times;
    at += ID_DIGITS;
    times.known =
        read_time(&at, &times.written_s) && read_time(&at, &times.expires_s) && *at == '\0';
    return times;
}

static bool is_old(const struct claims *claims, const struct times *times)
{
    if (claims->age_s < 0)
        return true;
    return times->known && times->written_s <= claims->now_s - claims->age_s;
}

/* ---- what is referred to ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add(struct referenced *referenced, const char *line, size_t len)
{
    if (referenced->n == referenced->room) {
        referenced->room = 2 * referenced->room + 1000;
        referenced->keys = realloc(referenced->keys, referenced->room * sizeof *referenced->keys);
        if (referenced->keys == NULL)
            abort();
    }
    referenced->keys[referenced->n] = strndup(line, len);
    if (referenced->keys[referenced->n++] == NULL)
        abort();
}

static int read_referenced(struct claims *claims)
{
    struct referenced *referenced = &claims->referenced;
    const char *name = claims->options->referenced;
    FILE *file = name != NULL ? fopen(name, "re") : NULL;
    char *line = NULL;
    size_t size = 0;
    bool whole;

    if (name == NULL)
        return EXIT_DONE;
    if (file == NULL)
        return fail_usage(claims->options, strerror(errno), name);
    while (getline(&line, &size, file) > 0)
        add(referenced, line, strcspn(line, "\r\n"));
    whole = ferror(file) == 0;
    free(line);
    fclose(file);
    if (referenced->n > 0)
        qsort(referenced->keys, referenced->n, sizeof *referenced->keys, compare);
    return whole ? EXIT_DONE : fail_usage(claims->options, "cannot be read to its end", name);
}

static bool is_referenced(const struct claims *claims, const char *key)
{
    const struct referenced *referenced = &claims->referenced;

    return referenced->n > 0 && bsearch(&key, referenced->keys, referenced->n,
                                        sizeof *referenced->keys, compare) != NULL;
}

static void referenced_clear(struct referenced *referenced)
{
    for (size_t i = 0; i < referenced->n; i++)
        free(referenced->keys[i]);
    free(referenced->keys);
}

/* ---- printing ---- */

static void print_time(const char *name, int64_t seconds)
{
    time_t time = (time_t)seconds;
    struct tm tm;
    char text[32] = "?";

    if (gmtime_r(&time, &tm) != NULL)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    printf("  %s %s", name, text);
}

static void json_time(struct json *json, const char *name, bool known, int64_t seconds)
{
    if (known)
        json_int(json, name, seconds * MS_PER_S);
    else
        json_null(json, name);
}

static void print_claim(struct claims *claims, const char *key, const struct times *times)
{
    bool expires = times->known && times->expires_s > 0;

    if (claims->options->json) {
        json_open(&claims->json, NULL, '{');
        json_text(&claims->json, "key", key);
        json_time(&claims->json, "written_at_ms", times->known, times->written_s);
        json_time(&claims->json, "expires_at_ms", expires, times->expires_s);
        json_close(&claims->json, '}');
        return;
    }
    print_escaped(stdout, prism_bytes_of(key, strlen(key)));
    if (times->known)
        print_time("written", times->written_s);
    else
        fputs("  undated", stdout);
    if (expires)
        print_time("expires", times->expires_s);
    putchar('\n');
}

/* ---- the walk ---- */

/* A producer's objects are keys of the same name's pattern keyvalue: who has no such namespace is
 * told. */
static int open_store(struct session *session, const struct options *options)
{
    int code = session_open(session, options);

    if ((code == EXIT_REFUSED || code == EXIT_UNSUPPORTED) && !options->json)
        fputs("prismctl: claims are read in a namespace of the pattern keyvalue that has the "
              "producer's name and object store\n",
              stderr);
    return code;
}

/* The age is looked at before anything is asked. Returns an exit code. */
static int begin(struct claims *claims, const struct invocation *in, struct session *session)
{
    const char *age = in->options->older_than;
    const struct prism_scan_options options = {.prefix = prefix};
    int code;

    *claims = (struct claims){.options = in->options,
                              .now_s = (int64_t)time(NULL),
                              .age_s = -1,
                              .json = {.out = stdout},
                              .session = session};
    *session = (struct session){0};
    if (age != NULL && !read_age(age, &claims->age_s))
        return fail_usage(in->options, "--older-than wants a time like 7d, 12h, 30m or 45s", age);
    code = read_referenced(claims);
    if (code == EXIT_DONE)
        code = open_store(session, in->options);
    if (code == EXIT_DONE &&
        prism_keyvalue_scan(session->keyvalue, &options, &claims->scan, &claims->error) != PRISM_OK)
        code = fail(in->options, &claims->error);
    return code;
}

static void finish(struct claims *claims)
{
    prism_scan_close(claims->scan);
    session_close(claims->session);
    referenced_clear(&claims->referenced);
}

int command_claims_list(const struct invocation *in)
{
    struct prism_scan_item item;
    struct session session;
    struct claims claims;
    int code = begin(&claims, in, &session);
    int64_t left = in->options->limit > 0 ? in->options->limit : INT64_MAX;

    if (code == EXIT_DONE) {
        claims.error.code = PRISM_OK;
        if (in->options->json)
            json_open(&claims.json, NULL, '[');
        while (left > 0 && prism_scan_next(claims.scan, &item, &claims.error)) {
            struct times times = times_of(item.key);

            if (!is_old(&claims, &times))
                continue;
            print_claim(&claims, item.key, &times);
            left--;
        }
        if (in->options->json)
            json_close(&claims.json, ']');
        if (claims.error.code != PRISM_OK)
            code = fail(in->options, &claims.error);
    }
    finish(&claims);
    return code;
}

/* ---- sweep ---- */

/* On the channel's thread; they are read behind prism_channel_wait. */
static void removed(void *context, const struct prism_error *error, bool existed)
{
    struct claims *claims = context;

    claims->removed += error->code == PRISM_OK && existed;
    if (error->code == PRISM_OK)
        return;
    if (claims->failed++ == 0)
        claims->error = *error;
}

static void settle(struct claims *claims)
{
    prism_channel_wait(claims->session->channel);
    claims->started = 0;
}

static void remove_one(struct claims *claims, const char *key)
{
    const struct prism_callback callback = {.fn.removed = removed, .context = claims};
    struct prism_error error;

    if (claims->options->dry_run) {
        claims->removed++;
        return;
    }
    if (claims->started++ == AT_ONCE) {
        settle(claims);
        claims->started = 1;
    }
    if (prism_keyvalue_remove_async(claims->session->keyvalue, key, NULL, callback, &error) ==
        PRISM_OK)
        return;
    settle(claims); /* what it counts is not touched meanwhile */
    removed(claims, &error, false);
}

static void sweep(struct claims *claims, struct prism_error *error)
{
    struct prism_scan_item item;

    while (prism_scan_next(claims->scan, &item, error)) {
        struct times times = times_of(item.key);

        if (!times.known)
            claims->undated++;
        else if (!is_old(claims, &times) || is_referenced(claims, item.key))
            claims->kept++;
        else
            remove_one(claims, item.key);
    }
    settle(claims);
}

static void print_swept(struct claims *claims)
{
    const char *word = claims->options->dry_run ? "would be removed" : "removed";

    if (!claims->options->json) {
        printf("%lld %s, %lld kept, %lld undated", (long long)claims->removed, word,
               (long long)claims->kept, (long long)claims->undated);
        if (claims->failed > 0)
            printf(", %lld failed", (long long)claims->failed);
        putchar('\n');
        return;
    }
    json_open(&claims->json, NULL, '{');
    json_int(&claims->json, "removed", claims->removed);
    json_int(&claims->json, "kept", claims->kept);
    json_int(&claims->json, "undated", claims->undated);
    json_int(&claims->json, "failed", claims->failed);
    json_bool(&claims->json, "dry_run", claims->options->dry_run);
    json_close(&claims->json, '}');
}

int command_claims_sweep(const struct invocation *in)
{
    struct prism_error error;
    struct session session;
    struct claims claims;
    int code;

    if (in->options->older_than == NULL)
        return fail_usage(in->options, "claims sweep wants --older-than", NULL);
    code = begin(&claims, in, &session);
    if (code == EXIT_DONE) {
        sweep(&claims, &error);
        print_swept(&claims);
        if (claims.failed > 0) {
            fail(in->options, &claims.error);
            code = EXIT_PARTIAL;
        }
        if (error.code != PRISM_OK)
            code = fail(in->options, &error);
    }
    finish(&claims);
    return code;
}
