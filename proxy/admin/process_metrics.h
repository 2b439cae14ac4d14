// What every process exports of itself, by the names that Prometheus' client libraries have made
// customary.
#pragma once

#include "proxy/base/metrics.h"

namespace catena::admin {

// Memory, processor time and descriptors of this process; the turns of its loop
// (io::MeasureTurns).
void AppendProcessMetrics(Exposition& out, const Histogram& turns);

}  // namespace catena::admin
