#include "patterns/messaging/trace.h"

#include "src/rpc/call.h"

/* "vv-tttttttttttttttttttttttttttttttt-pppppppppppppppp-ff" */
enum { VERSION = 0, TRACE = 3, PARENT = 36, FLAGS = 53, END = 55 };

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_zero(struct slice text, size_t from, size_t to)
{
    while (from < to && text.data[from] == '0')
        from++;
    return from == to;
}

bool trace_is_valid(struct slice text)
{
    if (text.len < END || text.len > TRACE_VALUE_BYTES)
        return false;
    for (size_t i = VERSION; i < END; i++) {
        bool dash = i == TRACE - 1 || i == PARENT - 1 || i == FLAGS - 1;

        if (dash ? text.data[i] != '-' : !is_hex(text.data[i]))
            return false;
    }
    if (is_zero(text, TRACE, PARENT - 1) || is_zero(text, PARENT, FLAGS - 1) ||
        slice_starts_with(text, slice_str("ff")))
        return false;
    return text.len == END || (!is_zero(text, VERSION, TRACE - 1) && text.data[END] == '-');
}

struct slice trace_of(const struct call *call)
{
    struct slice text = call_metadata(call, TRACE_HEADER);

    return trace_is_valid(text) ? text : slice_of("", 0);
}
