/* prismctl: the command line of Prism. Finds the command that the options (options.c) leave, checks
 * what it was given, runs it. */
#include "client/prismctl/command.h"
#include "client/prismctl/options.h"
#include "src/base/openssl_exit.h"
#include "src/base/stdio_guard.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANY_NUMBER SIZE_MAX

STDIO_GUARD_FIRST;

const struct command commands[] = {
    {NULL, "caps", NULL, "", "the patterns that are served, and what each of them can do", 0, 0, 0,
     command_caps},
    {NULL, "publish", NULL, "TOPIC [MESSAGE]...", "publish messages, or the lines of --file", 1,
     ANY_NUMBER, TAKES_PUBLISH | TAKES_DELIMITED | TAKES_ATOMIC, command_publish},
    {NULL, "consume", NULL, "TOPIC", "print messages until Ctrl-C, --limit or --idle", 1, 1,
     TAKES_CONSUME | TAKES_READING | TAKES_LIMIT | TAKES_DELIMITED, command_consume},
    {"deadletters", "list", NULL, "TOPIC GROUP", "print dead letters; they stay", 2, 2,
     TAKES_READING | TAKES_LIMIT | TAKES_DELIMITED, command_deadletters_list},
    {"deadletters", "redrive", NULL, "TOPIC GROUP", "publish dead letters again", 2, 2, TAKES_LIMIT,
     command_deadletters_redrive},
    {NULL, "register", NULL, "IDENTITY [NAME=VALUE]...", "enter an identity with metadata", 1,
     ANY_NUMBER, TAKES_TTL | TAKES_REPLACE, command_register},
    {NULL, "unregister", NULL, "IDENTITY", "take an identity out", 1, 1, 0, command_unregister},
    {NULL, "enumerate", NULL, "", "list identities, or those of --filter", 0, 0,
     TAKES_FILTER | TAKES_LIMIT, command_enumerate},
    {NULL, "identity", NULL, "IDENTITY", "print an identity and its metadata", 1, 1, 0,
     command_identity},
    {NULL, "multicast", NULL, "PAYLOAD", "send to all identities, or those of --filter", 1, 1,
     TAKES_MULTICAST | TAKES_FILTER | TAKES_DRY_RUN, command_multicast},
    {NULL, "subscribe", NULL, "IDENTITY...", "print what is multicast to identities", 1, ANY_NUMBER,
     TAKES_LIMIT | TAKES_WHEN_FULL, command_subscribe},
    {"session", "create", NULL, "[NAME=TEXT]...", "begin a session; prints its identifier", 0,
     ANY_NUMBER, TAKES_TTL | TAKES_OWNER, command_session_create},
    {"session", "get", NULL, "ID", "print a session and its values", 1, 1, TAKES_TOUCH,
     command_session_get},
    {"session", "set", NULL, "ID NAME=TEXT...", "set values, all at once", 2, ANY_NUMBER, 0,
     command_session_set},
    {"session", "unset", NULL, "ID NAME...", "take values away", 2, ANY_NUMBER, 0,
     command_session_unset},
    {"session", "rotate", NULL, "ID", "give it another identifier", 1, 1, 0,
     command_session_rotate},
    {"session", "extend", NULL, "ID SECONDS", "let it last so long from now, at least", 2, 2, 0,
     command_session_extend},
    {"session", "end", NULL, "ID", "end a session", 1, 1, 0, command_session_end},
    {"session", "end-user", NULL, "USER", "end all sessions of a user", 1, 1, TAKES_EXCEPT,
     command_session_end_user},
    {"session", "list", NULL, "", "list sessions", 0, 0, TAKES_OWNER | TAKES_LIMIT,
     command_session_list},
    {"claims", "list", NULL, "", "list the objects of claim checks", 0, 0,
     TAKES_OLDER | TAKES_LIMIT, command_claims_list},
    {"claims", "sweep", NULL, "", "remove those that are --older-than an age", 0, 0,
     TAKES_OLDER | TAKES_REFERENCED | TAKES_DRY_RUN, command_claims_sweep},
    {NULL, "check", NULL, "FILE", "check a configuration; --probe connects to its backends", 1, 1,
     TAKES_PROBE, command_check},
    {"kv", "store", "put", "KEY [VALUE]", "write a value (-: standard input; or --value-file)", 1,
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
    {"kv", "scan", NULL, "[PREFIX]", "list keys, to the end or to --limit", 0, 1,
     TAKES_SCAN | TAKES_LIMIT, command_scan},
    {"kv", "count", NULL, "[PREFIX]", "count keys", 0, 1, 0, command_count},
    {"kv", "expire", NULL, "KEY SECONDS", "set the time until a key expires", 2, 2, 0,
     command_expire},
    {"kv", "ttl", NULL, "KEY", "seconds until a key expires", 1, 1, 0, command_ttl},
    {"kv", "persist", NULL, "KEY", "take a key's expiry away", 1, 1, 0, command_persist},
    {.name = NULL},
};

static void print_usage(FILE *out)
{
    char head[64];

    fputs("usage: prismctl [OPTION]... COMMAND [ARGUMENT]...\n\n", out);
    for (const struct command *c = commands; c->name != NULL; c++) {
        snprintf(head, sizeof head, "%s%s%s %s", c->group ? c->group : "", c->group ? " " : "",
                 c->name, c->arguments);
        fprintf(out, "  %-28s %s%s%s%s\n", head, c->summary, c->alias ? " (also: " : "",
                c->alias ? c->alias : "", c->alias ? ")" : "");
    }
    options_print(out);
    fputs(
        "\n"
        "exit codes: 0 done, 1 usage, 2 not found, 3 unavailable, 4 refused or invalid,\n"
        "5 unsupported, 6 deadline exceeded, 7 overloaded or full, 8 some items failed, 9 other\n",
        out);
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

static bool is_group(const char *name)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (c->group != NULL && strcmp(c->group, name) == 0)
            return true;
    }
    return false;
}

static int run(const struct line *line, const struct command *command, int argc, char **argv)
{
    struct invocation invocation = {
        .options = &line->options, .arguments = (const char *const *)argv, .count = (size_t)argc};
    const char *option;
    char text[64];
    int code;

    if (invocation.count < command->min_arguments || invocation.count > command->max_arguments) {
        snprintf(text, sizeof text, "%s %s", command->name, command->arguments);
        return line_complain(line, "wrong number of arguments for", text);
    }
    option = options_misplaced(line, command->takes);
    if (option != NULL) {
        snprintf(text, sizeof text, "--%s does not belong to", option);
        return line_complain(line, text, command->name);
    }
    /* gRPC's own log would stand between our lines. */
    setenv("GRPC_VERBOSITY", "NONE", 0);
    code = command->run(&invocation);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code != EXIT_OTHER) { /* else it is told */
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
    openssl_outlives_exit();
    code = options_parse(&line, argc, argv);
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
    if (argc > 0 && is_group(argv[0])) {
        group = *argv++;
        argc--;
    }
    if (argc == 0)
        return line_complain(&line, "no command", NULL);
    command = find_command(group, argv[0]);
    if (command == NULL)
        return line_complain(&line, "no such command", argv[0]);
    return run(&line, command, argc - 1, argv + 1);
}
