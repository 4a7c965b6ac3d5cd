#include "backends/nats/nats_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_names(natsMsg *message, size_t n)
{
    const char **names;
    int found = 0;

    assert_int_equal(natsMsgHeader_Keys(message, &names, &found), NATS_OK);
    assert_int_equal(found, n);
    free((void *)names);
}

static natsMsg *message_of(const struct header *headers, size_t n)
{
    const struct outgoing item = {
        .key = slice_str("k"), .id = slice_str("i"), .headers = headers, .n_headers = n};
    natsMsg *message;

    assert_int_equal(natsMsg_Create(&message, "t", NULL, "x", 1), NATS_OK);
    assert_int_equal(nats_headers_add(message, &item), NATS_OK);
    return message;
}

/* A dead letter has the headers of a message that any client has written. */
static void test_any_number_of_headers(void **state)
{
    enum { MANY = 5000 };
    struct arena arena;
    struct header *headers;
    natsMsg *message;

    (void)state;
    arena_init(&arena, NULL);
    headers = arena_array(&arena, MANY, sizeof *headers);
    for (unsigned i = 0; i < MANY; i++)
        headers[i] = (struct header){.name = slice_str(arena_printf(&arena, "h%04u", i)),
                                     .value = slice_str("v")};
    message = message_of(headers, MANY);
    assert_names(message, MANY + 2);
    natsMsg_Destroy(message);
    arena_clear(&arena);
}

static void test_names_that_begin_alike(void **state)
{
    const struct header headers[] = {{slice_str("x-identity"), slice_str("who")},
                                     {slice_str("x-id"), slice_str("what")},
                                     {slice_str("abc"), slice_str("long")},
                                     {slice_str("a"), slice_str("short")}};
    natsMsg *message = message_of(headers, ARRAY_LEN(headers));

    (void)state;
    assert_names(message, ARRAY_LEN(headers) + 2);
    natsMsg_Destroy(message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_of_headers),
        cmocka_unit_test(test_names_that_begin_alike),
    };

    if (nats_Open(-1) != NATS_OK) /* messages are freed by the library's own threads */
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
