/* What became of a message, as the client is told. */
#include "patterns/messaging/claim.h"
#include "patterns/messaging/message_id.h"
#include "patterns/producer/producer_priv.h"

#define RESPONSE(NAME) PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE___##NAME

pb_outcome outcome_of(const struct outgoing *message)
{
    if (message->err.code == ERR_OK)
        return PRISM__PATTERNS__PRODUCER__OUTCOME__STORED;
    return message->err.effect == EFFECT_NONE ? PRISM__PATTERNS__PRODUCER__OUTCOME__NOT_STORED
                                              : PRISM__PATTERNS__PRODUCER__OUTCOME__OUTCOME_UNKNOWN;
}

static void fill_place(const struct producer *producer, struct arena *arena,
                       const struct outgoing *message, pb_publish_response *response)
{
    if (message->partition >= 0) {
        response->_partition_case = RESPONSE(PARTITION_PARTITION);
        response->partition = message->partition;
    }
    if (message->offset >= 0) {
        response->_offset_case = RESPONSE(OFFSET_OFFSET);
        response->offset = message->offset;
    }
    if (!message_is_null(message->position))
        response->position = arena_strdup(arena, message->position);
    if (message_is_null(message->id))
        response->message_id =
            message_id_made(arena, topics_unmap(&producer->topics, message->topic),
                            message->position, message->partition, message->offset);
}

static bool is_claim(const struct outgoing *message)
{
    return message->n_headers > 0 && slice_equal(message->headers[0].name, slice_str(CLAIM_HEADER));
}

void outcome_fill(const struct producer *producer, struct arena *arena,
                  const struct outgoing *message, pb_publish_response *response)
{
    const struct err *err = &message->err;

    prism__patterns__producer__publish_response__init(response);
    response->success = err->code == ERR_OK;
    response->outcome = outcome_of(message);
    response->code = (int32_t)err->code;
    response->deduplicated = message->deduplicated;
    response->claim_checked = is_claim(message);
    if (!message_is_null(message->id))
        response->message_id = pb_text((const char *)message->id.data); /* as the client's string */
    if (err->code == ERR_OK) {
        fill_place(producer, arena, message, response);
        return;
    }
    response->_error_case = RESPONSE(ERROR_ERROR);
    response->error = pb_text(err->text);
    if (err->retry_after_ms != 0) {
        response->_retry_after_ms_case = RESPONSE(RETRY_AFTER_MS_RETRY_AFTER_MS);
        response->retry_after_ms = err->retry_after_ms;
    }
}

bool outcome_is_status(const struct outgoing *message)
{
    switch (message->err.code) {
    case ERR_INVALID_ARGUMENT:
    case ERR_PERMISSION_DENIED:
    case ERR_UNIMPLEMENTED:
    case ERR_CANCELLED:
        return true;
    default:
        return false;
    }
}
