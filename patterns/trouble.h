/* What a pattern itself has met with a slot whose backend may find nothing wrong: writes that are
 * refused, objects that may not be read. The slot is DEGRADED for as long (pattern.h: restriction).
 *
 * Ends when the pattern says so, or by itself when it was not met again for TROUBLE_FORGOTTEN_MS:
 * then nobody has tried. */
#ifndef PRISM_PATTERNS_TROUBLE_H
#define PRISM_PATTERNS_TROUBLE_H

#include "src/base/err.h"

#include <stdatomic.h>
#include <stdint.h>

enum { TROUBLE_FORGOTTEN_MS = 60000 };

/* Zeroed: none. */
struct trouble {
    _Atomic(uint64_t) met_ns; /* CLOCK_MONOTONIC, the last time; 0: it is over */
    _Atomic(const char *) text;
};

/* text: static. thread: home of the pattern. */
void trouble_met(struct trouble *trouble, const char *text);
void trouble_over(struct trouble *trouble);

/* NULL: there is none. thread: any. */
const char *trouble_text(const struct trouble *trouble);

/* Of an object store that failed so; static. */
const char *trouble_of_objects(struct err err);

#endif
