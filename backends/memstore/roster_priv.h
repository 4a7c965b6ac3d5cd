/* What the files of the roster share. */
#ifndef PRISM_BACKENDS_MEMSTORE_ROSTER_PRIV_H
#define PRISM_BACKENDS_MEMSTORE_ROSTER_PRIV_H

#include "backends/memstore/roster.h"

static inline struct slice member_document(const struct member *member)
{
    return slice_of(member->bytes + member->identity_len, member->document_len);
}

static inline struct slice member_tags(const struct member *member)
{
    return slice_of(member->bytes + member->identity_len + member->document_len, member->tags_len);
}

/* now_ms 0: as long as it has not been taken out. */
static inline bool member_lives(const struct member *member, uint64_t now_ms)
{
    return member->expires_ms == 0 || member->expires_ms > now_ms;
}

uint64_t roster_now_ms(const struct roster *roster);

/* Locks, takes out a few that have expired, returns the time. */
uint64_t roster_lock(struct roster *roster);

/* Nobody has expired who has not been taken out. Under the lock. */
bool roster_all_live(const struct roster *roster, uint64_t now_ms);

/* The entry of a member: the identity as given, the rest copied into the arena. */
void roster_fill(const struct member *member, struct slice identity, bool with_documents,
                 struct arena *arena, struct registry_entry *entry);

/* The number in the index for a field with this value ('f'), or for a tag ('t', no name); the value
 * is one that roster_indexes. */
uint64_t roster_hash(const struct roster *roster, char space, struct slice name,
                     struct slice value);
bool roster_indexes(struct slice value);

/* ---- roster_postings.c ---- */

struct posting {
    uint64_t number;
    char space; /* 0: not that of a value */
    struct slice name, value;
};

struct postings {
    struct posting items[ROSTER_FIELDS + ROSTER_TAGS + 1];
    uint32_t n;
    bool mixed; /* two values have the same number */
};

void roster_postings(const struct roster *roster, const struct member *member,
                     struct postings *postings);

/* Does this member, too, come under the number by that value? */
bool roster_has(const struct member *member, const struct posting *posting);

#endif
