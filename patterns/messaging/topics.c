#include "patterns/messaging/topics.h"

#include "backends/message.h"

#include <stdbool.h>
#include <string.h>

static struct slice trimmed(const char *from, const char *to)
{
    while (from < to && *from == ' ')
        from++;
    while (from < to && to[-1] == ' ')
        to--;
    return slice_of(from, (size_t)(to - from));
}

void topics_init(struct topics *topics, struct arena *arena, const char *prefix,
                 const char *allowed)
{
    size_t most = 1, prefix_bytes = strlen(prefix);

    for (const char *c = allowed; *c != '\0'; c++)
        most += *c == ',';
    *topics = (struct topics){
        .prefix = slice_str(prefix),
        .allowed = arena_array(arena, most, sizeof *topics->allowed),
        .max_bytes = prefix_bytes < MESSAGE_TOPIC_BYTES ? MESSAGE_TOPIC_BYTES - prefix_bytes : 0,
    };
    for (const char *from = allowed; from != NULL;) {
        const char *comma = strchr(from, ',');
        struct slice entry = trimmed(from, comma != NULL ? comma : from + strlen(from));

        if (entry.len > 0)
            topics->allowed[topics->n_allowed++] = arena_copy(arena, entry);
        from = comma != NULL ? comma + 1 : NULL;
    }
}

/* "*" matches any run of bytes. On a mismatch the last "*" takes one byte more. */
static bool matches(struct slice pattern, struct slice name)
{
    size_t p = 0, n = 0, star = SIZE_MAX, taken = 0;

    while (n < name.len) {
        if (p < pattern.len && pattern.data[p] == '*') {
            star = p++;
            taken = n;
        } else if (p < pattern.len && pattern.data[p] == name.data[n]) {
            p++;
            n++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            n = ++taken;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.data[p] == '*')
        p++;
    return p == pattern.len;
}

static bool is_allowed(const struct topics *topics, struct slice name)
{
    for (size_t i = 0; i < topics->n_allowed; i++) {
        if (matches(topics->allowed[i], name))
            return true;
    }
    return false;
}

static bool has_bad_byte(struct slice name)
{
    static const char wild[] = "*>?[";

    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];

        if (c <= ' ' || c == 0x7f || memchr(wild, c, sizeof wild - 1) != NULL)
            return true;
    }
    return false;
}

const char *topics_fault(struct slice name)
{
    if (slice_starts_with(name, slice_str("$")) || slice_starts_with(name, slice_str("__")))
        return "topics that begin with \"$\" or \"__\" belong to the backend";
    return has_bad_byte(name) ? "topic holds a blank, a control character or a wildcard" : NULL;
}

void topics_check_part(struct backend_faults *faults, const char *setting, const char *part)
{
    if (has_bad_byte(slice_str(part)))
        backend_fault_add(faults,
                          (struct backend_fault){
                              .setting = setting,
                              .text = "holds a blank, a control character or a wildcard, which no "
                                      "name of a topic or group does"});
}

static const char *prefix_fault(const char *prefix)
{
    if (strlen(prefix) >= MESSAGE_TOPIC_BYTES)
        return "leaves no room for the name of a topic";
    return topics_fault(slice_str(prefix)) != NULL
               ? "holds a blank, a control character or a wildcard, or begins with \"$\" or \"__\""
               : NULL;
}

void topics_check(struct backend_faults *faults, const char *prefix, const char *allowed)
{
    const char *text = prefix_fault(prefix);

    if (text != NULL)
        backend_fault_add(faults, (struct backend_fault){.setting = "topic_prefix", .text = text});
    if (allowed[strspn(allowed, ", ")] == '\0')
        backend_fault_add(faults, (struct backend_fault){.setting = "allowed_topics",
                                                         .text = "allows nothing",
                                                         .fix = "name topics, or \"*\" for all"});
}

static const char *fault_of(const struct topics *topics, struct arena *arena, struct slice name)
{
    if (name.len == 0)
        return "topic is empty";
    if (name.len > topics->max_bytes)
        return arena_printf(arena, "topic has %zu bytes, and %zu are the most (max_topic_bytes)",
                            name.len, topics->max_bytes);
    return topics_fault(name);
}

struct err topics_map(const struct topics *topics, struct arena *arena, struct slice name,
                      struct slice *full)
{
    const char *fault = fault_of(topics, arena, name);

    if (fault != NULL)
        return err_about(ERR_INVALID_ARGUMENT, "topic", fault);
    if (!is_allowed(topics, name))
        return err_about(ERR_PERMISSION_DENIED, "topic",
                         "this namespace does not allow the topic (allowed_topics)");
    *full = name;
    if (topics->prefix.len > 0) {
        uint8_t *joined = arena_alloc(arena, topics->prefix.len + name.len);

        memcpy(joined, topics->prefix.data, topics->prefix.len);
        memcpy(joined + topics->prefix.len, name.data, name.len);
        *full = slice_of(joined, topics->prefix.len + name.len);
    }
    return ERR_NONE;
}

struct slice topics_unmap(const struct topics *topics, struct slice full)
{
    if (!slice_starts_with(full, topics->prefix))
        return full;
    return slice_of(full.data + topics->prefix.len, full.len - topics->prefix.len);
}
