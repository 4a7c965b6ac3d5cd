/* The store of the jetstream backend: the connection's thread of all NATS backends, a window of
 * messages, and the control thread. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static const char *connected(struct nats_store *base)
{
    struct jet_store *store = jet_of(base);
    const char *fault;

    if (!jet_control_connected(store))
        return "no connection to NATS";
    fault = jet_answers_open(store);
    if (fault != NULL)
        return fault;
    jet_notices_open(store);
    jet_window_connected(store);
    jet_listeners_connected(store);
    return NULL;
}

static void lost(struct nats_store *base)
{
    struct jet_store *store = jet_of(base);

    jet_control_lost(store);
    store->notices.state = JET_NOTICES_UNKNOWN; /* another login may be allowed more */
    store->notices.again_ns = 0;
    jet_window_lost(store);
    jet_settle_lost(store);
    jet_journal_lost(store);
}

static void refused(struct nats_store *base)
{
    char subject[MESSAGE_TOPIC_BYTES + 1];

    if (!nats_violated(base, "Permissions Violation for Publish to \"", subject, sizeof subject))
        return;
    jet_journal_denied(jet_of(base), subject);
    jet_window_denied(jet_of(base), subject);
    jet_window_pump(jet_of(base));
}

static uint64_t tick(struct nats_store *base)
{
    struct jet_store *store = jet_of(base);
    uint64_t due_ns, at_ns;

    if (base->connection != NULL && base->write_failed)
        nats_store_leave(base, "NATS does not take what is written", NULL);
    due_ns = jet_window_tick(store);
    at_ns = store->window.lookups != NULL ? jet_lookup_tick(store, clock_now_ns()) : UINT64_MAX;
    due_ns = at_ns < due_ns ? at_ns : due_ns;
    at_ns = store->settlings != NULL ? jet_settle_tick(store, clock_now_ns()) : UINT64_MAX;
    due_ns = at_ns < due_ns ? at_ns : due_ns;
    at_ns = jet_journal_tick(store, clock_now_ns());
    return at_ns < due_ns ? at_ns : due_ns;
}

static const struct nats_kind kind = {
    .prompt = true, .connected = connected, .lost = lost, .refused = refused, .tick = tick};

static void make_id(char id[20])
{
    uint64_t random;

    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        abort();
    snprintf(id, 20, "p%016llx", (unsigned long long)random);
}

struct err jet_store_open(struct backend_store **out, const struct backend_options *options)
{
    struct jet_store *store = calloc(1, sizeof *store);
    struct err err;

    if (store == NULL)
        abort();
    err = nats_store_init(&store->base, &backend_jetstream, &kind, options);
    if (err.code != ERR_OK) {
        free(store);
        return err;
    }
    make_id(store->id);
    jet_answers_init(&store->answers, store->id);
    jet_window_init(&store->window);
    jet_journal_init(store);
    jet_notices_init(&store->notices);
    jet_reading_table_init(&store->reading);
    jet_control_init(&store->control);
    *out = &store->base.base;
    return ERR_NONE;
}

/* The control thread ends first: what it does is told to the connection's thread. */
void jet_store_close(struct backend_store *base)
{
    struct jet_store *store = CONTAINER_OF(base, struct jet_store, base.base);

    jet_control_stop(&store->control);
    nats_store_clear(&store->base);
    jet_control_clear(&store->control);
    jet_lookup_clear(store);
    jet_shares_clear(&store->window.shares);
    jet_answers_clear(&store->answers);
    jet_notices_clear(&store->notices);
    jet_reading_table_clear(&store->reading);
    free(store);
}
