#include "patterns/multicast_registry/record.h"

#include "src/base/number.h"

#include <string.h>

/* ---- who failed ---- */

void record_failed(struct sending *s, struct slice identity)
{
    struct remembered *r = &s->remembered;

    if (r->failed_bytes + identity.len + 2 > REMEMBERED_BYTES) {
        r->overflowed = true;
        return;
    }
    if (r->failed == NULL)
        r->failed = arena_alloc(call_arena(s->call), REMEMBERED_BYTES);
    number_put(r->failed + r->failed_bytes, identity.len, 2);
    memcpy(r->failed + r->failed_bytes + 2, identity.data, identity.len);
    r->failed_bytes += identity.len + 2;
    r->n_failed++;
}

/* Those of an earlier multicast whose turn has not come. */
static void add_untried(struct sending *s)
{
    for (size_t i = s->again.next; i < s->again.n; i++)
        record_failed(s, s->again.items[i]);
}

/* ---- records ---- */

static struct slice write(struct sending *s, struct arena *arena, uint8_t state, uint64_t kept_ms)
{
    struct remembered *r = &s->remembered;
    size_t bytes = sizeof(struct record) + s->after_len + r->failed_bytes;
    uint8_t *out = arena_alloc(arena, bytes);
    struct record *record = (void *)out;
    const int32_t counts[RECORD_COUNTS] = {s->tally.delivered, s->tally.no_receiver,
                                           s->tally.pending, s->tally.skipped};

    *record = (struct record){.state = state,
                              .ended = s->exhausted,
                              .flags = (uint8_t)((r->overflowed ? RECORD_OVERFLOWED : 0) |
                                                 (r->resumed ? RECORD_RESUMED : 0))};
    memcpy(record->owner, r->owner, OWNER_BYTES);
    number_put(record->kept_ms, kept_ms, 8);
    memcpy(record->digest, r->digest.bytes, DIGEST_BYTES);
    for (int i = 0; i < RECORD_COUNTS; i++)
        number_put(record->counts[i], (uint32_t)counts[i], 4);
    number_put(record->next_name, s->named.next, 4);
    number_put(record->n_failed, r->n_failed, 4);
    number_put(record->after_len, s->after_len, 2);
    if (s->after_len > 0)
        memcpy(out + sizeof *record, s->after, s->after_len);
    if (r->failed_bytes > 0)
        memcpy(out + sizeof *record + s->after_len, r->failed, r->failed_bytes);
    return slice_of(out, bytes);
}

struct slice record_open(struct sending *s, struct arena *arena)
{
    struct remembered *r = &s->remembered;
    size_t bytes = r->failed_bytes, n = r->n_failed;
    struct slice record;

    add_untried(s);
    record = write(s, arena, RECORD_OPEN, s->multicast->settings.memory_ms);
    r->failed_bytes = bytes;
    r->n_failed = n;
    return record;
}

struct slice record_over(struct sending *s)
{
    add_untried(s);
    return write(s, call_arena(s->call), RECORD_OVER, 0);
}

static bool read_failed(struct sending *s, struct slice rest, size_t n)
{
    s->again = (struct names){.items = arena_array(call_arena(s->call), n, sizeof(struct slice))};
    for (; s->again.n < n; s->again.n++) {
        size_t len = rest.len >= 2 ? (size_t)number_get(rest.data, 2) : SIZE_MAX;

        if (len > rest.len - 2 || rest.len < 2)
            return false;
        s->again.items[s->again.n] = slice_of(rest.data + 2, len);
        rest = slice_of(rest.data + 2 + len, rest.len - 2 - len);
    }
    return true;
}

void record_none(struct sending *s)
{
    s->tally = (struct tally){0};
    s->again = (struct names){0};
    s->named.next = s->after_len = 0;
    s->exhausted = s->truncated = s->remembered.resumed = false;
}

bool record_read(struct sending *s, struct slice value)
{
    const struct record *record = (const void *)value.data;
    int32_t *counts[RECORD_COUNTS] = {&s->tally.delivered, &s->tally.no_receiver, &s->tally.pending,
                                      &s->tally.skipped};
    size_t after;

    record_none(s);
    if (value.len < sizeof *record)
        return false;
    after = (size_t)number_get(record->after_len, 2);
    if (after > sizeof s->after || after > value.len - sizeof *record ||
        number_get(record->n_failed, 4) > REMEMBERED_BYTES / 2)
        return false;
    s->after_len = after;
    memcpy(s->after, value.data + sizeof *record, after);
    s->exhausted = record->ended != 0;
    s->remembered.resumed = (record->flags & RECORD_RESUMED) != 0 || record->state == RECORD_OPEN;
    s->named.next = (size_t)number_get(record->next_name, 4);
    for (int i = 0; i < RECORD_COUNTS; i++) {
        *counts[i] = (int32_t)number_get(record->counts[i], 4);
        s->tally.targets += *counts[i];
    }
    s->truncated = s->tally.targets > 0 && !s->streams &&
                   s->request->results != MULTICAST_PB(RESULTS_MODE__RESULTS_NONE) &&
                   s->request->results != MULTICAST_PB(RESULTS_MODE__RESULTS_FAILURES);
    return s->named.next <= s->named.n &&
           read_failed(
               s, slice_of(value.data + sizeof *record + after, value.len - sizeof *record - after),
               (size_t)number_get(record->n_failed, 4));
}

bool record_is_ours(const struct sending *s)
{
    const struct remembered *r = &s->remembered;
    const struct record *record = (const void *)r->get.value.data;

    return r->get.op.err.code == ERR_OK && r->get.found && r->get.value.len >= sizeof *record &&
           record->state == RECORD_OPEN && memcmp(record->owner, r->owner, OWNER_BYTES) == 0;
}
