// SPDX-License-Identifier: Apache-2.0
// Intrinsics, and what marks functions that run only where has_avx512() says so (first_look.h). For .cc
// files.
#pragma once

#if defined(__x86_64__)

#if !defined(__clang__)
// GCC 12 takes its own intrinsics' don't-cares for mistakes (its bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#define PORTICO_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2")]]

#endif
