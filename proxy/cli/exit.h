// How a command of catenactl ends.
#pragma once

#include <iostream>
#include <string>

namespace catena::cli {

// Exit codes of every command; the README has them.
enum Exit : int { kDone = 0, kNotDone = 1, kWrongUse = 2, kNotFinished = 3, kDifferent = 4 };

// Says on stderr what went wrong; returns `code`.
inline int Complain(const std::string& message, int code = kNotDone) {
  std::cerr << "catenactl: " << message << "\n";
  return code;
}

}  // namespace catena::cli
