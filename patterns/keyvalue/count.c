/* Count: how many keys start with a prefix. One backend call, on a worker: it may take long. */
#include "patterns/keyvalue/keyvalue_priv.h"

static void count_reply(struct single *single, struct err err);

struct err count_check(const struct keyvalue *kv, struct arena *arena, struct slice prefix)
{
    return kv->plan.scan == NULL ? keyvalue_unsupported(NEED_SCAN)
                                 : check_prefix(kv, arena, prefix);
}

void keyvalue_count(struct call *call)
{
    const pb_count_request *request = call_request(call);
    bool prefixed =
        request->_prefix_case != PRISM__PATTERNS__KEYVALUE__COUNT_REQUEST___PREFIX__NOT_SET;
    struct single *single = single_new(call, count_reply);
    struct slice prefix = slice_str(prefixed ? request->prefix : NULL);
    struct err err = count_check(single->kv, call_arena(call), prefix);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        count_start(single, prefix);
}

static void count_reply(struct single *single, struct err err)
{
    pb_count_response response = PRISM__PATTERNS__KEYVALUE__COUNT_RESPONSE__INIT;

    if (err.code != ERR_OK) {
        call_fail(single->call, err);
        return;
    }
    response.count = (int64_t)single->count.count;
    call_reply(single->call, &response.base);
}
