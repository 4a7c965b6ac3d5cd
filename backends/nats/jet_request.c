/* Requests for messages, one at a time, for all the credit that there is: how one is asked for, and
 * how it ends. On the worker, in the subscription's job. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdlib.h>

enum { PULL_MESSAGES = 1000 }; /* of one request */

/* The request is over; what it did not bring is credit again. */
void jet_request_end(struct jet_listener *listener)
{
    if (!listener->withdrawn && listener->subscription->state != SUB_CLOSING)
        subscription_give_back(listener->subscription, listener->asked_messages,
                               listener->asked_bytes);
    listener->asked_messages = 0;
    listener->asked_bytes = 0;
}

void jet_request_alive(struct jet_listener *listener)
{
    uint64_t patience_ms =
        listener->beats ? JET_BEATS_GRACE_MS : listener->pull_ms + JET_REQUEST_GRACE_MS;

    if (listener->asked_messages == 0)
        return;
    listener->request_ns = clock_now_ns() + patience_ms * NS_PER_MS;
    jet_listener_watch(listener, listener->request_ns);
}

void jet_request_look(struct jet_listener *listener)
{
    if (listener->asked_messages == 0 || !listener->placed_well)
        return;
    if (clock_now_ns() >= listener->request_ns)
        jet_look_anew(listener, 0); /* it was lost */
    else
        jet_listener_watch(listener, listener->request_ns);
}

void jet_request_open(struct jet_listener *listener)
{
    struct subscription *subscription = listener->subscription;
    uint64_t n = subscription->credit_messages, bytes, now_ns = clock_now_ns();
    uint64_t most = jet_oldest_most(listener);

    if (listener->asked_messages > 0 || listener->withdrawn || listener->detaching || most == 0 ||
        !subscription_may_take(subscription))
        return;
    if (atomic_load(&listener->pull_queued)) { /* the last one was never looked at */
        jet_listener_watch(listener, now_ns + 10 * NS_PER_MS);
        return;
    }
    bytes = (uint64_t)subscription->credit_bytes;
    listener->whole = listener->whole || jet_wary_of(listener, bytes);
    n = listener->whole ? 1 : n < PULL_MESSAGES ? n : PULL_MESSAGES;
    if (n > most)
        n = most;
    if (listener->place.max_batch > 0 && n > listener->place.max_batch)
        n = listener->place.max_batch;
    subscription_take(subscription, (uint32_t)n, bytes);
    listener->asked_messages = (uint32_t)n;
    listener->asked_bytes = bytes;
    listener->request++;
    listener->pull_messages = (uint32_t)n;
    listener->pull_bytes = listener->whole ? 0 : bytes;
    listener->whole = false;
    listener->attach = !listener->attached;
    listener->attached = true;
    listener->pull_ms = jet_oldest_request_ms(listener, listener->request_ms);
    listener->beats = listener->place.clustered && listener->pull_ms >= 2 * JET_BEAT_MS;
    jet_request_alive(listener);
    atomic_store(&listener->pull_queued, true);
    nats_store_put(&jet_store_of(&listener->instance->base)->base, &listener->pull);
}

/* ---- what the server says ---- */

static bool is_of_request(const struct jet_listener *listener, natsMsg *message)
{
    const char *token = strrchr(natsMsg_GetSubject(message), '.');

    return listener->asked_messages > 0 && token != NULL &&
           strtoull(token + 1, NULL, 16) == listener->request;
}

static const char *status_header(natsMsg *message, const char *name)
{
    const char *value = NULL;

    return natsMsgHeader_Get(message, name, &value) == NATS_OK && value != NULL ? value : "";
}

/* 100 idle; 404 and 408: nothing (more) has come; 409 with a text; 503: nobody is there. */
void jet_request_status(struct jet_listener *listener, natsMsg *message)
{
    const char *status = status_header(message, "Status");
    const char *text = status_header(message, "Description");
    bool nothing; /* has come of it */

    if (!is_of_request(listener, message))
        return;
    if (strcmp(status, "100") == 0) {
        jet_request_alive(listener);
        return;
    }
    nothing = listener->asked_messages == listener->pull_messages;
    jet_request_end(listener);
    if (strcmp(status, "404") == 0 || strcmp(status, "408") == 0) {
        if (nothing && !listener->keeps_ms && listener->pull_ms == listener->request_ms &&
            listener->request_ms < JET_REQUEST_MOST_MS)
            listener->request_ms *= 2;
        return;
    }
    listener->keeps_ms = listener->keeps_ms || strstr(text, "Expires") != NULL;
    listener->request_ms = JET_REQUEST_MS;
    if (strstr(text, "MaxBytes") != NULL) {
        listener->whole = true;
        jet_wary_met(listener, listener->pull_bytes + 1);
    } else {
        jet_look_anew(listener, JET_PLACE_RETRY_MS);
    }
}
