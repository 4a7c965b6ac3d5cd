/* Multicast and MulticastStream: the calls, and their answers. */
#include "patterns/multicast_registry/remember.h"
#include "patterns/multicast_registry/sending.h"
#include "pool/worker.h"
#include "src/base/block.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <time.h>

/* ---- what is sent ---- */

static void add_header(struct sending *s, const char *name, struct slice value)
{
    s->headers[s->n_headers++] = (struct header){.name = slice_str(name), .value = value};
}

static void add_time(struct sending *s, const char *name, int64_t ms)
{
    add_header(s, name, slice_str(arena_decimal(call_arena(s->call), ms)));
}

/* What belongs to the message travels as headers that any receiver can read. */
static void make_headers(struct sending *s)
{
    const pb_multicast_request *request = s->request;
    struct timespec now;
    int64_t now_ms;

    if (s->sink->bare)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / (int64_t)NS_PER_MS;
    s->headers =
        arena_array(call_arena(s->call), request->n_metadata + OUR_HEADERS, sizeof *s->headers);
    add_time(s, MULTICAST_HEADER_PUBLISHED, now_ms);
    if (request->_content_type_case != 0)
        add_header(s, MULTICAST_HEADER_TYPE, slice_str(request->content_type));
    if (request->_expires_after_ms_case != 0 && request->expires_after_ms < INT64_MAX - now_ms)
        add_time(s, MULTICAST_HEADER_EXPIRES, now_ms + request->expires_after_ms);
    if (request->collapse_key[0] != '\0')
        add_header(s, MULTICAST_HEADER_COLLAPSE, slice_str(request->collapse_key));
    if (s->sink->dedups)
        add_header(s, MULTICAST_HEADER_ID, slice_str(s->id));
    if (request->await_confirmation) {
        s->awaiting.name = sending_random_id(call_arena(s->call));
        add_header(s, MULTICAST_HEADER_CONFIRM, slice_str(s->awaiting.name));
    }
    for (size_t i = 0; i < request->n_metadata; i++)
        add_header(s, request->metadata[i]->name,
                   request->metadata[i]->_value_case != 0 ? pb_slice(request->metadata[i]->value)
                                                          : message_empty());
}

static void make_model(struct sending *s)
{
    s->payload = block_copy(pb_slice(s->request->payload));
    make_headers(s);
    s->model = (struct outgoing){.id = s->sink->bare ? message_null() : slice_str(s->id),
                                 .payload = s->payload->bytes.len > 0 ? s->payload->bytes
                                                                      : message_empty(),
                                 .shared = s->payload,
                                 .headers = s->headers,
                                 .n_headers = s->n_headers,
                                 .partition = -1,
                                 .offset = -1,
                                 .receivers = -1};
}

/* ---- the answer ---- */

static struct err failure_of(const struct sending *s)
{
    if (s->err.code != ERR_OK)
        return s->err;
    if (s->tally.failed > 0)
        return err_make(s->tally.first.code,
                        arena_printf(call_arena(s->call),
                                     "%d of %d deliveries failed; the first: %s", s->tally.failed,
                                     s->tally.targets, s->tally.first.text));
    return ERR_NONE;
}

static void merge_results(struct sending *s, pb_multicast_response *response)
{
    size_t n = s->n_failures + s->n_others;

    response->results = arena_array(call_arena(s->call), n, sizeof *response->results);
    for (size_t i = 0; i < s->n_failures; i++)
        response->results[response->n_results++] = s->failures[i];
    for (size_t i = 0; i < s->n_others; i++)
        response->results[response->n_results++] = s->others[i];
    response->truncated = s->truncated;
}

static void reply(struct sending *s)
{
    pb_multicast_response response = MULTICAST_PB(MULTICAST_RESPONSE__INIT);
    struct err err = failure_of(s);

    response.success = err.code == ERR_OK;
    response.code = (int32_t)err.code;
    if (err.code != ERR_OK) {
        response._error_case = MULTICAST_PB(MULTICAST_RESPONSE___ERROR_ERROR);
        response.error = pb_text(err.text);
    }
    response.target_count = s->tally.targets;
    response.delivered_count = s->tally.delivered;
    response.no_receiver_count = s->tally.no_receiver;
    response.pending_count = s->tally.pending;
    response.skipped_count = s->tally.skipped;
    response.confirmed_count = s->tally.confirmed;
    response.failed_count = s->tally.failed;
    response.resumed = s->remembered.resumed;
    response.multicast_id = pb_text(s->id);
    merge_results(s, &response);
    call_reply(s->call, &response.base);
}

static void fill_progress(const struct sending *s, pb_multicast_progress *progress)
{
    prism__patterns__multicast_registry__multicast_progress__init(progress);
    progress->target_count = s->tally.targets;
    progress->delivered_count = s->tally.delivered;
    progress->no_receiver_count = s->tally.no_receiver;
    progress->pending_count = s->tally.pending;
    progress->skipped_count = s->tally.skipped;
    progress->failed_count = s->tally.failed;
    progress->resumed = s->remembered.resumed;
    progress->multicast_id = pb_text(s->id);
}

static void last_sent(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, sent);

    if (op->err.code != ERR_OK)
        call_fail(s->call, op->err);
    else
        call_close(s->call);
}

static void send_last(struct sending *s)
{
    pb_multicast_progress progress;
    struct err err = failure_of(s);

    fill_progress(s, &progress);
    progress.done = true;
    progress.code = (int32_t)err.code;
    if (err.code != ERR_OK) {
        progress._error_case = MULTICAST_PB(MULTICAST_PROGRESS___ERROR_ERROR);
        progress.error = pb_text(err.text);
    }
    call_send(s->call, &progress.base, &s->sent, last_sent);
}

/* The walk has failed before anything was sent, or nobody is there any more: that is a failure of
 * the call. */
static bool nothing_came_of_it(const struct sending *s)
{
    return s->err.code != ERR_OK && (s->tally.targets == 0 || s->gone);
}

/* The worker's own time stands still during a turn, in which much is done. */
static void took(struct histogram *histogram, uint64_t clock_ns)
{
    histogram_record(histogram, clock_now_ns() - clock_ns);
}

void sending_over(struct sending *s)
{
    took(&s->multicast->stats.walks, s->clock_ns);
    if (!awaiting_waits(s))
        sending_answer(s);
}

void sending_answer(struct sending *s)
{
    struct op_group *group = call_group(s->call);

    s->answering = true;
    if (remember_end(s))
        return;
    block_unref(s->payload);
    if (nothing_came_of_it(s))
        call_fail(s->call, s->err);
    else if (s->streams)
        send_last(s);
    else
        reply(s);
    arena_clear(&s->listed);
    if (awaiting_answered(s))
        op_group_leave(group);
}

/* ---- progress ---- */

static void report_next(struct sending *s);

static void progress_sent(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, sent);
    struct lane *lane = s->reporting;
    struct err err = op->err;

    s->reporting = NULL;
    if (err.code != ERR_OK) {
        s->gone = true;
        walk_stop(s, err);
    }
    lane->state = LANE_WANTS_PAGE;
    report_next(s);
    walk_reported(lane);
}

static void report_next(struct sending *s)
{
    struct lane *lane = NULL;
    pb_multicast_progress progress;

    for (int i = 0; i < LANES && lane == NULL; i++) {
        if (s->lanes[i].state == LANE_REPORTS && &s->lanes[i] != s->reporting)
            lane = &s->lanes[i];
    }
    if (lane == NULL || s->reporting != NULL)
        return;
    s->reporting = lane;
    fill_progress(s, &progress);
    progress.n_results = lane->n_results;
    progress.results = lane->results;
    call_send(s->call, &progress.base, &s->sent, progress_sent);
}

void sending_report(struct lane *lane)
{
    struct sending *s = lane->sending;

    took(&s->multicast->stats.pages, lane->clock_ns);
    if (!s->streams || s->gone)
        walk_reported(lane);
    else
        report_next(s);
}

/* ---- the beginning ---- */

static void cancelled(struct call *call, void *arg)
{
    struct sending *s = arg;

    s->gone = true;
    if (!s->answering && !awaiting_stop(s, call_group(call)->cancelled))
        walk_stop(s, call_group(call)->cancelled);
}

void sending_begin(struct sending *s)
{
    counter_add(&s->multicast->stats.multicasts, 1);
    arena_init(&s->listed, NULL);
    make_model(s);
    sending_choose_page(s);
    op_group_enter(call_group(s->call)); /* the walk has a group of its own */
    if (s->request->await_confirmation)
        awaiting_open(s);
    else
        walk_start(s);
    call_on_cancel(s->call, cancelled, s);
}

void sending_answer_as_before(struct sending *s)
{
    if (s->streams)
        send_last(s);
    else
        reply(s);
}

static void start(struct sending *s)
{
    if (remember_is_asked_for(s))
        remember_begin(s);
    else
        sending_begin(s);
}

/* ---- what is only counted ---- */

/* As walk.c paces them: the last page goes when those before it have had their time. */
static uint64_t least_ns(const struct sending *s)
{
    uint64_t targets = (uint64_t)s->tally.targets;

    if (s->request->_rate_per_second_case == 0 || targets <= s->page_items)
        return 0;
    return (targets - s->page_items) * sending_each_ns(s);
}

static void fill_cost(struct sending *s, pb_multicast_cost *cost)
{
    size_t bytes = s->request->payload.len;

    make_headers(s);
    sending_choose_page(s);
    for (size_t i = 0; i < s->n_headers; i++)
        bytes += s->headers[i].name.len + s->headers[i].value.len;
    if (s->kept)
        cost->stored_messages = s->tally.targets;
    else
        cost->published_messages = s->tally.targets;
    cost->message_bytes = s->tally.targets * (int64_t)bytes;
    cost->least_ms = (int64_t)(least_ns(s) / NS_PER_MS);
}

static void reply_count(struct sending *s, bool allowed)
{
    pb_multicast_response response = MULTICAST_PB(MULTICAST_RESPONSE__INIT);
    pb_multicast_cost cost = MULTICAST_PB(MULTICAST_COST__INIT);
    pb_multicast_progress progress;

    s->tally.targets = s->count.count < INT32_MAX ? (int32_t)s->count.count : INT32_MAX;
    fill_progress(s, &progress);
    progress.done = response.success = true;
    response.target_count = s->tally.targets;
    response.multicast_id = pb_text(s->id);
    if (allowed) {
        fill_cost(s, &cost);
        progress.cost = response.cost = &cost;
    }
    if (s->streams)
        call_send(s->call, &progress.base, &s->sent, last_sent);
    else
        call_reply(s->call, &response.base);
}

static uint64_t most_targets(const struct sending *s)
{
    uint64_t most = s->request->_max_targets_case != 0 ? (uint64_t)s->request->max_targets
                                                       : s->multicast->settings.max_targets;

    if (s->request->await_confirmation && (most == 0 || most > AWAITED_MOST))
        return AWAITED_MOST;
    return most;
}

void sending_counted(struct sending *s)
{
    uint64_t most = most_targets(s);

    if (s->request->dry_run)
        reply_count(s, most == 0 || s->count.count <= most);
    else if (s->count.count > most)
        call_fail(s->call,
                  err_about(ERR_FAILED_PRECONDITION, "max_targets",
                            arena_printf(call_arena(s->call),
                                         "more than %llu identities match: nothing was sent",
                                         (unsigned long long)most)));
    else
        start(s);
}

static void counted(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, count.op);

    if (op->err.code == ERR_OK)
        sending_counted(s);
    else
        call_fail(s->call, op->err);
}

/* The names that a request lists bound its targets by themselves. */
static bool is_bounded(const struct sending *s)
{
    uint64_t most = most_targets(s);

    return most == 0 || (s->named.items != NULL && s->named.n <= most);
}

static void run(struct call *call, bool streams)
{
    struct sending *s = arena_zalloc(call_arena(call), sizeof *s);
    uint64_t deadline_ns = call_group(call)->deadline_ns;
    struct err err;

    s->call = call;
    s->multicast = multicast_of(call);
    s->request = call_request(call);
    s->streams = streams;
    err = sending_read(s);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    s->id = s->request->message_id[0] != '\0' ? s->request->message_id
                                              : sending_random_id(call_arena(call));
    s->began_ns = s->multicast->base.home->now_ns;
    s->clock_ns = clock_now_ns();
    if (s->request->_timeout_ms_case != 0) {
        uint64_t own_ns = clock_after_ms(s->began_ns, (uint64_t)s->request->timeout_ms);

        if (deadline_ns == 0 || own_ns < deadline_ns)
            deadline_ns = own_ns;
    }
    op_group_init(&s->group, s->multicast->base.home, call_arena(call), deadline_ns);
    if (!s->request->dry_run && is_bounded(s)) {
        start(s);
        return;
    }
    if (s->named.items != NULL) {
        named_count(s);
        return;
    }
    s->count.filter = s->filter;
    s->count.enough = s->request->dry_run ? 0 : most_targets(s) + 1;
    call_start(call, &s->count.op, counted);
    s->multicast->plan.registry->count(s->multicast->registry, &s->count);
}

void multicast_multicast(struct call *call)
{
    run(call, false);
}

void multicast_multicast_stream(struct call *call)
{
    run(call, true);
}
