/* Multicast and MulticastStream: the request, checked before anything is sent, and the answer. */
#include "patterns/check.h"
#include "patterns/multicast_registry/filter.h"
#include "patterns/multicast_registry/sending.h"
#include "patterns/need.h"
#include "pool/worker.h"
#include "src/base/block.h"
#include "src/base/clock.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { ID_RANDOM_BYTES = 16, TIME_TEXT = 24, PACED_SHARE = 10, OUR_HEADERS = 5 };

/* ---- the request ---- */

static const char *random_id(struct arena *arena)
{
    uint8_t bytes[ID_RANDOM_BYTES];
    char *id = arena_alloc(arena, 2 * sizeof bytes + 1);

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        abort(); /* the kernel's generator is ready from early boot on */
    for (size_t i = 0; i < sizeof bytes; i++) {
        id[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        id[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    id[2 * sizeof bytes] = '\0';
    return id;
}

static struct err unmet(enum multicast_need need)
{
    return need_unmet(multicast_need_of(need));
}

/* Kept messages are what the namespace is for, if it has a slot for them. */
static void choose_way(struct sending *s)
{
    const struct multicast_plan *plan = &s->multicast->plan;

    s->kept = plan->kept_sink != NULL &&
              s->request->delivery != PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_MOST_ONCE;
    s->sink = s->kept ? plan->kept_sink : &plan->topic->sink;
    s->carrier = s->kept ? s->multicast->durability : s->multicast->messaging;
}

/* What the bound backends cannot do is refused, not left out. */
static struct err check_abilities(const struct sending *s)
{
    const pb_multicast_request *request = s->request;

    if (request->delivery > PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_LEAST_ONCE)
        return unmet(NEED_IDEMPOTENCE);
    if (!s->kept &&
        (request->delivery == PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_LEAST_ONCE ||
         request->_expires_after_ms_case != 0))
        return unmet(NEED_DURABILITY);
    if (!s->kept && request->collapse_key[0] != '\0')
        return unmet(NEED_COLLAPSING);
    if (request->await_confirmation)
        return unmet(NEED_CONFIRMATION);
    if (request->n_metadata > 0 && s->sink->bare)
        return unmet(NEED_HEADERS);
    return ERR_NONE;
}

static struct err check_numbers(const struct multicast *multicast,
                                const pb_multicast_request *request)
{
    if (request->payload.len > multicast->plan.max_payload_bytes)
        return err_about(ERR_INVALID_ARGUMENT, "payload",
                         "the payload is larger than max_value_bytes of the capabilities");
    if (strlen(request->message_id) > MULTICAST_ID_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "message_id", "message_id has at most 256 bytes");
    if (request->_timeout_ms_case != 0 && request->timeout_ms < 1)
        return err_about(ERR_INVALID_ARGUMENT, "timeout_ms", "timeout_ms has to be 1 or more");
    if (request->_max_targets_case != 0 && request->max_targets < 1)
        return err_about(ERR_INVALID_ARGUMENT, "max_targets", "max_targets has to be 1 or more");
    if (request->_rate_per_second_case != 0 && request->rate_per_second < 1)
        return err_about(ERR_INVALID_ARGUMENT, "rate_per_second",
                         "rate_per_second has to be 1 or more");
    if (request->_expires_after_ms_case != 0 && request->expires_after_ms < 1)
        return err_about(ERR_INVALID_ARGUMENT, "expires_after_ms",
                         "expires_after_ms has to be 1 or more");
    if (strlen(request->collapse_key) > MULTICAST_COLLAPSE_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "collapse_key",
                         "collapse_key has at most 256 bytes");
    return ERR_NONE;
}

static int by_bytes(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    size_t least = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->data, y->data, least);

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static struct err read_names(struct sending *s)
{
    struct arena *arena = call_arena(s->call);
    size_t n = s->request->n_identities, kept = 0;
    struct err err = check_items(n, REGISTRY_BATCH, arena, "identities");

    if (err.code != ERR_OK || n == 0)
        return err;
    s->names = arena_array(arena, n, sizeof *s->names);
    for (size_t i = 0; i < n; i++) {
        err = convert_identity(s->request->identities[i], NULL, &s->names[i]);
        if (err.code != ERR_OK)
            return check_at_item(err, arena, "identities", i);
    }
    qsort(s->names, n, sizeof *s->names, by_bytes);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || !slice_equal(s->names[i], s->names[kept - 1]))
            s->names[kept++] = s->names[i];
    }
    s->n_names = kept;
    return ERR_NONE;
}

static struct err check_headers(const pb_multicast_request *request, struct arena *arena)
{
    size_t bytes = 0;

    if (request->n_metadata > MESSAGE_HEADERS - OUR_HEADERS)
        return err_about(ERR_INVALID_ARGUMENT, "metadata", "a message has at most 251 headers");
    for (size_t i = 0; i < request->n_metadata; i++) {
        struct slice name = slice_str(request->metadata[i]->name);

        if (name.len == 0 || slice_starts_with(name, slice_str(MULTICAST_HEADER_OURS)))
            return check_at_item(err_about(ERR_INVALID_ARGUMENT, "name",
                                           "a header's name is neither empty nor begins with "
                                           "\"prism-\""),
                                 arena, "metadata", i);
        bytes += strlen(request->metadata[i]->name) + request->metadata[i]->value.len;
    }
    if (bytes + TIME_TEXT + strlen(request->content_type != NULL ? request->content_type : "") >
        MESSAGE_HEADER_BYTES / 2)
        return err_about(ERR_INVALID_ARGUMENT, "metadata", "headers have at most 32 KiB together");
    return ERR_NONE;
}

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
    for (size_t i = 0; i < request->n_metadata; i++)
        add_header(s, request->metadata[i]->name,
                   request->metadata[i]->_value_case != 0 ? pb_slice(request->metadata[i]->value)
                                                          : message_empty());
}

/* As many as one publish operation takes, and a tenth of a second's at a bounded rate. */
static void choose_page(struct sending *s)
{
    const struct message_sink *sink = s->sink;
    size_t bytes = s->request->payload.len + 2 * MESSAGE_TOPIC_BYTES + strlen(s->id);

    for (size_t i = 0; i < s->n_headers; i++)
        bytes += s->headers[i].name.len + s->headers[i].value.len;
    s->page_items = REGISTRY_PAGE_ITEMS;
    if (s->page_items > sink->max_items)
        s->page_items = sink->max_items;
    if (s->page_items > sink->max_frame_bytes / bytes)
        s->page_items = (size_t)(sink->max_frame_bytes / bytes);
    if (s->request->_rate_per_second_case != 0 &&
        s->page_items > (size_t)s->request->rate_per_second / PACED_SHARE)
        s->page_items = (size_t)s->request->rate_per_second / PACED_SHARE;
    if (s->page_items == 0)
        s->page_items = 1;
}

static struct err read_request(struct sending *s)
{
    struct arena *arena = call_arena(s->call);
    struct err err = check_numbers(s->multicast, s->request);

    if (err.code == ERR_OK)
        err = check_abilities(s);
    if (err.code == ERR_OK)
        err = check_headers(s->request, arena);
    if (err.code == ERR_OK)
        err = read_names(s);
    if (err.code == ERR_OK)
        err =
            multicast_filter(arena, s->request->filter, &s->multicast->settings.filter, &s->filter);
    return err;
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
    response.failed_count = s->tally.failed;
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

void sending_over(struct sending *s)
{
    struct op_group *group = call_group(s->call);

    block_unref(s->payload);
    if (nothing_came_of_it(s))
        call_fail(s->call, s->err);
    else if (s->streams)
        send_last(s);
    else
        reply(s);
    arena_clear(&s->listed);
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
    lane->state = LANE_WANTS_PAGE;
    if (err.code != ERR_OK) {
        s->gone = true;
        walk_stop(s, err);
    }
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
    walk_stop(s, call_group(call)->cancelled);
}

static void begin(struct sending *s)
{
    counter_add(&s->multicast->stats.multicasts, 1);
    s->payload = block_copy(pb_slice(s->request->payload));
    arena_init(&s->listed, NULL);
    make_headers(s);
    choose_page(s);
    op_group_enter(call_group(s->call)); /* the walk has a group of its own */
    walk_start(s);
    call_on_cancel(s->call, cancelled, s);
}

static void reply_count(struct sending *s)
{
    pb_multicast_response response = MULTICAST_PB(MULTICAST_RESPONSE__INIT);
    pb_multicast_progress progress;

    s->tally.targets = s->count.count < INT32_MAX ? (int32_t)s->count.count : INT32_MAX;
    fill_progress(s, &progress);
    progress.done = response.success = true;
    response.target_count = s->tally.targets;
    response.multicast_id = pb_text(s->id);
    if (s->streams)
        call_send(s->call, &progress.base, &s->sent, last_sent);
    else
        call_reply(s->call, &response.base);
}

static uint64_t most_targets(const struct sending *s)
{
    return s->request->_max_targets_case != 0 ? (uint64_t)s->request->max_targets
                                              : s->multicast->settings.max_targets;
}

static void counted(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, count.op);
    uint64_t most = most_targets(s);

    if (op->err.code != ERR_OK)
        call_fail(s->call, op->err);
    else if (s->request->dry_run)
        reply_count(s);
    else if (s->count.count > most)
        call_fail(s->call,
                  err_about(ERR_FAILED_PRECONDITION, "max_targets",
                            arena_printf(call_arena(s->call),
                                         "more than %llu identities match: nothing was sent",
                                         (unsigned long long)most)));
    else
        begin(s);
}

/* The names that a request lists bound its targets by themselves. */
static bool is_bounded(const struct sending *s)
{
    uint64_t most = most_targets(s);

    return most == 0 || (s->names != NULL && s->n_names <= most);
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
    choose_way(s);
    err = read_request(s);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    s->id =
        s->request->message_id[0] != '\0' ? s->request->message_id : random_id(call_arena(call));
    s->began_ns = s->multicast->base.home->now_ns;
    if (s->request->_timeout_ms_case != 0) {
        uint64_t own_ns = s->began_ns + (uint64_t)s->request->timeout_ms * NS_PER_MS;

        if (deadline_ns == 0 || own_ns < deadline_ns)
            deadline_ns = own_ns;
    }
    op_group_init(&s->group, s->multicast->base.home, call_arena(call), deadline_ns);
    if (!s->request->dry_run && is_bounded(s)) {
        begin(s);
        return;
    }
    if (s->names != NULL) {
        call_fail(call,
                  err_about(ERR_UNIMPLEMENTED, "identities",
                            "identities cannot be given with dry_run, or beyond max_targets"));
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
