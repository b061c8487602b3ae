// Tiles of a matrix product: every output is one chain of fma over the depth, ascending, from +0.
//
// Both factors lie depth-major, `a[k][m]` and `b[k][n]`, so that tiles go to shared memory as they
// are; halves are widened on the way. The depth must never be split; beyond its end -0 * +0 is
// added, which changes no accumulator.
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

// The factors of a tile, from its first row and column on; those of B are floats or halves.
// `a_width` and `b_width` are how many numbers of a step can be read from there; they and the
// strides are multiples of 16 bytes.
template <class B>
struct Factors {
    const float* a;
    size_t a_stride;
    unsigned a_width;
    const B* b;
    size_t b_stride;
    unsigned b_width;
    // Of B's numbers.
    unsigned kind;
    unsigned depth;
};

// What a thread takes of one factor: in every step some groups of sixteen bytes, in one column of
// groups, on their way to shared memory, [BK][WIDTH].
template <class T, int BK, int WIDTH, int THREADS>
struct Source {
    static constexpr int GROUP = 16 / sizeof(T);
    static constexpr int ACROSS = WIDTH / GROUP;
    static constexpr int DOWN = THREADS / ACROSS;
    static_assert(THREADS % ACROSS == 0 && BK % DOWN == 0, "a thread stays in its column");

    const T* next;
    size_t stride;
    int k;
    int place;
    bool exists;

    DEVICE Source(const T* from, size_t stride_, unsigned width) {
        int column = threadIdx.x % ACROSS * GROUP;
        k = threadIdx.x / ACROSS;
        place = k * WIDTH + column;
        next = from + k * stride_ + column;
        stride = stride_;
        exists = column < static_cast<int>(width);
    }
};

// Floats: they are copied asynchronously.
template <int BK, int WIDTH, int THREADS>
struct Floats : Source<float, BK, WIDTH, THREADS> {
    using Base = Source<float, BK, WIDTH, THREADS>;
    float missing;

    DEVICE Floats(const float* from, size_t stride, unsigned width, float missing_)
        : Base(from, stride, width), missing(missing_) {}

    // Copies the next step; of the depth, `left` numbers are left. What does not exist is
    // `missing`.
    DEVICE void copy_step(float* to, int left) {
        UNROLL
        for (int i = 0; i < BK; i += Base::DOWN) {
            float* group = to + this->place + i * WIDTH;
            if (this->exists && this->k + i < left) {
                copy_16(group, this->next + i * this->stride);
            } else {
                store_16(group, {missing, missing, missing, missing});
            }
        }
        this->next += BK * this->stride;
    }
};

// Halves: they are loaded a step before they are widened to shared memory, so that nobody waits
// for them. What does not exist is +0.
template <int BK, int WIDTH, int THREADS>
struct Halves : Source<Half, BK, WIDTH, THREADS> {
    using Base = Source<Half, BK, WIDTH, THREADS>;
    unsigned kind;
    unsigned held[BK / Base::DOWN][4];

    DEVICE Halves(const Half* from, size_t stride, unsigned width, unsigned kind_, int depth)
        : Base(from, stride, width), kind(kind_) {
        load_step(depth);
    }

    DEVICE void load_step(int left) {
        UNROLL
        for (int i = 0; i < BK; i += Base::DOWN) {
            unsigned(&group)[4] = held[i / Base::DOWN];
            if (this->exists && this->k + i < left) {
                load_16(this->next + i * this->stride, group);
            } else {
                group[0] = group[1] = group[2] = group[3] = 0;
            }
        }
        this->next += BK * this->stride;
    }

    DEVICE void copy_step(float* to, int left) {
        UNROLL
        for (int i = 0; i < BK; i += Base::DOWN) {
            const unsigned(&group)[4] = held[i / Base::DOWN];
            float* floats = to + this->place + i * WIDTH;
            UNROLL
            for (int pair = 0; pair < 4; pair += 2) {
                store_16(floats + 2 * pair, {widened(group[pair] & 0xffffu, kind),
                                             widened(group[pair] >> 16, kind),
                                             widened(group[pair + 1] & 0xffffu, kind),
                                             widened(group[pair + 1] >> 16, kind)});
            }
        }
        load_step(left - BK);
    }
};

template <class S>
DEVICE Floats<S::BK, S::BN, S::THREADS> source_of_b(const Factors<float>& factors) {
    return {factors.b, factors.b_stride, factors.b_width, 0.0f};
}

template <class S>
DEVICE Halves<S::BK, S::BN, S::THREADS> source_of_b(const Factors<Half>& factors) {
    int depth = static_cast<int>(factors.depth);
    return {factors.b, factors.b_stride, factors.b_width, factors.kind, depth};
}

// Copies the next step of both factors, if there is one, and ends a group of copies.
template <class S, class A, class B>
DEVICE void copy_step(A& a, B& b, int& left, float* stage) {
    if (left > 0) {
        a.copy_step(stage, left);
        b.copy_step(stage + S::BK * S::BM, left);
        left -= S::BK;
    }
    group_copies();
}

template <int COUNT, int APART>
DEVICE void load_fragment(float (&to)[COUNT], const float* from) {
    UNROLL
    for (int i = 0; i < COUNT; i += 4) {
        float four[4];
        load_16(from + i / 4 * APART, four);
        UNROLL
        for (int e = 0; e < 4; ++e) {
            to[i + e] = four[e];
        }
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
template <class S, class B>
DEVICE void chains(const Factors<B>& factors, float* memory, Place at,
                   float (&sums)[S::TM][S::TN]) {
    unsigned steps = (factors.depth + S::BK - 1) / S::BK;
    int left = static_cast<int>(factors.depth);
    Floats<S::BK, S::BM, S::THREADS> from_a(factors.a, factors.a_stride, factors.a_width,
                                            negative(0.0f));
    auto from_b = source_of_b<S>(factors);
    UNROLL
    for (int stage = 0; stage < S::STAGES - 1; ++stage) {
        copy_step<S>(from_a, from_b, left, memory + stage * S::STEP);
    }
    unsigned reading = 0;
    unsigned writing = S::STAGES - 1;
    ROLLED
    for (unsigned step = 0; step < steps; ++step) {
        copies_done<S::STAGES - 2>();
        // All of this step is visible, and nobody reads the stage that is written next.
        barrier();
        copy_step<S>(from_a, from_b, left, memory + writing * S::STEP);
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

// Computes a tile and calls `finish(m, n, chains)` for every four outputs (m .. m + 3, n) of it,
// also for those that do not exist. Neighboring threads have neighboring rows.
//
// The outputs go through shared memory so that `finish` is one piece of code in a loop: unrolled
// over a thread's outputs, GELU alone would overrun the instruction cache. Four at a time wait for
// memory together, and are written together.
template <class S, class B, class Finish>
DEVICE void tile(const Factors<B>& factors, float* memory, const Finish& finish) {
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
                    store_16(column + m / 4 * 32,
                             {sums[m][n], sums[m + 1][n], sums[m + 2][n], sums[m + 3][n]});
                }
            }
        }
        barrier();
        ROLLED
        for (int i = threadIdx.x * 4; i < S::SLICE * S::BM; i += S::THREADS * 4) {
            float four[4];
            load_16(memory + i, four);
            finish(i % S::BM, slice + i / S::BM, four);
        }
    }
}
