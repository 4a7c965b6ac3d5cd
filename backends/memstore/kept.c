#include "backends/memstore/kept.h"

#include "src/base/container.h"

#include <stdlib.h>

static void dispose(struct block *block)
{
    struct kept *kept = CONTAINER_OF(block, struct kept, block);

    block_unref(kept->shared);
    free(kept);
}

size_t kept_cost(const struct outgoing *m)
{
    return sizeof(struct kept) + m->n_headers * sizeof(struct header) + message_out_bytes(m);
}

/* Null stays null, empty stays empty. */
static struct slice put(char **at, struct slice from)
{
    struct slice out = {.data = NULL, .len = from.len};

    if (from.data == NULL)
        return out;
    out.data = (uint8_t *)*at;
    if (from.len > 0)
        memcpy(*at, from.data, from.len);
    *at += from.len;
    return out;
}

struct kept *kept_new(const struct outgoing *m, uint64_t timestamp_ms)
{
    size_t cost = kept_cost(m);
    struct kept *kept = malloc(m->shared != NULL ? cost - m->payload.len : cost);

    if (kept == NULL)
        abort();

    char *at = (char *)&kept->headers[m->n_headers];

    *kept = (struct kept){.timestamp_ms = timestamp_ms,
                          .cost = (uint32_t)cost,
                          .n_headers = (uint32_t)m->n_headers,
                          .topic_len = (uint32_t)m->topic.len};
    put(&at, m->topic);
    kept->key = put(&at, m->key);
    kept->id = put(&at, m->id);
    for (size_t i = 0; i < m->n_headers; i++) {
        kept->headers[i].name = put(&at, m->headers[i].name);
        kept->headers[i].value = put(&at, m->headers[i].value);
    }
    if (m->shared != NULL)
        kept->shared = block_ref(m->shared);
    block_init(&kept->block, m->shared != NULL ? m->payload : put(&at, m->payload), dispose);
    return kept;
}

void kept_tell(struct kept *kept, struct incoming *out)
{
    *out = (struct incoming){
        .topic = slice_of(&kept->headers[kept->n_headers], kept->topic_len),
        .key = kept->key,
        .id = kept->id,
        .payload = kept->block.bytes,
        .headers = kept->headers,
        .n_headers = kept->n_headers,
        .block = kept->shared != NULL ? kept->shared : &kept->block,
        .partition = -1,
        .offset = -1,
        .timestamp_ms = kept->timestamp_ms,
    };
}
