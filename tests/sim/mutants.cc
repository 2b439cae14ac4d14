#include "tests/sim/mutants.h"

#include <algorithm>

#include "proxy/base/mutant.h"

namespace catena::sim {
namespace {

constexpr Mutant kMutants[] = {
    {"reply-before-commit", "a write is answered before it is committed", 400},
    {"lease-unchecked", "a lease counts for ever", 400},
    {"lease-from-answer", "a lease runs from the answer instead of the heartbeat", 400},
    {"lease-without-margin", "a lease without a margin for clocks", 400},
    {"unsynced-tail-serves", "a new tail serves before it has caught up", 400},
    {"old-epoch-accepted", "a configuration of an older epoch is accepted", 400},
    {"links-outlive-epoch", "acks of an earlier epoch count (S3)", 400},
    {"transaction-cut", "a transaction is several entries", 400},
    {"promoted-unapplied", "promotion before the log is applied (S5)", 20, "S5b"},
    {"new-head-commits-alone", "a new head does not commit its log down the chain (S5)", 20, "S5"},
    {"promoted-under-reads", "promotion while local reads are in flight (S6)", 20, "S6"},
    {"no-resend", "a new successor is sent nothing of the log", 400},
    {"resend-with-gap", "... and takes what comes as if nothing was missing", 400},
    {"early-query", "a read uses a version query sent before it came", 400},
    {"verify-at-head", "a verify goes no further than the head (S7)", 20, "S7"},
    {"old-commit-is-authority", "a commit of an older entry proves authority (S8)", 20, "S8"},
    {"answers-uncaptured", "a chain of one answers before the capture, its joiner lacks that (S9)",
     20, "S9"},
    {"one-replid-for-all", "every history has the same name (S10, S11)", 400},
    {"wiped-served", "a Redis that restarted is served from (I7)", 20, "I7"},
    {"former-head-kept", "a former head's unconfirmed writes are kept", 20, "S11"},
    {"any-head-recovers", "a head with another Redis process is taken for complete (S12)", 20,
     "S12"},
    {"old-witness", "a witness was heard before the failure (S13)", 20, "S13"},
    {"removed-in-lease", "a member is removed while its lease is out", 400},
    {"restart-ends-lease", "a newer incarnation ends the older one's lease (S14)", 20, "S14"},
    {"new-leader-removes-at-once", "a new leader does not wait for older leases", 20, "S17"},
    {"acts-in-older-life", "a configuration that lists an earlier life is acted in (S15)", 400},
    {"lease-during-removal", "a lease is granted while the removal is being written (S16)", 400},
    {"unsynced-stays", "a removal may leave nobody synced (S1)", 1600},
    {"two-leaders-write", "a record is written without a look at the leader's key", 400},
    {"route-change-overtakes", "a read overtakes a forwarded write of its connection", 400},
    {"forwarded-twice", "a forwarded write is sent twice", 400},
    {"replies-out-of-order", "replies leave as they come", 400},
    {"late-bytes-read", "the head reads on from a superseded connection (S18)", 20, "S18"},
    {"question-not-repeated", "a query of an earlier epoch is not asked again (S19)", 20, "S19"},
    {"second-key-forgotten", "only the first key of an entry is dirty", 400},
    {"removed-listed-again", "a removed life goes on and is listed again (S3)", 400},
    {"uncommitted-applied", "a database is fed what is not committed (S4, I3)", 400},
    {"cached-clock", "a lease is checked by the clock of the turn before (S17)", 400},
    {"cut-off-counts-as-fresh", "a node without a lease takes what it has for fresh", 800},
    {"answers-count-as-received",
     "what was answered counts as received, also where nobody can tell", 2400},
    {"database-forgotten", "a restarted Redis goes on in database 0 of a stream in another", 1200},
    {"watch-forgotten", "WATCH of a lost connection holds up no EXEC", 1200},
    {"flush-touches-nothing", "FLUSHALL makes no key dirty", 400},
};

}  // namespace

std::span<const Mutant> Mutants() { return kMutants; }

bool Plant([[maybe_unused]] const std::string& name) {
#ifdef CATENA_MUTANTS
  const bool known = std::any_of(std::begin(kMutants), std::end(kMutants),
                                 [&](const Mutant& mutant) { return name == mutant.name; });
  if (known) PlantedMutant() = name;
  return known;
#else
  return false;
#endif
}

}  // namespace catena::sim
