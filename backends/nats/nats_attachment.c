/* The life of a subscription of the client library's, which ends by a callback on a thread of the
 * library and is freed on the store's. */
#include "backends/nats/nats_priv.h"

static void on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *message,
                       void *arg)
{
    struct nats_attachment *attachment = arg;

    (void)connection;
    attachment->message(attachment, subscription, message);
}

static void on_complete(void *arg)
{
    struct nats_attachment *attachment = arg;

    nats_store_put(attachment->store, &attachment->gone);
}

static bool run_gone(struct nats_store *store, struct nats_task *task)
{
    struct nats_attachment *attachment = (struct nats_attachment *)task;

    natsSubscription_Destroy(attachment->subscription);
    attachment->subscription = NULL;
    store->attachments--;
    store->draining -= attachment->draining;
    attachment->draining = false;
    attachment->over(attachment);
    return false;
}

bool nats_attach(struct nats_attachment *attachment, const char *subject)
{
    natsStatus s;

    attachment->gone.run = run_gone;
    s = natsConnection_Subscribe(&attachment->subscription, attachment->store->connection, subject,
                                 on_message, attachment);
    if (s != NATS_OK) {
        attachment->subscription = NULL;
        return false;
    }
    attachment->store->attachments++;
    if (natsSubscription_SetOnCompleteCB(attachment->subscription, on_complete, attachment) !=
        NATS_OK)
        on_complete(attachment); /* it is over already */
    return true;
}

/* Both are refused when the connection is gone: then it is over already, and `gone` comes. */
void nats_attachment_leave(struct nats_attachment *attachment)
{
    natsSubscription_Unsubscribe(attachment->subscription);
}

void nats_attachment_drain(struct nats_attachment *attachment)
{
    struct nats_store *store = attachment->store;

    if (attachment->draining)
        return;
    attachment->draining = true;
    store->draining++;
    natsSubscription_DrainTimeout(attachment->subscription, (int64_t)store->config.ack_timeout_ms);
}
