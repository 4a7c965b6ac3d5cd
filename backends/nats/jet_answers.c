/* One subscription of a connection for all answers, on the same subject for all connections. The
 * last token of an answer's subject is its number; one that comes too late finds nobody. */
#include "backends/nats/jet_priv.h"

#include <stdio.h>
#include <stdlib.h>

struct inbox {
    struct nats_attachment attachment; /* first */
};

void jet_answers_init(struct jet_answers *answers, const char *id)
{
    pthread_mutex_init(&answers->lock, NULL);
    snprintf(answers->inbox, sizeof answers->inbox, "_INBOX.%s", id);
}

void jet_answers_clear(struct jet_answers *answers)
{
    for (size_t i = 0; i < answers->n; i++)
        natsMsg_Destroy(answers->arrived[i]);
    free((void *)answers->arrived);
    pthread_mutex_destroy(&answers->lock);
}

/* ---- numbers ---- */

void jet_answer_name(struct jet_store *store, struct jet_answer *answer,
                     char reply[JET_REPLY_BYTES])
{
    struct jet_answers *answers = &store->answers;

    answer->number = atomic_fetch_add_explicit(&answers->numbers, 1, memory_order_relaxed) + 1;
    snprintf(reply, JET_REPLY_BYTES, "%s.%llx", answers->inbox, (unsigned long long)answer->number);
}

static struct jet_answer **bucket_of(struct jet_answers *answers, uint64_t number)
{
    return &answers->buckets[number % JET_ANSWERS];
}

void jet_answer_expect(struct jet_store *store, struct jet_answer *answer)
{
    struct jet_answer **bucket = bucket_of(&store->answers, answer->number);

    answer->next = *bucket;
    *bucket = answer;
    answer->waiting = true;
}

void jet_answer_forget(struct jet_store *store, struct jet_answer *answer)
{
    struct jet_answer **at = bucket_of(&store->answers, answer->number);

    if (!answer->waiting)
        return;
    while (*at != answer)
        at = &(*at)->next;
    *at = answer->next;
    answer->waiting = false;
}

static struct jet_answer *find(struct jet_answers *answers, natsMsg *message)
{
    const char *token = strrchr(natsMsg_GetSubject(message), '.');
    uint64_t number = token != NULL ? strtoull(token + 1, NULL, 16) : 0;
    struct jet_answer *answer = *bucket_of(answers, number);

    while (answer != NULL && answer->number != number)
        answer = answer->next;
    return answer;
}

/* ---- what comes ---- */

/* thread: the library's. */
static void on_message(struct nats_attachment *attachment, natsSubscription *subscription,
                       natsMsg *message)
{
    struct jet_answers *answers = &jet_of(attachment->store)->answers;
    bool queued;

    (void)subscription;
    pthread_mutex_lock(&answers->lock);
    if (answers->n == answers->room) {
        answers->room = answers->room == 0 ? 256 : answers->room * 2;
        answers->arrived =
            realloc((void *)answers->arrived, answers->room * sizeof *answers->arrived);
        if (answers->arrived == NULL)
            abort();
    }
    answers->arrived[answers->n++] = message;
    queued = answers->queued;
    answers->queued = true;
    pthread_mutex_unlock(&answers->lock);
    if (!queued)
        nats_store_put(attachment->store, &answers->task);
}

static bool run_arrived(struct nats_store *base, struct nats_task *task)
{
    struct jet_store *store = jet_of(base);
    struct jet_answers *answers = &store->answers;
    natsMsg **arrived;
    size_t n;

    (void)task;
    pthread_mutex_lock(&answers->lock);
    arrived = answers->arrived;
    n = answers->n;
    answers->arrived = NULL;
    answers->n = answers->room = 0;
    answers->queued = false;
    pthread_mutex_unlock(&answers->lock);
    for (size_t i = 0; i < n; i++) {
        struct jet_answer *answer = find(answers, arrived[i]);

        if (answer != NULL) {
            jet_answer_forget(store, answer);
            answer->come(store, answer, arrived[i]);
        }
        natsMsg_Destroy(arrived[i]);
    }
    free((void *)arrived);
    jet_window_pump(store);
    return false;
}

static void on_over(struct nats_attachment *attachment)
{
    free(attachment);
}

const char *jet_answers_open(struct jet_store *store)
{
    struct jet_answers *answers = &store->answers;
    struct inbox *inbox = calloc(1, sizeof *inbox);
    char pattern[64], subject[MESSAGE_TOPIC_BYTES + 1];

    if (inbox == NULL)
        abort();
    snprintf(pattern, sizeof pattern, "%s.*", answers->inbox);
    answers->task.run = run_arrived;
    inbox->attachment =
        (struct nats_attachment){.store = &store->base, .message = on_message, .over = on_over};
    if (!nats_attach(&inbox->attachment, pattern)) {
        free(inbox);
        return "NATS has closed the connection";
    }
    natsSubscription_SetPendingLimits(inbox->attachment.subscription, -1, -1);
    if (nats_ask(&store->base) != NATS_OK)
        return "NATS does not answer";
    if (nats_violated(&store->base, "Permissions Violation for Subscription to \"", subject,
                      sizeof subject))
        return "NATS lets Prism's user not subscribe to _INBOX.>";
    return NULL;
}
