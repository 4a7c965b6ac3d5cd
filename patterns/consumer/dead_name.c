/* Each group has a topic of its own for its dead letters: to settle or to redrive those of one
 * takes nothing away from another. */
#include "patterns/consumer/consumer_priv.h"
#include "patterns/messaging/dead.h"

struct err dead_topic_of(const struct consumer *consumer, struct arena *arena, struct slice topic,
                         struct slice group, struct slice *name)
{
    const char *suffix = consumer->settings.dead_letter_suffix;
    const struct message_sink *sink = consumer->plan.dead;
    struct err err;

    *name = dead_letter_topic(arena, topic, group, suffix);
    if (name->len > MESSAGE_TOPIC_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "consumer_group",
                         "topic and group are too long together: their dead letters have a topic "
                         "that is named after both");
    err = sink->check_topic(*name);
    if (err.code == ERR_OK)
        return err;
    return err_about(err.code, "consumer_group",
                     arena_printf(arena,
                                  "consumer_group is part of a topic's name, that of its dead "
                                  "letters: %s",
                                  err.text));
}

struct err about_dead_topic(struct arena *arena, struct slice name, struct err err)
{
    err.text = arena_printf(arena, "dead letters in %.*s: %s", (int)name.len,
                            (const char *)name.data, err.text);
    return err;
}
