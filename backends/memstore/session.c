/* The methods of the session store. What is short is done before its method returns; what may go on
 * (a user's sessions, pages, and creations that meet many expired ones) goes by slices
 * (enumerate.c). */
#include "backends/memstore/instance.h"
#include "backends/memstore/sessions.h"
#include "src/base/container.h"

static struct sessions *sessions_of(struct backend *backend)
{
    return CONTAINER_OF(backend->store, struct memstore, base)->sessions;
}

static void done(struct backend *backend, struct op *op, struct err err)
{
    counter_add(&backend->stats.calls, 1);
    if (err.code != ERR_OK)
        counter_add(&backend->stats.errors, 1);
    op_finish(op, err);
}

static void begin(struct backend *backend, struct op *op, bool (*slice)(struct memstore_errand *))
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);

    enumerate_begin(instance, &instance->turns, op, slice);
}

static bool create_slice(struct memstore_errand *errand)
{
    return sessions_create(errand->store->sessions,
                           CONTAINER_OF(errand->op, struct session_create, op), &errand->err);
}

static void create(struct backend *backend, struct session_create *create)
{
    struct err err = ERR_NONE;

    create->ended_n = 0;
    if (sessions_create(sessions_of(backend), create, &err))
        begin(backend, &create->op, create_slice);
    else
        done(backend, &create->op, err);
}

static void get(struct backend *backend, struct session_get *get)
{
    done(backend, &get->op, sessions_get(sessions_of(backend), get));
}

static void patch(struct backend *backend, struct session_patch *patch)
{
    done(backend, &patch->op, sessions_patch(sessions_of(backend), patch));
}

static void rotate(struct backend *backend, struct session_rotate *rotate)
{
    done(backend, &rotate->op, sessions_rotate(sessions_of(backend), rotate));
}

static void extend(struct backend *backend, struct session_extend *extend)
{
    done(backend, &extend->op, sessions_extend(sessions_of(backend), extend));
}

static void remove_one(struct backend *backend, struct session_remove *remove)
{
    sessions_remove(sessions_of(backend), remove);
    done(backend, &remove->op, ERR_NONE);
}

static bool remove_user_slice(struct memstore_errand *errand)
{
    struct session_remove_user *remove = CONTAINER_OF(errand->op, struct session_remove_user, op);
    bool more = sessions_remove_user(errand->store->sessions, remove);

    errand->done = remove->removed;
    return more;
}

static void remove_user(struct backend *backend, struct session_remove_user *remove)
{
    remove->removed = 0;
    begin(backend, &remove->op, remove_user_slice);
}

static bool page_slice(struct memstore_errand *errand)
{
    sessions_page(errand->store->sessions, CONTAINER_OF(errand->op, struct session_page, op));
    return false;
}

static void page(struct backend *backend, struct session_page *page)
{
    begin(backend, &page->op, page_slice);
}

const struct session memstore_session = {.max_bytes = SESSION_MAX_BYTES,
                                         .native_expiry = true,
                                         .create = create,
                                         .get = get,
                                         .patch = patch,
                                         .rotate = rotate,
                                         .extend = extend,
                                         .remove = remove_one,
                                         .remove_user = remove_user,
                                         .page = page};
