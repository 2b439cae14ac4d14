// The configuration of one chain: who is in it, in which order, under which number.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/ids.h"

namespace catena::chain {

struct Member {
  NodeId id;
  Incarnation incarnation;     // the proxy process (or its life since its last removal)
  std::string clients;         // "host:port" where Redis clients connect
  std::string peers;           // "host:port" where proxies connect
  std::string backend_run_id;  // of the database process when it was listed; another one is another
                               // history until proved otherwise (I7)
  bool operator==(const Member&) const = default;
};

struct Configuration {
  std::string chain;
  Epoch epoch;                  // >= 1; one more with each change (I5)
  std::vector<Member> members;  // head first, tail last; never empty
  bool operator==(const Configuration&) const = default;

  // Index of the member with this id and incarnation.
  std::optional<size_t> IndexOf(std::string_view id, Incarnation incarnation) const {
    for (size_t i = 0; i < members.size(); ++i) {
      if (members[i].id == id && members[i].incarnation == incarnation) return i;
    }
    return std::nullopt;
  }
};

}  // namespace catena::chain
