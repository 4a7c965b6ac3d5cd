/* Request headers of the lean client, in HPACK of its own.
 *
 * libnghttp2 never puts :path into the dynamic table, so the server would decode a Huffman-coded
 * path in every call, at a cost that grows with the length of the method's name; a real gRPC client
 * sends it once. The lean client therefore replaces the header block of each HEADERS frame that the
 * session emits: the first call of a connection spells every field out, the others send seven
 * bytes. thread: that of the client. */
#ifndef PRISM_PERF_LOAD_LEAN_HEADERS_H
#define PRISM_PERF_LOAD_LEAN_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LEAN_FRAME_HEAD = 9,
    LEAN_PATH_MAX = 126,          /* its length must fit one HPACK byte */
    LEAN_HEADERS_FRAME_MAX = 512, /* bytes of a rewritten frame at most */
    LEAN_TABLE_BYTES = 1024       /* what the peer's dynamic table must hold; the default is 4096 */
};

/* Is this frame, as the session emitted it, the HEADERS frame of a request? */
bool lean_headers_is(const uint8_t *frame, size_t bytes);

/* Writes the frame anew with our header block; returns its length, at most LEAN_HEADERS_FRAME_MAX.
 * *indexed is the path that the peer's table holds, NULL at first; kept by the connection. */
size_t lean_headers_write(const uint8_t *frame, const char *path, const char **indexed,
                          uint8_t *out);

#endif
