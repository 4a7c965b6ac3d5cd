/* What could not be settled, on its way to the client of a stream. A frame takes as many failures
 * as surely fit; they lie where their receipt put them until the last frame with one of them is
 * over. */
#include "patterns/consumer/member.h"

static void clear_memory(void *of)
{
    struct receipt *receipt = of;
    struct arena memory = receipt->memory; /* holds the receipt itself */

    arena_clear(&memory);
}

void failures_init(struct failures *failures)
{
    *failures = (struct failures){.end = &failures->first};
}

void failures_add(struct failures *failures, struct receipt *receipt)
{
    if (receipt->n_failures == 0) {
        clear_memory(receipt);
        return;
    }
    receipt->next = NULL;
    *failures->end = receipt;
    failures->end = &receipt->next;
    failures->n += receipt->n_failures;
}

static struct receipt *take_first(struct failures *failures)
{
    struct receipt *receipt = failures->first;

    failures->first = receipt->next;
    if (failures->first == NULL)
        failures->end = &failures->first;
    return receipt;
}

/* Frames are over in their order, so that the last one of a receipt frees it. */
void failures_tell(struct failures *failures, struct frame *frame)
{
    enum { LEAST_BYTES = 4, FIELD_BYTES = 4 };
    pb_consume_response *response = &frame->response;
    size_t most = FRAME_FAILURES_BYTES / LEAST_BYTES, bytes = 0;

    if (most > failures->n)
        most = failures->n;
    response->failures = arena_alloc(&frame->arena, most * sizeof *response->failures);
    while (response->n_failures < most) {
        struct receipt *receipt = failures->first;
        pb_settlement_failure *failure = receipt->failures[receipt->told];

        bytes += FIELD_BYTES + protobuf_c_message_get_packed_size(&failure->base);
        if (response->n_failures > 0 && bytes > FRAME_FAILURES_BYTES)
            return;
        response->failures[response->n_failures++] = failure;
        failures->n--;
        if (++receipt->told == receipt->n_failures)
            arena_adopt(&frame->arena, take_first(failures), clear_memory);
    }
}

void failures_clear(struct failures *failures)
{
    while (failures->first != NULL)
        clear_memory(take_first(failures));
    failures->n = 0;
}
