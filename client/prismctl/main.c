/* prismctl: the command line of Prism. Parses options (anywhere on the line), finds the command,
 * checks what it was given, runs it. */
#include "client/prismctl/command.h"
#include "src/base/stdio_guard.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANY_NUMBER SIZE_MAX

STDIO_GUARD_FIRST;

const struct command commands[] = {
    {NULL, "caps", NULL, "", "what the server's backend can do, and how", 0, 0, 0, command_caps},
    {NULL, "publish", NULL, "TOPIC [MESSAGE]...", "publish messages, or the lines of --file", 1,
     ANY_NUMBER, TAKES_PUBLISH, command_publish},
    {NULL, "check", NULL, "FILE", "check a configuration; --probe connects to its backends", 1, 1,
     TAKES_PROBE, command_check},
    {"kv", "store", "put", "KEY [VALUE]", "write a value (or --value-file, or standard input)", 1,
     2, TAKES_TTL | TAKES_PRECONDITION | TAKES_VALUE_FILE, command_store},
    {"kv", "retrieve", "get", "KEY", "print a value as it is", 1, 1, TAKES_WITH_VERSION,
     command_retrieve},
    {"kv", "remove", "delete", "KEY", "remove a key", 1, 1, 0, command_remove},
    {"kv", "exists", NULL, "KEY", "exit code 0 if present, 2 if not", 1, 1, 0, command_exists},
    {"kv", "store-batch", "put-batch", "KEY=VALUE...", "write several values", 1, ANY_NUMBER,
     TAKES_TTL | TAKES_ATOMIC, command_store_batch},
    {"kv", "retrieve-batch", "get-batch", "KEY...", "print several values", 1, ANY_NUMBER, 0,
     command_retrieve_batch},
    {"kv", "remove-batch", "delete-batch", "KEY...", "remove several keys", 1, ANY_NUMBER,
     TAKES_ATOMIC, command_remove_batch},
    {"kv", "scan", NULL, "[PREFIX]", "list keys, to the end or to --limit", 0, 1, TAKES_SCAN,
     command_scan},
    {"kv", "count", NULL, "[PREFIX]", "count keys", 0, 1, 0, command_count},
    {"kv", "expire", NULL, "KEY SECONDS", "set the time until a key expires", 2, 2, 0,
     command_expire},
    {"kv", "ttl", NULL, "KEY", "seconds until a key expires", 1, 1, 0, command_ttl},
    {"kv", "persist", NULL, "KEY", "take a key's expiry away", 1, 1, 0, command_persist},
    {.name = NULL},
};

enum option_id {
    OPTION_HELP = 'h',
    OPTION_SERVER = 's',
    OPTION_NAMESPACE = 'n',
    OPTION_OUTPUT = 'o',
    OPTION_TIMEOUT = 't',
    OPTION_FIRST_LONG = 256,
    OPTION_VERSION = OPTION_FIRST_LONG,
    OPTION_TLS,
    OPTION_TLS_CA,
    OPTION_TLS_CERT,
    OPTION_TLS_KEY,
    OPTION_TLS_NAME,
    OPTION_TTL,
    OPTION_IF_ABSENT,
    OPTION_IF_VERSION,
    OPTION_VALUE_FILE,
    OPTION_WITH_VERSION,
    OPTION_VALUES,
    OPTION_LIMIT,
    OPTION_PAGE_SIZE,
    OPTION_ATOMIC,
    OPTION_PROBE,
    OPTION_FILE,
    OPTION_KEY,
    OPTION_HEADER,
    OPTION_BATCH,
    OPTION_END
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"server", required_argument, NULL, OPTION_SERVER},
    {"namespace", required_argument, NULL, OPTION_NAMESPACE},
    {"output", required_argument, NULL, OPTION_OUTPUT},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"tls", no_argument, NULL, OPTION_TLS},
    {"tls-ca", required_argument, NULL, OPTION_TLS_CA},
    {"tls-cert", required_argument, NULL, OPTION_TLS_CERT},
    {"tls-key", required_argument, NULL, OPTION_TLS_KEY},
    {"tls-server-name", required_argument, NULL, OPTION_TLS_NAME},
    {"ttl", required_argument, NULL, OPTION_TTL},
    {"if-absent", no_argument, NULL, OPTION_IF_ABSENT},
    {"if-version", required_argument, NULL, OPTION_IF_VERSION},
    {"value-file", required_argument, NULL, OPTION_VALUE_FILE},
    {"with-version", no_argument, NULL, OPTION_WITH_VERSION},
    {"values", no_argument, NULL, OPTION_VALUES},
    {"limit", required_argument, NULL, OPTION_LIMIT},
    {"page-size", required_argument, NULL, OPTION_PAGE_SIZE},
    {"atomic", no_argument, NULL, OPTION_ATOMIC},
    {"probe", no_argument, NULL, OPTION_PROBE},
    {"file", required_argument, NULL, OPTION_FILE},
    {"key", required_argument, NULL, OPTION_KEY},
    {"header", required_argument, NULL, OPTION_HEADER},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {NULL, 0, NULL, 0},
};

/* What the command line says besides the options of commands. */
struct line {
    struct options options;
    bool given[OPTION_END - OPTION_FIRST_LONG];
    bool help, version;
    char fault[256]; /* the first thing wrong with an option; "": nothing */
};

static const char usage_head[] = "usage: prismctl [OPTION]... COMMAND [ARGUMENT]...\n"
                                 "\n";

static const char usage_tail[] =
    "\n"
    "of all commands:\n"
    "  -s, --server HOST:PORT   or unix:/PATH; default $PRISM_SERVER, else 127.0.0.1:8980\n"
    "  -n, --namespace NAME     default: the server's namespace \"default\"\n"
    "  -o, --output table|json\n"
    "  -t, --timeout SECONDS    of each call, decimals allowed; default 5\n"
    "      --tls                encrypt; --tls-ca FILE, --tls-cert FILE, --tls-key FILE,\n"
    "                           --tls-server-name NAME each imply it\n"
    "  -h, --help; --version\n"
    "of some commands:\n"
    "      --ttl SECONDS        (store, store-batch) time until the item expires\n"
    "      --if-absent          (store) only if there is no such key\n"
    "      --if-version BASE64  (store) only over this version\n"
    "      --value-file FILE    (store) the value's bytes; - is standard input\n"
    "      --with-version       (retrieve) the version, too\n"
    "      --values             (scan) values, too\n"
    "      --limit N            (scan) stop after N keys\n"
    "      --page-size N        (scan) keys fetched at a time\n"
    "      --atomic             (batches that write) all or nothing\n"
    "      --probe              (check) connect to the backends\n"
    "      --file FILE          (publish) a message a line; - is standard input, the default\n"
    "      --key KEY            (publish) messages with the same key keep their order\n"
    "      --header NAME=VALUE  (publish) once for each header\n"
    "      --batch N            (publish) messages a call; default 100\n"
    "\n"
    "exit codes: 0 done, 1 usage, 2 not found, 3 unavailable, 4 refused or invalid,\n"
    "5 unsupported, 6 deadline exceeded, 7 overloaded or full, 8 some items failed, 9 other\n";

static void print_usage(FILE *out)
{
    char head[64];

    fputs(usage_head, out);
    for (const struct command *c = commands; c->name != NULL; c++) {
        snprintf(head, sizeof head, "%s%s%s %s", c->group ? c->group : "", c->group ? " " : "",
                 c->name, c->arguments);
        fprintf(out, "  %-28s %s%s%s%s\n", head, c->summary, c->alias ? " (also: " : "",
                c->alias ? c->alias : "", c->alias ? ")" : "");
    }
    fputs(usage_tail, out);
}

/* The exit code is that of wrong usage, also when the error is a JSON document. */
static int complain(const struct line *line, const char *what, const char *about)
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

bool read_number(const char *text, uint64_t max, uint64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && text[0] >= '0' && text[0] <= '9' && *number <= max;
}

static bool read_timeout(const char *text, uint32_t *timeout_ms)
{
    char *end;
    double seconds = strtod(text, &end);

    if (*end != '\0' || end == text || !isfinite(seconds) || seconds < 0.001 || seconds > 86400)
        return false;
    *timeout_ms = (uint32_t)(seconds * 1000);
    return true;
}

/* Options with a number. False: not a good one. */
static bool take_number(struct options *options, int id, const char *text)
{
    uint64_t number;

    if (id == OPTION_TIMEOUT)
        return read_timeout(text, &options->timeout_ms);
    if (!read_number(text, id == OPTION_TTL ? INT64_MAX : INT32_MAX, &number) || number == 0)
        return false;
    if (id == OPTION_TTL)
        options->ttl_s = (int64_t)number;
    else if (id == OPTION_BATCH)
        options->batch = (uint32_t)number;
    else if (id == OPTION_LIMIT)
        options->limit = number;
    else
        options->page_size = (uint32_t)number;
    return true;
}

static bool take_tls(struct prism_tls *tls, int id, const char *text)
{
    const char **slot = id == OPTION_TLS_CA     ? &tls->ca_file
                        : id == OPTION_TLS_CERT ? &tls->cert_file
                        : id == OPTION_TLS_KEY  ? &tls->key_file
                                                : &tls->server_name;

    tls->enabled = true;
    if (id != OPTION_TLS)
        *slot = text;
    return true;
}

static bool take_output(struct options *options, const char *text)
{
    options->json = strcmp(text, "json") == 0;
    return options->json || strcmp(text, "table") == 0;
}

static unsigned takes_of(int id)
{
    switch (id) {
    case OPTION_TTL:
        return TAKES_TTL;
    case OPTION_IF_ABSENT:
    case OPTION_IF_VERSION:
        return TAKES_PRECONDITION;
    case OPTION_VALUE_FILE:
        return TAKES_VALUE_FILE;
    case OPTION_WITH_VERSION:
        return TAKES_WITH_VERSION;
    case OPTION_VALUES:
    case OPTION_LIMIT:
    case OPTION_PAGE_SIZE:
        return TAKES_SCAN;
    case OPTION_ATOMIC:
        return TAKES_ATOMIC;
    case OPTION_PROBE:
        return TAKES_PROBE;
    case OPTION_FILE:
    case OPTION_KEY:
    case OPTION_HEADER:
    case OPTION_BATCH:
        return TAKES_PUBLISH;
    default:
        return 0;
    }
}

static void take_switch(struct line *line, int id)
{
    struct options *options = &line->options;

    line->help = line->help || id == OPTION_HELP;
    line->version = line->version || id == OPTION_VERSION;
    options->if_absent = options->if_absent || id == OPTION_IF_ABSENT;
    options->with_version = options->with_version || id == OPTION_WITH_VERSION;
    options->values = options->values || id == OPTION_VALUES;
    options->atomic = options->atomic || id == OPTION_ATOMIC;
    options->probe = options->probe || id == OPTION_PROBE;
}

static bool take_header(struct options *options, const char *text)
{
    if (options->header_count == MOST_HEADERS)
        return false;
    options->headers[options->header_count++] = text;
    return true;
}

static bool take_option(struct line *line, int id, const char *text)
{
    struct options *options = &line->options;

    if (id >= OPTION_FIRST_LONG)
        line->given[id - OPTION_FIRST_LONG] = true;
    switch (id) {
    case OPTION_SERVER:
        options->server = text;
        return *text != '\0';
    case OPTION_NAMESPACE:
        options->namespace_name = text;
        return *text != '\0';
    case OPTION_IF_VERSION:
        options->if_version = text;
        return true;
    case OPTION_VALUE_FILE:
        options->value_file = text;
        return *text != '\0';
    case OPTION_FILE:
        options->file = text;
        return *text != '\0';
    case OPTION_KEY:
        options->key = text;
        return true;
    case OPTION_HEADER:
        return take_header(options, text);
    case OPTION_OUTPUT:
        return take_output(options, text);
    case OPTION_TIMEOUT:
    case OPTION_TTL:
    case OPTION_LIMIT:
    case OPTION_PAGE_SIZE:
    case OPTION_BATCH:
        return take_number(options, id, text);
    case OPTION_TLS:
    case OPTION_TLS_CA:
    case OPTION_TLS_CERT:
    case OPTION_TLS_KEY:
    case OPTION_TLS_NAME:
        return take_tls(&options->tls, id, text);
    default:
        take_switch(line, id);
        return true;
    }
}

static const char *name_of(int id)
{
    for (const struct option *o = long_options; o->name != NULL; o++) {
        if (o->val == id)
            return o->name;
    }
    return NULL;
}

static const char *wanted_by(int id)
{
    switch (id) {
    case OPTION_TIMEOUT:
        return "a number of seconds from 0.001 to 86400";
    case OPTION_TTL:
        return "a whole number of seconds, at least 1";
    case OPTION_LIMIT:
    case OPTION_PAGE_SIZE:
    case OPTION_BATCH:
        return "a whole number from 1 to 2147483647";
    case OPTION_OUTPUT:
        return "table or json";
    case OPTION_HEADER:
        return "NAME=VALUE, at most 64 times";
    default:
        return "a text that is not empty";
    }
}

/* What getopt found wrong: ':' = the value of option `optopt` is missing. `word` is where it stood.
 */
static void note_misuse(struct line *line, int id, const char *word)
{
    const char *name = optopt != 0 ? name_of(optopt) : NULL;

    if (id == ':' && name != NULL)
        snprintf(line->fault, sizeof line->fault, "--%s wants %s", name, wanted_by(optopt));
    else if (name != NULL)
        snprintf(line->fault, sizeof line->fault, "--%s takes no value", name);
    else if (optopt != 0)
        snprintf(line->fault, sizeof line->fault,
                 "no such option: -%c; what begins with a dash and is none stands behind --",
                 optopt);
    else
        snprintf(line->fault, sizeof line->fault, "no such option, or not a unique one: %s", word);
}

/* Moves the options to the front; optind is then the first argument. Goes on after a fault, since
 * --output behind it decides how it is told. Returns an exit code. */
static int parse(struct line *line, int argc, char **argv)
{
    const char *server = getenv("PRISM_SERVER");
    int id;

    *line = (struct line){0};
    line->options.server = server != NULL && *server != '\0' ? server : "127.0.0.1:8980";
    while ((id = getopt_long(argc, argv, ":hs:n:o:t:", long_options, NULL)) != -1) {
        bool misuse = id == '?' || id == ':';

        if (!misuse && take_option(line, id, optarg))
            continue;
        if (line->fault[0] != '\0')
            continue;
        if (misuse)
            note_misuse(line, id, argv[optind - 1]);
        else
            snprintf(line->fault, sizeof line->fault, "--%s wants %s, not: %s", name_of(id),
                     wanted_by(id), optarg);
    }
    return line->fault[0] == '\0' ? EXIT_DONE : complain(line, line->fault, NULL);
}

static bool is_called(const struct command *command, const char *name)
{
    return strcmp(command->name, name) == 0 ||
           (command->alias != NULL && strcmp(command->alias, name) == 0);
}

static const struct command *find_command(const char *group, const char *name)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        bool same_group =
            group == NULL ? c->group == NULL : c->group != NULL && strcmp(c->group, group) == 0;

        if (same_group && is_called(c, name))
            return c;
    }
    return NULL;
}

/* The first option given that the command does not take; NULL: none. */
static const char *misplaced(const struct line *line, const struct command *command)
{
    for (int id = OPTION_FIRST_LONG; id < OPTION_END; id++) {
        if (line->given[id - OPTION_FIRST_LONG] && (takes_of(id) & ~command->takes) != 0)
            return name_of(id);
    }
    return NULL;
}

static int run(const struct line *line, const struct command *command, int argc, char **argv)
{
    struct invocation invocation = {
        .options = &line->options, .arguments = (const char *const *)argv, .count = (size_t)argc};
    const char *option;
    char text[64];
    int code;

    if (invocation.count < command->min_arguments || invocation.count > command->max_arguments)
        return complain(line, "wrong number of arguments for", command->name);
    option = misplaced(line, command);
    if (option != NULL) {
        snprintf(text, sizeof text, "--%s does not belong to", option);
        return complain(line, text, command->name);
    }
    /* gRPC's own log would stand between our lines. */
    setenv("GRPC_VERBOSITY", "NONE", 0);
    code = command->run(&invocation);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("prismctl: standard output");
        return EXIT_OTHER;
    }
    return code;
}

int main(int argc, char **argv)
{
    struct line line;
    const struct command *command;
    const char *group = NULL;
    int code;

    stdio_guard();
    code = parse(&line, argc, argv);
    argc -= optind;
    argv += optind;
    if (code != EXIT_DONE)
        return code;
    if (line.version) {
        printf("prismctl %s\n", prism_version());
        return EXIT_DONE;
    }
    if (line.help || (argc > 0 && strcmp(argv[0], "help") == 0)) {
        print_usage(stdout);
        return EXIT_DONE;
    }
    if (argc > 0 && strcmp(argv[0], "kv") == 0) {
        group = *argv++;
        argc--;
    }
    if (argc == 0)
        return complain(&line, "no command", NULL);
    command = find_command(group, argv[0]);
    if (command == NULL)
        return complain(&line, "no such command", argv[0]);
    return run(&line, command, argc - 1, argv + 1);
}
