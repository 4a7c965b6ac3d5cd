/* The stream that keeps the pages: found, or made; pages are read and written.
 *
 *   unknown -> STREAM.INFO: there       -> ready
 *                           not there   -> STREAM.CREATE: made -> ready, else refused
 *                           not allowed -> refused
 *                           no answer   -> unknown, asked again
 *
 * A page is the only message of its subject, JOURNAL.STREAM.CONSUMER. It is read from the stream's
 * leader: the copies of others may be older. */
#include "backends/nats/jet_priv.h"
#include "pool/worker.h"
#include "src/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    CHECK_MS = 100,
    SUBJECT_BYTES = 3 * JET_NAME_BYTES,
    STREAM_ABSENT = 10059,
    PAGE_ABSENT = 10037,
    PAGE_CHANGED = 10071,
    NAME_IN_USE = 10058,
    NO_PEERS = 10005,
    CLUSTER_AWAY = 10008,
    STREAM_OFFLINE = 10118,
};

struct page_request {
    struct nats_task task; /* first */
    struct jet_answer answer;
    struct job job;
    struct jet_listener *listener;
    struct page_request *next, **at;
    uint64_t begun_ns;
    bool sent; /* false: it waits until the stream is found */
    struct jet_page_request page;
    char subject[SUBJECT_BYTES];
};

static const char *name_of(const struct jet_store *store)
{
    return store->base.config.returns_stream;
}

int jet_journal_state(const struct jet_store *store)
{
    return atomic_load(&store->journal.state);
}

static void become(struct jet_store *store, int state, const char *why)
{
    if (atomic_exchange(&store->journal.state, state) == state)
        return;
    jet_listeners_wake(store);
    if (why == NULL)
        return;
    log_limited(&store->journal.log, LOG_WARN, "jetstream_returns_count",
                (const struct log_field[]){LOG_S("namespace", store->base.base.namespace_name),
                                           LOG_S("stream", name_of(store)), LOG_S("error", why)},
                3);
}

static void become_ready(struct jet_store *store);
static void become_refused(struct jet_store *store, const char *why);

/* ---- requests to the server ---- */

static natsStatus ask(struct jet_store *store, struct jet_answer *answer, const char *method,
                      const char *text)
{
    char subject[SUBJECT_BYTES], reply[JET_REPLY_BYTES];

    snprintf(subject, sizeof subject, "$JS.API.STREAM.%s.%s", method, name_of(store));
    jet_answer_name(store, answer, reply);
    jet_answer_expect(store, answer);
    return natsConnection_PublishRequestString(store->base.connection, subject, reply, text);
}

static struct jet_members members_of(natsMsg *message)
{
    const char *data = natsMsg_GetData(message);

    return jet_members_read(data, data + natsMsg_GetDataLength(message));
}

static void give_up(struct jet_store *store, struct page_request *request);

/* A cluster without a leader, say: the next request asks again. */
static bool is_passing(struct jet_store *store, const struct jet_members *members)
{
    if (members->err_code != NO_PEERS && members->err_code != CLUSTER_AWAY &&
        members->err_code != STREAM_OFFLINE)
        return false;
    while (store->journal.requests != NULL)
        give_up(store, store->journal.requests);
    return true;
}

/* ---- is it there? ---- */

static void made(struct jet_store *store, struct jet_answer *answer, natsMsg *message)
{
    struct jet_members members = members_of(message);

    (void)answer;
    if (members.err_code == 0 || members.err_code == NAME_IN_USE)
        become_ready(store);
    else if (!is_passing(store, &members))
        become_refused(store, "JetStream makes no such stream");
}

static void look_with(struct jet_store *store,
                      void (*come)(struct jet_store *, struct jet_answer *, natsMsg *),
                      const char *method, const char *text)
{
    struct jet_journal *journal = &store->journal;

    journal->answer.come = come;
    journal->asked_ns = clock_now_ns();
    if (ask(store, &journal->answer, method, text) != NATS_OK)
        store->base.write_failed = true;
}

static void make(struct jet_store *store)
{
    const struct nats_config *config = &store->base.config;
    char text[2 * JET_NAME_BYTES + 320];

    snprintf(text, sizeof text,
             "{\"name\":\"%s\",\"subjects\":[\"%s.>\"],\"retention\":\"limits\","
             "\"discard\":\"old\",\"storage\":\"%s\",\"num_replicas\":%llu,"
             "\"max_msgs_per_subject\":1,\"max_bytes\":%llu,\"max_age\":%llu}",
             name_of(store), name_of(store), config->stream_memory ? "memory" : "file",
             (unsigned long long)config->stream_replicas,
             (unsigned long long)config->returns_max_bytes,
             (unsigned long long)config->returns_max_age_s * 1000000000ull);
    look_with(store, made, "CREATE", text);
}

static void found(struct jet_store *store, struct jet_answer *answer, natsMsg *message)
{
    struct jet_members members = members_of(message);

    (void)answer;
    if (natsMsg_IsNoResponders(message))
        become_refused(store, "JetStream is not there");
    else if (members.err_code == STREAM_ABSENT)
        make(store);
    else if (members.err_code == 0)
        become_ready(store);
    else if (!is_passing(store, &members))
        become_refused(store, "JetStream does not tell of the stream");
}

void jet_journal_look(struct jet_store *store)
{
    if (jet_journal_state(store) == JET_JOURNAL_UNKNOWN && store->listeners != NULL &&
        store->base.connection != NULL && !store->journal.answer.waiting)
        look_with(store, found, "INFO", "");
}

void jet_journal_init(struct jet_store *store)
{
    store->journal.log = (struct log_budget)LOG_BUDGET(1, 60000);
    if (name_of(store) == NULL)
        atomic_store(&store->journal.state, JET_JOURNAL_REFUSED);
}

/* ---- the way home ---- */

static void come_home(struct job *job)
{
    struct page_request *request = CONTAINER_OF(job, struct page_request, job);
    struct jet_listener *listener = request->listener;
    struct jet_page_request page = request->page;

    free(request);
    listener->settlings--;
    jet_page_answered(listener, page);
    jet_listener_settled(listener);
}

static void go_home(struct page_request *request, enum jet_page_outcome outcome)
{
    if (request->page.text != NULL && outcome != JET_PAGE_DONE) {
        free(request->page.text);
        request->page.text = NULL;
    }
    request->page.outcome = outcome;
    worker_land(request->listener->subscription->home, &request->job);
}

static void unlist(struct page_request *request)
{
    *request->at = request->next;
    if (request->next != NULL)
        request->next->at = request->at;
}

static void give_up(struct jet_store *store, struct page_request *request)
{
    jet_answer_forget(store, &request->answer);
    unlist(request);
    go_home(request, JET_PAGE_FAILED);
}

/* ---- pages ---- */

static unsigned digit_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? (unsigned)(c - 'A')
           : c >= 'a' && c <= 'z' ? (unsigned)(c - 'a') + 26
           : c >= '0' && c <= '9' ? (unsigned)(c - '0') + 52
                                  : (c == '+' ? 62 : 63);
}

/* Base64, ended by NUL. The caller frees it. */
static char *decode(struct slice text)
{
    char *out = malloc(text.len + 1), *at = out;
    unsigned bits = 0, n = 0;

    if (out == NULL)
        abort();
    for (size_t i = 0; i < text.len && text.data[i] != '='; i++) {
        bits = (bits << 6 | digit_of((char)text.data[i])) & 0xffffff;
        n += 6;
        if (n < 8)
            continue;
        n -= 8;
        *at++ = (char)(bits >> n);
    }
    *at = '\0';
    return out;
}

static void on_answer(struct jet_store *store, struct jet_answer *answer, natsMsg *message)
{
    struct page_request *request = CONTAINER_OF(answer, struct page_request, answer);
    struct jet_members members = members_of(message);
    bool writes = request->page.text != NULL;

    unlist(request);
    free(request->page.text);
    request->page.text = NULL;
    if (natsMsg_IsNoResponders(message) || members.err_code == STREAM_ABSENT) {
        become(store, JET_JOURNAL_UNKNOWN, NULL); /* it was removed */
        jet_journal_look(store);
        go_home(request, JET_PAGE_FAILED);
    } else if (members.err_code != 0 && (writes || members.err_code != PAGE_ABSENT)) {
        go_home(request, members.err_code == PAGE_CHANGED ? JET_PAGE_CHANGED : JET_PAGE_FAILED);
    } else {
        request->page.revision = members.sequence;
        if (!writes && members.err_code == 0)
            request->page.text = decode(members.data);
        go_home(request, JET_PAGE_DONE);
    }
}

static natsStatus write_page(struct jet_store *store, struct page_request *request)
{
    char reply[JET_REPLY_BYTES], revision[24];
    natsMsg *message = NULL;
    natsStatus s;

    jet_answer_name(store, &request->answer, reply);
    jet_answer_expect(store, &request->answer);
    snprintf(revision, sizeof revision, "%llu", (unsigned long long)request->page.revision);
    s = natsMsg_Create(&message, request->subject, reply, request->page.text,
                       (int)strlen(request->page.text));
    if (s == NATS_OK)
        s = natsMsgHeader_Set(message, "Nats-Expected-Last-Subject-Sequence", revision);
    if (s == NATS_OK)
        s = natsConnection_PublishMsg(store->base.connection, message);
    natsMsg_Destroy(message);
    return s;
}

static natsStatus read_page(struct jet_store *store, struct page_request *request)
{
    char text[SUBJECT_BYTES + 32];

    snprintf(text, sizeof text, "{\"last_by_subj\":\"%s\"}", request->subject);
    return ask(store, &request->answer, "MSG.GET", text);
}

static void send(struct jet_store *store, struct page_request *request)
{
    natsStatus (*how)(struct jet_store *, struct page_request *) =
        request->page.text != NULL ? write_page : read_page;

    request->sent = true;
    if (how(store, request) == NATS_OK)
        return;
    store->base.write_failed = true;
    give_up(store, request);
}

static void become_ready(struct jet_store *store)
{
    struct page_request *next;

    become(store, JET_JOURNAL_READY, NULL);
    for (struct page_request *request = store->journal.requests; request != NULL; request = next) {
        next = request->next;
        if (!request->sent)
            send(store, request);
    }
}

static void become_refused(struct jet_store *store, const char *why)
{
    become(store, JET_JOURNAL_REFUSED, why);
    while (store->journal.requests != NULL)
        give_up(store, store->journal.requests);
}

static bool run_request(struct nats_store *base, struct nats_task *task)
{
    struct page_request *request = (struct page_request *)task;
    struct jet_store *store = jet_of(base);
    struct page_request **requests = &store->journal.requests;

    if (base->connection == NULL || base->write_failed ||
        jet_journal_state(store) == JET_JOURNAL_REFUSED) {
        go_home(request, JET_PAGE_FAILED);
        return false;
    }
    request->begun_ns = clock_now_ns();
    request->answer.come = on_answer;
    request->next = *requests;
    request->at = requests;
    if (request->next != NULL)
        request->next->at = &request->next;
    *requests = request;
    jet_journal_look(store);
    if (jet_journal_state(store) == JET_JOURNAL_READY)
        send(store, request);
    else if (!store->journal.answer.waiting)
        give_up(store, request);
    return false;
}

void jet_journal_ask(struct jet_listener *listener, struct jet_page_request page)
{
    struct jet_store *store = jet_store_of(&listener->instance->base);
    struct page_request *request = calloc(1, sizeof *request);

    if (request == NULL)
        abort();
    request->task.run = run_request;
    request->job.run = come_home;
    request->listener = listener;
    request->page = page;
    snprintf(request->subject, sizeof request->subject, "%s.%s.%s", name_of(store),
             listener->place.stream, listener->place.consumer);
    counter_add_shared(page.text != NULL ? &store->pages_written : &store->pages_read, 1);
    listener->settlings++;
    nats_store_put(&store->base, &request->task);
}

/* ---- connections, permissions, time ---- */

void jet_journal_lost(struct jet_store *store)
{
    jet_answer_forget(store, &store->journal.answer);
    if (name_of(store) != NULL) /* another login may be allowed more */
        become(store, JET_JOURNAL_UNKNOWN, NULL);
    while (store->journal.requests != NULL)
        give_up(store, store->journal.requests);
}

bool jet_journal_owns(const struct jet_store *store, const char *subject)
{
    static const char *const methods[] = {"INFO.", "CREATE.", "MSG.GET."};
    static const char api[] = "$JS.API.STREAM.";
    size_t len = name_of(store) != NULL ? strlen(name_of(store)) : 0;

    if (len == 0)
        return false;
    if (strncmp(subject, name_of(store), len) == 0 && subject[len] == '.')
        return true;
    if (strncmp(subject, api, sizeof api - 1) != 0)
        return false;
    subject += sizeof api - 1;
    for (unsigned i = 0; i < ARRAY_LEN(methods); i++) {
        if (strncmp(subject, methods[i], strlen(methods[i])) == 0 &&
            strcmp(subject + strlen(methods[i]), name_of(store)) == 0)
            return true;
    }
    return false;
}

void jet_journal_denied(struct jet_store *store, const char *subject)
{
    if (!jet_journal_owns(store, subject))
        return;
    jet_answer_forget(store, &store->journal.answer);
    become_refused(store, "NATS lets Prism's user not use it");
}

uint64_t jet_journal_tick(struct jet_store *store, uint64_t now_ns)
{
    struct jet_journal *journal = &store->journal;
    uint64_t patience_ns = store->base.config.ack_timeout_ms * NS_PER_MS;
    struct page_request *next;

    if (journal->requests == NULL && !journal->answer.waiting)
        return UINT64_MAX;
    if (now_ns < journal->check_ns)
        return journal->check_ns;
    for (struct page_request *request = journal->requests; request != NULL; request = next) {
        next = request->next;
        if (now_ns >= request->begun_ns + patience_ns)
            give_up(store, request);
    }
    if (journal->answer.waiting && now_ns >= journal->asked_ns + patience_ns) {
        jet_answer_forget(store, &journal->answer);
        jet_journal_look(store);
    }
    journal->check_ns = now_ns + CHECK_MS * NS_PER_MS;
    return journal->check_ns;
}
