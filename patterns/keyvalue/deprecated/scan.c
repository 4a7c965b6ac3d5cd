/* The deprecated KeyValueScanInterface: one message a key, no cursor, so a scan goes to its limit
 * or to the end.
 *
 * happy path   scan -> scan.c reads a page -> send_page -> next_item -> item_sent -> next_item ..
 *              -> scan_page_sent */
#include "patterns/keyvalue/scan.h"
#include "patterns/keyvalue/deprecated/deprecated.h"

#include "src/base/container.h"

static void scan_start(struct call *call, const char *prefix, int32_t limit, bool with_values);
static void send_page(struct scan *scan);
static void next_item(struct scan *scan);
static void send_item(struct scan *scan, const struct kv_scan_item *item);
static void item_sent(struct op *op);

/* ---- Scan, ScanKeys ---- */

static void scan(struct call *call)
{
    const old_scan_request *request = call_request(call);

    scan_start(call, request->prefix, request->limit, true);
}

static void scan_keys(struct call *call)
{
    const old_scan_keys_request *request = call_request(call);

    scan_start(call, request->prefix, request->limit, false);
}

static void scan_start(struct call *call, const char *prefix, int32_t limit, bool with_values)
{
    struct scan *scan = scan_new(call, prefix, NULL);

    if (scan == NULL)
        return;
    if (limit < 0) {
        call_fail(call, err_about(ERR_INVALID_ARGUMENT, "limit",
                                  "limit has to be 0, for no limit, or more"));
        return;
    }
    scan->keys_left = limit == 0 ? UINT64_MAX : (uint64_t)limit;
    scan->bytes_left = UINT64_MAX;
    scan->page.with_values = with_values;
    scan->send_page = send_page;
    scan_run(scan);
}

static void send_page(struct scan *scan)
{
    next_item(scan);
}

static void next_item(struct scan *scan)
{
    if (scan->at == scan->page.n)
        scan_page_sent(scan);
    else
        send_item(scan, &scan->page.items[scan->at++]);
}

static void send_item(struct scan *scan, const struct kv_scan_item *item)
{
    old_scan_response with_value = PRISM__INTERFACES__KEYVALUE__SCAN_RESPONSE__INIT;
    old_key_response key_only = PRISM__INTERFACES__KEYVALUE__KEY_RESPONSE__INIT;
    const ProtobufCMessage *message = scan->page.with_values ? &with_value.base : &key_only.base;
    struct err err = retrieve_check_size(scan->kv, call_arena(scan->call), item->value);

    if (err.code != ERR_OK) {
        call_fail(scan->call, err);
        return;
    }
    with_value.key = key_only.key = arena_strdup(scan_page_memory(scan), item->key);
    with_value.value = pb_bytes(item->value);
    call_send(scan->call, message, &scan->sent, item_sent);
}

static void item_sent(struct op *op)
{
    struct scan *scan = CONTAINER_OF(op, struct scan, sent);

    if (op->err.code != ERR_OK)
        call_fail(scan->call, op->err);
    else
        next_item(scan);
}

/* ---- Count ---- */

static void count_reply(struct single *single, struct err err)
{
    old_count_response response = PRISM__INTERFACES__KEYVALUE__COUNT_RESPONSE__INIT;

    if (err.code != ERR_OK) {
        call_fail(single->call, err);
        return;
    }
    response.count = (int64_t)single->count.count;
    call_reply(single->call, &response.base);
}

static void count(struct call *call)
{
    const old_count_request *request = call_request(call);
    struct single *single = single_new(call, count_reply);
    struct slice prefix = slice_str(request->prefix);
    struct err err = count_check(single->kv, call_arena(call), prefix);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        count_start(single, prefix);
}

/* ---- table ---- */

#define SCAN "KeyValueScanInterface"

static const struct method methods[] = {
    OLD_METHOD(SCAN, "Scan", METHOD_SERVER_STREAM, scan_request, scan_response, scan, "Scan"),
    OLD_METHOD(SCAN, "ScanKeys", METHOD_SERVER_STREAM, scan_keys_request, key_response, scan_keys,
               "Scan"),
    OLD_METHOD(SCAN, "Count", METHOD_UNARY, count_request, count_response, count, "Count"),
};

const struct service keyvalue_old_scan = {
    .name = "prism.interfaces.keyvalue.KeyValueScanInterface",
    .pattern = "keyvalue",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};
