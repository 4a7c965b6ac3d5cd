/* Errors by value, and the allocation that cannot fail. */
#include "client/src/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
    [PRISM_OK] = "OK",
    [PRISM_CANCELLED] = "CANCELLED",
    [PRISM_UNKNOWN] = "UNKNOWN",
    [PRISM_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
    [PRISM_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
    [PRISM_NOT_FOUND] = "NOT_FOUND",
    [PRISM_ALREADY_EXISTS] = "ALREADY_EXISTS",
    [PRISM_PERMISSION_DENIED] = "PERMISSION_DENIED",
    [PRISM_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
    [PRISM_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
    [PRISM_ABORTED] = "ABORTED",
    [PRISM_OUT_OF_RANGE] = "OUT_OF_RANGE",
    [PRISM_UNIMPLEMENTED] = "UNIMPLEMENTED",
    [PRISM_INTERNAL] = "INTERNAL",
    [PRISM_UNAVAILABLE] = "UNAVAILABLE",
    [PRISM_DATA_LOSS] = "DATA_LOSS",
    [PRISM_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

const char *prism_code_name(enum prism_code code)
{
    unsigned number = (unsigned)code;

    return number < sizeof names / sizeof *names ? names[number] : "UNKNOWN";
}

static enum prism_code fill(struct prism_error *error, enum prism_code code, const char *field,
                            const char *format, va_list args)
{
    if (error == NULL)
        return code;
    memset(error, 0, sizeof *error);
    error->code = code;
    error_text(error->field, sizeof error->field, field, strlen(field));
    vsnprintf(error->message, sizeof error->message, format, args);
    return code;
}

enum prism_code error_set(struct prism_error *error, enum prism_code code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fill(error, code, "", format, args);
    va_end(args);
    return code;
}

enum prism_code error_about(struct prism_error *error, const char *field, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fill(error, PRISM_INVALID_ARGUMENT, field, format, args);
    va_end(args);
    return PRISM_INVALID_ARGUMENT;
}

enum prism_code error_none(struct prism_error *error)
{
    if (error != NULL)
        memset(error, 0, sizeof *error);
    return PRISM_OK;
}

enum prism_code error_copy(struct prism_error *error, const struct prism_error *from)
{
    if (error != NULL && error != from)
        *error = *from;
    return from->code;
}

void error_text(char *to, size_t size, const char *text, size_t len)
{
    if (len >= size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80)
            len--;
    }
    if (len > 0)
        memcpy(to, text, len);
    to[len] = '\0';
}

void *alloc_zeroed(size_t n, size_t size)
{
    void *memory = calloc(n > 0 ? n : 1, size);

    if (memory == NULL)
        abort();
    return memory;
}

char *alloc_text(const char *text)
{
    char *copy = text == NULL ? NULL : strdup(text);

    if (text != NULL && copy == NULL)
        abort();
    return copy;
}

void prism_buffer_free(struct prism_buffer *buffer)
{
    if (buffer == NULL)
        return;
    free(buffer->data);
    *buffer = (struct prism_buffer){0};
}

const char *prism_version(void)
{
    return PRISM_VERSION;
}
