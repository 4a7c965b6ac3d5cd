/* What became of a multicast is remembered under its message_id, where neither the queues nor the
 * topics compare identifiers: in the registry's own backend, for a time.
 *
 *   open    somebody is sending it; expires by itself, should he be gone
 *   over    how many got it, who did not, and how far it came; kept for the window
 *
 *   claim -> put_if absent: it is ours ---------------------------------> send to all
 *         -> there already: get -> another digest --------------------> ALREADY_EXISTS
 *                               -> open ------------------------------> UNAVAILABLE, a moment later
 *                               -> over, nothing left ----------------> the first's answer
 *                               -> over, too many failed to be named -> FAILED_PRECONDITION
 *                               -> over, some failed, or not all were
 *                                  reached: put_if version -----------> send to those
 *                               -> gone meanwhile: claim again
 *   after the sending: put, or del when nothing was sent
 *
 * An identity that was handed the message is not handed it again; one whose delivery failed, or
 * whose fate is unknown, is. A record that cannot be written stays open until it expires; then a
 * repetition goes to all. */
#include "patterns/multicast_registry/remember.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <string.h>

enum { OPEN = 'O', OVER = 'V' };
enum {
    MOST_ATTEMPTS = 4,
    MOST_DEADLINE_MS = 600000, /* of a call, for how long its claim stands */
    MARGIN_MS = 60000,
    AGAIN_MS = 1000,
    WRITE_MS = 5000,
    COUNTS = 4
};

/* In the store, little-endian. Behind it: the identity after which the walk goes on, then those
 * that failed, each with its length before it. */
struct record {
    uint8_t state, ended, overflowed;
    uint8_t digest[DIGEST_BYTES];
    uint8_t counts[COUNTS][4]; /* delivered, no_receiver, pending, skipped */
    uint8_t next_name[4], n_failed[4], after_len[2];
};

static void claimed(struct op *op);
static void looked(struct op *op);

static void put_number(uint8_t *out, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(number >> 8 * i);
}

static uint64_t get_number(const uint8_t *from, int bytes)
{
    uint64_t number = 0;

    for (int i = 0; i < bytes; i++)
        number |= (uint64_t)from[i] << 8 * i;
    return number;
}

static struct arena *arena_of(const struct sending *s)
{
    return call_arena(s->call);
}

/* ---- what is compared, and where it lies ---- */

/* The payload, and whom it is for. */
static struct digest digest_this(const struct sending *s)
{
    const pb_multicast_request *request = s->request;
    size_t bytes =
        request->filter != NULL ? protobuf_c_message_get_packed_size(&request->filter->base) : 0;
    uint8_t *filter = arena_alloc(arena_of(s), bytes + 1), lengths[17];
    struct slice *parts = arena_array(arena_of(s), s->named.n + 3, sizeof *parts);
    unsigned n = 3;

    if (bytes > 0)
        protobuf_c_message_pack(&request->filter->base, filter);
    put_number(lengths, request->payload.len, 8);
    put_number(lengths + 8, bytes, 8);
    lengths[16] = s->kept;
    parts[0] = slice_of(lengths, sizeof lengths);
    parts[1] = pb_slice(request->payload);
    parts[2] = slice_of(filter, bytes);
    for (size_t i = 0; i < s->named.n; i++)
        parts[n++] = slice_of(s->named.items[i].data, s->named.items[i].len + 1); /* with its NUL */
    return digest_of(parts, n);
}

/* Begins with NUL, as no key of a client does: one store may serve both. */
static struct slice key_of(const struct sending *s)
{
    static const char name[] = "\0multicast";
    struct slice id = slice_str(s->id);
    uint8_t *out = arena_alloc(arena_of(s), sizeof name + id.len);

    memcpy(out, name, sizeof name);
    memcpy(out + sizeof name, id.data, id.len);
    return slice_of(out, sizeof name + id.len);
}

bool remember_is_asked_for(const struct sending *s)
{
    return s->request->message_id[0] != '\0' && s->multicast->plan.memory != NULL &&
           !s->request->dry_run && !(s->kept && s->sink->dedups);
}

/* ---- who failed ---- */

void remember_failed(struct sending *s, struct slice identity)
{
    struct remembered *r = &s->remembered;

    if (!r->claimed)
        return;
    if (r->failed_bytes + identity.len + 2 > REMEMBERED_BYTES) {
        r->overflowed = true;
        return;
    }
    if (r->failed == NULL)
        r->failed = arena_alloc(arena_of(s), REMEMBERED_BYTES);
    put_number(r->failed + r->failed_bytes, identity.len, 2);
    memcpy(r->failed + r->failed_bytes + 2, identity.data, identity.len);
    r->failed_bytes += identity.len + 2;
    r->n_failed++;
}

/* Those of an earlier multicast whose turn did not come. */
static void add_untried(struct sending *s)
{
    for (; s->again.next < s->again.n; s->again.next++)
        remember_failed(s, s->again.items[s->again.next]);
}

/* ---- records ---- */

static struct slice write_record(struct sending *s, uint8_t state)
{
    struct remembered *r = &s->remembered;
    size_t bytes = sizeof(struct record) + s->after_len + r->failed_bytes;
    uint8_t *out = arena_alloc(arena_of(s), bytes);
    struct record *record = (void *)out;
    const int32_t counts[COUNTS] = {s->tally.delivered, s->tally.no_receiver, s->tally.pending,
                                    s->tally.skipped};

    *record = (struct record){.state = state, .ended = s->exhausted, .overflowed = r->overflowed};
    memcpy(record->digest, r->digest.bytes, DIGEST_BYTES);
    for (int i = 0; i < COUNTS; i++)
        put_number(record->counts[i], (uint32_t)counts[i], 4);
    put_number(record->next_name, s->named.next, 4);
    put_number(record->n_failed, r->n_failed, 4);
    put_number(record->after_len, s->after_len, 2);
    if (s->after_len > 0)
        memcpy(out + sizeof *record, s->after, s->after_len);
    if (r->failed_bytes > 0)
        memcpy(out + sizeof *record + s->after_len, r->failed, r->failed_bytes);
    return slice_of(out, bytes);
}

static bool read_failed(struct sending *s, struct slice rest, size_t n)
{
    s->again = (struct names){.items = arena_array(arena_of(s), n, sizeof(struct slice))};
    for (; s->again.n < n; s->again.n++) {
        size_t len = rest.len >= 2 ? (size_t)get_number(rest.data, 2) : SIZE_MAX;

        if (len > rest.len - 2 || rest.len < 2)
            return false;
        s->again.items[s->again.n] = slice_of(rest.data + 2, len);
        rest = slice_of(rest.data + 2 + len, rest.len - 2 - len);
    }
    return true;
}

/* Goes on where the earlier one stood. False: it is no record of ours. */
static bool read_record(struct sending *s, struct slice value)
{
    const struct record *record = (const void *)value.data;
    int32_t *counts[COUNTS] = {&s->tally.delivered, &s->tally.no_receiver, &s->tally.pending,
                               &s->tally.skipped};
    size_t after;

    if (value.len < sizeof *record)
        return false;
    after = (size_t)get_number(record->after_len, 2);
    if (after > sizeof s->after || after > value.len - sizeof *record ||
        get_number(record->n_failed, 4) > REMEMBERED_BYTES / 2)
        return false;
    s->after_len = after;
    memcpy(s->after, value.data + sizeof *record, after);
    s->exhausted = record->ended != 0;
    s->named.next = (size_t)get_number(record->next_name, 4);
    for (int i = 0; i < COUNTS; i++) {
        *counts[i] = (int32_t)get_number(record->counts[i], 4);
        s->tally.targets += *counts[i];
    }
    s->truncated = s->tally.targets > 0 && !s->streams &&
                   s->request->results != MULTICAST_PB(RESULTS_MODE__RESULTS_NONE) &&
                   s->request->results != MULTICAST_PB(RESULTS_MODE__RESULTS_FAILURES);
    return s->named.next <= s->named.n &&
           read_failed(
               s, slice_of(value.data + sizeof *record + after, value.len - sizeof *record - after),
               (size_t)get_number(record->n_failed, 4));
}

/* ---- before the sending ---- */

static uint64_t open_ms(const struct sending *s)
{
    uint64_t now_ns = s->multicast->base.home->now_ns, rest_ms = MOST_DEADLINE_MS;

    if (s->group.deadline_ns > now_ns &&
        (s->group.deadline_ns - now_ns) / NS_PER_MS < MOST_DEADLINE_MS)
        rest_ms = (s->group.deadline_ns - now_ns) / NS_PER_MS;
    return rest_ms + MARGIN_MS;
}

/* version: of the record that it replaces; empty: there is none. */
static void claim(struct sending *s, struct slice version)
{
    struct remembered *r = &s->remembered;

    r->put_if = (struct kv_put_if){.key = r->key,
                                   .value = write_record(s, OPEN),
                                   .ttl_ms = open_ms(s),
                                   .condition = version.len > 0 ? KV_IF_VERSION : KV_IF_ABSENT,
                                   .version = version};
    call_start(s->call, &r->put_if.op, claimed);
    s->multicast->plan.memory->kv_cas->put_if(s->multicast->registry, &r->put_if);
}

void remember_begin(struct sending *s)
{
    s->remembered.key = key_of(s);
    s->remembered.digest = digest_this(s);
    claim(s, slice_of("", 0));
}

static void claimed(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.put_if.op);
    struct remembered *r = &s->remembered;

    if (op->err.code != ERR_OK) {
        struct err err = op->err;

        err.effect = EFFECT_NONE; /* nothing was sent */
        call_fail(s->call, err);
    } else if (r->put_if.stored) {
        r->claimed = true;
        sending_begin(s);
    } else if (r->put_if.condition == KV_IF_VERSION || ++r->attempts == MOST_ATTEMPTS) {
        call_fail(s->call, err_make(ERR_ABORTED, "another multicast with this message_id has "
                                                 "begun meanwhile"));
    } else {
        r->get = (struct kv_get){.key = r->key, .want_version = true};
        call_start(s->call, &r->get.op, looked);
        s->multicast->plan.memory->kv_basic->get(s->multicast->registry, &r->get);
    }
}

static struct err not_over(void)
{
    return (struct err){.code = ERR_UNAVAILABLE,
                        .text = "an earlier multicast with this message_id is not over, or its "
                                "server is gone",
                        .retry_after_ms = AGAIN_MS};
}

static void go_on(struct sending *s)
{
    const struct kv_get *get = &s->remembered.get;
    const struct record *record = (const void *)get->value.data;

    if (get->value.len < sizeof *record || (record->state != OPEN && record->state != OVER))
        call_fail(s->call, err_make(ERR_INTERNAL, "the registry's backend holds something else "
                                                  "under the message_id"));
    else if (memcmp(record->digest, s->remembered.digest.bytes, DIGEST_BYTES) != 0)
        call_fail(s->call, err_about(ERR_ALREADY_EXISTS, "message_id",
                                     "the identifier belongs to a multicast with another payload, "
                                     "or to others"));
    else if (record->state == OPEN)
        call_fail(s->call, not_over());
    else if (record->overflowed)
        call_fail(s->call, err_about(ERR_FAILED_PRECONDITION, "message_id",
                                     "of the first multicast more deliveries failed than are "
                                     "remembered: use another message_id"));
    else if (!read_record(s, get->value))
        call_fail(s->call, err_make(ERR_INTERNAL, "what is remembered of the message_id is torn"));
    else if (s->exhausted && s->again.n == 0)
        sending_answer_as_before(s);
    else
        claim(s, get->version);
}

static void looked(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.get.op);

    if (op->err.code != ERR_OK)
        call_fail(s->call, op->err);
    else if (s->remembered.get.found)
        go_on(s);
    else
        claim(s, slice_of("", 0));
}

/* ---- after the sending ---- */

static void count_written(struct sending *s, struct err err)
{
    if (err.code != ERR_OK)
        counter_add(&s->multicast->stats.forgotten, 1);
}

static void put_done(struct op *op)
{
    count_written(CONTAINER_OF(op, struct sending, remembered.put.op), op->err);
}

static void del_done(struct op *op)
{
    count_written(CONTAINER_OF(op, struct sending, remembered.del.op), op->err);
}

/* The answer may end the call, and with it the memory of this group: so it comes behind the group's
 * last step, not in the done() of its operation. */
static void written(struct op_group *group)
{
    sending_answer(CONTAINER_OF(group, struct sending, remembered.group));
}

bool remember_end(struct sending *s)
{
    struct remembered *r = &s->remembered;
    struct worker *home = s->multicast->base.home;

    if (!r->claimed)
        return false;
    add_untried(s);
    r->claimed = false;
    op_group_init(&r->group, home, arena_of(s), home->now_ns + WRITE_MS * NS_PER_MS);
    r->group.idle = written;
    if (s->tally.targets == 0 && !s->exhausted) {
        r->del = (struct kv_del){.key = r->key};
        op_start(&r->del.op, &r->group, del_done);
        s->multicast->plan.memory->kv_basic->del(s->multicast->registry, &r->del);
        return true;
    }
    r->put = (struct kv_put){
        .key = r->key, .value = write_record(s, OVER), .ttl_ms = s->multicast->settings.memory_ms};
    op_start(&r->put.op, &r->group, put_done);
    s->multicast->plan.memory->kv_basic->put(s->multicast->registry, &r->put);
    return true;
}
