#include "src/config/config_priv.h"

#include "src/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TAME_BYTES = 48, TEXT_BYTES = 1024 };

void faults_init(struct faults *faults)
{
    faults->count = faults->omitted = 0;
    arena_init(&faults->arena, NULL);
}

void faults_clear(struct faults *faults)
{
    arena_clear(&faults->arena);
    faults->count = faults->omitted = 0;
}

void faults_log(const struct faults *faults)
{
    for (size_t i = 0; i < faults->count; i++) {
        const struct fault *f = &faults->items[i];

        log_event(LOG_ERROR, "config_fault", LOG_S("path", f->path), LOG_U("line", f->line),
                  LOG_S("message", f->message), LOG_S("fix", f->fix), LOG_S("slot", f->slot),
                  LOG_S("backend", f->backend), LOG_S("interface", f->interface));
    }
    if (faults->omitted > 0)
        log_event(LOG_ERROR, "config_faults_omitted", LOG_U("count", faults->omitted));
}

void fault_add(struct load *load, struct fault fault)
{
    struct faults *faults = load->faults;

    if (faults->count == CONFIG_MAX_FAULTS) {
        faults->omitted++;
        return;
    }
    if (fault.line == 0)
        fault.line = written_line(load, fault.path);
    faults->items[faults->count++] = fault;
}

static const char *print(struct load *load, const char *format, va_list args)
{
    char text[TEXT_BYTES];

    vsnprintf(text, sizeof text, format, args);
    return arena_strdup(&load->faults->arena, slice_str(text));
}

void fault_at(struct load *load, const struct node *at, const char *fix, const char *format, ...)
{
    va_list args;

    if (load->faults->count == CONFIG_MAX_FAULTS) {
        load->faults->omitted++;
        return;
    }
    va_start(args, format);
    fault_add(load, (struct fault){
                        .path = node_path(&load->faults->arena, at),
                        .line = at->line,
                        .message = print(load, format, args),
                        .fix = fix,
                    });
    va_end(args);
}

const char *fault_text(struct load *load, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const char *text = print(load, format, args);
    va_end(args);
    return text;
}

bool fault_known(const struct load *load, const char *path)
{
    for (size_t i = 0; i < load->faults->count; i++)
        if (strcmp(load->faults->items[i].path, path) == 0)
            return true;
    return false;
}

bool fault_below(const struct load *load, const char *prefix)
{
    for (size_t i = 0; i < load->faults->count; i++)
        if (strncmp(load->faults->items[i].path, prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

const char *tame(struct arena *arena, const char *text)
{
    char out[TAME_BYTES + 4];
    size_t len = 0;
    struct slice rest = slice_str(text);

    while (rest.len > 0) {
        size_t n = utf8_char_bytes(rest);
        bool plain = n > 1 || (n == 1 && rest.data[0] >= 0x20 && rest.data[0] != 0x7f);

        n = n > 0 ? n : 1;
        if (len + n > TAME_BYTES) {
            memcpy(out + len, "...", 3);
            len += 3;
            break;
        }
        if (plain)
            memcpy(out + len, rest.data, n);
        else
            out[len] = '?';
        len += n;
        rest = slice_of(rest.data + n, rest.len - n);
    }
    return arena_strdup(arena, slice_of(out, len));
}

const char *quoted(struct load *load, const char *text)
{
    return fault_text(load, "`%s`", tame(&load->scratch, text));
}

const char *shown(struct load *load, const struct node *scalar)
{
    return scalar->expanded ? "(hidden)" : quoted(load, scalar->text);
}
