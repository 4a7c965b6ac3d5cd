/* A message of ours and a message of NATS. Nothing is wrapped: the payload is the payload, headers
 * are headers, and two of them carry what NATS has no place for. */
#include "backends/nats/nats_priv.h"
#include "src/base/sixteen.h"

#include <stdlib.h>
#include <strings.h>

enum { HEADERS_LINE = 12 /* "NATS/1.0\r\n" and the empty line */ };

static struct err refused(const char *subject, const char *text)
{
    return err_about(ERR_INVALID_ARGUMENT, subject, text);
}

/* ---- subjects ---- */

static bool token_is(struct slice token, const char *name)
{
    return slice_equal(token, slice_str(name));
}

static struct err check_token(struct slice token, bool first, bool last, bool wildcards)
{
    if (token.len == 0)
        return refused("topic", "a NATS subject has no empty token: no '.' at its ends, no '..'");
    if (first && (token.data[0] == '$' || token_is(token, "_INBOX") || token_is(token, "_R_") ||
                  token_is(token, "_GR_")))
        return refused("topic", "this subject belongs to the NATS server or to its clients");
    if (wildcards && !first && (token_is(token, "*") || (last && token_is(token, ">"))))
        return ERR_NONE;
    for (size_t i = 0; i < token.len; i++) {
        if (token.data[i] <= ' ' || token.data[i] == 0x7f)
            return refused("topic", "a NATS subject has no spaces and no control characters");
        if (token.data[i] == '*' || token.data[i] == '>')
            return refused("topic", wildcards ? "wildcards are whole tokens behind the first one"
                                              : "a NATS subject to publish to has no wildcards");
    }
    return ERR_NONE;
}

static bool is_common(uint8_t byte)
{
    return (uint8_t)((byte | 0x20) - 'a') < 26 || (uint8_t)(byte - '0') < 10 || byte == '-' ||
           byte == '_';
}

/* No byte of these is refused, and none is an empty token's end. `next` begins one byte later. */
static inline bool are_common(sixteen bytes, sixteen next)
{
    return sixteen_all(sixteen_are_letters_or_digits(bytes) | sixteen_are(bytes, '-') |
                       sixteen_are(bytes, '_') |
                       (sixteen_are(bytes, '.') & ~sixteen_are(next, '.')));
}

/* Nearly all subjects: tokens of letters, digits, "-" and "_", of which the first is nobody's. The
 * last byte ends a token, and of the others sixteen are looked at together, the last ones with some
 * before them. */
static bool is_plain_subject(struct slice topic)
{
    const uint8_t *at = topic.data, *last = topic.data + topic.len - 1;

    if (*at == '_' || *at == '.' || !is_common(*last))
        return false;
    while (last - at > SIXTEEN && are_common(sixteen_at(at), sixteen_at(at + 1)))
        at += SIXTEEN;
    if (last - topic.data >= SIXTEEN && last - at <= SIXTEEN)
        return are_common(sixteen_at(last - SIXTEEN), sixteen_at(last - SIXTEEN + 1));
    while (at < last && (is_common(*at) || (*at == '.' && at[1] != '.')))
        at++;
    return at == last;
}

static struct err check_subject(struct slice topic, bool wildcards)
{
    size_t at = 0;

    if (topic.len == 0 || topic.len > MESSAGE_TOPIC_BYTES)
        return refused("topic", "a topic has 1 to 249 bytes");
    if (is_plain_subject(topic))
        return ERR_NONE;
    for (size_t i = 0; i <= topic.len; i++) {
        if (i < topic.len && topic.data[i] != '.')
            continue;

        struct err err =
            check_token(slice_of(topic.data + at, i - at), at == 0, i == topic.len, wildcards);

        if (err.code != ERR_OK)
            return err;
        at = i + 1;
    }
    return ERR_NONE;
}

struct err nats_check_topic(struct slice topic)
{
    return check_subject(topic, false);
}

struct err nats_check_pattern(struct slice topic)
{
    return check_subject(topic, true);
}

/* ---- headers ---- */

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\v' || c == '\f';
}

/* Lines are ended by CR LF, the library takes values as text, strips spaces around them, and reads
 * an empty value as the beginning of the next line: what cannot come out as it went in is refused.
 */
static bool value_fits(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] == '\r' || value.data[i] == '\n' || value.data[i] == '\0')
            return false;
    }
    return value.len > 0 && !is_space(value.data[0]) && !is_space(value.data[value.len - 1]);
}

static bool name_fits(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] <= ' ' || name.data[i] >= 0x7f || name.data[i] == ':')
            return false;
    }
    return name.len > 0;
}

/* The server and JetStream act on these. */
static bool name_is_reserved(struct slice name)
{
    return (name.len >= 5 && strncasecmp((const char *)name.data, "Nats-", 5) == 0) ||
           (name.len == strlen(NATS_KEY_HEADER) &&
            strncasecmp((const char *)name.data, NATS_KEY_HEADER, name.len) == 0);
}

static size_t line_bytes(size_t name, size_t value)
{
    return name + value + 4; /* ": " and CR LF */
}

static struct err check_headers(const struct outgoing *item, size_t *bytes)
{
    for (size_t i = 0; i < item->n_headers; i++) {
        const struct header *h = &item->headers[i];

        if (!name_fits(h->name))
            return refused("headers", "the name of a header on NATS is printable ASCII without "
                                      "spaces and ':'");
        if (name_is_reserved(h->name))
            return refused("headers", "headers named Nats-* and Prism-Key belong to NATS and to "
                                      "Prism: use the message's id and key");
        if (!value_fits(h->value))
            return refused("headers", "the value of a header on NATS is not empty, holds no CR, LF "
                                      "or NUL, and neither begins nor ends with spaces");
        *bytes += line_bytes(h->name.len, h->value.len);
    }
    return ERR_NONE;
}

static struct err check_carried(struct slice value, const char *subject, size_t name_len,
                                size_t *bytes)
{
    if (message_is_null(value))
        return ERR_NONE;
    if (!value_fits(value))
        return refused(subject, "travels in a header on NATS: it is not empty, holds no CR, LF or "
                                "NUL, and neither begins nor ends with spaces");
    *bytes += line_bytes(name_len, value.len);
    return ERR_NONE;
}

struct err nats_check_message(const struct outgoing *item, uint64_t max_payload)
{
    size_t bytes = 0;
    struct err err = check_headers(item, &bytes);

    if (err.code == ERR_OK)
        err = check_carried(item->key, "key", strlen(NATS_KEY_HEADER), &bytes);
    if (err.code == ERR_OK)
        err = check_carried(item->id, "message_id", strlen(NATS_ID_HEADER), &bytes);
    if (err.code == ERR_OK && message_is_null(item->payload))
        err = refused("payload", "NATS has no null payload");
    if (err.code != ERR_OK)
        return err;
    if (bytes > 0)
        bytes += HEADERS_LINE;
    if (item->payload.len > INT32_MAX / 2 ||
        (max_payload > 0 && bytes + item->payload.len > max_payload))
        return refused("payload", "payload and headers are larger than the server's max_payload");
    return ERR_NONE;
}

/* ---- out ---- */

static void copy_subject(char subject[MESSAGE_TOPIC_BYTES + 1], struct slice topic)
{
    memcpy(subject, topic.data, topic.len);
    subject[topic.len] = '\0';
}

natsStatus nats_message_out(natsMsg **out, const struct outgoing *item, const char *reply)
{
    char subject[MESSAGE_TOPIC_BYTES + 1];
    natsStatus s;

    copy_subject(subject, item->topic);
    s = natsMsg_Create(out, subject, reply, (const char *)item->payload.data,
                       (int)item->payload.len);
    if (s != NATS_OK)
        return s;
    s = nats_headers_add(*out, item);
    if (s != NATS_OK)
        natsMsg_Destroy(*out);
    return s;
}

/* What has no headers needs no message of the library's, whose making costs more than its way out.
 */
static bool is_bare(const struct outgoing *item)
{
    return item->n_headers == 0 && message_is_null(item->key) && message_is_null(item->id);
}

static bool is_same(struct slice a, struct slice b)
{
    return a.data == b.data && a.len == b.len;
}

bool nats_message_alike(const struct outgoing *a, const struct outgoing *b)
{
    return a->headers == b->headers && a->n_headers == b->n_headers && is_same(a->key, b->key) &&
           is_same(a->id, b->id) && is_same(a->payload, b->payload);
}

/* To make a message with headers takes the library ten times as long as to write it. So one message
 * goes to all topics of one length: they are written over each other where the message has its
 * subject, which is memory of its own. The library has no function for that; it looks at the
 * subject when it writes the message. */
static natsStatus fill_in(struct nats_form *form, const struct outgoing *item)
{
    natsStatus s;

    if (form->of != NULL && form->of->topic.len == item->topic.len &&
        nats_message_alike(form->of, item)) {
        memcpy((void *)(uintptr_t)natsMsg_GetSubject(form->message), item->topic.data,
               item->topic.len);
        return NATS_OK;
    }
    natsMsg_Destroy(form->message);
    *form = (struct nats_form){.of = NULL};
    s = nats_message_out(&form->message, item, NULL);
    form->of = s == NATS_OK ? item : NULL;
    if (s != NATS_OK)
        form->message = NULL;
    return s;
}

natsStatus nats_message_publish(natsConnection *connection, struct nats_form *form,
                                const struct outgoing *item)
{
    char subject[MESSAGE_TOPIC_BYTES + 1];
    natsStatus s;

    if (is_bare(item)) {
        copy_subject(subject, item->topic);
        return natsConnection_Publish(connection, subject, item->payload.data,
                                      (int)item->payload.len);
    }
    s = fill_in(form, item);
    return s == NATS_OK ? natsConnection_PublishMsg(connection, form->message) : s;
}

/* ---- in ---- */

void nats_message_in(struct incoming *in, natsMsg *message, struct arena *arena)
{
    int len = natsMsg_GetDataLength(message);

    *in = (struct incoming){
        .topic = slice_str(natsMsg_GetSubject(message)),
        .payload = len > 0 ? slice_of(natsMsg_GetData(message), (size_t)len) : message_empty(),
        .partition = -1,
        .offset = -1,
        .attempt = 1,
    };
    nats_headers_take(in, message, arena);
}
