/* A message on its way to listeners of one bundle who all waited for one: it has not been in their
 * topics' tails. A page of a multicast is, for a stream that receives for all of it, one job and
 * one batch.
 *
 * thread: parcels are filled by whoever publishes, under the lock of each listener's tail, and
 * opened on the listeners' home. Memory: for each listener a pointer, and its share of the store's
 * capacity, which is given back when the parcel is opened. */
#ifndef PRISM_BACKENDS_MEMSTORE_PARCEL_H
#define PRISM_BACKENDS_MEMSTORE_PARCEL_H

#include "backends/memstore/tail.h"

struct parcel;

enum { PARCELS = 16 };

/* Those that one publish fills, by their bundle; one that stands in the way is sent. */
struct parcels {
    struct parcel *open[PARCELS];
};

/* The listener waits, alone, for a tail in which nothing is, and its bundle is this one. The tail
 * is charged for the message. Under its lock. */
void parcels_add(struct parcels *parcels, struct listener *listener, const void *bundle,
                 struct kept *kept);
void parcels_send(struct parcels *parcels);

#endif
