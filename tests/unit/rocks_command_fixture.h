// Commands of the RocksDB backend, a line each, on a map.
#pragma once

#include <doctest/doctest.h>

#include "backends/rocksdb/commands.h"
#include "map_view.h"
#include "recorded.h"

namespace catena::rocks::test {

using catena::test::Views;
using catena::test::Words;

class CommandFixture {
 public:
  explicit CommandFixture(bool reversed = false) : view(reversed) {}

  // The reply of a command line (words as recorded.h decodes them), as it is sent.
  std::string operator()(const std::string& line) { return RunWords(Words(line)); }

  std::string RunWords(const std::vector<std::string>& words) {
    CommandContext context{view, client, facts, workspace};
    std::string reply;
    const auto views = Views(words);
    Execute(views, context, reply);
    return reply;
  }

  // What the command wrote: "put a, delete b".
  std::string EffectsOf(const std::string& line) {
    view.effects.clear();
    (*this)(line);
    std::string all;
    for (const std::string& effect : view.effects) all += (all.empty() ? "" : ", ") + effect;
    return all;
  }

  resp::Value Decoded(const std::string& line) { return catena::test::DecodeAll((*this)(line)); }

  MapView view;
  Client client;
  ServerFacts facts;
  Workspace workspace;
};

}  // namespace catena::rocks::test
