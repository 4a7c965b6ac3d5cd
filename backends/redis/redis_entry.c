/* Messages as entries of a stream.
 *
 * The fields `payload`, `key` and `id` are what their names say; every other field is a header of
 * its name, and a field may be there more than once. A header whose name is one of these three, or
 * begins with "header:", is stored with "header:" before its name. So an entry that any client
 * writes is a message: the first `payload`, `key` and `id` are taken as such, the others of these
 * names are headers. An entry without `payload` has a null payload. */
#include "backends/redis/redis_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MARK "header:"

enum part { PART_PAYLOAD, PART_KEY, PART_ID, PART_HEADER };

static enum part part_of(struct slice name)
{
    if (slice_equal(name, slice_str("payload")))
        return PART_PAYLOAD;
    if (slice_equal(name, slice_str("key")))
        return PART_KEY;
    return slice_equal(name, slice_str("id")) ? PART_ID : PART_HEADER;
}

/* ---- going out ---- */

size_t redis_entry_bytes(const struct outgoing *item)
{
    size_t marks = item->n_headers * (sizeof HEADER_MARK + 2 * redis_words(1));

    return message_out_bytes(item) + marks + redis_words(9) + 16;
}

unsigned redis_entry_words(const struct outgoing *item)
{
    return 2u * (1u + !message_is_null(item->key) + !message_is_null(item->id) +
                 (unsigned)item->n_headers);
}

static bool is_marked(const struct header *header)
{
    return part_of(header->name) != PART_HEADER ||
           slice_starts_with(header->name, slice_str(HEADER_MARK));
}

static size_t field_size(const char *name, struct slice value)
{
    return message_is_null(value) ? 0 : strlen(name) + value.len;
}

size_t redis_entry_size(const struct outgoing *item)
{
    size_t size = field_size("payload", item->payload) + field_size("key", item->key) +
                  field_size("id", item->id);

    for (size_t i = 0; i < item->n_headers; i++) {
        const struct header *header = &item->headers[i];

        size +=
            (is_marked(header) ? strlen(HEADER_MARK) : 0) + header->name.len + header->value.len;
    }
    return size;
}

static void put_field(struct redis_call *call, const char *name, struct slice value)
{
    if (message_is_null(value))
        return;
    redis_word(call, slice_str(name));
    redis_word(call, value);
}

static void put_header(struct redis_call *call, const struct header *header)
{
    redis_word_joined(call, slice_str(is_marked(header) ? HEADER_MARK : ""), header->name);
    redis_word(call, header->value);
}

void redis_entry_put(struct redis_call *call, const struct outgoing *item)
{
    put_field(call, "payload", item->payload);
    put_field(call, "key", item->key);
    put_field(call, "id", item->id);
    for (size_t i = 0; i < item->n_headers; i++)
        put_header(call, &item->headers[i]);
}

void redis_say_newest(struct redis_call *call, struct slice key)
{
    redis_command(call, 6, "XREVRANGE");
    redis_word(call, key);
    redis_word(call, slice_str("+"));
    redis_word(call, slice_str("-"));
    redis_word(call, slice_str("COUNT"));
    redis_word_number(call, 1);
}

/* ---- identifiers ---- */

static bool number_of(struct slice text, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || *number > UINT64_MAX / 10)
            return false;

        uint64_t next = 10 * *number + (uint64_t)(text.data[i] - '0');

        if (next < *number)
            return false;
        *number = next;
    }
    return text.len > 0;
}

bool redis_id_parse(struct slice text, struct redis_id *id)
{
    const uint8_t *dash = text.len > 0 ? memchr(text.data, '-', text.len) : NULL;

    if (dash == NULL)
        return false;

    size_t left = (size_t)(dash - text.data);

    return number_of(slice_of(text.data, left), &id->ms) &&
           number_of(slice_of(dash + 1, text.len - left - 1), &id->seq);
}

struct slice redis_id_text(struct redis_id id, char text[REDIS_ID_BYTES])
{
    int len = snprintf(text, REDIS_ID_BYTES, "%llu-%llu", (unsigned long long)id.ms,
                       (unsigned long long)id.seq);

    return slice_of(text, (size_t)len);
}

/* ---- coming in ---- */

/* What members keep for long would hold blocks of the worker's, and fill its cache at the end. */
struct redis_fetched *redis_fetched_new(struct slice topic, uint32_t room)
{
    struct redis_fetched *fetched = calloc(1, sizeof *fetched);

    if (fetched == NULL)
        abort();
    arena_init(&fetched->arena, NULL);
    fetched->batches = 1;
    fetched->topic = arena_copy(&fetched->arena, topic);
    fetched->items = arena_alloc(&fetched->arena, room * sizeof *fetched->items);
    fetched->bytes = arena_alloc(&fetched->arena, room * sizeof *fetched->bytes);
    fetched->room = room;
    return fetched;
}

void redis_fetched_entry(struct redis_fetched *fetched, struct redis_id id, uint64_t token)
{
    char text[REDIS_ID_BYTES];

    fetched->item = &fetched->items[fetched->n];
    fetched->bytes[fetched->n++] = 0;
    fetched->headers = NULL;
    fetched->taken = 0;
    *fetched->item = (struct incoming){
        .topic = fetched->topic,
        .partition = -1,
        .offset = -1,
        .position = arena_copy(&fetched->arena, redis_id_text(id, text)),
        .timestamp_ms = id.ms,
        .attempt = 1,
        .token = token,
    };
}

void redis_fetched_fields(struct redis_fetched *fetched, size_t words)
{
    fetched->headers =
        words > 2 ? arena_alloc(&fetched->arena, words / 2 * sizeof *fetched->headers) : NULL;
    fetched->item->headers = fetched->headers;
}

static void take_name(struct redis_fetched *fetched, struct slice name)
{
    enum part part = part_of(name);

    if ((fetched->taken & 1u << part) != 0)
        part = PART_HEADER;
    fetched->part = part;
    if (part != PART_HEADER) {
        fetched->taken |= 1u << part;
        return;
    }
    if (slice_starts_with(name, slice_str(HEADER_MARK))) {
        name.data += strlen(HEADER_MARK);
        name.len -= strlen(HEADER_MARK);
    }
    fetched->name = message_copy(&fetched->arena, name);
}

static void take_value(struct redis_fetched *fetched, struct slice value)
{
    struct incoming *item = fetched->item;
    struct slice *places[] = {&item->payload, &item->key, &item->id};

    value = message_copy(&fetched->arena, value.len > 0 ? value : message_empty());
    fetched->bytes[fetched->n - 1] += (uint32_t)value.len;
    fetched->total += value.len;
    if (fetched->part != PART_HEADER) {
        *places[fetched->part] = value;
        return;
    }
    if (fetched->headers == NULL) /* the only field of the entry */
        item->headers = fetched->headers = arena_alloc(&fetched->arena, sizeof *fetched->headers);
    fetched->headers[item->n_headers++] = (struct header){fetched->name, value};
    fetched->bytes[fetched->n - 1] += (uint32_t)fetched->name.len;
    fetched->total += fetched->name.len;
}

void redis_fetched_word(struct redis_fetched *fetched, size_t index, struct slice word)
{
    if (index % 2 == 0)
        take_name(fetched, word);
    else
        take_value(fetched, word);
}

/* ---- batches ---- */

struct batch {
    struct incoming_batch base; /* first */
    struct redis_fetched *fetched;
};

void redis_fetched_drop(struct redis_fetched *fetched)
{
    if (--fetched->batches > 0)
        return;
    arena_clear(&fetched->arena);
    free(fetched);
}

static void release(struct incoming_batch *base)
{
    redis_fetched_drop(CONTAINER_OF(base, struct batch, base)->fetched);
}

struct incoming_batch *redis_fetched_take(struct redis_fetched *fetched,
                                          struct subscription *subscription)
{
    if (fetched->next == fetched->n || !subscription_may_take(subscription))
        return NULL;

    struct batch *batch = arena_zalloc(&fetched->arena, sizeof *batch);

    batch->fetched = fetched;
    batch->base.items = &fetched->items[fetched->next];
    batch->base.release = release;
    while (fetched->next < fetched->n && batch->base.n < BATCH_MESSAGES &&
           batch->base.bytes < BATCH_BYTES && subscription_may_take(subscription)) {
        size_t bytes = fetched->bytes[fetched->next++];

        subscription_take(subscription, 1, bytes);
        batch->base.bytes += bytes;
        batch->base.n++;
    }
    fetched->batches++;
    return &batch->base;
}
