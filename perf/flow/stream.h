/* A bidirectional gRPC stream on C-core, driven step by step. One send and one receive are under
 * way at most. thread: main. */
#ifndef PRISM_PERF_FLOW_STREAM_H
#define PRISM_PERF_FLOW_STREAM_H

#include <grpc/grpc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream {
    grpc_completion_queue *queue;
    grpc_channel *channel;
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
    grpc_byte_buffer *incoming, *outgoing;
    bool sending, receiving;
    uint8_t *bytes; /* of the message that came last, flat; the stream's */
    size_t n, room;
};

enum { STREAM_SENT = 1, STREAM_RECEIVED = 2 };

/* Dies when there is no connection within 10 s. queue: NULL = one of its own. */
void stream_open(struct stream *stream, const char *address, const char *method,
                 grpc_completion_queue *queue);
/* Takes a reference of the slice. Not while one is under way. */
void stream_send(struct stream *stream, grpc_slice message);
/* Asks for the next message, unless that is so. */
void stream_receive(struct stream *stream);
/* Waits for what comes next on the queue: which stream, and STREAM_SENT or STREAM_RECEIVED; then
 * bytes and n hold the message. Dies when a stream ends. */
int stream_next(grpc_completion_queue *queue, struct stream **stream);
void stream_close(struct stream *stream);

#endif
