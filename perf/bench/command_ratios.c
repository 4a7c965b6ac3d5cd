/* prism-bench ratios: ours and each baseline alternately in one run, one record per target. */
#include "perf/bench/commands.h"
#include "perf/bench/json.h"
#include "perf/bench/ratios.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: prism-bench ratios [OPTION]...\n"
    "\n"
    "Starts prismd and every baseline that stands beside it, in turn, and prints one record for\n"
    "each target: ours, the baseline, the median of the rounds' ratios, whether the target holds.\n"
    "\n"
    "  --only A,B      these targets only (see --list)\n"
    "  --rounds N      (5)    --seconds S  of each measurement (1.0)\n"
    "  --output F      table (default) or json\n"
    "  --strict        exit status 3 when a target does not hold\n"
    "  --list          the names of the targets\n";

enum { BOUND_BYTES = 32 };

static bool is_chosen(const struct ratios *ratios, const struct target *t)
{
    return list_has(ratios->only, t->name);
}

/* ---- output ---- */

static const char *verdict(const struct target *t, const struct record *r)
{
    if (!target_is_judged(r))
        return "none";
    return target_holds(t, r) ? "holds" : "FAILS";
}

static void print_row(const struct target *t, const struct record *r)
{
    char bound[BOUND_BYTES], ratio[BOUND_BYTES] = "-", baseline[BOUND_BYTES] = "-";
    char range[BOUND_BYTES] = "-";

    if (r->error[0] != '\0') {
        printf("%-21s %-9s %-18s not measured: %s\n", t->name, t->part, t->unit, r->error);
        return;
    }
    snprintf(bound, sizeof bound, "%s %.4g%s", t->at_least ? ">=" : "<=", t->limit,
             t->absolute ? "" : "x");
    if (!isnan(r->ratio))
        snprintf(ratio, sizeof ratio, "%.3f", r->ratio);
    if (!isnan(r->baseline))
        snprintf(baseline, sizeof baseline, "%.4g", r->baseline);
    if (!isnan(r->ratio))
        snprintf(range, sizeof range, "%.3f..%.3f", r->ratio_min, r->ratio_max);
    printf("%-21s %-9s %-18s %10.4g %10s %7s  %-14s %9s  %-5s %s\n", t->name, t->part, t->unit,
           r->ours, baseline, ratio, range, bound, verdict(t, r), r->note);
}

static void print_json(struct json *j, const struct target *t, const struct record *r)
{
    bool measured = r->error[0] == '\0';

    json_open(j, NULL, '{');
    json_text(j, "name", t->name);
    json_text(j, "part", t->part);
    json_text(j, "unit", t->unit);
    json_number(j, "ours", measured ? r->ours : NAN);
    json_number(j, "baseline", measured ? r->baseline : NAN);
    json_number(j, "ratio", measured ? r->ratio : NAN);
    json_number(j, "target", t->limit);
    json_text(j, "bound", t->at_least ? "at least" : "at most");
    json_text(j, "of", t->absolute ? "ours" : "ratio");
    if (measured && target_is_judged(r))
        json_bool(j, "holds", target_holds(t, r));
    else
        json_null(j, "holds");
    json_number(j, "ratio_min", measured ? r->ratio_min : NAN);
    json_number(j, "ratio_max", measured ? r->ratio_max : NAN);
    json_number(j, "rounds", r->rounds);
    json_number(j, "disturbance", r->disturbance);
    json_number(j, "client_share", r->client_share);
    json_text(j, "note", r->note);
    if (!measured)
        json_text(j, "error", r->error);
    json_close(j, '}');
}

/* Figures that somebody else's work has spoilt look like figures, so it is said. */
static void warn_of_disturbance(const struct ratios *ratios)
{
    const double tolerable = 0.1;
    size_t count;
    double worst = 0;

    targets_all(&count);
    for (size_t i = 0; i < count; i++)
        worst = fmax(worst, ratios->records[i].disturbance);
    if (worst > tolerable)
        fprintf(stderr,
                "prism-bench: other processes used up to %.0f %% of the machine meanwhile: "
                "measure again when it is quiet\n",
                worst * 100);
}

void ratios_print(const struct ratios *ratios)
{
    size_t count;
    const struct target *targets = targets_all(&count);
    struct json json;

    json_init(&json, stdout);
    if (ratios->as_json)
        json_open(&json, NULL, '[');
    else
        printf("%-21s %-9s %-18s %10s %10s %7s  %-14s %9s\n", "target", "part", "unit", "ours",
               "baseline", "ratio", "min..max", "bound");
    for (size_t i = 0; i < count; i++) {
        if (!is_chosen(ratios, &targets[i]))
            continue;
        if (ratios->as_json)
            print_json(&json, &targets[i], &ratios->records[i]);
        else
            print_row(&targets[i], &ratios->records[i]);
    }
    if (ratios->as_json)
        json_close(&json, ']');
}

static void print_names(void)
{
    size_t count;
    const struct target *t = targets_all(&count);

    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(t[i].name, t[i - 1].name) != 0)
            puts(t[i].name);
    }
}

/* ---- the run ---- */

static bool run_probes(struct ratios *ratios)
{
    size_t count;
    const struct target *targets = targets_all(&count);

    for (size_t i = 0; i < count; i++) {
        const struct target *t = &targets[i];
        struct record *record = &ratios->records[i];
        if (t->probe == NULL || !is_chosen(ratios, t) || t->probe(ratios, t, record))
            continue;
        if (lab_interrupted())
            return false;
        memcpy(record->error, ratios->lab.error, sizeof record->error);
        fprintf(stderr, "%s: %s\n", t->name, record->error);
    }
    return true;
}

static int outcome(const struct ratios *ratios)
{
    size_t count;
    const struct target *targets = targets_all(&count);
    int status = STATUS_DONE;

    for (size_t i = 0; i < count; i++) {
        const struct record *r = &ratios->records[i];
        if (!is_chosen(ratios, &targets[i]))
            continue;
        if (r->error[0] != '\0')
            return STATUS_FAILED;
        if (ratios->strict && target_is_judged(r) && !target_holds(&targets[i], r))
            status = STATUS_TARGET_MISSED;
    }
    return status;
}

static bool names_are_known(const char *list)
{
    size_t count;
    const struct target *targets = targets_all(&count);
    char word[64];

    for (const char *at = list; at != NULL && *at != '\0';) {
        size_t bytes = strcspn(at, ","), i = 0;
        snprintf(word, sizeof word, "%.*s", (int)bytes, at);
        while (i < count && strcmp(targets[i].name, word) != 0)
            i++;
        if (i == count) {
            fprintf(stderr, "prism-bench: --only %s: no such target (see --list)\n", word);
            return false;
        }
        at += bytes;
        at += *at == ',';
    }
    return true;
}

static bool read_option(struct ratios *ratios, int id)
{
    uint64_t rounds;

    switch (id) {
    case 'n':
        ratios->only = optarg;
        return names_are_known(optarg);
    case 'r':
        if (!option_number("rounds", optarg, RATIOS_ROUNDS_MAX, &rounds))
            return false;
        ratios->rounds = (unsigned)rounds;
        return true;
    case 's':
        return option_seconds("seconds", optarg, &ratios->seconds);
    case 'o':
        return option_output(optarg, &ratios->as_json);
    case 't':
        ratios->strict = true;
        return true;
    default:
        return false;
    }
}

int command_ratios(int argc, char **argv)
{
    static const struct option options[] = {
        {"only", required_argument, NULL, 'n'},    {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'}, {"output", required_argument, NULL, 'o'},
        {"strict", no_argument, NULL, 't'},        {"list", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    static struct ratios ratios = {.rounds = 5, .seconds = 1.0};
    int id;

    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (id == 'h' || id == 'l') {
            if (id == 'h')
                fputs(usage, stdout);
            else
                print_names();
            return STATUS_DONE;
        }
        if (!read_option(&ratios, id))
            return STATUS_USAGE;
    }
    if (ratios.rounds == 0 || !(ratios.seconds > 0)) {
        fputs("prism-bench: rounds and seconds must be above 0\n", stderr);
        return STATUS_USAGE;
    }
    bool through = lab_open(&ratios.lab) && ratios_go_round(&ratios) && run_probes(&ratios);
    lab_close(&ratios.lab);
    if (!through) {
        fprintf(stderr, "prism-bench: %s\n", ratios.lab.error);
        return STATUS_FAILED;
    }
    ratios_print(&ratios);
    warn_of_disturbance(&ratios);
    return outcome(&ratios);
}
