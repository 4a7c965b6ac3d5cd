/* Subscribe and Attach. The call stays until every attachment is closed, so that nothing of it is
 * left behind; what is under way ends in bounded time. */
#include "patterns/check.h"
#include "patterns/multicast_registry/receiver.h"
#include "patterns/need.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <sys/random.h>

enum { FEWEST_BUCKETS = 16 };

static void ask_for_more(struct receiver *r);

/* ---- the end ---- */

static void finish(struct receiver *r)
{
    struct call *call = r->call;

    r->ended = true;
    inbox_drop(r);
    arena_clear(&r->failures_arena);
    arena_clear(&r->receive_arena);
    if (r->why.code == ERR_OK)
        call_close(call);
    else
        call_fail(call, r->why);
    op_group_leave(call_group(call));
}

void receiver_look(struct receiver *r)
{
    if (r->ended)
        return;
    if (r->ending) {
        if (r->attached == 0 && !r->sending)
            finish(r);
        return;
    }
    if (r->attached == 0 && !r->bidi) { /* none of its topics could be opened, or all went */
        receiver_end(r, r->why);
        return;
    }
    if (r->started || r->opening == 0)
        frame_send(r);
}

void receiver_end(struct receiver *r, struct err why)
{
    if (r->ending)
        return;
    r->ending = true;
    r->why = why;
    inbox_drop(r);
    attachments_close(r);
    receiver_look(r);
}

static void cancelled(struct call *call, void *arg)
{
    receiver_end(arg, call_group(call)->cancelled);
}

/* It gets what waits for it, and a word that it attaches elsewhere (frame_sent). */
static void draining(struct call *call, void *arg)
{
    struct receiver *r = arg;

    (void)call;
    r->draining = r->has_news = true;
    receiver_look(r);
}

/* ---- the beginning ---- */

static size_t buckets_for(uint32_t most)
{
    size_t n = FEWEST_BUCKETS;

    while (n < most)
        n *= 2;
    return n;
}

static struct receiver *begin(struct call *call, bool bidi, size_t expected)
{
    struct multicast *multicast = multicast_of(call);
    uint8_t bytes[RECEIVER_ID_CHARS / 2];
    struct receiver *r = arena_zalloc(call_arena(call), sizeof *r);

    r->call = call;
    r->multicast = multicast;
    r->bidi = bidi;
    r->buckets = buckets_for(bidi ? multicast->settings.max_attached : (uint32_t)expected);
    r->table = arena_array(call_arena(call), r->buckets, sizeof *r->table);
    arena_init(&r->failures_arena, NULL);
    arena_init(&r->receive_arena, NULL);
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        abort(); /* the kernel's generator is ready from early boot on */
    for (size_t i = 0; i < sizeof bytes; i++) {
        r->id[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        r->id[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    op_group_enter(
        call_group(call)); /* until finish, also while nothing but events is waited for */
    call_on_cancel(call, cancelled, r);
    call_on_drain(call, draining, r);
    return r;
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
    if (err.code == ERR_OK && request->ack_mode == PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_MANUAL)
        err = need_unmet(multicast_need_of(NEED_DURABILITY));
    if (err.code == ERR_OK && request->identity[0] != '\0')
        err = convert_identity(request->identity, "identity", &identity);
    for (size_t i = 0; i < request->n_identities && err.code == ERR_OK; i++) {
        err = convert_identity(request->identities[i], NULL, &identity);
        if (err.code != ERR_OK)
            err = check_at_item(err, arena, "identities", i);
    }
    return err;
}

void multicast_subscribe(struct call *call)
{
    const pb_receive_request *request = call_request(call);
    struct err err = check_subscribe(multicast_of(call), request, call_arena(call));
    struct receiver *r;

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    r = begin(call, false, request->n_identities + 1);
    r->has_news = true;
    if (request->identity[0] != '\0')
        attachment_add(r, slice_str(request->identity));
    for (size_t i = 0; i < request->n_identities; i++)
        attachment_add(r, slice_str(request->identities[i]));
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
    receiver_look(r);
    return ERR_NONE;
}

static struct err detach(struct receiver *r, const pb_detach_identities *request)
{
    struct err err = check_names(request->identities, request->n_identities, call_arena(r->call),
                                 "detach.identities");

    for (size_t i = 0; i < request->n_identities && err.code == ERR_OK; i++)
        attachment_remove(r, slice_str(request->identities[i]));
    return err;
}

static struct err carry_out(struct receiver *r, const pb_attach_request *request)
{
    switch (request->action_case) {
    case MULTICAST_PB(ATTACH_REQUEST__ACTION_ATTACH):
        return attach(r, request->attach);
    case MULTICAST_PB(ATTACH_REQUEST__ACTION_DETACH):
        if (!r->started && r->attached == 0)
            return err_about(ERR_INVALID_ARGUMENT, "action", "the first message has to attach");
        return detach(r, request->detach);
    default:
        return err_about(ERR_INVALID_ARGUMENT, "action", "attach or detach has to be set");
    }
}

static void received(struct op *op)
{
    struct call_receive *receive = CONTAINER_OF(op, struct call_receive, op);
    struct receiver *r = CONTAINER_OF(receive, struct receiver, receive);
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
    arena_clear(&r->receive_arena);
    r->receive.arena = &r->receive_arena;
    call_receive(r->call, &r->receive, received);
}

void multicast_attach(struct call *call)
{
    ask_for_more(begin(call, true, 0));
}

void multicast_acknowledge(struct call *call)
{
    call_fail(call, need_unmet(multicast_need_of(NEED_DURABILITY)));
}
