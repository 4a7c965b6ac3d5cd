/* Patterns of GLOB: "*" any run of characters, "?" one, "[a-z]" one of a set, "[!a-z]" one that is
 * not in it; a backslash takes the next character as it is. Characters are Unicode's; the whole
 * text has to match. */
#ifndef PRISM_FILTER_GLOB_H
#define PRISM_FILTER_GLOB_H

#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>

/* NULL, or what is wrong; static. The pattern is valid UTF-8. */
const char *glob_fault(struct slice pattern);

/* What a pattern says when it has no "?" and no set, and at most one "*", at an end of it. */
enum glob_shape { GLOB_GENERAL, GLOB_ANY, GLOB_WHOLE, GLOB_START, GLOB_END };

/* *text: what is between, without backslashes; in the arena. */
enum glob_shape glob_shape(struct arena *arena, struct slice pattern, struct slice *text);

/* Both are valid. Takes at most time proportional to the product of the lengths. */
bool glob_match(struct slice pattern, struct slice text);

#endif
