#include "client/prismctl/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_BYTES = 64 << 10,
    MOST_BYTES = 256 << 20 /* the largest limits.max_message_bytes that a server can be given */
};

int value_open(struct value_source *source, const struct invocation *in)
{
    const char *path = in->options->value_file;

    *source = (struct value_source){.name = "standard input"};
    if (in->count > 1 && (path != NULL || strcmp(in->arguments[1], "-") != 0)) {
        if (path != NULL)
            return fail_usage(in->options, "a value and --value-file exclude each other", NULL);
        source->bytes = prism_bytes_of(in->arguments[1], strlen(in->arguments[1]));
        return EXIT_DONE;
    }
    if (path == NULL || strcmp(path, "-") == 0) {
        source->file = stdin;
        return EXIT_DONE;
    }
    source->name = path;
    source->file = fopen(path, "re");
    return source->file != NULL ? EXIT_DONE : fail_usage(in->options, path, strerror(errno));
}

/* Up to one byte more than `most`, which tells "too large". */
static bool read_up_to(FILE *file, size_t most, struct prism_buffer *to)
{
    size_t room = 0;

    do {
        if (to->len == room) {
            room = room > 0 ? room * 2 : FIRST_BYTES;
            room = room < most + 1 ? room : most + 1;
            to->data = realloc(to->data, room);
            if (to->data == NULL)
                abort();
        }
        to->len += fread(to->data + to->len, 1, room - to->len, file);
    } while (to->len <= most && !feof(file) && !ferror(file));
    return !ferror(file);
}

static int refuse_size(const struct value_source *source, const struct options *options,
                       size_t most)
{
    struct prism_error error = {.code = PRISM_INVALID_ARGUMENT, .field = "value"};

    snprintf(error.message, sizeof error.message,
             "%s holds more than %zu bytes, the largest value that %s", source->name, most,
             most == MOST_BYTES ? "any server takes" : "this server takes");
    return fail(options, &error);
}

int value_read(struct value_source *source, const struct options *options, int64_t announced_bytes)
{
    size_t most =
        announced_bytes > 0 && announced_bytes < MOST_BYTES ? (size_t)announced_bytes : MOST_BYTES;

    if (source->file == NULL) /* the server tells how large an argument may be */
        return EXIT_DONE;
    if (!read_up_to(source->file, most, &source->owned))
        return fail_usage(options, source->name, strerror(errno));
    if (source->owned.len > most)
        return refuse_size(source, options, most);
    source->bytes = prism_bytes_of(source->owned.data, source->owned.len);
    return EXIT_DONE;
}

void value_close(struct value_source *source)
{
    if (source->file != NULL && source->file != stdin)
        fclose(source->file);
    free(source->owned.data);
}
