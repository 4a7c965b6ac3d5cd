#include "pool/ring.h"

#include "tests/unit/pool/fixture.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- helpers ---- */

struct item {
    struct job job;
    unsigned producer;
    uint64_t number; /* plain on purpose: ThreadSanitizer watches the hand-over */
};

static struct item *item_of(struct job *job)
{
    return job != NULL ? CONTAINER_OF(job, struct item, job) : NULL;
}

static void must_be(struct job *job, uint64_t number)
{
    assert_non_null(job);
    assert_int_equal(item_of(job)->number, number);
}

static struct item *items_new(size_t n, unsigned producer)
{
    struct item *items = calloc(n, sizeof *items);

    assert_non_null(items);
    for (size_t i = 0; i < n; i++)
        items[i] = (struct item){.producer = producer, .number = i};
    return items;
}

/* ---- ring, one thread ---- */

static void fill_and_empty(uint32_t capacity)
{
    struct ring *ring = ring_new(capacity);
    struct item *items = items_new(capacity + 1, 0);

    assert_int_equal(ring_capacity(ring), capacity);
    assert_null(ring_pop(ring));
    for (uint32_t i = 0; i < capacity; i++) {
        assert_int_equal(ring_depth(ring), i);
        assert_true(ring_push(ring, &items[i].job));
    }
    assert_int_equal(ring_depth(ring), capacity);
    assert_false(ring_push(ring, &items[capacity].job));
    assert_false(ring_push(ring, &items[capacity].job));
    must_be(ring_pop(ring), 0);
    assert_true(ring_push(ring, &items[capacity].job));
    assert_false(ring_push(ring, &items[0].job));
    for (uint32_t i = 1; i <= capacity; i++)
        must_be(ring_pop(ring), i);
    assert_null(ring_pop(ring));
    assert_int_equal(ring_depth(ring), 0);
    ring_destroy(ring);
    free(items);
}

static void test_exactly_capacity_fits(void **state)
{
    (void)state;
    fill_and_empty(2);
    fill_and_empty(4);
    fill_and_empty(1024);
    fill_and_empty(1u << 20);
}

/* Odd strides, so that every slot has been the first and the last. */
static void test_order_over_many_rounds(void **state)
{
    struct ring *ring = ring_new(8);
    struct item *items = items_new(8, 0);
    uint64_t in = 0, out = 0;

    (void)state;
    for (unsigned round = 0; round < 1000; round++) {
        unsigned n = round % 8 + 1;

        for (unsigned i = 0; i < n; i++) {
            struct item *item = &items[in % 8];

            item->number = in++;
            assert_true(ring_push(ring, &item->job));
        }
        assert_int_equal(ring_depth(ring), n);
        while (n-- > 0)
            must_be(ring_pop(ring), out++);
        assert_null(ring_pop(ring));
    }
    ring_destroy(ring);
    free(items);
}

static void test_destroy_of_null_and_of_a_filled_ring(void **state)
{
    struct ring *ring = ring_new(2);
    struct item item = {.number = 7};

    (void)state;
    assert_true(ring_push(ring, &item.job));
    ring_destroy(ring);
    ring_destroy(NULL);
    assert_int_equal(item.number, 7);
}

static void capacity_0(void)
{
    ring_new(0);
}

static void capacity_1(void)
{
    ring_new(1);
}

static void capacity_3(void)
{
    ring_new(3);
}

static void capacity_beyond(void)
{
    ring_new(1u << 21);
}

static void test_other_capacities_abort(void **state)
{
    (void)state;
    assert_true(aborts(capacity_0));
    assert_true(aborts(capacity_1));
    assert_true(aborts(capacity_3));
    assert_true(aborts(capacity_beyond));
}

/* ---- ring, two threads ---- */

/* Items go out by one ring and come back by another, so each is written by both threads, again and
 * again. */
struct circuit {
    struct ring *there, *back;
    uint64_t rounds;
    uint64_t refused; /* the producer's */
    bool in_order;    /* the consumer's */
};

static void push_or_yield(struct ring *ring, struct job *job, uint64_t *refused)
{
    while (!ring_push(ring, job)) {
        (*refused)++;
        sched_yield();
    }
}

static void *consume(void *arg)
{
    struct circuit *circuit = arg;
    uint64_t never = 0;

    circuit->in_order = true;
    for (uint64_t i = 0; i < circuit->rounds;) {
        struct item *item = item_of(ring_pop(circuit->there));

        if (item == NULL) {
            sched_yield();
            continue;
        }
        if (item->number != i)
            circuit->in_order = false;
        item->number = UINT64_MAX;
        push_or_yield(circuit->back, &item->job, &never);
        i++;
    }
    return NULL;
}

static void *produce(void *arg)
{
    struct circuit *circuit = arg;

    for (uint64_t i = 0; i < circuit->rounds;) {
        struct item *item = item_of(ring_pop(circuit->back));

        if (item == NULL) {
            sched_yield();
            continue;
        }
        item->number = i++;
        push_or_yield(circuit->there, &item->job, &circuit->refused);
    }
    return NULL;
}

static void run_circuit(uint32_t capacity, unsigned item_count)
{
    struct circuit circuit = {.there = ring_new(capacity), .rounds = 60000u * STRESS};
    struct item *items = items_new(item_count, 0);
    pthread_t producer, consumer;

    circuit.back = ring_new(64);
    for (unsigned i = 0; i < item_count; i++)
        assert_true(ring_push(circuit.back, &items[i].job));
    assert_int_equal(pthread_create(&consumer, NULL, consume, &circuit), 0);
    assert_int_equal(pthread_create(&producer, NULL, produce, &circuit), 0);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    assert_true(circuit.in_order);
    assert_null(ring_pop(circuit.there));
    assert_int_equal(ring_depth(circuit.back), item_count);
    if (item_count <= capacity)
        assert_int_equal(circuit.refused, 0);
    ring_destroy(circuit.there);
    ring_destroy(circuit.back);
    free(items);
}

/* More items than room: the producer is refused now and then. */
static void test_two_threads_small_ring(void **state)
{
    (void)state;
    run_circuit(2, 64);
}

/* As many items as room: a refusal would be wrong, however late the producer learns of a pop. */
static void test_two_threads_no_false_refusal(void **state)
{
    (void)state;
    run_circuit(32, 32);
}

/* ---- landing ---- */

static void test_landing_keeps_order_and_appends(void **state)
{
    struct landing landing;
    struct job_list list;
    struct item *items = items_new(5, 0);

    (void)state;
    landing_init(&landing);
    job_list_init(&list);
    assert_true(landing_empty(&landing));
    assert_int_equal(landing_take(&landing, &list), 0);
    assert_null(job_list_pop(&list));

    job_list_push(&list, &items[0].job);
    for (unsigned i = 1; i < 4; i++)
        landing_push(&landing, &items[i].job);
    assert_false(landing_empty(&landing));
    assert_int_equal(landing_take(&landing, &list), 3);
    assert_true(landing_empty(&landing));
    landing_push(&landing, &items[4].job);
    assert_int_equal(landing_take(&landing, &list), 1);
    for (unsigned i = 0; i < 5; i++)
        must_be(job_list_pop(&list), i);
    assert_null(job_list_pop(&list));
    free(items);
}

static void link_items(struct item *items, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i < last; i++)
        items[i].job.next = &items[i + 1].job;
}

static void test_a_chain_lands_in_its_order(void **state)
{
    struct landing landing;
    struct job_list list;
    struct item *items = items_new(6, 0);

    (void)state;
    landing_init(&landing);
    job_list_init(&list);
    landing_push(&landing, &items[0].job);
    link_items(items, 1, 4);
    items[4].job.next = &items[0].job; /* ignored */
    landing_push_chain(&landing, &items[1].job, &items[4].job);
    items[5].job.next = &items[5].job; /* likewise, of a chain of one */
    landing_push_chain(&landing, &items[5].job, &items[5].job);
    assert_int_equal(landing_take(&landing, &list), 6);
    for (unsigned i = 0; i < 6; i++)
        must_be(job_list_pop(&list), i);
    assert_null(job_list_pop(&list));
    assert_true(landing_empty(&landing));
    free(items);
}

enum { PRODUCERS = 4, CHAIN = 5 };

struct crowd {
    struct landing landing;
    struct item *items[PRODUCERS];
    uint64_t each;
    _Atomic unsigned next_producer;
};

static void *land(void *arg)
{
    struct crowd *crowd = arg;
    unsigned producer = atomic_fetch_add(&crowd->next_producer, 1);
    struct item *items = crowd->items[producer];

    for (uint64_t i = 0; i < crowd->each; i++) {
        if (producer % 2 == 1 && i % CHAIN == 0) {
            link_items(items, i, i + CHAIN - 1);
            landing_push_chain(&crowd->landing, &items[i].job, &items[i + CHAIN - 1].job);
        } else if (producer % 2 == 0) {
            landing_push(&crowd->landing, &items[i].job);
        }
        if (i % 64 == 0)
            sched_yield();
    }
    return NULL;
}

/* Takes until all have come; returns whether each producer's items came in its order. */
static bool take_all(struct crowd *crowd)
{
    uint64_t seen[PRODUCERS] = {0};
    struct job_list list;
    bool in_order = true;

    job_list_init(&list);
    for (uint64_t left = crowd->each * PRODUCERS; left > 0;) {
        size_t n = landing_take(&crowd->landing, &list);

        if (n == 0)
            sched_yield();
        for (left -= n; n > 0; n--) {
            struct item *item = item_of(job_list_pop(&list));

            if (item->number != seen[item->producer]++)
                in_order = false;
        }
    }
    return in_order && job_list_pop(&list) == NULL;
}

static void test_landing_of_many_threads(void **state)
{
    struct crowd crowd = {.each = 40000u * STRESS};
    pthread_t threads[PRODUCERS];

    (void)state;
    landing_init(&crowd.landing);
    for (unsigned i = 0; i < PRODUCERS; i++)
        crowd.items[i] = items_new(crowd.each, i);
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, land, &crowd), 0);
    assert_true(take_all(&crowd));
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(landing_empty(&crowd.landing));
    for (unsigned i = 0; i < PRODUCERS; i++)
        free(crowd.items[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exactly_capacity_fits),
        cmocka_unit_test(test_order_over_many_rounds),
        cmocka_unit_test(test_destroy_of_null_and_of_a_filled_ring),
        cmocka_unit_test(test_other_capacities_abort),
        cmocka_unit_test(test_two_threads_small_ring),
        cmocka_unit_test(test_two_threads_no_false_refusal),
        cmocka_unit_test(test_landing_keeps_order_and_appends),
        cmocka_unit_test(test_a_chain_lands_in_its_order),
        cmocka_unit_test(test_landing_of_many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
