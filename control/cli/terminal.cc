// SPDX-License-Identifier: Apache-2.0
#include "control/cli/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>

namespace portico::cli {

namespace {

constexpr char kEscape = '\x1b';
// ECMA-48 and xterm's private modes: the other screen, no cursor, no wrapping of long lines.
constexpr const char* kBegin = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr const char* kEnd = "\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr int kKeyPatienceMs = 50;  // for the rest of a key that is several bytes

volatile std::sig_atomic_t is_ended = 0;

void end(int) {
  is_ended = 1;
}

void write_all(const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno != EINTR) return;
    if (n > 0) done += static_cast<size_t>(n);
  }
}

bool is_readable(int patience_ms) {
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  return poll(&input, 1, patience_ms) > 0;
}

// The byte that is there; 0 at the end of input.
char read_byte() {
  char byte = 0;
  return read(STDIN_FILENO, &byte, 1) == 1 ? byte : '\0';
}

// What ESC begins: an arrow, or something else that is read to its end.
KeyPress read_sequence() {
  if (!is_readable(kKeyPatienceMs) || read_byte() != '[') return {Key::other, kEscape};
  char last = '[';
  while (is_readable(kKeyPatienceMs)) {
    last = read_byte();
    if (last >= '@' || last == 0) break;
  }
  return {last == 'A' ? Key::up : last == 'B' ? Key::down : Key::other, kEscape};
}

}  // namespace

Terminal::Terminal() {
  if (tcgetattr(STDIN_FILENO, &before_) != 0)
    throw std::runtime_error(std::string("the terminal cannot be set: ") + std::strerror(errno));
  struct sigaction action {};
  action.sa_handler = end;  // without SA_RESTART: poll(2) returns
  for (const int signal : {SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  termios raw = before_;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG | IEXTEN);
  tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
  write_all(kBegin);
}

Terminal::~Terminal() {
  write_all(kEnd);
  tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
}

bool Terminal::is_there() {
  return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
}

std::pair<size_t, size_t> Terminal::size() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return {24, 80};
  return {size.ws_row, size.ws_col};
}

void Terminal::draw(const std::string& lines) {
  std::string out = "\x1b[H";
  for (const char c : lines) {
    if (c == '\n') out += "\x1b[K\r";
    out += c;
  }
  // The last line has no end, else the screen would move up.
  if (out.ends_with('\n')) out.resize(out.size() - 2);
  write_all(out + "\x1b[J");
}

KeyPress Terminal::read_key(std::chrono::milliseconds patience) {
  if (is_ended != 0) return {Key::quit};
  if (!is_readable(static_cast<int>(patience.count()))) return {is_ended != 0 ? Key::quit : Key::none};
  const char byte = read_byte();
  constexpr char kEndOfText = 3, kEndOfTransmission = 4;
  if (byte == 0 || byte == kEndOfText || byte == kEndOfTransmission || byte == 'q') return {Key::quit, byte};
  if (byte == kEscape) return read_sequence();
  return {byte == 'k' ? Key::up : byte == 'j' ? Key::down : Key::other, byte};
}

}  // namespace portico::cli
