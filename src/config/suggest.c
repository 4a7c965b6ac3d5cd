/* From a word that is not known to the one that was meant. */
#include "src/config/config_priv.h"

#include <stdio.h>
#include <string.h>

enum { WORD_BYTES = 40, LIST_BYTES = 512 };

/* What other tools call it. Used only where the right-hand word is known. */
static const struct {
    const char *wrong, *right;
} habits[] = {
    {"driver", "backend"},  {"type", "backend"},      {"backend_config", "config"},
    {"options", "config"},  {"settings", "behavior"}, {"behaviour", "behavior"},
    {"port", "listen"},     {"bind", "listen"},       {"metrics", "admin"},
    {"threads", "workers"}, {"url", "address"},       {"host", "address"},
    {"database", "db"},     {"user", "username"},     {"expiration", "keyvalue_ttl"},
    {"warning", "warn"},    {"pass", "password"},     {"fatal", "error"},
};

void words_add(struct words *words, const char *word)
{
    if (words->count < WORDS_MAX)
        words->items[words->count++] = word;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;

    return ab < c ? ab : c;
}

static char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return c == '-' || c == ' ' ? '_' : c;
}

/* Edits (insert, delete, replace, swap of neighbours) between two words of at most WORD_BYTES - 1
 * bytes, without regard to case or to the kind of dash. */
static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_BYTES];
    size_t la = strlen(a), lb = strlen(b);

    for (size_t j = 0; j <= lb; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            char ca = fold(a[i - 1]), cb = fold(b[j - 1]);

            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == fold(b[j - 2]) && cb == fold(a[i - 2]) &&
                two_above[j - 2] + 1 < row[j])
                row[j] = two_above[j - 2] + 1;
        }
    }
    return rows[la % 3][lb];
}

static const char *by_habit(const char *word, const struct words *known)
{
    for (size_t h = 0; h < sizeof habits / sizeof habits[0]; h++) {
        if (strcmp(habits[h].wrong, word) != 0)
            continue;
        for (size_t i = 0; i < known->count; i++)
            if (strcmp(habits[h].right, known->items[i]) == 0)
                return known->items[i];
    }
    return NULL;
}

/* The nearest known word that is near enough: a third of its letters may be wrong, or one word is
 * part of the other. */
const char *suggest_word(const char *word, const struct words *known)
{
    size_t len = strlen(word);
    const char *best = by_habit(word, known);
    unsigned best_edits = WORD_BYTES;

    if (best != NULL || len == 0 || len >= WORD_BYTES)
        return best;
    for (size_t i = 0; i < known->count; i++) {
        const char *candidate = known->items[i];
        size_t candidate_len = strlen(candidate);

        if (candidate_len >= WORD_BYTES)
            continue;
        unsigned edits = distance(word, candidate);
        unsigned allowed = (unsigned)(candidate_len < 3   ? 0
                                      : candidate_len < 6 ? 1
                                                          : candidate_len / 3);

        if (len >= 4 && edits > allowed &&
            (strstr(candidate, word) != NULL || strstr(word, candidate) != NULL))
            edits = allowed = WORD_BYTES - 1; /* better than nothing, worse than any typing error */
        if (edits <= allowed && edits < best_edits) {
            best = candidate;
            best_edits = edits;
        }
    }
    return best;
}

const char *words_list(struct load *load, const struct words *words, const char *conjunction)
{
    char text[LIST_BYTES] = "";
    size_t len = 0;

    for (size_t i = 0; i < words->count; i++) {
        const char *between = i == 0 ? "" : i + 1 < words->count ? ", " : conjunction;
        int n = snprintf(text + len, sizeof text - len, "%s%s", between, words->items[i]);

        if (n < 0 || (size_t)n >= sizeof text - len)
            break;
        len += (size_t)n;
    }
    text[len] = '\0';
    return arena_strdup(&load->faults->arena, slice_str(text));
}

const char *suggest(struct load *load, const char *word, const struct words *known)
{
    const char *meant = suggest_word(word, known);

    if (meant != NULL)
        return fault_text(load, "did you mean `%s`?", meant);
    if (known->count == 0)
        return "remove it";
    return fault_text(load, "known here: %s", words_list(load, known, " and "));
}

bool config_interface_is(const struct config_catalog *catalog, enum backend_interface interface,
                         const char *word)
{
    const char *key = catalog->interface_key(interface);
    const char *dash = strchr(key, '_');

    if (strcmp(word, "expiration") == 0)
        word = "ttl";
    return strcmp(word, key) == 0 || strcmp(word, catalog->interface_name(interface)) == 0 ||
           (dash != NULL && strcmp(word, dash + 1) == 0);
}
