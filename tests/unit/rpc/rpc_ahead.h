/* A handler of the tests of src/rpc that sends ahead: as many messages as the request's value has
 * bytes, with 1, 2, 3 .. as `code`. The first one has as many bytes of text as the key says, the
 * others AHEAD_TEXT; the second twice the first, when the value does not begin with 0. Included by
 * rpc_service.h. */
#ifndef PRISM_TESTS_UNIT_RPC_AHEAD_H
#define PRISM_TESTS_UNIT_RPC_AHEAD_H

enum { AHEAD_TEXT = 64 * 1024 };

struct ahead_send {
    struct op op;
    struct ahead *ahead;
};

struct ahead {
    struct call *call;
    struct ahead_send sends[CALL_SENDS];
    size_t first_bytes;
    bool larger;          /* the second one, twice as large */
    int last, next, done; /* to be sent, sent, taken or failed */
    struct err err;
};

static _Atomic int ahead_sent, ahead_taken, ahead_failed;

static void ahead_done(struct op *op);

static void ahead_send(struct ahead *a)
{
    Response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    size_t bytes = a->next == 0                ? a->first_bytes
                   : a->next == 1 && a->larger ? 2 * a->first_bytes
                                               : AHEAD_TEXT;
    struct ahead_send *send = &a->sends[a->next % CALL_SENDS];
    char *text = memset(malloc(bytes + 1), 'a', bytes + 1);

    text[bytes] = '\0';
    response._error_case = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___ERROR_ERROR;
    response.error = text;
    response.code = ++a->next;
    send->ahead = a;
    call_send(a->call, &response.base, &send->op, ahead_done);
    free(text);
    atomic_fetch_add(&ahead_sent, 1);
}

static void ahead_go_on(struct ahead *a)
{
    while (a->err.code == ERR_OK && a->next < a->last && a->next - a->done < CALL_SENDS &&
           (a->next == a->done || call_sends_ahead(a->call)))
        ahead_send(a);
    if (a->done < a->next)
        return;
    if (a->err.code != ERR_OK)
        call_fail(a->call, a->err);
    else
        call_close(a->call);
}

static void ahead_done(struct op *op)
{
    struct ahead_send *send = CONTAINER_OF(op, struct ahead_send, op);
    struct ahead *a = send->ahead;

    if (send != &a->sends[a->done++ % CALL_SENDS])
        abort(); /* they are done in their order */
    if (op->err.code != ERR_OK)
        a->err = op->err;
    else if (a->err.code != ERR_OK)
        abort(); /* nothing is taken behind what failed */
    atomic_fetch_add(op->err.code == ERR_OK ? &ahead_taken : &ahead_failed, 1);
    ahead_go_on(a);
}

static void send_ahead(struct call *call)
{
    const Request *request = call_request(call);
    struct ahead *a = arena_zalloc(call_arena(call), sizeof *a);

    a->call = call;
    a->first_bytes = strtoul(request->key, NULL, 10);
    a->larger = request->value.data[0] != 0;
    a->last = (int)request->value.len;
    ahead_go_on(a);
}

#endif
