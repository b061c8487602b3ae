// Tiles of a matrix product: every output is one chain of fma over the depth, ascending, from +0.
//
// Both factors lie depth-major, `a[k][m]` and `b[k][n]`, so that tiles go to shared memory as they
// are. The depth must never be split; beyond its end -0 * +0 is added, which changes no accumulator.
#pragma once

#include "arithmetic.cuh"

// The shape of a block's work: BM x BN outputs in steps of BK, TM x TN of them per thread, with
// STAGES steps in flight. A warp computes 8 TM x 4 TN.
template <int BM_, int BN_, int BK_, int TM_, int TN_, int STAGES_>
struct Shape {
    static constexpr int BM = BM_, BN = BN_, BK = BK_, TM = TM_, TN = TN_, STAGES = STAGES_;
    static constexpr int THREADS = (BM / TM) * (BN / TN);
    static constexpr int STEP = BK * (BM + BN);
    // Columns that the epilogue takes at a time, as many as fit into the memory of the stages.
    static constexpr int SLICE = 64;
    static_assert(SLICE * BM <= STAGES * STEP, "a slice fits");
    static_assert(BN % SLICE == 0 && SLICE % (4 * TN) == 0, "a warp's columns are in one slice");
};

// For what fills the card, for what has about one block for each multiprocessor, and for few rows.
using Large = Shape<128, 128, 8, 8, 16, 4>;
using Medium = Shape<128, 128, 16, 8, 8, 3>;
using Small = Shape<32, 64, 32, 4, 4, 3>;

// The factors of a tile, from its first row and column on. `a_width` and `b_width` are how many
// floats of a step can be read from there; they and the strides are multiples of 4.
struct Factors {
    const float* a;
    size_t a_stride;
    unsigned a_width;
    const float* b;
    size_t b_stride;
    unsigned b_width;
    unsigned depth;
};

// What a thread copies of one factor: some numbers of a column of quads, in every step.
template <int BK, int WIDTH, int THREADS>
struct Source {
    static constexpr int ACROSS = WIDTH / 4;
    static constexpr int DOWN = THREADS / ACROSS;
    static_assert(THREADS % ACROSS == 0 && BK % DOWN == 0, "a thread stays in its column");

    const float* next;
    size_t stride;
    int k;
    int place;
    bool exists;

    DEVICE Source(const float* from, size_t stride_, unsigned width) {
        int column = threadIdx.x % ACROSS * 4;
        k = threadIdx.x / ACROSS;
        place = k * WIDTH + column;
        next = from + k * stride_ + column;
        stride = stride_;
        exists = column < static_cast<int>(width);
    }

    // Copies the next step to shared memory, [BK][WIDTH]; of the depth, `left` numbers are left.
    // What does not exist is `missing`.
    DEVICE void copy_step(float* to, int left, float missing) {
        UNROLL
        for (int i = 0; i < BK; i += DOWN) {
            float* quad = to + place + i * WIDTH;
            if (exists && k + i < left) {
                copy_16(quad, next + i * stride);
            } else {
                *reinterpret_cast<float4*>(quad) = make_float4(missing, missing, missing, missing);
            }
        }
        next += BK * stride;
    }
};

// What a thread copies of both factors.
template <class S>
struct Sources {
    Source<S::BK, S::BM, S::THREADS> a;
    Source<S::BK, S::BN, S::THREADS> b;
    int left;

    DEVICE explicit Sources(const Factors& factors)
        : a(factors.a, factors.a_stride, factors.a_width),
          b(factors.b, factors.b_stride, factors.b_width),
          left(static_cast<int>(factors.depth)) {}

    // Copies the next step, if there is one, and ends a group of copies.
    DEVICE void copy_step(float* stage) {
        if (left > 0) {
            a.copy_step(stage, left, negative(0.0f));
            b.copy_step(stage + S::BK * S::BM, left, 0.0f);
            left -= S::BK;
        }
        group_copies();
    }
};

template <int COUNT, int APART>
DEVICE void load_fragment(float (&to)[COUNT], const float* from) {
    UNROLL
    for (int i = 0; i < COUNT; i += 4) {
        float4 four = *reinterpret_cast<const float4*>(from + i / 4 * APART);
        to[i] = four.x;
        to[i + 1] = four.y;
        to[i + 2] = four.z;
        to[i + 3] = four.w;
    }
}

// Where a thread's outputs lie in the tile: rows `m + 32 g + e` and columns `n + 16 g + e` for each
// group g of four (e = 0 .. 3). The order of lanes makes their reads of shared memory free of
// conflicts.
struct Place {
    int m;
    int n;
};

template <class S>
DEVICE Place place() {
    constexpr int WARPS = S::BM / (8 * S::TM);
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32;
    Place at;
    at.m = warp % WARPS * 8 * S::TM + (lane >> 1 & 7) * 4;
    at.n = warp / WARPS * 4 * S::TN + ((lane & 1) | (lane >> 4 << 1)) * 4;
    return at;
}

// Runs all chains of a tile.
template <class S>
DEVICE void chains(const Factors& factors, float* memory, Place at, float (&sums)[S::TM][S::TN]) {
    unsigned steps = (factors.depth + S::BK - 1) / S::BK;
    Sources<S> sources(factors);
    UNROLL
    for (int stage = 0; stage < S::STAGES - 1; ++stage) {
        sources.copy_step(memory + stage * S::STEP);
    }
    unsigned reading = 0;
    unsigned writing = S::STAGES - 1;
    ROLLED
    for (unsigned step = 0; step < steps; ++step) {
        copies_done<S::STAGES - 2>();
        // All copies of this step are visible, and nobody reads the stage that is written next.
        barrier();
        sources.copy_step(memory + writing * S::STEP);
        const float* a = memory + reading * S::STEP + at.m;
        const float* b = memory + reading * S::STEP + S::BK * S::BM + at.n;
        UNROLL
        for (int k = 0; k < S::BK; ++k) {
            float x[S::TM], y[S::TN];
            load_fragment<S::TM, 32>(x, a + k * S::BM);
            load_fragment<S::TN, 16>(y, b + k * S::BN);
            UNROLL
            for (int m = 0; m < S::TM; ++m) {
                UNROLL
                for (int n = 0; n < S::TN; ++n) {
                    sums[m][n] = fma_(x[m], y[n], sums[m][n]);
                }
            }
        }
        reading = reading + 1 == S::STAGES ? 0 : reading + 1;
        writing = writing + 1 == S::STAGES ? 0 : writing + 1;
    }
    copies_done<0>();
}

// Computes a tile and calls `finish(m, n, chain)` for every output of it, also for those that do
// not exist. Neighboring threads have neighboring rows.
//
// The outputs go through shared memory so that `finish` is one piece of code in a loop: unrolled
// over a thread's outputs, GELU alone would overrun the instruction cache.
template <class S, class Finish>
DEVICE void tile(const Factors& factors, float* memory, const Finish& finish) {
    float sums[S::TM][S::TN];
    UNROLL
    for (int m = 0; m < S::TM; ++m) {
        UNROLL
        for (int n = 0; n < S::TN; ++n) {
            sums[m][n] = 0.0f;
        }
    }
    Place at = place<S>();
    chains<S>(factors, memory, at, sums);
    for (int slice = 0; slice < S::BN; slice += S::SLICE) {
        barrier();
        if (at.n / S::SLICE * S::SLICE == slice) {
            UNROLL
            for (int n = 0; n < S::TN; ++n) {
                float* column = memory + (at.n - slice + n / 4 * 16 + n % 4) * S::BM + at.m;
                UNROLL
                for (int m = 0; m < S::TM; m += 4) {
                    *reinterpret_cast<float4*>(column + m / 4 * 32) =
                        make_float4(sums[m][n], sums[m + 1][n], sums[m + 2][n], sums[m + 3][n]);
                }
            }
        }
        barrier();
        ROLLED
        for (int i = threadIdx.x; i < S::SLICE * S::BM; i += S::THREADS) {
            finish(i % S::BM, slice + i / S::BM, memory[i]);
        }
    }
}
