/* The client library's errors as ours. */
#include "backends/kafka/kafka_priv.h"

struct err kafka_unavailable(void)
{
    struct err err = err_make(ERR_UNAVAILABLE, "not connected to Kafka; nothing was sent");

    err.retry_after_ms = KAFKA_RETRY_MS;
    return err;
}

struct err kafka_check_topic(struct slice topic)
{
    static const char allowed[] = ".-_";

    for (size_t i = 0; i < topic.len; i++) {
        char c = (char)topic.data[i];
        bool named = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!named && (c == '\0' || strchr(allowed, c) == NULL))
            return err_about(ERR_INVALID_ARGUMENT, "topic",
                             "topics of Kafka are made of letters, digits, '.', '-' and '_'");
    }
    if (slice_equal(topic, slice_str(".")) || slice_equal(topic, slice_str("..")))
        return err_about(ERR_INVALID_ARGUMENT, "topic", "this is no name for a topic of Kafka");
    return ERR_NONE;
}

static struct err with_delay(struct err err)
{
    err.retry_after_ms = KAFKA_RETRY_MS;
    return err;
}

struct err kafka_request_err(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return ERR_NONE;
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return err_about(
            ERR_NOT_FOUND, "topic",
            "Kafka has no such topic or partition: make it, or see auto_create_topics");
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return err_about(ERR_INVALID_ARGUMENT, "topic", "Kafka takes no topic of this name");
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return err_make(ERR_PERMISSION_DENIED, "Kafka does not allow this for the topic");
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return err_make(ERR_PERMISSION_DENIED, "Kafka does not allow this for the group");
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return with_delay(err_about(ERR_RESOURCE_EXHAUSTED, "max_buffer_bytes",
                                    "too many messages wait for Kafka"));
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP:
    case RD_KAFKA_RESP_ERR_GROUP_SUBSCRIBED_TO_TOPIC:
        return err_about(ERR_FAILED_PRECONDITION, "consumer_group",
                         "the group has members in other processes");
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
        return with_delay(err_make(ERR_UNAVAILABLE, "too few replicas of the partition are in "
                                                    "sync; nothing was written"));
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
        return with_delay(err_make(ERR_UNAVAILABLE, "Kafka did not answer in time"));
    default:
        return with_delay(
            err_make(ERR_UNAVAILABLE, "Kafka cannot be reached, or cannot do it now"));
    }
}

struct err kafka_message_err(rd_kafka_resp_err_t code, bool unknown)
{
    struct err err;

    switch (code) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
        return err_about(ERR_INVALID_ARGUMENT, "payload", "larger than the topic allows");
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
        return err_about(ERR_INVALID_ARGUMENT, "payload",
                         "the broker refuses this message; a compacted topic needs keys");
    default:
        break;
    }
    err = kafka_request_err(code);
    if (err.code == ERR_OK || err.code == ERR_FAILED_PRECONDITION)
        err = err_make(ERR_UNAVAILABLE, "Kafka did not take the message");
    if (unknown && err.code == ERR_UNAVAILABLE)
        err = err_lost(
            err_make(ERR_UNAVAILABLE, "the answer was lost: the message may have been written"));
    return err;
}

bool kafka_is_hopeless(rd_kafka_resp_err_t code)
{
    enum err_code ours = kafka_request_err(code).code;

    return ours == ERR_NOT_FOUND || ours == ERR_PERMISSION_DENIED || ours == ERR_INVALID_ARGUMENT;
}
