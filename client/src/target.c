#include "client/src/target.h"

#include "client/src/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define EXPECTED "host:port or unix:/path is expected"

enum { PATH_BYTES = sizeof((struct sockaddr_un *)NULL)->sun_path };

/* What follows the prefix; NULL: text does not begin with it. */
static const char *after(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);

    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static bool is_port(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);

    return *text >= '0' && *text <= '9' && *end == '\0' && port > 0 && port <= 65535;
}

/* Where the port should be; NULL: there is none, or *why is set. */
static const char *port_of(const char *address, const char **why)
{
    const char *bracket = strchr(address, ']'), *colon = strchr(address, ':');

    if (*address == '[')
        return bracket != NULL ? after(bracket, "]:") : NULL;
    if (colon == NULL)
        return NULL;
    if (strchr(colon + 1, ':') != NULL) {
        *why = "an IPv6 address stands in brackets, [::1]:8980";
        return NULL;
    }
    return colon != address ? colon + 1 : NULL;
}

/* "host:port": the address in target. */
static enum prism_code check_address(const char *target, const char *address,
                                     struct prism_error *error)
{
    const char *why = NULL, *port = port_of(address, &why);

    if (why == NULL && port == NULL)
        why = "the port is missing: host:port";
    else if (why == NULL && !is_port(port))
        why = "the port is a number from 1 to 65535";
    return why == NULL ? PRISM_OK : error_about(error, "target", "%s: %s", target, why);
}

/* gRPC calls such a peer "unix:/path", which is a target too; "unix:///path" means the same. */
static char *unix_target(const char *target, const char *path, struct prism_error *error)
{
    char folder[PATH_BYTES] = "/", text[2 * PATH_BYTES];
    bool no_path = *path == '\0' || (after(path, "//") != NULL && after(path, "///") == NULL);
    const char *slash = "/";
    int len = PATH_BYTES;

    if (no_path) {
        error_about(error, "target", "%s: unix:/path is expected", target);
        return NULL;
    }
    if (*path == '/' || getcwd(folder, sizeof folder) != NULL) {
        path += strspn(path, "/");
        if (strcmp(folder, "/") == 0)
            slash = "";
        len = snprintf(text, sizeof text, "unix://%s%s%s", folder, slash, path);
        len -= (int)strlen("unix://");
    }
    if (len >= PATH_BYTES) {
        error_about(error, "target", "%s: the path of a socket has at most %d bytes", target,
                    PATH_BYTES - 1);
        return NULL;
    }
    return alloc_text(text);
}

/* A list, "ipv4:a:1,b:2", is no peer's name. A single address is the peer's name, but means the
 * same without the scheme. */
static char *numeric_target(const char *target, const char *address, struct prism_error *error)
{
    if (strchr(address, ',') != NULL)
        return alloc_text(target);
    while (*address == '/')
        address++;
    return check_address(target, address, error) == PRISM_OK ? alloc_text(address) : NULL;
}

static char *dns_target(const char *target, const char *address, struct prism_error *error)
{
    const char *slash = strrchr(address, '/');

    return check_address(target, slash != NULL ? slash + 1 : address, error) == PRISM_OK
               ? alloc_text(target)
               : NULL;
}

char *target_make(const char *given, struct prism_error *error)
{
    static const struct {
        const char *scheme;
        char *(*make)(const char *target, const char *rest, struct prism_error *error);
    } schemes[] = {{"unix:", unix_target},
                   {"ipv4:", numeric_target},
                   {"ipv6:", numeric_target},
                   {"dns:", dns_target}};

    if (given == NULL || *given == '\0') {
        error_about(error, "target", "the address of the server is empty");
        return NULL;
    }
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        const char *rest = after(given, schemes[i].scheme);

        if (rest != NULL)
            return schemes[i].make(given, rest, error);
    }
    if (strchr(given, '/') != NULL) {
        error_about(error, "target", "%s: " EXPECTED, given);
        return NULL;
    }
    return dns_target(given, given, error);
}
