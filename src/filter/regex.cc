#include "src/filter/regex.h"

#include <cstdio>
#include <re2/re2.h>

namespace {

RE2::Options options(size_t max_bytes)
{
    RE2::Options options;

    options.set_log_errors(false);
    options.set_never_capture(true);
    options.set_max_mem(static_cast<int64_t>(max_bytes));
    return options;
}

} // namespace

struct regex {
    regex(const re2::StringPiece &pattern, size_t max_bytes) : re2(pattern, options(max_bytes)) {}

    RE2 re2;
};

struct regex *regex_new(const char *pattern, size_t len, size_t max_bytes, char *why, size_t room)
{
    regex *made = new regex(re2::StringPiece(pattern, len), max_bytes);

    if (made->re2.ok())
        return made;
    std::snprintf(why, room, "%s", made->re2.error().c_str());
    delete made;
    return nullptr;
}

bool regex_match(const struct regex *regex, const char *text, size_t len)
{
    return RE2::PartialMatch(re2::StringPiece(text, len), regex->re2);
}

void regex_destroy(void *made)
{
    delete static_cast<regex *>(made);
}
