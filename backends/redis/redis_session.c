/* Create, patch, rotate, extend, remove: a script each. */
#include "backends/redis/redis_topic.h"

static struct err absent(void)
{
    return err_make(ERR_NOT_FOUND, "the session does not exist, or has expired");
}

static struct err taken(void)
{
    return err_make(ERR_ALREADY_EXISTS, "the identifier is taken");
}

static struct err too_large(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_session_size",
                     "the session would be larger than max_session_size");
}

/* ---- answers of a few numbers ---- */

enum { NUMBERS = 4 };

struct numbers {
    struct redis_scripted work; /* first */
    long long parts[NUMBERS];
    size_t n;
};

static void numbers_node(struct redis_scripted *work, struct redis_call *call,
                         const struct redis_node *node)
{
    struct numbers *numbers = (struct numbers *)work;

    if (node->depth == 0 && node->type == REDIS_REPLY_ARRAY)
        return;
    if (node->depth <= 1 && node->type == REDIS_REPLY_INTEGER && numbers->n < NUMBERS)
        numbers->parts[numbers->n++] = node->number;
    else
        redis_unexpected(call);
}

/* The first part is 0 and all are there, or it says why not. */
static struct err numbers_err(const struct numbers *numbers, size_t n,
                              struct err (*const *errs)(void), size_t errs_n)
{
    long long code = numbers->n > 0 ? numbers->parts[0] : -1;

    if (code == 0 && numbers->n == n)
        return ERR_NONE;
    if (code > 0 && (size_t)code <= errs_n)
        return errs[code - 1]();
    return err_make(ERR_INTERNAL, "redis gave an answer that the script does not have");
}

static struct numbers *numbers_new(struct backend *backend, struct op *op,
                                   enum redis_session_call script,
                                   void (*say)(struct redis_call *, struct redis_scripted *),
                                   void (*next)(struct redis_scripted *))
{
    struct numbers *numbers = redis_session_new(backend, op, sizeof *numbers, script);

    numbers->work.say = say;
    numbers->work.node = numbers_node;
    numbers->work.next = next;
    numbers->work.bytes = 256;
    return numbers;
}

static void finish(struct redis_scripted *work, struct err err)
{
    redis_finish(work->redis, work->op, err);
}

/* ---- create ---- */

enum { CREATE_WORDS = 15 };

struct creating {
    struct redis_scripted work; /* first */
    long long code;
    uint64_t numbers[2];
    size_t n; /* parts seen */
};

static struct session_create *create_of(const struct redis_scripted *work)
{
    return CONTAINER_OF(work->op, struct session_create, op);
}

static uint64_t values_bytes(const struct session_create *create)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < create->n; i++)
        bytes += session_value_bytes(create->values[i].name, create->values[i].value);
    return bytes;
}

static void create_say(struct redis_call *call, struct redis_scripted *work)
{
    const struct session_create *create = create_of(work);

    redis_word(call, create->id);
    redis_word(call, create->owner.user);
    redis_word(call, create->owner.region);
    redis_word(call, create->owner.client);
    redis_word(call, create->owner.attributes);
    redis_word_number(call, create->ttl_ms);
    redis_word_number(call, create->max_life_ms);
    redis_word_number(call, values_bytes(create));
    redis_word_number(call, create->max_sessions);
    redis_word_number(call, create->max_per_user);
    redis_word_number(call, create->end_oldest);
    redis_word_number(call, SESSION_ENDED);
    redis_word_number(call, REDIS_SESSION_SCAN);
    redis_word_number(call, redis_scripted_parts(work));
    redis_word_number(call, work->part);
    for (size_t i = 0; i < create->n; i++) {
        redis_word(call, create->values[i].name);
        redis_word(call, create->values[i].value);
    }
}

static void create_node(struct redis_scripted *work, struct redis_call *call,
                        const struct redis_node *node)
{
    struct creating *c = (struct creating *)work;
    struct session_create *create = create_of(work);

    if (node->depth == 0 && node->type == REDIS_REPLY_ARRAY) {
        c->n = 0;
        create->ended_n = 0;
    } else if (node->depth == 1 && node->type == REDIS_REPLY_INTEGER && c->n < 3) {
        if (c->n++ == 0)
            c->code = node->number;
        else
            c->numbers[c->n - 2] = (uint64_t)node->number;
    } else if (node->depth == 1 && node->type == REDIS_REPLY_STRING && c->n == 3 &&
               create->ended_n < SESSION_ENDED) {
        create->ended[create->ended_n++] = arena_copy(op_arena(work->op), node->text);
    } else {
        redis_unexpected(call);
    }
}

struct err redis_session_full(void)
{
    return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions",
                     "the namespace holds as many sessions as it may");
}

static struct err create_err(const struct creating *c)
{
    switch (c->n > 0 ? c->code : -1) {
    case 0:
        break;
    case 1:
        return taken();
    case 3:
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_sessions_per_user",
                         "the user has as many sessions as a user may have");
    case 4:
        return redis_session_full();
    default:
        return err_make(ERR_INTERNAL, "redis gave an answer that the script does not have");
    }
    return ERR_NONE;
}

static void create_next(struct redis_scripted *work)
{
    struct creating *c = (struct creating *)work;
    struct session_create *create = create_of(work);

    if (c->n == 1 && c->code == 2) { /* expired ones were in the way */
        work->wrote = false;         /* nothing that a caller could see */
        redis_scripted_run(work);
        return;
    }
    create->times = (struct session_times){
        .created_ms = c->numbers[0], .used_ms = c->numbers[0], .expires_ms = c->numbers[1]};
    finish(work, create_err(c));
}

static void create(struct backend *backend, struct session_create *create)
{
    struct creating *c = redis_session_new(backend, &create->op, sizeof *c, REDIS_SESSION_CREATE);

    c->work.say = create_say;
    c->work.node = create_node;
    c->work.next = create_next;
    c->work.words = CREATE_WORDS + 2 * (unsigned)create->n;
    c->work.bytes = 256 + create->owner.user.len + create->owner.region.len +
                    create->owner.client.len + create->owner.attributes.len + values_bytes(create);
    if (values_bytes(create) > create->max_bytes)
        redis_finish(c->work.redis, &create->op, too_large());
    else
        redis_scripted_run(&c->work);
}

/* ---- patch ---- */

enum { PATCH_WORDS = 7 };

static struct session_patch *patch_of(const struct redis_scripted *work)
{
    return CONTAINER_OF(work->op, struct session_patch, op);
}

static void patch_say(struct redis_call *call, struct redis_scripted *work)
{
    static const char *const conditions[] = {
        [SESSION_ALWAYS] = "", [SESSION_AT_VERSION] = "s", [SESSION_VALUE_AT] = "v"};
    const struct session_patch *patch = patch_of(work);

    redis_word(call, patch->id);
    redis_session_say_use(call, &patch->use);
    redis_word(call, slice_str(conditions[patch->condition]));
    redis_word_number(call, patch->if_version);
    redis_word_number(call, patch->max_bytes);
    redis_word_number(call, patch->set_n);
    for (size_t i = 0; i < patch->set_n; i++) {
        redis_word(call, patch->set[i].name);
        redis_word(call, patch->set[i].value);
    }
    for (size_t i = 0; i < patch->remove_n; i++)
        redis_word(call, patch->remove[i]);
}

static struct err aborted(void)
{
    return err_about(ERR_ABORTED, "if_version", "the version is another one by now");
}

static void patch_next(struct redis_scripted *work)
{
    static struct err (*const errs[])(void) = {absent, aborted, too_large};
    struct numbers *numbers = (struct numbers *)work;
    struct session_patch *patch = patch_of(work);

    patch->version = (uint64_t)numbers->parts[1];
    patch->expires_ms = (uint64_t)numbers->parts[2];
    patch->existed = numbers->parts[3] > 0;
    finish(work, numbers_err(numbers, 4, errs, ARRAY_LEN(errs)));
}

static void patch(struct backend *backend, struct session_patch *patch)
{
    struct numbers *numbers =
        numbers_new(backend, &patch->op, REDIS_SESSION_PATCH, patch_say, patch_next);

    numbers->work.words = PATCH_WORDS + 2 * (unsigned)patch->set_n + (unsigned)patch->remove_n;
    for (size_t i = 0; i < patch->set_n; i++)
        numbers->work.bytes += patch->set[i].name.len + patch->set[i].value.len;
    for (size_t i = 0; i < patch->remove_n; i++)
        numbers->work.bytes += patch->remove[i].len;
    redis_scripted_run(&numbers->work);
}

/* ---- rotate ---- */

static void rotate_say(struct redis_call *call, struct redis_scripted *work)
{
    const struct session_rotate *rotate = CONTAINER_OF(work->op, struct session_rotate, op);

    redis_word(call, rotate->id);
    redis_session_say_use(call, &rotate->use);
    redis_word(call, rotate->new_id);
}

static void rotate_next(struct redis_scripted *work)
{
    static struct err (*const errs[])(void) = {absent, taken};
    struct numbers *numbers = (struct numbers *)work;

    CONTAINER_OF(work->op, struct session_rotate, op)->expires_ms = (uint64_t)numbers->parts[1];
    finish(work, numbers_err(numbers, 2, errs, ARRAY_LEN(errs)));
}

static void rotate(struct backend *backend, struct session_rotate *rotate)
{
    struct numbers *numbers =
        numbers_new(backend, &rotate->op, REDIS_SESSION_ROTATE, rotate_say, rotate_next);

    numbers->work.words = 4;
    redis_scripted_run(&numbers->work);
}

/* ---- extend ---- */

static void extend_say(struct redis_call *call, struct redis_scripted *work)
{
    const struct session_extend *extend = CONTAINER_OF(work->op, struct session_extend, op);

    redis_word(call, extend->id);
    redis_word_number(call, extend->add_ms);
    redis_word_number(call, extend->until_ms);
    redis_word_number(call, extend->max_ttl_ms);
}

static void extend_next(struct redis_scripted *work)
{
    static struct err (*const errs[])(void) = {absent};
    struct numbers *numbers = (struct numbers *)work;

    CONTAINER_OF(work->op, struct session_extend, op)->expires_ms = (uint64_t)numbers->parts[1];
    finish(work, numbers_err(numbers, 2, errs, ARRAY_LEN(errs)));
}

static void extend(struct backend *backend, struct session_extend *extend)
{
    struct numbers *numbers =
        numbers_new(backend, &extend->op, REDIS_SESSION_EXTEND, extend_say, extend_next);

    numbers->work.words = 4;
    redis_scripted_run(&numbers->work);
}

/* ---- remove ---- */

static void remove_say(struct redis_call *call, struct redis_scripted *work)
{
    redis_word(call, CONTAINER_OF(work->op, struct session_remove, op)->id);
}

static void remove_next(struct redis_scripted *work)
{
    struct numbers *numbers = (struct numbers *)work;

    CONTAINER_OF(work->op, struct session_remove, op)->existed = numbers->parts[0] > 0;
    finish(work, ERR_NONE);
}

static void remove_one(struct backend *backend, struct session_remove *remove)
{
    struct numbers *numbers =
        numbers_new(backend, &remove->op, REDIS_SESSION_REMOVE, remove_say, remove_next);

    numbers->work.words = 1;
    redis_scripted_run(&numbers->work);
}

/* ---- all of a user ---- */

static void remove_user_say(struct redis_call *call, struct redis_scripted *work)
{
    const struct session_remove_user *remove =
        CONTAINER_OF(work->op, struct session_remove_user, op);

    ((struct numbers *)work)->n = 0;
    redis_word(call, remove->user);
    redis_word(call, remove->except);
    redis_word_number(call, REDIS_SESSION_STEP);
}

static void remove_user_next(struct redis_scripted *work)
{
    struct numbers *numbers = (struct numbers *)work;

    CONTAINER_OF(work->op, struct session_remove_user, op)->removed += (uint64_t)numbers->parts[0];
    if (numbers->n == 2 && numbers->parts[1] > 0)
        redis_scripted_run(work);
    else
        finish(work, ERR_NONE);
}

static void remove_user(struct backend *backend, struct session_remove_user *remove)
{
    struct numbers *numbers = numbers_new(backend, &remove->op, REDIS_SESSION_REMOVE_USER,
                                          remove_user_say, remove_user_next);

    remove->removed = 0;
    numbers->work.words = 3;
    redis_scripted_run(&numbers->work);
}

/* ---- count ---- */

static void count_say(struct redis_call *call, struct redis_scripted *work)
{
    ((struct numbers *)work)->n = 0;
    redis_word_number(call, REDIS_SESSION_SWEEP);
}

static void count_next(struct redis_scripted *work)
{
    struct numbers *numbers = (struct numbers *)work;

    CONTAINER_OF(work->op, struct redis_session_count, op)->count = (uint64_t)numbers->parts[1];
    if (numbers->parts[0] == REDIS_SESSION_SWEEP)
        redis_scripted_run(work);
    else
        finish(work, ERR_NONE);
}

void redis_session_count(struct backend *backend, struct redis_session_count *count)
{
    struct numbers *numbers =
        numbers_new(backend, &count->op, REDIS_SESSION_COUNT, count_say, count_next);

    numbers->work.words = 1;
    redis_scripted_run(&numbers->work);
}

const struct session redis_session = {.max_bytes = SESSION_MAX_BYTES,
                                      .native_expiry = true,
                                      .create = create,
                                      .get = redis_session_get,
                                      .patch = patch,
                                      .rotate = rotate,
                                      .extend = extend,
                                      .remove = remove_one,
                                      .remove_user = remove_user,
                                      .page = redis_session_page};
