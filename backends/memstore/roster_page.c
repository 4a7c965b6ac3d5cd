/* Who matches: pages and counts.
 *
 * The equalities that all matches share are looked up in the index; with several, each list is
 * moved up to where the others stand until all of them stand at the same member. Members with more
 * fields or tags than are indexed stand in a list of their own, which is gone along beside. Every
 * member found so is evaluated all the same: numbers of the index are hashes. */
#include "backends/memstore/roster_priv.h"

/* What a walk goes along. */
struct walk {
    struct roster *roster;
    const struct filter *filter;
    const struct order *order; /* index, or all */
    uint64_t numbers[ROSTER_JOINED];
    struct order_place places[ROSTER_JOINED];
    unsigned n;
    struct order_place spilled; /* those that are not indexed altogether */
    bool single;                /* there is one list to go along, as mostly */
    struct {                    /* room for identities, which are many and short */
        uint8_t *at, *end;
    } room;
};

enum { ROOM_BYTES = 4096 };

static struct slice keep(struct walk *walk, struct arena *arena, struct slice identity)
{
    uint8_t *at = walk->room.at;

    if ((size_t)(walk->room.end - at) < identity.len) {
        at = arena_alloc(arena, ROOM_BYTES);
        walk->room.end = at + ROOM_BYTES;
    }
    memcpy(at, identity.data, identity.len);
    walk->room.at = at + identity.len;
    return slice_of(at, identity.len);
}

/* ---- what is looked up ---- */

static void consider(struct walk *walk, const struct filter_node *node)
{
    if (walk->n == ROSTER_JOINED || node->kind != FILTER_CONDITION || !roster_indexes(node->value))
        return;
    if (node->op == FILTER_EQUALS && node->place == FILTER_METADATA && node->names_n == 1)
        walk->numbers[walk->n++] = roster_hash(walk->roster, 'f', node->names[0], node->value);
    else if (node->op == FILTER_CONTAINS && node->place == FILTER_TAGS)
        walk->numbers[walk->n++] = roster_hash(walk->roster, 't', slice_of(NULL, 0), node->value);
}

static struct walk walk_of(struct roster *roster, const struct filter *filter)
{
    struct walk walk = {.roster = roster, .filter = filter, .order = &roster->index};
    const struct filter_node *root = filter != NULL ? filter_root(filter) : NULL;

    if (root != NULL && root->kind == FILTER_AND) {
        for (const struct filter_node *child = root->first; child != NULL; child = child->next)
            consider(&walk, child);
    } else if (root != NULL) {
        consider(&walk, root);
    }
    if (walk.n == 0) {
        walk.order = &roster->all;
        walk.numbers[walk.n++] = 0;
    }
    return walk;
}

/* ---- walking, under the lock ---- */

static void start(struct walk *walk, struct slice after)
{
    for (unsigned i = 0; i < walk->n; i++)
        walk->places[i] = order_seek(walk->order, walk->numbers[i], after, after.len > 0);
    walk->spilled = (struct order_place){0};
    if (walk->order == &walk->roster->index)
        walk->spilled = order_seek(walk->order, ROSTER_SPILLED, after, after.len > 0);
    walk->single = walk->n == 1 && order_at(&walk->spilled, ROSTER_SPILLED) == NULL;
}

/* The member at which all lists stand, or come to stand next; NULL: there is none. */
static struct member *meet(struct walk *walk)
{
    struct member *member = order_at(&walk->places[0], walk->numbers[0]);
    unsigned agree = 1;

    for (unsigned i = 1 % walk->n; member != NULL && agree < walk->n; i = (i + 1) % walk->n) {
        struct member *other = order_at(&walk->places[i], walk->numbers[i]);

        if (other != member) {
            walk->places[i] = order_seek(walk->order, walk->numbers[i], member_name(member), false);
            other = order_at(&walk->places[i], walk->numbers[i]);
        }
        agree = other == member ? agree + 1 : 1;
        member = other;
    }
    return member;
}

static struct member *next_of_many(struct walk *walk)
{
    struct member *met = meet(walk), *spilled = order_at(&walk->spilled, ROSTER_SPILLED);

    if (met == NULL || spilled == NULL)
        return met != NULL ? met : spilled;
    return slice_compare(member_name(met), member_name(spilled)) < 0 ? met : spilled;
}

static inline struct member *next(struct walk *walk)
{
    return walk->single ? order_at(&walk->places[0], walk->numbers[0]) : next_of_many(walk);
}

/* Behind the member that next() gave. */
static inline void advance(struct walk *walk, const struct member *member)
{
    if (walk->single) {
        order_next(&walk->places[0]);
        return;
    }
    if (order_at(&walk->spilled, ROSTER_SPILLED) == member)
        order_next(&walk->spilled);
    if (order_at(&walk->places[0], walk->numbers[0]) == member)
        order_next(&walk->places[0]);
}

static bool matches(const struct walk *walk, const struct member *member)
{
    struct filter_subject subject = {.identity = member_name(member),
                                     .document = member_document(member),
                                     .tags = member_tags(member)};

    return walk->filter == NULL || filter_match(walk->filter, &subject);
}

static bool page_full(const struct registry_page *page, uint64_t bytes)
{
    return page->n == page->max_items || (page->max_bytes > 0 && bytes >= page->max_bytes);
}

/* True: there is more behind page->next. */
static bool stride(struct walk *walk, struct registry_page *page, uint64_t *bytes)
{
    uint64_t now_ms = roster_lock(walk->roster);
    struct arena *arena = op_arena(&page->op);
    struct member *member = NULL, *last = NULL;
    bool full = false;

    start(walk, page->next);
    for (int i = 0; i < ROSTER_STRIDE && !full && (member = next(walk)) != NULL; i++) {
        last = member;
        advance(walk, member);
        if (!member_lives(member, now_ms))
            continue;
        page->examined++;
        if (!matches(walk, member))
            continue;

        struct registry_entry *entry = &page->entries[page->n++];

        roster_fill(member, keep(walk, arena, member_name(member)), page->with_documents, arena,
                    entry);
        *bytes += entry->identity.len + entry->document.len + entry->tags.len;
        full = page_full(page, *bytes);
    }
    if (last != NULL)
        page->next = arena_copy(arena, member_name(last));
    page->more = member != NULL && next(walk) != NULL;
    pthread_mutex_unlock(&walk->roster->lock);
    return page->more && !full;
}

void roster_page(struct roster *roster, struct registry_page *page)
{
    struct walk walk = walk_of(roster, page->filter);
    uint64_t bytes = 0;

    page->entries = arena_alloc(op_arena(&page->op), page->max_items * sizeof *page->entries);
    page->n = 0;
    page->examined = 0;
    page->next = page->after;
    for (int i = 0; i < ROSTER_PAGE_STRIDES && stride(&walk, page, &bytes); i++)
        ;
}

bool roster_count(struct roster *roster, struct registry_count *count, struct slice *after)
{
    struct walk walk = walk_of(roster, count->filter);
    struct member *member = NULL;
    uint64_t now_ms;

    if (count->filter == NULL) {
        if (roster_reap(roster, ROSTER_STRIDE))
            return true;
        count->count = roster_totals(roster).identities;
        return false;
    }
    now_ms = roster_lock(roster);
    start(&walk, *after);
    for (int i = 0; i < ROSTER_STRIDE && (member = next(&walk)) != NULL; i++) {
        advance(&walk, member);
        count->count += member_lives(member, now_ms) && matches(&walk, member);
        if (i == ROSTER_STRIDE - 1)
            *after = arena_copy(op_arena(&count->op), member_name(member));
        if (count->enough > 0 && count->count >= count->enough)
            member = NULL;
        if (member == NULL)
            break;
    }
    pthread_mutex_unlock(&roster->lock);
    return member != NULL;
}
