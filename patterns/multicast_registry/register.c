/* What changes the registry: Register, RegisterBatch, Heartbeat, Unregister, UpdateMetadata. */
#include "patterns/check.h"
#include "patterns/multicast_registry/metadata.h"
#include "patterns/multicast_registry/multicast_priv.h"
#include "src/base/container.h"

enum { MS_PER_S = 1000 };

/* ---- Register and RegisterBatch ---- */

struct registering {
    struct registry_put put; /* of those that can be put */
    struct call *call;
    struct multicast *multicast;
    bool batch;
    size_t n;
    const pb_register_request *const *requests;
    struct err *faults; /* [n], in-band; those with one are not put */
};

/* A fault of the request is the call's; what the metadata or tags are is the item's. */
static struct err read_registration(struct registering *r, size_t i)
{
    const pb_register_request *from = r->requests[i];
    struct registry_put_item *to = &r->put.items[r->put.n];
    struct arena *arena = call_arena(r->call);
    struct err err;

    *to = (struct registry_put_item){0}; /* one with a fault may have begun to fill it */
    err = convert_identity(from->identity, "identity", &to->identity);
    if (err.code == ERR_OK)
        err = convert_ttl(from->ttl, r->multicast->settings.default_ttl_ms, &to->ttl_ms);
    if (err.code != ERR_OK)
        return err;
    to->replace = from->replace;
    if (from->_if_generation_case != 0) {
        if (from->if_generation < 1 || !from->replace)
            return err_about(ERR_INVALID_ARGUMENT, "if_generation",
                             "if_generation has to be 1 or more, with replace");
        to->if_generation = (uint64_t)from->if_generation;
    }
    r->faults[i] = metadata_read(arena, from->metadata, REGISTRY_DOCUMENT_BYTES, &to->document);
    if (r->faults[i].code == ERR_OK)
        r->faults[i] = convert_tags(arena, from->tags, from->n_tags, &to->tags);
    if (r->faults[i].code == ERR_OK)
        r->put.n++;
    return ERR_NONE;
}

static struct err read_registrations(struct registering *r)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < r->n; i++) {
        struct err err = read_registration(r, i);

        if (err.code != ERR_OK)
            return r->batch ? check_at_item(err, call_arena(r->call), "registrations", i) : err;
    }
    for (size_t i = 0; i < r->put.n; i++)
        bytes +=
            r->put.items[i].identity.len + r->put.items[i].document.len + r->put.items[i].tags.len;
    if (bytes > REGISTRY_BATCH_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "registrations",
                         "names, metadata and tags of one call have at most 4 MiB");
    return ERR_NONE;
}

static void fill_registered(pb_register_response *to, const struct registry_put_item *item)
{
    to->success = true;
    to->generation = (int64_t)item->generation;
    to->registered_at = (int64_t)(item->registered_at_ms / MS_PER_S);
    to->replaced = item->replaced;
    if (item->expires_at_ms == 0)
        return;
    to->_expires_at_case = MULTICAST_PB(REGISTER_RESPONSE___EXPIRES_AT_EXPIRES_AT);
    to->expires_at = (int64_t)(item->expires_at_ms / MS_PER_S);
    to->_expires_at_ms_case = MULTICAST_PB(REGISTER_RESPONSE___EXPIRES_AT_MS_EXPIRES_AT_MS);
    to->expires_at_ms = (int64_t)item->expires_at_ms;
}

static pb_register_response *respond(struct registering *r, size_t i,
                                     const struct registry_put_item *item)
{
    pb_register_response *to = arena_alloc(call_arena(r->call), sizeof *to);
    struct err err = item != NULL ? item->err : r->faults[i];

    prism__patterns__multicast_registry__register_response__init(to);
    to->identity = r->requests[i]->identity;
    if (err.code == ERR_OK) {
        fill_registered(to, item);
        counter_add(&r->multicast->stats.registered, 1);
        return to;
    }
    to->code = (int32_t)err.code;
    to->_error_case = MULTICAST_PB(REGISTER_RESPONSE___ERROR_ERROR);
    to->error = pb_text(err.text);
    return to;
}

static void answer(struct registering *r)
{
    pb_register_batch_response all = MULTICAST_PB(REGISTER_BATCH_RESPONSE__INIT);
    size_t put = 0;

    all.results = arena_array(call_arena(r->call), r->n, sizeof *all.results);
    for (; all.n_results < r->n; all.n_results++) {
        bool was_put = r->faults[all.n_results].code == ERR_OK;
        pb_register_response *result =
            respond(r, all.n_results, was_put ? &r->put.items[put++] : NULL);

        all.results[all.n_results] = result;
        all.success_count += result->success;
    }
    call_reply(r->call, r->batch ? &all.base : &all.results[0]->base);
}

static void registered(struct op *op)
{
    struct registering *r = CONTAINER_OF(op, struct registering, put.op);

    if (op->err.code != ERR_OK)
        call_fail(r->call, op->err);
    else
        answer(r);
}

static void register_all(struct call *call, const pb_register_request *const *requests, size_t n,
                         bool batch)
{
    struct registering *r = arena_zalloc(call_arena(call), sizeof *r);
    struct err err;

    r->call = call;
    r->multicast = multicast_of(call);
    r->batch = batch;
    r->n = n;
    r->requests = requests;
    r->faults = arena_array(call_arena(call), n, sizeof *r->faults);
    r->put.items = arena_array(call_arena(call), n, sizeof *r->put.items);
    r->put.max_identities = r->multicast->settings.max_identities;
    err = read_registrations(r);
    if (err.code != ERR_OK) {
        call_fail(call, err);
    } else if (r->put.n == 0) {
        answer(r);
    } else {
        call_start(call, &r->put.op, registered);
        r->multicast->plan.registry->put(r->multicast->registry, &r->put);
    }
}

void multicast_register(struct call *call)
{
    const pb_register_request **request = arena_alloc(call_arena(call), sizeof *request);

    *request = call_request(call);
    register_all(call, request, 1, false);
}

void multicast_register_batch(struct call *call)
{
    const pb_register_batch_request *request = call_request(call);
    struct err err =
        check_items(request->n_registrations, REGISTRY_BATCH, call_arena(call), "registrations");

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        register_all(call, (const pb_register_request *const *)request->registrations,
                     request->n_registrations, true);
}

/* ---- Heartbeat ---- */

struct beating {
    struct registry_beat beat;
    struct call *call;
    struct multicast *multicast;
};

static void beaten(struct op *op)
{
    struct beating *b = CONTAINER_OF(op, struct beating, beat.op);
    pb_heartbeat_response response = MULTICAST_PB(HEARTBEAT_RESPONSE__INIT);
    struct arena *arena = call_arena(b->call);

    if (op->err.code != ERR_OK) {
        call_fail(b->call, op->err);
        return;
    }
    response.missing = arena_array(arena, b->beat.n, sizeof *response.missing);
    response.replaced = arena_array(arena, b->beat.n, sizeof *response.replaced);
    for (size_t i = 0; i < b->beat.n; i++) {
        const struct registry_beat_item *item = &b->beat.items[i];
        char *name = item->err.code != ERR_OK ? arena_strdup(arena, item->identity) : NULL;

        if (item->err.code == ERR_OK)
            response.alive_count++;
        else if (item->err.code == ERR_FAILED_PRECONDITION)
            response.replaced[response.n_replaced++] = name;
        else
            response.missing[response.n_missing++] = name;
    }
    counter_add(&b->multicast->stats.heartbeats, (uint64_t)response.alive_count);
    counter_add(&b->multicast->stats.missing, response.n_missing + response.n_replaced);
    call_reply(b->call, &response.base);
}

static struct err read_beats(struct beating *b, const pb_heartbeat_request *request)
{
    struct arena *arena = call_arena(b->call);
    struct err err = check_items(request->n_items, REGISTRY_BATCH, arena, "items");

    if (err.code == ERR_OK)
        err = convert_ttl(request->ttl, 0, &b->beat.ttl_ms);
    if (err.code != ERR_OK)
        return err;
    b->beat.items = arena_array(arena, request->n_items, sizeof *b->beat.items);
    for (; b->beat.n < request->n_items; b->beat.n++) {
        const Prism__Patterns__MulticastRegistry__HeartbeatItem *from = request->items[b->beat.n];
        struct registry_beat_item *to = &b->beat.items[b->beat.n];

        err = convert_identity(from->identity, "identity", &to->identity);
        if (err.code == ERR_OK && from->_if_generation_case != 0 && from->if_generation < 1)
            err = err_about(ERR_INVALID_ARGUMENT, "if_generation",
                            "if_generation has to be 1 or more");
        if (err.code != ERR_OK)
            return check_at_item(err, arena, "items", b->beat.n);
        to->if_generation = from->_if_generation_case != 0 ? (uint64_t)from->if_generation : 0;
    }
    return ERR_NONE;
}

void multicast_heartbeat(struct call *call)
{
    struct beating *b = arena_zalloc(call_arena(call), sizeof *b);
    struct err err;

    b->call = call;
    b->multicast = multicast_of(call);
    err = read_beats(b, call_request(call));
    if (err.code != ERR_OK) {
        call_fail(call, err);
    } else if (b->beat.n == 0) {
        pb_heartbeat_response none = MULTICAST_PB(HEARTBEAT_RESPONSE__INIT);

        call_reply(call, &none.base);
    } else {
        call_start(call, &b->beat.op, beaten);
        b->multicast->plan.registry->beat(b->multicast->registry, &b->beat);
    }
}

/* ---- Unregister ---- */

struct unregistering {
    struct registry_remove remove;
    struct registry_remove_item item;
    struct call *call;
    struct multicast *multicast;
};

static void unregistered(struct op *op)
{
    struct unregistering *u = CONTAINER_OF(op, struct unregistering, remove.op);
    pb_unregister_response response = MULTICAST_PB(UNREGISTER_RESPONSE__INIT);
    struct err err = u->item.err;

    if (op->err.code != ERR_OK) {
        call_fail(u->call, op->err);
        return;
    }
    response.success = err.code == ERR_OK;
    response.existed = u->item.existed;
    if (err.code != ERR_OK) {
        response.code = (int32_t)err.code;
        response._error_case = MULTICAST_PB(UNREGISTER_RESPONSE___ERROR_ERROR);
        response.error = pb_text(err.text);
    }
    counter_add(&u->multicast->stats.unregistered, response.success && response.existed);
    call_reply(u->call, &response.base);
}

void multicast_unregister(struct call *call)
{
    const pb_unregister_request *request = call_request(call);
    struct unregistering *u = arena_zalloc(call_arena(call), sizeof *u);
    struct err err = convert_identity(request->identity, "identity", &u->item.identity);

    if (err.code == ERR_OK && request->_if_generation_case != 0 && request->if_generation < 1)
        err = err_about(ERR_INVALID_ARGUMENT, "if_generation", "if_generation has to be 1 or more");
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    u->call = call;
    u->multicast = multicast_of(call);
    u->item.if_generation =
        request->_if_generation_case != 0 ? (uint64_t)request->if_generation : 0;
    u->remove.items = &u->item;
    u->remove.n = 1;
    call_start(call, &u->remove.op, unregistered);
    u->multicast->plan.registry->remove(u->multicast->registry, &u->remove);
}

/* ---- UpdateMetadata ---- */

struct updating {
    struct registry_patch patch;
    struct call *call;
};

static void reply_update(struct updating *u, struct err err)
{
    pb_update_response response = MULTICAST_PB(UPDATE_METADATA_RESPONSE__INIT);

    response.success = err.code == ERR_OK;
    if (err.code != ERR_OK) {
        response.code = (int32_t)err.code;
        response._error_case = MULTICAST_PB(UPDATE_METADATA_RESPONSE___ERROR_ERROR);
        response.error = pb_text(err.text);
    } else {
        response.generation = (int64_t)u->patch.generation;
    }
    if (err.code == ERR_OK && u->patch.expires_at_ms != 0) {
        response._expires_at_ms_case =
            MULTICAST_PB(UPDATE_METADATA_RESPONSE___EXPIRES_AT_MS_EXPIRES_AT_MS);
        response.expires_at_ms = (int64_t)u->patch.expires_at_ms;
    }
    call_reply(u->call, &response.base);
}

static void updated(struct op *op)
{
    struct updating *u = CONTAINER_OF(op, struct updating, patch.op);

    switch (op->err.code) {
    case ERR_OK:
    case ERR_NOT_FOUND:
    case ERR_FAILED_PRECONDITION:
    case ERR_INVALID_ARGUMENT:
        reply_update(u, op->err);
        break;
    default:
        call_fail(u->call, op->err);
    }
}

static struct err read_update(struct updating *u, const pb_update_request *request)
{
    struct registry_patch *patch = &u->patch;
    struct err err = convert_identity(request->identity, "identity", &patch->identity);

    if (err.code == ERR_OK)
        err = convert_ttl(request->ttl, 0, &patch->ttl_ms);
    if (err.code == ERR_OK && request->_if_generation_case != 0 && request->if_generation < 1)
        err = err_about(ERR_INVALID_ARGUMENT, "if_generation", "if_generation has to be 1 or more");
    patch->set_ttl = patch->ttl_ms > 0;
    patch->if_generation = request->_if_generation_case != 0 ? (uint64_t)request->if_generation : 0;
    patch->mode = request->metadata == NULL ? REGISTRY_KEEP
                  : request->merge          ? REGISTRY_MERGE
                                            : REGISTRY_REPLACE;
    return err;
}

void multicast_update_metadata(struct call *call)
{
    const pb_update_request *request = call_request(call);
    struct multicast *multicast = multicast_of(call);
    struct updating *u = arena_zalloc(call_arena(call), sizeof *u);
    struct err err = read_update(u, request);

    u->call = call;
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    err = metadata_read(call_arena(call), request->metadata, REGISTRY_DOCUMENT_BYTES,
                        &u->patch.document);
    if (err.code != ERR_OK) {
        reply_update(u, err);
        return;
    }
    call_start(call, &u->patch.op, updated);
    multicast->plan.registry->patch(multicast->registry, &u->patch);
}
