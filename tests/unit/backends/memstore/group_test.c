/* Readers of one group that leave while others hold messages. */
#include "backends/memstore/messaging.h"
#include "tests/unit/backends/memstore/memstore_rig.h"

#include <unistd.h>

enum { MESSAGES = 3000, EACH = 3, LEASE_MS = 1000, SECONDS = 60 };

struct room {
    struct rig rig;
    struct channel channel;
    struct group *group;
    struct subscription subscription;
    struct reader mine, others;
    struct taken taken[MESSAGES];
};

static void enter(struct room *room, struct reader *reader)
{
    *reader = (struct reader){.subscription = &room->subscription,
                              .channel = &room->channel,
                              .group = room->group,
                              .number = ++room->group->numbers,
                              .queued = true, /* no job of it is to run */
                              .next = room->group->readers};
    room->group->readers = reader;
}

/* Of EACH messages one is mine, and the others hold the rest. */
static struct room *open_room(uint64_t lease_ms)
{
    struct room *room = calloc(1, sizeof *room);

    assert_non_null(room);
    rig_open(&room->rig, 64, 0, 0);
    channel_init(&room->channel, room->rig.store->messaging, false);
    for (int i = 0; i < MESSAGES; i++) {
        struct outgoing item = {.payload = slice_str("x")};

        channel_append(&room->channel, &item, kept_new(&item, 1));
        assert_int_equal(item.err.code, ERR_OK);
    }
    room->group = group_new(&room->channel, slice_str("g"));
    room->subscription.want.lease_ms = lease_ms;
    enter(room, &room->mine);
    enter(room, &room->others);
    for (int i = 0; i < MESSAGES; i++) {
        struct reader *reader = i % EACH == 1 ? &room->mine : &room->others;

        assert_true(group_take(room->group, reader, rig_now(&room->rig), &room->taken[i]));
    }
    return room;
}

static void close_room(struct room *room)
{
    room->group->readers = NULL;
    groups_destroy(&room->channel);
    for (int i = 0; i < MESSAGES; i++)
        kept_unref(room->taken[i].kept);
    channel_clear(&room->channel);
    free(room->mine.lost);
    rig_close(&room->rig);
    free(room);
}

static struct delivery *delivery_of(struct room *room, int i)
{
    return delivery_at(room->group, room->taken[i].token >> 32 & GROUP_PLACES);
}

/* What is there to be taken again, by offset: mine, in order, as the same attempt. */
static void expect_mine(struct room *room, int step)
{
    struct taken taken;

    for (int i = 1; i < MESSAGES; i += step) {
        assert_true(group_take(room->group, &room->others, rig_now(&room->rig), &taken));
        assert_int_equal(taken.offset, room->taken[i].offset);
        assert_int_equal(taken.attempt, 1);
        kept_unref(taken.kept);
    }
    assert_false(group_take(room->group, &room->others, rig_now(&room->rig), &taken));
}

/* A ring is laid into the list of all that is unsettled: whoever goes along it never comes back. */
static void test_who_leaves_looks_at_its_own(void **state)
{
    struct room *room = open_room(0);
    struct delivery *ring = delivery_of(room, 0);
    uint32_t newer = ring->newer;

    (void)state;
    ring->newer = ring->place;
    alarm(SECONDS); /* ends the test */
    group_give_back_all(room->group, &room->mine);
    alarm(0);
    ring->newer = newer;
    assert_int_equal(room->group->out, MESSAGES - MESSAGES / EACH);
    expect_mine(room, EACH);
    close_room(room);
}

/* Those that were taken again stand behind newer ones in what a reader holds, and go back by offset
 * all the same; what it has settled does not. */
static void test_all_goes_back_by_offset(void **state)
{
    struct room *room = open_room(0);
    uint64_t now = rig_now(&room->rig);
    struct taken taken;

    (void)state;
    for (int i = 1; i < MESSAGES; i += 2 * EACH) {
        struct settlement release = {.token = room->taken[i].token, .how = SETTLE_RELEASE};

        assert_int_equal(group_settle(room->group, &room->mine, &release, now).code, ERR_OK);
        assert_true(group_take(room->group, &room->mine, now, &taken));
        assert_int_equal(taken.offset, room->taken[i].offset);
        kept_unref(taken.kept);
    }
    for (int i = 1 + EACH; i < MESSAGES; i += 2 * EACH) {
        struct settlement done = {.token = room->taken[i].token, .how = SETTLE_DONE};

        assert_int_equal(group_settle(room->group, &room->others, &done, now).code, ERR_ABORTED);
        assert_int_equal(group_settle(room->group, &room->mine, &done, now).code, ERR_OK);
    }
    group_give_back_all(room->group, &room->mine);
    expect_mine(room, 2 * EACH);
    close_room(room);
}

/* What a lease has taken from it is nobody's, and comes with the next attempt. */
static void test_what_a_lease_took_is_not_given_back(void **state)
{
    struct room *room = open_room(LEASE_MS);
    struct taken taken;

    (void)state;
    atomic_fetch_add(&room->rig.now_ns, 2 * LEASE_MS * NS_PER_MS);
    group_advance(room->group, rig_now(&room->rig));
    assert_int_equal(room->group->out, 0);
    assert_int_equal(room->mine.n_lost, MESSAGES / EACH);
    assert_int_equal(room->others.n_lost, MESSAGES - MESSAGES / EACH);
    group_give_back_all(room->group, &room->mine);
    assert_true(group_take(room->group, &room->mine, rig_now(&room->rig), &taken));
    assert_int_equal(taken.attempt, 2);
    kept_unref(taken.kept);
    free(room->others.lost);
    close_room(room);
}

/* After a seek nobody holds anything. */
static void test_a_seek_takes_all(void **state)
{
    struct room *room = open_room(0);

    (void)state;
    group_seek(room->group, MESSAGES);
    group_give_back_all(room->group, &room->mine);
    assert_int_equal(room->group->ready.first, 0);
    close_room(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_leaves_looks_at_its_own),
        cmocka_unit_test(test_all_goes_back_by_offset),
        cmocka_unit_test(test_what_a_lease_took_is_not_given_back),
        cmocka_unit_test(test_a_seek_takes_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
