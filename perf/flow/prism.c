/* Flows through prismd: PublishStream and Consume, and both at once; and a bare C-core stream that
 * hands the same bytes back. The client does next to nothing for a message: frames are encoded
 * once, and of what comes only the number of messages is read. */
#include "perf/baseline/baseline.h"
#include "perf/flow/flow.h"
#include "perf/flow/stream.h"
#include "perf/load/wire.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROOM = 64 * 1024,
    IN_FLIGHT = 10000,
    ECHO_FRAMES = 100,
    ORDER_PER_KEY = 2, /* of OrderMode */
    ROOM_OF_ANSWER = IN_FLIGHT * WIRE_VARINT_MAX + 64
};

struct publisher {
    struct stream stream;
    grpc_slice frame;
    uint64_t sent, settled, window;
};

/* What is acknowledged at a time. */
enum answers {
    ANSWER_THROUGH, /* all up to a number */
    ANSWER_NAMED,   /* what came in the meantime, each by its number, the newest first */
    ANSWER_SINGLE   /* one, in a request of its own */
};

struct consumer {
    struct stream stream;
    enum answers answers;
    uint64_t got, answered;
    uint8_t *request; /* ROOM_OF_ANSWER */
};

static grpc_slice slice_of(const uint8_t *from, const uint8_t *to)
{
    return grpc_slice_from_copied_buffer((const char *)from, (size_t)(to - from));
}

/* A frame of 100 messages of 128 bytes without keys: no order, as the baselines ask for none. */
static grpc_slice make_frame(const struct flow *flow)
{
    uint8_t *bytes = malloc(ROOM), *out = bytes, one[256];
    uint8_t payload[FLOW_MESSAGE_BYTES];

    memset(payload, 'p', sizeof payload);
    uint8_t *end = wire_put_bytes(one, 2, payload, sizeof payload);
    for (unsigned i = 0; i < FLOW_FRAME; i++)
        out = wire_put_bytes(out, 1, one, (size_t)(end - one));
    out = wire_put_bytes(out, 2, flow->topic, strlen(flow->topic));
    grpc_slice slice = slice_of(bytes, out);
    free(bytes);
    return slice;
}

/* ---- publish ---- */

static void publisher_open(struct publisher *p, const struct flow *flow,
                           grpc_completion_queue *queue)
{
    p->frame = make_frame(flow);
    p->sent = p->settled = 0;
    p->window = FLOW_FRAME;
    stream_open(&p->stream, flow->address, "/prism.patterns.producer.ProducerPattern/PublishStream",
                queue);
    stream_receive(&p->stream);
}

static void publisher_go_on(struct publisher *p, const struct flow *flow)
{
    if (p->stream.sending || flow_room(flow, p->sent) < FLOW_FRAME ||
        p->sent - p->settled + FLOW_FRAME > p->window)
        return;
    p->sent += FLOW_FRAME;
    stream_send(&p->stream, grpc_slice_ref(p->frame));
}

/* How many more are settled. */
static uint64_t publisher_take(struct publisher *p)
{
    struct wire_reader reader;
    struct wire_field field;
    uint64_t before = p->settled;

    wire_read(&reader, p->stream.bytes, p->stream.n);
    while (wire_next(&reader, &field)) {
        if (field.number == 1)
            p->settled = field.value;
        else if (field.number == 5)
            p->window = field.value;
        else if (field.number == 4)
            flow_die("a message was not stored: %.*s", (int)field.bytes, (const char *)field.data);
    }
    stream_receive(&p->stream);
    return p->settled - before;
}

void flow_publish_prism(struct flow *flow)
{
    struct publisher p;
    struct stream *stream;

    publisher_open(&p, flow, NULL);
    while (!flow_over(flow)) {
        if (stream_next(p.stream.queue, &stream) == STREAM_RECEIVED)
            flow_done(flow, publisher_take(&p));
        publisher_go_on(&p, flow);
    }
    stream_close(&p.stream);
}

/* ---- consume ---- */

static void consumer_open(struct consumer *c, const struct flow *flow, grpc_completion_queue *queue,
                          unsigned order)
{
    uint8_t subscribe[512], request[600], *out = subscribe;
    const char *group = flow->topic; /* its own for each run, if the caller wants that */

    *c = (struct consumer){.request = malloc(ROOM_OF_ANSWER)};
    stream_open(&c->stream, flow->address, "/prism.patterns.consumer.ConsumerPattern/Consume",
                queue);
    const char *slash = strchr(group, '/');
    size_t topic_bytes = slash != NULL ? (size_t)(slash - group) : strlen(group);
    out = wire_put_bytes(out, 1, group, topic_bytes);
    out = wire_put_bytes(out, 2, slash != NULL ? slash + 1 : "g",
                         slash != NULL ? strlen(slash + 1) : 1);
    out = wire_put_uint(out, 7, IN_FLIGHT);
    out = wire_put_uint(out, 14, order);
    uint8_t *end = wire_put_bytes(request, 1, subscribe, (size_t)(out - subscribe));
    stream_send(&c->stream, slice_of(request, end));
    stream_receive(&c->stream);
}

static uint8_t *put_ack(const struct consumer *c, uint8_t *out, uint64_t through)
{
    uint8_t ack[16], *end;

    if (c->answers == ANSWER_THROUGH) {
        end = wire_put_uint(ack, 1, through);
        return wire_put_bytes(out, 2, ack, (size_t)(end - ack));
    }

    size_t bytes = 0;

    for (uint64_t i = through; i > c->answered; i--)
        bytes += wire_varint_bytes(i);
    out = wire_put_length(out, 2, 1 + wire_varint_bytes(bytes) + bytes);
    out = wire_put_length(out, 2, bytes);
    for (uint64_t i = through; i > c->answered; i--)
        out = wire_put_varint(out, i);
    return out;
}

/* Acknowledges what came, unless an answer is on its way: then with the next one. */
static void consumer_go_on(struct consumer *c)
{
    if (c->stream.sending || c->answered == c->got)
        return;

    uint64_t through = c->answers == ANSWER_SINGLE ? c->answered + 1 : c->got;

    uint8_t *end = put_ack(c, c->request, through);
    c->answered = through;
    stream_send(&c->stream, slice_of(c->request, end));
}

/* How many messages came. Their sequence numbers are 1, 2, .. */
static uint64_t consumer_take(struct consumer *c)
{
    struct wire_reader reader;
    struct wire_field field;
    uint64_t before = c->got;

    wire_read(&reader, c->stream.bytes, c->stream.n);
    while (wire_next(&reader, &field)) {
        c->got += field.number == 1;
        if (field.number == 4)
            flow_die("a settlement failed");
    }
    stream_receive(&c->stream);
    return c->got - before;
}

static void consume(struct flow *flow, enum answers answers, unsigned order)
{
    struct consumer c;
    struct stream *stream;

    consumer_open(&c, flow, NULL, order);
    c.answers = answers;
    while (!flow_over(flow)) {
        uint64_t before = c.answered;

        if (stream_next(c.stream.queue, &stream) == STREAM_RECEIVED)
            consumer_take(&c);
        consumer_go_on(&c);
        flow_done(flow, c.answered - before);
    }
    stream_close(&c.stream);
}

void flow_consume_prism(struct flow *flow)
{
    consume(flow, ANSWER_THROUGH, 0);
}

void flow_consume_named(struct flow *flow)
{
    consume(flow, ANSWER_NAMED, 0);
}

void flow_consume_single(struct flow *flow)
{
    consume(flow, ANSWER_SINGLE, 0);
}

void flow_consume_key(struct flow *flow)
{
    consume(flow, ANSWER_NAMED, ORDER_PER_KEY);
}

/* ---- from publish to consume ---- */

void flow_pass_prism(struct flow *flow)
{
    struct publisher p;
    struct consumer c;
    struct stream *stream;
    grpc_init();
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);

    consumer_open(&c, flow, queue, 0);
    publisher_open(&p, flow, queue);
    while (!flow_over(flow)) {
        int what = stream_next(queue, &stream);

        if (what == STREAM_RECEIVED && stream == &c.stream)
            flow_done(flow, consumer_take(&c));
        else if (what == STREAM_RECEIVED)
            publisher_take(&p);
        consumer_go_on(&c);
        publisher_go_on(&p, flow);
    }
    stream_close(&p.stream);
    stream_close(&c.stream);
}

/* `n` messages in a gRPC message, of which one of `every` comes back. */
static void pass_echo(struct flow *flow, grpc_slice frame, uint64_t n, uint64_t every)
{
    struct stream s, *stream;
    uint64_t sent = 0, window = every > 1 ? IN_FLIGHT : ECHO_FRAMES * n;

    stream_open(&s, flow->address, "/prism.baseline.Echo/Stream", NULL);
    stream_receive(&s);
    while (!flow_over(flow)) {
        if (!s.sending && flow_room(flow, sent) >= n && sent - flow->done < window) {
            sent += n;
            stream_send(&s, grpc_slice_ref(frame));
        }
        if (stream_next(s.queue, &stream) == STREAM_RECEIVED) {
            if (s.n != GRPC_SLICE_LENGTH(frame))
                flow_die("the echo has another length");
            stream_receive(&s);
            flow_done(flow, n * every);
        }
    }
    stream_close(&s);
}

void flow_pass_echo(struct flow *flow)
{
    pass_echo(flow, make_frame(flow), FLOW_FRAME, 1);
}

void flow_pass_single(struct flow *flow)
{
    char payload[FLOW_MESSAGE_BYTES];

    memset(payload, 'p', sizeof payload);
    pass_echo(flow, grpc_slice_from_copied_buffer(payload, sizeof payload), 1, 1);
}

/* As long as the acknowledgement of one message. */
void flow_pass_few(struct flow *flow)
{
    const char ack[] = "\x12\x04\x12\x02\x80"; /* and the NUL: a number of two bytes */

    pass_echo(flow, grpc_slice_from_copied_buffer(ack, sizeof ack), 1, BASELINE_FEW);
}
