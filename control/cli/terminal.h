// SPDX-License-Identifier: Apache-2.0
// A terminal in the hand of one program: keys one by one, a screen that is drawn over and leaves no trace.
#pragma once

#include <termios.h>

#include <chrono>
#include <string>
#include <utility>

namespace portico::cli {

enum class Key { none, up, down, quit, other };

struct KeyPress {
  Key key = Key::none;  // none: the time is over
  char character = 0;   // if `key` is other
};

// Standard input and output. The destructor gives the terminal back as it was, also after SIGTERM or SIGHUP,
// which read_key() reports as `quit`. One at a time.
class Terminal {
 public:
  // Throws std::runtime_error if the terminal cannot be set.
  Terminal();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Whether both are terminals.
  static bool is_there();
  // Rows and columns now; 24 and 80 if the terminal does not say.
  static std::pair<size_t, size_t> size();
  // Lines in place of those that are shown.
  static void draw(const std::string& lines);
  // The next key within `patience`. Ctrl-C, Ctrl-D and the end of input quit.
  static KeyPress read_key(std::chrono::milliseconds patience);

 private:
  termios before_{};
};

}  // namespace portico::cli
