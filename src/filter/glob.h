/* Patterns of GLOB: "*" any run of characters, "?" one, "[a-z]" one of a set, "[!a-z]" one that is
 * not in it; a backslash takes the next character as it is. Characters are Unicode's; the whole
 * text has to match. */
#ifndef PRISM_FILTER_GLOB_H
#define PRISM_FILTER_GLOB_H

#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* NULL, or what is wrong; static. The pattern is valid UTF-8. */
const char *glob_fault(struct slice pattern);

/* What a pattern says when it has no "?" and no set, and at most one "*", at an end of it. */
enum glob_shape { GLOB_GENERAL, GLOB_ANY, GLOB_WHOLE, GLOB_START, GLOB_END };

/* *text: what is between, without backslashes; in the arena. */
enum glob_shape glob_shape(struct arena *arena, struct slice pattern, struct slice *text);

/* ---- a pattern in its pieces, for who says it in another language; it is valid ---- */

enum glob_piece { GLOB_RUN, GLOB_ONE, GLOB_SET, GLOB_CHARACTER };

/* Takes the next piece off a pattern that is not empty. *code: the character of GLOB_CHARACTER. A
 * GLOB_SET is taken as far as its bracket: glob_negates, then glob_take_range until glob_set_ends.
 */
enum glob_piece glob_take(struct slice *pattern, uint32_t *code);
bool glob_negates(struct slice *pattern);
/* low > high: the range holds nothing. False: the pattern ends, which a valid one does not. */
bool glob_take_range(struct slice *pattern, uint32_t *low, uint32_t *high);
/* A closing bracket that comes first is one of the set, so a range is taken before this is asked.
 */
bool glob_set_ends(struct slice *pattern);

/* ---- */

/* Both are valid. Takes at most time proportional to the text's length times that of the longest
 * part between two stars; what stands before the first and behind the last is compared once. */
bool glob_match(struct slice pattern, struct slice text);

#endif
