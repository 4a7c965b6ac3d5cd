/* Streams, and how the server is asked about them. Part of jet_priv.h. thread: control. */
#ifndef PRISM_BACKENDS_NATS_JET_STREAM_H
#define PRISM_BACKENDS_NATS_JET_STREAM_H

#include "backends/nats/nats_priv.h"

enum {
    JET_NAME_BYTES = 256, /* longest name of a stream or consumer, with its NUL */
    JET_ASK_MS = 300,     /* what is asked again waits so long for its first answer */
};

struct jet_store;

/* What has no leader does not answer, and what leads it next does not know that it was asked. So
 * who asks again asks soon: the first question waits for JET_ASK_MS, each that is not answered
 * doubles that, up to ack_timeout_ms, which a server that is only slow may take. */
jsOptions jet_ask_options(const struct jet_store *store, uint64_t wait_ms);
/* The next question's wait: after one that was not answered, or was. */
uint64_t jet_ask_next(const struct jet_store *store, uint64_t wait_ms, bool answered);

/* Finds the stream that takes the topic, or makes one where that is configured. ERR_NOT_FOUND about
 * "topic": there is none. wait_ms: 0: ack_timeout_ms. made: may be NULL. */
struct err jet_stream_find(struct jet_store *store, jsCtx *js, const char *topic, uint64_t wait_ms,
                           char stream[JET_NAME_BYTES], bool *made);
/* The same, and none is made. */
struct err jet_stream_look(struct jet_store *store, jsCtx *js, const char *topic, uint64_t wait_ms,
                           char stream[JET_NAME_BYTES]);
struct err jet_stream_err(struct jet_store *store, natsStatus status, jsErrCode code);

/* A name for something of the server's. False: it would be too long. */
bool jet_name(char name[JET_NAME_BYTES], struct slice group, struct slice topic);

#endif
