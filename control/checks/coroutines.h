// SPDX-License-Identifier: Apache-2.0
// Include before any Boost.Asio header that has to do with coroutines. Boost 1.74's awaitable.hpp uses
// <utility> without including it, and knows the C++20 coroutines of GCC only; clang 14, which clang-tidy and
// the fuzz targets are built with, has them but does not say so to libstdc++.
#pragma once

#include <utility>

#ifdef __clang__
#ifndef __cpp_impl_coroutine
#define __cpp_impl_coroutine 201902L  // NOLINT(bugprone-reserved-identifier)
#endif
#define BOOST_ASIO_HAS_CO_AWAIT 1
#define BOOST_ASIO_HAS_STD_COROUTINE 1
#endif

#include <coroutine>
