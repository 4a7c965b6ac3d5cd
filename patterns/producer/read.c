/* Checks of what clients send, all made before the first effect. That strings are UTF-8 without NUL
 * has been seen to when the request was decoded. */
#include "patterns/check.h"
#include "patterns/messaging/claim.h"
#include "patterns/messaging/trace.h"
#include "patterns/need.h"
#include "patterns/producer/producer_priv.h"

#include "src/base/container.h"
#include "src/base/digest.h"

#include <stdlib.h>

#define REQUEST(NAME) PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST___##NAME

/* ---- the reader ---- */

struct reader reader_of(const struct producer *producer, const struct call *call,
                        struct arena *arena)
{
    struct reader reader = {.producer = producer, .arena = arena};

    if (!producer->plan.sink->bare)
        reader.trace = (struct header){.name = slice_str(TRACE_HEADER), .value = trace_of(call)};
    return reader;
}

/* ---- topic ---- */

/* An optional field of bytes: present and empty is not null. */
static struct slice present(ProtobufCBinaryData bytes)
{
    return bytes.len > 0 ? pb_slice(bytes) : message_empty();
}

static struct err read_topic(struct reader *reader, const char *topic, struct outgoing *out)
{
    struct slice name = *topic != '\0' ? slice_str(topic) : reader->topic;

    if (!reader->has_last || !slice_equal(name, reader->last_topic)) {
        const struct message_sink *sink = reader->producer->plan.sink;

        reader->has_last = true;
        reader->last_topic = name;
        reader->last_err =
            topics_map(&reader->producer->topics, reader->arena, name, &reader->last_full);
        if (reader->last_err.code == ERR_OK && sink->check_topic != NULL)
            reader->last_err = sink->check_topic(reader->last_full);
    }
    out->topic = reader->last_full;
    return reader->last_err;
}

/* ---- headers ---- */

static struct err header_fault(struct arena *arena, struct slice name, const char *text)
{
    return err_about(ERR_INVALID_ARGUMENT, "headers",
                     arena_printf(arena, "header \"%.*s\" %s", (int)(name.len < 64 ? name.len : 64),
                                  (const char *)name.data, text));
}

static struct err check_header(const struct reader *reader, const struct header *header)
{
    static const char reserved[] = "prism-";

    if (header->name.len == 0)
        return err_about(ERR_INVALID_ARGUMENT, "headers", "a header has no name");
    if (slice_starts_with(header->name, slice_str(reserved)))
        return header_fault(reader->arena, header->name,
                            "is not allowed: names that begin with \"prism-\" are ours");
    if (message_is_null(header->value) && !reader->producer->plan.sink->null_header_values)
        return header_fault(reader->arena, header->name,
                            "has no value, which this backend cannot carry");
    return ERR_NONE;
}

static int by_name(const void *a, const void *b)
{
    return slice_compare(((const struct header *)a)->name, ((const struct header *)b)->name);
}

/* First `headers` as they are, then `metadata` by name, so that it has an order. There is room for
 * one more. */
static struct header *copy_headers(struct arena *arena, const pb_publish_request *request)
{
    struct header *headers =
        arena_alloc(arena, (request->n_headers + request->n_metadata + 1) * sizeof *headers);
    struct header *at = headers;

    for (size_t i = 0; i < request->n_headers; i++) {
        const schema_header *from = request->headers[i];
        bool null = from->_value_case == PRISM__PATTERNS__SCHEMAS__HEADER___VALUE__NOT_SET;

        *at++ = (struct header){.name = slice_str(from->name),
                                .value = null ? message_null() : present(from->value)};
    }
    for (size_t i = 0; i < request->n_metadata; i++)
        *at++ = (struct header){.name = slice_str(request->metadata[i]->key),
                                .value = slice_str(request->metadata[i]->value)};
    qsort(at - request->n_metadata, request->n_metadata, sizeof *at, by_name);
    return headers;
}

/* The call's trace goes on with the message, unless its publisher gave it one of its own. It never
 * makes a message that could be sent one that cannot. */
static void add_trace(const struct reader *reader, struct header *headers, struct outgoing *out,
                      size_t most)
{
    if (reader->trace.value.len == 0 || out->n_headers >= most)
        return;
    for (size_t i = 0; i < out->n_headers; i++) {
        if (slice_equal(headers[i].name, reader->trace.name))
            return;
    }
    headers[out->n_headers++] = reader->trace;
}

static struct err read_headers(const struct reader *reader, const pb_publish_request *request,
                               struct outgoing *out)
{
    size_t n = request->n_headers + request->n_metadata;
    uint32_t ours = producer_claims(reader->producer, out) ? 1 : 0; /* the reference */
    size_t bytes = ours * CLAIM_HEADER_BYTES;
    struct header *headers;

    if (n == 0 && reader->trace.value.len == 0)
        return ERR_NONE;
    if (reader->producer->plan.sink->bare)
        return need_unmet(producer_need_of(NEED_HEADERS));
    if (n + ours > MESSAGE_HEADERS)
        return check_items(n, MESSAGE_HEADERS - ours, reader->arena, "headers");
    out->headers = headers = copy_headers(reader->arena, request);
    out->n_headers = n;
    for (size_t i = 0; i < n; i++) {
        struct err err = check_header(reader, &out->headers[i]);

        if (err.code != ERR_OK)
            return err;
        bytes += out->headers[i].name.len + out->headers[i].value.len;
    }
    if (bytes > MESSAGE_HEADER_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "headers",
                         arena_printf(reader->arena,
                                      "the headers have %zu bytes, and %d are the most "
                                      "(max_header_bytes)",
                                      bytes, (int)MESSAGE_HEADER_BYTES));
    if (bytes + TRACE_BYTES <= MESSAGE_HEADER_BYTES)
        add_trace(reader, headers, out, MESSAGE_HEADERS - ours);
    return ERR_NONE;
}

/* ---- the message ---- */

static struct err read_key(const struct reader *reader, const pb_publish_request *request,
                           struct outgoing *out)
{
    if (request->_ordering_key_case == REQUEST(ORDERING_KEY__NOT_SET))
        return ERR_NONE;
    if (reader->producer->plan.sink->bare)
        return need_unmet(producer_need_of(NEED_KEYED));
    out->key = present(request->ordering_key);
    return check_length(out->key, MESSAGE_KEY_BYTES, reader->arena, "ordering_key");
}

static struct err read_id(const struct reader *reader, const pb_publish_request *request,
                          struct outgoing *out)
{
    if (request->_message_id_case == REQUEST(MESSAGE_ID__NOT_SET))
        return ERR_NONE;
    out->id = slice_str(request->message_id);
    if (out->id.len == 0)
        return err_about(ERR_INVALID_ARGUMENT, "message_id",
                         "message_id is empty; leave it out or give at least 1 byte");
    return check_length(out->id, PRODUCER_ID_BYTES, reader->arena, "message_id");
}

/* Without an identifier of the client's, where the namespace asks for it: equal messages have equal
 * identifiers. */
static void name_by_content(const struct reader *reader, struct outgoing *out)
{
    const struct producer *producer = reader->producer;
    const struct slice parts[] = {out->topic, slice_of("", 1), out->key, slice_of("", 1),
                                  out->payload};
    struct digest digest;
    char *hex;

    if (!producer->settings.dedup_content || !message_is_null(out->id))
        return;
    digest = digest_of(parts, ARRAY_LEN(parts));
    hex = arena_alloc(reader->arena, DIGEST_HEX + 1);
    digest_hex(&digest, hex);
    hex[DIGEST_HEX] = '\0';
    out->id = slice_of(hex, DIGEST_HEX);
}

static void read_payload(const struct reader *reader, const pb_publish_request *request,
                         struct outgoing *out)
{
    bool null = request->_payload_case == REQUEST(PAYLOAD__NOT_SET);

    if (!null)
        out->payload = present(request->payload);
    else if (!reader->producer->plan.sink->null_payload)
        out->payload = message_empty();
}

uint64_t producer_max_carried(const struct producer *producer)
{
    uint32_t message = producer->binding.max_message_bytes;
    uint64_t sink = producer->plan.max_message_bytes, most = check_fitting_message(message);

    return sink != 0 && sink < message && check_fitting((uint32_t)sink) < most
               ? check_fitting((uint32_t)sink)
               : most;
}

uint64_t producer_max_payload(const struct producer *producer)
{
    if (producer->plan.object != NULL) /* it comes out as a reference, if it does not fit */
        return check_fitting(producer->binding.max_message_bytes);
    return producer_max_carried(producer);
}

size_t producer_sink_bytes(const struct producer *producer, const struct outgoing *message)
{
    size_t bytes = message_out_bytes(message);

    if (producer_claims(producer, message)) /* a reference takes its place */
        bytes = bytes - message->payload.len + CLAIM_HEADER_BYTES;
    return bytes;
}

/* As ConsumerPattern delivers it: whoever can read messages as large as the server's requests can
 * read it. Headers come twice where they are text. */
static struct err check_delivered(const struct reader *reader, const struct outgoing *out)
{
    enum { HEADER_FIELDS = 32 }; /* what stands around name and value, twice */
    const struct producer *producer = reader->producer;
    uint64_t most = check_fitting_message(producer->binding.max_message_bytes);
    uint64_t bytes = out->payload.len + out->key.len + out->id.len;

    if (producer_claims(producer, out))
        return ERR_NONE;
    for (size_t i = 0; i < out->n_headers; i++)
        bytes += 2 * (out->headers[i].name.len + out->headers[i].value.len) + HEADER_FIELDS;
    if (bytes <= most)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "payload",
                     arena_printf(reader->arena,
                                  "the message is delivered with %llu bytes, key, identifier and "
                                  "twice the headers included; at most %llu are taken",
                                  (unsigned long long)bytes, (unsigned long long)most));
}

static struct err check_size(const struct reader *reader, const struct outgoing *out)
{
    uint64_t most = reader->producer->plan.max_message_bytes;
    size_t bytes = producer_sink_bytes(reader->producer, out);

    if (bytes <= most) {
        struct err err = check_length(out->payload, producer_max_payload(reader->producer),
                                      reader->arena, "payload");

        return err.code != ERR_OK ? err : check_delivered(reader, out);
    }
    return err_about(ERR_INVALID_ARGUMENT, "payload",
                     arena_printf(reader->arena,
                                  "the message has %zu bytes, key and headers included; at most "
                                  "%llu are taken",
                                  bytes, (unsigned long long)most));
}

struct err reader_read(struct reader *reader, const pb_publish_request *request,
                       struct outgoing *out)
{
    struct err err;

    out->partition = -1;
    out->offset = -1;
    out->receivers = -1;
    read_payload(reader, request, out);
    err = read_topic(reader, request->topic, out);
    if (err.code == ERR_OK)
        err = read_key(reader, request, out);
    if (err.code == ERR_OK)
        err = read_id(reader, request, out);
    if (err.code == ERR_OK)
        err = read_headers(reader, request, out);
    if (err.code == ERR_OK)
        err = check_size(reader, out);
    if (err.code == ERR_OK)
        name_by_content(reader, out);
    return err;
}
