/* Families of the pattern on the metrics page. */
#include "patterns/families.h"
#include "patterns/session_store/session_store_priv.h"
#include "src/base/container.h"

#define STAT(member) offsetof(struct session_store, stats.member)

static const struct family families[] = {
    {"prism_sessions_created_total",
     "counter",
     NULL,
     "Sessions that were created.",
     {{NULL, STAT(created)}}},
    {"prism_sessions_refused_total",
     "counter",
     "limit",
     "Creations refused because a limit was reached.",
     {{"user", STAT(refused_user)}, {"namespace", STAT(refused_namespace)}}},
    {"prism_sessions_ended_total",
     "counter",
     "cause",
     "Sessions ended by a call: one by one, all of a user, or the oldest of a user for a new one.",
     {{"deleted", STAT(deleted)}, {"user", STAT(of_user)}, {"oldest", STAT(evicted)}}},
    {"prism_session_changes_total",
     "counter",
     "change",
     "Identifiers replaced, and expiries extended.",
     {{"rotated", STAT(rotated)}, {"extended", STAT(extended)}}},
    {"prism_session_reads_total",
     "counter",
     "outcome",
     "Reads of sessions and of values, by whether the session was there.",
     {{"found", STAT(read)}, {"missing", STAT(read_missing)}}},
    {"prism_session_writes_total",
     "counter",
     "outcome",
     "Changes of values by what became of them.",
     {{"done", STAT(written)},
      {"missing", STAT(write_missing)},
      {"aborted", STAT(aborted)},
      {"too_large", STAT(too_large)}}},
};

_Static_assert(offsetof(struct session_store, base) == 0, "families count from the pattern");

void session_store_render(struct pattern *const *instances, size_t n, struct metrics_page *page)
{
    families_render(families, ARRAY_LEN(families), instances, n, page);
}
