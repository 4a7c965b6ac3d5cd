/* The group of a name is that of the user whose session was created with it last; of a rotated
 * session, that of the name before. Other names are of group 0. */
#include "tests/contract/session_groups.h"

#include "src/base/container.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

static const struct session *real;

struct named {
    char name[SESSION_ID_BYTES + 1]; /* first */
    unsigned group;
};

/* An operation under way: what it has in place of its own. */
struct held {
    struct op *op; /* first */
    op_done_fn *done;
    struct slice *ids[2], names[2];
    void (*strip)(struct op *op);
};

static void *names, *under_way; /* thread: the worker's */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int by_op(const void *a, const void *b)
{
    const struct held *x = a, *y = b;

    return x->op < y->op ? -1 : x->op > y->op;
}

static void *make(size_t bytes)
{
    void *made = calloc(1, bytes);

    if (made == NULL)
        abort();
    return made;
}

static unsigned *group_of(struct slice name)
{
    struct named *named = make(sizeof *named), **found;

    if (name.len > SESSION_ID_BYTES)
        abort();
    if (name.len > 0)
        memcpy(named->name, name.data, name.len);
    found = tsearch(named, &names, by_name);
    if (found == NULL)
        abort();
    if (*found != named)
        free(named);
    return &(*found)->group;
}

static void done(struct op *op)
{
    struct held key = {.op = op}, *held = *(struct held **)tfind(&key, &under_way, by_op);
    op_done_fn *theirs = held->done;

    for (size_t i = 0; i < ARRAY_LEN(held->ids) && held->ids[i] != NULL; i++)
        *held->ids[i] = held->names[i];
    if (held->strip != NULL)
        held->strip(op);
    tdelete(&key, &under_way, by_op);
    free(held);
    theirs(op);
}

static struct held *hold(struct op *op, void (*strip)(struct op *op))
{
    struct held *held = make(sizeof *held);

    *held = (struct held){.op = op, .done = op->done, .strip = strip};
    op->done = done;
    if (tsearch(held, &under_way, by_op) == NULL)
        abort();
    return held;
}

static void tell(struct held *held, size_t i, struct slice *id, unsigned group)
{
    uint8_t *told = arena_alloc(op_arena(held->op), id->len + SESSION_GROUP_BYTES);

    held->ids[i] = id;
    held->names[i] = *id;
    if (id->len > 0)
        memcpy(told, id->data, id->len);
    session_group_say((char *)told + id->len, group);
    *id = slice_of(told, id->len + SESSION_GROUP_BYTES);
}

static void strip_ended(struct op *op)
{
    struct session_create *create = CONTAINER_OF(op, struct session_create, op);

    for (size_t i = 0; op->err.code == ERR_OK && i < create->ended_n; i++)
        create->ended[i].len -= SESSION_GROUP_BYTES;
}

static void create(struct backend *backend, struct session_create *create)
{
    unsigned *group = group_of(create->id);

    if (create->owner.user.len > 0)
        *group = session_group_of_user(create->owner.user);
    else
        *group = slice_hash(create->id) % SESSION_GROUPS;
    tell(hold(&create->op, strip_ended), 0, &create->id, *group);
    real->create(backend, create);
}

#define BY_ID(method)                                                                              \
    static void method##_one(struct backend *backend, struct session_##method *request)            \
    {                                                                                              \
        tell(hold(&request->op, NULL), 0, &request->id, *group_of(request->id));                   \
        real->method(backend, request);                                                            \
    }

BY_ID(get)
BY_ID(patch)
BY_ID(extend)
BY_ID(remove)

static void rotate(struct backend *backend, struct session_rotate *rotate)
{
    struct held *held = hold(&rotate->op, NULL);
    unsigned group = *group_of(rotate->id);

    *group_of(rotate->new_id) = group;
    tell(held, 0, &rotate->id, group);
    tell(held, 1, &rotate->new_id, group);
    real->rotate(backend, rotate);
}

static void remove_user(struct backend *backend, struct session_remove_user *remove)
{
    if (remove->except.len > 0)
        tell(hold(&remove->op, NULL), 0, &remove->except, *group_of(remove->except));
    real->remove_user(backend, remove);
}

static void strip_listed(struct op *op)
{
    struct session_page *page = CONTAINER_OF(op, struct session_page, op);

    for (size_t i = 0; op->err.code == ERR_OK && i < page->n; i++)
        page->entries[i].id.len -= SESSION_GROUP_BYTES;
}

static void page(struct backend *backend, struct session_page *page)
{
    hold(&page->op, strip_listed);
    real->page(backend, page);
}

void session_groups(struct backend *backend)
{
    static struct session told;

    if (backend->has.session == &told)
        return;
    real = backend->has.session;
    told = *real;
    told.create = create;
    told.get = get_one;
    told.patch = patch_one;
    told.rotate = rotate;
    told.extend = extend_one;
    told.remove = remove_one;
    told.remove_user = remove_user;
    told.page = page;
    backend->has.session = &told;
}
