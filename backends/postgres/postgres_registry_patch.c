/* Patches: read, merged here, and written if nobody has changed the document meanwhile; else read
 * again. Each time that this happens somebody else's change has come about. */
#include "backends/postgres/postgres_registry.h"

enum { TRIES = 1000 };

struct patching {
    struct postgres *postgres;
    struct registry_patch *patch;
    unsigned tries;
    bool found;
    uint64_t generation;
    int64_t revision;
    uint64_t expires_at_ms;
    struct slice document;
    bool written;
};

static void read_row(struct patching *patching);

/* ---- write ---- */

static void write_result(struct postgres_call *call, const PGresult *result)
{
    struct patching *patching = call->state;

    patching->written = PQntuples(result) == 1;
    if (patching->written)
        patching->expires_at_ms = (uint64_t)postgres_int8(result, 0, 0);
}

static void write_end(struct postgres_call *call)
{
    struct patching *patching = call->state;
    struct registry_patch *patch = patching->patch;

    if (call->err.code != ERR_OK) {
        postgres_finish(patching->postgres, &patch->op, postgres_err(call, &patch->op));
    } else if (!patching->written) {
        read_row(patching);
    } else {
        patch->generation = patching->generation;
        patch->expires_at_ms = patching->expires_at_ms;
        postgres_finish(patching->postgres, &patch->op, ERR_NONE);
    }
}

static const struct postgres_kind write_kind = {
    .writes = true, .result = write_result, .end = write_end};

static void write_row(struct patching *patching)
{
    struct registry_patch *patch = patching->patch;
    struct arena *arena = op_arena(&patch->op);
    struct postgres_params params;

    postgres_params_init(&params, arena);
    postgres_add_int4(&params, patching->postgres->space);
    postgres_add(&params, patch->identity);
    postgres_add_int8(&params, patching->revision);
    postgres_add(&params, patching->document);
    postgres_add(&params, document_to_json(arena, patching->document));
    postgres_add_bool(&params, patch->set_ttl);
    postgres_add_int8(&params, (int64_t)patch->ttl_ms);
    postgres_run(patching->postgres, &patch->op, &write_kind, patching, SQL_PATCH_WRITE, &params);
}

/* ---- read ---- */

static void read_result(struct postgres_call *call, const PGresult *result)
{
    struct patching *patching = call->state;

    patching->found = PQntuples(result) == 1;
    if (!patching->found)
        return;
    patching->document = arena_copy(op_arena(call->op), postgres_bytes(result, 0, 0));
    patching->generation = (uint64_t)postgres_int8(result, 0, 1);
    patching->revision = postgres_int8(result, 0, 2);
    patching->expires_at_ms = (uint64_t)postgres_int8(result, 0, 3);
}

static struct err merge(struct patching *patching)
{
    const struct registry_patch *patch = patching->patch;
    struct err err = ERR_NONE;

    if (patch->mode == REGISTRY_REPLACE)
        patching->document = postgres_registry_or_empty(patch->document, DOCUMENT_STRUCT);
    if (patch->mode == REGISTRY_MERGE)
        err = document_merge(op_arena(&patch->op), patching->document, patch->document,
                             REGISTRY_DOCUMENT_BYTES, &patching->document);
    if (err.code != ERR_OK)
        err.subject = "metadata";
    return err;
}

static void read_end(struct postgres_call *call)
{
    struct patching *patching = call->state;
    struct registry_patch *patch = patching->patch;
    struct err err = postgres_err(call, &patch->op);

    if (err.code == ERR_OK && !patching->found)
        err = postgres_registry_absent();
    else if (err.code == ERR_OK && patch->if_generation != 0 &&
             patch->if_generation != patching->generation)
        err = postgres_registry_other();
    else if (err.code == ERR_OK && ++patching->tries > TRIES)
        err = err_make(ERR_ABORTED, "others change this identity all the time; nothing was done");
    if (err.code == ERR_OK)
        err = merge(patching);
    if (err.code != ERR_OK)
        postgres_finish(patching->postgres, &patch->op, err);
    else
        write_row(patching);
}

static const struct postgres_kind read_kind = {.result = read_result, .end = read_end};

static void read_row(struct patching *patching)
{
    struct registry_patch *patch = patching->patch;
    struct postgres_params params;

    postgres_params_init(&params, op_arena(&patch->op));
    postgres_add_int4(&params, patching->postgres->space);
    postgres_add(&params, patch->identity);
    postgres_run(patching->postgres, &patch->op, &read_kind, patching, SQL_PATCH_READ, &params);
}

void postgres_registry_patch(struct backend *backend, struct registry_patch *patch)
{
    struct patching *patching = arena_zalloc(op_arena(&patch->op), sizeof *patching);

    patching->postgres = postgres_of(backend);
    patching->patch = patch;
    read_row(patching);
}
