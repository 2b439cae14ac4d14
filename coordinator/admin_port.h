// What a coordinator answers at its admin port: the status page and its JSON, metrics, probes. Loop
// thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "coordinator/controller.h"
#include "proxy/admin/http_server.h"
#include "proxy/base/metrics.h"

namespace catena::coordinator {

class AdminPort {
 public:
  struct Options {
    std::string cluster;
    std::string address;                       // of this coordinator
    std::map<std::string, std::string> pages;  // admin address of each coordinator, by its address
  };
  // All outlive the port. `turns`: of the loop, io::MeasureTurns.
  AdminPort(Options options, Controller& controller, const EtcdUse& etcd, const Histogram& turns);

  admin::Response Answer(std::string_view path);

 private:
  admin::Response Page() const;
  admin::Response Metrics();
  admin::Response Readiness();
  // ClusterStatus as JSON, with what only the page wants: `leads`, `leader_page`, and the `events` of
  // each chain. One that does not lead knows no chains.
  std::string StatusJson();

  Options options_;
  Controller& controller_;
  const EtcdUse& etcd_;
  const Histogram& turns_;
  std::string page_policy_;  // allows the page its own style and script, and to ask here
};

}  // namespace catena::coordinator
