/* Pages. What has expired is passed over, and removed at the end. */
#include "backends/dynamodb/dynamodb_session.h"

#include "src/base/container.h"

enum { LOOKS = 16 };

struct paging {
    struct session_page *req;
    struct session_look look;
    struct session_removal removal;
    struct session_found dead[DYNAMODB_SESSION_LOOK];
    size_t dead_n;
    uint64_t bytes;
    unsigned looks;
};

/* That they could not be removed now is no failure of the page. */
static void on_removed(struct session_removal *removal, struct err err)
{
    (void)err;
    aws_task_finish(removal->task, ERR_NONE);
}

static void end(struct paging *p, bool more)
{
    p->req->more = more;
    p->req->next = p->look.after;
    if (p->dead_n == 0) {
        aws_task_finish(p->look.task, ERR_NONE);
        return;
    }
    p->removal = (struct session_removal){
        .task = p->look.task, .doomed = p->dead, .n = p->dead_n, .done = on_removed};
    dynamodb_session_remove_all(&p->removal);
}

static bool is_wanted(const struct session_page *req, const struct session_owner *owner)
{
    return (req->user.len == 0 || slice_equal(req->user, owner->user)) &&
           (req->region.len == 0 || slice_equal(req->region, owner->region)) &&
           (req->client.len == 0 || slice_equal(req->client, owner->client));
}

static void take(struct paging *p, const struct session_found *found)
{
    const struct dynamodb_session *session = &found->session;
    const struct session_owner *owner = &session->owner;

    if (found->life != SESSION_LIVES) {
        if (p->dead_n < DYNAMODB_SESSION_LOOK)
            p->dead[p->dead_n++] = *found;
        return;
    }
    if (!is_wanted(p->req, owner))
        return;
    p->req->entries[p->req->n++] = (struct session_entry){
        .id = session->id, .owner = *owner, .times = session->times, .version = session->version};
    p->bytes += session->id.len + owner->user.len + owner->region.len + owner->client.len +
                owner->attributes.len;
}

static bool is_full(const struct paging *p)
{
    return p->req->n == p->req->max_items ||
           (p->req->max_bytes > 0 && p->bytes > p->req->max_bytes);
}

static void look_on(struct paging *p)
{
    size_t wanted = p->req->max_items - p->req->n;

    p->look.max = wanted < DYNAMODB_SESSION_LOOK ? (uint32_t)wanted : DYNAMODB_SESSION_LOOK;
    p->looks++;
    dynamodb_session_look(&p->look);
}

static void on_looked(struct session_look *look, struct err err)
{
    struct paging *p = look->state;
    size_t i = 0;

    if (err.code != ERR_OK) {
        aws_task_finish(look->task, err);
        return;
    }
    for (; i < look->n && !is_full(p); i++) {
        take(p, &look->found[i]);
        look->after = look->found[i].session.place;
    }
    if (i == look->n && !look->more)
        end(p, false);
    else if (is_full(p) || p->looks == LOOKS)
        end(p, true);
    else
        look_on(p);
}

static void where(const struct session_page *req, struct session_look *look)
{
    look->index = INDEX_ALL;
    if (req->user.len > 0) {
        look->index = INDEX_USER;
        look->whose = req->user;
    } else if (req->region.len > 0) {
        look->index = INDEX_REGION;
        look->whose = req->region;
    }
}

void dynamodb_session_page(struct backend *backend, struct session_page *req)
{
    struct aws_task *task = aws_task_begin(backend, &req->op);
    struct paging *p;

    if (task == NULL)
        return;
    p = arena_zalloc(task->arena, sizeof *p);
    p->req = req;
    p->look =
        (struct session_look){.task = task, .after = req->after, .done = on_looked, .state = p};
    where(req, &p->look);
    task->state = p;
    req->n = 0;
    req->entries = arena_array(task->arena, req->max_items, sizeof *req->entries);
    look_on(p);
}
