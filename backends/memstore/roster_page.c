/* Who matches: pages and counts.
 *
 * The equalities that all matches share are looked up in the index; with several, each list is
 * moved up to where the others stand until all of them stand at the same member. Members with more
 * fields or tags than are indexed stand in a list of their own, which is gone along beside. Every
 * member found so is evaluated all the same, since numbers of the index are hashes, but where it is
 * known that each number stands for one value, and the filter asks for nothing else: then one is
 * evaluated, and the others are as it is. */
#include "backends/memstore/roster_priv.h"

/* What a walk goes along. */
struct walk {
    struct roster *roster;
    const struct filter *filter;
    const struct order *order; /* index, or all */
    uint64_t numbers[ROSTER_JOINED];
    struct order_place places[ROSTER_JOINED];
    unsigned n;
    bool whole;                 /* what is looked up is the whole filter */
    struct order_place spilled; /* those that are not indexed altogether */
    bool single;                /* there is one list to go along, as mostly */
    uint64_t changes;           /* of the roster, when the places were looked up; 0: they are not */
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

    unsigned conditions = root != NULL;

    if (root != NULL && root->kind == FILTER_AND) {
        conditions = 0;
        for (const struct filter_node *child = root->first; child != NULL; child = child->next) {
            conditions++;
            consider(&walk, child);
        }
    } else if (root != NULL) {
        consider(&walk, root);
    }
    walk.whole = walk.n == conditions;
    if (walk.n == 0) {
        walk.order = &roster->all;
        walk.numbers[walk.n++] = 0;
    }
    return walk;
}

/* ---- walking, under the lock ---- */

static void start(struct walk *walk, struct slice after)
{
    if (walk->changes == walk->roster->changes)
        return; /* the places of the stride before are good */
    walk->changes = walk->roster->changes;
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

/* All on whom the lists agree match, or none of them does: it is enough to evaluate the first. */
static bool agree(const struct walk *walk, const struct member *first)
{
    return walk->whole && !walk->roster->mixed &&
           order_at(&walk->spilled, ROSTER_SPILLED) == NULL && matches(walk, first);
}

static bool page_full(const struct registry_page *page, uint64_t bytes)
{
    return page->n + page->unwanted == page->max_items ||
           (page->max_bytes > 0 && bytes >= page->max_bytes);
}

/* What is the same for a stride. */
struct known {
    bool live, match; /* all of them */
    uint64_t now_ms;
};

/* Whether it is an entry of the page. */
static bool takes(const struct walk *walk, const struct known *known, struct registry_page *page,
                  const struct member *member)
{
    if (!known->live && !member_lives(member, known->now_ms))
        return false;
    page->examined++;
    if (!known->match && !matches(walk, member))
        return false;
    if (page->wanted == NULL || page->wanted(page, member_name(member)))
        return true;
    page->unwanted++;
    return false;
}

static void enter(struct walk *walk, struct registry_page *page, const struct member *member)
{
    struct arena *arena = op_arena(&page->op);

    if (page->entries == NULL)
        page->entries = arena_alloc(arena, page->max_items * sizeof *page->entries);
    roster_fill(member, keep(walk, arena, member_name(member)), page->with_documents, arena,
                &page->entries[page->n++]);
}

static uint64_t entry_bytes(const struct registry_entry *entry)
{
    return entry->identity.len + entry->document.len + entry->tags.len;
}

/* Under the lock. Returns the last one looked at; NULL: there is none. */
static struct member *take_some(struct walk *walk, struct registry_page *page, uint64_t *bytes,
                                uint64_t now_ms)
{
    struct member *member = next(walk);
    struct known known = {.live = roster_all_live(walk->roster, now_ms), .now_ms = now_ms};
    void *last = NULL;

    known.match = member != NULL && agree(walk, member);
    if (known.match && known.live && walk->single && page->wanted != NULL &&
        !page->wanted(page, slice_of(NULL, 0))) {
        page->unwanted += order_skip(&walk->places[0], walk->numbers[0],
                                     page->max_items - (unsigned)(page->n + page->unwanted), &last);
        return last;
    }
    for (int i = 0; i < ROSTER_STRIDE && member != NULL && !page_full(page, *bytes); i++) {
        last = member;
        advance(walk, member);
        if (takes(walk, &known, page, member)) {
            enter(walk, page, member);
            *bytes += entry_bytes(&page->entries[page->n - 1]);
        }
        member = next(walk);
    }
    return last;
}

/* True: there is more behind page->next, and room for it. */
static bool stride(struct walk *walk, struct registry_page *page, uint64_t *bytes)
{
    uint64_t now_ms = roster_lock(walk->roster);
    struct member *last;

    start(walk, page->next);
    last = take_some(walk, page, bytes, now_ms);
    if (last != NULL)
        page->next = arena_copy(op_arena(&page->op), member_name(last));
    page->more = last != NULL && next(walk) != NULL;
    pthread_mutex_unlock(&walk->roster->lock);
    return page->more && !page_full(page, *bytes);
}

void roster_page(struct roster *roster, struct registry_page *page)
{
    struct walk walk = walk_of(roster, page->filter);
    uint64_t bytes = 0;

    page->entries = NULL;
    page->n = 0;
    page->unwanted = 0;
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
