/* Members come, change and go. */
#include "backends/memstore/roster_priv.h"

#include <stdlib.h>
#include <time.h>

enum { REAPED = 8 /* expired members that each call takes out, at most */ };

struct slice member_name(const void *of)
{
    const struct member *member = of;

    return slice_of(member->bytes, member->identity_len);
}

void roster_fill(const struct member *member, struct slice identity, bool with_documents,
                 struct arena *arena, struct registry_entry *entry)
{
    *entry = (struct registry_entry){.identity = identity,
                                     .generation = member->generation,
                                     .registered_at_ms = member->registered_ms,
                                     .expires_at_ms = member->expires_ms};
    if (with_documents) {
        entry->document = arena_copy(arena, member_document(member));
        entry->tags = arena_copy(arena, member_tags(member));
    }
}

static uint64_t unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

struct roster *roster_new(struct memstore *store)
{
    struct roster *roster = calloc(1, sizeof *roster);

    if (roster == NULL)
        abort();
    roster->store = store;
    roster->opened_unix_ms = unix_ms();
    /* Generations go on growing over a restart, as long as the clock does. */
    roster->generation = roster->opened_unix_ms * 1000;
    roster->all.name = roster->due.name = roster->index.name = member_name;
    pthread_mutex_init(&roster->lock, NULL);
    return roster;
}

void roster_destroy(struct roster *roster)
{
    struct order_place place;
    struct member *member;

    if (roster == NULL)
        return;
    order_clear(&roster->due);
    order_clear(&roster->index);
    place = order_seek(&roster->all, 0, slice_of(NULL, 0), false);
    while ((member = order_at(&place, 0)) != NULL) {
        order_next(&place);
        free(member);
    }
    order_clear(&roster->all);
    pthread_mutex_destroy(&roster->lock);
    free(roster);
}

/* ---- members ---- */

static size_t cost(const struct member *member)
{
    return sizeof *member + member->identity_len + member->document_len + member->tags_len +
           (size_t)ROSTER_POSTING_BYTES * (2 + member->postings);
}

static uint8_t *append(uint8_t *at, struct slice bytes)
{
    memcpy(at, bytes.data, bytes.len);
    return at + bytes.len;
}

static struct member *member_new(struct slice identity, struct slice document, struct slice tags)
{
    struct member *member = malloc(sizeof *member + identity.len + document.len + tags.len);

    if (member == NULL)
        abort();
    memset(member, 0, sizeof *member);
    member->identity_len = (uint32_t)identity.len;
    member->document_len = (uint32_t)document.len;
    member->tags_len = (uint32_t)tags.len;
    append(append(append(member->bytes, identity), document), tags);
    return member;
}

static void enter_due(struct roster *roster, struct member *member)
{
    if (member->expires_ms == 0)
        return;
    if (roster->due.entries == 0)
        roster->store->wake_sweep(roster->store);
    order_insert(&roster->due, member->expires_ms, member);
}

static void enter(struct roster *roster, struct member *member, const struct postings *postings)
{
    roster->changes++;
    roster->mixed = roster->mixed || postings->mixed;
    order_insert(&roster->all, 0, member);
    enter_due(roster, member);
    for (uint32_t i = 0; i < postings->n; i++) {
        const struct posting *posting = &postings->items[i];
        const struct member *other = order_insert(&roster->index, posting->number, member);

        if (!roster->mixed && other != NULL && !roster_has(other, posting))
            roster->mixed = true;
    }
}

static void leave(struct roster *roster, struct member *member)
{
    struct postings postings;

    roster->changes++;
    roster_postings(roster, member, &postings);
    for (uint32_t i = 0; i < postings.n; i++)
        order_remove(&roster->index, postings.items[i].number, member);
    if (member->expires_ms > 0)
        order_remove(&roster->due, member->expires_ms, member);
    order_remove(&roster->all, 0, member);
}

static void drop(struct roster *roster, struct member *member)
{
    leave(roster, member);
    capacity_give(roster->store, 1, cost(member));
    free(member);
}

/* A member in place of another, or (NULL) a new one. Takes the new one in every case. */
static struct err replace(struct roster *roster, struct member *old, struct member *member)
{
    struct postings postings;
    size_t taken, given = old != NULL ? cost(old) : 0;
    enum capacity capacity = CAPACITY_OK;

    roster_postings(roster, member, &postings);
    member->postings = postings.n;
    taken = cost(member);
    if (old == NULL || taken > given)
        capacity = capacity_take(roster->store, old == NULL, taken - given);
    if (capacity != CAPACITY_OK) {
        free(member);
        return capacity_error(roster->store, capacity);
    }
    if (taken < given)
        capacity_give(roster->store, 0, given - taken);
    if (old != NULL) {
        leave(roster, old);
        free(old);
    }
    enter(roster, member, &postings);
    return ERR_NONE;
}

static void set_expiry(struct roster *roster, struct member *member, uint64_t expires_ms)
{
    if (member->expires_ms > 0)
        order_remove(&roster->due, member->expires_ms, member);
    member->expires_ms = expires_ms;
    enter_due(roster, member);
}

/* ---- calls ---- */

uint64_t roster_now_ms(const struct roster *roster)
{
    return roster->opened_unix_ms + memstore_now_ns(roster->store) / NS_PER_MS;
}

/* The one that expires first, if it has. */
static struct member *expired(const struct roster *roster, uint64_t now_ms)
{
    uint64_t number;
    struct member *member = order_first(&roster->due, &number);

    return member != NULL && number <= now_ms ? member : NULL;
}

bool roster_all_live(const struct roster *roster, uint64_t now_ms)
{
    return expired(roster, now_ms) == NULL;
}

static bool reap(struct roster *roster, uint64_t now_ms, unsigned n)
{
    struct member *member;

    while ((member = expired(roster, now_ms)) != NULL && n-- > 0) {
        drop(roster, member);
        counter_add(&roster->expired, 1);
    }
    return member != NULL;
}

uint64_t roster_lock(struct roster *roster)
{
    pthread_mutex_lock(&roster->lock);

    uint64_t now_ms = roster_now_ms(roster);

    reap(roster, now_ms, REAPED);
    return now_ms;
}

bool roster_reap(struct roster *roster, unsigned n)
{
    pthread_mutex_lock(&roster->lock);

    bool more = reap(roster, roster_now_ms(roster), n);

    pthread_mutex_unlock(&roster->lock);
    return more;
}

uint64_t roster_next_ns(struct roster *roster)
{
    uint64_t number = UINT64_MAX;

    pthread_mutex_lock(&roster->lock);
    order_first(&roster->due, &number);
    pthread_mutex_unlock(&roster->lock);
    if (number == UINT64_MAX)
        return number;
    return number <= roster->opened_unix_ms ? 0 : (number - roster->opened_unix_ms) * NS_PER_MS;
}

/* The member, if it lives. */
static struct member *find(const struct roster *roster, struct slice identity, uint64_t now_ms)
{
    struct order_place place = order_seek(&roster->all, 0, identity, false);
    struct member *member = order_at(&place, 0);

    if (member == NULL || !slice_equal(member_name(member), identity) ||
        !member_lives(member, now_ms))
        return NULL;
    return member;
}

static struct member *find_dead(const struct roster *roster, struct slice identity)
{
    return find(roster, identity, 0);
}

static struct err absent(void)
{
    return err_make(ERR_NOT_FOUND, "the identity is not registered");
}

static struct err other_generation(void)
{
    return err_about(ERR_FAILED_PRECONDITION, "if_generation",
                     "the identity has been registered anew");
}

static struct err check_put(const struct roster *roster, const struct registry_put_item *item,
                            const struct member *old, uint64_t max_identities)
{
    if (item->if_generation != 0 && (old == NULL || old->generation != item->if_generation))
        return other_generation();
    if (old != NULL && !item->replace)
        return err_make(ERR_ALREADY_EXISTS, "the identity is registered");
    if (old == NULL && max_identities > 0 && roster->all.entries >= max_identities)
        return err_about(ERR_RESOURCE_EXHAUSTED, "max_identities",
                         "the namespace holds as many identities as it may");
    return ERR_NONE;
}

static struct slice or_empty(struct slice value, enum document_type type)
{
    static const uint8_t empty[DOCUMENT_TYPES] = {
        [DOCUMENT_LIST] = DOCUMENT_LIST, [DOCUMENT_STRUCT] = DOCUMENT_STRUCT};

    return value.len > 0 ? value : slice_of(&empty[type], 1);
}

void roster_put(struct roster *roster, struct registry_put_item *item, uint64_t max_identities)
{
    uint64_t now_ms = roster_lock(roster);
    struct member *dead = find_dead(roster, item->identity), *old, *member;

    if (dead != NULL && !member_lives(dead, now_ms)) {
        drop(roster, dead);
        dead = NULL;
    }
    old = dead;
    while (max_identities > 0 && roster->all.entries >= max_identities && reap(roster, now_ms, 1))
        ;
    item->replaced = old != NULL;
    item->err = check_put(roster, item, old, max_identities);
    if (item->err.code == ERR_OK) {
        member = member_new(item->identity, or_empty(item->document, DOCUMENT_STRUCT),
                            or_empty(item->tags, DOCUMENT_LIST));
        item->generation = member->generation = roster->generation + 1;
        item->registered_at_ms = member->registered_ms = old != NULL ? old->registered_ms : now_ms;
        member->ttl_ms = item->ttl_ms;
        item->expires_at_ms = member->expires_ms = item->ttl_ms > 0 ? now_ms + item->ttl_ms : 0;
        item->err = replace(roster, old, member);
        roster->generation += item->err.code == ERR_OK;
    }
    pthread_mutex_unlock(&roster->lock);
}

/* The document after the patch, in the op's arena. */
static struct err patched(const struct registry_patch *patch, const struct member *old,
                          struct slice *document)
{
    struct err err = ERR_NONE;

    *document = patch->document;
    if (patch->mode == REGISTRY_MERGE)
        err = document_merge(op_arena(&patch->op), member_document(old), patch->document,
                             REGISTRY_DOCUMENT_BYTES, document);
    if (err.code != ERR_OK)
        err.subject = "metadata";
    return err;
}

static struct err change_document(struct roster *roster, struct registry_patch *patch,
                                  struct member **member)
{
    struct member *old = *member, *made;
    struct slice document;
    struct err err = patched(patch, old, &document);

    if (err.code != ERR_OK)
        return err;
    made = member_new(patch->identity, document, member_tags(old));
    made->generation = old->generation;
    made->registered_ms = old->registered_ms;
    made->expires_ms = old->expires_ms;
    made->ttl_ms = old->ttl_ms;
    err = replace(roster, old, made);
    if (err.code == ERR_OK)
        *member = made;
    return err;
}

struct err roster_patch(struct roster *roster, struct registry_patch *patch)
{
    uint64_t now_ms = roster_lock(roster);
    struct member *member = find(roster, patch->identity, now_ms);
    struct err err = ERR_NONE;

    if (member == NULL)
        err = absent();
    else if (patch->if_generation != 0 && patch->if_generation != member->generation)
        err = other_generation();
    else if (patch->mode != REGISTRY_KEEP)
        err = change_document(roster, patch, &member);
    if (err.code == ERR_OK && patch->set_ttl) {
        member->ttl_ms = patch->ttl_ms;
        set_expiry(roster, member, patch->ttl_ms > 0 ? now_ms + patch->ttl_ms : 0);
    }
    if (err.code == ERR_OK) {
        patch->generation = member->generation;
        patch->expires_at_ms = member->expires_ms;
    }
    pthread_mutex_unlock(&roster->lock);
    return err;
}

void roster_beat(struct roster *roster, struct registry_beat_item *item, uint64_t ttl_ms)
{
    uint64_t now_ms = roster_lock(roster);
    struct member *member = find(roster, item->identity, now_ms);

    item->err = ERR_NONE;
    if (member == NULL) {
        item->err = absent();
    } else if (item->if_generation != 0 && item->if_generation != member->generation) {
        item->err = other_generation();
    } else {
        if (ttl_ms == 0)
            ttl_ms = member->ttl_ms;
        set_expiry(roster, member, ttl_ms > 0 ? now_ms + ttl_ms : 0);
        item->expires_at_ms = member->expires_ms;
    }
    pthread_mutex_unlock(&roster->lock);
}

void roster_remove(struct roster *roster, struct registry_remove_item *item)
{
    uint64_t now_ms = roster_lock(roster);
    struct member *member = find(roster, item->identity, now_ms);

    item->err = ERR_NONE;
    item->existed = member != NULL;
    if (member != NULL && item->if_generation != 0 && item->if_generation != member->generation)
        item->err = other_generation();
    else if (member != NULL)
        drop(roster, member);
    pthread_mutex_unlock(&roster->lock);
}

bool roster_get(struct roster *roster, struct slice identity, bool with_documents,
                struct arena *arena, struct registry_entry *entry)
{
    struct member *member = find(roster, identity, roster_lock(roster));

    if (member != NULL)
        roster_fill(member, arena_copy(arena, member_name(member)), with_documents, arena, entry);
    pthread_mutex_unlock(&roster->lock);
    return member != NULL;
}

struct roster_totals roster_totals(struct roster *roster)
{
    struct roster_totals totals;

    pthread_mutex_lock(&roster->lock);
    totals.identities = roster->all.entries;
    totals.bytes =
        order_bytes(&roster->all) + order_bytes(&roster->due) + order_bytes(&roster->index);
    totals.expired = counter_read(&roster->expired);
    pthread_mutex_unlock(&roster->lock);
    return totals;
}
