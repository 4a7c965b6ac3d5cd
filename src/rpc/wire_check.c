/* protobuf-c hands strings out as char *, so a NUL inside would turn one key silently into another;
 * it does not verify UTF-8, which every other client does when it gets the text back; and it
 * decodes nested messages by recursion without a bound (58 kB of nested google.protobuf.Value
 * overran an 8 MB stack). All three can be seen in the encoded message. */
#include "src/rpc/wire_check.h"

#include "src/base/utf8.h"

#include <string.h>

struct wire {
    const uint8_t *at, *end;
};

static bool take_varint(struct wire *w, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && w->at < w->end; shift += 7) {
        uint8_t octet = *w->at++;

        *value |= (uint64_t)(octet & 0x7f) << shift;
        if (octet < 0x80)
            return true;
    }
    return false;
}

/* Takes the content of the next field: length-delimited content into *content, else it is empty. */
static bool take_content(struct wire *w, unsigned wire_type, struct slice *content)
{
    uint64_t len = 0;

    *content = slice_of(NULL, 0);
    switch (wire_type) {
    case 0:
        return take_varint(w, &len);
    case 1:
        len = 8;
        break;
    case 2:
        if (!take_varint(w, &len))
            return false;
        break;
    case 5:
        len = 4;
        break;
    default:
        return false;
    }
    if (len > (size_t)(w->end - w->at))
        return false;
    if (wire_type == 2)
        *content = slice_of(w->at, (size_t)len);
    w->at += len;
    return true;
}

/* Eight octets at a time while they are ASCII and not NUL. */
static bool is_text(struct slice text)
{
    uint64_t word;

    while (text.len >= sizeof word) {
        memcpy(&word, text.data, sizeof word);
        if ((word | (word - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080))
            break;
        text = slice_of(text.data + sizeof word, text.len - sizeof word);
    }
    return text.len == 0 || (memchr(text.data, 0, text.len) == NULL && utf8_valid(text));
}

static enum wire_fault check(const ProtobufCMessageDescriptor *type, struct slice message,
                             const char **field, unsigned depth)
{
    struct wire w = {message.data, message.data + message.len};
    enum wire_fault fault = WIRE_OK;
    struct slice content;
    uint64_t tag;

    while (fault == WIRE_OK && w.at < w.end) {
        if (!take_varint(&w, &tag) || tag > UINT32_MAX || !take_content(&w, tag & 7, &content))
            return WIRE_MALFORMED;
        if ((tag & 7) != 2)
            continue;

        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));

        if (f == NULL)
            continue;
        *field = f->name;
        if (f->type == PROTOBUF_C_TYPE_STRING)
            fault = is_text(content) ? WIRE_OK : WIRE_NOT_TEXT;
        else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
            fault = depth == WIRE_MAX_DEPTH ? WIRE_TOO_DEEP
                                            : check(f->descriptor, content, field, depth + 1);
    }
    return fault;
}

enum wire_fault wire_check(const ProtobufCMessageDescriptor *type, struct slice message,
                           const char **field)
{
    *field = NULL;
    return check(type, message, field, 1);
}
