/* What becomes of dead letters that were published:
 *
 *   stored   the message can be settled
 *   failed   its slot is away, or lacks a topic or a permission: it is published again
 *   refused  also by a slot that is well, as too large: once more without its payload, which it
 *            says; refused again, there will be no letter
 *
 * Each is counted and, within a budget, logged; the slot is degraded meanwhile. */
#ifndef PRISM_PATTERNS_MESSAGING_LETTERS_H
#define PRISM_PATTERNS_MESSAGING_LETTERS_H

#include "patterns/messaging/dead.h"
#include "patterns/trouble.h"
#include "src/base/log.h"
#include "src/base/metrics.h"

/* Of one instance, zeroed before. thread: its home worker; the trouble: any. */
struct letters {
    const char *namespace_name;
    struct counter stored, cut, refused, failed;
    struct trouble trouble;
    struct log_budget failed_log, cut_log, refused_log;
};

void letters_init(struct letters *letters, const char *namespace_name);

/* One on its way; the item is made from the death. */
struct letter {
    struct death death;
    struct outgoing item;
};

enum letter_fate {
    LETTER_STORED,
    LETTER_FAILED,
    LETTER_CUT,    /* it has no payload any more: published again at once */
    LETTER_REFUSED /* it has none, and was refused: the message is lost when it is settled */
};

/* arena: holds what is borrowed by the item. */
enum letter_fate letters_outcome(struct letters *letters, struct letter *letter,
                                 struct arena *arena, struct err err);

/* It could not be published, for lack of memory. */
void letters_fail(struct letters *letters, struct err err);

#endif
