/* An acknowledgement "through" a delivery covers all before it. So it may only be sent behind what
 * else was said of those: groups go first. */
#include "client/src/settlements.h"

#include "client/src/error.h"

#include "prism/patterns/consumer/consumer_pattern.pb-c.h"

#include <stdlib.h>
#include <string.h>

typedef Prism__Patterns__Consumer__ConsumeRequest wire_request;

enum { FEWEST = 16 };

static void append(struct sequences *s, int64_t sequence)
{
    if (s->n == s->room) {
        size_t room = s->room > 0 ? s->room * 2 : FEWEST;
        int64_t *at = realloc(s->at, room * sizeof *at);

        if (at == NULL)
            abort();
        s->at = at;
        s->room = room;
    }
    s->at[s->n++] = sequence;
}

void settlements_init(struct settlements *s)
{
    *s = (struct settlements){0};
    s->last = &s->first;
}

static void group_free(struct settlement_group *group)
{
    free(group->sequences.at);
    free(group->reason);
    free(group);
}

void settlements_clear(struct settlements *s)
{
    while (s->first != NULL) {
        struct settlement_group *group = s->first;

        s->first = group->next;
        group_free(group);
    }
    free(s->done.at);
    settlements_init(s);
}

static bool same_reason(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* The last group, if it is one for this; a new one otherwise. */
static struct settlement_group *group_for(struct settlements *s, enum prism_disposition disposition,
                                          int64_t lease_ms,
                                          const struct prism_settle_options *options)
{
    static const struct prism_settle_options none = {0};
    struct settlement_group *group = NULL;

    if (options == NULL)
        options = &none;
    if (s->first != NULL)
        group =
            (struct settlement_group *)((char *)s->last - offsetof(struct settlement_group, next));
    if (group != NULL && group->disposition == disposition && group->lease_ms == lease_ms &&
        group->delay_ms == options->delay_ms && same_reason(group->reason, options->reason))
        return group;
    group = alloc_zeroed(1, sizeof *group);
    group->disposition = disposition;
    group->lease_ms = lease_ms;
    group->delay_ms = options->delay_ms;
    group->reason = alloc_text(options->reason);
    *s->last = group;
    s->last = &group->next;
    return group;
}

void settlements_add(struct settlements *s, int64_t sequence, enum prism_disposition disposition,
                     int64_t lease_ms, const struct prism_settle_options *options)
{
    bool next = lease_ms == 0 && sequence == s->through + 1;

    if (disposition != PRISM_DONE || lease_ms > 0)
        append(&group_for(s, disposition, lease_ms, options)->sequences, sequence);
    else if (!next)
        append(&s->done, sequence);
    s->through += next;
}

bool settlements_wait(const struct settlements *s)
{
    return s->first != NULL || s->done.n > 0 || s->through > s->sent_through;
}

/* ---- packing ---- */

static uint8_t *pack(const wire_request *request, size_t *len)
{
    uint8_t *bytes;

    *len = protobuf_c_message_get_packed_size(&request->base);
    bytes = alloc_zeroed(*len + 1, 1);
    protobuf_c_message_pack(&request->base, bytes);
    return bytes;
}

static uint8_t *pack_done(struct settlements *s, size_t *len)
{
    Prism__Patterns__Consumer__ConsumeAck ack = PRISM__PATTERNS__CONSUMER__CONSUME_ACK__INIT;
    wire_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;

    ack.through = s->through;
    ack.n_sequences = s->done.n;
    ack.sequences = s->done.at;
    request.action_case = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__ACTION_ACK;
    request.ack = &ack;
    s->sent_through = s->through;
    s->done.n = 0;
    return pack(&request, len);
}

static uint8_t *pack_extend(const struct settlement_group *group, size_t *len)
{
    Prism__Patterns__Consumer__ConsumeExtend extend =
        PRISM__PATTERNS__CONSUMER__CONSUME_EXTEND__INIT;
    wire_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;

    extend.lease_ms = group->lease_ms;
    extend.n_sequences = group->sequences.n;
    extend.sequences = group->sequences.at;
    request.action_case = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__ACTION_EXTEND;
    request.extend = &extend;
    return pack(&request, len);
}

static uint8_t *pack_reject(const struct settlement_group *group, size_t *len)
{
    static const Prism__Patterns__Consumer__Disposition dispositions[] = {
        [PRISM_RETRY] = PRISM__PATTERNS__CONSUMER__DISPOSITION__RETRY,
        [PRISM_RELEASE] = PRISM__PATTERNS__CONSUMER__DISPOSITION__RELEASE,
        [PRISM_DEAD_LETTER] = PRISM__PATTERNS__CONSUMER__DISPOSITION__DEAD_LETTER,
        [PRISM_DROP] = PRISM__PATTERNS__CONSUMER__DISPOSITION__DROP,
    };
    Prism__Patterns__Consumer__ConsumeReject reject =
        PRISM__PATTERNS__CONSUMER__CONSUME_REJECT__INIT;
    wire_request request = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__INIT;

    reject.disposition = dispositions[group->disposition];
    reject.n_sequences = group->sequences.n;
    reject.sequences = group->sequences.at;
    if (group->delay_ms > 0) {
        reject._delay_ms_case = PRISM__PATTERNS__CONSUMER__CONSUME_REJECT___DELAY_MS_DELAY_MS;
        reject.delay_ms = group->delay_ms;
    }
    if (group->reason != NULL)
        reject.reason = group->reason;
    request.action_case = PRISM__PATTERNS__CONSUMER__CONSUME_REQUEST__ACTION_REJECT;
    request.reject = &reject;
    return pack(&request, len);
}

uint8_t *settlements_pack(struct settlements *s, size_t *len)
{
    struct settlement_group *group = s->first;
    uint8_t *bytes;

    if (group == NULL)
        return pack_done(s, len);
    bytes = group->lease_ms > 0 ? pack_extend(group, len) : pack_reject(group, len);
    s->first = group->next;
    if (s->first == NULL)
        s->last = &s->first;
    group_free(group);
    return bytes;
}
