// exp, ln, erf, GELU, sin and cos of a phase: section 2 of docs/numerics.md, operation by
// operation. `crates/model/src/math.rs` is the same in Rust.
#pragma once

#include "arithmetic.cuh"

// 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits.
#define ROUNDER with_bits(0x4b400000u)
#define LOG2_E with_bits(0x3fb8aa3bu)
#define LN2_HIGH with_bits(0x3f318000u)
#define LN2_LOW with_bits(0xb95e8083u)

// Horner's rule, highest power first.
template <int N>
DEVICE float polynomial(float x, const unsigned (&coefficients)[N]) {
    float sum = with_bits(coefficients[0]);
    UNROLL
    for (int i = 1; i < N; ++i) {
        sum = fma_(sum, x, with_bits(coefficients[i]));
    }
    return sum;
}

// 2^n for -126 <= n <= 127.
DEVICE float power_of_two(int n) { return with_bits(static_cast<unsigned>(n + 127) << 23); }

// e^x = p * 2^n for x whose exponential is a normal number.
DEVICE float exp_parts(float x, int& n) {
    const unsigned EXP[5] = {0x3ab561b6u, 0x3c091ed3u, 0x3d2aac2cu, 0x3e2aaa46u, 0x3efffffeu};
    float shifted = fma_(x, LOG2_E, ROUNDER);
    float whole = sub(shifted, ROUNDER);
    float r = fnma(whole, LN2_HIGH, x);
    r = fnma(whole, LN2_LOW, r);
    float q = polynomial(r, EXP);
    float sum = add(1.0f, r);
    float lost = sub(r, sub(sum, 1.0f));
    n = static_cast<int>(bits(shifted) - 0x4b400000u);
    return add(sum, fma_(mul(r, r), q, lost));
}

DEVICE float exp_(float x) {
    int n;
    float p = exp_parts(x, n);
    int half = n >> 1;
    float result = mul(mul(p, power_of_two(half)), power_of_two(n - half));
    result = x < with_bits(0xc2aeac4fu) ? 0.0f : result;
    return with_bits(0x42b17217u) < x ? with_bits(0x7f800000u) : result;
}

// exp(x - max) as an operand, for x <= max.
DEVICE float softmax_term(float x, float max) {
    float d = operand(sub(x, max));
    d = d < -64.0f ? -64.0f : d;
    int n;
    float p = exp_parts(d, n);
    return operand(mul(p, power_of_two(n)));
}

DEVICE float ln(float x) {
    const unsigned LN[9] = {0x3d5ae9c5u, 0xbddfa773u, 0x3df80125u, 0xbe008228u, 0x3e11817cu,
                            0xbe2a9788u, 0x3e4cd2a1u, 0xbe800038u, 0x3eaaaaa4u};
    const float INFINITE = with_bits(0x7f800000u);
    const float NOT_A_NUMBER = with_bits(0x7fc00000u);
    bool tiny = x < with_bits(0x00800000u);
    float scaled = tiny ? mul(x, 8388608.0f) : x;
    int exponent = shifted_right(bits(scaled) - 0x3f3504f3u, 23);
    float r = sub(with_bits(bits(scaled) - (static_cast<unsigned>(exponent) << 23)), 1.0f);
    float e = sub(with_bits(static_cast<unsigned>(exponent) + 0x4b400000u), ROUNDER);
    e = tiny ? sub(e, 23.0f) : e;
    float square = mul(r, r);
    float y = mul(mul(r, square), polynomial(r, LN));
    y = fma_(e, LN2_LOW, y);
    y = fnma(0.5f, square, y);
    y = add(r, y);
    y = fma_(e, LN2_HIGH, y);
    y = 0.0f < x ? y : negative(INFINITE);
    y = x < 0.0f ? NOT_A_NUMBER : y;
    float special = x < 0.0f ? NOT_A_NUMBER : x;
    return magnitude(x) < INFINITE ? y : special;
}

DEVICE float erf_(float x) {
    const unsigned NEAR[7] = {0x38a3b8ffu, 0xba51a8afu, 0x3ba9f912u, 0xbcdbfb8du,
                              0x3de71673u, 0xbec0939fu, 0x3e0375d4u};
    const unsigned FAR[7] = {0x37415529u, 0xb9aac811u, 0x3b6f7f50u, 0xbcc2ddf5u,
                             0x3dd9a23bu, 0x3f22981au, 0x3e03bd97u};
    float t = magnitude(x);
    float near = fma_(polynomial(mul(x, x), NEAR), x, x);
    bool is_far = with_bits(0x3f6d8000u) < t;
    t = 4.0f < t ? 4.0f : t;
    float q = polynomial(t, FAR);
    float u = fma_(q, t, t);
    float lost = fma_(q, t, sub(t, u));
    float rest = exp_(sub(0.0f, u));
    rest = fnma(rest, lost, rest);
    float far = with_bits(bits(magnitude(sub(1.0f, rest))) | (bits(x) & 0x80000000u));
    return is_far ? far : near;
}

DEVICE float gelu(float x) {
    float e = erf_(mul(x, with_bits(0x3f3504f3u)));
    return mul(mul(0.5f, x), add(1.0f, e));
}

// u - rint(u) for u = p * scale in float64: the phase in turns.
DEVICE float turn(float p, double scale) {
    double turns = mul_64(static_cast<double>(p), scale);
    return narrow(sub_64(turns, integer_64(turns)));
}

// sin and cos of 2 pi f for |f| <= 1/2.
DEVICE void sin_cos_turn(float f, float& sin, float& cos) {
    const unsigned SIN[5] = {0x42f50833u, 0xc29f22beu, 0x42a34736u, 0xc2255e0eu, 0x40c90fdbu};
    const unsigned COS[5] = {0x426a3ea3u, 0xc2aad8a3u, 0x4281e0d7u, 0xc19de9e6u, 0x3f800000u};
    float shifted = fma_(f, 4.0f, ROUNDER);
    float quarters = sub(shifted, ROUNDER);
    float g = fnma(quarters, 0.25f, f);
    float square = mul(g, g);
    unsigned s = bits(mul(g, polynomial(square, SIN)));
    unsigned c = bits(polynomial(square, COS));
    // The low two bits count quarter turns: the first exchanges sin and cos, the second gives the
    // signs.
    unsigned count = bits(shifted);
    unsigned sin_sign = (count << 30) & 0x80000000u;
    unsigned cos_sign = ((count + 1u) << 30) & 0x80000000u;
    bool crossed = (count & 1u) != 0u;
    sin = with_bits((crossed ? c : s) ^ sin_sign);
    cos = with_bits((crossed ? s : c) ^ cos_sign);
}
