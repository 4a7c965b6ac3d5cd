/* Passwords and private keys do not stay behind in freed memory. Who grows a buffer that holds one
 * copies it by hand: realloc may leave the old bytes where they were. */
#ifndef PRISM_BASE_SECRET_H
#define PRISM_BASE_SECRET_H

#include <stddef.h>

/* Overwrites the bytes; the compiler cannot leave that out. NULL is fine with len 0. */
void secret_wipe(void *bytes, size_t len);

/* Overwrites a NUL-terminated text and frees it. text: from malloc or strdup; NULL is fine. */
void secret_free(char *text);

#endif
