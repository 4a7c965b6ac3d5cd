/* Holding what was taken, and giving it back.
 *
 * While a reader lives, redis is told again and again that its deliveries are held, so that nobody
 * claims them: leases are its own affair. What goes back is let go of at once: if word of that is
 * lost, nobody holds it any more, and it is claimed after claim_idle_ms. */
#include "backends/redis/redis_script.h"
#include "backends/redis/redis_stream.h"

#include <stdlib.h>

static bool connected(const struct redis_reader *reader)
{
    return redis_reader_at(reader)->phase == REDIS_READY;
}

/* ---- giving back ---- */

static bool goes(const struct redis_held *held, enum redis_give which)
{
    switch (which) {
    case GIVE_REFUSED:
        return held->state == HELD_REFUSED;
    case GIVE_UNREAD:
        return held->state == HELD_REFUSED || held->state == HELD_WAITING;
    case GIVE_ALL:
        break;
    }
    return held->state != HELD_FREE;
}

/* A retry is an attempt. */
static uint32_t attempts_of(const struct redis_held *held)
{
    uint32_t attempt = held->attempt;

    return held->state == HELD_PARKED || attempt == 0 ? attempt : attempt - 1;
}

/* What waits for a retry can be claimed once that is due, or after claim_idle_ms if that is less.
 */
static uint64_t idle_of(const struct redis_reader *reader, const struct redis_held *held)
{
    uint64_t now = redis_reader_now(reader), idle = redis_claim_idle_ns(reader);
    uint64_t due = redis_due_ns(held);

    if (held->state != HELD_PARKED || due <= now)
        return REDIS_NOBODY_IDLE_MS;
    return due - now < idle ? (idle - (due - now)) / NS_PER_MS : 0;
}

void redis_say_give(struct redis_call *call, const struct redis_reader *reader, unsigned n)
{
    redis_say_script(call, redis_script_give, 2, 4 + 3 * n);
    redis_word(call, reader->key);
    redis_word(call, reader->notes);
    redis_word(call, reader->group);
    redis_word(call, reader->consumer);
    redis_word(call, slice_str(REDIS_NOBODY));
    redis_word(call, slice_str(reader->streams->origin));
}

void redis_say_given(struct redis_call *call, const struct redis_held *held, uint32_t attempts,
                     uint64_t idle_ms)
{
    char text[REDIS_ID_BYTES];

    redis_word(call, redis_id_text(held->id, text));
    redis_word_number(call, attempts);
    redis_word_number(call, idle_ms);
}

static void give_node(struct redis_call *call, const struct redis_node *node)
{
    struct redis_reader *reader = call->state;

    if (node->depth == 1 && node->type == REDIS_REPLY_INTEGER && node->number < 0)
        redis_reader_gap(reader, 1,
                         "entries were removed from the stream before they were settled");
}

/* An instance does not listen to its own notes. */
void redis_given(struct redis_reader *from)
{
    for (struct redis_reader *reader = from->streams->readers; reader != NULL;
         reader = reader->next) {
        if (slice_equal(reader->key, from->key) && slice_equal(reader->group, from->group))
            redis_reader_invite(reader);
    }
}

static void give_end(struct redis_call *call)
{
    redis_given(call->state);
    redis_reader_answered(call->state, false);
}

static void call_lost(struct redis_call *call, struct err why)
{
    (void)why;
    redis_reader_answered(call->state, false);
}

static const struct redis_kind give_kind = {
    .item_errors = true, .node = give_node, .end = give_end, .lost = call_lost};

static uint32_t say_some(struct redis_call *call, struct redis_reader *reader, uint32_t *at,
                         enum redis_give which)
{
    uint32_t n = 0, to = *at;

    for (; to < reader->holds.used && n < REDIS_STEP_IDS; to++)
        n += goes(&reader->holds.places[to], which);
    if (n > 0)
        redis_say_give(call, reader, n);
    for (; *at < to; ++*at) {
        struct redis_held *held = &reader->holds.places[*at];

        if (!goes(held, which))
            continue;
        redis_say_given(call, held, attempts_of(held), idle_of(reader, held));
        redis_let_go(&reader->holds, held);
    }
    return n;
}

static bool any(const struct redis_reader *reader, enum redis_give which)
{
    for (uint32_t i = 0; i < reader->holds.used; i++) {
        if (goes(&reader->holds.places[i], which))
            return true;
    }
    return false;
}

static void let_go_of(struct redis_reader *reader, enum redis_give which)
{
    for (uint32_t i = 0; i < reader->holds.used; i++) {
        if (goes(&reader->holds.places[i], which))
            redis_let_go(&reader->holds, &reader->holds.places[i]);
    }
}

void redis_give_back(struct redis_reader *reader, enum redis_give which)
{
    if (reader->holds.count == 0)
        return;
    if (reader->order != NULL) {
        redis_order_unread(reader, which);
        return;
    }
    if (!any(reader, which))
        return;
    if (!connected(reader)) {
        let_go_of(reader, which);
        return;
    }

    struct redis_call *call = redis_reader_call(reader, &give_kind, false);

    for (uint32_t at = 0; at < reader->holds.used;)
        say_some(call, reader, &at, which);
}

/* ---- retries that are due, and leases that ran out ---- */

static uint32_t take_due(struct redis_reader *reader, uint32_t *places)
{
    struct redis_holds *holds = &reader->holds;
    struct redis_held *held;
    uint32_t n = 0;

    while (n < REDIS_STEP_IDS && (held = redis_due_first(holds)) != NULL &&
           redis_due_ns(held) <= redis_reader_now(reader)) {
        redis_due_set(holds, held, 0);
        places[n++] = (uint32_t)(held - holds->places);
    }
    return n;
}

/* Each of them is an attempt. */
static void give_due(struct redis_reader *reader)
{
    struct redis_call *call = NULL;
    uint32_t places[REDIS_STEP_IDS];

    for (uint32_t n; (n = take_due(reader, places)) > 0;) {
        bool said = connected(reader);

        if (said && call == NULL)
            call = redis_reader_call(reader, &give_kind, false);
        if (said)
            redis_say_give(call, reader, n);
        for (uint32_t i = 0; i < n; i++) {
            struct redis_held *held = &reader->holds.places[places[i]];

            if (said)
                redis_say_given(call, held, held->attempt, REDIS_NOBODY_IDLE_MS);
            redis_reader_lose(reader, held);
        }
    }
}

/* ---- the end of a subscription ---- */

static void leave_end(struct redis_call *call)
{
    redis_given(call->state);
    redis_reader_answered(call->state, true);
}

static void leave_lost(struct redis_call *call, struct err why)
{
    (void)why;
    redis_reader_answered(call->state, true);
}

static void leave_node(struct redis_call *call, const struct redis_node *node)
{
    (void)call; /* the rest is claimed */
    (void)node;
}

static const struct redis_kind leave_kind = {
    .item_errors = true, .node = leave_node, .end = leave_end, .lost = leave_lost};

void redis_reader_leave(struct redis_reader *reader)
{
    struct redis_call *call = redis_reader_call(reader, &leave_kind, true);

    if (reader->alone) {
        redis_command(call, 4, "XGROUP");
        redis_word(call, slice_str("DESTROY"));
        redis_word(call, reader->key);
        redis_word(call, reader->group);
        return;
    }
    for (uint32_t at = 0; at < reader->holds.used;)
        say_some(call, reader, &at, GIVE_ALL);
    if (reader->order != NULL)
        redis_say_unlock(call, reader);
    redis_say_script(call, redis_script_leave, 1, 2);
    redis_word(call, reader->key);
    redis_word(call, reader->group);
    redis_word(call, reader->consumer);
    if (message_is_null(reader->voids))
        return;
    redis_command(call, 2, "DEL");
    redis_word(call, reader->voids);
}

/* ---- keeping ---- */

struct keeping {
    struct redis_reader *reader;
    uint64_t sent_ns;
    uint32_t n;
    uint64_t tokens[];
};

static void keep_node(struct redis_call *call, const struct redis_node *node)
{
    struct keeping *keeping = call->state;
    struct redis_reader *reader = keeping->reader;
    size_t at = call->answered * (size_t)REDIS_STEP_IDS + node->index;
    bool of_before;

    if (node->depth != 1 || node->type != REDIS_REPLY_INTEGER || at >= keeping->n)
        return;

    struct redis_held *held = redis_held_by(&reader->holds, keeping->tokens[at], &of_before);

    if (held == NULL || held->state == HELD_SETTLING)
        return;
    if (node->number != 1) {
        redis_reader_lose(reader, held);
        return;
    }
    redis_held_told(held, keeping->sent_ns, true);
    held->noted = false;
}

static void keep_end(struct redis_call *call)
{
    struct keeping *keeping = call->state;

    redis_reader_answered(keeping->reader, false);
    free(keeping);
}

static void keep_lost(struct redis_call *call, struct err why)
{
    (void)why;
    keep_end(call);
}

static const struct redis_kind keep_kind = {
    .item_errors = true, .node = keep_node, .end = keep_end, .lost = keep_lost};

static void say_keep(struct redis_call *call, const struct redis_reader *reader, unsigned n)
{
    redis_say_script(call, redis_script_keep, 1, 2 + n);
    redis_word(call, reader->key);
    redis_word(call, reader->group);
    redis_word(call, reader->consumer);
}

static struct keeping *keeping_new(struct redis_reader *reader, size_t most)
{
    struct keeping *keeping = malloc(sizeof *keeping + most * sizeof keeping->tokens[0]);

    if (keeping == NULL)
        abort();
    *keeping = (struct keeping){.reader = reader, .sent_ns = redis_reader_now(reader)};
    return keeping;
}

static struct keeping *to_keep(struct redis_reader *reader)
{
    struct keeping *keeping = keeping_new(reader, reader->holds.count);

    reader->keep_ns = 0;
    reader->holds.due_steps += reader->holds.used;
    for (uint32_t i = 0; i < reader->holds.used; i++) {
        struct redis_held *held = &reader->holds.places[i];

        if (held->state == HELD_FREE || held->state == HELD_SETTLING)
            continue;
        if (redis_keep_due(reader, held) <= redis_reader_now(reader)) {
            keeping->tokens[keeping->n++] = redis_token(&reader->holds, held);
            redis_held_told(held, redis_reader_now(reader), false);
        }
        reader->keep_ns = redis_earlier(reader->keep_ns, redis_keep_due(reader, held));
    }
    return keeping;
}

static struct keeping *to_ask(struct redis_reader *reader)
{
    struct keeping *keeping = keeping_new(reader, reader->doubted.n);
    bool of_before;

    for (size_t i = 0; i < reader->doubted.n; i++) {
        uint64_t token = reader->doubted.tokens[i];
        struct redis_held *held = redis_held_by(&reader->holds, token, &of_before);

        if (held == NULL || held->state == HELD_SETTLING)
            continue;
        keeping->tokens[keeping->n++] = token;
        redis_held_told(held, redis_reader_now(reader), false);
    }
    reader->doubted.n = 0;
    return keeping;
}

static void keep(struct redis_reader *reader, struct keeping *keeping)
{
    char text[REDIS_ID_BYTES];
    bool of_before;

    if (keeping->n == 0) {
        free(keeping);
        return;
    }

    struct redis_call *call = redis_reader_call(reader, &keep_kind, false);

    call->state = keeping;
    for (uint32_t i = 0; i < keeping->n; i++) {
        uint32_t left = keeping->n - i;

        if (i % REDIS_STEP_IDS == 0)
            say_keep(call, reader, left < REDIS_STEP_IDS ? left : REDIS_STEP_IDS);
        redis_word(
            call,
            redis_id_text(redis_held_by(&reader->holds, keeping->tokens[i], &of_before)->id, text));
    }
}

/* What is due is found in its heap. All that is held is looked at only when some of it is to be
 * kept, which is all of it every quarter of claim_idle_ms. */
void redis_tend(struct redis_reader *reader)
{
    const struct redis_held *first;

    reader->tend_ns = 0;
    if (reader->holds.count == 0) {
        reader->keep_ns = reader->doubted.n = 0;
        return;
    }
    if (reader->order != NULL)
        redis_order_due(reader);
    else
        give_due(reader);
    if (reader->doubted.n > 0)
        keep(reader, to_ask(reader));
    if (reader->keep_ns <= redis_reader_now(reader))
        keep(reader, to_keep(reader));
    first = redis_due_first(&reader->holds);
    reader->tend_ns = redis_earlier(reader->keep_ns, first != NULL ? redis_due_ns(first) : 0);
}
