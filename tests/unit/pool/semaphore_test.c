#include "pool/semaphore.h"

#include "tests/unit/pool/fixture.h"

/* ---- helpers ---- */

enum { WAITERS = 8 };

struct scene {
    struct semaphore semaphore;
    char order[64];
    size_t len;
};

struct visitor {
    struct semaphore_waiter waiter;
    struct scene *scene;
    char name;
    bool releases_when_granted;
};

static void granted(struct semaphore_waiter *waiter)
{
    struct visitor *visitor = CONTAINER_OF(waiter, struct visitor, waiter);
    struct scene *scene = visitor->scene;

    assert_true(scene->semaphore.held <= scene->semaphore.limit);
    scene->order[scene->len++] = visitor->name;
    if (visitor->releases_when_granted)
        semaphore_release(&scene->semaphore);
}

static void open_scene(struct scene *scene, struct visitor *visitors, unsigned limit)
{
    memset(scene, 0, sizeof *scene);
    semaphore_init(&scene->semaphore, limit);
    for (unsigned i = 0; i < WAITERS; i++) {
        visitors[i] = (struct visitor){.scene = scene, .name = (char)('a' + i)};
        visitors[i].waiter.granted = granted;
    }
}

static void take(struct scene *scene, unsigned n)
{
    while (n-- > 0)
        assert_true(semaphore_try(&scene->semaphore));
}

static void wait_all(struct scene *scene, struct visitor *visitors)
{
    for (unsigned i = 0; i < WAITERS; i++) {
        assert_false(semaphore_try(&scene->semaphore));
        semaphore_wait(&scene->semaphore, &visitors[i].waiter);
    }
}

/* ---- tests ---- */

static void test_limit(void **state)
{
    struct visitor visitors[WAITERS];
    struct scene scene;

    (void)state;
    open_scene(&scene, visitors, 3);
    take(&scene, 3);
    assert_false(semaphore_try(&scene.semaphore));
    semaphore_release(&scene.semaphore);
    assert_int_equal(scene.semaphore.held, 2);
    take(&scene, 1);
    assert_false(semaphore_try(&scene.semaphore));
    assert_int_equal(counter_read(&scene.semaphore.acquired), 4);
    assert_int_equal(counter_read(&scene.semaphore.waited), 0);
}

static void test_permits_change_hands_in_order_of_arrival(void **state)
{
    struct visitor visitors[WAITERS];
    struct scene scene;

    (void)state;
    open_scene(&scene, visitors, 2);
    take(&scene, 2);
    wait_all(&scene, visitors);
    assert_string_equal(scene.order, "");
    for (unsigned i = 1; i <= WAITERS; i++) {
        semaphore_release(&scene.semaphore);
        assert_int_equal(scene.len, i);            /* inside the release */
        assert_int_equal(scene.semaphore.held, 2); /* the permit was handed on */
        assert_null(visitors[i - 1].waiter.next);  /* and its owner may wait again */
    }
    assert_string_equal(scene.order, "abcdefgh");
    assert_int_equal(counter_read(&scene.semaphore.acquired), 2 + WAITERS);
    assert_int_equal(counter_read(&scene.semaphore.waited), WAITERS);
    semaphore_release(&scene.semaphore);
    semaphore_release(&scene.semaphore);
    assert_int_equal(scene.semaphore.held, 0);
}

/* A permit is free for a moment, in granted(): who comes then goes behind those who wait. */
static struct visitor *late_visitor;

static void granted_while_another_tries(struct semaphore_waiter *waiter)
{
    struct visitor *visitor = CONTAINER_OF(waiter, struct visitor, waiter);

    granted(waiter);
    assert_false(semaphore_try(&visitor->scene->semaphore));
    semaphore_wait(&visitor->scene->semaphore, &late_visitor->waiter);
}

static void test_no_overtaking(void **state)
{
    struct visitor visitors[WAITERS];
    struct scene scene;

    (void)state;
    open_scene(&scene, visitors, 1);
    take(&scene, 1);
    visitors[0].waiter.granted = granted_while_another_tries;
    late_visitor = &visitors[2];
    semaphore_wait(&scene.semaphore, &visitors[0].waiter);
    semaphore_wait(&scene.semaphore, &visitors[1].waiter);
    semaphore_release(&scene.semaphore);
    assert_string_equal(scene.order, "a");
    semaphore_release(&scene.semaphore);
    semaphore_release(&scene.semaphore);
    assert_string_equal(scene.order, "abc");
    semaphore_release(&scene.semaphore);
    assert_int_equal(scene.semaphore.held, 0);
}

static void test_granted_releases_at_once(void **state)
{
    struct visitor visitors[WAITERS];
    struct scene scene;

    (void)state;
    open_scene(&scene, visitors, 1);
    take(&scene, 1);
    wait_all(&scene, visitors);
    for (unsigned i = 0; i < WAITERS; i++)
        visitors[i].releases_when_granted = true;
    semaphore_release(&scene.semaphore);
    assert_string_equal(scene.order, "abcdefgh");
    assert_int_equal(scene.semaphore.held, 0);
}

static void test_who_leaves_is_not_granted(void **state)
{
    struct visitor visitors[WAITERS];
    struct scene scene;

    (void)state;
    open_scene(&scene, visitors, 1);
    take(&scene, 1);
    wait_all(&scene, visitors);
    for (unsigned i = 0; i < WAITERS; i += 2)
        assert_true(semaphore_leave(&scene.semaphore, &visitors[i].waiter));
    assert_false(semaphore_leave(&scene.semaphore, &visitors[0].waiter));
    for (unsigned i = 0; i < WAITERS / 2; i++)
        semaphore_release(&scene.semaphore);
    assert_string_equal(scene.order, "bdfh");
    semaphore_release(&scene.semaphore);
    assert_int_equal(scene.semaphore.held, 0);
}

static void test_limit_of_zero_admits_nobody(void **state)
{
    struct visitor visitors[WAITERS];
    struct scene scene;

    (void)state;
    open_scene(&scene, visitors, 0);
    assert_false(semaphore_try(&scene.semaphore));
}

/* ---- against a naive model: a queue of numbers ---- */

enum { CROWD = 64, STEPS = 50000 };

struct model {
    struct semaphore semaphore;
    struct member {
        struct semaphore_waiter waiter;
        enum { OUT, WAITING, IN } where;
        struct model *model;
        uint64_t ticket;
    } members[CROWD];
    uint64_t tickets, last_granted;
    unsigned in;
};

static void member_granted(struct semaphore_waiter *waiter)
{
    struct member *member = CONTAINER_OF(waiter, struct member, waiter);

    assert_int_equal(member->where, WAITING);
    assert_true(member->ticket > member->model->last_granted); /* nobody behind came before */
    member->model->last_granted = member->ticket;
    member->where = IN;
    member->model->in++;
}

static void step(struct model *model, struct member *member)
{
    switch (member->where) {
    case OUT:
        if (semaphore_try(&model->semaphore)) {
            member->where = IN;
            model->in++;
            break;
        }
        member->where = WAITING;
        member->ticket = ++model->tickets;
        semaphore_wait(&model->semaphore, &member->waiter);
        break;
    case WAITING: /* until somebody leaves */
        break;
    case IN:
        member->where = OUT;
        model->in--;
        semaphore_release(&model->semaphore);
        break;
    }
}

static void check_model(const struct model *model)
{
    bool waiting = false;

    assert_int_equal(model->in, model->semaphore.held);
    assert_true(model->in <= model->semaphore.limit);
    for (unsigned i = 0; i < CROWD; i++)
        waiting |= model->members[i].where == WAITING;
    if (waiting)
        assert_int_equal(model->in,
                         model->semaphore.limit); /* no permit lies idle while somebody waits */
}

static void test_as_the_model_says(void **state)
{
    struct model *model = calloc(1, sizeof *model);
    struct dice dice = {.state = 7};

    (void)state;
    assert_non_null(model);
    semaphore_init(&model->semaphore, 5);
    for (unsigned i = 0; i < CROWD; i++)
        model->members[i] = (struct member){.waiter.granted = member_granted, .model = model};
    for (unsigned i = 0; i < STEPS; i++) {
        step(model, &model->members[dice_roll(&dice, CROWD)]);
        check_model(model);
    }
    assert_true(model->last_granted > 1000);
    free(model);
}

/* ---- misuse ---- */

static void release_without_permit(void)
{
    struct semaphore semaphore;

    semaphore_init(&semaphore, 1);
    semaphore_release(&semaphore);
}

static void wait_twice(void)
{
    struct semaphore semaphore;
    struct semaphore_waiter waiter = {.granted = granted};

    semaphore_init(&semaphore, 1);
    semaphore_try(&semaphore);
    semaphore_wait(&semaphore, &waiter);
    semaphore_wait(&semaphore, &waiter);
}

static void test_misuse_aborts(void **state)
{
    (void)state;
    assert_true(aborts(release_without_permit));
    assert_true(aborts(wait_twice));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_permits_change_hands_in_order_of_arrival),
        cmocka_unit_test(test_no_overtaking),
        cmocka_unit_test(test_granted_releases_at_once),
        cmocka_unit_test(test_who_leaves_is_not_granted),
        cmocka_unit_test(test_limit_of_zero_admits_nobody),
        cmocka_unit_test(test_as_the_model_says),
        cmocka_unit_test(test_misuse_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
