/* prismd: serve until told to stop. Exit codes: 0 clean, 1 it could not start or serve, 2 wrong
 * usage, 3 the drain's time was up and calls were cancelled. */
#include "backends/backend.h"
#include "patterns/pattern.h"
#include "src/base/log.h"
#include "src/base/openssl_exit.h"
#include "src/base/stdio_guard.h"
#include "src/config/config.h"
#include "src/rpc/tls_set.h"
#include "src/server.h"
#include "src/signals.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

STDIO_GUARD_FIRST;

static const struct config_catalog catalog = {.find_backend = backend_find,
                                              .all_backends = backend_all,
                                              .find_pattern = pattern_find,
                                              .all_patterns = pattern_all,
                                              .interface_name = backend_interface_name,
                                              .interface_key = backend_interface_key,
                                              .offers = backend_offers,
                                              .try_tls = tls_set_try,
                                              .pem_fault = tls_set_fault};

static const char usage[] =
    "usage: prismd [--config FILE]\n"
    "\n"
    "Without a file: all patterns on the embedded store at 127.0.0.1:8980, metrics and\n"
    "health at http://127.0.0.1:9090. Check a file: prismctl check FILE\n"
    "\n"
    "  -c, --config FILE  configuration (docs/configuration.md)\n"
    "      --version\n"
    "  -h, --help\n"
    "\n"
    "Exit codes: 0 clean, 1 it could not start or serve, 2 wrong usage, 3 the time of\n"
    "the drain was up and calls were cancelled.\n";

enum { EXIT_CLEAN, EXIT_FAILED, EXIT_USAGE, EXIT_ABANDONED };

static int serve(const char *path)
{
    struct config config = {0};
    struct faults faults;
    struct server *server = NULL;

    faults_init(&faults);

    struct err err = config_load(&config, path, &catalog, &faults);

    if (err.code == ERR_OK) {
        log_configure(config.log_level, STDERR_FILENO);
        signals_hold();
        err = server_new(&server, &config);
    } else {
        faults_log(&faults);
        log_event(LOG_ERROR, "not_configured", LOG_S("file", path));
    }
    if (err.code == ERR_OK)
        err = server_run(server);
    if (err.code != ERR_OK)
        log_event(LOG_ERROR, "stopped", LOG_S("error", err.text), LOG_S("about", err.subject));
    server_destroy(server);
    config_clear(&config);
    faults_clear(&faults);
    if (err.code == ERR_DEADLINE_EXCEEDED)
        return EXIT_ABANDONED;
    return err.code == ERR_OK ? EXIT_CLEAN : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    const char *path = NULL;

    signals_begin();
    stdio_guard();
    openssl_outlives_exit();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return EXIT_CLEAN;
        }
        if (strcmp(argv[i], "--version") == 0) {
            puts("prismd " PRISM_VERSION);
            return EXIT_CLEAN;
        }
        if ((strcmp(argv[i], "--config") == 0 || strcmp(argv[i], "-c") == 0) && i + 1 < argc) {
            path = argv[++i];
            continue;
        }
        fprintf(stderr, "prismd: unknown argument, or one that lacks its value: %s\n%s", argv[i],
                usage);
        return EXIT_USAGE;
    }
    return serve(path);
}
