/* A frame for several topics of a cluster: an operation of its own for each topic, all of them
 * under way together. What goes to one node shares a write. The outcomes are gathered when the last
 * one is in. */
#include "backends/redis/redis_stream.h"

struct scatter {
    struct op_group group; /* of the topics' operations */
    struct redis *redis;
    struct publish *publish, *parts;
    struct outgoing **order, *copies; /* each item, and as its part has it */
    uint32_t n, n_parts;
};

static void on_done(struct op *op)
{
    (void)op; /* gathered later */
}

/* A part that was refused as a whole has told none of its items. */
static void gather(const struct scatter *scatter)
{
    uint32_t at = 0;

    for (uint32_t p = 0; p < scatter->n_parts; p++) {
        const struct publish *part = &scatter->parts[p];

        for (size_t i = 0; i < part->n; i++, at++) {
            *scatter->order[at] = scatter->copies[at];
            if (part->op.err.code != ERR_OK && scatter->copies[at].err.code == ERR_OK)
                scatter->order[at]->err = part->op.err;
        }
    }
}

static void on_idle(struct op_group *group)
{
    struct scatter *scatter = CONTAINER_OF(group, struct scatter, group);

    gather(scatter);
    redis_finish(scatter->redis, &scatter->publish->op, ERR_NONE);
}

static void cancel(struct op *op, struct err why)
{
    struct scatter *scatter = op->backend_data;

    op_group_cancel(&scatter->group, why);
}

static void split(struct scatter *scatter)
{
    for (uint32_t i = 0; i < scatter->n; i++) {
        bool first = i == 0 || !slice_equal(scatter->order[i - 1]->topic, scatter->order[i]->topic);

        scatter->copies[i] = *scatter->order[i];
        if (first)
            scatter->parts[scatter->n_parts++] = (struct publish){.items = &scatter->copies[i]};
        scatter->parts[scatter->n_parts - 1].n++;
    }
}

void redis_scatter(struct backend *backend, struct publish *publish, struct outgoing **order,
                   uint32_t n, void (*each)(struct backend *, struct publish *))
{
    struct arena *arena = op_arena(&publish->op);
    struct scatter *scatter = arena_zalloc(arena, sizeof *scatter);

    op_group_init(&scatter->group, backend->home, arena, op_deadline_ns(&publish->op));
    scatter->group.idle = on_idle;
    scatter->redis = redis_of(backend);
    scatter->publish = publish;
    scatter->order = order;
    scatter->n = n;
    scatter->parts = arena_array(arena, n, sizeof *scatter->parts);
    scatter->copies = arena_array(arena, n, sizeof *scatter->copies);
    split(scatter);
    op_group_enter(&scatter->group);
    publish->op.backend_data = scatter;
    op_park(&publish->op, cancel);
    for (uint32_t p = 0; p < scatter->n_parts; p++) {
        op_start(&scatter->parts[p].op, &scatter->group, on_done);
        each(backend, &scatter->parts[p]);
    }
    op_group_leave(&scatter->group);
}
