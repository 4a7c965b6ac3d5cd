/* Runs a fuzz target without libFuzzer, so that every compiler and sanitizer can: each seed as it
 * is, then mutants of it from a fixed random sequence. replay FOLDER [MUTANTS]; a target fails by
 * aborting. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_BYTES = 1 << 16, MUTANTS = 200 };

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Changes, inserts, repeats or drops a few bytes. Returns the new length. */
static size_t mutate(uint8_t *data, size_t len, uint64_t *random)
{
    for (unsigned n = 1 + (unsigned)(next_random(random) % 8); n > 0; n--) {
        size_t at = len > 0 ? next_random(random) % len : 0;
        size_t span = len > at ? 1 + next_random(random) % (len - at) : 0;

        switch (next_random(random) % 4) {
        case 0:
            if (len > 0)
                data[at] = (uint8_t)next_random(random);
            break;
        case 1:
            if (len < INPUT_BYTES) {
                memmove(data + at + 1, data + at, len - at);
                data[at] = (uint8_t)next_random(random);
                len++;
            }
            break;
        case 2:
            if (len + span <= INPUT_BYTES) {
                memmove(data + at + span, data + at, len - at);
                len += span;
            }
            break;
        default:
            memmove(data + at, data + at + span, len - at - span);
            len -= span;
        }
    }
    return len;
}

/* A copy of exactly the input's size: reads beyond it are seen by AddressSanitizer. */
static void run_one(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    if (copy == NULL)
        abort();
    memcpy(copy, data, len);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static void run_seed(const char *path, unsigned mutants)
{
    static uint8_t seed[INPUT_BYTES], mutant[INPUT_BYTES];
    uint64_t random = 0x9e3779b97f4a7c15u;
    FILE *f = fopen(path, "rb");

    if (f == NULL) {
        perror(path);
        exit(1);
    }
    size_t len = fread(seed, 1, sizeof seed, f);

    fclose(f);
    run_one(seed, len);
    for (unsigned i = 0; i < mutants; i++) {
        memcpy(mutant, seed, len);
        run_one(mutant, mutate(mutant, len, &random));
    }
}

int main(int argc, char **argv)
{
    unsigned mutants = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : MUTANTS, seeds = 0;
    DIR *folder = argc > 1 ? opendir(argv[1]) : NULL;
    char path[4096];

    if (folder == NULL) {
        fprintf(stderr, "usage: %s FOLDER [MUTANTS]\n", argv[0]);
        return 2;
    }
    for (struct dirent *e; (e = readdir(folder)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        run_seed(path, mutants);
        seeds++;
    }
    closedir(folder);
    printf("%u seeds, %u mutants of each\n", seeds, mutants);
    return seeds > 0 ? 0 : 1;
}
