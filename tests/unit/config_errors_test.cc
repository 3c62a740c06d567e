// SPDX-License-Identifier: Apache-2.0
// One case per mistake: the configuration text has `@@` where the message must point; the mark is taken out
// before the text is read.
#include <gtest/gtest.h>

#include <algorithm>

#include "control/config.h"

namespace portico {
namespace {

struct Case {
  const char* name;
  std::string text;
  std::string message;  // a part of it
  bool is_error = true;
};

// Places of a complaint: services, pools, and what stands above them.
std::string file(const std::string& services, const std::string& pools,
                 const std::string& top = "dataplane: {ports: [e0]}\nnat: {addresses: [203.0.113.20]}\n") {
  return "version: 1\n" + top + "services:\n  web: {" + services + "}\npools:\n  portals: {" + pools + "}\n";
}
std::string with_service(const std::string& services) {
  return file(services, "backends: {p1: 192.0.2.21, p2: 192.0.2.22}");
}
std::string with_pool(const std::string& pools) {
  return file("listen: 203.0.113.10:443, pool: portals", pools);
}
std::string with_top(const std::string& top) {
  return file("listen: 203.0.113.10:443, pool: portals", "backends: {p1: 192.0.2.21}", top);
}
std::string with_dataplane(const std::string& text) {
  return with_top("dataplane: " + text + "\nnat: {addresses: [203.0.113.20]}\n");
}
std::string with_nat(const std::string& text) {
  return with_top("dataplane: {ports: [e0]}\nnat: " + text + "\n");
}
std::string with_second_service(const std::string& text) {
  std::string whole = with_service("listen: 203.0.113.10:443, pool: portals");
  return whole.insert(whole.find("pools:"), text);
}
// A service in tunnels, with `tunnel` and the first backend's address as given.
std::string with_tunnel(const std::string& text, const std::string& backend = "192.0.2.21") {
  return file("listen: 203.0.113.10:443, pool: portals, mode: dsr-ipip", "backends: {p1: " + backend + "}",
              "dataplane: {ports: [e0]}\nnat: {addresses: [203.0.113.20]}\n" + text);
}
std::string with_sources(const std::string& sources, const std::string& backend = "192.0.2.21") {
  return with_tunnel("tunnel: {sources: " + sources + "}\n", backend);
}
const std::string kGoodListen = "listen: 203.0.113.10:443, pool: portals";
const std::string kGoodBackends = "backends: {p1: 192.0.2.21, p2: 192.0.2.22}";

const std::vector<Case> kSyntaxCases = {
    {"Empty", "", "is empty"},
    {"Unclosed", "version: 1\nservices: {a: [b\n", "not valid YAML"},
    {"Alias", "version: &a 1\ninstance: @@*a\n", "aliases are not supported"},
    {"SecondDocument", "version: 1\n---\n@@more: 1\n", "a second document"},
    {"Scalar", "@@hello\n", "write a map of keys and values"},
    {"KeyIsList", "? @@[a, b]\n: c\n", "a key must be a plain word"},
    {"IPv6ListenerUnquoted", with_service("listen: [2001:db8::10]@@:443, pool: portals"), "needs quotes"},
};

const std::vector<Case> kTopCases = {
    {"NoVersion", "@@instance: a\n", "`version` is missing; add `version: 1`"},
    {"OtherVersion", "version: @@2\n", "reads version 1"},
    {"NoServices", "@@version: 1\n", "`services` is missing"},
    {"UnknownKey", with_top("@@dataplan: {ports: [e0]}\n"),
     "unknown key `dataplan`; did you mean `dataplane`?"},
    {"UnknownKeyFar", with_top("@@zebra: 1\n"),
     "unknown key `zebra`; the keys here are version, instance, zone, vip_address, hash_key, dataplane, nat, "
     "tunnel, "
     "services or pools"},
    {"RepeatedKey", with_top("instance: a\n@@instance: b\n"), "`instance` is already given on line 2"},
    {"BadInstance", with_top("instance: @@'a b'\n"), "is not a good name"},
    {"WrongWord", with_top("vip_address: @@manged\n"), "write managed or external (did you mean `managed`?)"},
    {"BadHashKey", with_top("hash_key: @@1234\n"), "32 hexadecimal digits"},
    {"ListForWord", with_top("vip_address: @@[managed]\n"),
     "`vip_address` is a list; write managed or external"},
    {"ControlCharacters", with_top("instance: @@\"a\\tb\"\n"), "control characters"},
};

const std::vector<Case> kDataplaneCases = {
    {"NoPorts", with_dataplane("@@{workers: 1}"), "`ports` is missing"},
    {"NoPortAtAll", with_dataplane("{ports: @@[]}"), "is an empty list"},
    {"PortTwice", with_dataplane("{ports: [e0, @@e0]}"), "port `e0` is listed twice"},
    {"PortWithoutName", with_dataplane("{ports: [@@{mtu: 1500}]}"), "`name` is missing"},
    {"TooManyPorts", with_dataplane("{ports: @@[a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q]}"), "at most 16"},
    {"SmallMtu", with_dataplane("{ports: [{name: e0, mtu: @@100}]}"), "from 576 to 16384"},
    {"TooManyWorkers", with_dataplane("{ports: [e0], workers: @@65}"), "from 1 to 64"},
    {"NoWorkers", with_dataplane("{ports: [e0], workers: @@0}"), "from 1 to 64"},
    {"CpusDisagree", with_dataplane("{ports: [e0], workers: 3, worker_cpus: @@2-3}"),
     "names 2 CPUs for 3 workers"},
    {"CpuTwice", with_dataplane("{ports: [e0], worker_cpus: @@'2,2'}"), "no CPU twice"},
    {"BadIdle", with_dataplane("{ports: [e0], idle: @@pol}"), "did you mean `poll`?"},
    {"FewFlows", with_dataplane("{ports: [e0], flows: @@10}"), "from 1024"},
    {"FlowsNotANumber", with_dataplane("{ports: [e0], flows: @@1M}"),
     "`flows` is `1M`; write a whole number"},
    {"NegativeMbufs", with_dataplane("{ports: [e0], mbufs: @@-5}"), "write a whole number"},
    {"ZeroRate", with_dataplane("{ports: [e0], reset_rate: @@0}"), "from 1"},
};

const std::vector<Case> kNatCases = {
    {"NoAddresses", with_nat("@@{ports: 1024-2047}"), "`addresses` is missing"},
    {"NatNotAnAddress", with_nat("{addresses: [@@203.0.113.300]}"), "is not an address"},
    {"NatPrefix", with_nat("{addresses: [@@203.0.113.0/24]}"), "without a prefix length"},
    {"NatTwice", with_nat("{addresses: [203.0.113.20, @@203.0.113.20]}"), "listed twice"},
    {"NatIsVip", with_nat("{addresses: [@@203.0.113.10]}"), "is also a listener of service `web`"},
    {"NatMapped", with_nat("{addresses: [@@'::ffff:203.0.113.20']}"), "write 203.0.113.20"},
    {"NatPortsReversed", with_nat("{addresses: [203.0.113.20], ports: @@2000-1000}"), "write a range"},
    {"NatPortZero", with_nat("{addresses: [203.0.113.20], ports: @@0-1000}"), "write a range"},
    {"NatPortsHigh", with_nat("{addresses: [203.0.113.20], ports: @@1024-65536}"), "write a range"},
    {"NatOtherFamily",
     "version: 1\ndataplane: {ports: [e0]}\nnat: {addresses: ['2001:db8::1']}\nservices:\n  @@web: {" +
         kGoodListen + "}\npools:\n  portals: {" + kGoodBackends + "}\n",
     "there is no IPv4 NAT address"},
    {"NatMissing",
     "version: 1\ndataplane: {ports: [e0]}\nservices:\n  @@web: {" + kGoodListen + "}\npools:\n  portals: {" +
         kGoodBackends + "}\n",
     "there is no IPv4 NAT address"},
};

const std::vector<Case> kServiceCases = {
    {"NoListen", with_second_service("  @@x: {pool: portals}\n"), "`listen` is missing"},
    {"NoPool", with_second_service("  @@x: {listen: 203.0.113.11:80}\n"), "`pool` is missing"},
    {"ServiceIsText", with_second_service("  x: @@203.0.113.11:80\n"), "`x` is a single value; write a map"},
    {"ServiceTwice", with_second_service("  @@web: {listen: 203.0.113.11:80, pool: portals}\n"),
     "`web` is already defined on line 5"},
    {"ServiceName", with_second_service("  @@-x: {listen: 203.0.113.11:80, pool: portals}\n"),
     "is not a good name"},
    {"ServiceNameLong",
     with_second_service("  @@" + std::string(64, 'x') + ": {listen: 203.0.113.11:80, pool: portals}\n"),
     "has 64 characters; a name has 1 to 63"},
    {"PoolUnknown", with_second_service("  x: {listen: 203.0.113.11:80, pool: @@portal}\n"),
     "there is no pool `portal`; did you mean `portals`?"},
    {"ListenTwice", with_second_service("  x: {listen: @@203.0.113.10:443, pool: portals}\n"),
     "is already a listener of service `web`"},
    {"ListenTwiceInOne", with_service("listen: [203.0.113.10:443, @@203.0.113.10:443], pool: portals"),
     "is already a listener of service `web`"},
    {"ListenWithoutPort", with_service("listen: @@203.0.113.10, pool: portals"), "has no port"},
    {"ListenPortZero", with_service("listen: @@203.0.113.10:0, pool: portals"), "`0` is not a port"},
    {"ListenPortHigh", with_service("listen: @@203.0.113.10:65536, pool: portals"), "`65536` is not a port"},
    {"ListenAnywhere", with_service("listen: @@0.0.0.0:443, pool: portals"), "the unspecified address"},
    {"ListenMulticast", with_service("listen: @@224.0.0.1:443, pool: portals"), "multicast"},
    {"ListenLoopback", with_service("listen: @@127.0.0.1:443, pool: portals"), "loopback"},
    {"ListenLinkLocal", with_service("listen: @@'[fe80::1]:443', pool: portals"), "link-local"},
    {"ListenEmpty", with_service("listen: @@[], pool: portals"), "is an empty list"},
    {"ListenMap", with_service("listen: @@{a: b}, pool: portals"), "`listen` is a map; write a text"},
    {"BadMode", with_service(kGoodListen + ", mode: @@dsr"), "write nat, dnat, dsr-l2, dsr-ipip or dsr-gue"},
    {"BadPrefixLength", with_service(kGoodListen + ", affinity_prefix_v6: @@129"), "from 1 to 128"},
    {"BackendPortHigh", with_service(kGoodListen + ", backend_port: @@65536"), "from 1 to 65535"},
    {"DsrWithOtherPort", with_service(kGoodListen + ", mode: dsr-l2, backend_port: @@8443"),
     "cannot translate ports"},
    {"AllowEmpty", with_service(kGoodListen + ", allow: @@[]"), "is an empty list"},
    {"AllowNothing", with_service(kGoodListen + ", allow: @@"), "is empty; write a value or a list"},
    {"AllowHostBits", with_service(kGoodListen + ", allow: [@@192.0.2.1/24]"),
     "with all host bits zero, or `any`"},
    {"AllowTwice", with_service(kGoodListen + ", allow: [192.0.2.0/24, @@192.0.2.0/24]"), "listed twice"},
    {"DenyEmpty", with_service(kGoodListen + ", deny: @@[]"), "is an empty list"},
    {"DenyAny", with_service(kGoodListen + ", deny: @@any"), "or `none`"},
    {"DenyTwice", with_service(kGoodListen + ", deny: [192.0.2.0/24, @@192.0.2.0/24]"), "listed twice"},
    {"AllowedAndDenied", with_service(kGoodListen + ", allow: [192.0.2.0/24], deny: [@@192.0.2.0/24]"),
     "listed twice"},
    {"DenyOtherFamily", with_service(kGoodListen + ", deny: [192.0.2.0/24, @@'2001:db8::/32']"),
     "never matches", false},
    {"AllowOtherFamily", with_service(kGoodListen + ", allow: [192.0.2.0/24, @@'2001:db8::/32']"),
     "never matches", false},
    {"DatabaseOpen", with_second_service("  @@db: {listen: 203.0.113.10:3306, pool: portals}\n"),
     "opens a database port to everybody; add `allow: [PREFIX, ...]`"},
    {"DatabaseOpenByBackendPort",
     with_second_service("  @@db: {listen: 203.0.113.10:9306, backend_port: 3306, pool: portals}\n"),
     "opens a database port"},
    {"ProxyProtocolUnknown", with_service(kGoodListen + ", proxy_protocol: @@v1"), "write none or v2"},
    {"ProxyProtocolInDsr", with_service(kGoodListen + ", mode: dsr-l2, proxy_protocol: @@v2"),
     "`proxy_protocol` works in mode nat only"},
    {"ProxyProtocolInDnat", with_service(kGoodListen + ", mode: dnat, proxy_protocol: @@v2"),
     "in mode dnat the portals see the clients' own addresses: remove it"},
    {"DnatWithNatAddressesAlone",
     file(kGoodListen + ", mode: dnat", kGoodBackends,
          "dataplane: {ports: [e0]}\n@@nat: {addresses: [203.0.113.20]}\n"),
     "no service uses mode nat; `nat` has no effect", false},
    {"DnatOtherFamily",
     file("listen: 203.0.113.10:443, pool: portals, mode: dnat", "backends: {@@p1: '2001:db8::21'}",
          "dataplane: {ports: [e0]}\n"),
     "backend `p1` has no IPv4 address"},
    {"DnatAmbiguous",
     "version: 1\ndataplane: {ports: [e0]}\nservices:\n  @@web: {listen: [203.0.113.10:443, "
     "203.0.113.11:443], pool: portals, mode: dnat}\npools:\n  portals: {" +
         kGoodBackends + "}\n",
     "listeners 203.0.113.10:443 and 203.0.113.11:443 lead to the same port of backends in mode dnat", false},
    {"ProxyProtocolMixed",
     with_second_service("  y: {listen: 203.0.113.12:443, pool: portals, proxy_protocol: v2}\n"),
     "services `y` and `web` reach the same port of pool `portals`", false},
    {"LimitTooLarge", with_service(kGoodListen + ", limits: {connections: @@1000001}"), "1000000"},
    {"LimitPrefix", with_service(kGoodListen + ", limits: {connections: 1, prefix_v4: @@33}"), "32"},
    {"LimitBurstAlone", with_service(kGoodListen + ", limits: {connections: 1, burst: @@5}"),
     "`burst` has no meaning without `new_per_second`"},
    {"LimitNothing", with_service(kGoodListen + ", limits: @@{prefix_v4: 24}"), "limits nothing", false},
    {"IdleTimeoutUnit", with_service(kGoodListen + ", idle_timeout: @@600"), "such as 100ms, 2s or 2h4m"},
    {"IdleTimeoutShort", with_service(kGoodListen + ", idle_timeout: @@10ms"), "a duration from 1s to 30d"},
    {"NatWarning",
     "version: 1\ndataplane: {ports: [e0]}\nnat: {addresses: [203.0.113.20]}\nservices:\n  @@web: {" +
         kGoodListen + "}\npools:\n  portals: {" + kGoodBackends + "}\n",
     "the portals see only the balancer's NAT addresses", false},
};

const std::vector<Case> kTunnelCases = {
    {"TunnelMissing", file(kGoodListen + ", mode: @@dsr-ipip", kGoodBackends),
     "mode dsr-ipip needs outer source addresses"},
    {"TunnelMissingForGue", file(kGoodListen + ", mode: @@dsr-gue", kGoodBackends),
     "mode dsr-gue needs outer source addresses"},
    {"GuePortZero", with_tunnel("tunnel: {sources: [198.51.100.0/26], gue_port: @@0}\n"), "from 1 to 65535"},
    {"TunnelWithoutSources", with_tunnel("tunnel: @@{}\n"), "`sources` is missing"},
    {"TunnelUnknownKey", with_tunnel("tunnel: {sources: [198.51.100.0/26], @@source: a}\n"), "source"},
    {"TunnelEmpty", with_sources("@@[]"), "is an empty list"},
    {"TunnelHostBits", with_sources("[@@198.51.100.1/26]"), "with all host bits zero"},
    {"TunnelSecondOfAFamily", with_sources("[198.51.100.0/26, @@198.51.100.64/26]"), "a second IPv4 prefix"},
    {"TunnelEverything", with_sources("[@@0.0.0.0/0]"), "unspecified"},
    {"TunnelLoopback", with_sources("[@@127.0.0.0/24]"), "loopback"},
    {"TunnelLinkLocal", with_sources("[@@'fe80::/64']"), "link-local"},
    {"TunnelMulticast", with_sources("[@@239.0.0.0/24]"), "multicast"},
    {"TunnelMappedV4", with_sources("[@@'::/96']"), "embedded IPv4"},
    {"TunnelHasAVip", with_sources("[@@203.0.113.8/29]"), "203.0.113.10, a listener of service `web`"},
    {"TunnelHasANatAddress", with_sources("[@@203.0.113.20]"), "203.0.113.20, a NAT address"},
    {"TunnelHasABackend", with_sources("[@@192.0.2.0/24]"), "192.0.2.21, the address of backend `p1`"},
    {"TunnelOtherFamily",
     file("listen: 203.0.113.10:443, pool: portals, mode: dsr-ipip", "backends: {@@p1: 192.0.2.21}",
          "dataplane: {ports: [e0]}\ntunnel: {sources: ['2001:db8:5::/64']}\n"),
     "backend `p1` has no IPv6 address"},
    {"TunnelUnused",
     file(kGoodListen, kGoodBackends,
          "dataplane: {ports: [e0]}\nnat: {addresses: [203.0.113.20]}\n@@tunnel: {sources: "
          "[198.51.100.0/26]}\n"),
     "no service uses mode dsr-ipip or dsr-gue", false},
    {"TunnelWithOtherPort", with_service(kGoodListen + ", mode: dsr-ipip, backend_port: @@8443"),
     "mode dsr-ipip cannot translate ports"},
};

const std::vector<Case> kPoolCases = {
    {"NoBackends", file(kGoodListen, "").insert(file(kGoodListen, "").find("portals: {}"), "@@"),
     "`backends` is missing"},
    {"BackendsEmpty", with_pool("backends: @@{}"), "`backends` is empty; write a map"},
    {"BackendsList", with_pool("backends: @@[192.0.2.21]"), "`backends` is a list; write a map"},
    {"BackendTwice", with_pool("backends: {p1: 192.0.2.21, @@p1: 192.0.2.22}"), "`p1` is already defined"},
    {"BackendSameAddress", with_pool("backends: {p1: 192.0.2.21, p2: @@192.0.2.21}"),
     "the address 192.0.2.21 of backend `p1`"},
    {"BackendIsVip", with_pool("backends: {p1: @@203.0.113.10}"),
     "has the address 203.0.113.10 of service `web`"},
    {"BackendIsNat", with_pool("backends: {p1: @@203.0.113.20}"), "has the NAT address 203.0.113.20"},
    {"CheckedAtTheVip", with_pool("backends: {p1: {address: 10.0.0.1, check_address: @@203.0.113.10}}"),
     "backend `p1` is checked at 203.0.113.10, an address of the balancer itself"},
    {"OneCheckAtANatAddress",
     with_pool("backends: {p1: {address: 10.0.0.1, check_addresses: {tcp-443: @@203.0.113.20}}}"),
     "backend `p1` is checked at 203.0.113.20, an address of the balancer itself"},
    {"BackendOtherFamily", with_pool("backends: {@@p1: '2001:db8::21'}"),
     "`p1` has no IPv4 address, but service `web`"},
    {"BackendTwoOfAFamily", with_pool("backends: {p1: [192.0.2.21, @@192.0.2.22]}"), "a second IPv4 address"},
    {"BackendBadAddress", with_pool("backends: {p1: @@192.0.2}"), "is not an address"},
    {"BackendBroadcast", with_pool("backends: {p1: @@255.255.255.255}"), "broadcast"},
    {"BackendNoAddress", with_pool("backends: {@@p1: {weight: 1}}"), "`address` is missing"},
    {"BackendAddressTwice", with_pool("backends: {p1: {address: 192.0.2.21, @@addresses: [192.0.2.21]}}"),
     "keep `addresses`"},
    {"WeightHigh", with_pool("backends: {p1: {address: 192.0.2.21, weight: @@1001}}"), "from 0 to 1000"},
    {"WeightsZero",
     file(kGoodListen, "")
         .replace(file(kGoodListen, "").find("portals: {}"), 11,
                  "@@portals: {backends: {p1: {address: 192.0.2.21, weight: 0}}}"),
     "every backend has weight 0", false},
    {"BackendKey", with_pool("backends: {p1: {address: 192.0.2.21, @@wieght: 1}}"), "did you mean `weight`?"},
    {"CheckAddressBad", with_pool("backends: {p1: {address: 192.0.2.21, check_address: @@192.0.2.21:80}}"),
     "is not an address"},
    {"CheckAddressesPort",
     with_pool("backends: {p1: {address: 192.0.2.21, check_addresses: {tcp-443: @@192.0.2.21:0}}}"),
     "is not a port"},
    {"CheckAddressesName",
     with_pool("backends: {p1: {address: 192.0.2.21, check_addresses: {tcp-433: @@192.0.2.21}}}"),
     "there is no check `tcp-433` in pool `portals`; did you mean `tcp-443`?"},
    {"TableNotPrime", with_pool(kGoodBackends + ", table_size: @@65536"), "not prime; write 65537"},
    {"TableSmall", with_pool(kGoodBackends + ", table_size: @@11"), "from 251 to 1048573"},
    {"TableLarge", with_pool(kGoodBackends + ", table_size: @@1048575"), "from 251 to 1048573"},
    {"TableUneven",
     with_pool("backends: {p1: 192.0.2.21, p2: 192.0.2.22, p3: 192.0.2.23}, table_size: @@251"),
     "fewer than 100 each", false},
    {"BadAllDown", with_pool(kGoodBackends + ", all_down: @@keep"), "keep-last, reset or drop"},
    {"BadMinHealthy", with_pool(kGoodBackends + ", min_healthy: @@101%"), "from 0 to 100"},
    {"BadSpill", with_pool(kGoodBackends + ", spill_below: @@200%"), "from 0 to 100"},
    {"SpillWithoutZone", with_pool(kGoodBackends + ", spill_below: @@20%"),
     "has a `zone`; remove `spill_below`"},
    {"HoldWithoutZone", with_pool(kGoodBackends + ", spill_hold: @@1m"), "has a `zone`; remove `spill_hold`"},
    {"ZoneOfSome", with_pool("backends: {p1: {address: 192.0.2.21, zone: a}, @@p2: {address: 192.0.2.22}}"),
     "backend `p2` has no `zone`, but `p1` has; give all of a pool one, or none"},
    {"ZoneName", with_pool("backends: {p1: {address: 192.0.2.21, zone: @@'a b'}}"), "letters, digits"},
    {"ZoneOfBackendsAlone", with_pool("backends: {p1: {address: 192.0.2.21, zone: @@a}}"),
     "this balancer has none: all are used alike; write `zone: a` at the top", false},
    {"BackupBad", with_pool("backends: {p1: {address: 192.0.2.21, backup: @@yes}}"), "true or false"},
    {"BackupsOnly", with_pool("backends: {p1: {address: 192.0.2.21, backup: @@true}}"),
     "every backend of pool `portals` is a backup"},
    {"BackupBelowAlone", with_pool(kGoodBackends + ", backup_below: @@20%"), "give one `backup: true`"},
    {"ResetAfterLong", with_pool(kGoodBackends + ", reset_after: @@2d"), "a duration from 0s to 1d"},
    {"ChecksEmpty", with_pool(kGoodBackends + ", checks: @@{}"), "`checks` is empty"},
    {"CheckWithoutPort", with_pool(kGoodBackends + ", checks: {@@a: {kind: tcp}}"), "`port` is missing"},
    {"CheckPortZero", with_pool(kGoodBackends + ", checks: {a: @@0}"), "from 1 to 65535"},
    {"CheckTwice", with_pool(kGoodBackends + ", checks: {a: 80, @@a: 81}"), "`a` is already defined"},
    {"CheckKind", with_pool(kGoodBackends + ", checks: {a: {port: 80, kind: @@ftp}}"),
     "write tcp, mysql, http, https or tls"},
    {"KeyOfOtherKind", with_pool(kGoodBackends + ", checks: {a: {port: 80, path: @@/health}}"),
     "`path` is for checks of kind http or https; this one is tcp"},
    {"SendAlone", with_pool(kGoodBackends + ", checks: {a: {port: 80, send: @@PING}}"), "without `expect`"},
    {"BadExpect", with_pool(kGoodBackends + ", checks: {a: {port: 80, expect: @@'('}}"), "missing )"},
    {"BadStatus", with_pool(kGoodBackends + ", checks: {a: {port: 80, kind: http, status: @@200-99}}"),
     "write for example 200-299,304"},
    {"PathInjects", with_pool(kGoodBackends + ", checks: {a: {port: 80, kind: http, path: @@/a HTTP/1.1}}"),
     "visible ASCII"},
    {"SendEscape", with_pool(kGoodBackends + ", checks: {a: {port: 80, send: @@'\\q', expect: a}}"),
     "other escapes"},
    {"PathRelative", with_pool(kGoodBackends + ", checks: {a: {port: 80, kind: http, path: @@health}}"),
     "does not begin with `/`"},
    {"HostWithBlank", with_pool(kGoodBackends + ", checks: {a: {port: 80, kind: http, host: @@a b}}"),
     "no host name"},
    {"BodyOfHead",
     with_pool(kGoodBackends + ", checks: {a: {port: 80, kind: http, method: HEAD, body: @@ok}}"),
     "an answer to HEAD has no body"},
    {"NoNameToVerify", with_pool(kGoodBackends + ", checks: {@@a: {port: 443, kind: tls}}"), "`verify: off`"},
    {"CaWithoutVerify",
     with_pool(kGoodBackends + ", checks: {a: {port: 443, kind: tls, verify: off, ca_file: @@ca.pem}}"),
     "no effect"},
    {"SourceTwice", with_pool(kGoodBackends + ", checks: {a: {port: 80, source: [192.0.2.9, @@192.0.2.10]}}"),
     "second source of one family"},
    {"SourceOfNat", with_pool(kGoodBackends + ", checks: {a: {port: 80, source: @@203.0.113.20}}"),
     "checks come from an address of the host's own"},
    {"IntervalShort", with_pool(kGoodBackends + ", check: {interval: @@1ms}"), "a duration from 10ms to 1h"},
    {"FastIsSlower", with_pool(kGoodBackends + ", check: {interval: 100ms, fast_interval: @@200ms}"),
     "`fast_interval` 200ms is longer than the check's `interval` 100ms"},
    {"TimeoutLong", with_pool(kGoodBackends + ", check: {timeout: @@5m}"), "to 1m"},
    {"FallZero", with_pool(kGoodBackends + ", check: {fall: @@0}"), "from 1 to 100"},
    {"CheckUnknownKey", with_pool(kGoodBackends + ", check: {@@port: 80}"), "unknown key `port`"},
    {"TcpCredentials", with_pool(kGoodBackends + ", checks: {a: {port: 80, credentials: @@x.cnf}}"),
     "are for mysql checks"},
    {"PoolCredentials", with_pool(kGoodBackends + ", check: {credentials: @@x.cnf}"), "this pool has none"},
    {"PoolUnused", with_pool(kGoodBackends) + "  @@spare: {backends: {p3: 192.0.2.23}}\n",
     "no service uses pool `spare`", false},
};

// The place of "@@", which is taken out of `text`; 0:0 without one.
std::pair<int, int> take_mark(std::string& text) {
  const size_t at = text.find("@@");
  if (at == std::string::npos) return {0, 0};
  text.erase(at, 2);
  const std::string before = text.substr(0, at);
  const int line = static_cast<int>(std::ranges::count(before, '\n')) + 1;
  return {line, static_cast<int>(at - (before.rfind('\n') + 1)) + 1};
}

void expect_message(const Case& c) {
  SCOPED_TRACE(c.name);
  std::string text = c.text;
  const auto [line, column] = take_mark(text);
  const ConfigResult result = parse_config(text, "f.yaml");
  EXPECT_EQ(result.config.has_value(), !c.is_error);
  for (const ConfigMessage& message : result.messages) {
    if (message.text.find(c.message) == std::string::npos) continue;
    EXPECT_EQ(message.is_error, c.is_error);
    if (line > 0) {
      EXPECT_EQ(std::pair(message.line, message.column), std::pair(line, column)) << message.text << "\n"
                                                                                  << text;
    }
    return;
  }
  ADD_FAILURE() << "no such message: " << c.message << "\n" << text << format_messages(result, "f.yaml");
}

TEST(ConfigErrors, Syntax) {
  for (const Case& c : kSyntaxCases) expect_message(c);
}
TEST(ConfigErrors, TopLevel) {
  for (const Case& c : kTopCases) expect_message(c);
}
TEST(ConfigErrors, Dataplane) {
  for (const Case& c : kDataplaneCases) expect_message(c);
}
TEST(ConfigErrors, Nat) {
  for (const Case& c : kNatCases) expect_message(c);
}
TEST(ConfigErrors, Services) {
  for (const Case& c : kServiceCases) expect_message(c);
}
TEST(ConfigErrors, Tunnel) {
  for (const Case& c : kTunnelCases) expect_message(c);
}
TEST(ConfigErrors, Pools) {
  for (const Case& c : kPoolCases) expect_message(c);
}

TEST(ConfigErrors, AllAreListedAtOnceInTheFilesOrder) {
  const ConfigResult result = parse_config(
      "version: 1\n"
      "dataplane: {ports: [e0], flows: few}\n"
      "nat: {addresses: [203.0.113.20]}\n"
      "services:\n"
      "  web: {listen: 203.0.113.10:0, pool: portal}\n"
      "pools:\n"
      "  portals:\n"
      "    table_size: 1000\n"
      "    backends: {p1: 203.0.113.20}\n",
      "f.yaml");
  std::vector<int> lines;
  for (const ConfigMessage& message : result.messages) {
    if (message.is_error) lines.push_back(message.line);
  }
  EXPECT_EQ(lines, (std::vector<int>{2, 5, 5, 8, 9})) << format_messages(result, "f.yaml");
}

TEST(ConfigErrors, OneInheritedMistakeIsOneMessage) {
  const ConfigResult result = parse_config(
      with_service("listen: [203.0.113.10:80, 203.0.113.10:443], pool: portals")
          .replace(
              with_service("listen: [203.0.113.10:80, 203.0.113.10:443], pool: portals").find("backends:"), 9,
              "check: {interval: 1s, fast_interval: 2s}, backends:"),
      "f.yaml");
  EXPECT_EQ(std::ranges::count(result.messages, true, &ConfigMessage::is_error), 1);
}

TEST(ConfigErrors, LimitsOfTheContractHold) {
  std::string backends;
  for (int i = 0; i < 4097; ++i) {
    backends += "p" + std::to_string(i) + ": 198.18." + std::to_string(i / 250) + "." +
                std::to_string(i % 250 + 1) + ", ";
  }
  const ConfigResult result =
      parse_config(with_pool("backends: {" + backends + "}, table_size: 1048573"), "f.yaml");
  EXPECT_FALSE(result.config);
  EXPECT_NE(format_messages(result, "f").find("4097 backends; at most 4096"), std::string::npos);
}

}  // namespace
}  // namespace portico
