// SPDX-License-Identifier: Apache-2.0

#include "control.h"
#include <stdexcept>
#include <string>

namespace {
struct guard {
	long *p;
	explicit guard(long *q) : p(q) { ++*p; }
	~guard() { --*p; }
};
long depth;
}

extern "C" NOINLINE long thrower(long v)
{
	if (v < 0)
		throw std::runtime_error("negative");
	return v;
}

// An exception passes through it, and it has something to clean up.
extern "C" NOINLINE long f(long v)
{
	guard g(&depth);
#if LEVEL == 1 || LEVEL == 2
	return thrower(v) + 100;
#else
	return thrower(v) + 1;
#endif
}

// It catches.
extern "C" NOINLINE long catcher(long v)
{
	try {
		return f(v);
	} catch (const std::exception &e) {
#if LEVEL == 2
		return -200 - depth;
#else
		return -100 - depth;
#endif
	}
}

// Nothing is thrown through it, nothing is cleaned up.
extern "C" NOINLINE long calm(long v)
{
#if LEVEL == 3
	return v + 30;
#else
	return v + 3;
#endif
}

extern const struct entry table[] = {{"catcher", catcher}, {"calm", calm}, {nullptr, nullptr}};
