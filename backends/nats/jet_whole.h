/* When a subscription asks for one message of any size. Part of jet_priv.h. thread: home. */
#ifndef PRISM_BACKENDS_NATS_JET_WHOLE_H
#define PRISM_BACKENDS_NATS_JET_WHOLE_H

#include <stdbool.h>
#include <stdint.h>

struct jet_delivery;
struct jet_listener;
struct jet_source;

/* What may come again until a time, and be larger than a request has room for. */
struct jet_wary {
    uint64_t unknown_ns;          /* of unknown size: others had it */
    uint64_t back_ns, back_bytes; /* the largest that was given back here */
};

/* There are messages of at least so many bytes. */
void jet_wary_met(struct jet_listener *listener, uint64_t bytes);
/* The consumer's place was looked up. */
void jet_wary_placed(struct jet_listener *listener);
/* A message came, or goes back. */
void jet_wary_took(struct jet_listener *listener, const struct jet_source *source);
void jet_wary_gave_back(struct jet_listener *listener, const struct jet_delivery *delivery,
                        uint64_t delay_ms);
/* A request with room for so many bytes may meet one that it has no room for. */
bool jet_wary_of(struct jet_listener *listener, uint64_t bytes);

#endif
