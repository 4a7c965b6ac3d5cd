/* Queues: pushing, counting, and dead letters; postgres_take.c: taking; postgres_settle.c,
 * postgres_ticket.c. */
#include "backends/postgres/postgres_queue.h"

#include <stdio.h>

/* ---- push: a frame is one statement, and one transaction: without bounds it is all or none ----
 */

static struct err check_topic(struct slice topic)
{
    (void)topic; /* any octets */
    return ERR_NONE;
}

static struct slice column_of(const struct outgoing *m, int column)
{
    switch (column) {
    case 0:
        return m->topic;
    case 1:
        return m->key;
    case 2:
        return m->id;
    default:
        return m->payload;
    }
}

static void add_column(struct postgres_params *params, const struct publish *publish, int column)
{
    struct postgres_array array;
    size_t bytes = 0;

    for (size_t i = 0; i < publish->n; i++)
        bytes += column_of(&publish->items[i], column).len;
    array = postgres_add_array(params, POSTGRES_BYTEA, publish->n, bytes);
    for (size_t i = 0; i < publish->n; i++) {
        struct slice value = column_of(&publish->items[i], column);

        if (message_is_null(value))
            postgres_element_null(&array);
        else
            postgres_element(&array, value);
    }
}

static void add_headers(struct postgres_params *params, const struct publish *publish)
{
    struct slice *encoded = arena_array(params->arena, publish->n, sizeof *encoded);
    struct postgres_array array;
    size_t bytes = 0;

    for (size_t i = 0; i < publish->n; i++) {
        const struct outgoing *m = &publish->items[i];
        size_t len = postgres_headers_bytes(m->headers, m->n_headers);
        uint8_t *to = arena_alloc(params->arena, len);

        postgres_headers_put(to, m->headers, m->n_headers);
        encoded[i] = slice_of(to, len);
        bytes += len;
    }
    array = postgres_add_array(params, POSTGRES_BYTEA, publish->n, bytes);
    for (size_t i = 0; i < publish->n; i++)
        postgres_element(&array, encoded[i]);
}

static struct err full(int32_t bound)
{
    static const char *const names[] = {NULL, "queue_max_messages", "queue_max_bytes",
                                        "queue_max_age_ms"};

    return err_about(ERR_RESOURCE_EXHAUSTED, names[bound],
                     "the queue is full: nobody has received what waits in it");
}

/* Bounds by their numbers in the answer; the last one: no room would ever be enough. */
enum { LARGER_THAN_ANY = 4 };

struct err postgres_queue_refused(int32_t bound)
{
    return bound < LARGER_THAN_ANY
               ? full(bound)
               : err_about(ERR_INVALID_ARGUMENT, "payload",
                           "larger by itself than queue_max_bytes lets a queue be");
}

static bool is_bounded(const struct postgres_store *store)
{
    return store->queue_messages > 0 || store->queue_age_ms > 0; /* bytes need messages */
}

/* An atomic push of which nothing is written: a message larger than any queue is named. */
static void refuse_all(struct postgres_call *call, struct publish *publish, int i, int32_t bound)
{
    call->err = postgres_queue_refused(bound);
    if (bound == LARGER_THAN_ANY)
        publish->culprit = (uint32_t)i;
}

/* A second column, if there is one, says which bound of its queue a message would pass. */
static void push_result(struct postgres_call *call, const PGresult *result)
{
    struct publish *publish = CONTAINER_OF(call->op, struct publish, op);
    bool bounded = PQnfields(result) > 1;
    int64_t *ids = call->state;

    if ((size_t)PQntuples(result) != publish->n) {
        postgres_unexpected(call);
        return;
    }
    for (int i = 0; publish->atomic && bounded && i < (int)publish->n; i++) {
        int32_t bound = postgres_int4(result, i, 1);

        if (bound > 0) {
            refuse_all(call, publish, i, bound);
            return;
        }
    }
    for (size_t i = 0; i < publish->n; i++) {
        struct outgoing *m = &publish->items[i];
        int32_t bound = bounded ? postgres_int4(result, (int)i, 1) : 0;

        m->err = bound > 0 ? postgres_queue_refused(bound) : ERR_NONE;
        m->deduplicated = false;
        m->partition = -1;
        m->offset = -1;
        m->receivers = -1;
        m->position = message_null();
        if (ids != NULL && bound == 0)
            ids[i] = postgres_int8(result, (int)i, 0);
        if (bound == 0)
            m->position = slice_str(arena_printf(op_arena(call->op), "%lld",
                                                 (long long)postgres_int8(result, (int)i, 0)));
    }
}

/* Of an unknown outcome all may be stored, and who waits for it looks. */
void postgres_queue_pushed(struct postgres *postgres, struct publish *publish, struct err err)
{
    struct slice last = message_empty();
    bool unknown = err.code != ERR_OK && err.effect == EFFECT_UNKNOWN;

    for (size_t i = 0; i < publish->n && (err.code == ERR_OK || unknown); i++) {
        const struct outgoing *m = &publish->items[i];

        if ((unknown || m->err.code == ERR_OK) && !slice_equal(m->topic, last))
            postgres_wake_note(postgres, last = m->topic);
    }
    postgres_finish(postgres, &publish->op, err);
    postgres_queue_poke(postgres);
}

static bool wrote(const int64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] != 0)
            return true;
    }
    return false;
}

static void push_end(struct postgres_call *call)
{
    struct publish *publish = CONTAINER_OF(call->op, struct publish, op);
    const int64_t *ids = call->state;

    if (call->err.code == ERR_OK && ids != NULL && wrote(ids, publish->n))
        postgres_surplus(call->conn->postgres, publish, ids);
    else
        postgres_queue_pushed(call->conn->postgres, publish, postgres_err(call, call->op));
}

static const struct postgres_kind push_kind = {
    .writes = true, .result = push_result, .end = push_end};

/* Messages that are all or none and that no empty queue would take together. One that no queue
 * would take by itself is named by the statement. */
static struct err check_together(const struct postgres_store *store, const struct publish *publish)
{
    uint64_t bytes = 0, largest = 0;

    for (size_t i = 0; i < publish->n; i++) {
        const struct outgoing *m = &publish->items[i];
        uint64_t own =
            m->key.len + m->payload.len + postgres_headers_bytes(m->headers, m->n_headers);

        bytes += own;
        largest = own > largest ? own : largest;
    }
    if (store->queue_messages > 0 && publish->n > store->queue_messages)
        return err_about(ERR_INVALID_ARGUMENT, "messages",
                         "more than queue_max_messages lets a queue hold");
    if (store->queue_bytes > 0 && bytes > store->queue_bytes && largest <= store->queue_bytes)
        return err_about(ERR_INVALID_ARGUMENT, "messages",
                         "larger together than queue_max_bytes lets a queue be");
    return ERR_NONE;
}

static void push(struct backend *backend, struct publish *publish)
{
    const struct postgres_store *store = postgres_store_of(postgres_of(backend));
    struct err err = publish->atomic ? check_together(store, publish) : ERR_NONE;
    int64_t *ids = NULL;
    struct postgres_array delays;
    struct postgres_params params;

    if (err.code != ERR_OK) {
        op_finish(&publish->op, err);
        return;
    }
    postgres_params_init(&params, op_arena(&publish->op));
    postgres_add_int4(&params, postgres_of(backend)->space);
    for (int column = 0; column < 4; column++)
        add_column(&params, publish, column);
    add_headers(&params, publish);
    delays = postgres_add_array(&params, POSTGRES_INT8, publish->n, 8 * publish->n);
    for (size_t i = 0; i < publish->n; i++)
        postgres_element_int8(&delays, (int64_t)publish->items[i].delay_ms);
    if (is_bounded(store)) {
        postgres_add_int8(&params, (int64_t)store->queue_messages);
        postgres_add_int8(&params, (int64_t)store->queue_bytes);
        postgres_add_int8(&params, (int64_t)store->queue_age_ms);
        postgres_add_bool(&params, publish->atomic);
    }
    if (store->queue_messages > 0)
        ids = arena_zalloc(op_arena(&publish->op), publish->n * sizeof *ids);
    postgres_run(postgres_of(backend), &publish->op, &push_kind, ids,
                 is_bounded(store) ? SQL_PUSH_WITHIN : SQL_PUSH, &params);
}

/* ---- count ---- */

static void count_result(struct postgres_call *call, const PGresult *result)
{
    struct queue_count *count = CONTAINER_OF(call->op, struct queue_count, op);

    if (PQntuples(result) != 1) {
        postgres_unexpected(call);
        return;
    }
    count->ready = postgres_int8(result, 0, 0);
    count->taken = postgres_int8(result, 0, 1);
    count->delayed = postgres_int8(result, 0, 2);
    count->dead = postgres_int8(result, 0, 3);
}

static const struct postgres_kind count_kind = {.result = count_result};

static void count(struct backend *backend, struct queue_count *count)
{
    struct postgres_params params;

    postgres_params_init(&params, op_arena(&count->op));
    postgres_add_int4(&params, postgres_of(backend)->space);
    postgres_add(&params, count->queue);
    postgres_run(postgres_of(backend), &count->op, &count_kind, NULL, SQL_QUEUE_COUNT, &params);
}

/* ---- dead letters: "pd1." and when it died and its number, in hex ---- */

enum { HEX = 16, CURSOR_CHARS = 4 + 2 * HEX };

static bool hex_read(const uint8_t *text, int64_t *number)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < HEX; i++) {
        uint8_t c = text[i];

        if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
            return false;
        value = value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *number = (int64_t)value;
    return value <= INT64_MAX;
}

static bool cursor_read(struct slice cursor, int64_t *died, int64_t *id)
{
    *died = *id = 0;
    return message_is_null(cursor) ||
           (cursor.len == CURSOR_CHARS && slice_starts_with(cursor, slice_str("pd1.")) &&
            hex_read(cursor.data + 4, died) && hex_read(cursor.data + 4 + HEX, id));
}

enum column { ID, DIED, ATTEMPTS, PUSHED, KEY, MESSAGE_ID, PAYLOAD, HEADERS, REASON, TOTAL };

static void dead_row(struct dead_list *list, const PGresult *result, int row)
{
    struct arena *arena = op_arena(&list->op);
    struct dead_letter *dead = &list->items[row];
    struct incoming *m = &dead->message;

    *m = (struct incoming){.topic = list->queue,
                           .key = postgres_copy(arena, result, row, KEY),
                           .id = postgres_copy(arena, result, row, MESSAGE_ID),
                           .payload = postgres_copy(arena, result, row, PAYLOAD),
                           .partition = -1,
                           .offset = -1,
                           .timestamp_ms = (uint64_t)postgres_int8(result, row, PUSHED),
                           .attempt = (uint32_t)postgres_int4(result, row, ATTEMPTS)};
    m->headers = postgres_headers_read(arena, postgres_bytes(result, row, HEADERS), &m->n_headers);
    dead->handle = slice_str(
        arena_printf(arena, "%016llx", (unsigned long long)postgres_int8(result, row, ID)));
    dead->reason = postgres_copy(arena, result, row, REASON);
    dead->died_ms = (uint64_t)postgres_int8(result, row, DIED);
}

static void dead_result(struct postgres_call *call, const PGresult *result)
{
    struct dead_list *list = CONTAINER_OF(call->op, struct dead_list, op);
    int rows = PQntuples(result);

    list->n = (size_t)rows;
    list->items = arena_array(op_arena(&list->op), list->n, sizeof *list->items);
    for (int row = 0; row < rows; row++)
        dead_row(list, result, row);
    list->more = rows > 0 && postgres_int8(result, 0, TOTAL) > rows;
    if (list->more)
        list->next_cursor =
            slice_str(arena_printf(op_arena(&list->op), "pd1.%016llx%016llx",
                                   (unsigned long long)postgres_int8(result, rows - 1, DIED),
                                   (unsigned long long)postgres_int8(result, rows - 1, ID)));
}

static const struct postgres_kind dead_kind = {.result = dead_result};

static void dead_list(struct backend *backend, struct dead_list *list)
{
    struct postgres_params params;
    int64_t died, id;

    if (!cursor_read(list->cursor, &died, &id)) {
        op_finish(&list->op,
                  err_about(ERR_INVALID_ARGUMENT, "cursor", "is not one that this list has given"));
        return;
    }
    postgres_params_init(&params, op_arena(&list->op));
    postgres_add_int4(&params, postgres_of(backend)->space);
    postgres_add(&params, list->queue);
    postgres_add_int8(&params, died);
    postgres_add_int8(&params, id);
    postgres_add_int8(&params, list->max_items);
    postgres_add_int8(&params, list->max_bytes < INT64_MAX ? (int64_t)list->max_bytes : INT64_MAX);
    postgres_run(postgres_of(backend), &list->op, &dead_kind, NULL, SQL_DEAD_LIST, &params);
}

static void move_result(struct postgres_call *call, const PGresult *result)
{
    CONTAINER_OF(call->op, struct dead_move, op)->moved = postgres_changed(result);
}

static void move_end(struct postgres_call *call)
{
    const struct dead_move *move = CONTAINER_OF(call->op, struct dead_move, op);
    struct postgres *postgres = call->conn->postgres;

    if (!move->purge && call->err.code == ERR_OK)
        postgres_wake_note(postgres, move->queue);
    postgres_finish(postgres, call->op, postgres_err(call, call->op));
    postgres_queue_poke(postgres);
}

static const struct postgres_kind move_kind = {
    .writes = true, .result = move_result, .end = move_end};

static void dead_move(struct backend *backend, struct dead_move *move)
{
    struct postgres_array ids;
    struct postgres_params params;

    postgres_params_init(&params, op_arena(&move->op));
    postgres_add_int4(&params, postgres_of(backend)->space);
    postgres_add(&params, move->queue);
    ids = postgres_add_array(&params, POSTGRES_INT8, move->n, 8 * move->n);
    for (size_t i = 0; i < move->n; i++) {
        int64_t id = 0; /* not ours: no message has it */

        if (move->handles[i].len == HEX && !hex_read(move->handles[i].data, &id))
            id = 0;
        postgres_element_int8(&ids, id);
    }
    postgres_add_bool(&params, move->n == 0);
    postgres_run(postgres_of(backend), &move->op, &move_kind, NULL,
                 move->purge ? SQL_PURGE : SQL_REDRIVE, &params);
}

const struct queue postgres_queue = {
    .sink = {.max_items = POSTGRES_FRAME_ITEMS,
             .max_frame_bytes = POSTGRES_FRAME_BYTES,
             .atomic_items = POSTGRES_FRAME_ITEMS,
             .null_payload = true,
             .null_header_values = true,
             .binary_headers = true,
             .ack_means = "PostgreSQL has committed it",
             .check_topic = check_topic,
             .publish = push},
    .source = {.never_drops = true,
               .open = postgres_queue_open,
               .grant = postgres_queue_grant,
               .withdraw = postgres_queue_withdraw,
               .close = postgres_queue_close},
    .settling = {.single = true,
                 .delays = true,
                 .counts_attempts = true,
                 .release_is_free = true,
                 .fences = true,
                 .max_lease_ms = POSTGRES_LEASE_MAX_MS,
                 .tickets = &postgres_tickets,
                 .settle = postgres_queue_settle,
                 .extend = postgres_queue_extend},
    .delays = true,
    .count = count,
    .dead_list = dead_list,
    .dead_move = dead_move,
};
