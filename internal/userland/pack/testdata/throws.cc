// SPDX-License-Identifier: Apache-2.0
//
// C++ under test: exceptions pass through, are caught in, and are thrown by the
// patched functions.
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

static int alive;

struct guard {
	guard() { alive++; }
	~guard() { alive--; }
};

struct odd : std::runtime_error {
	explicit odd(int n) : std::runtime_error("odd " + std::to_string(n)) {}
};

__attribute__((noinline)) static int half(int n)
{
	if (n & 1)
		throw odd(n);
	return n / 2;
}

__attribute__((noinline)) static int through(int n)
{
	guard g;
#ifdef FIXED
	std::vector<int> v(3, n);
	return half(v[1]) + 1000;
#else
	return half(n);
#endif
}

extern "C" int work(char *out, size_t size, int n)
{
	try {
		int v = through(n);
#ifdef FIXED
		if (n == 2)
			throw std::string("two");
		return snprintf(out, size, "[fixed %d %d]", v, alive);
	} catch (const std::string &s) {
		return snprintf(out, size, "[fixed %s %d]", s.c_str(), alive);
#else
		return snprintf(out, size, "[old %d %d]", v, alive);
#endif
	} catch (const std::exception &e) {
		return snprintf(out, size, "[%s %d]", e.what(), alive);
	}
}
