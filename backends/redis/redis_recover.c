/* After a lost connection: what redis has given to this reader in an answer that never came.
 * XPENDING tells; it was not handed over, so it goes back and is claimed. */
#include "backends/redis/redis_stream.h"

enum { PAGE = 500 };

/* [[id, consumer, idle, attempts] ..] */
static void recover_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;
    struct redis_held *held;

    if (node->type == REDIS_REPLY_ERROR) {
        redis_reader_refused(reader, node->text);
    } else if (node->depth == 2 && node->index == 0) {
        reader->counted++;
        reader->skips = !redis_id_parse(node->text, &reader->recover_at) ||
                        redis_held_find(&reader->holds, reader->recover_at) != NULL;
        if (!reader->skips)
            redis_hold(&reader->holds, reader->recover_at)->state = HELD_REFUSED;
    } else if (node->depth == 2 && node->index == 3 && !reader->skips) {
        held = redis_held_find(&reader->holds, reader->recover_at);
        redis_held_count(held, node->number > 0 ? (uint64_t)node->number : 0);
    }
}

static void recover_end(struct redis_call *call)
{
    struct redis_reader *reader = call->state;

    reader->recovers = reader->refused == ERR_OK && reader->counted == PAGE;
    redis_give_back(reader, GIVE_REFUSED);
    redis_reader_answered(reader, true);
}

static const struct redis_kind recover_kind = {
    .item_errors = true, .node = recover_node, .end = recover_end, .lost = redis_reader_lost};

void redis_recover(struct redis_reader *reader)
{
    struct redis_call *call = redis_reader_call(reader, &recover_kind, true);
    bool first = reader->recover_at.ms == 0 && reader->recover_at.seq == 0;
    char text[REDIS_ID_BYTES];

    reader->counted = 0;
    redis_command(call, 7, "XPENDING");
    redis_word(call, reader->key);
    redis_word(call, reader->group);
    redis_word_joined(call, slice_str(first ? "" : "("), redis_id_text(reader->recover_at, text));
    redis_word(call, slice_str("+"));
    redis_word_number(call, PAGE);
    redis_word(call, reader->consumer);
}
