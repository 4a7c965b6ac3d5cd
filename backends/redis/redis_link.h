/* The socket under a connection, with TLS on it or without: bytes in and out, a buffer of commands,
 * a reader of answers. Non-blocking. thread: home of the connection. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_LINK_H
#define PRISM_BACKENDS_REDIS_REDIS_LINK_H

#include <hiredis/hiredis.h>
#include <hiredis/sds.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct redis;
struct ssl_st;

/* libuv frees a handle later than we let go of the connection, so this stands apart. */
struct redis_link {
    uv_poll_t handle;
    struct redis *redis;
    int fd;             /* -1: closed */
    struct ssl_st *tls; /* NULL: plain */
    bool connected;     /* the socket is; TLS may still shake hands */
    bool heard;         /* bytes have come */
    bool parsing;       /* an answer is being handed over: the link may not go */
    bool doomed;        /* it goes after that */
    bool mute;          /* a write has failed: no other follows */
    redisReader *reader;
    sds out;             /* commands not sent yet */
    char detail[128];    /* what the system or OpenSSL said; for the log */
    const char *problem; /* why it failed, for users; static; NULL: nothing in particular */
};

/* Begins to connect. at: a numeric address, or the path of a unix socket with port 0. false: it
 * failed at once, with detail. Close it in both cases. */
bool redis_link_open(struct redis_link *link, const char *at, uint16_t port);

/* To be freed once libuv has let go of the handle. */
struct redis_link *redis_link_new(struct redis *redis);
void redis_link_close(struct redis_link *link);

enum redis_link_step { REDIS_LINK_UP, REDIS_LINK_READS, REDIS_LINK_WRITES, REDIS_LINK_FAILED };

/* Goes on connecting, when the socket has become readable or writable: what to wait for next. */
enum redis_link_step redis_link_connect(struct redis_link *link);

enum { REDIS_READ_BYTES = 16384 /* the least room for a read: redis_tls.h says why */ };

/* Bytes; 0: not now; -1: ended or broken, see detail and problem. */
ssize_t redis_link_read(struct redis_link *link, char *to, size_t room);
ssize_t redis_link_write(struct redis_link *link, const char *from, size_t bytes);

/* An empty buffer. */
sds redis_link_buffer(void);

#endif
