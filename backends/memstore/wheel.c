#include "backends/memstore/wheel.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEVEL_BITS = 6,
    OFFSET_BITS = 9,
    GENERATION_BITS = 3,
    CHUNK_NOTES = 13, /* a chunk is one cache line */
};

struct wheel_chunk {
    struct wheel_chunk *next;
    uint32_t count;
    uint32_t notes[CHUNK_NOTES]; /* tag, generation, offset within the slot */
};

struct wheel_place {
    unsigned level, slot;
    uint32_t offset;
};

void wheel_init(struct wheel *wheel, uint64_t now_tick)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->tick = now_tick;
    wheel->next = UINT64_MAX;
}

static void free_chain(struct wheel_chunk *chunk)
{
    while (chunk != NULL) {
        struct wheel_chunk *next = chunk->next;

        free(chunk);
        chunk = next;
    }
}

void wheel_clear(struct wheel *wheel)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            free_chain(wheel->slots[level][slot]);
    }
    free_chain(wheel->due);
    free_chain(wheel->spare);
    wheel_init(wheel, wheel->tick);
}

size_t wheel_bytes(const struct wheel *wheel)
{
    return sizeof *wheel + wheel->chunks * sizeof(struct wheel_chunk);
}

/* ---- chunks ---- */

static struct wheel_chunk *new_chunk(struct wheel *wheel)
{
    struct wheel_chunk *chunk = wheel->spare;

    if (chunk != NULL) {
        wheel->spare = NULL;
        return chunk;
    }
    chunk = malloc(sizeof *chunk);
    if (chunk == NULL)
        abort();
    wheel->chunks++;
    return chunk;
}

static void drop_chunk(struct wheel *wheel, struct wheel_chunk *chunk)
{
    chunk->next = NULL;
    if (wheel->spare == NULL) {
        wheel->spare = chunk;
        return;
    }
    free(chunk);
    wheel->chunks--;
}

static void push(struct wheel *wheel, struct wheel_chunk **list, uint32_t note)
{
    struct wheel_chunk *head = *list;

    if (head == NULL || head->count == CHUNK_NOTES) {
        head = new_chunk(wheel);
        head->next = *list;
        head->count = 0;
        *list = head;
    }
    head->notes[head->count++] = note;
}

/* ---- places ---- */

static unsigned span_bits(unsigned level)
{
    return level * LEVEL_BITS;
}

/* Ticks that an offset within a slot of this level cannot tell apart, as a power of two. */
static unsigned blur_bits(unsigned level)
{
    return span_bits(level) > OFFSET_BITS ? span_bits(level) - OFFSET_BITS : 0;
}

static struct wheel_place place_of(const struct wheel *wheel, uint64_t due)
{
    uint64_t from = wheel->tick;

    due = due > from ? due : from;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        unsigned span = span_bits(level), blur = blur_bits(level);
        uint64_t rounded = (due + (1ull << blur) - 1) >> blur << blur;

        if ((rounded >> span) - (from >> span) < WHEEL_SLOTS)
            return (struct wheel_place){.level = level,
                                        .slot = (unsigned)(rounded >> span) % WHEEL_SLOTS,
                                        .offset =
                                            (uint32_t)((rounded & ((1ull << span) - 1)) >> blur)};
    }
    return (struct wheel_place){
        .level = WHEEL_LEVELS - 1,
        .slot = (unsigned)((from >> span_bits(WHEEL_LEVELS - 1)) + WHEEL_SLOTS - 1) % WHEEL_SLOTS};
}

/* The tick at which a slot that is occupied begins. */
static uint64_t begin_of(const struct wheel *wheel, unsigned level, unsigned slot)
{
    uint64_t now = wheel->tick >> span_bits(level);
    unsigned ahead = (slot - (unsigned)now) % WHEEL_SLOTS;

    return (now + ahead) << span_bits(level);
}

static void put_down(struct wheel *wheel, uint32_t tagged, uint64_t due)
{
    struct wheel_place at = place_of(wheel, due);
    uint64_t begin = begin_of(wheel, at.level, at.slot);

    push(wheel, &wheel->slots[at.level][at.slot], tagged << OFFSET_BITS | at.offset);
    wheel->occupied[at.level] |= 1ull << at.slot;
    wheel->next = begin < wheel->next ? begin : wheel->next;
}

void wheel_add(struct wheel *wheel, struct wheel_note note, uint64_t due_tick)
{
    assert(note.tag >> 20 == 0 && note.generation < WHEEL_GENERATIONS);
    put_down(wheel, note.tag << GENERATION_BITS | note.generation, due_tick);
    wheel->notes++;
}

/* ---- steps ---- */

/* The slot that begins first; of those that begin together the highest level, for it feeds the
 * lower. */
static uint64_t first_slot(const struct wheel *wheel, unsigned *level, unsigned *slot)
{
    uint64_t first = UINT64_MAX;

    for (unsigned l = WHEEL_LEVELS; l-- > 0;) {
        unsigned now = (unsigned)(wheel->tick >> span_bits(l)) % WHEEL_SLOTS;
        uint64_t bits = wheel->occupied[l];

        if (bits == 0)
            continue;
        bits = bits >> now | bits << (WHEEL_SLOTS - now) % WHEEL_SLOTS;

        unsigned s = (now + (unsigned)__builtin_ctzll(bits)) % WHEEL_SLOTS;
        uint64_t begin = begin_of(wheel, l, s);

        if (begin < first) {
            first = begin;
            *level = l;
            *slot = s;
        }
    }
    return first;
}

static enum wheel_step hand_out(struct wheel *wheel, struct wheel_note *note)
{
    struct wheel_chunk *chunk = wheel->due;
    uint32_t tagged = chunk->notes[--chunk->count] >> OFFSET_BITS;

    note->tag = tagged >> GENERATION_BITS;
    note->generation = tagged % WHEEL_GENERATIONS;
    wheel->notes--;
    if (chunk->count == 0) {
        wheel->due = chunk->next;
        drop_chunk(wheel, chunk);
    }
    return WHEEL_DUE;
}

static struct wheel_chunk *take_slot(struct wheel *wheel, unsigned level, unsigned slot)
{
    struct wheel_chunk *chain = wheel->slots[level][slot];

    wheel->slots[level][slot] = NULL;
    wheel->occupied[level] &= ~(1ull << slot);
    return chain;
}

/* wheel->tick is the first tick of the slot, so all of its notes find a place further down. */
static enum wheel_step move_down(struct wheel *wheel, unsigned level, unsigned slot)
{
    struct wheel_chunk *chunk = wheel->slots[level][slot];

    wheel->slots[level][slot] = chunk->next;
    if (chunk->next == NULL)
        wheel->occupied[level] &= ~(1ull << slot);
    for (uint32_t i = 0; i < chunk->count; i++) {
        uint64_t offset = chunk->notes[i] & ((1u << OFFSET_BITS) - 1);

        put_down(wheel, chunk->notes[i] >> OFFSET_BITS, wheel->tick + (offset << blur_bits(level)));
    }
    drop_chunk(wheel, chunk);
    return WHEEL_MOVED;
}

enum wheel_step wheel_step(struct wheel *wheel, uint64_t now_tick, struct wheel_note *note)
{
    unsigned level = 0, slot = 0;

    if (wheel->due != NULL)
        return hand_out(wheel, note);
    if (wheel->next <= now_tick) {
        wheel->next = first_slot(wheel, &level, &slot);
        if (wheel->next <= now_tick) {
            wheel->tick = wheel->next > wheel->tick ? wheel->next : wheel->tick;
            if (level > 0)
                return move_down(wheel, level, slot);
            wheel->due = take_slot(wheel, level, slot);
            return hand_out(wheel, note);
        }
    }
    wheel->tick = now_tick > wheel->tick ? now_tick : wheel->tick;
    return WHEEL_IDLE;
}

void wheel_review(struct wheel *wheel)
{
    for (unsigned i = 0; i < WHEEL_LEVELS * WHEEL_SLOTS && wheel->due == NULL; i++) {
        unsigned at = wheel->reviewed++ % (WHEEL_LEVELS * WHEEL_SLOTS);

        wheel->due = take_slot(wheel, at / WHEEL_SLOTS, at % WHEEL_SLOTS);
    }
}
