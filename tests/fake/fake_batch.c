#include "tests/fake/fake_batch.h"

#include "src/base/container.h"

#include <stdlib.h>

static void release(struct incoming_batch *base)
{
    struct fake_batch *batch = CONTAINER_OF(base, struct fake_batch, base);

    batch->world->messages.batches_out--;
    arena_clear(&batch->arena);
    free(batch);
}

struct fake_batch *fake_batch_new(struct fake_world *world)
{
    struct fake_batch *batch = calloc(1, sizeof *batch);

    if (batch == NULL)
        abort();
    batch->world = world;
    batch->base.items = batch->items;
    batch->base.release = release;
    arena_init(&batch->arena, NULL);
    return batch;
}

void fake_batch_add(struct fake_batch *batch, const struct fake_kept *kept, int64_t offset)
{
    struct incoming *item = &batch->items[batch->base.n++];
    struct header *headers = arena_array(&batch->arena, kept->m.n_headers, sizeof *headers);

    for (size_t i = 0; i < kept->m.n_headers; i++) {
        headers[i].name = message_copy(&batch->arena, kept->m.headers[i].name);
        headers[i].value = message_copy(&batch->arena, kept->m.headers[i].value);
    }
    *item = (struct incoming){
        .topic = message_copy(&batch->arena, kept->m.topic),
        .key = message_copy(&batch->arena, kept->m.key),
        .id = message_copy(&batch->arena, kept->m.id),
        .payload = message_copy(&batch->arena, kept->m.payload),
        .headers = headers,
        .n_headers = (uint32_t)kept->m.n_headers,
        .partition = kept->partition,
        .offset = offset,
        .timestamp_ms = kept->timestamp_ms,
        .attempt = 1,
    };
    batch->base.bytes += fake_bytes_of(&kept->m);
}

/* ---- bundles ---- */

static const struct fake_kept *next_of(const struct fake_subscription *s)
{
    bool takes = s->kind == FAKE_KIND_TOPIC && s->opened && !s->ending &&
                 s->subscription->state == SUB_RUNNING && subscription_may_take(s->subscription);

    return takes && s->cursor < (int64_t)s->log->n ? &s->log->kept[s->cursor] : NULL;
}

static bool is_next_of(const struct fake_subscription *s, const void *bundle,
                       const struct fake_kept *kept)
{
    const struct fake_kept *own = next_of(s);

    return own != NULL && subscription_bundle(s->subscription) == bundle &&
           slice_equal(own->m.id, kept->m.id) && slice_equal(own->m.payload, kept->m.payload);
}

static void share_with(struct fake_subscription *s, struct fake_batch *batch, size_t bytes)
{
    subscription_take(s->subscription, 1, bytes);
    s->cursor++;
    batch->base.sharers[batch->base.n++] = s->subscription;
}

bool fake_share(struct fake_subscription *s)
{
    struct fake_messages *messages = &s->world->messages;
    const struct fake_kept *kept = next_of(s);
    const void *bundle = messages->bundles ? subscription_bundle(s->subscription) : NULL;
    struct fake_batch *batch;
    unsigned n = 0;

    if (kept == NULL || bundle == NULL)
        return false;
    for (struct fake_subscription *other = messages->open; other != NULL; other = other->next)
        n += is_next_of(other, bundle, kept);
    if (n < 2)
        return false;
    batch = fake_batch_new(s->world);
    fake_batch_add(batch, kept, -1);
    batch->items[0].topic = message_null();
    batch->base.n = 0;
    batch->base.bytes *= n;
    batch->base.sharers = arena_array(&batch->arena, n, sizeof(struct subscription *));
    for (struct fake_subscription *other = messages->open; other != NULL; other = other->next) {
        if (is_next_of(other, bundle, kept))
            share_with(other, batch, fake_bytes_of(&kept->m));
    }
    messages->batches++;
    messages->batches_out++;
    messages->shared += n;
    fake_messages_look(s->world); /* perhaps there is more */
    subscription_share(&batch->base);
    return true;
}
