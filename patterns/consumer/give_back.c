/* The end of a feed: what no member has goes back to the source. */
#include "patterns/consumer/member.h"

/* There is room for all. */
struct chosen {
    struct delivery **items;
    size_t n;
};

static size_t count(const struct feed *feed, bool untold)
{
    size_t n = 0;

    for (struct parcel *parcel = feed->parcels; parcel != NULL; parcel = parcel->next) {
        for (uint32_t i = 0; i < parcel->n; i++)
            n += parcel_at(parcel, i)->untold == untold;
    }
    return n;
}

static void add(struct chosen *chosen, struct delivery *delivery)
{
    delivery->state = DELIVERY_SETTLING;
    chosen->items[chosen->n++] = delivery;
}

static void choose_ready(struct feed *feed, struct chosen *chosen, bool untold)
{
    for (size_t n = feed->ready_count; n > 0; n--) {
        struct delivery *delivery = feed_next_ready(feed);

        if (delivery->untold == untold)
            add(chosen, delivery);
        else
            delivery_ready(delivery, false);
    }
}

/* What it comes to is waited for. */
static bool is_recalled(const struct delivery *delivery, bool untold)
{
    const struct feed *feed = parcel_of(delivery)->feed;

    return delivery->state == DELIVERY_RECALLING &&
           (!untold || (more_of(delivery)->dies && timer_armed(&feed->ending)));
}

/* A token would still be good after RELEASE, which is no attempt: it is recalled first, and what
 * comes of that is ready. */
static void choose_waiting(struct feed *feed, struct chosen *chosen, bool untold)
{
    for (struct parcel *parcel = feed->parcels; parcel != NULL; parcel = parcel->next) {
        for (uint32_t i = 0; i < parcel->n; i++) {
            struct delivery *delivery = parcel_at(parcel, i);

            if (delivery->untold != untold || is_recalled(delivery, untold) ||
                !delivery_take_out(delivery))
                continue;
            if (!untold && delivery->ticketed)
                delivery_ready(delivery, false);
            else
                add(chosen, delivery);
        }
    }
}

static void give_back(struct feed *feed, bool untold)
{
    const struct message_settling *settling = feed->from->settling;
    struct chosen chosen = {0};
    struct arena scratch;
    size_t n;

    if (settling == NULL || !settling->single) /* asked each turn, whatever is held */
        return;
    n = count(feed, untold);
    if (n == 0)
        return;
    arena_init(&scratch, NULL);
    chosen.items = arena_alloc(&scratch, n * sizeof(void *));
    choose_ready(feed, &chosen, untold);
    choose_waiting(feed, &chosen, untold);
    settle_all(feed, chosen.items, chosen.n, untold ? SETTLE_RETRY : SETTLE_RELEASE);
    arena_clear(&scratch);
}

void settle_untold(struct feed *feed)
{
    give_back(feed, true);
}

void settle_living(struct feed *feed)
{
    give_back(feed, true);
    give_back(feed, false);
}
