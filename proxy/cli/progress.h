// What long work tells while it goes on: one line that is updated on a terminal, otherwise a line
// for each change.
#pragma once

#include <string>

namespace catena::cli {

class Progress {
 public:
  // To standard error: what a command finds goes to standard output.
  Progress();
  ~Progress() { End(); }
  // The same text again shows nothing.
  void Show(const std::string& text);
  // What comes next begins on a line of its own.
  void End();

 private:
  bool terminal_;
  bool open_ = false;
  std::string shown_;
};

}  // namespace catena::cli
