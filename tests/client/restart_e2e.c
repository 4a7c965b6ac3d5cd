/* A client that lives through restarts of the server at PRISM_SERVER, which whoever started this
 * program carries out. Two parts, chosen by the argument:
 *
 *   idle   says "ready" and waits for a line; meanwhile the server is restarted. The first write
 *          after that must succeed: a client that has not looked at its socket would send it into
 *          the void.
 *   busy   says "ready" and reads and writes until its standard input ends. Reads must all succeed.
 *          A write may fail only with PRISM_UNAVAILABLE and `retryable` false: its outcome is
 *          unknown.
 *
 * Exit code 0: all was as it should be; the last line says how many calls there were. */
#include "prism/keyvalue.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SKIPPED = 77 };

struct client {
    struct prism_channel *channel;
    struct prism_keyvalue *keyvalue;
    struct prism_error error;
};

static bool bad(const struct client *c, const char *what)
{
    printf("%s: %s: %s\n", what, prism_code_name(c->error.code), c->error.message);
    return false;
}

static enum prism_code store(struct client *c)
{
    return prism_keyvalue_store(c->keyvalue, "restart", prism_bytes_of("v", 1), NULL, NULL,
                                &c->error);
}

static void say_ready(void)
{
    puts("ready");
    fflush(stdout);
}

static bool idle(struct client *c)
{
    char line[16];

    if (store(c) != PRISM_OK)
        return bad(c, "store before");
    say_ready();
    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    if (store(c) != PRISM_OK)
        return bad(c, "store after the restart");
    puts("2 calls");
    return true;
}

static bool told_to_stop(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&input, 1, 0) != 0;
}

static bool busy(struct client *c)
{
    unsigned calls = 0, unknown = 0;

    say_ready();
    while (!told_to_stop()) {
        bool exists;

        if (prism_keyvalue_exists(c->keyvalue, "restart", NULL, &exists, &c->error) != PRISM_OK)
            return bad(c, "exists");
        if (store(c) != PRISM_OK) {
            if (c->error.code != PRISM_UNAVAILABLE || c->error.retryable)
                return bad(c, "store");
            unknown++;
        }
        calls += 2;
    }
    printf("%u calls, %u with unknown outcome\n", calls, unknown);
    return calls > 0;
}

int main(int argc, char **argv)
{
    const struct prism_channel_options options = {
        .deadline_ms = 60000, .retry = {.max_attempts = 1000, .initial_ms = 20, .max_ms = 200}};
    const char *server = getenv("PRISM_SERVER");
    struct client c = {0};
    bool good = false;

    if (server == NULL || argc != 2)
        return SKIPPED;
    if (prism_channel_open(server, &options, &c.channel, &c.error) == PRISM_OK &&
        prism_keyvalue_open(c.channel, &c.keyvalue, &c.error) == PRISM_OK)
        good = strcmp(argv[1], "idle") == 0 ? idle(&c) : busy(&c);
    else
        bad(&c, "open");
    prism_keyvalue_close(c.keyvalue);
    prism_channel_close(c.channel);
    return good ? 0 : 1;
}
