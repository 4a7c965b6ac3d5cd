#include "patterns/messaging/retention.h"

#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/hash.h"

enum { BUCKETS = 256, LINES = 100, LINE_EVERY_MS = 60000 };

struct retention_entry {
    struct retention_entry *next;
    uint64_t again_ns; /* UINT64_MAX: never */
    bool keeps;
    uint64_t warned; /* hash of what the log says of it; 0: nothing */
    struct slice topic;
};

/* ---- before anything is served ---- */

void retention_check(struct backend_faults *faults, const char *slot,
                     const struct backend_type *backend)
{
    if (backend != NULL && backend->interfaces.stream == NULL && backend->interfaces.queue == NULL)
        backend_fault_add(faults, (struct backend_fault){
                                      .setting = "strict_retention",
                                      .other = slot,
                                      .text = "the backend delivers at most once and keeps nothing",
                                      .fix = "bind one with streams or queues, or remove it"});
}

/* ---- the book ---- */

void retention_book_init(struct retention_book *book, const char *namespace_name, const char *slot,
                         bool strict)
{
    *book = (struct retention_book){.namespace_name = namespace_name,
                                    .slot = slot,
                                    .strict = strict,
                                    .log = LOG_BUDGET(LINES, LINE_EVERY_MS),
                                    .seed = hash_seed()};
    pthread_mutex_init(&book->lock, NULL);
    arena_init(&book->memory, NULL);
}

void retention_book_clear(struct retention_book *book)
{
    pthread_mutex_destroy(&book->lock);
    arena_clear(&book->memory);
}

bool retention_is_lossy(const struct retention_book *book)
{
    return atomic_load(&book->lossy);
}

enum backend_ack retention_ack(const struct retention_book *book)
{
    int ack = atomic_load(&book->ack);

    return ack > 0 ? (enum backend_ack)ack : BACKEND_ACK_UNKNOWN;
}

static void learn_ack(struct retention_book *book, int ack)
{
    int known = atomic_load(&book->ack), next;

    do {
        if (known < 0)
            return;
        next = ack == BACKEND_ACK_UNKNOWN                    ? -1
               : known == BACKEND_ACK_UNKNOWN || ack < known ? ack
                                                             : known;
    } while (!atomic_compare_exchange_weak(&book->ack, &known, next));
}

static struct retention_entry **bucket_of(const struct retention_book *book, struct slice topic)
{
    return &book->buckets[hash_seeded(book->seed, topic) % BUCKETS];
}

static struct retention_entry *find(const struct retention_book *book, struct slice topic)
{
    struct retention_entry *entry = book->buckets != NULL ? *bucket_of(book, topic) : NULL;

    while (entry != NULL && !slice_equal(entry->topic, topic))
        entry = entry->next;
    return entry;
}

static struct retention_entry *find_or_add(struct retention_book *book, struct slice topic)
{
    struct retention_entry *entry = find(book, topic), **bucket;

    if (entry != NULL)
        return entry;
    if (book->n == RETENTION_TOPICS) {
        arena_clear(&book->memory);
        book->buckets = NULL;
        book->n = 0;
    }
    if (book->buckets == NULL)
        book->buckets = arena_array(&book->memory, BUCKETS, sizeof(struct retention_entry *));
    bucket = bucket_of(book, topic);
    entry = arena_zalloc(&book->memory, sizeof *entry);
    entry->topic = arena_copy(&book->memory, topic);
    entry->next = *bucket;
    *bucket = entry;
    book->n++;
    return entry;
}

enum retention_todo retention_todo(struct retention_book *book, struct slice topic, uint64_t now_ns)
{
    struct retention_entry *entry;
    enum retention_todo todo;

    pthread_mutex_lock(&book->lock);
    entry = find_or_add(book, topic);
    todo = entry->again_ns == UINT64_MAX ? RETENTION_KNOWN
           : entry->again_ns > now_ns    ? RETENTION_WAIT
                                         : RETENTION_ASK;
    if (todo == RETENTION_ASK)
        entry->again_ns = now_ns + (RETENTION_ANSWER_MS + RETENTION_AGAIN_MS) * NS_PER_MS;
    pthread_mutex_unlock(&book->lock);
    return todo;
}

bool retention_keeps(struct retention_book *book, struct slice topic)
{
    const struct retention_entry *entry;
    bool keeps;

    pthread_mutex_lock(&book->lock);
    entry = find(book, topic);
    keeps = entry != NULL && entry->keeps;
    pthread_mutex_unlock(&book->lock);
    return keeps;
}

/* ---- answers ---- */

static uint64_t again_ms(const struct stream_describe *describe)
{
    enum err_code code = describe->op.err.code;
    bool soon = code == ERR_OK ? !describe->found
                               : code == ERR_UNAVAILABLE || code == ERR_DEADLINE_EXCEEDED;

    return soon ? RETENTION_AGAIN_MS : RETENTION_UNTOLD_MS;
}

static const char *setting_of(const struct stream_describe *describe)
{
    return describe->retention_text != NULL ? describe->retention_text : "unknown";
}

/* What the log is to say once for each topic. 0: nothing. */
static uint64_t warning_of(const struct retention_book *book,
                           const struct stream_describe *describe)
{
    if (describe->op.err.code != ERR_OK || describe->retention != RETENTION_LOSSY)
        return 0;
    return hash_seeded(book->seed, slice_str(setting_of(describe))) | 1;
}

/* True: it is lossy, and in another way than the log says. An answer that failed changes nothing
 * in that. */
static bool keep(struct retention_book *book, const struct stream_describe *describe)
{
    bool answered = describe->op.err.code == ERR_OK;
    bool known = answered && describe->retention != RETENTION_UNKNOWN;
    uint64_t now_ns = describe->op.group->home->now_ns, warning = warning_of(book, describe);
    struct retention_entry *entry;
    bool news;

    pthread_mutex_lock(&book->lock);
    entry = find_or_add(book, describe->topic);
    entry->keeps = known && describe->retention == RETENTION_KEEPS_UNREAD;
    entry->again_ns = known ? UINT64_MAX : now_ns + again_ms(describe) * NS_PER_MS;
    news = warning != 0 && warning != entry->warned;
    if (known)
        entry->warned = warning;
    pthread_mutex_unlock(&book->lock);
    return news;
}

static void warn(struct retention_book *book, const struct stream_describe *describe,
                 struct slice group)
{
    const struct log_field fields[] = {LOG_S("namespace", book->namespace_name),
                                       LOG_S("slot", book->slot), LOG_B("topic", describe->topic),
                                       LOG_S("setting", setting_of(describe)),
                                       LOG_B("group", group)};

    log_limited(&book->log, LOG_WARN, "retention_lossy", fields, group.len > 0 ? 5 : 4);
}

/* Only what is known to keep is used. */
static struct err refusal(const struct stream_describe *describe, struct arena *arena)
{
    int len = describe->topic.len < 128 ? (int)describe->topic.len : 128;
    const char *topic = (const char *)describe->topic.data;

    if (describe->op.err.code != ERR_OK) {
        struct err err = describe->op.err;

        err.effect = EFFECT_NONE;
        err.text = arena_printf(arena,
                                "strict_retention: the retention of \"%.*s\" could not be asked "
                                "for: %s",
                                len, topic, err.text);
        return err;
    }
    if (describe->retention == RETENTION_LOSSY)
        return err_about(ERR_FAILED_PRECONDITION, "topic",
                         arena_printf(arena,
                                      "strict_retention: \"%.*s\" may lose messages that nobody "
                                      "has read: %s",
                                      len, topic, setting_of(describe)));
    return err_about(ERR_FAILED_PRECONDITION, "topic",
                     arena_printf(arena,
                                  "strict_retention: whether \"%.*s\" keeps what nobody has read "
                                  "is not known%s",
                                  len, topic,
                                  describe->found ? "" : ", for it is not there: create it first"));
}

struct err retention_answered(struct retention_book *book, const struct stream_describe *describe,
                              struct slice group, struct arena *arena)
{
    bool answered = describe->op.err.code == ERR_OK;

    if (answered && describe->retention == RETENTION_LOSSY)
        atomic_store(&book->lossy, true);
    if (answered && describe->found)
        learn_ack(book, describe->ack);
    if (keep(book, describe))
        warn(book, describe, group);
    if (!book->strict || (answered && describe->retention == RETENTION_KEEPS_UNREAD))
        return ERR_NONE;
    return refusal(describe, arena);
}
