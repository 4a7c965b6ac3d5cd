#include "patterns/messaging/message_id.h"

#include "backends/message.h"
#include "src/base/decimal.h"

#include <string.h>

static char *add(char *to, struct slice part)
{
    if (part.len > 0)
        memcpy(to, part.data, part.len);
    return to + part.len;
}

char *message_id_made(struct arena *arena, struct slice topic, struct slice position,
                      int32_t partition, int64_t offset)
{
    size_t behind = message_is_null(position) ? 2 * (DECIMAL_BYTES + 1) : position.len + 1;
    char *out = arena_alloc(arena, topic.len + behind + 1), *at = out;

    if (!message_is_null(position) || offset >= 0) {
        at = add(at, topic);
        *at++ = '/';
    }
    if (!message_is_null(position)) {
        at = add(at, position);
    } else if (offset >= 0) {
        at += decimal_write(at, partition < 0 ? 0 : partition);
        *at++ = '/';
        at += decimal_write(at, offset);
    }
    *at = '\0';
    return out;
}
