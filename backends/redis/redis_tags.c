#include "backends/redis/redis_tags.h"

#include "backends/redis/redis_text.h"

#include <stdio.h>
#include <stdlib.h>

/* Some n of them are tried for each. */
static char *tag_of(struct slice space, unsigned n, unsigned i)
{
    size_t room = space.len + 32;
    char *text = malloc(room);

    if (text == NULL)
        abort();
    for (unsigned k = 0;; k++) {
        int len =
            snprintf(text, room, "%.*s%%%u.%u", (int)space.len, (const char *)space.data, i, k);

        if (redis_slot(slice_of(NULL, 0), slice_of(text, (size_t)len)) * n / REDIS_SLOTS == i)
            return text;
    }
}

struct redis_tags *redis_tags_new(struct slice space, unsigned n)
{
    struct redis_tags *tags = malloc(sizeof *tags + n * sizeof tags->texts[0]);

    if (tags == NULL)
        abort();
    tags->n = n;
    for (unsigned i = 0; i < n; i++)
        tags->texts[i] = tag_of(space, n, i);
    return tags;
}

void redis_tags_free(struct redis_tags *tags)
{
    if (tags == NULL)
        return;
    for (unsigned i = 0; i < tags->n; i++)
        free(tags->texts[i]);
    free(tags);
}
