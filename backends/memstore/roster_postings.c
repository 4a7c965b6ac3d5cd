/* Where the index has a member. */
#include "backends/memstore/roster_priv.h"

uint64_t roster_hash(const struct roster *roster, char space, struct slice name, struct slice value)
{
    uint8_t text[1 + DOCUMENT_NAME_BYTES + 1 + ROSTER_INDEXED_BYTES];
    size_t len = 0;

    text[len++] = (uint8_t)space;
    if (name.len > 0)
        memcpy(text + len, name.data, name.len);
    len += name.len;
    text[len++] = '\0'; /* no name holds it */
    memcpy(text + len, value.data, value.len);
    return memstore_hash(roster->store, slice_of(text, len + value.len)) |
           2; /* 0 and ROSTER_SPILLED are taken */
}

bool roster_indexes(struct slice value)
{
    return value.len <= ROSTER_INDEXED_BYTES && document_type_of(value) < DOCUMENT_LIST;
}

static bool is_same(const struct posting *a, const struct posting *b)
{
    return a->space == b->space && slice_equal(a->name, b->name) && slice_equal(a->value, b->value);
}

static void post(struct postings *postings, struct posting posting)
{
    for (uint32_t i = 0; i < postings->n; i++) {
        const struct posting *other = &postings->items[i];

        if (other->number != posting.number)
            continue;
        if (!is_same(other, &posting)) /* else a tag is given twice */
            postings->mixed = true;
        return;
    }
    postings->items[postings->n++] = posting;
}

/* Of the first `limit` values; true: there are more that would be indexed. */
static bool post_values(const struct roster *roster, struct postings *postings, char space,
                        struct slice container, unsigned limit)
{
    struct document_walk walk = document_walk(container);
    unsigned n = 0;

    while (document_next(&walk)) {
        if (!roster_indexes(walk.value))
            continue;
        if (n++ == limit)
            return true;
        post(postings, (struct posting){.number = roster_hash(roster, space, walk.name, walk.value),
                                        .space = space,
                                        .name = walk.name,
                                        .value = walk.value});
    }
    return false;
}

bool roster_has(const struct member *member, const struct posting *posting)
{
    bool tag = posting->space == 't';
    struct document_walk walk = document_walk(tag ? member_tags(member) : member_document(member));
    unsigned left = tag ? ROSTER_TAGS : ROSTER_FIELDS;

    while (left > 0 && document_next(&walk)) {
        if (slice_equal(walk.name, posting->name) && slice_equal(walk.value, posting->value))
            return true;
        left -= roster_indexes(walk.value);
    }
    return posting->space == 0;
}

void roster_postings(const struct roster *roster, const struct member *member,
                     struct postings *postings)
{
    bool spilled;

    postings->n = 0;
    postings->mixed = false;
    spilled = post_values(roster, postings, 'f', member_document(member), ROSTER_FIELDS);
    if (post_values(roster, postings, 't', member_tags(member), ROSTER_TAGS) || spilled)
        post(postings, (struct posting){.number = ROSTER_SPILLED});
}
