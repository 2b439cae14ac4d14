#include "proxy/cli/progress.h"

#include <unistd.h>

#include <iostream>

namespace catena::cli {

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::Show(const std::string& text) {
  if (text == shown_) return;
  shown_ = text;
  if (terminal_) {
    std::cerr << "\r\033[K" << text << std::flush;
    open_ = true;
  } else {
    std::cerr << text << "\n" << std::flush;
  }
}

void Progress::End() {
  if (open_) std::cerr << "\n";
  open_ = false;
}

}  // namespace catena::cli
