/* A bare gRPC server inside the test that answers as it is told: status by status, message by
 * message. It shows which rules the client follows without a Prism server that would have to be
 * made to fail.
 *
 * Answers come from a script: the oldest unused step for the method, else the method's standing
 * answer, else UNIMPLEMENTED. thread: the functions may be called on any thread. */
#ifndef PRISM_TESTS_CLIENT_SCRIPT_SERVER_H
#define PRISM_TESTS_CLIENT_SCRIPT_SERVER_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SCRIPT_MAX_MESSAGES = 4 };

struct script_server;

struct script_step {
    const char *method; /* "Store" */
    /* Packed when the step is added; the list ends with the first NULL. */
    const ProtobufCMessage *messages[SCRIPT_MAX_MESSAGES];
    int status; /* after the messages */
    const char *text;
    /* Details that go with the status. */
    uint32_t retry_after_ms; /* 0 = no RetryInfo */
    const char *field;       /* NULL = no BadRequest */
    const char *subject;     /* NULL = no ErrorInfo about a subject */
    const char *effect;      /* NULL = no ErrorInfo about the effect */
    bool garbled_details;    /* bytes that do not decode */
    bool hang;               /* no answer until the client gives up */
    size_t garbage;          /* so many bytes as the message, which do not decode */
};

/* port 0 = any free one. */
struct script_server *script_server_start(int port);
void script_server_stop(struct script_server *server);

int script_server_port(const struct script_server *server);
const char *script_server_target(const struct script_server *server); /* "127.0.0.1:port" */
/* The path of a unix socket that it listens on as well. */
const char *script_server_socket(const struct script_server *server);

/* Used once. */
void script_once(struct script_server *server, struct script_step step);

/* The method's standing answer; replaces an earlier one. */
void script_always(struct script_server *server, struct script_step step);

/* Calls of the method that were read so far. */
unsigned script_calls(struct script_server *server, const char *method);

/* The request of the method's latest call, decoded; free with protobuf_c_message_free_unpacked. */
ProtobufCMessage *script_request(struct script_server *server, const char *method,
                                 const ProtobufCMessageDescriptor *descriptor);

/* x-prism-namespace of the latest call, "" if there was none; and its time left when it came. */
void script_last_namespace(struct script_server *server, char *to, size_t size);
int64_t script_last_deadline_ms(struct script_server *server);

#endif
