/* A group's page, on the worker: what asks for it, and what waits for the answer. One request is
 * under way at a time.
 *
 *   a settling that gives back   read unless the revision is known, note, write, then it is sent
 *   held messages                read, then delivered in their order
 *   changed meanwhile            read again, note, write, until ack_timeout_ms is over
 *   failed, or not to be used    sent, and delivered, by what is known here */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdlib.h>

static struct jet_store *store_of(const struct jet_listener *listener)
{
    return jet_store_of(&listener->instance->base);
}

void jet_page_init(struct jet_page *page)
{
    page->held_end = &page->held;
}

void jet_page_clear(struct jet_page *page)
{
    jet_returns_clear(&page->returns);
}

/* Names go into a question in JSON as they are. A reader without a group is the only one. */
static bool is_usable(const struct jet_listener *listener)
{
    const struct jet_place *place = &listener->place;

    return place->group[0] != '\0' &&
           jet_journal_state(store_of(listener)) != JET_JOURNAL_REFUSED &&
           clock_now_ns() >= listener->page.again_ns && strpbrk(place->stream, "\"\\") == NULL &&
           strpbrk(place->consumer, "\"\\") == NULL;
}

bool jet_page_has_to_read(const struct jet_listener *listener, uint64_t sequence,
                          uint64_t deliveries)
{
    return !jet_returns_know(&listener->page.returns, sequence, deliveries) && is_usable(listener);
}

/* ---- requests ---- */

static void ask(struct jet_listener *listener, char *text)
{
    struct jet_page *page = &listener->page;

    page->busy = true;
    page->writes = text != NULL;
    jet_journal_ask(listener, (struct jet_page_request){.text = text, .revision = page->revision});
}

static void read_page(struct jet_listener *listener)
{
    struct jet_page *page = &listener->page;

    for (struct jet_held *held = page->held; held != NULL; held = held->next)
        held->asked = true;
    page->blind = false;
    ask(listener, NULL);
}

static void note_all(struct jet_listener *listener)
{
    struct jet_returns *returns = &listener->page.returns;

    for (struct jet_settling *s = listener->page.waiting; s != NULL; s = *jet_settling_next(s))
        jet_settling_note(s, returns);
    jet_returns_settled_to(returns, listener->place.floor);
}

/* What is put meanwhile waits for the next one. */
static void write_page(struct jet_listener *listener)
{
    struct jet_page *page = &listener->page;

    note_all(listener);
    page->written = page->waiting;
    page->waiting = NULL;
    ask(listener, jet_returns_write(&page->returns, listener->created));
}

static void send_all(struct jet_settling *first, bool written)
{
    while (first != NULL) {
        struct jet_settling *s = first;

        first = *jet_settling_next(s);
        jet_settling_send(s, written);
    }
}

static void send_unwritten(struct jet_listener *listener)
{
    struct jet_settling *waiting = listener->page.waiting;

    note_all(listener);
    listener->page.waiting = NULL;
    send_all(waiting, false);
}

/* Those that the page has nothing to say of. */
static void send_others(struct jet_page *page)
{
    struct jet_settling **at = &page->waiting;

    while (*at != NULL) {
        struct jet_settling *s = *at;

        if (jet_settling_returns(s)) {
            at = jet_settling_next(s);
            continue;
        }
        *at = *jet_settling_next(s);
        jet_settling_send(s, true);
    }
}

void jet_page_go_on(struct jet_listener *listener)
{
    struct jet_page *page = &listener->page;

    if (page->returns.forgotten > 0)
        counter_add_shared(&store_of(listener)->forgotten, page->returns.forgotten);
    page->returns.forgotten = 0;
    if (listener->ending && !listener->give_back)
        return;
    send_others(page);
    if (page->busy || listener->placing) /* the place is the control thread's meanwhile */
        return;
    if (page->waiting != NULL && !is_usable(listener))
        send_unwritten(listener);
    if (page->held != NULL && !is_usable(listener))
        jet_page_let_go(listener);
    if (page->waiting != NULL && page->fresh && !page->blind)
        write_page(listener);
    else if (page->waiting != NULL || page->held != NULL)
        read_page(listener);
}

/* ---- answers ---- */

/* Of those whose write found another page, in front of what came later. */
static void wait_again(struct jet_page *page)
{
    struct jet_settling **end = &page->written;

    while (*end != NULL)
        end = jet_settling_next(*end);
    *end = page->waiting;
    page->waiting = page->written;
    page->written = NULL;
}

static void on_written(struct jet_listener *listener, enum jet_page_outcome outcome)
{
    struct jet_page *page = &listener->page;
    struct jet_settling *written = page->written;

    if ((outcome == JET_PAGE_CHANGED && clock_now_ns() < page->until_ns) ||
        (listener->ending && !listener->give_back)) {
        wait_again(page);
        return;
    }
    page->written = NULL;
    page->until_ns = clock_now_ns() + store_of(listener)->base.config.ack_timeout_ms * NS_PER_MS;
    send_all(written, outcome == JET_PAGE_DONE);
}

static void let_go(struct jet_listener *listener, bool all);

void jet_page_answered(struct jet_listener *listener, struct jet_page_request request)
{
    struct jet_page *page = &listener->page;

    page->busy = false;
    page->fresh = request.outcome == JET_PAGE_DONE;
    if (page->fresh)
        page->revision = request.revision;
    if (request.outcome == JET_PAGE_FAILED)
        page->again_ns = clock_now_ns() + JET_JOURNAL_AGAIN_MS * NS_PER_MS;
    if (request.text != NULL)
        jet_returns_read(&page->returns, request.text, listener->created);
    free(request.text);
    if (page->writes)
        on_written(listener, request.outcome);
    else
        let_go(listener, false);
    jet_page_go_on(listener);
}

void jet_page_put(struct jet_listener *listener, struct jet_settling *settling)
{
    struct jet_page *page = &listener->page;
    struct jet_settling **end = &page->waiting;

    if (page->waiting == NULL && page->written == NULL)
        page->until_ns =
            clock_now_ns() + store_of(listener)->base.config.ack_timeout_ms * NS_PER_MS;
    while (*end != NULL)
        end = jet_settling_next(*end);
    *end = settling;
    *jet_settling_next(settling) = NULL;
    page->blind = page->blind || jet_settling_is_blind(settling, &page->returns);
    jet_listener_soon(listener);
}

void jet_page_forget(struct jet_listener *listener)
{
    struct jet_page *page = &listener->page;

    jet_returns_clear(&page->returns);
    page->fresh = false;
}

/* ---- held messages ---- */

void jet_page_hold(struct jet_listener *listener, struct incoming_batch *batch, uint64_t gap_from,
                   uint64_t gap_to)
{
    struct jet_page *page = &listener->page;
    struct jet_held *held = calloc(1, sizeof *held);

    if (held == NULL)
        abort();
    held->batch = batch;
    held->gap_from = gap_from;
    held->gap_to = gap_to;
    *page->held_end = held;
    page->held_end = &held->next;
}

/* Those that were lost meanwhile are told so, behind their delivery. */
static void deliver(struct jet_listener *listener, struct incoming_batch *batch)
{
    uint64_t tokens[BATCH_MESSAGES];
    struct subscription_move lost = {
        .kind = MOVE_LOST, .reason = MOVED_BY_SOURCE, .tokens = tokens};

    for (uint32_t i = 0; i < batch->n; i++) {
        struct incoming *item = &batch->items[i];
        struct jet_delivery *delivery = jet_unsettled_find(&listener->unsettled, item->token);

        if (delivery == NULL) {
            tokens[lost.n_tokens++] = item->token;
            continue;
        }
        item->attempt = jet_returns_attempt(&listener->page.returns, delivery->stream_sequence,
                                            delivery->deliveries);
        if (!listener->ending) /* else the page tells, when it is given back */
            delivery->attempt = item->attempt;
    }
    subscription_deliver(listener->subscription, batch);
    if (lost.n_tokens > 0)
        subscription_moved(listener->subscription, &lost);
}

static void let_go(struct jet_listener *listener, bool all)
{
    struct jet_page *page = &listener->page;
    struct jet_held *held;

    while ((held = page->held) != NULL && (all || held->asked)) {
        page->held = held->next;
        if (page->held == NULL)
            page->held_end = &page->held;
        if (held->gap_from > 0)
            jet_tell_gap(listener, held->gap_from, held->gap_to, held->gap_to - held->gap_from);
        if (held->batch != NULL)
            deliver(listener, held->batch);
        free(held);
    }
}

void jet_page_let_go(struct jet_listener *listener)
{
    let_go(listener, true);
}
