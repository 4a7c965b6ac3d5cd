/* Subscribe and Attach. The call stays until every attachment is closed, so that nothing of it is
 * left behind; what is under way ends in bounded time. */
#include "patterns/check.h"
#include "patterns/multicast_registry/receiver.h"
#include "patterns/need.h"
#include "pool/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { RANDOM_BYTES = 14, TOKEN_BYTES = 64, ACKNOWLEDGED = 100000 };

/* Of the RPC Attach. */
struct attach {
    struct receiver receiver; /* first */
    struct call_receive receive;
    struct arena arena; /* of the request */
};

static struct attach *attach_of(struct receiver *r)
{
    return CONTAINER_OF(r, struct attach, receiver);
}

static void ask_for_more(struct receiver *r);

/* ---- the end ---- */

static void leave_instance(struct receiver *r)
{
    if (r->prev != NULL)
        r->prev->next = r->next;
    else
        r->multicast->receivers = r->next;
    if (r->next != NULL)
        r->next->prev = r->prev;
}

static void join_instance(struct receiver *r)
{
    r->next = r->multicast->receivers;
    if (r->next != NULL)
        r->next->prev = r;
    r->multicast->receivers = r;
}

static void finish(struct receiver *r)
{
    struct call *call = r->call;

    r->ended = true;
    inbox_drop(r);
    leave_instance(r);
    arena_clear(&r->failures_arena);
    if (r->bidi)
        arena_clear(&attach_of(r)->arena);
    if (r->why.code == ERR_OK)
        call_close(call);
    else
        call_fail(call, r->why);
    op_group_leave(call_group(call));
}

/* It has got what waited for it, and what it was told to confirm is confirmed. */
static bool is_drained(const struct receiver *r)
{
    return r->started && !r->sending && !r->has_news && !frame_has_messages(r) &&
           r->unsettled == 0 && r->settling == 0;
}

void receiver_look(struct receiver *r)
{
    if (r->ended)
        return;
    if (r->ending) {
        if (r->attached == 0 && !r->sending && r->settling == 0 && !r->beating && r->entering == 0)
            finish(r);
        return;
    }
    if (r->attached == 0 && !r->bidi) { /* none of its topics could be opened, or all went */
        receiver_end(r, r->why);
        return;
    }
    if (r->started || r->opening == 0)
        frame_send(r);
    if (r->draining && is_drained(r))
        receiver_end(r, err_about(ERR_UNAVAILABLE, "draining", "the server is about to stop"));
}

/* The text of a request goes with its memory. */
void receiver_note(struct receiver *r, struct err why)
{
    if (why.text != NULL && r->why_text == NULL)
        r->why_text = arena_alloc(call_arena(r->call), ERR_KEPT_BYTES);
    r->why = err_keep(why, r->why_text);
}

void receiver_end(struct receiver *r, struct err why)
{
    if (!r->ending) {
        r->ending = true;
        receiver_note(r, why);
        presence_end(r);
        inbox_drop(r);
        attachments_close(r);
    }
    receiver_look(r); /* a send that failed may be the last thing that it waited for */
}

static void cancelled(struct call *call, void *arg)
{
    receiver_end(arg, call_group(call)->cancelled);
}

/* It gets what waits for it here, and a word that it attaches elsewhere; nothing more comes from
 * queues, so that what it does not get is with others at once. */
static void draining(struct call *call, void *arg)
{
    struct receiver *r = arg;

    (void)call;
    r->draining = r->has_news = true;
    receiver_look(r);
}

/* ---- the beginning ---- */

/* Nobody guesses it, and any worker reads from it where the receiver lives. */
static void name_receiver(struct receiver *r, const uint8_t bytes[RANDOM_BYTES])
{
    for (size_t i = 0; i < RANDOM_BYTES; i++) {
        r->id[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        r->id[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    snprintf(r->id + 2 * RANDOM_BYTES, sizeof r->id - 2 * RANDOM_BYTES, "%04x",
             r->multicast->base.home->id & 0xffff);
}

/* The table comes first, so that an arena's first block has room for all that waits idly. */
static struct receiver *begin(struct call *call, bool bidi, size_t expected)
{
    struct multicast *multicast = multicast_of(call);
    uint8_t bytes[RANDOM_BYTES];
    struct arena *arena = call_arena(call);
    size_t buckets;
    struct attachment **table = attachments_make(arena, expected, &buckets);
    struct receiver *r =
        arena_zalloc(arena, bidi ? sizeof(struct attach) : sizeof(struct receiver));

    r->call = call;
    r->multicast = multicast;
    r->bidi = bidi;
    r->leads = multicast->plan.kept_sink != NULL ? LEAD_KINDS : LEAD_QUEUE;
    r->max_in_flight = multicast->settings.max_in_flight;
    r->when_full = multicast->settings.when_full;
    r->table = table;
    r->buckets = buckets;
    if (r->leads > LEAD_QUEUE)
        kept_init(r);
    arena_init(&r->failures_arena, NULL);
    if (bidi)
        arena_init(&attach_of(r)->arena, NULL);
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        abort(); /* the kernel's generator is ready from early boot on */
    name_receiver(r, bytes);
    join_instance(r);
    op_group_enter(
        call_group(call)); /* until finish, also while nothing but events is waited for */
    call_on_cancel(call, cancelled, r);
    call_on_drain(call, draining, r);
    return r;
}

/* ---- how it receives ---- */

struct manner {
    Prism__Patterns__Schemas__AckMode ack_mode;
    bool bounds; /* max_in_flight is given */
    int32_t max_in_flight;
    const char *resume_token; /* NULL: none */
    Prism__Patterns__MulticastRegistry__FullPolicy when_full;
};

static struct err check_manner(const struct multicast *multicast, const struct manner *manner)
{
    size_t len = manner->resume_token != NULL ? strlen(manner->resume_token) : 0;

    if (!check_is_known(&prism__patterns__schemas__ack_mode__descriptor, (int)manner->ack_mode))
        return err_about(ERR_INVALID_ARGUMENT, "ack_mode",
                         "ack_mode has to be a number of AckMode");
    if (manner->ack_mode == PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_MANUAL &&
        multicast->plan.kept_sink == NULL)
        return need_unmet(multicast_need_of(NEED_DURABILITY));
    if (manner->bounds && manner->max_in_flight < 1)
        return err_about(ERR_INVALID_ARGUMENT, "max_in_flight",
                         "max_in_flight has to be 1 or more");
    if (manner->resume_token != NULL && (len <= RECEIVER_ID_CHARS || len > TOKEN_BYTES ||
                                         manner->resume_token[RECEIVER_ID_CHARS] != ':'))
        return err_about(ERR_INVALID_ARGUMENT, "resume_token", "this is no token of a frame");
    if ((unsigned)manner->when_full >= FULL_POLICIES)
        return err_about(ERR_INVALID_ARGUMENT, "when_full",
                         "when_full has to be a number of FullPolicy");
    return ERR_NONE;
}

static void set_manner(struct receiver *r, const struct manner *manner)
{
    r->begun = true;
    r->resumes = manner->resume_token != NULL;
    if (manner->when_full != MULTICAST_PB(FULL_POLICY__FULL_UNSPECIFIED))
        r->when_full = (enum full_policy)manner->when_full;
    r->manual =
        r->leads > LEAD_QUEUE && manner->ack_mode != PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    if (r->manual && manner->bounds && (size_t)manner->max_in_flight < r->max_in_flight)
        r->max_in_flight = (size_t)manner->max_in_flight;
}

/* ---- Subscribe ---- */

static struct err check_subscribe(const struct multicast *multicast,
                                  const pb_receive_request *request, struct arena *arena)
{
    size_t n = request->n_identities + (request->identity[0] != '\0');
    struct err err = check_items(n, multicast->settings.max_attached, arena, "identities");
    struct slice identity;

    if (err.code == ERR_OK && n == 0)
        err = err_about(ERR_INVALID_ARGUMENT, "identity", "name at least one identity");
    if (err.code == ERR_OK && request->identity[0] != '\0')
        err = convert_identity(request->identity, "identity", &identity);
    for (size_t i = 0; i < request->n_identities && err.code == ERR_OK; i++) {
        err = convert_identity(request->identities[i], NULL, &identity);
        if (err.code != ERR_OK)
            err = check_at_item(err, arena, "identities", i);
    }
    return err;
}

static void subscribe(struct receiver *r, const pb_receive_request *request)
{
    r->has_news = true;
    if (request->identity[0] != '\0')
        attachment_add(r, slice_str(request->identity));
    for (size_t i = 0; i < request->n_identities; i++)
        attachment_add(r, slice_str(request->identities[i]));
}

/* The stream may stay for long, and its request be large. */
void multicast_subscribe(struct call *call)
{
    struct arena memory;
    const pb_receive_request *request = call_take_request(call, &memory);
    const struct manner manner = {
        .ack_mode = request->ack_mode,
        .bounds = request->_max_in_flight_case != 0,
        .max_in_flight = request->max_in_flight,
        .resume_token = request->_resume_token_case != 0 ? request->resume_token : NULL,
        .when_full = request->when_full};
    struct err err = check_subscribe(multicast_of(call), request, &memory);

    if (err.code == ERR_OK)
        err = check_manner(multicast_of(call), &manner);
    if (err.code == ERR_OK) {
        struct receiver *r = begin(call, false, request->n_identities + 1);

        set_manner(r, &manner);
        subscribe(r, request);
    } else {
        call_fail(call, err);
    }
    arena_clear(&memory);
}

/* ---- Attach ---- */

static struct err check_names(char *const *names, size_t n, struct arena *arena, const char *list)
{
    struct err err = ERR_NONE;
    struct slice identity;

    for (size_t i = 0; i < n && err.code == ERR_OK; i++) {
        err = convert_identity(names[i], NULL, &identity);
        if (err.code != ERR_OK)
            err = check_at_item(err, arena, list, i);
    }
    return err;
}

static struct err attach(struct receiver *r, const pb_attach_identities *request)
{
    struct err err = check_names(request->identities, request->n_identities, call_arena(r->call),
                                 "attach.identities");

    if (err.code == ERR_OK &&
        r->attached + request->n_identities > r->multicast->settings.max_attached)
        err = err_about(ERR_RESOURCE_EXHAUSTED, "max_attached",
                        "a stream receives for at most max_attached identities");
    if (err.code != ERR_OK)
        return err;
    for (size_t i = 0; i < request->n_identities; i++)
        attachment_add(r, slice_str(request->identities[i]));
    r->has_news = true;
    if (request->registration != NULL)
        err = presence_register(r, request);
    receiver_look(r);
    return err;
}

static struct err detach(struct receiver *r, const pb_detach_identities *request)
{
    struct err err = check_names(request->identities, request->n_identities, call_arena(r->call),
                                 "detach.identities");

    for (size_t i = 0; i < request->n_identities && err.code == ERR_OK; i++)
        attachment_remove(r, slice_str(request->identities[i]));
    return err;
}

static struct err acknowledge(struct receiver *r, const pb_acknowledge_messages *request)
{
    if (!r->manual)
        return err_about(ERR_INVALID_ARGUMENT, "acknowledge",
                         "the stream does not receive with ACK_MANUAL");
    if (request->n_sequences > ACKNOWLEDGED)
        return check_items(request->n_sequences, ACKNOWLEDGED, call_arena(r->call),
                           "acknowledge.sequences");
    kept_through(r, request->through);
    kept_sequences(r, request->sequences, request->n_sequences);
    receiver_look(r);
    return ERR_NONE;
}

/* The first message says how the stream receives. */
static struct err begin_attach(struct receiver *r, const pb_attach_request *request)
{
    const struct manner manner = {
        .ack_mode = request->ack_mode,
        .bounds = request->_max_in_flight_case != 0,
        .max_in_flight = request->max_in_flight,
        .resume_token = request->_resume_token_case != 0 ? request->resume_token : NULL,
        .when_full = request->when_full};
    struct err err = check_manner(r->multicast, &manner);

    if (err.code == ERR_OK && request->action_case != MULTICAST_PB(ATTACH_REQUEST__ACTION_ATTACH))
        err = err_about(ERR_INVALID_ARGUMENT, "action", "the first message has to attach");
    if (err.code == ERR_OK)
        set_manner(r, &manner);
    return err;
}

static struct err carry_out(struct receiver *r, const pb_attach_request *request)
{
    struct err err = r->begun ? ERR_NONE : begin_attach(r, request);

    if (err.code != ERR_OK)
        return err;
    switch (request->action_case) {
    case MULTICAST_PB(ATTACH_REQUEST__ACTION_ATTACH):
        return attach(r, request->attach);
    case MULTICAST_PB(ATTACH_REQUEST__ACTION_DETACH):
        return detach(r, request->detach);
    case MULTICAST_PB(ATTACH_REQUEST__ACTION_ACKNOWLEDGE):
        return acknowledge(r, request->acknowledge);
    default:
        return err_about(ERR_INVALID_ARGUMENT, "action",
                         "attach, detach or acknowledge has to be set");
    }
}

static void received(struct op *op)
{
    struct call_receive *receive = CONTAINER_OF(op, struct call_receive, op);
    struct receiver *r = &CONTAINER_OF(receive, struct attach, receive)->receiver;
    struct err err = op->err;

    if (r->ending || r->ended)
        return;
    if (err.code == ERR_OK && receive->message == NULL) {
        receiver_end(r, ERR_NONE);
        return;
    }
    if (err.code == ERR_OK)
        err = carry_out(r, (const pb_attach_request *)receive->message);
    if (err.code != ERR_OK)
        receiver_end(r, err);
    else
        ask_for_more(r);
}

static void ask_for_more(struct receiver *r)
{
    struct attach *a = attach_of(r);

    arena_clear(&a->arena);
    a->receive.arena = &a->arena;
    call_receive(r->call, &a->receive, received);
}

void multicast_attach(struct call *call)
{
    ask_for_more(begin(call, true, 0));
}
