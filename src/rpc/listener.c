#include "src/rpc/listener.h"

#include "src/base/address.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char unix_scheme[] = "unix:";

static struct err refuse(struct listener *listener, const char *why)
{
    snprintf(listener->why, sizeof listener->why, "cannot listen on %s: %s", listener->shown, why);
    return err_about(ERR_UNAVAILABLE, "listen", listener->why);
}

/* ---- host:port ---- */

/* Binds each address for a moment. One that is in use is a reason to refuse although the host may
 * have others: clients would reach one server or the other. */
static struct err claim_port(struct listener *listener)
{
    struct addrinfo *all = address_resolve(listener->address);
    int error = 0;
    bool one = false;

    if (all == NULL)
        return refuse(listener, "the host's name is not known");
    for (const struct addrinfo *a = all; a != NULL && error != EADDRINUSE; a = a->ai_next) {
        int fd = address_bind(a);

        if (fd >= 0) {
            close(fd);
            one = true;
        } else {
            error = errno;
        }
    }
    freeaddrinfo(all);
    return one && error != EADDRINUSE ? ERR_NONE : refuse(listener, address_problem(error));
}

/* ---- unix:path ---- */

static void lock_path(const struct listener *listener, char *out, size_t room)
{
    snprintf(out, room, "%s.lock", listener->path);
}

/* Is the file that is locked still the one at the path? Its last owner may have removed it. */
static bool is_at(int fd, const char *path)
{
    struct stat held, there;

    return fstat(fd, &held) == 0 && stat(path, &there) == 0 && held.st_dev == there.st_dev &&
           held.st_ino == there.st_ino;
}

static struct err take_lock(struct listener *listener)
{
    char path[LISTENER_PATH_BYTES + 8];

    lock_path(listener, path, sizeof path);
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0) {
            char why[128];

            snprintf(why, sizeof why, "the lock beside it (.lock) cannot be opened: %m");
            return refuse(listener, why);
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            close(fd);
            return refuse(listener, "another prismd serves this socket");
        }
        if (is_at(fd, path)) {
            listener->lock_fd = fd;
            return ERR_NONE;
        }
        close(fd);
    }
}

/* NULL: nobody serves it. Whoever does need not be a prismd, hence know of the lock. */
static const char *occupant(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat about;
    int fd, error;

    if (lstat(path, &about) != 0)
        return NULL; /* bind will tell, if that was not ENOENT */
    if (!S_ISSOCK(about.st_mode))
        return "something that is not a socket stands at this path";
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return address_problem(errno);
    memcpy(address.sun_path, path, strlen(path) + 1);
    error = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
    close(fd);
    return error == ECONNREFUSED || error == ENOENT ? NULL : "another process serves this socket";
}

static struct err claim_path(struct listener *listener)
{
    struct err err;
    const char *why;

    if (strlen(listener->path) + 1 >= LISTENER_PATH_BYTES)
        return refuse(listener, "the path is too long for a socket");
    snprintf(listener->target, sizeof listener->target, "%s%s~", unix_scheme, listener->path);
    err = take_lock(listener);
    if (err.code != ERR_OK)
        return err;
    why = occupant(listener->path);
    return why == NULL ? ERR_NONE : refuse(listener, why);
}

static const char *target_path(const struct listener *listener)
{
    return listener->target + sizeof unix_scheme - 1;
}

/* ---- both ---- */

struct err listener_claim(struct listener *listener, const char *address, const char *shown)
{
    size_t scheme = sizeof unix_scheme - 1;

    *listener = (struct listener){
        .address = address, .shown = shown != NULL ? shown : address, .lock_fd = -1};
    if (strncmp(address, unix_scheme, scheme) != 0)
        return claim_port(listener);
    listener->path = address + scheme;
    return claim_path(listener);
}

const char *listener_target(const struct listener *listener)
{
    return listener->path != NULL ? listener->target : listener->address;
}

struct err listener_publish(struct listener *listener)
{
    struct stat about;

    if (listener->path == NULL)
        return ERR_NONE;
    if (stat(target_path(listener), &about) != 0 ||
        rename(target_path(listener), listener->path) != 0) {
        char why[128];

        snprintf(why, sizeof why, "the socket cannot be put there: %m");
        return refuse(listener, why);
    }
    listener->device = about.st_dev;
    listener->inode = about.st_ino;
    listener->published = true;
    return ERR_NONE;
}

/* The lock goes last, while it is still held: until then nobody else claims the path. */
void listener_release(struct listener *listener)
{
    struct stat about;
    char path[LISTENER_PATH_BYTES + 8];

    if (listener->path == NULL || listener->lock_fd < 0)
        return;
    if (listener->published && lstat(listener->path, &about) == 0 &&
        about.st_dev == listener->device && about.st_ino == listener->inode)
        unlink(listener->path);
    lock_path(listener, path, sizeof path);
    if (is_at(listener->lock_fd, path))
        unlink(path);
    close(listener->lock_fd);
    listener->lock_fd = -1;
}
