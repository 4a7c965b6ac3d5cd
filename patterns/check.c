#include "patterns/check.h"

static uint64_t less(uint32_t max_message_bytes, uint32_t room)
{
    return max_message_bytes - (max_message_bytes / 4 < room ? max_message_bytes / 4 : room);
}

uint64_t check_fitting(uint32_t max_message_bytes)
{
    enum { ROOM = 1024 };

    return less(max_message_bytes, ROOM);
}

uint64_t check_fitting_message(uint32_t max_message_bytes)
{
    enum { ROOM = 8192 };

    return less(max_message_bytes, ROOM);
}

uint64_t check_most(const struct message_sink *sink, const struct backend *backend)
{
    uint64_t own = sink->max_message_bytes, server = atomic_load(&backend->store->message_bytes);

    return own == 0 || (server != 0 && server < own) ? server : own;
}

struct err check_length(struct slice bytes, uint64_t max, struct arena *arena, const char *what)
{
    if (max == 0 || bytes.len <= max)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, what,
                     arena_printf(arena, "%s is %zu bytes long; at most %llu are taken", what,
                                  bytes.len, (unsigned long long)max));
}

struct err check_items(size_t n, uint32_t max, struct arena *arena, const char *subject)
{
    if (n <= max)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, subject,
                     arena_printf(arena, "%zu items in one batch; at most %u are taken", n, max));
}

/* What is missing keeps its subject, the interface; a fault gets the path of its field. */
struct err check_at_item(struct err err, struct arena *arena, const char *list, size_t i)
{
    if (err.code == ERR_UNIMPLEMENTED)
        err.text = arena_printf(arena, "%s[%zu]: %s", list, i, err.text);
    else if (err.subject == NULL)
        err.subject = arena_printf(arena, "%s[%zu]", list, i);
    else
        err.subject = arena_printf(arena, "%s[%zu].%s", list, i, err.subject);
    return err;
}

bool check_is_known(const ProtobufCEnumDescriptor *type, int number)
{
    return protobuf_c_enum_descriptor_get_value(type, number) != NULL;
}
