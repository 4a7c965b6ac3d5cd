/* Identities that a stream registers for as long as they are attached: entered with their grace and
 * a third of it as time to live, and kept alive by a heartbeat at a third of the shortest grace.
 * When the stream ends, or its server does, they expire by themselves. Heartbeats name the
 * generation, so that who was registered by another stream is left to it.
 *
 * Memory: an arena for each batch of REGISTRY_BATCH under way, one at a time for heartbeats. */
#include "patterns/multicast_registry/metadata.h"
#include "patterns/multicast_registry/receiver.h"
#include "pool/worker.h"
#include "src/base/clock.h"

enum { DEFAULT_GRACE_MS = 30000, LEAST_GRACE_MS = 1000, BEATS_IN_GRACE = 3 };

static struct attachment *still_there(struct receiver *r, struct slice identity)
{
    struct attachment *a = attachment_find(r, identity);

    return a == NULL || a->leaving || a->ended ? NULL : a;
}

/* ---- heartbeats ---- */

struct beating {
    struct registry_beat beat;
    struct receiver *receiver;
    struct arena arena; /* holds it */
    size_t bucket;      /* where the next batch goes on */
};

static void beat_from(struct receiver *r, size_t bucket);
static void beat_later(struct receiver *r);

/* The identity may have been detached and attached anew meanwhile. */
static void take_outcome(struct receiver *r, const struct registry_beat_item *item)
{
    struct attachment *a = still_there(r, item->identity);

    if (item->err.code == ERR_OK || a == NULL || !a->registered ||
        a->generation != item->if_generation)
        return;
    if (item->err.code == ERR_FAILED_PRECONDITION)
        attachment_fail(a, err_make(ERR_ABORTED, "somebody else has registered the identity"));
    else
        attachment_fail(a, err_make(ERR_NOT_FOUND, "the identity is not registered any more"));
}

static void beaten(struct op *op)
{
    struct beating *b = CONTAINER_OF(op, struct beating, beat.op);
    struct receiver *r = b->receiver;
    struct arena arena = b->arena;
    size_t bucket = b->bucket;

    r->beating = false;
    for (size_t i = 0; op->err.code == ERR_OK && i < b->beat.n && !r->ending; i++)
        take_outcome(r, &b->beat.items[i]);
    arena_clear(&arena);
    if (r->ending)
        receiver_look(r);
    else
        beat_from(r, bucket);
}

static size_t length_of(const struct attachment *chain)
{
    size_t n = 0;

    for (const struct attachment *a = chain; a != NULL; a = a->next)
        n++;
    return n;
}

/* Whole buckets, so that nobody of the last one is passed over. One has never as many as a batch:
 * where an identity goes is not known to clients. */
static size_t fill(struct beating *b, size_t bucket)
{
    struct receiver *r = b->receiver;

    for (; bucket < r->buckets; bucket++) {
        if (b->beat.n > 0 && b->beat.n + length_of(r->table[bucket]) > REGISTRY_BATCH)
            break;
        for (const struct attachment *a = r->table[bucket]; a != NULL; a = a->next) {
            if (a->registered && b->beat.n < REGISTRY_BATCH)
                b->beat.items[b->beat.n++] = (struct registry_beat_item){
                    .identity = arena_copy(&b->arena, attachment_identity(a)),
                    .if_generation = a->generation};
        }
    }
    return bucket;
}

static void beat_from(struct receiver *r, size_t bucket)
{
    struct arena arena;
    struct beating *b;

    if (bucket >= r->buckets) {
        beat_later(r);
        return;
    }
    arena_init(&arena, NULL);
    b = arena_zalloc(&arena, sizeof *b);
    b->arena = arena;
    b->receiver = r;
    b->beat.ttl_ms = 0; /* as long as it was registered for */
    b->beat.items = arena_array(&b->arena, REGISTRY_BATCH, sizeof *b->beat.items);
    b->bucket = fill(b, bucket);
    if (b->beat.n == 0) {
        arena = b->arena;
        arena_clear(&arena);
        beat_later(r);
        return;
    }
    r->beating = true;
    call_start(r->call, &b->beat.op, beaten);
    b->beat.op.arena = &b->arena;
    r->multicast->plan.registry->beat(r->multicast->registry, &b->beat);
}

static void on_time(struct timer *timer)
{
    beat_from(CONTAINER_OF(timer, struct receiver, beat), 0);
}

static void beat_later(struct receiver *r)
{
    struct worker *home = r->multicast->base.home;

    if (r->registered == 0 || r->ending || timer_armed(&r->beat))
        return;
    timer_arm(&home->timers, &r->beat, home->now_ns + r->grace_ms * NS_PER_MS / BEATS_IN_GRACE,
              on_time);
}

void presence_end(struct receiver *r)
{
    if (timer_armed(&r->beat))
        timer_disarm(&r->multicast->base.home->timers, &r->beat);
}

/* ---- registering ---- */

struct entering {
    struct registry_put put;
    struct receiver *receiver;
    struct arena arena; /* holds it */
    uint64_t grace_ms;
};

static void take_entry(struct entering *e, const struct registry_put_item *item, struct err err)
{
    struct receiver *r = e->receiver;
    struct attachment *a = still_there(r, item->identity);

    if (a == NULL)
        return;
    if (err.code != ERR_OK) {
        attachment_fail(a, err);
        return;
    }
    r->registered += !a->registered;
    a->registered = true;
    a->generation = item->generation;
    if (r->grace_ms == 0 || e->grace_ms < r->grace_ms)
        r->grace_ms = e->grace_ms;
}

static void entered(struct op *op)
{
    struct entering *e = CONTAINER_OF(op, struct entering, put.op);
    struct receiver *r = e->receiver;
    struct arena arena = e->arena;

    r->entering--;
    for (size_t i = 0; i < e->put.n && !r->ending; i++)
        take_entry(e, &e->put.items[i], op->err.code != ERR_OK ? op->err : e->put.items[i].err);
    counter_add(&r->multicast->stats.registered, r->ending ? 0 : e->put.n);
    arena_clear(&arena);
    if (!r->beating)
        beat_later(r);
    receiver_look(r);
}

static void enter(struct receiver *r, const pb_attach_identities *request, size_t first, size_t n,
                  const struct registry_put_item *like)
{
    struct arena arena;
    struct entering *e;

    arena_init(&arena, NULL);
    e = arena_zalloc(&arena, sizeof *e);
    e->arena = arena;
    e->receiver = r;
    e->grace_ms = like->ttl_ms * BEATS_IN_GRACE / (BEATS_IN_GRACE + 1);
    e->put.n = n;
    e->put.max_identities = r->multicast->settings.max_identities;
    e->put.items = arena_array(&e->arena, n, sizeof *e->put.items);
    for (size_t i = 0; i < n; i++) {
        struct registry_put_item *item = &e->put.items[i];

        *item = *like;
        item->identity = arena_copy(&e->arena, slice_str(request->identities[first + i]));
        item->document = arena_copy(&e->arena, like->document);
        item->tags = arena_copy(&e->arena, like->tags);
    }
    r->entering++;
    call_start(r->call, &e->put.op, entered);
    e->put.op.arena = &e->arena;
    r->multicast->plan.registry->put(r->multicast->registry, &e->put);
}

static size_t batch_of(const struct registry_put_item *like)
{
    size_t each = REGISTRY_IDENTITY_BYTES + like->document.len + like->tags.len;
    size_t most = REGISTRY_BATCH_BYTES / each;

    return most < REGISTRY_BATCH ? most : REGISTRY_BATCH;
}

struct err presence_register(struct receiver *r, const pb_attach_identities *request)
{
    struct registry_put_item like = {.replace = true};
    struct arena scratch;
    struct err err = convert_ttl(request->registration->grace, DEFAULT_GRACE_MS, &like.ttl_ms);

    if (err.code == ERR_OK && like.ttl_ms < LEAST_GRACE_MS)
        err = err_make(ERR_INVALID_ARGUMENT, "grace is 1 second or more");
    if (err.code != ERR_OK)
        return err_about(err.code, "attach.registration.grace", err.text);
    like.ttl_ms += like.ttl_ms / BEATS_IN_GRACE; /* the last heartbeat may be so long ago */
    arena_init(&scratch, NULL);
    err = metadata_read(&scratch, request->registration->metadata, REGISTRY_DOCUMENT_BYTES,
                        &like.document);
    if (err.code == ERR_OK)
        err = convert_tags(&scratch, request->registration->tags, request->registration->n_tags,
                           &like.tags);
    for (size_t i = 0, n; err.code == ERR_OK && i < request->n_identities; i += n) {
        n = request->n_identities - i < batch_of(&like) ? request->n_identities - i
                                                        : batch_of(&like);
        enter(r, request, i, n, &like);
    }
    arena_clear(&scratch);
    return err;
}
