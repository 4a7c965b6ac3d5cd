/* Any text as a filter and as a document; any bytes as a stored document.
 *
 * input: one octet, then
 *   'f'  a filter, NUL, a document, both JSON. What compiles gives the reference's answer, and its
 *        normal form the same one (patterns have dialects: those are only evaluated)
 *   'g'  a glob pattern, NUL, a text
 *   else a document as it is stored: it is either refused, or it is what it would be from its JSON
 */
#include "tests/fuzz/fuzz.h"

#include "src/base/utf8.h"
#include "src/filter/glob.h"
#include "tests/contract/registry_reference.h"

#include <stdlib.h>

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

/* Up to the first NUL, and what is behind it. */
static struct slice first_of(struct slice input, struct slice *rest)
{
    const uint8_t *end = input.len > 0 ? memchr(input.data, '\0', input.len) : NULL;
    size_t len = end != NULL ? (size_t)(end - input.data) : input.len;

    *rest = end != NULL ? slice_of(end + 1, input.len - len - 1) : slice_of(NULL, 0);
    return slice_of(input.data, len);
}

static void check_stored(struct arena *arena, struct slice value)
{
    struct slice back;

    if (!document_valid(value))
        return;
    REQUIRE(document_from_json(arena, document_to_json(arena, value), 1 << 20, &back).code ==
            ERR_OK);
    REQUIRE(slice_equal(back, value));
}

static bool has_patterns(const struct filter_node *node)
{
    for (const struct filter_node *child = node->first; child != NULL; child = child->next) {
        if (has_patterns(child))
            return true;
    }
    return node->kind == FILTER_CONDITION && (node->op == FILTER_REGEX || node->op == FILTER_GLOB);
}

static void check_answers(const struct filter *filter, const struct filter_node *node,
                          const struct filter_subject *subject)
{
    bool holds = filter_match(filter, subject);

    if (!has_patterns(node))
        REQUIRE(reference_match(node, subject) == holds);
    if (!has_patterns(filter_root(filter)))
        REQUIRE(reference_match(filter_root(filter), subject) == holds);
}

static void check_filter(struct arena *arena, struct slice input)
{
    static const uint8_t no_tags[] = {DOCUMENT_LIST};
    struct filter_limits limits = filter_limits_default();
    struct slice document, text = first_of(input, &document);
    struct filter_subject subject = {.identity = slice_str("id"),
                                     .tags = slice_of(no_tags, sizeof no_tags)};
    struct filter_node *node;
    const struct filter *filter;
    struct err err = filter_from_json(arena, text, &limits, &node);

    if (err.code == ERR_OK)
        err = filter_compile(arena, node, &limits, &filter);
    REQUIRE(err.code == ERR_OK || (err.code == ERR_INVALID_ARGUMENT && err.text != NULL));
    if (document_from_json(arena, document, 1 << 16, &subject.document).code != ERR_OK)
        return;
    check_stored(arena, subject.document);
    if (err.code == ERR_OK && document_type_of(subject.document) == DOCUMENT_STRUCT)
        check_answers(filter, node, &subject);
}

static void check_glob(struct arena *arena, struct slice input)
{
    struct slice text, plain, pattern = first_of(input, &text);
    bool holds;

    if (!utf8_valid(pattern) || !utf8_valid(text) || glob_fault(pattern) != NULL)
        return;
    holds = glob_match(pattern, text);
    switch (glob_shape(arena, pattern, &plain)) {
    case GLOB_GENERAL:
        return;
    case GLOB_ANY:
        REQUIRE(holds);
        return;
    case GLOB_WHOLE:
        REQUIRE(holds == slice_equal(text, plain));
        return;
    case GLOB_START:
        REQUIRE(holds == slice_starts_with(text, plain));
        return;
    case GLOB_END:
        REQUIRE(holds ==
                (text.len >= plain.len &&
                 slice_equal(slice_of(text.data + text.len - plain.len, plain.len), plain)));
        return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of(data, size);
    struct arena arena;

    if (size == 0)
        return 0;
    arena_init(&arena, NULL);
    input = slice_of(data + 1, size - 1);
    if (data[0] == 'f')
        check_filter(&arena, input);
    else if (data[0] == 'g')
        check_glob(&arena, input);
    else
        check_stored(&arena, input);
    arena_clear(&arena);
    return 0;
}
