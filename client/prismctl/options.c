/* One row of the table for each option: what it wants, where it goes, which commands take it, and
 * its line of --help. */
#include "client/prismctl/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum kind {
    SWITCH,
    TEXT,
    NAME,    /* a text that is not empty */
    NUMBER,  /* uint32_t, from 1 */
    LONG,    /* int64_t, from 1 */
    SECONDS, /* uint32_t of milliseconds */
    OUTPUT,
    HEADER
};

struct row {
    const char *name;
    enum kind kind;
    size_t offset;  /* in struct line */
    unsigned takes; /* 0: every command does */
    const char *usage, *help;
    char letter;
    bool tls; /* implies --tls */
};

#define AT(member) offsetof(struct line, member)
#define COMMON(letter_, name_, kind_, member, usage_, help_)                                       \
    {                                                                                              \
        .letter = (letter_), .name = (name_), .kind = (kind_), .offset = AT(member),               \
        .usage = (usage_), .help = (help_)                                                         \
    }
#define TLS_FILE(name_, member)                                                                    \
    {                                                                                              \
        .name = (name_), .kind = NAME, .offset = AT(options.tls.member), .tls = true               \
    }
#define SOME(name_, kind_, member, takes_, usage_, help_)                                          \
    {                                                                                              \
        .name = (name_), .kind = (kind_), .offset = AT(options.member), .takes = (takes_),         \
        .usage = (usage_), .help = (help_)                                                         \
    }

static const struct row rows[] = {
    COMMON('s', "server", NAME, options.server, "HOST:PORT",
           "or unix:/PATH; default $PRISM_SERVER, else 127.0.0.1:8980"),
    COMMON('n', "namespace", NAME, options.namespace_name, "NAME",
           "default: the server's namespace \"default\""),
    COMMON('o', "output", OUTPUT, options.json, "table|json", ""),
    COMMON('t', "timeout", SECONDS, options.timeout_ms, "SECONDS",
           "of each call, decimals allowed; default 5, of publish 15"),
    COMMON(0, "tls", SWITCH, options.tls.enabled, "",
           "encrypt; --tls-ca FILE, --tls-cert FILE, --tls-key FILE,\n"
           "                           --tls-server-name NAME each imply it"),
    TLS_FILE("tls-ca", ca_file),
    TLS_FILE("tls-cert", cert_file),
    TLS_FILE("tls-key", key_file),
    TLS_FILE("tls-server-name", server_name),
    COMMON('h', "help", SWITCH, help, "", ""),
    COMMON(0, "version", SWITCH, version, "", ""),
    SOME("ttl", LONG, ttl_s, TAKES_TTL, "SECONDS",
         "(store, store-batch, register, create) time until it expires"),
    SOME("if-absent", SWITCH, if_absent, TAKES_PRECONDITION, "",
         "(store) only if there is no such key"),
    SOME("if-version", TEXT, if_version, TAKES_PRECONDITION, "BASE64",
         "(store) only over this version"),
    SOME("value-file", NAME, value_file, TAKES_VALUE_FILE, "FILE",
         "(store) the value's bytes; - is standard input"),
    SOME("with-version", SWITCH, with_version, TAKES_WITH_VERSION, "",
         "(retrieve) the version, too"),
    SOME("values", SWITCH, values, TAKES_SCAN, "", "(scan) values, too"),
    SOME("limit", LONG, limit, TAKES_LIMIT, "N",
         "(scan, consume, subscribe, enumerate, deadletters, session list, claims list)\n"
         "                           stop after so many"),
    SOME("page-size", NUMBER, page_size, TAKES_SCAN, "N", "(scan) keys fetched at a time"),
    SOME("atomic", SWITCH, atomic, TAKES_ATOMIC, "",
         "(batches that write, publish) all or nothing"),
    SOME("probe", SWITCH, probe, TAKES_PROBE, "", "(check) connect to the backends"),
    SOME("file", NAME, file, TAKES_PUBLISH, "FILE",
         "(publish) a message a line; - is standard input, the default"),
    SOME("key", TEXT, key, TAKES_PUBLISH, "KEY",
         "(publish) messages with the same key keep their order"),
    SOME("header", HEADER, headers, TAKES_PUBLISH, "NAME=VALUE", "(publish) once for each header"),
    SOME("delimited", SWITCH, delimited, TAKES_DELIMITED, "",
         "(publish, consume) messages with their length before them, four bytes,\n"
         "                           the highest first, instead of lines"),
    SOME("group", NAME, group, TAKES_CONSUME, "NAME",
         "(consume) as a member of this group; default: the namespace's"),
    SOME("from", NAME, from, TAKES_CONSUME, "WHERE",
         "(consume) committed (default), earliest or latest"),
    SOME("per-key", SWITCH, per_key, TAKES_CONSUME, "",
         "(consume) messages of one key one after the other"),
    SOME("keep", SWITCH, keep, TAKES_CONSUME, "",
         "(consume) give the messages back when the command ends"),
    SOME("idle", SECONDS, idle_ms, TAKES_READING, "SECONDS",
         "(consume, deadletters list) end when nothing came for so long"),
    SOME("replace", SWITCH, replace, TAKES_REPLACE, "", "(register) in place of one that is there"),
    SOME("filter", NAME, filter, TAKES_FILTER, "JSON",
         "(multicast, enumerate) to those that match: {\"city\": \"Oslo\"}"),
    SOME("max-targets", LONG, max_targets, TAKES_MULTICAST, "N",
         "(multicast) send nothing if more match"),
    SOME("rate", NUMBER, rate, TAKES_MULTICAST, "N", "(multicast) so many a second at most"),
    SOME("dry-run", SWITCH, dry_run, TAKES_DRY_RUN, "",
         "(multicast, claims sweep) count, and send or remove nothing"),
    SOME("older-than", NAME, older_than, TAKES_OLDER, "AGE",
         "(claims) written so long ago: 7d, 12h, 30m, 45s"),
    SOME("referenced", NAME, referenced, TAKES_REFERENCED, "FILE",
         "(claims sweep) keys, one a line, that stay whatever their age"),
    SOME("when-full", NAME, when_full, TAKES_WHEN_FULL, "POLICY",
         "(subscribe) if it is too slow: drop-oldest, drop-newest, latest-per-key\n"
         "                           or end-stream; default: the namespace's"),
    SOME("user", NAME, user, TAKES_OWNER, "USER", "(session create, list) whose it is"),
    SOME("region", NAME, region, TAKES_OWNER, "REGION", "(session create, list)"),
    SOME("client", NAME, client, TAKES_OWNER, "CLIENT", "(session create, list) the device"),
    SOME("except", NAME, except, TAKES_EXCEPT, "ID", "(session end-user) this one stays"),
    SOME("touch", SWITCH, touch, TAKES_TOUCH, "", "(session get) counts as use of the session"),
    SOME("batch", NUMBER, batch, TAKES_PUBLISH, "N", "(publish) messages a call; default 100"),
};

enum { ROWS = sizeof rows / sizeof rows[0], FIRST_ID = 256 };

_Static_assert(ROWS <= 64, "struct line has a bit for each");

static const char *wanted_by(const struct row *row)
{
    switch (row->kind) {
    case SECONDS:
        return "a number of seconds from 0.001 to 86400";
    case LONG:
        return row->takes == TAKES_TTL ? "a whole number of seconds, at least 1"
                                       : "a whole number, at least 1";
    case NUMBER:
        return "a whole number from 1 to 2147483647";
    case OUTPUT:
        return "table or json";
    case HEADER:
        return "NAME=VALUE, at most 64 times";
    default:
        return "a text that is not empty";
    }
}

/* Only digits, and not good for all that: it is too large. */
static const char *wanted_not(const struct row *row, const char *text)
{
    bool digits = *text != '\0' && text[strspn(text, "0123456789")] == '\0';

    return row->kind == LONG && digits && text[strspn(text, "0")] != '\0'
               ? "at most 9223372036854775807"
               : wanted_by(row);
}

/* ---- values ---- */

bool read_number(const char *text, uint64_t max, uint64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && text[0] >= '0' && text[0] <= '9' && *number <= max;
}

static bool take_seconds(const char *text, uint32_t *ms)
{
    char *end;
    double seconds = strtod(text, &end);

    if (*end != '\0' || end == text || !isfinite(seconds) || seconds < 0.001 || seconds > 86400)
        return false;
    *ms = (uint32_t)(seconds * 1000);
    return true;
}

static bool take_header(struct options *options, const char *text)
{
    if (options->header_count == MOST_HEADERS)
        return false;
    options->headers[options->header_count++] = text;
    return true;
}

static bool take_output(const char *text, bool *json)
{
    *json = strcmp(text, "json") == 0;
    return *json || strcmp(text, "table") == 0;
}

/* False: not a good value. */
static bool take(struct line *line, const struct row *row, const char *text)
{
    void *to = (char *)line + row->offset;
    uint64_t number;

    line->given |= (uint64_t)1 << (row - rows);
    line->options.tls.enabled = line->options.tls.enabled || row->tls;
    switch (row->kind) {
    case SWITCH:
        *(bool *)to = true;
        return true;
    case TEXT:
    case NAME:
        *(const char **)to = text;
        return row->kind == TEXT || *text != '\0';
    case NUMBER:
        if (!read_number(text, INT32_MAX, &number) || number == 0)
            return false;
        *(uint32_t *)to = (uint32_t)number;
        return true;
    case LONG:
        if (!read_number(text, INT64_MAX, &number) || number == 0)
            return false;
        *(int64_t *)to = (int64_t)number;
        return true;
    case SECONDS:
        return take_seconds(text, to);
    case OUTPUT:
        return take_output(text, to);
    default:
        return take_header(&line->options, text);
    }
}

/* ---- the line ---- */

int line_complain(const struct line *line, const char *what, const char *about)
{
    struct prism_error error = {.code = PRISM_INVALID_ARGUMENT};

    snprintf(error.message, sizeof error.message, "%s%s%s; see prismctl --help", what,
             about ? ": " : "", about ? about : "");
    if (line->options.json)
        fail(&line->options, &error);
    else
        fprintf(stderr, "prismctl: %s\n", error.message);
    return EXIT_USAGE;
}

static const struct row *row_of(int id)
{
    for (int i = 0; i < ROWS; i++) {
        if (id == FIRST_ID + i || (rows[i].letter != 0 && id == rows[i].letter))
            return &rows[i];
    }
    return NULL;
}

/* What getopt found wrong: ':' = the value of option `optopt` is missing. `word` is where it stood.
 */
static void note_misuse(struct line *line, int id, const char *word)
{
    const struct row *row = optopt != 0 ? row_of(optopt) : NULL;

    if (id == ':' && row != NULL)
        snprintf(line->fault, sizeof line->fault, "--%s wants %s", row->name, wanted_by(row));
    else if (row != NULL)
        snprintf(line->fault, sizeof line->fault, "--%s takes no value", row->name);
    else if (optopt != 0)
        snprintf(line->fault, sizeof line->fault,
                 "no such option: -%c; what begins with a dash and is none stands behind --",
                 optopt);
    else
        snprintf(line->fault, sizeof line->fault, "no such option, or not a unique one: %s", word);
}

static void make_getopt(struct option *options, char *letters)
{
    *letters++ = ':';
    for (int i = 0; i < ROWS; i++) {
        options[i] =
            (struct option){.name = rows[i].name,
                            .has_arg = rows[i].kind == SWITCH ? no_argument : required_argument,
                            .val = FIRST_ID + i};
        if (rows[i].letter == 0)
            continue;
        *letters++ = rows[i].letter;
        if (rows[i].kind != SWITCH)
            *letters++ = ':';
    }
    *letters = '\0';
}

int options_parse(struct line *line, int argc, char **argv)
{
    const char *server = getenv("PRISM_SERVER");
    struct option options[ROWS + 1] = {{NULL, 0, NULL, 0}};
    char letters[2 * ROWS + 2];
    int id;

    *line = (struct line){0};
    line->options.server = server != NULL && *server != '\0' ? server : "127.0.0.1:8980";
    make_getopt(options, letters);
    while ((id = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        bool misuse = id == '?' || id == ':';
        const struct row *row = misuse ? NULL : row_of(id);

        if (!misuse && take(line, row, optarg))
            continue;
        if (line->fault[0] != '\0')
            continue;
        if (misuse)
            note_misuse(line, id, argv[optind - 1]);
        else
            snprintf(line->fault, sizeof line->fault, "--%s wants %s, not: %s", row->name,
                     wanted_not(row, optarg), optarg);
    }
    return line->fault[0] == '\0' ? EXIT_DONE : line_complain(line, line->fault, NULL);
}

const char *options_misplaced(const struct line *line, unsigned takes)
{
    for (int i = 0; i < ROWS; i++) {
        if ((line->given >> i & 1) != 0 && rows[i].takes != 0 && (rows[i].takes & takes) == 0)
            return rows[i].name;
    }
    return NULL;
}

static void print_row(FILE *out, const struct row *row)
{
    char head[64];

    if (row->usage == NULL)
        return;
    if (row->letter != 0)
        snprintf(head, sizeof head, "-%c, --%s %s", row->letter, row->name, row->usage);
    else
        snprintf(head, sizeof head, "    --%s %s", row->name, row->usage);
    if (*row->help == '\0')
        fprintf(out, "  %.*s\n", (int)strcspn(head, "\n") - (*row->usage == '\0'), head);
    else
        fprintf(out, "  %-24s %s\n", head, row->help);
}

void options_print(FILE *out)
{
    fputs("\nof all commands:\n", out);
    for (int i = 0; i < ROWS; i++) {
        if (i > 0 && rows[i].takes != 0 && rows[i - 1].takes == 0)
            fputs("of some commands:\n", out);
        print_row(out, &rows[i]);
    }
}
