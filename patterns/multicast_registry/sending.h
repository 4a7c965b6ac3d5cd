/* A multicast on its way: a walk over the registry in pages, each sent as one publish operation.
 *
 *   request.c    the request, checked
 *   multicast.c  the call, the answer, progress
 *   walk.c       lanes: a lane fetches a page, publishes it, tries the rest again, and goes on
 *   tally.c      what became of each delivery
 *   remember.c   what was sent under a message_id before
 *   record.c     that, as it lies in the store
 *   checkpoint.c how far it has come, written down on its way
 *   awaiting.c   who has confirmed, where the sender waits for that
 *   named.c      how many of those that a request names match
 *
 * Memory: LANES pages, whatever the number of targets, and of the deliveries that are listed one by
 * one as many as fit the answer. The payload is one block for all of them.
 *
 * Other calls of the worker run between any two steps, so a multicast to a million holds up one to
 * ten by no more than a page. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_SENDING_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_SENDING_H

#include "backends/kv.h"
#include "patterns/multicast_registry/multicast_priv.h"
#include "pool/timer.h"
#include "src/base/digest.h"

enum { LANES = 2, OUR_HEADERS = 6 /* at most: see make_headers */ };

struct sending;

/* Identities by name, and how many have been looked up. */
struct names {
    struct slice *items;
    size_t n, next;
};

struct lane {
    struct sending *sending;
    enum {
        LANE_IDLE,
        LANE_WANTS_PAGE, /* another lane is fetching, or a checkpoint is due */
        LANE_FETCHING,
        LANE_PACED, /* waits for its time, or for the time of another attempt */
        LANE_WAITS, /* for a permit */
        LANE_PUBLISHING,
        LANE_REPORTS /* waits until its results can be sent */
    } state;
    struct arena arena; /* of the page */
    struct registry_page page;
    bool asked; /* its entries are those that may be heard */
    struct registry_get get;
    struct names *from; /* of get */
    struct publish publish;
    struct outgoing *items;   /* made in the first attempt */
    struct slice *identities; /* of the items */
    size_t n;
    uint32_t attempt;
    uint64_t began_ns; /* by the worker's time */
    uint64_t clock_ns; /* likewise, by the clock: for the histogram */
    struct timer timer;
    struct semaphore_waiter permit;
    pb_delivery_result **results; /* of this page, for its progress */
    size_t n_results;
};

struct tally {
    int32_t targets, delivered, no_receiver, pending, skipped, failed, confirmed;
    struct err first; /* what the first failure was */
};

struct awaited;

struct awaiting {
    struct subscription subscription;
    const char *name;       /* of its topic, behind MULTICAST_CONFIRM_LEVEL */
    struct awaited **table; /* by hash of the identity */
    size_t waiting, early;  /* not confirmed; confirmed before their delivery was noted */
    bool walks, waits, answered;
};

enum { REMEMBERED_BYTES = 64 << 10 }; /* of the names of those that failed */
enum { OWNER_BYTES = 8, VERSION_BYTES = 64 /* of a record, at most: see kv_get */ };

struct remembered {
    bool claimed, overflowed; /* overflowed: more failed than are remembered */
    unsigned attempts;
    uint8_t owner[OWNER_BYTES];             /* tells its record from another attempt's */
    struct err err;                         /* of a claim whose outcome is unknown */
    struct slice version, open;             /* of our record; the record itself */
    uint64_t until_ns, keeping_ns, next_ns; /* until: then the lease is over */
    bool resumed;                           /* an earlier attempt has ended with its server */
    bool unsure, taken, ending; /* unsure: of the version; ending: once the write is over */
    bool holds, fresh;          /* lanes wait for a checkpoint; what is written now is a new one */
    int32_t noted;              /* targets, in the last checkpoint */
    struct timer renewal;
    struct arena memory, record; /* of a write; of `open`, once that is not the first */
    uint8_t version_room[VERSION_BYTES];
    struct digest digest;
    struct slice key;
    uint8_t *failed;
    size_t failed_bytes, n_failed;
    struct op_group group; /* of what is written, also for a client that has gone */
    struct kv_put_if put_if;
    struct kv_get get;
    struct kv_ttl_get ttl_get;
    struct kv_del del;
};

struct sending {
    struct call *call;
    struct multicast *multicast;
    const pb_multicast_request *request;
    bool streams; /* MulticastStream */
    bool kept;    /* in queues, by the durability slot */
    const struct message_sink *sink;
    struct backend *carrier; /* whose sink it is */
    struct op_group group;   /* with the multicast's own deadline */
    const struct filter *filter;
    const char *id;
    struct block *payload;
    struct header *headers;
    size_t n_headers, page_items;
    bool asks;             /* first whether anybody hears a target's topic */
    bool deaf;             /* most of the last page were heard by nobody */
    struct outgoing model; /* of every item: all but its topic, its key and its id */

    struct names named; /* those that the request names, each once; items NULL: all that match */
    struct names again; /* before all others: those that failed under this message_id */
    uint8_t after[REGISTRY_IDENTITY_BYTES];
    size_t after_len;
    bool fetching, broken; /* the walk; broken: the registry has failed */
    bool exhausted;        /* all but `again` have been looked up */
    bool answering;        /* the walk is over, and so is what the answer waits for */
    bool stopped;          /* nothing more is sent: the client is gone, or the time is over */
    bool gone;             /* the client, that is: nobody takes an answer */
    struct timer expiry;   /* of the multicast's own time */
    struct err err;        /* of the walk */
    struct lane lanes[LANES];
    uint64_t began_ns, paced_ns; /* paced: when the next page may go */
    uint64_t clock_ns;           /* as in a lane */

    struct tally tally;
    /* Those that are listed, for Multicast. */
    pb_delivery_result **failures, **others;
    size_t n_failures, failures_room, n_others, others_room;
    struct arena
        listed; /* holds them: counted for the call, and bounded by what there is room for */
    uint64_t listed_bytes, held_bytes;
    bool truncated, full;

    struct awaiting awaiting;
    struct remembered remembered;
    struct registry_count count;
    struct registry_get look; /* for the count of those that are named */
    struct arena looked;      /* of one slice of them */
    struct op sent;           /* of a progress message */
    bool progress_under_way;
    struct lane *reporting;
};

/* ---- request.c ---- */

struct err sending_read(struct sending *sending);
void sending_choose_page(struct sending *sending);

/* From one delivery to the next, where the request bounds its rate. */
uint64_t sending_each_ns(const struct sending *sending);

/* The error, for the answer: its texts no longer lie in the memory of a page. */
struct err sending_keep_err(struct sending *sending, struct err err);
const char *sending_random_id(struct arena *arena);

/* ---- walk.c ---- */

/* Runs until nothing is left to do; then calls sending_over, with which the call may end. */
void walk_start(struct sending *sending);

/* Nothing new is begun; what is under way is asked to end. */
void walk_stop(struct sending *sending, struct err why);

/* A lane's results have been taken. */
void walk_reported(struct lane *lane);

/* Lanes that checkpoint_holds has held take their pages. */
void walk_go_on(struct sending *sending);

/* An identity that was looked up is registered, and the filter holds. */
bool walk_matches(const struct sending *sending, const struct registry_entry *entry);

/* ---- named.c ---- */

/* Into sending->count; then comes sending_counted, or the call has failed. */
void named_count(struct sending *sending);

/* ---- tally.c ---- */

/* The outcome of one delivery. */
void tally_add(struct lane *lane, struct slice identity, const struct outgoing *item);
/* What is good is listed nowhere, and waited for by nobody: then it may be counted together. */
bool tally_only_counts(const struct sending *sending);
void tally_counts(struct sending *sending, size_t reached, size_t unreached);
/* Of those whom nobody hears. */
void tally_unheard(struct lane *lane, const struct slice *identities, size_t n);
bool tally_has_room(struct sending *sending); /* in `listed`, for one more */

/* ---- awaiting.c: await_confirmation ---- */

enum { AWAITED_MOST = 10000 }; /* targets of one multicast */

/* Opens the topic, then starts the walk. */
void awaiting_open(struct sending *sending);
/* The delivery is PENDING. result: where it is listed; NULL: nowhere. */
void awaiting_note(const struct lane *lane, struct slice identity, pb_delivery_result *result);
/* The walk is over. True: the answer waits, and comes by sending_answer. */
bool awaiting_waits(struct sending *sending);
/* The call is answered. False: its group is left when the topic is closed. */
bool awaiting_answered(struct sending *sending);
/* The client is gone. False: the walk is under way, and has to be stopped. */
bool awaiting_stop(struct sending *sending, struct err why);

/* ---- multicast.c ---- */

void sending_report(struct lane *lane);     /* ends in walk_reported */
void sending_over(struct sending *sending); /* the walk is */
void sending_answer(struct sending *sending);
void sending_counted(struct sending *sending); /* sending->count says how many match */

/* For remember.c: the sending begins; or nothing of it is left to be sent. */
void sending_begin(struct sending *sending);
void sending_answer_as_before(struct sending *sending);

#endif
