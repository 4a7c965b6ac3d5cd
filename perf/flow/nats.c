/* nats.c: core publish with a flush at the end of every window; JetStream by js_PublishAsync and by
 * a pull subscription that fetches 500 and acknowledges each. */
#include "perf/flow/flow.h"

#include <nats/nats.h>
#include <stdio.h>
#include <string.h>

enum { WINDOW = 4000, FETCH = 500, WAIT_MS = 10000 };

static void must(natsStatus status, const char *what)
{
    if (status != NATS_OK)
        flow_die("%s: %s", what, natsStatus_GetText(status));
}

static natsConnection *connect_to(const struct flow *flow)
{
    natsConnection *connection = NULL;
    char url[128];

    snprintf(url, sizeof url, "nats://%s", flow->address);
    must(natsConnection_ConnectTo(&connection, url), "connect");
    return connection;
}

void flow_publish_nats(struct flow *flow)
{
    natsConnection *connection = connect_to(flow);
    char payload[FLOW_MESSAGE_BYTES];

    memset(payload, 'p', sizeof payload);
    while (!flow_over(flow)) {
        uint64_t n = 0;

        for (; n < WINDOW && flow_room(flow, flow->done + n) > 0; n++)
            must(natsConnection_Publish(connection, flow->topic, payload, sizeof payload),
                 "publish");
        must(natsConnection_Flush(connection), "flush");
        flow_done(flow, n);
    }
}

/* Prism gives every message an identifier, because one without cannot be sent again safely. */
static void publish_one(jsCtx *js, const struct flow *flow, const char *payload, uint64_t number)
{
    char id[32];
    jsPubOptions options;

    jsPubOptions_Init(&options);
    snprintf(id, sizeof id, "id-%llu", (unsigned long long)number);
    options.MsgId = id;
    must(js_PublishAsync(js, flow->topic, payload, FLOW_MESSAGE_BYTES, &options), "publish");
}

static void on_failure(jsCtx *js, jsPubAckErr *failure, void *arg)
{
    (void)js, (void)arg;
    flow_die("a message was not stored: %s", failure->ErrText);
}

void flow_publish_jetstream(struct flow *flow)
{
    natsConnection *connection = connect_to(flow);
    char payload[FLOW_MESSAGE_BYTES];
    jsOptions options;
    jsCtx *js = NULL;

    memset(payload, 'p', sizeof payload);
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = WINDOW;
    options.PublishAsync.StallWait = WAIT_MS;
    options.PublishAsync.ErrHandler = on_failure;
    must(natsConnection_JetStream(&js, connection, &options), "jetstream");
    while (!flow_over(flow)) {
        uint64_t n = flow_room(flow, flow->done);

        for (uint64_t i = 0; i < n; i++)
            publish_one(js, flow, payload, flow->done + i);
        must(js_PublishAsyncComplete(js, NULL), "complete");
        flow_done(flow, n);
    }
}

void flow_consume_jetstream(struct flow *flow)
{
    natsConnection *connection = connect_to(flow);
    natsSubscription *subscription = NULL;
    const char *slash = strchr(flow->topic, '/');
    char topic[256];
    jsSubOptions options;
    jsCtx *js = NULL;

    if (slash == NULL)
        flow_die("TOPIC/GROUP");
    snprintf(topic, sizeof topic, "%.*s", (int)(slash - flow->topic), flow->topic);
    jsSubOptions_Init(&options);
    options.Config.MaxAckPending = 100000;
    must(natsConnection_JetStream(&js, connection, NULL), "jetstream");
    must(js_PullSubscribe(&subscription, js, topic, slash + 1, NULL, &options, NULL), "subscribe");
    while (!flow_over(flow)) {
        natsMsgList list = {0};

        must(natsSubscription_Fetch(&list, subscription, FETCH, WAIT_MS, NULL), "fetch");
        for (int i = 0; i < list.Count; i++)
            must(natsMsg_Ack(list.Msgs[i], NULL), "ack");
        flow_done(flow, (uint64_t)list.Count);
        natsMsgList_Destroy(&list);
    }
    must(natsConnection_Flush(connection), "flush");
}
