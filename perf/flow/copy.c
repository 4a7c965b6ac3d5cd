/* What a multicast in one process cannot do without: a plain loop that copies the payload for each
 * of N queues. A queue holds one message; the next one replaces it. TOPIC is N. */
#include "perf/flow/flow.h"

#include <stdlib.h>
#include <string.h>

struct item {
    struct item *next;
    uint64_t number;
    char payload[FLOW_MESSAGE_BYTES];
};

struct queue {
    struct item *head;
    uint32_t length, dropped;
};

static void put(struct queue *queue, const char *payload, uint64_t number)
{
    struct item *item = malloc(sizeof *item);

    if (item == NULL)
        flow_die("no memory");
    memcpy(item->payload, payload, FLOW_MESSAGE_BYTES);
    item->number = number;
    item->next = NULL;
    if (queue->head != NULL) {
        free(queue->head);
        queue->length--;
        queue->dropped++;
    }
    queue->head = item;
    queue->length++;
}

void flow_copy(struct flow *flow)
{
    uint64_t n = strtoull(flow->topic, NULL, 10);
    struct queue *queues = calloc(n, sizeof *queues);
    char payload[FLOW_MESSAGE_BYTES];

    if (queues == NULL || n == 0)
        flow_die("TOPIC is the number of queues");
    memset(payload, 'p', sizeof payload);
    while (!flow_over(flow)) {
        uint64_t some = flow_room(flow, flow->done);

        if (some > n)
            some = n;
        for (uint64_t i = 0; i < some; i++)
            put(&queues[i], payload, flow->done + i);
        flow_done(flow, some);
    }
}
