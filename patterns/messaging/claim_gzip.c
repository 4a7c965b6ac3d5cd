#include "patterns/messaging/claim_gzip.h"

#include "pool/worker.h"
#include "src/base/container.h"

#include <stdlib.h>
#include <zlib.h>

enum {
    GZIP_WINDOW = 15 + 16, /* zlib: the largest window, in gzip's format */
    LEVEL = 1,             /* the most bytes saved for a microsecond */
    MEMORY_LEVEL = 8
};

enum step { GOES_ON, GOOD, BAD };

static size_t at_most(size_t n)
{
    return n < CLAIM_GZIP_SLICE ? n : CLAIM_GZIP_SLICE;
}

static void begin(struct claim_gzip *gzip)
{
    z_stream *z = gzip->z = arena_zalloc(gzip->arena, sizeof *z);
    int state = gzip->inflates ? inflateInit2(z, GZIP_WINDOW)
                               : deflateInit2(z, LEVEL, Z_DEFLATED, GZIP_WINDOW, MEMORY_LEVEL,
                                              Z_DEFAULT_STRATEGY);

    if (state != Z_OK)
        abort(); /* out of memory */
}

/* ---- a slice ---- */

/* Of the input. zlib's counters are narrower than a size. */
static enum step deflate_slice(struct claim_gzip *gzip)
{
    z_stream *z = gzip->z;
    size_t left = gzip->room - gzip->made;
    size_t slice = at_most(gzip->from.len - gzip->taken);
    size_t room = left < UINT32_MAX ? left : UINT32_MAX;
    bool last = gzip->taken + slice == gzip->from.len;

    z->next_in = (uint8_t *)(uintptr_t)gzip->from.data + gzip->taken;
    z->avail_in = (uInt)slice;
    z->next_out = gzip->to + gzip->made;
    z->avail_out = (uInt)room;

    int state = deflate(z, last ? Z_FINISH : Z_NO_FLUSH);

    gzip->taken += slice - z->avail_in;
    gzip->made += room - z->avail_out;
    if (state == Z_STREAM_END)
        return GOOD;
    return state == Z_OK && z->avail_in == 0 && !last ? GOES_ON : BAD;
}

/* Of both sides. The end of the stream needs no room. No progress: it is truncated, or there is
 * more of it. */
static enum step inflate_slice(struct claim_gzip *gzip)
{
    z_stream *z = gzip->z;
    size_t in = at_most(gzip->from.len - gzip->taken), out = at_most(gzip->room - gzip->made);

    z->next_in = (uint8_t *)(uintptr_t)gzip->from.data + gzip->taken;
    z->avail_in = (uInt)in;
    z->next_out = gzip->to + gzip->made;
    z->avail_out = (uInt)out;

    int state = inflate(z, Z_NO_FLUSH);

    gzip->taken += in - z->avail_in;
    gzip->made += out - z->avail_out;
    if (state == Z_STREAM_END)
        return gzip->made == gzip->room && gzip->taken == gzip->from.len ? GOOD : BAD;
    return state == Z_OK ? GOES_ON : BAD;
}

/* ---- turns ---- */

static void finish(struct claim_gzip *gzip, bool good)
{
    if (gzip->z != NULL && gzip->inflates)
        inflateEnd(gzip->z);
    else if (gzip->z != NULL)
        deflateEnd(gzip->z);
    gzip->z = NULL;
    semaphore_release(gzip->permits);
    gzip->done(gzip, good);
}

static void take_turn(struct job *job)
{
    struct claim_gzip *gzip = CONTAINER_OF(job, struct claim_gzip, turn);
    enum step step = BAD;

    if (!gzip->stopped) {
        if (gzip->z == NULL)
            begin(gzip);
        step = gzip->inflates ? inflate_slice(gzip) : deflate_slice(gzip);
    }
    if (step == GOES_ON)
        worker_land(gzip->home, &gzip->turn);
    else
        finish(gzip, step == GOOD);
}

static void granted(struct semaphore_waiter *waiter)
{
    struct claim_gzip *gzip = CONTAINER_OF(waiter, struct claim_gzip, waiter);

    worker_land(gzip->home, &gzip->turn);
}

static void start(struct claim_gzip *gzip, bool inflates)
{
    gzip->inflates = inflates;
    gzip->turn.run = take_turn;
    gzip->waiter.granted = granted;
    if (semaphore_try(gzip->permits))
        worker_land(gzip->home, &gzip->turn);
    else
        semaphore_wait(gzip->permits, &gzip->waiter);
}

void claim_deflate(struct claim_gzip *gzip)
{
    start(gzip, false);
}

void claim_inflate(struct claim_gzip *gzip)
{
    start(gzip, true);
}

void claim_gzip_stop(struct claim_gzip *gzip)
{
    gzip->stopped = true;
    if (semaphore_leave(gzip->permits, &gzip->waiter))
        gzip->done(gzip, false);
}
