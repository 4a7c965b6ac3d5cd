/* What became of a multicast is remembered under its message_id, where neither the queues nor the
 * topics compare identifiers: in the registry's own backend, for a time.
 *
 *   open    somebody is sending it; the same of what he has written down on his way (checkpoint.c).
 *           He holds a lease: once that is over he is gone, and the rest is kept for the window
 *   over    how many got it, who did not, and how far it came; kept for the window
 *
 *   claim -> put_if absent: it is ours ---------------------------------> send to all
 *         -> there already: get -> another digest --------------------> ALREADY_EXISTS
 *                               -> open ------------------------------> UNAVAILABLE, a moment later
 *                               -> open, lease over: as if it were over
 *                               -> over, nothing left ----------------> the first's answer
 *                               -> over, too many failed to be named -> FAILED_PRECONDITION
 *                               -> over, some failed, or not all were
 *                                  reached: put_if version -----------> send to those
 *                                                          -> changed: get again
 *                               -> gone meanwhile: claim again
 *         -> nobody knows: get -> our mark: it is ours; if the client has gone: as it was before
 *                               -> another's, or none --------------> the claim's error
 *   after the sending: put_if version, or del when nothing was sent
 *
 * An identity that was handed the message is not handed it again; one whose delivery failed, or
 * whose fate is unknown, is. If the end cannot be written, or nobody lives to write it, a
 * repetition goes on where the record says, and some get it twice. */
#include "patterns/multicast_registry/remember.h"

#include "patterns/multicast_registry/checkpoint.h"
#include "patterns/multicast_registry/record.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/number.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MOST_ATTEMPTS = 4, AGAIN_MS = 1000, WRITE_MS = 5000 };

static void claimed(struct op *op);
static void looked(struct op *op);
static void write_end(struct sending *s);

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
    number_put(lengths, request->payload.len, 8);
    number_put(lengths + 8, bytes, 8);
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

void remember_failed(struct sending *s, struct slice identity)
{
    if (s->remembered.claimed)
        record_failed(s, identity);
}

/* ---- before the sending ---- */

/* version: of the record that it replaces; empty: there is none. */
static void claim(struct sending *s, struct slice version)
{
    struct remembered *r = &s->remembered;

    if (getrandom(r->owner, OWNER_BYTES, 0) != OWNER_BYTES)
        abort(); /* never for so few bytes */
    r->until_ns = s->multicast->base.home->now_ns + LEASE_MS * NS_PER_MS;
    r->open = record_open(s, arena_of(s));
    r->put_if = (struct kv_put_if){.key = r->key,
                                   .value = r->open,
                                   .ttl_ms = LEASE_MS + s->multicast->settings.memory_ms,
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

/* With a deadline of its own: the outcome is looked for and told, also for a client that has gone.
 */
void remember_group(struct sending *s, void (*idle)(struct op_group *))
{
    struct op_group *group = &s->remembered.group;
    struct worker *home = s->multicast->base.home;

    op_group_init(group, home, arena_of(s), home->now_ns + WRITE_MS * NS_PER_MS);
    group->idle = idle;
}

struct err remember_taken(void)
{
    return err_make(ERR_ABORTED, "another multicast with this message_id has begun meanwhile");
}

static bool is_gone(const struct sending *s)
{
    const struct op_group *group = call_group(s->call);

    return group->cancelled.code != ERR_OK ||
           (s->group.deadline_ns != 0 && s->group.deadline_ns <= group->home->now_ns);
}

static void begin(struct sending *s, struct slice version)
{
    s->remembered.version = version;
    s->remembered.claimed = true;
    checkpoint_begin(s);
    sending_begin(s);
}

static void fail_unclaimed(struct sending *s)
{
    struct op_group *group = call_group(s->call);
    struct err err = s->remembered.err;

    err.effect = EFFECT_NONE; /* nothing was sent */
    call_fail(s->call, err);
    op_group_leave(group);
}

static void let_go(struct op_group *group)
{
    fail_unclaimed(CONTAINER_OF(group, struct sending, remembered.group));
}

static void looked_back(struct op_group *group)
{
    struct sending *s = CONTAINER_OF(group, struct sending, remembered.group);
    struct op_group *of_call = call_group(s->call);

    if (!record_is_ours(s)) {
        fail_unclaimed(s);
    } else if (is_gone(s)) {
        s->remembered.version = s->remembered.get.version;
        remember_group(s, let_go);
        write_end(s);
    } else {
        begin(s, s->remembered.get.version);
        op_group_leave(of_call);
    }
}

static void got_back(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.get.op);

    if (op->err.code != ERR_OK)
        counter_add(&s->multicast->stats.forgotten, 1); /* a claim may stand that nobody knows of */
}

/* The answer to the claim was lost. Nothing was sent: a record of ours must not stand in the way of
 * a repetition, nor in the place of what it replaced. */
static void look_back(struct sending *s, struct err err)
{
    struct remembered *r = &s->remembered;

    op_group_enter(call_group(s->call));
    r->err = err;
    remember_group(s, looked_back);
    r->get = (struct kv_get){.key = r->key, .want_version = true};
    op_start(&r->get.op, &r->group, got_back);
    s->multicast->plan.memory->kv_basic->get(s->multicast->registry, &r->get);
}

static void claimed(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.put_if.op);
    struct remembered *r = &s->remembered;

    if (op->err.code != ERR_OK && op->err.effect != EFFECT_NONE) {
        look_back(s, op->err);
    } else if (op->err.code != ERR_OK) {
        call_fail(s->call, op->err);
    } else if (r->put_if.stored) {
        begin(s, r->put_if.current_version);
    } else if (++r->attempts == MOST_ATTEMPTS) {
        call_fail(s->call, remember_taken());
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

static struct err stranger(void)
{
    return err_about(ERR_ALREADY_EXISTS, "message_id",
                     "the identifier belongs to a multicast with another payload, or to others");
}

/* What is over, or has lapsed. */
static void go_on(struct sending *s)
{
    const struct kv_get *get = &s->remembered.get;
    const struct record *record = (const void *)get->value.data;

    if ((record->flags & RECORD_OVERFLOWED) != 0)
        call_fail(s->call, err_about(ERR_FAILED_PRECONDITION, "message_id",
                                     "of the first multicast more deliveries failed than are "
                                     "remembered: use another message_id"));
    else if (!record_read(s, get->value))
        call_fail(s->call, err_make(ERR_INTERNAL, "what is remembered of the message_id is torn"));
    else if (s->exhausted && s->again.n == 0)
        sending_answer_as_before(s);
    else
        claim(s, get->version);
}

/* By the store's own clock. */
static void aged(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.ttl_get.op);
    const struct kv_ttl_get *left = &s->remembered.ttl_get;
    const struct record *record = (const void *)s->remembered.get.value.data;

    if (op->err.code != ERR_OK)
        call_fail(s->call, op->err);
    else if (!left->found || !left->has_ttl || left->ttl_ms > number_get(record->kept_ms, 8))
        call_fail(s->call, not_over());
    else
        go_on(s);
}

static const struct kv_ttl *ttl_of(const struct multicast *multicast)
{
    return multicast->plan.memory->kv_ttl != NULL ? multicast->plan.memory->kv_ttl
                                                  : multicast->registry->type->emulations.kv_ttl;
}

static void look_at(struct sending *s)
{
    struct remembered *r = &s->remembered;
    const struct record *record = (const void *)r->get.value.data;

    if (r->get.value.len < sizeof *record ||
        (record->state != RECORD_OPEN && record->state != RECORD_OVER)) {
        call_fail(s->call, err_make(ERR_INTERNAL, "the registry's backend holds something else "
                                                  "under the message_id"));
    } else if (memcmp(record->digest, r->digest.bytes, DIGEST_BYTES) != 0) {
        call_fail(s->call, stranger());
    } else if (record->state == RECORD_OVER) {
        go_on(s);
    } else if (number_get(record->kept_ms, 8) == 0) {
        call_fail(s->call, not_over());
    } else {
        r->ttl_get = (struct kv_ttl_get){.key = r->key};
        call_start(s->call, &r->ttl_get.op, aged);
        ttl_of(s->multicast)->get(s->multicast->registry, &r->ttl_get);
    }
}

static void looked(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.get.op);

    if (op->err.code != ERR_OK) {
        call_fail(s->call, op->err);
    } else if (s->remembered.get.found) {
        look_at(s);
    } else {
        record_none(s);
        claim(s, slice_of("", 0));
    }
}

/* ---- after the sending ---- */

static void put_done(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.put_if.op);

    if (op->err.code != ERR_OK || !s->remembered.put_if.stored)
        counter_add(&s->multicast->stats.forgotten, 1);
}

static void del_done(struct op *op)
{
    const struct sending *s = CONTAINER_OF(op, struct sending, remembered.del.op);

    if (op->err.code != ERR_OK)
        counter_add(&s->multicast->stats.forgotten, 1);
}

/* The answer may end the call, and with it the memory of this group: so it comes behind the group's
 * last step, not in the done() of its operation. */
static void written(struct op_group *group)
{
    sending_answer(CONTAINER_OF(group, struct sending, remembered.group));
}

/* Only in the place of our claim: once that has lapsed, another's may be there. */
static void write_end(struct sending *s)
{
    struct remembered *r = &s->remembered;
    bool lapsed = s->multicast->base.home->now_ns + WRITE_MS * NS_PER_MS >= r->until_ns;

    if (s->tally.targets == 0 && s->again.n == 0 && !s->exhausted && !lapsed) {
        r->del = (struct kv_del){.key = r->key};
        op_start(&r->del.op, &r->group, del_done);
        s->multicast->plan.memory->kv_basic->del(s->multicast->registry, &r->del);
        return;
    }
    r->put_if = (struct kv_put_if){.key = r->key,
                                   .value = record_over(s),
                                   .ttl_ms = s->multicast->settings.memory_ms,
                                   .condition = KV_IF_VERSION,
                                   .version = r->version};
    op_start(&r->put_if.op, &r->group, put_done);
    s->multicast->plan.memory->kv_cas->put_if(s->multicast->registry, &r->put_if);
}

static void got_for_end(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, remembered.get.op);

    if (record_is_ours(s)) {
        s->remembered.version = s->remembered.get.version;
        write_end(s);
    } else {
        counter_add(&s->multicast->stats.forgotten, 1);
    }
}

void remember_get(struct sending *s, op_done_fn *done, struct arena *arena)
{
    struct remembered *r = &s->remembered;

    r->get = (struct kv_get){.key = r->key, .want_version = true};
    op_start(&r->get.op, &r->group, done);
    r->get.op.arena = arena;
    s->multicast->plan.memory->kv_basic->get(s->multicast->registry, &r->get);
}

static void end_claim(struct sending *s)
{
    remember_group(s, written);
    if (s->remembered.unsure)
        remember_get(s, got_for_end, arena_of(s));
    else
        write_end(s);
}

void remember_ended(struct sending *s)
{
    if (s->remembered.taken)
        sending_answer(s);
    else
        end_claim(s);
}

bool remember_end(struct sending *s)
{
    struct remembered *r = &s->remembered;

    if (!r->claimed)
        return false;
    r->claimed = false;
    if (checkpoint_end(s))
        return true;
    if (r->taken) {
        counter_add(&s->multicast->stats.forgotten, 1);
        return false;
    }
    end_claim(s);
    return true;
}
