#include "patterns/messaging/message_id.h"

#include "backends/message.h"

char *message_id_made(struct arena *arena, struct slice topic, struct slice position,
                      int32_t partition, int64_t offset)
{
    const char *name = (const char *)topic.data;
    int bytes = (int)topic.len; /* <= MESSAGE_TOPIC_BYTES */

    if (!message_is_null(position))
        return arena_printf(arena, "%.*s/%.*s", bytes, name, (int)position.len,
                            (const char *)position.data);
    if (offset < 0)
        return arena_printf(arena, "%s", "");
    return arena_printf(arena, "%.*s/%d/%lld", bytes, name, partition < 0 ? 0 : partition,
                        (long long)offset);
}
