// The operations that kernels are made of, each one IEEE-754 operation with one rounding to nearest
// even (docs/numerics.md, section 1).
//
// Kernels must use nothing else for floats: no operator but comparison, no function of a library,
// because a compiler may contract or replace those. The same source compiles as C++ for the host,
// where `emulated.hpp` stands for the card.
#pragma once

// The bits of a number of half precision.
using Half = unsigned short;

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#define KERNEL(name, threads, blocks) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name
#define UNROLL _Pragma("unroll")
#define UNROLL_8 _Pragma("unroll 8")
#define ROLLED _Pragma("unroll 1")

DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float sub(float a, float b) { return __fsub_rn(a, b); }
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }
DEVICE float root(float a) { return __fsqrt_rn(a); }
// a * b + c
DEVICE float fma_(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE double add_64(double a, double b) { return __dadd_rn(a, b); }
DEVICE double sub_64(double a, double b) { return __dsub_rn(a, b); }
DEVICE double mul_64(double a, double b) { return __dmul_rn(a, b); }
// The nearest integer, ties to even.
DEVICE double integer_64(double a) { return rint(a); }
DEVICE float narrow(double a) { return __double2float_rn(a); }
DEVICE unsigned bits(float a) { return __float_as_uint(a); }
DEVICE float with_bits(unsigned a) { return __uint_as_float(a); }

DEVICE void barrier() { __syncthreads(); }

// Sixteen bytes at a time: four floats or eight numbers of sixteen bits. Their address must be a
// multiple of 16.
DEVICE void load_16(const float* from, float (&to)[4]) {
    float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
}
DEVICE void store_16(float* to, const float (&from)[4]) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}
DEVICE void load_16(const Half* from, unsigned (&to)[4]) {
    uint4 four = *reinterpret_cast<const uint4*>(from);
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
}

// Copies 16 bytes to shared memory, some time before `copies_done` returns.
DEVICE void copy_16(float* to, const float* from) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
// Ends a group of copies.
DEVICE void group_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `PENDING` of this thread's groups are not done.
template <int PENDING>
DEVICE void copies_done() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
#else
#include "emulated.hpp"
#endif

// Bits of 2^-40: a number of smaller magnitude counts as +0 where it is multiplied.
constexpr unsigned OPERAND_MIN = 0x2b800000u;
// Lanes of a row sum.
constexpr int LANES = 16;

DEVICE float operand(float x) { return (bits(x) & 0x7fffffffu) < OPERAND_MIN ? 0.0f : x; }
DEVICE float negative(float x) { return with_bits(bits(x) ^ 0x80000000u); }
DEVICE float magnitude(float x) { return with_bits(bits(x) & 0x7fffffffu); }
// c - a * b
DEVICE float fnma(float a, float b, float c) { return fma_(negative(a), b, c); }
DEVICE bool is_finite(float x) { return (bits(x) & 0x7f800000u) != 0x7f800000u; }
DEVICE int shifted_right(unsigned x, int by) { return static_cast<int>(x) >> by; }

// What the elements of a matrix are.
enum Kind : unsigned { FLOAT = 0, BFLOAT16 = 1, BINARY16 = 2 };

// The float32 of a finite number of half precision, exactly.
DEVICE float widened(unsigned half, unsigned kind) {
    if (kind == BFLOAT16) {
        return with_bits(half << 16);
    }
    // Sign, exponent and mantissa move to float32's places, where the bias is larger by 112. The
    // product is exact, also of a subnormal number.
    unsigned moved = (half & 0x8000u) << 16 | (half & 0x7fffu) << 13;
    return mul(with_bits(moved), with_bits(0x77800000u));
}
