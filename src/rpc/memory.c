/* What calls hold of limits.max_inflight_bytes. Two sums, so that a short call costs no locked
 * instruction:
 *
 *   in_flight_bytes   encoded requests, and what is being sent. Written by the poller.
 *   held_bytes        what home halves hold beyond that: the decoded request of a call that waits
 *                     for its backend, pages of a stream, messages that a stream has received,
 *                     large answers on their way to the poller. Written by any worker.
 *
 * New calls are refused when there is no room. A stream that is open already is not refused: its
 * next receive waits on the poller until there is room, and flow control holds its client back. */
#include "src/rpc/rpc_priv.h"

#include "src/base/container.h"

/* What is held beyond the encoded request, and smaller than this, is not worth counting. */
enum { GRAIN_BYTES = 4096 };

uint64_t memory_held(const struct rpc_server *server)
{
    return counter_read(&server->in_flight_bytes) +
           atomic_load_explicit(&server->held_bytes, memory_order_relaxed);
}

struct err memory_check(const struct call *call, uint64_t more, uint64_t own)
{
    const struct rpc_server *server = call->server;
    uint64_t most = server->options.max_inflight_bytes, all = memory_held(server);
    uint64_t share = admit_share_bytes(server);

    if (all + more > most && all > own)
        return admit_overloaded("limits.max_inflight_bytes",
                                "the calls in flight hold too much memory");
    all = call->share != NULL ? share_bytes(call->share) : 0;
    if (all + more > share && all > own)
        return admit_overloaded("limits.connection_share_percent",
                                "this connection's calls, and answers that it has not taken, hold "
                                "its share of the memory");
    return ERR_NONE;
}

/* ---- home half ---- */

void memory_take(struct rpc_server *server, struct share *share, uint64_t bytes)
{
    atomic_fetch_add_explicit(&server->held_bytes, bytes, memory_order_relaxed);
    if (share != NULL)
        atomic_fetch_add_explicit(&share->held_bytes, bytes, memory_order_relaxed);
}

/* The subtraction comes before the look at `starved`: either the poller sees the room, or this
 * thread sees that somebody waits for it. */
void memory_give_back(struct rpc_server *server, struct share *share, uint64_t bytes)
{
    if (share != NULL)
        atomic_fetch_sub_explicit(&share->held_bytes, bytes, memory_order_relaxed);
    atomic_fetch_sub(&server->held_bytes, bytes);
    if (atomic_load(&server->starved) && !atomic_exchange(&server->feeding, true))
        worker_land(&server->poller, &server->feed);
}

void memory_count_kept(struct rpc_server *server, struct share *share, uint32_t more)
{
    if (more == 0)
        return;
    atomic_fetch_add(&server->kept, more);
    atomic_fetch_add(&share->kept, more);
}

static uint64_t held_by(const struct call *call)
{
    uint64_t arena = call->home.arena.bytes;

    return call->home.extra_bytes + (arena > call->request_bytes ? arena - call->request_bytes : 0);
}

void memory_measure(struct call *call)
{
    struct call_home *home = &call->home;
    uint64_t now = held_by(call);

    home->measured_bytes = home->arena.bytes;
    if (now >= home->held_bytes + GRAIN_BYTES)
        memory_take(call->server, call->share, now - home->held_bytes);
    else if (now + GRAIN_BYTES <= home->held_bytes)
        memory_give_back(call->server, call->share, home->held_bytes - now);
    else
        return;
    home->held_bytes = now;
}

void memory_grown(struct call *call)
{
    if (call->home.arena.bytes >= call->home.measured_bytes + GRAIN_BYTES)
        memory_measure(call);
}

void memory_release(struct call *call)
{
    if (call->home.held_bytes > 0)
        memory_give_back(call->server, call->share, call->home.held_bytes);
    call->home.held_bytes = 0;
}

struct err memory_take_in(struct call *call)
{
    uint64_t more = held_by(call);
    struct err err;

    if (more < GRAIN_BYTES || admit_is_general(call))
        return ERR_NONE;
    err = memory_check(call, more, call->request_bytes);
    if (err.code != ERR_OK)
        counter_add_shared(&call->server->refused_decoded, 1);
    return err;
}

struct err call_hold(struct call *call, uint64_t bytes)
{
    struct call_home *home = &call->home;

    if (bytes > home->extra_bytes) {
        struct err err =
            memory_check(call, bytes - home->extra_bytes, call->request_bytes + home->held_bytes);

        if (err.code != ERR_OK) {
            counter_add_shared(&call->server->refused_answers, 1);
            return err;
        }
    }
    home->extra_bytes = bytes;
    memory_measure(call);
    return ERR_NONE;
}

/* ---- receives that wait, on the poller ---- */

/* If all calls waited for each other's memory, none would ever go on: then the one that has waited
 * longest goes. The same among the calls of a connection. But not while a handler is at work on a
 * message that it was given in an arena of its own: that one's memory comes back when its backend
 * has answered, however long this takes. */
static bool may_receive(const struct call *call)
{
    const struct rpc_server *server = call->server;
    const struct share *share = call->share;
    uint64_t calls = counter_read(&server->in_flight_count) - server->general_streams;

    if (memory_held(server) > server->options.max_inflight_bytes &&
        (counter_read(&server->hungry_count) < calls || atomic_load(&server->kept) > 0))
        return false;
    return share_bytes(share) <= admit_share_bytes(server) ||
           (share->hungry >= share->calls && atomic_load(&share->kept) == 0);
}

static void wait_for_room(struct call *call)
{
    struct rpc_server *server = call->server;
    struct link *link = &call->poller.hungry, *head = &server->hungry;

    link->next = head;
    link->prev = head->prev;
    head->prev->next = link;
    head->prev = link;
    call->share->hungry++;
    counter_add(&server->hungry_count, 1);
    atomic_store(&server->starved, true);
}

bool memory_leave(struct call *call)
{
    struct rpc_server *server = call->server;
    struct link *link = &call->poller.hungry;

    if (link->next == NULL)
        return false;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
    call->share->hungry--;
    counter_add(&server->hungry_count, (uint64_t)-1);
    if (counter_read(&server->hungry_count) == 0)
        atomic_store(&server->starved, false);
    return true;
}

void memory_feed(struct rpc_server *server)
{
    struct link *link = server->hungry.next;

    server->feed_due = false;
    while (link != &server->hungry) {
        struct call *call = CONTAINER_OF(link, struct call, poller.hungry);

        link = link->next;
        if (may_receive(call) && memory_leave(call))
            finish_post_receive(call);
    }
}

static void feed_job(struct job *job)
{
    struct rpc_server *server = CONTAINER_OF(job, struct rpc_server, feed);

    atomic_store(&server->feeding, false);
    memory_feed(server);
}

/* It stands in the row before it looks: what is given back from now on is told, and what was given
 * back before is seen. */
void memory_receive(struct call *call)
{
    if (memory_held(call->server) == 0 || admit_is_general_stream(call)) {
        finish_post_receive(call);
        return;
    }
    wait_for_room(call);
    if (may_receive(call) && memory_leave(call))
        finish_post_receive(call);
}

bool memory_is_ample(const struct call *call)
{
    const struct rpc_server *server = call->server;
    uint64_t most = server->options.max_inflight_bytes;

    return counter_read(&server->hungry_count) == 0 && memory_held(server) <= most / 2 &&
           share_bytes(call->share) <= admit_share(server, most) / 2;
}

void memory_init(struct rpc_server *server)
{
    server->hungry.next = server->hungry.prev = &server->hungry;
    server->feed.run = feed_job;
}
