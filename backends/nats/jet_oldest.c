/* Before anything is handed over, to who wants the oldest first: what others hold of the group. The
 * server says how many messages are unsettled, not who holds them: one who has died, one who lives
 * elsewhere, or nobody, because they were given back. What the living here hold is taken off
 * (jet_readers.c). And the server delivers what was given back before what nobody has had yet. So
 * one message is asked for first, and what is newer is kept here, its lease renewed, until what is
 * older has come:
 *
 *   one here ends         nothing is asked for before it has given back what it had
 *   an older one comes    one less is missing. Others may be behind it: twice as many are asked for
 *   a newer one comes     that nobody has had yet: no more was given back. One is asked for after
 *                         each look, until an older one comes. Else: older ones may be behind it
 *   a look                asks the server how many are unsettled: those who live settle theirs. It
 *                         comes after LOOK_MS, then later and later
 *   none is missing       what is kept is handed over, in order; it ends
 *   patience is over      the consumer's, as long as it leaves messages to a holder that is silent:
 *                         the server has what the dead had, and delivers it first. It is asked for,
 *                         and when that is answered, what is kept is handed over; it ends
 *
 * What is kept holds no credit before it is handed over, so nothing stands where an older one is to
 * come, and nothing has to go back, behind others, to make room. The server has what was given back
 * in the order in which it was. Where more older ones come than may be kept, the first of those
 * that are here take the credit, and the others come in order as far as that reaches. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdlib.h>

enum {
    LOOK_MS = 100,
    LOOK_MOST_MS = 1600,
    GRACE_MS = 500, /* for the server to notice that a lease is over */
    LAST_MS = 1000, /* for an answer, where nothing is left to come */
};

static bool is_newer(const struct jet_oldest *oldest, const struct jet_kept *kept)
{
    return kept->source.stream_sequence > oldest->bound;
}

static void count(struct jet_oldest *oldest, const struct jet_kept *kept, int64_t by)
{
    oldest->bytes += (uint64_t)by * kept->bytes;
    if (!is_newer(oldest, kept))
        return;
    oldest->n_newer += (uint64_t)by;
    oldest->newer_bytes += (uint64_t)by * kept->bytes;
}

static void drop(struct jet_oldest *oldest, const struct jet_kept *kept)
{
    count(oldest, kept, -1);
    natsMsg_Destroy(kept->message);
}

void jet_oldest_clear(struct jet_listener *listener)
{
    struct jet_oldest *oldest = &listener->oldest;

    for (size_t i = 0; i < oldest->n; i++)
        drop(oldest, &oldest->kept[i]);
    free(oldest->kept);
    oldest->kept = NULL;
    oldest->n = oldest->room = 0;
    oldest->step = JET_OLDEST_OVER;
}

void jet_oldest_moved(struct jet_listener *listener)
{
    jet_oldest_clear(listener);
    listener->oldest.wanted = listener->subscription->want.oldest_first;
}

/* ---- it begins ---- */

static void look_later(struct jet_oldest *oldest, uint64_t now_ns)
{
    oldest->look_ns = now_ns + oldest->look_in_ns;
    if (oldest->look_in_ns < LOOK_MOST_MS * NS_PER_MS)
        oldest->look_in_ns *= 2;
}

void jet_oldest_ask(struct jet_listener *listener)
{
    listener->oldest.took = jet_readers_took(listener);
}

/* What was let go since the server was asked is among them. */
static uint64_t others_hold(const struct jet_listener *listener, uint64_t unsettled)
{
    uint64_t here = jet_readers_hold(listener, listener->oldest.took);

    return unsettled > here ? unsettled - here : 0;
}

static void begin(struct jet_listener *listener, uint64_t others)
{
    struct jet_oldest *oldest = &listener->oldest;

    oldest->step = JET_OLDEST_WAITS;
    oldest->bound = listener->place.stream_sequence;
    oldest->missing = others;
    oldest->look_in_ns = LOOK_MS * NS_PER_MS;
    look_later(oldest, clock_now_ns());
}

void jet_oldest_placed(struct jet_listener *listener)
{
    struct jet_oldest *oldest = &listener->oldest;
    uint64_t others = others_hold(listener, listener->place.unsettled);

    oldest->quiet = false;
    oldest->ask = 1;
    oldest->doubtful = oldest->step == JET_OLDEST_WAITS || oldest->step == JET_OLDEST_LAST;
    if (oldest->wanted && others > 0)
        begin(listener, others);
    oldest->wanted = false;
    if (oldest->step == JET_OLDEST_WAITS) /* after a restart the server's patience begins anew */
        oldest->until_ns = clock_now_ns() + listener->wait_ns + GRACE_MS * NS_PER_MS;
    else
        oldest->until_ns = clock_now_ns() + LAST_MS * NS_PER_MS;
}

/* ---- what is asked for ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool full_of_newer(const struct jet_oldest *oldest)
{
    return oldest->n_newer >= JET_KEPT_MOST || oldest->newer_bytes >= JET_KEPT_BYTES;
}

static bool full_of_older(const struct jet_listener *listener)
{
    const struct jet_oldest *oldest = &listener->oldest;
    const struct subscription *subscription = listener->subscription;
    int64_t bytes = (int64_t)(oldest->bytes - oldest->newer_bytes);

    return oldest->n - oldest->n_newer >= subscription->credit_messages + JET_KEPT_MOST ||
           bytes >= subscription->credit_bytes + JET_KEPT_BYTES;
}

/* Any of them may be newer. */
static uint64_t waiting_most(const struct jet_listener *listener)
{
    const struct jet_oldest *oldest = &listener->oldest;

    if (oldest->quiet || oldest->looking || jet_readers_leaving(listener) || full_of_newer(oldest))
        return 0;
    return least(least(oldest->ask, oldest->missing), JET_KEPT_MOST - oldest->n_newer);
}

/* After a newer one that nobody has had yet it is over: one more than there is room for may come.
 */
static uint64_t last_most(const struct jet_oldest *oldest)
{
    return least(oldest->missing, full_of_newer(oldest) ? 1 : JET_KEPT_MOST - oldest->n_newer);
}

uint64_t jet_oldest_most(const struct jet_listener *listener)
{
    switch (listener->oldest.step) {
    case JET_OLDEST_OVER:
        return UINT64_MAX;
    case JET_OLDEST_WAITS:
        return waiting_most(listener);
    case JET_OLDEST_LAST:
        return last_most(&listener->oldest);
    case JET_OLDEST_REST:
        return 0;
    }
    abort();
}

uint32_t jet_oldest_request_ms(const struct jet_listener *listener, uint32_t ms)
{
    return listener->oldest.step == JET_OLDEST_OVER ? ms : (uint32_t)least(ms, LAST_MS);
}

/* ---- a message comes ---- */

/* NULL: the first of its sequence. */
static struct jet_kept *find(const struct jet_oldest *oldest, uint64_t sequence)
{
    for (size_t i = 0; i < oldest->n; i++) {
        if (oldest->kept[i].source.stream_sequence == sequence)
            return &oldest->kept[i];
    }
    return NULL;
}

static struct jet_kept *add(struct jet_oldest *oldest)
{
    if (oldest->n == oldest->room) {
        oldest->room = oldest->room == 0 ? 16 : oldest->room * 2;
        oldest->kept = realloc(oldest->kept, oldest->room * sizeof *oldest->kept);
        if (oldest->kept == NULL)
            abort();
    }
    return &oldest->kept[oldest->n++];
}

static void older_came(struct jet_oldest *oldest)
{
    uint64_t until_ns = clock_now_ns() + LAST_MS * NS_PER_MS;

    if (oldest->missing > 0)
        oldest->missing--;
    if (oldest->until_ns < until_ns) /* others may be right behind it */
        oldest->until_ns = until_ns;
}

/* Before one that nobody has had yet the server has delivered all that was given back. */
static void note(struct jet_oldest *oldest, const struct jet_source *source)
{
    bool newer = source->stream_sequence > oldest->bound;

    oldest->quiet = newer && source->deliveries == 1;
    if (oldest->quiet)
        oldest->ask = 1;
    else if (oldest->ask < JET_KEPT_MOST)
        oldest->ask *= 2;
    if (!newer)
        older_came(oldest);
    else if (oldest->quiet && oldest->step == JET_OLDEST_LAST)
        oldest->missing = 0;
}

void jet_oldest_keep(struct jet_listener *listener, natsMsg *message,
                     const struct jet_source *source, struct jet_delivery *delivery, uint64_t bytes)
{
    struct jet_oldest *oldest = &listener->oldest;
    struct jet_kept *kept = find(oldest, source->stream_sequence);

    if (kept != NULL)
        drop(oldest, kept); /* that delivery was lost */
    else
        note(oldest, source);
    if (kept == NULL)
        kept = add(oldest);
    *kept = (struct jet_kept){
        .message = message, .source = *source, .token = delivery->token, .bytes = bytes};
    count(oldest, kept, 1);
    subscription_give_back(listener->subscription, 1, bytes);
    delivery->lease_ns += listener->wait_ns; /* it begins when it is handed over */
    jet_lease_watch(listener, delivery);
}

/* ---- what is kept goes on ---- */

static int by_sequence(const void *a, const void *b)
{
    const struct jet_kept *one = a, *other = b;

    return (one->source.stream_sequence > other->source.stream_sequence) -
           (one->source.stream_sequence < other->source.stream_sequence);
}

/* Those that there is credit for come first. What was lost meanwhile comes again. Returns how many
 * go. */
static size_t choose(struct jet_listener *listener)
{
    struct jet_oldest *oldest = &listener->oldest;
    uint64_t lease_ns = clock_now_ns() + listener->lease_ns;
    size_t going = 0, to = 0;

    for (size_t i = 0; i < oldest->n; i++) {
        struct jet_kept kept = oldest->kept[i];
        struct jet_delivery *delivery = jet_unsettled_find(&listener->unsettled, kept.token);

        if (delivery == NULL) {
            drop(oldest, &kept);
            continue;
        }
        oldest->kept[to++] = kept;
        if (going < to - 1 || !subscription_may_take(listener->subscription))
            continue;
        going++;
        count(oldest, &kept, -1);
        subscription_take(listener->subscription, 1, kept.bytes);
        delivery->lease_ns = lease_ns;
        jet_lease_watch(listener, delivery);
    }
    oldest->n = to;
    return going;
}

/* Who receives it may do anything: what is kept is whole by then. */
static void hand_over(struct jet_listener *listener)
{
    struct jet_oldest *oldest = &listener->oldest;
    struct jet_kept *going;
    size_t n;

    if (oldest->n == 0)
        return;
    qsort(oldest->kept, oldest->n, sizeof *oldest->kept, by_sequence);
    n = choose(listener);
    going = malloc((n + 1) * sizeof *going);
    if (going == NULL)
        abort();
    memcpy(going, oldest->kept, n * sizeof *going);
    oldest->n -= n;
    memmove(oldest->kept, oldest->kept + n, oldest->n * sizeof *going);
    jet_take_kept(listener, going, n);
    free(going);
}

static void rest(struct jet_listener *listener)
{
    listener->oldest.step = JET_OLDEST_REST;
    hand_over(listener);
    if (listener->oldest.step == JET_OLDEST_REST && listener->oldest.n == 0)
        jet_oldest_clear(listener);
}

static bool is_returned(const struct jet_listener *listener, const struct jet_delivery *delivery,
                        uint64_t now_ns)
{
    (void)listener;
    (void)now_ns;
    return delivery->returned;
}

void jet_oldest_withdrawn(struct jet_listener *listener)
{
    const struct jet_oldest *oldest = &listener->oldest;

    if (oldest->step == JET_OLDEST_OVER)
        return;
    for (size_t i = 0; i < oldest->n; i++) {
        struct jet_delivery *delivery =
            jet_unsettled_find(&listener->unsettled, oldest->kept[i].token);

        if (delivery != NULL)
            delivery->returned = true;
    }
    jet_oldest_clear(listener);
    jet_settle_all(listener, JET_RETURN, is_returned);
}

/* ---- looks ---- */

void jet_oldest_look(struct jet_store *store, jsCtx *js, struct jet_listener *listener)
{
    struct jet_oldest *oldest = &listener->oldest;

    oldest->looked = js != NULL && jet_place_count(store, js, &listener->place, &oldest->unsettled,
                                                   &oldest->floor);
}

void jet_oldest_looked(struct jet_listener *listener)
{
    struct jet_oldest *oldest = &listener->oldest;

    oldest->looking = oldest->quiet = false;
    if (!oldest->looked)
        return;
    if (oldest->floor >= oldest->bound)
        oldest->missing = 0;
    else if (!oldest->doubtful)
        oldest->missing = least(oldest->missing, others_hold(listener, oldest->unsettled));
}

void jet_oldest_other_left(struct jet_listener *listener)
{
    struct jet_oldest *oldest = &listener->oldest;

    if (oldest->step != JET_OLDEST_WAITS)
        return;
    oldest->missing = UINT64_MAX; /* what it had is among it now: a look tells */
    oldest->look_ns = clock_now_ns();
    oldest->look_in_ns = LOOK_MS * NS_PER_MS;
}

static bool has_to_look(struct jet_listener *listener, uint64_t now_ns)
{
    struct jet_oldest *oldest = &listener->oldest;

    if (oldest->step != JET_OLDEST_WAITS || oldest->looking)
        return false;
    if (now_ns < oldest->look_ns) {
        jet_listener_watch(listener, oldest->look_ns);
        return false;
    }
    if (listener->placing || !listener->placed_well)
        return false;
    look_later(oldest, now_ns);
    oldest->looking = true;
    jet_oldest_ask(listener);
    return true;
}

/* ---- steps ---- */

/* The server delivers what the dead had before anything new, and to a request that is open. Without
 * credit nobody can ask. */
static void patience_is_over(struct jet_listener *listener, uint64_t now_ns)
{
    struct jet_oldest *oldest = &listener->oldest;
    bool asks = listener->asked_messages > 0 || subscription_may_take(listener->subscription);

    if (oldest->n == 0 || listener->asked_messages > 0 || (oldest->step == JET_OLDEST_LAST && asks))
        oldest->missing = 0;
    oldest->step = JET_OLDEST_LAST;
    oldest->until_ns = now_ns + LAST_MS * NS_PER_MS;
}

bool jet_oldest_go_on(struct jet_listener *listener)
{
    struct jet_oldest *oldest = &listener->oldest;
    uint64_t now_ns = clock_now_ns();

    if (oldest->step == JET_OLDEST_OVER || listener->ending)
        return false;
    if (oldest->step != JET_OLDEST_REST && oldest->missing > 0) {
        if (!listener->placed_well)
            return false; /* nobody can ask: it goes on with the place */
        if (now_ns >= oldest->until_ns)
            patience_is_over(listener, now_ns);
    }
    if (oldest->missing == 0 || oldest->step == JET_OLDEST_REST) {
        rest(listener);
        return false;
    }
    if (listener->asked_messages == 0 && full_of_older(listener))
        hand_over(listener);
    jet_listener_watch(listener, oldest->until_ns);
    return has_to_look(listener, now_ns);
}
