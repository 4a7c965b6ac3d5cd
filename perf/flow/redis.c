/* hiredis, pipelined: XADD with 256 in flight, XREADGROUP of 500 with one XACK for all. Entries
 * have the fields that prismd writes. */
#include "perf/flow/flow.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 256, TAKE = 500 };

static redisContext *connect_to(const struct flow *flow)
{
    const char *colon = strrchr(flow->address, ':');
    redisContext *redis =
        colon ? redisConnect("127.0.0.1", (int)strtol(colon + 1, NULL, 10)) : NULL;

    if (redis == NULL || redis->err)
        flow_die("no connection to Redis");
    return redis;
}

static redisReply *answer(redisContext *redis, int type)
{
    redisReply *reply = NULL;

    if (redisGetReply(redis, (void **)&reply) != REDIS_OK || reply == NULL)
        flow_die("Redis: %s", redis->errstr);
    if (reply->type != type)
        flow_die("Redis: an unexpected reply: %s", reply->str ? reply->str : "");
    return reply;
}

void flow_publish_redis(struct flow *flow)
{
    redisContext *redis = connect_to(flow);
    char payload[FLOW_MESSAGE_BYTES];
    uint64_t sent = 0;

    memset(payload, 'p', sizeof payload);
    while (!flow_over(flow)) {
        while (sent - flow->done < DEPTH && flow_room(flow, sent) > 0) {
            redisAppendCommand(redis, "XADD %s * payload %b", flow->topic, payload, sizeof payload);
            sent++;
        }
        for (uint64_t i = sent - flow->done; i > 0; i--) {
            freeReplyObject(answer(redis, REDIS_REPLY_STRING));
            flow_done(flow, 1);
        }
    }
}

/* The identifiers of an answer to XREADGROUP, as the words of an XACK. */
static size_t settle(redisContext *redis, const redisReply *reply, const char **words,
                     size_t *bytes)
{
    const redisReply *entries = reply->element[0]->element[1];

    for (size_t i = 0; i < entries->elements; i++) {
        words[3 + i] = entries->element[i]->element[0]->str;
        bytes[3 + i] = entries->element[i]->element[0]->len;
    }
    redisAppendCommandArgv(redis, 3 + (int)entries->elements, words, bytes);
    freeReplyObject(answer(redis, REDIS_REPLY_INTEGER));
    return entries->elements;
}

void flow_consume_redis(struct flow *flow)
{
    redisContext *redis = connect_to(flow);
    const char *words[3 + TAKE] = {"XACK"}, *slash = strchr(flow->topic, '/');
    size_t bytes[3 + TAKE] = {4};
    char topic[256];

    if (slash == NULL)
        flow_die("TOPIC/GROUP");
    snprintf(topic, sizeof topic, "%.*s", (int)(slash - flow->topic), flow->topic);
    words[1] = topic;
    words[2] = slash + 1;
    bytes[1] = strlen(topic);
    bytes[2] = strlen(slash + 1);
    freeReplyObject(redisCommand(redis, "XGROUP CREATE %s %s 0", topic, slash + 1));
    while (!flow_over(flow)) {
        redisAppendCommand(redis, "XREADGROUP GROUP %s c COUNT %d STREAMS %s >", slash + 1, TAKE,
                           topic);
        redisReply *reply = answer(redis, REDIS_REPLY_ARRAY);
        size_t n = settle(redis, reply, words, bytes);

        freeReplyObject(reply);
        flow_done(flow, n);
    }
}
