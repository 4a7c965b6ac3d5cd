/* Acknowledge: from any worker to the one on which the receiver lives, and back. */
#include "patterns/errand.h"
#include "patterns/multicast_registry/receiver.h"
#include "patterns/need.h"

#include <stdlib.h>
#include <string.h>

enum { WORKER_DIGITS = 4, SIXTEEN = 16 };

struct acknowledging {
    struct errand errand;
    struct call *call;
    struct multicast *there;
    const pb_acknowledge_request *request;
    bool *known; /* of each message */
    bool found;
    int32_t confirmed;
};

/* ---- there ---- */

static struct receiver *find(struct multicast *multicast, const char *id)
{
    struct receiver *r = multicast->receivers;

    while (r != NULL && strcmp(r->id, id) != 0)
        r = r->next;
    return r != NULL && !r->ending && r->manual ? r : NULL;
}

static void arrived(struct errand *errand)
{
    struct acknowledging *a = CONTAINER_OF(errand, struct acknowledging, errand);
    const pb_acknowledge_request *request = a->request;
    struct receiver *r = find(a->there, request->subscription_id);

    a->found = r != NULL;
    for (size_t i = 0; r != NULL && i < request->n_message_ids; i++) {
        size_t n = kept_named(r, slice_str(request->message_ids[i]), request->identities,
                              request->n_identities);

        a->known[i] = n > 0;
        a->confirmed += n > 0;
    }
    if (r != NULL)
        receiver_look(r);
    op_finish(&a->errand.op, ERR_NONE);
}

/* ---- back ---- */

static struct err not_here(void)
{
    return err_about(ERR_NOT_FOUND, "subscription_id",
                     "no such subscription on this server, or it does not receive with ACK_MANUAL");
}

static void back(struct op *op)
{
    struct acknowledging *a = CONTAINER_OF(op, struct acknowledging, errand.op);
    pb_acknowledge_response response = MULTICAST_PB(ACKNOWLEDGE_RESPONSE__INIT);
    size_t n = a->request->n_message_ids;

    if (!a->found) {
        call_fail(a->call, not_here());
        return;
    }
    response.acknowledged_count = a->confirmed;
    response.failed_ids = arena_array(call_arena(a->call), n, sizeof *response.failed_ids);
    for (size_t i = 0; i < n; i++) {
        if (!a->known[i])
            response.failed_ids[response.n_failed_ids++] = a->request->message_ids[i];
    }
    call_reply(a->call, &response.base);
}

/* The last digits of the name say the worker. */
static struct multicast *home_of(const struct multicast *multicast, const char *id)
{
    if (strlen(id) != RECEIVER_ID_CHARS)
        return NULL;
    return multicast_on(multicast,
                        (unsigned)strtoul(id + RECEIVER_ID_CHARS - WORKER_DIGITS, NULL, SIXTEEN));
}

void multicast_acknowledge(struct call *call)
{
    struct multicast *multicast = multicast_of(call);
    struct acknowledging *a = arena_zalloc(call_arena(call), sizeof *a);

    a->call = call;
    a->request = call_request(call);
    a->there = home_of(multicast, a->request->subscription_id);
    a->known = arena_array(call_arena(call), a->request->n_message_ids, sizeof *a->known);
    a->errand.there = arrived;
    if (multicast->plan.kept_sink == NULL)
        call_fail(call, need_unmet(multicast_need_of(NEED_DURABILITY)));
    else if (a->there == NULL)
        call_fail(call, not_here());
    else
        errand_start(&a->errand, call_group(call), a->there->base.home, back);
}
