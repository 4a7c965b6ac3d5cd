#include "src/base/hash.h"

#include <sys/random.h>

/* Without the kernel's help hashes still work, and names could be made to meet. */
uint64_t hash_seed(void)
{
    uint64_t seed = 0;

    (void)!getrandom(&seed, sizeof seed, 0);
    return seed;
}
