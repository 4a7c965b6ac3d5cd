#include "patterns/messaging/letters.h"

#include <stdbool.h>
#include <string.h>

void letters_init(struct letters *letters, const char *namespace_name)
{
    letters->namespace_name = namespace_name;
    letters->failed_log = (struct log_budget)LOG_BUDGET(1, 60000);
    letters->cut_log = (struct log_budget)LOG_BUDGET(1, 60000);
    letters->refused_log = (struct log_budget)LOG_BUDGET(1, 60000);
}

/* The letter as it is will be refused each time. A topic that is missing or not allowed and a
 * permission are not of the letter: whoever runs the slot can mend them. */
static bool is_refused(struct err err)
{
    bool of_topic = err.subject != NULL && strcmp(err.subject, "topic") == 0;

    return err.retry_after_ms == 0 && !of_topic &&
           (err.code == ERR_INVALID_ARGUMENT || err.code == ERR_OUT_OF_RANGE ||
            err.code == ERR_UNIMPLEMENTED);
}

void letters_fail(struct letters *letters, struct err err)
{
    counter_add(&letters->failed, 1);
    trouble_met(&letters->trouble, "dead letters cannot be written");
    log_limited(&letters->failed_log, LOG_WARN, "dead_letter_failed",
                (const struct log_field[]){LOG_S("namespace", letters->namespace_name),
                                           LOG_S("error", err.text)},
                2);
}

static void log_refusal(const struct letters *letters, const struct letter *letter,
                        struct log_budget *budget, struct err err)
{
    log_limited(budget, LOG_WARN,
                budget == &letters->cut_log ? "dead_letter_without_payload" : "dead_letter_refused",
                (const struct log_field[]){
                    LOG_S("namespace", letters->namespace_name), LOG_B("topic", letter->item.topic),
                    LOG_I("payload_bytes", (int64_t)letter->death.message->payload.len),
                    LOG_S("error", err.text)},
                4);
}

/* A backend may refuse null as such: then what is left out is that. */
static void cut(struct letter *letter, struct arena *arena)
{
    struct death *death = &letter->death;

    death->omitted = message_is_null(death->payload)
                         ? slice_str("null")
                         : slice_str(arena_printf(arena, "%zu", death->payload.len));
    death->payload = message_empty();
    dead_letter_fill(&letter->item, arena, death);
}

enum letter_fate letters_outcome(struct letters *letters, struct letter *letter,
                                 struct arena *arena, struct err err)
{
    const struct death *death = &letter->death;

    if (err.code == ERR_OK) {
        counter_add(death->omitted.len > 0 ? &letters->cut : &letters->stored, 1);
        trouble_over(&letters->trouble);
        return LETTER_STORED;
    }
    if (!is_refused(err)) {
        letters_fail(letters, err);
        return LETTER_FAILED;
    }
    if (death->payload.len > 0 || message_is_null(death->payload)) {
        log_refusal(letters, letter, &letters->cut_log, err);
        cut(letter, arena);
        return LETTER_CUT;
    }
    counter_add(&letters->refused, 1);
    trouble_met(&letters->trouble, "dead letters are refused");
    log_refusal(letters, letter, &letters->refused_log, err);
    return LETTER_REFUSED;
}
