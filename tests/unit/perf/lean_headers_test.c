/* perf/load/lean_headers.h: the header block is HPACK that any peer reads, spelt out once. */
#include "perf/load/lean_headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { FLAG_END_HEADERS = 4, FRAME_HEADERS = 1, FRAME_DATA = 0 };

static const uint8_t emitted[LEAN_FRAME_HEAD + 3] = {
    0, 0, 3, FRAME_HEADERS, FLAG_END_HEADERS, 1, 2, 3, 4, 0x83, 0x86, 0x84};

static const char path[] = "/package.Service/Method";
static const char other_path[] = "/package.Service/Other";

/* A reader of the few forms of HPACK that occur, with a dynamic table; text without Huffman coding.
 */
struct reader {
    char dynamic[16][300]; /* "name: value", newest first */
    unsigned count;
    char list[1024]; /* fields of the last block, a line each */
};

static const char *static_name(unsigned index)
{
    switch (index) {
    case 1:
        return ":authority";
    case 4:
        return ":path";
    case 31:
        return "content-type";
    case 58:
        return "user-agent";
    default:
        fail_msg("unexpected static field %u", index);
        return "";
    }
}

static const uint8_t *read_text(const uint8_t *at, char *text)
{
    size_t bytes = *at++;

    assert_true(bytes < 127);
    memcpy(text, at, bytes);
    text[bytes] = '\0';
    return at + bytes;
}

static const uint8_t *read_literal(struct reader *r, const uint8_t *at)
{
    char name[128], value[128];
    unsigned index = *at++ & 0x3f;

    if (index == 0)
        at = read_text(at, name);
    else
        snprintf(name, sizeof name, "%s", static_name(index));
    at = read_text(at, value);
    memmove(r->dynamic[1], r->dynamic[0], sizeof r->dynamic - sizeof r->dynamic[0]);
    snprintf(r->dynamic[0], sizeof r->dynamic[0], "%s: %s", name, value);
    r->count++;
    return at;
}

static void read_frame(struct reader *r, const uint8_t *frame, size_t bytes)
{
    const uint8_t *at = frame + LEAN_FRAME_HEAD, *end = frame + bytes;
    size_t used = 0;

    assert_int_equal((size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2],
                     bytes - LEAN_FRAME_HEAD);
    assert_memory_equal(frame + 3, emitted + 3, LEAN_FRAME_HEAD - 3);
    r->list[0] = '\0';
    while (at < end) {
        const char *field = "";
        unsigned index = *at & 0x7f;
        if ((*at & 0x80) == 0) {
            assert_int_equal(*at & 0xc0, 0x40);
            at = read_literal(r, at);
            field = r->dynamic[0];
        } else if (at++, index >= 62) {
            assert_true(index - 62 < r->count);
            field = r->dynamic[index - 62];
        } else {
            field = index == 3 ? ":method: POST" : index == 6 ? ":scheme: http" : "?";
        }
        used += (size_t)snprintf(r->list + used, sizeof r->list - used, "%s\n", field);
    }
    assert_ptr_equal(at, end);
}

static void expect_request(const struct reader *r, const char *wanted)
{
    char list[1024];

    snprintf(list, sizeof list,
             ":method: POST\n:scheme: http\n:path: %s\n:authority: prism-bench\nte: trailers\n"
             "content-type: application/grpc\nuser-agent: prism-bench/1\n",
             wanted);
    assert_string_equal(r->list, list);
}

static void every_call_has_the_same_fields_and_only_the_first_spells_them(void **state)
{
    struct reader reader = {.count = 0};
    uint8_t out[LEAN_HEADERS_FRAME_MAX];
    const char *indexed = NULL;

    (void)state;
    size_t first = lean_headers_write(emitted, path, &indexed, out);
    read_frame(&reader, out, first);
    expect_request(&reader, path);
    for (int i = 0; i < 3; i++) {
        size_t bytes = lean_headers_write(emitted, path, &indexed, out);
        assert_int_equal(bytes, LEAN_FRAME_HEAD + 7);
        read_frame(&reader, out, bytes);
        expect_request(&reader, path);
    }
}

static void another_path_is_spelt_out_again(void **state)
{
    struct reader reader = {.count = 0};
    uint8_t out[LEAN_HEADERS_FRAME_MAX];
    const char *indexed = NULL;
    const char *const order[] = {path, other_path, other_path, path};

    (void)state;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        read_frame(&reader, out, lean_headers_write(emitted, order[i], &indexed, out));
        expect_request(&reader, order[i]);
    }
}

static void the_longest_path_fits(void **state)
{
    struct reader reader = {.count = 0};
    char longest[LEAN_PATH_MAX + 1];
    uint8_t out[LEAN_HEADERS_FRAME_MAX];
    const char *indexed = NULL;

    (void)state;
    memset(longest, 'p', LEAN_PATH_MAX);
    longest[LEAN_PATH_MAX] = '\0';
    read_frame(&reader, out, lean_headers_write(emitted, longest, &indexed, out));
    expect_request(&reader, longest);
}

static void only_headers_frames_are_taken_for_such(void **state)
{
    uint8_t data[LEAN_FRAME_HEAD] = {0, 0, 0, FRAME_DATA};

    (void)state;
    assert_true(lean_headers_is(emitted, sizeof emitted));
    assert_false(lean_headers_is(data, sizeof data));
    assert_false(lean_headers_is((const uint8_t *)"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24));
    assert_false(lean_headers_is(emitted, LEAN_FRAME_HEAD - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_has_the_same_fields_and_only_the_first_spells_them),
        cmocka_unit_test(another_path_is_spelt_out_again),
        cmocka_unit_test(the_longest_path_fits),
        cmocka_unit_test(only_headers_frames_are_taken_for_such),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
