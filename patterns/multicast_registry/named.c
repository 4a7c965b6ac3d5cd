/* How many of the identities that a request names are registered and match: for a dry run, and for
 * bounds that their number alone does not keep. Looked up slice by slice, as in the walk. */
#include "patterns/multicast_registry/sending.h"
#include "src/base/container.h"

static void look(struct sending *s);

static void over(struct sending *s, struct err err)
{
    arena_clear(&s->looked);
    s->named.next = 0;
    if (err.code == ERR_OK)
        sending_counted(s);
    else
        call_fail(s->call, err);
}

static void looked_up(struct op *op)
{
    struct sending *s = CONTAINER_OF(op, struct sending, look.op);

    if (op->err.code != ERR_OK) {
        over(s, sending_keep_err(s, op->err));
        return;
    }
    for (size_t i = 0; i < s->look.looked_up; i++)
        s->count.count += walk_matches(s, &s->look.entries[i]);
    s->named.next += s->look.looked_up;
    if (s->named.next == s->named.n)
        over(s, ERR_NONE);
    else
        look(s);
}

static void look(struct sending *s)
{
    arena_clear(&s->looked);
    s->look = (struct registry_get){.identities = s->named.items + s->named.next,
                                    .n = s->named.n - s->named.next,
                                    .max_bytes = REGISTRY_SLICE_BYTES,
                                    .with_documents = s->filter != NULL};
    call_start(s->call, &s->look.op, looked_up);
    s->look.op.arena = &s->looked;
    s->multicast->plan.registry->get(s->multicast->registry, &s->look);
}

void named_count(struct sending *s)
{
    arena_init(&s->looked, NULL);
    look(s);
}
