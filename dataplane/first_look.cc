// SPDX-License-Identifier: Apache-2.0
#include "dataplane/first_look.h"

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "dataplane/avx512.h"
#include "dataplane/plain_header.h"

namespace portico {

namespace {

uint8_t nothing[64];  // read only: a frame that is not plain

// Packets [begin, n) one by one.
void look_at(FirstLook& look, uint32_t begin, uint32_t n) {
  for (uint32_t i = begin; i < n; ++i) {
    const uint8_t* const frame = look.frames[i];
    const uint32_t total = plain_ip_length<V4>(frame, look.sizes[i]);
    if (total == 0) continue;
    const uint8_t* const l4 = frame + kPlainL2Size + V4::kHeaderSize;
    const uint32_t header = (l4[12] >> 4) * 4u;
    if (header < kTcpHeaderSize || header > total - V4::kHeaderSize) continue;
    look.lengths[i] = static_cast<uint16_t>(total);
    const uint8_t flags = l4[13] & (kFin | kSyn | kRst | kAck);
    look.acks |= uint64_t{flags == kAck} << i;
    look.syns |= uint64_t{flags == kSyn} << i;
  }
}

}  // namespace

void open_frames(FirstLook& look, rte_mbuf* const* mbufs, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) {
    auto* const frame = rte_pktmbuf_mtod(mbufs[i], uint8_t*);
    const uint16_t size = rte_pktmbuf_data_len(mbufs[i]);
    rte_prefetch0(frame);
    look.frames[i] = size >= kLeastPlainFrame ? frame : nothing;
    look.sizes[i] = size;
  }
}

void look_portably(FirstLook& look, uint32_t n) {
  look.acks = look.syns = 0;
  look_at(look, 0, n);
}

#if defined(__x86_64__)

namespace {

// Columns of 16 packets, a lane each: 32-bit words of the frame, the first at byte 12.
struct Columns {
  __m512i type;       // EtherType, version and header length, type of service
  __m512i length;     // total length, identification
  __m512i fragment;   // fragment, TTL, protocol
  __m512i checksum;   // checksum, source's first half
  __m512i addresses;  // source's second half, destination's first
  __m512i rest;       // destination's second half, source port
  __m512i last;       // destination port, the sequence number's first half
};

// 32 bytes of packet i in the lower, of packet i + 4 in the upper half.
PORTICO_AVX512 inline __m512i row(uint8_t* const* frames, uint32_t i) {
  const auto* const low = reinterpret_cast<const __m256i*>(frames[i] + 12);
  const auto* const high = reinterpret_cast<const __m256i*>(frames[i + 4] + 12);
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(low)), _mm256_loadu_si256(high), 1);
}

// Words 0 to 6 of eight packets, as [word k of 0..3 | word k + 4 of 0..3 | the same of 4..7].
struct Half {
  __m512i words04, words15, words26, words3;
};

PORTICO_AVX512 inline Half transpose(uint8_t* const* frames) {
  const __m512i a = row(frames, 0), b = row(frames, 1), c = row(frames, 2), d = row(frames, 3);
  const __m512i ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
  const __m512i cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
  return {_mm512_unpacklo_epi64(ab_low, cd_low), _mm512_unpackhi_epi64(ab_low, cd_low),
          _mm512_unpacklo_epi64(ab_high, cd_high), _mm512_unpackhi_epi64(ab_high, cd_high)};
}

PORTICO_AVX512 inline Columns columns_of(uint8_t* const* frames) {
  constexpr int kEven = 0x88, kOdd = 0xdd;  // quarters 0 and 2 of both, or 1 and 3
  const Half x = transpose(frames), y = transpose(frames + 8);
  return {
      _mm512_shuffle_i32x4(x.words04, y.words04, kEven), _mm512_shuffle_i32x4(x.words15, y.words15, kEven),
      _mm512_shuffle_i32x4(x.words26, y.words26, kEven), _mm512_shuffle_i32x4(x.words3, y.words3, kEven),
      _mm512_shuffle_i32x4(x.words04, y.words04, kOdd),  _mm512_shuffle_i32x4(x.words15, y.words15, kOdd),
      _mm512_shuffle_i32x4(x.words26, y.words26, kOdd)};
}

// Bytes 44 to 47 of four frames: the acknowledgement's second half, TCP's header length and flags.
PORTICO_AVX512 inline __m128i tcp_words(uint8_t* const* frames) {
  __m128i words = _mm_cvtsi32_si128(load<int>(frames[0] + 44));
  words = _mm_insert_epi32(words, load<int>(frames[1] + 44), 1);
  words = _mm_insert_epi32(words, load<int>(frames[2] + 44), 2);
  return _mm_insert_epi32(words, load<int>(frames[3] + 44), 3);
}

PORTICO_AVX512 inline __m512i tcp_column(uint8_t* const* frames) {
  __m512i words = _mm512_castsi128_si512(tcp_words(frames));
  words = _mm512_inserti32x4(words, tcp_words(frames + 4), 1);
  words = _mm512_inserti32x4(words, tcp_words(frames + 8), 2);
  return _mm512_inserti32x4(words, tcp_words(frames + 12), 3);
}

PORTICO_AVX512 inline __m512i low_half(__m512i words) {
  return _mm512_and_si512(words, _mm512_set1_epi32(0xffff));
}
PORTICO_AVX512 inline __m512i high_half(__m512i words) {
  return _mm512_srli_epi32(words, 16);
}
PORTICO_AVX512 inline __m512i both_halves(__m512i words) {
  return _mm512_add_epi32(low_half(words), high_half(words));
}

// Where the headers' one's complement sums are right (RFC 1071). Ten words' sum folds to 0xffff or more in
// one step, and of the multiples of 0xffff only that one is in reach.
PORTICO_AVX512 inline __mmask16 right_sums(const Columns& c) {
  const __m512i ends = _mm512_add_epi32(high_half(c.type), low_half(c.rest));
  const __m512i first = _mm512_add_epi32(both_halves(c.length), both_halves(c.fragment));
  const __m512i second = _mm512_add_epi32(both_halves(c.checksum), both_halves(c.addresses));
  const __m512i sum = _mm512_add_epi32(ends, _mm512_add_epi32(first, second));
  return _mm512_cmpeq_epi32_mask(both_halves(sum), _mm512_set1_epi32(0xffff));
}

// Where the bits of `mask` are those of `value`.
PORTICO_AVX512 inline __mmask16 fits(__mmask16 among, __m512i words, uint32_t mask, uint32_t value) {
  const __m512i masked = _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(mask)));
  return _mm512_mask_cmpeq_epi32_mask(among, masked, _mm512_set1_epi32(static_cast<int>(value)));
}

// Sources from 1.0.0.0 to 223.255.255.255 but loopback.
PORTICO_AVX512 inline __mmask16 sane_sources(__mmask16 among, __m512i checksum_column) {
  const __m512i first = _mm512_and_si512(high_half(checksum_column), _mm512_set1_epi32(0xff));
  const __m512i from_one = _mm512_sub_epi32(first, _mm512_set1_epi32(1));
  among = _mm512_mask_cmplt_epu32_mask(among, from_one, _mm512_set1_epi32(223));
  return _mm512_mask_cmpneq_epi32_mask(among, first, _mm512_set1_epi32(127));
}

// Words of the second half of one and the first half of another.
PORTICO_AVX512 inline void store_joint(uint32_t* to, __m512i one, __m512i other) {
  _mm512_store_si512(to, _mm512_or_si512(high_half(one), _mm512_slli_epi32(other, 16)));
}

// 16 packets from `begin` on.
PORTICO_AVX512 void look_at_lanes(FirstLook& look, uint32_t begin) {
  uint8_t* const* const frames = look.frames.data() + begin;
  const Columns c = columns_of(frames);
  const __m512i tcp = tcp_column(frames);
  const __m512i sizes =
      _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(&look.sizes[begin])));
  // The length's bytes change places.
  const __m512i total =
      _mm512_or_si512(_mm512_srli_epi32(low_half(c.length), 8), low_half(_mm512_slli_epi32(c.length, 8)));
  const __m512i header = _mm512_and_si512(_mm512_srli_epi32(tcp, 18), _mm512_set1_epi32(0x3c));
  const __m512i least = _mm512_set1_epi32(V4::kHeaderSize + kTcpHeaderSize);
  __mmask16 plain = right_sums(c);
  plain = fits(plain, c.type, 0x00ffffff, 0x00450008);      // EtherType 0x0800, 20 bytes of IPv4 header
  plain = fits(plain, c.fragment, 0xff00ff3f, 0x06000000);  // whole, TCP
  plain = _mm512_mask_test_epi32_mask(plain, c.fragment, _mm512_set1_epi32(0x00fe0000));  // TTL above 1
  plain = sane_sources(plain, c.checksum);
  plain = _mm512_mask_cmpge_epu32_mask(plain, total, least);
  plain =
      _mm512_mask_cmple_epu32_mask(plain, _mm512_add_epi32(total, _mm512_set1_epi32(kPlainL2Size)), sizes);
  plain = _mm512_mask_cmpge_epu32_mask(plain, header, _mm512_set1_epi32(kTcpHeaderSize));
  plain = _mm512_mask_cmple_epu32_mask(plain, _mm512_add_epi32(header, _mm512_set1_epi32(V4::kHeaderSize)),
                                       total);
  constexpr uint32_t kDecisive = uint32_t{kFin | kSyn | kRst | kAck} << 24;
  look.acks |= uint64_t{fits(plain, tcp, kDecisive, uint32_t{kAck} << 24)} << begin;
  look.syns |= uint64_t{fits(plain, tcp, kDecisive, uint32_t{kSyn} << 24)} << begin;
  _mm256_store_si256(reinterpret_cast<__m256i*>(&look.lengths[begin]), _mm512_cvtepi32_epi16(total));
  store_joint(&look.sources[begin], c.checksum, c.addresses);
  store_joint(&look.destinations[begin], c.addresses, c.rest);
  store_joint(&look.port_pairs[begin], c.rest, c.last);
}

}  // namespace

PORTICO_AVX512 void look_with_avx512(FirstLook& look, uint32_t n) {
  look.acks = look.syns = 0;
  uint32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) look_at_lanes(look, i);
  look_at(look, i, n);
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

#else

void look_with_avx512(FirstLook& look, uint32_t n) {
  look_portably(look, n);
}

bool has_avx512() {
  return false;
}

#endif

}  // namespace portico
