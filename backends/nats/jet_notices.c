/* The stream that keeps the server's advisories about removed messages, and who is woken by them.
 * What they are for is told in jet_removed.c. */
#include "backends/nats/jet_priv.h"
#include "src/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#define ADVISORIES "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED."

enum {
    NAME_BYTES = JET_NAME_BYTES + 16,
    SUBJECT_BYTES = 4 * JET_NAME_BYTES,
    NO_SUCH_MESSAGE = 10043,
    NAME_IN_USE = 10058,
    SUBJECTS_OVERLAP = 10065, /* another stream takes these advisories */
    NOT_DELETED = 10057,      /* somebody else does just now */
};

static const char *name_of(const struct jet_store *store, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%s_REMOVED", store->base.config.returns_stream);
    return name;
}

bool jet_notices_own(const struct jet_store *store, const char *subject)
{
    char name[NAME_BYTES];

    return store->base.config.returns_stream != NULL &&
           strstr(subject, name_of(store, name)) != NULL;
}

/* ---- the control thread: the stream ---- */

static natsStatus make(struct jet_store *store, jsCtx *js, const char *name, jsErrCode *code)
{
    const struct nats_config *config = &store->base.config;
    char own[NAME_BYTES + 2];
    const char *subjects[] = {ADVISORIES ">", own};
    jsStreamConfig wanted;

    snprintf(own, sizeof own, "%s.>", name);
    jsStreamConfig_Init(&wanted);
    wanted.Name = name;
    wanted.Subjects = subjects;
    wanted.SubjectsLen = ARRAY_LEN(subjects);
    wanted.Storage = config->stream_memory ? js_MemoryStorage : js_FileStorage;
    wanted.Replicas = (int64_t)config->stream_replicas;
    wanted.MaxAge = (int64_t)(config->returns_max_age_s * 1000000000ull);
    wanted.MaxBytes = (int64_t)config->returns_max_bytes;
    wanted.MaxMsgsPerSubject = JET_MAX_ACK_PENDING;
    wanted.AllowDirect = true;
    return js_AddStream(NULL, js, &wanted, NULL, code);
}

/* NATS_INVALID_ARG: there is one that does not serve. */
static natsStatus find(struct jet_store *store, jsCtx *js, const char *name, jsErrCode *code)
{
    jsOptions options = jet_ask_options(store, store->notices.wait_ms);
    jsStreamInfo *info = NULL;
    natsStatus s = js_GetStreamInfo(&info, js, name, &options, code);

    if (s == NATS_OK && !info->Config->AllowDirect)
        s = NATS_INVALID_ARG;
    jsStreamInfo_Destroy(info);
    return s;
}

static void report(struct jet_store *store, const char *event, const char *why)
{
    char name[NAME_BYTES];

    log_limited(&store->notices.log, LOG_WARN, event,
                (const struct log_field[]){LOG_S("namespace", store->base.base.namespace_name),
                                           LOG_S("stream", name_of(store, name)),
                                           LOG_S("error", why)},
                3);
}

/* What is not permitted is not answered. The library keeps the last refusal. */
static bool is_denied(struct jet_store *store, natsStatus status, const char *what)
{
    char subject[SUBJECT_BYTES];

    return status == NATS_TIMEOUT &&
           nats_violated(&store->base, "Permissions Violation for Publish to \"", subject,
                         sizeof subject) &&
           strstr(subject, what) != NULL;
}

static void refuse(struct jet_store *store, const char *why)
{
    store->notices.state = JET_NOTICES_REFUSED;
    report(store, "jetstream_removals_untold", why);
}

/* What will not change while the connection stands is not asked again: nobody is told. All else
 * may be over in a moment. */
static void fail(struct jet_store *store, natsStatus status, jsErrCode code)
{
    char name[NAME_BYTES];

    if (is_denied(store, status, name_of(store, name))) {
        refuse(store, "NATS lets Prism's user not use it");
        return;
    }
    if (status == NATS_INVALID_ARG || (int)code == SUBJECTS_OVERLAP) {
        refuse(store, natsStatus_GetText(status));
        return;
    }
    if (status == NATS_TIMEOUT)
        store->notices.wait_ms = jet_ask_next(store, store->notices.wait_ms, false);
    store->notices.state = JET_NOTICES_UNKNOWN;
    store->notices.again_ns = clock_now_ns() + JET_NOTICES_AGAIN_MS * NS_PER_MS;
    if (status != NATS_CONNECTION_CLOSED && status != NATS_CONNECTION_DISCONNECTED)
        report(store, "jetstream_removals_late", natsStatus_GetText(status));
}

bool jet_notices_usable(struct jet_store *store, jsCtx *js)
{
    char name[NAME_BYTES];
    jsErrCode code = 0;
    natsStatus s;

    if (js == NULL || store->base.config.returns_stream == NULL ||
        store->notices.state == JET_NOTICES_REFUSED)
        return false;
    if (store->notices.state == JET_NOTICES_READY)
        return true;
    if (clock_now_ns() < store->notices.again_ns)
        return false;
    s = find(store, js, name_of(store, name), &code);
    if (s == NATS_NOT_FOUND) {
        code = 0;
        s = make(store, js, name, &code);
    }
    if ((int)code == NAME_IN_USE) { /* another process was faster */
        code = 0;
        s = find(store, js, name, &code);
    }
    if (s == NATS_OK)
        store->notices.state = JET_NOTICES_READY;
    else
        fail(store, s, code);
    return s == NATS_OK;
}

/* ---- the control thread: notices ---- */

/* Newer servers say why. Of others it is asked whether the message is there: another client may
 * have ended it. Not NATS_OK: that is not known. */
static natsStatus ask_whether_removed(const struct jet_store *store, jsCtx *js,
                                      const struct jet_place *place, const char *text,
                                      struct jet_notice *notice)
{
    jsOptions options = jet_ask_options(store, store->notices.wait_ms);
    natsMsg *message = NULL;
    natsStatus s;

    if (strstr(text, "\"reason\":\"") != NULL) {
        if (strstr(text, "\"reason\":\"Unacknowledged message was deleted\"") == NULL &&
            strstr(text, "\"reason\":\"Message deleted by stream limits\"") == NULL)
            notice->sequence = 0;
        return NATS_OK;
    }
    s = js_GetMsg(&message, js, place->stream, notice->sequence, &options, NULL);
    natsMsg_Destroy(message);
    if (s == NATS_OK)
        notice->sequence = 0;
    return s == NATS_NOT_FOUND ? NATS_OK : s;
}

/* The name of this member cannot stand in a text of JSON with a plain quote before it. */
static natsStatus read_notice(const struct jet_store *store, jsCtx *js,
                              const struct jet_place *place, natsMsg *message,
                              struct jet_notice *notice)
{
    static const char member[] = "\"stream_seq\":";
    int len = natsMsg_GetDataLength(message);
    char text[1024];
    const char *at;

    *notice = (struct jet_notice){.number = natsMsg_GetSequence(message)};
    snprintf(text, sizeof text, "%.*s", len, natsMsg_GetData(message));
    at = strstr(text, member);
    if (at != NULL && natsMsg_GetTime(message) >= place->created)
        notice->sequence = strtoull(at + sizeof member - 1, NULL, 10);
    return notice->sequence != 0 ? ask_whether_removed(store, js, place, text, notice) : NATS_OK;
}

/* A look ends with the first message that the server says nothing of: it may be slow for each. */
static void leave_one(struct jet_store *store, const struct jet_place *place,
                      struct jet_notices *notices, natsStatus status)
{
    char subject[JET_NAME_BYTES + 32];

    snprintf(subject, sizeof subject, "$JS.API.STREAM.MSG.GET.%s", place->stream);
    notices->again = true;
    if (status == NATS_TIMEOUT)
        store->notices.wait_ms = jet_ask_next(store, store->notices.wait_ms, false);
    if (is_denied(store, status, subject))
        refuse(store, "NATS lets Prism's user not read messages that may have been removed");
}

/* False: the look ends here. */
static bool read_all(struct jet_store *store, jsCtx *js, struct jet_listener *listener,
                     const char *subject)
{
    struct jet_notices *notices = listener->removed.notices;
    jsOptions asked = jet_ask_options(store, store->notices.wait_ms);
    char name[NAME_BYTES];
    uint64_t from = 1;

    name_of(store, name);
    while (notices->n < JET_NOTICES) {
        struct jet_notice *notice = &notices->items[notices->n];
        jsDirectGetMsgOptions options;
        natsMsg *message = NULL;
        natsStatus s;

        jsDirectGetMsgOptions_Init(&options);
        options.Sequence = from;
        options.NextBySubject = subject;
        s = js_DirectGetMsg(&message, js, name, &asked, &options);
        if (s != NATS_OK && s != NATS_NOT_FOUND)
            fail(store, s, 0);
        if (s != NATS_OK)
            return s == NATS_NOT_FOUND;
        s = read_notice(store, js, &listener->place, message, notice);
        from = notice->number + 1;
        natsMsg_Destroy(message);
        if (s != NATS_OK) {
            leave_one(store, &listener->place, notices, s);
            return false;
        }
        notices->n++;
    }
    return true;
}

static void look(struct jet_store *store, jsCtx *js, struct jet_listener *listener)
{
    const struct jet_place *place = &listener->place;
    char subject[SUBJECT_BYTES], name[NAME_BYTES];

    snprintf(subject, sizeof subject, ADVISORIES "%s.%s", place->stream, place->consumer);
    if (!read_all(store, js, listener, subject))
        return;
    snprintf(subject, sizeof subject, "%s.%s.%s", name_of(store, name), place->stream,
             place->consumer);
    read_all(store, js, listener, subject);
}

/* One whose removal is in doubt is ours: a gap that is told twice is better than one untold. One
 * that was refused, or asked for in vain, is still there; those after it wait for the next look. */
static void claim(struct jet_store *store, jsCtx *js, struct jet_notices *notices)
{
    char name[NAME_BYTES];

    name_of(store, name);
    for (size_t i = 0; i < notices->n && store->notices.state == JET_NOTICES_READY; i++) {
        jsErrCode code = 0;
        natsStatus s;

        if (!notices->items[i].wanted)
            continue;
        s = js_DeleteMsg(js, name, notices->items[i].number, NULL, &code);
        notices->items[i].ours = code == 0 && s != NATS_NO_RESPONDERS && !is_denied(store, s, name);
        if (s != NATS_OK && (int)code != NO_SUCH_MESSAGE && (int)code != NOT_DELETED)
            fail(store, s, code);
    }
}

/* Goes on where the attempt before stopped. */
static void put_back(struct jet_store *store, jsCtx *js, const struct jet_place *place,
                     struct jet_notices *notices)
{
    char subject[SUBJECT_BYTES], name[NAME_BYTES], text[160];

    snprintf(subject, sizeof subject, "%s.%s.%s", name_of(store, name), place->stream,
             place->consumer);
    for (; notices->n_put < notices->n_back; notices->n_put++) {
        jsErrCode code = 0;
        natsStatus s;

        snprintf(text, sizeof text,
                 "{\"stream_seq\":%llu,\"reason\":\"Unacknowledged message was deleted\"}",
                 (unsigned long long)notices->back[notices->n_put]);
        s = js_Publish(NULL, js, subject, text, (int)strlen(text), NULL, &code);
        if (s != NATS_OK) {
            fail(store, s, code);
            return;
        }
    }
}

/* A subscription that ends does not wait for the next look. */
static void put_back_now(struct jet_store *store, jsCtx *js, const struct jet_place *place,
                         struct jet_notices *notices)
{
    store->notices.again_ns = 0;
    if (jet_notices_usable(store, js))
        put_back(store, js, place, notices);
    if (notices->n_put == notices->n_back)
        return;
    if (store->notices.state != JET_NOTICES_REFUSED && clock_now_ns() < notices->until_ns)
        notices->again = true;
    else
        report(store, "jetstream_removals_untold", "what a subscription left was not put back");
}

void jet_notices_work(struct jet_store *store, jsCtx *js, struct jet_errand *errand)
{
    struct jet_listener *listener = CONTAINER_OF(errand, struct jet_listener, removed.errand);
    struct jet_notices *notices = listener->removed.notices;

    notices->again = false;
    if (notices->step == JET_PUTS_BACK) {
        put_back_now(store, js, &listener->place, notices);
        return;
    }
    if (jet_notices_usable(store, js)) {
        if (notices->step == JET_LOOKS)
            look(store, js, listener);
        else
            claim(store, js, notices);
    }
    if (store->notices.state == JET_NOTICES_READY && !notices->again)
        store->notices.wait_ms = jet_ask_next(store, 0, true);
    if (store->notices.state != JET_NOTICES_READY)
        notices->again = store->notices.state == JET_NOTICES_UNKNOWN;
}

/* ---- the store's thread: advisories wake ---- */

uint64_t jet_notices_hash(const char *subject)
{
    uint64_t hash = 14695981039346656037ull;

    for (; *subject != '\0'; subject++)
        hash = (hash ^ (uint8_t)*subject) * 1099511628211ull;
    return hash;
}

struct ear {
    struct nats_attachment attachment; /* first */
};

/* thread: the library's. */
static void on_advisory(struct nats_attachment *attachment, natsSubscription *subscription,
                        natsMsg *message)
{
    struct jet_store_notices *notices = &jet_of(attachment->store)->notices;
    const char *subject = natsMsg_GetSubject(message) + sizeof ADVISORIES - 1;
    uint64_t hash = jet_notices_hash(subject);
    unsigned i = 0;
    bool queued;

    (void)subscription;
    pthread_mutex_lock(&notices->lock);
    while (i < notices->n && notices->hashes[i] != hash)
        i++;
    if (i == notices->n && i < JET_NOTICED)
        notices->hashes[notices->n++] = hash;
    else if (i == notices->n)
        notices->many = true;
    queued = notices->queued;
    notices->queued = true;
    pthread_mutex_unlock(&notices->lock);
    natsMsg_Destroy(message);
    if (!queued)
        nats_store_put(attachment->store, &notices->task);
}

static bool run_noticed(struct nats_store *base, struct nats_task *task)
{
    struct jet_store_notices *notices = CONTAINER_OF(task, struct jet_store_notices, task);
    uint64_t hashes[JET_NOTICED];
    unsigned n;
    bool many;

    pthread_mutex_lock(&notices->lock);
    n = notices->n;
    memcpy(hashes, notices->hashes, sizeof hashes);
    many = notices->many;
    notices->n = 0;
    notices->many = notices->queued = false;
    pthread_mutex_unlock(&notices->lock);
    jet_listeners_noticed(jet_of(base), hashes, n, many);
    return false;
}

static void on_over(struct nats_attachment *attachment)
{
    free(attachment);
}

void jet_notices_init(struct jet_store_notices *notices)
{
    pthread_mutex_init(&notices->lock, NULL);
    notices->log = (struct log_budget)LOG_BUDGET(1, 60000);
    notices->task.run = run_noticed;
}

void jet_notices_clear(struct jet_store_notices *notices)
{
    pthread_mutex_destroy(&notices->lock);
}

/* Where that is not allowed, readers look when they begin. */
void jet_notices_open(struct jet_store *store)
{
    struct ear *ear;

    if (store->base.config.returns_stream == NULL)
        return;
    ear = calloc(1, sizeof *ear);
    if (ear == NULL)
        abort();
    ear->attachment =
        (struct nats_attachment){.store = &store->base, .message = on_advisory, .over = on_over};
    if (!nats_attach(&ear->attachment, ADVISORIES ">"))
        free(ear);
}
