/* What a Multicast asks for, checked before anything is sent, and what is sent. */
#include "patterns/check.h"
#include "patterns/multicast_registry/filter.h"
#include "patterns/multicast_registry/sending.h"
#include "patterns/name_set.h"
#include "patterns/need.h"
#include "src/base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { ID_RANDOM_BYTES = 16, TIME_TEXT = 24, PACED_SHARE = 10 };

const char *sending_random_id(struct arena *arena)
{
    uint8_t bytes[ID_RANDOM_BYTES];
    char *id = arena_alloc(arena, 2 * sizeof bytes + 1);

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        abort(); /* the kernel's generator is ready from early boot on */
    for (size_t i = 0; i < sizeof bytes; i++) {
        id[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        id[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    id[2 * sizeof bytes] = '\0';
    return id;
}

static struct err unmet(enum multicast_need need)
{
    return need_unmet(multicast_need_of(need));
}

/* Kept messages are what the namespace is for, if it has a slot for them. */
static void choose_way(struct sending *s)
{
    const struct multicast_plan *plan = &s->multicast->plan;

    s->kept = plan->kept_sink != NULL &&
              s->request->delivery != PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_MOST_ONCE;
    s->sink = s->kept ? plan->kept_sink : &plan->topic->sink;
    s->carrier = s->kept ? s->multicast->durability : s->multicast->messaging;
}

static struct err check_modes(const pb_multicast_request *request)
{
    if (!check_is_known(&prism__patterns__schemas__delivery_semantics__descriptor,
                        (int)request->delivery))
        return err_about(ERR_INVALID_ARGUMENT, "delivery",
                         "delivery has to be a number of DeliverySemantics");
    if (!check_is_known(&prism__patterns__multicast_registry__results_mode__descriptor,
                        (int)request->results))
        return err_about(ERR_INVALID_ARGUMENT, "results",
                         "results has to be a number of ResultsMode");
    return ERR_NONE;
}

/* What the bound backends cannot do is refused, not left out. */
static struct err check_abilities(const struct sending *s)
{
    const struct multicast_plan *plan = &s->multicast->plan;
    const pb_multicast_request *request = s->request;

    if (request->delivery > PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_LEAST_ONCE)
        return unmet(NEED_IDEMPOTENCE);
    if (!s->kept &&
        (request->delivery == PRISM__PATTERNS__SCHEMAS__DELIVERY_SEMANTICS__AT_LEAST_ONCE ||
         request->_expires_after_ms_case != 0))
        return unmet(NEED_DURABILITY);
    if (request->collapse_key[0] != '\0' && s->sink->bare)
        return unmet(NEED_COLLAPSING);
    if (request->await_confirmation && (!plan->confirms || !s->kept || s->streams))
        return unmet(NEED_CONFIRMATION);
    if (request->n_metadata > 0 && s->sink->bare)
        return unmet(NEED_HEADERS);
    return ERR_NONE;
}

static struct err check_numbers(const struct multicast *multicast,
                                const pb_multicast_request *request)
{
    if (request->payload.len > multicast->plan.max_payload_bytes)
        return err_about(ERR_INVALID_ARGUMENT, "payload",
                         "the payload is larger than max_value_bytes of the capabilities");
    if (strlen(request->message_id) > MULTICAST_ID_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "message_id", "message_id has at most 256 bytes");
    if (request->_timeout_ms_case != 0 && request->timeout_ms < 1)
        return err_about(ERR_INVALID_ARGUMENT, "timeout_ms", "timeout_ms has to be 1 or more");
    if (request->await_confirmation && request->_timeout_ms_case == 0)
        return err_about(ERR_INVALID_ARGUMENT, "timeout_ms",
                         "await_confirmation needs timeout_ms: how long to wait");
    if (request->_max_targets_case != 0 && request->max_targets < 1)
        return err_about(ERR_INVALID_ARGUMENT, "max_targets", "max_targets has to be 1 or more");
    if (request->_rate_per_second_case != 0 && request->rate_per_second < 1)
        return err_about(ERR_INVALID_ARGUMENT, "rate_per_second",
                         "rate_per_second has to be 1 or more");
    if (request->_expires_after_ms_case != 0 && request->expires_after_ms < 1)
        return err_about(ERR_INVALID_ARGUMENT, "expires_after_ms",
                         "expires_after_ms has to be 1 or more");
    if (strlen(request->collapse_key) > MULTICAST_COLLAPSE_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "collapse_key",
                         "collapse_key has at most 256 bytes");
    return ERR_NONE;
}

static struct err read_names(struct sending *s)
{
    struct arena *arena = call_arena(s->call);
    size_t n = s->request->n_identities;
    struct name_set set = {.n = n};
    struct err err = check_items(n, REGISTRY_BATCH, arena, "identities");

    if (err.code != ERR_OK || n == 0)
        return err;
    set.names = arena_array(arena, n, sizeof *set.names);
    for (size_t i = 0; i < n; i++) {
        err = convert_identity(s->request->identities[i], NULL, &set.names[i]);
        if (err.code != ERR_OK)
            return check_at_item(err, arena, "identities", i);
    }
    name_set_make(&set);
    s->named.items = set.names;
    s->named.n = set.n;
    return ERR_NONE;
}

/* What the backend would refuse for each target is refused once, before anything is sent. */
static struct err check_sent(const struct sending *s, size_t header_bytes)
{
    uint64_t most = check_most(s->sink, s->carrier);

    if (most == 0 ||
        s->request->payload.len + header_bytes <= check_fitting_message((uint32_t)most))
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "payload",
                     "payload and metadata are larger together than max_value_bytes of the "
                     "capabilities");
}

/* Received as it is, and, as a dead letter, with its headers twice. */
static struct err check_delivered(const struct multicast *multicast,
                                  const pb_multicast_request *request, size_t header_bytes)
{
    enum { HEADER_FIELDS = 32 }; /* what stands around name and value, twice */
    uint64_t most = check_fitting_message(multicast->binding.max_message_bytes);

    if (request->payload.len + 2 * header_bytes + HEADER_FIELDS * request->n_metadata <= most)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "payload",
                     "payload and twice the metadata have to fit a message: together they are "
                     "larger than limits.max_message_bytes less 8 KiB");
}

static struct err check_headers(const struct sending *s, struct arena *arena)
{
    const pb_multicast_request *request = s->request;
    size_t bytes = 0;
    struct err err;

    if (request->n_metadata > MESSAGE_HEADERS - OUR_HEADERS)
        return err_about(ERR_INVALID_ARGUMENT, "metadata", "a message has at most 250 headers");
    for (size_t i = 0; i < request->n_metadata; i++) {
        struct slice name = slice_str(request->metadata[i]->name);

        if (name.len == 0 || slice_starts_with(name, slice_str(MULTICAST_HEADER_OURS)))
            return check_at_item(err_about(ERR_INVALID_ARGUMENT, "name",
                                           "a header's name is neither empty nor begins with "
                                           "\"prism-\""),
                                 arena, "metadata", i);
        bytes += strlen(request->metadata[i]->name) + request->metadata[i]->value.len;
    }
    bytes += TIME_TEXT + strlen(request->content_type != NULL ? request->content_type : "");
    if (bytes > MESSAGE_HEADER_BYTES / 2)
        return err_about(ERR_INVALID_ARGUMENT, "metadata", "headers have at most 32 KiB together");
    if ((err = check_sent(s, bytes - TIME_TEXT)).code != ERR_OK)
        return err;
    return check_delivered(s->multicast, request, bytes - TIME_TEXT);
}

struct err sending_keep_err(struct sending *s, struct err err)
{
    struct arena *arena = call_arena(s->call);

    if (err.text != NULL)
        err.text = arena_strdup(arena, slice_str(err.text));
    if (err.subject != NULL)
        err.subject = arena_strdup(arena, slice_str(err.subject));
    return err;
}

/* As many as one publish operation takes, and a tenth of a second's at a bounded rate. */
void sending_choose_page(struct sending *s)
{
    const struct message_sink *sink = s->sink;
    size_t bytes = s->request->payload.len + 2 * MESSAGE_TOPIC_BYTES + strlen(s->id);

    for (size_t i = 0; i < s->n_headers; i++)
        bytes += s->headers[i].name.len + s->headers[i].value.len;
    s->page_items = REGISTRY_PAGE_ITEMS;
    if (s->page_items > sink->max_items)
        s->page_items = sink->max_items;
    if (s->page_items > sink->max_frame_bytes / bytes)
        s->page_items = (size_t)(sink->max_frame_bytes / bytes);
    if (s->request->_rate_per_second_case != 0 &&
        s->page_items > (size_t)s->request->rate_per_second / PACED_SHARE)
        s->page_items = (size_t)s->request->rate_per_second / PACED_SHARE;
    if (s->page_items == 0)
        s->page_items = 1;
}

uint64_t sending_each_ns(const struct sending *s)
{
    return NS_PER_S / (unsigned)s->request->rate_per_second;
}

struct err sending_read(struct sending *s)
{
    struct arena *arena = call_arena(s->call);
    struct err err;

    choose_way(s);
    err = check_modes(s->request);
    if (err.code == ERR_OK)
        err = check_numbers(s->multicast, s->request);
    if (err.code == ERR_OK)
        err = check_abilities(s);
    if (err.code == ERR_OK)
        err = check_headers(s, arena);
    if (err.code == ERR_OK)
        err = read_names(s);
    if (err.code == ERR_OK)
        err =
            multicast_filter(arena, s->request->filter, &s->multicast->settings.filter, &s->filter);
    return err;
}
