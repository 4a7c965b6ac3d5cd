/* Acknowledge: from any worker to the one on which the receiver lives, and back. */
#include "patterns/check.h"
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
    struct name_set ids, identities;
    bool *known; /* of each id */
    bool found;
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
    struct receiver *r = find(a->there, a->request->subscription_id);

    a->found = r != NULL;
    if (r != NULL) {
        kept_named(r, &a->ids, &a->identities, a->known);
        receiver_look(r);
    }
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
    for (size_t i = 0; i < a->ids.n; i++)
        response.acknowledged_count += a->known[i];
    response.failed_ids = arena_array(call_arena(a->call), n, sizeof *response.failed_ids);
    for (size_t i = 0; i < n; i++) {
        if (!a->known[name_set_find(&a->ids, slice_str(a->request->message_ids[i]))])
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

static struct err check(const pb_acknowledge_request *request, struct arena *arena)
{
    struct err err = check_items(request->n_message_ids, REGISTRY_BATCH, arena, "message_ids");

    return err.code == ERR_OK
               ? check_items(request->n_identities, REGISTRY_BATCH, arena, "identities")
               : err;
}

void multicast_acknowledge(struct call *call)
{
    struct multicast *multicast = multicast_of(call);
    struct arena *arena = call_arena(call);
    struct acknowledging *a = arena_zalloc(arena, sizeof *a);
    const pb_acknowledge_request *request = call_request(call);
    struct err err = check(request, arena);

    if (multicast->plan.kept_sink == NULL)
        err = need_unmet(multicast_need_of(NEED_DURABILITY));
    a->there = home_of(multicast, request->subscription_id);
    if (err.code == ERR_OK && a->there == NULL)
        err = not_here();
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    a->call = call;
    a->request = request;
    a->ids = name_set_of_texts(arena, request->message_ids, request->n_message_ids);
    a->identities = name_set_of_texts(arena, request->identities, request->n_identities);
    a->known = arena_zalloc(arena, a->ids.n * sizeof *a->known);
    a->errand.there = arrived;
    errand_start(&a->errand, call_group(call), a->there->base.home, back);
}
