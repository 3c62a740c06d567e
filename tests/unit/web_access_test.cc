// SPDX-License-Identifier: Apache-2.0
#include "control/web/access.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <regex>
#include <stdexcept>

#include "control/web/site.h"
#include "tests/support/sample_table.h"

namespace portico {
namespace {

class WebAccess : public ::testing::Test {
 protected:
  std::string file(const std::string& text, mode_t mode = 0640) {
    const std::string path = dir_.path() / "tokens";
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }
  static ApiRequest with(const std::string& authorization) { return {.authorization = authorization}; }

  test::TempDir dir_;
};

TEST_F(WebAccess, KnowsTheHolderOfAToken) {
  const Access access =
      Access::from_file(file("# operators\nalice aaaaaaaaaaaaaaaa\n\nbob bbbbbbbbbbbbbbbbb\n"));
  EXPECT_TRUE(access.has_tokens());
  EXPECT_EQ(access.who(with("Bearer aaaaaaaaaaaaaaaa")), "alice");
  EXPECT_EQ(access.who(with("Bearer bbbbbbbbbbbbbbbbb")), "bob");
  for (const char* wrong : {"", "Bearer ", "Bearer aaaaaaaaaaaaaaa", "Bearer aaaaaaaaaaaaaaaaa",
                            "aaaaaaaaaaaaaaaa", "Bearer aaaaaaaaaaaaaaab", "Basic aaaaaaaaaaaaaaaa"})
    EXPECT_EQ(access.who(with(wrong)), std::nullopt) << wrong;
  EXPECT_EQ(Access().who(with("Bearer ")), std::nullopt);
}

TEST_F(WebAccess, RefusesFilesThatProtectNothing) {
  const std::string good = "alice aaaaaaaaaaaaaaaa\n";
  EXPECT_NO_THROW(Access::from_file(file(good)));
  EXPECT_THROW(Access::from_file(file(good, 0644)), std::runtime_error) << "open to everybody";
  for (const char* bad :
       {"", "# nobody\n", "alice\n", "alice short\n", "a b aaaaaaaaaaaaaaaa\n", "aaaaaaaaaaaaaaaa\n"})
    EXPECT_THROW(Access::from_file(file(bad)), std::runtime_error) << bad;
  EXPECT_THROW(Access::from_file("/nonexistent/tokens"), std::runtime_error);
}

TEST_F(WebAccess, TellsAddressesFromNames) {
  for (const char* host :
       {"127.0.0.1", "127.0.0.1:8080", "localhost:8080", "[::1]:8080", "[::1]", "198.18.0.1"})
    EXPECT_TRUE(is_direct({.host = host})) << host;
  for (const char* host : {"", "rebound.example", "rebound.example:8080", "localhost.example",
                           "127.0.0.1.example", "[::1", "[x]:1"})
    EXPECT_FALSE(is_direct({.host = host})) << host;
}

TEST_F(WebAccess, ListensBeyondLoopbackOnlyWithTokens) {
  EXPECT_NO_THROW(check_listen("127.0.0.1:80", false, ""));
  EXPECT_NO_THROW(check_listen("[::1]:80", false, ""));
  EXPECT_NO_THROW(check_listen("198.18.0.1:80", true, ""));
  for (const char* bad : {"0.0.0.0:80", "198.18.0.1:80", "[::]:80", "[2001:db8::1]:80", "", "80", "127.0.0.1",
                          "127.0.0.1:65536", "host:80"})
    EXPECT_THROW(check_listen(bad, false, ""), std::runtime_error) << bad;
}

// What the policy forbids, the page must not have; what it asks for must be there.
TEST(Site, IsWholeAndHasNothingInline) {
  const SiteFile* page = find_site_file("/");
  ASSERT_NE(page, nullptr);
  const std::string html(page->content);
  EXPECT_EQ(find_site_file("/nothing"), nullptr);
  EXPECT_FALSE(
      std::regex_search(html, std::regex("<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?://")));
  size_t found = 0;
  const std::regex reference("(?:src|href)=\"(/[^\"]*)\"");
  for (auto it = std::sregex_iterator(html.begin(), html.end(), reference); it != std::sregex_iterator();
       ++it, ++found)
    EXPECT_NE(find_site_file((*it)[1].str()), nullptr) << (*it)[1];
  EXPECT_GE(found, 3u);
  EXPECT_EQ(find_site_file("/app.css")->content.find("url("), std::string_view::npos);
}

}  // namespace
}  // namespace portico
