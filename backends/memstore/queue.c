/* The queue interface: a channel with one group, whose messages go when they are settled; and its
 * dead letters, which are named by their number. */
#include "backends/memstore/messaging.h"
#include "src/base/container.h"

/* Its one group is there from the beginning. */
static void make(struct messaging *m, struct named *named)
{
    struct channel *channel = CONTAINER_OF(named, struct channel, named);

    channel_init(channel, m, true);
    group_new(channel, message_empty());
}

static void unmake(struct named *named)
{
    struct channel *channel = CONTAINER_OF(named, struct channel, named);

    groups_destroy(channel);
    dead_clear(channel);
    channel_clear(channel);
}

const struct named_kind named_queue = {
    .bytes = sizeof(struct channel), .make = make, .unmake = unmake};

static void publish(struct backend *backend, struct publish *request)
{
    channel_publish(backend, request, &named_queue);
}

static void open_reader(struct backend *backend, struct subscription *subscription)
{
    reader_open(backend, subscription, &named_queue);
}

/* ---- dead letters ---- */

/* NULL: there is no such queue. With a reference, and locked. */
static struct channel *enter(struct backend *backend, struct slice queue)
{
    bool full;
    struct named *named = names_get(messaging_of(backend), &named_queue, queue, false, &full);
    struct channel *channel = named == NULL ? NULL : CONTAINER_OF(named, struct channel, named);

    counter_add(&backend->stats.calls, 1);
    if (channel != NULL)
        pthread_mutex_lock(&channel->lock);
    return channel;
}

static void leave(struct channel *channel)
{
    pthread_mutex_unlock(&channel->lock);
    names_put(channel->messaging, &channel->named);
}

static struct slice number_text(struct arena *arena, int64_t number)
{
    return slice_str(arena_decimal(arena, number));
}

/* Copies: the entry may go before the answer does. */
static void tell(struct arena *arena, int64_t number, const struct dead_entry *dead,
                 struct dead_letter *out)
{
    struct incoming *m = &out->message;
    struct header *headers;

    kept_tell(dead->kept, m);
    headers = arena_array(arena, m->n_headers, sizeof *headers);
    for (size_t i = 0; i < m->n_headers; i++) {
        headers[i].name = arena_copy(arena, m->headers[i].name);
        headers[i].value = message_copy(arena, m->headers[i].value);
    }
    m->headers = headers;
    m->topic = arena_copy(arena, m->topic);
    m->key = message_copy(arena, m->key);
    m->id = message_copy(arena, m->id);
    m->payload = message_copy(arena, m->payload);
    m->block = NULL;
    out->handle = number_text(arena, number);
    out->reason = arena_copy(arena, slice_of(dead->reason, dead->reason_len));
    out->died_ms = dead->died_ms;
}

static void fill_page(struct channel *channel, int64_t from, struct dead_list *page)
{
    struct arena *arena = op_arena(&page->op);
    const struct msglog *log = &channel->dead;
    uint64_t bytes = 0;
    int64_t at = msglog_seek(log, from);
    size_t most = log->held < page->max_items ? (size_t)log->held : page->max_items;

    page->items = arena_array(arena, most, sizeof *page->items);
    while (at < log->next && page->n < most && bytes < page->max_bytes) {
        const struct dead_entry *dead = msglog_get(log, at);

        tell(arena, at, dead, &page->items[page->n++]);
        bytes += kept_bytes(dead->kept) + dead->reason_len;
        at = msglog_seek(log, at + 1);
    }
    page->more = at < log->next;
    if (page->more)
        page->next_cursor = number_text(arena, at);
}

static void dead_list(struct backend *backend, struct dead_list *page)
{
    struct channel *channel = enter(backend, page->queue);
    int64_t from = 0;
    struct err err = ERR_NONE;

    page->n = 0;
    page->more = false;
    page->items = NULL;
    if (!message_is_null(page->cursor) && !channel_position(page->cursor, &from))
        err = err_about(ERR_INVALID_ARGUMENT, "cursor", "this is no cursor of this queue");
    if (channel != NULL) {
        if (err.code == ERR_OK)
            fill_page(channel, from, page);
        leave(channel);
    }
    messaging_end(backend, &page->op, err);
}

static void move_one(struct channel *channel, int64_t number, struct dead_move *request)
{
    struct dead_entry *dead = msglog_get(&channel->dead, number);

    if (dead == NULL)
        return;
    if (!request->purge)
        channel_put_back(channel, dead->kept);
    dead_remove(channel, number);
    request->moved++;
}

static void dead_move(struct backend *backend, struct dead_move *request)
{
    struct channel *channel = enter(backend, request->queue);
    int64_t number;

    request->moved = 0;
    if (channel != NULL) {
        int64_t end = channel->dead.next;

        for (size_t i = 0; i < request->n; i++) {
            if (channel_position(request->handles[i], &number))
                move_one(channel, number, request);
        }
        while (request->n == 0 && channel->dead.first < end)
            move_one(channel, channel->dead.first, request);
        reader_wake_waiting(channel->groups);
        leave(channel);
    }
    messaging_end(backend, &request->op, ERR_NONE);
}

static void count(struct backend *backend, struct queue_count *request)
{
    struct channel *channel = enter(backend, request->queue);

    request->ready = request->taken = request->delayed = request->dead = 0;
    if (channel != NULL) {
        const struct group *group = channel->groups;

        request->taken = group->out;
        request->delayed = group->delayed + group->parked;
        request->dead = (int64_t)channel->dead.held;
        request->ready = (int64_t)channel->log.held - request->taken - request->delayed;
        leave(channel);
    }
    messaging_end(backend, &request->op, ERR_NONE);
}

const struct queue memstore_queue = {
    .sink = CHANNEL_SINK(publish),
    .source = CHANNEL_SOURCE(open_reader),
    .settling = CHANNEL_SETTLING,
    .delays = true,
    .count = count,
    .dead_list = dead_list,
    .dead_move = dead_move,
};
