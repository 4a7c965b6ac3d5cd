/* Default, bounds and meaning of every scalar key of the server. docs/configuration.md is checked
 * against this table. */
#include "src/config/config_priv.h"

#include <string.h>

enum { HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS };

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define TIB (1ull << 40)
#define WORD(key, default_, text)                                                                  \
    {                                                                                              \
        .path = (key), .fallback = (default_), .doc = (text)                                       \
    }
#define NUMBER(key, default_, min_, max_, text)                                                    \
    {                                                                                              \
        .path = (key), .fallback = (default_), .min = (min_), .max = (max_), .doc = (text)         \
    }
/* 0 has a meaning of its own. */
#define ZERO_OR(key, default_, min_, max_, text)                                                   \
    {                                                                                              \
        .path = (key), .fallback = (default_), .min = (min_), .max = (max_), .zero = true,         \
        .doc = (text)                                                                              \
    }

static const struct config_fact facts[] = {
    WORD("listen", "127.0.0.1:8980",
         "Where gRPC is served: host:port, [IPv6]:port or unix:/path; port 0 takes any free one."),
    WORD("admin", "127.0.0.1:9090",
         "Where HTTP serves /metrics, /healthz and /readyz: host:port, [IPv6]:port, or off."),
    NUMBER("workers", "0", 0, CONFIG_MAX_WORKERS,
           "Threads that run what waits or takes long; 0: one per core of the process."),
    WORD("dispatch", "auto",
         "auto: short in-memory operations run on the poller; ring: all calls go to workers."),
    WORD("coalesce", "buffer",
         "How the replies of a batch share a write: off, more (MSG_MORE) or buffer (one write)."),
    NUMBER("limits.max_message_bytes", "4194304", KIB, 256 * MIB,
           "Largest request; larger ones get RESOURCE_EXHAUSTED."),
    NUMBER("limits.max_inflight_calls", "16384", 1, 1 << 20,
           "Calls and open streams of all connections; more get RESOURCE_EXHAUSTED."),
    NUMBER("limits.connection_share_percent", "50", 1, 100,
           "What one connection may take of max_inflight_calls, max_inflight_bytes and "
           "max_general_streams; 100: everything."),
    NUMBER("limits.max_general_streams", "1024", 1, 1 << 20,
           "Open health watches and reflection streams; more get RESOURCE_EXHAUSTED."),
    ZERO_OR("limits.request_timeout_ms", "60000", 100, DAY_MS,
            "A request, or a message of a stream, that is not complete within this time ends; 0: "
            "never."),
    ZERO_OR("limits.unread_answer_ms", "60000", 100, DAY_MS,
            "An answer, or a message of a stream, that its client does not take within this time "
            "is dropped and its call cancelled; so is the connection, if all its calls wait so; "
            "0: never."),
    NUMBER("limits.intake_depth", "4096", 2, 1 << 20,
           "Calls that may wait for one worker, a power of two; more get RESOURCE_EXHAUSTED."),
    NUMBER("limits.max_inflight_bytes", "268435456", KIB, TIB,
           "Bytes of all requests being worked on, and of answers that clients have not taken; at "
           "least max_message_bytes."),
    NUMBER(
        "limits.max_streams_per_connection", "4096", 1, 1 << 20,
        "Calls and streams open on one connection, as announced to its client; one that opens more "
        "is ended."),
    ZERO_OR("limits.transport_bytes", "268435456", 16 * MIB, TIB,
            "What gRPC may hold in its own buffers; 0: no bound."),
    ZERO_OR("limits.max_connections", "0", 1, 60000,
            "Client connections; more are closed at once. 0: what the limit of open files allows."),
    ZERO_OR("limits.max_connections_per_peer", "0", 1, 60000,
            "Connections from one address (IPv6: /64); 0: three quarters of max_connections."),
    NUMBER("limits.max_metadata_bytes", "8192", KIB, MIB,
           "Metadata of one request, each entry with 32 bytes more; beyond: RESOURCE_EXHAUSTED."),
    ZERO_OR("keepalive.interval_ms", "60000", 1000, DAY_MS,
            "A silent connection is asked for a sign of life this often; 0: gRPC's 2 h."),
    ZERO_OR("keepalive.timeout_ms", "20000", 100, HOUR_MS,
            "It is closed when none comes within this time; 0: gRPC's 20 s."),
    ZERO_OR("keepalive.min_ping_interval_ms", "10000", 100, HOUR_MS,
            "Clients that ask more often than this are disconnected; 0: gRPC's 5 min."),
    ZERO_OR("connection.max_idle_ms", "0", 1000, 24ull * DAY_MS,
            "A connection without calls is closed after this time; 0: never."),
    ZERO_OR("connection.max_age_ms", "0", 1000, 24ull * DAY_MS,
            "A connection is asked to leave after this time, so that load spreads; 0: never."),
    ZERO_OR("connection.max_age_grace_ms", "0", 1000, DAY_MS,
            "Calls on a connection past its age may go on for this time; 0: to their end."),
    WORD("log.level", "info",
         "The least severe events that are written: debug, info, warn, error, off."),
    WORD("tls.cert", NULL, "PEM file: the server's certificate chain. Read again on SIGHUP."),
    WORD("tls.key", NULL, "PEM file: its private key, not encrypted."),
    WORD("tls.client_ca", NULL,
         "PEM file: clients must show a certificate that one of these signed."),
    WORD("deprecated_services", "enabled",
         "disabled: the prism.interfaces services answer UNIMPLEMENTED and are not listed."),
    WORD("reflection", "enabled",
         "disabled: clients cannot ask which services and messages there are."),
    WORD("strict_slots", "false",
         "true: refuse to start unless every operation is native or emulated."),
    NUMBER(
        "drain_timeout_ms", "30000", 0, HOUR_MS,
        "After SIGTERM, calls in flight may go on for this time; what is left then is cancelled."),
    {.path = NULL},
};

const struct config_fact *config_facts(void)
{
    return facts;
}

const struct config_fact *config_fact_find(const char *path)
{
    for (const struct config_fact *fact = facts; fact->path != NULL; fact++)
        if (strcmp(fact->path, path) == 0)
            return fact;
    return NULL;
}
