/* From a member's address to its container: how continuations find their request. */
#ifndef PRISM_BASE_CONTAINER_H
#define PRISM_BASE_CONTAINER_H

#include <stddef.h>

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

#endif
