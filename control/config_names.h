// SPDX-License-Identifier: Apache-2.0
// The words of the configuration, the CLI and the API for what the code calls by enums: one table each, read
// in both directions.
#pragma once

#include <span>
#include <string_view>

#include "control/config.h"

namespace portico {

template <typename T>
struct Choice {
  std::string_view word;
  T value;
};

inline constexpr Choice<VipAddress> kVipAddressChoices[] = {{"managed", VipAddress::managed},
                                                            {"external", VipAddress::external}};
inline constexpr Choice<OnBackendDown> kOnBackendDownChoices[] = {
    {"auto", OnBackendDown::automatic}, {"reset", OnBackendDown::reset}, {"keep", OnBackendDown::keep}};
inline constexpr Choice<AllDown> kAllDownChoices[] = {
    {"keep-last", AllDown::keep_last}, {"reset", AllDown::reset}, {"drop", AllDown::drop}};
inline constexpr Choice<CheckKind> kCheckKindChoices[] = {{"tcp", CheckKind::tcp},
                                                          {"mysql", CheckKind::mysql},
                                                          {"http", CheckKind::http},
                                                          {"https", CheckKind::https},
                                                          {"tls", CheckKind::tls}};
inline constexpr Choice<HttpMethod> kHttpMethodChoices[] = {
    {"GET", HttpMethod::get}, {"HEAD", HttpMethod::head}, {"OPTIONS", HttpMethod::options}};
inline constexpr Choice<bool> kOnOffChoices[] = {{"on", true}, {"off", false}};
inline constexpr Choice<Mode> kModeChoices[] = {{mode_name(Mode::nat), Mode::nat},
                                                {mode_name(Mode::dnat), Mode::dnat},
                                                {mode_name(Mode::dsr_l2), Mode::dsr_l2},
                                                {mode_name(Mode::dsr_ipip), Mode::dsr_ipip},
                                                {mode_name(Mode::dsr_gue), Mode::dsr_gue}};
inline constexpr Choice<bool> kPassiveChoices[] = {{"probe", true}, {"off", false}};
inline constexpr Choice<bool> kBoolChoices[] = {{"true", true}, {"false", false}};
inline constexpr Choice<Affinity> kAffinityChoices[] = {{"connection", Affinity::connection},
                                                        {"client", Affinity::client}};
inline constexpr Choice<ProxyProtocol> kProxyProtocolChoices[] = {{"none", ProxyProtocol::none},
                                                                  {"v2", ProxyProtocol::v2}};
inline constexpr Choice<IdleMode> kIdleChoices[] = {{"poll", IdleMode::poll},
                                                    {"adaptive", IdleMode::adaptive}};
inline constexpr Choice<HugePages> kHugePagesChoices[] = {{"required", HugePages::required},
                                                          {"off", HugePages::off}};
inline constexpr Choice<Fragments> kFragmentsChoices[] = {{"reassemble", Fragments::reassemble},
                                                          {"drop", Fragments::drop}};

// The word of a value; empty if the table has none.
template <typename T, size_t N>
constexpr std::string_view word_of(const Choice<T> (&choices)[N], T value) {
  for (const auto& choice : choices) {
    if (choice.value == value) return choice.word;
  }
  return {};
}

constexpr std::string_view to_word(VipAddress value) {
  return word_of(kVipAddressChoices, value);
}
constexpr std::string_view to_word(OnBackendDown value) {
  return word_of(kOnBackendDownChoices, value);
}
constexpr std::string_view to_word(bool value) {
  return word_of(kBoolChoices, value);
}
constexpr std::string_view to_word(AllDown value) {
  return word_of(kAllDownChoices, value);
}
constexpr std::string_view to_word(CheckKind value) {
  return word_of(kCheckKindChoices, value);
}
constexpr std::string_view to_word(HttpMethod value) {
  return word_of(kHttpMethodChoices, value);
}
constexpr std::string_view to_word(Mode value) {
  return word_of(kModeChoices, value);
}
constexpr std::string_view to_word(Affinity value) {
  return word_of(kAffinityChoices, value);
}
constexpr std::string_view to_word(ProxyProtocol value) {
  return word_of(kProxyProtocolChoices, value);
}
constexpr std::string_view to_word(IdleMode value) {
  return word_of(kIdleChoices, value);
}
constexpr std::string_view to_word(HugePages value) {
  return word_of(kHugePagesChoices, value);
}
constexpr std::string_view to_word(Fragments value) {
  return word_of(kFragmentsChoices, value);
}

}  // namespace portico
