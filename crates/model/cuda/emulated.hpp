// The card for a C++ compiler of the host: what kernels use of CUDA, emulated so that tests can run
// them, and so that mistakes which a card forgives by chance show.
//
// Threads of a block are fibers that run one after the other between barriers, in ascending or
// descending order (`emulated.cpp`). An asynchronous copy happens when it is asked for or when it
// is waited for, as tests choose: a card is free to do either. Sixteen bytes at an address that is
// not a multiple of sixteen end the launch with an error, as on a card.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#define DEVICE inline
#define KERNEL(name, threads, blocks) static void name
#define UNROLL
#define UNROLL_8
#define ROLLED
#define __shared__ static

struct Index {
    unsigned x, y, z;
};
inline Index threadIdx, blockIdx, gridDim;

// A copy that was asked for.
struct Copy {
    float* to;
    const float* from;
};
// Those of a thread, in groups; the last one is not complete yet.
using Copies = std::vector<std::vector<Copy>>;
inline Copies* copies;
// Whether a copy happens when it is asked for.
inline bool is_early;
// Groups that every wait leaves too many: a mistake, to see that it is noticed.
inline size_t forgotten;
inline bool is_misaligned;

void barrier();

inline void check_alignment(const void* address) {
    is_misaligned = is_misaligned || reinterpret_cast<uintptr_t>(address) % 16 != 0;
}
inline void load_16(const float* from, float (&to)[4]) {
    check_alignment(from);
    std::memcpy(to, from, 16);
}
inline void store_16(float* to, const float (&from)[4]) {
    check_alignment(to);
    std::memcpy(to, from, 16);
}
inline void load_16(const unsigned short* from, unsigned (&to)[4]) {
    check_alignment(from);
    std::memcpy(to, from, 16);
}

inline void copy_16(float* to, const float* from) {
    check_alignment(to);
    check_alignment(from);
    if (is_early) {
        std::memcpy(to, from, 16);
    } else {
        copies->back().push_back(Copy{to, from});
    }
}
inline void group_copies() { copies->emplace_back(); }
template <int PENDING>
inline void copies_done() {
    while (copies->size() > PENDING + 1 + forgotten) {
        for (const Copy& copy : copies->front()) {
            std::memcpy(copy.to, copy.from, 16);
        }
        copies->erase(copies->begin());
    }
}

inline float add(float a, float b) { return a + b; }
inline float sub(float a, float b) { return a - b; }
inline float mul(float a, float b) { return a * b; }
inline float divide(float a, float b) { return a / b; }
inline float root(float a) { return std::sqrt(a); }
inline float fma_(float a, float b, float c) { return std::fma(a, b, c); }
inline double add_64(double a, double b) { return a + b; }
inline double sub_64(double a, double b) { return a - b; }
inline double mul_64(double a, double b) { return a * b; }
inline double integer_64(double a) { return std::nearbyint(a); }
inline float narrow(double a) { return static_cast<float>(a); }
inline unsigned bits(float a) {
    unsigned to;
    std::memcpy(&to, &a, 4);
    return to;
}
inline float with_bits(unsigned a) {
    float to;
    std::memcpy(&to, &a, 4);
    return to;
}
