// Every stage of a score on a card, with the bits of the CPU engine.
//
// Activations are feature-major, `[features][rows]`: element (r, f) is at `f * rows + r`. The rows
// of all chunks of a pass lie side by side, each chunk from a multiple of 4 on; `rows` is a
// multiple of 32. Rows between chunks hold zeros at first, and nothing reads what becomes of them.
// A row never influences another one but in attention, within its chunk.
//
// `docs/numerics.md` defines the numbers. `kernels.ptx` is made from this file by `.ci/ptx`.
#include "functions.cuh"
#include "product.cuh"

// ---- Weights ----------------------------------------------------------------------------------

// Elements `first ..` of a row-major matrix, as operands, to rows that are `stride` apart. Halves
// become floats, or stay halves.
KERNEL(place_weights, 256, 1)
(const void* from, unsigned kind, unsigned count, size_t first, unsigned columns, size_t stride,
 unsigned to_kind, void* to) {
    unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) {
        return;
    }
    size_t element = first + i;
    size_t at = element / columns * stride + element % columns;
    if (kind == FLOAT) {
        static_cast<float*>(to)[at] = operand(static_cast<const float*>(from)[i]);
        return;
    }
    Half half = static_cast<const Half*>(from)[i];
    float value = operand(widened(half, kind));
    if (to_kind == FLOAT) {
        static_cast<float*>(to)[at] = value;
    } else {
        static_cast<Half*>(to)[at] = bits(value) == 0 ? 0 : half;
    }
}

// ---- Embedding --------------------------------------------------------------------------------

// x[f][r] = table[token of r][f]; rows without a token are zero.
KERNEL(embed, 256, 1)
(const unsigned* tokens, const float* table, size_t stride, unsigned width, unsigned rows,
 float* x) {
    unsigned row = blockIdx.x * 256 + threadIdx.x;
    if (row >= rows) {
        return;
    }
    unsigned token = tokens[row];
    for (unsigned feature = blockIdx.y; feature < width; feature += gridDim.y) {
        float value = token == 0xffffffffu ? 0.0f : table[token * stride + feature];
        x[static_cast<size_t>(feature) * rows + row] = value;
    }
}

// ---- Rows: sixteen lanes ----------------------------------------------------------------------

// Folds the lanes of `ROWS` rows in halves of 8, 4, 2, 1; the result is that of the thread's row.
// Thread (lane, row) of a block is `lane * ROWS + row`.
template <int ROWS, class Combine>
DEVICE float fold(float (&lanes)[LANES][ROWS], float value, const Combine& combine) {
    int row = threadIdx.x % ROWS;
    int lane = threadIdx.x / ROWS;
    lanes[lane][row] = value;
    ROLLED
    for (int half = LANES / 2; half > 0; half /= 2) {
        barrier();
        if (lane < half) {
            lanes[lane][row] = combine(lanes[lane][row], lanes[lane + half][row]);
        }
    }
    barrier();
    float result = lanes[0][row];
    // The lanes may be used again.
    barrier();
    return result;
}

struct Sum {
    DEVICE float operator()(float a, float b) const { return add(a, b); }
};

struct Largest {
    DEVICE float operator()(float a, float b) const { return a < b ? b : a; }
};

constexpr int NORM_ROWS = 8;

// y[f][r] = LayerNorm of row r of x.
KERNEL(normalize, LANES* NORM_ROWS, 1)
(const float* __restrict__ x, const float* __restrict__ gamma, const float* __restrict__ beta,
 unsigned width, unsigned rows, float* __restrict__ y) {
    __shared__ float lanes[LANES][NORM_ROWS];
    unsigned row = blockIdx.x * NORM_ROWS + threadIdx.x % NORM_ROWS;
    unsigned lane = threadIdx.x / NORM_ROWS;
    const float* from = x + row;
    float* to = y + row;
    float sum = 0.0f;
    UNROLL_8
    for (unsigned f = lane; f < width; f += LANES) {
        sum = add(sum, from[static_cast<size_t>(f) * rows]);
    }
    float count = static_cast<float>(width);
    float mean = operand(divide(fold<NORM_ROWS>(lanes, sum, Sum()), count));
    float squares = 0.0f;
    UNROLL_8
    for (unsigned f = lane; f < width; f += LANES) {
        float centered = operand(sub(from[static_cast<size_t>(f) * rows], mean));
        squares = fma_(centered, centered, squares);
    }
    float variance = divide(fold<NORM_ROWS>(lanes, squares, Sum()), count);
    float inverse = operand(divide(1.0f, root(add(variance, with_bits(0x3727c5acu)))));
    UNROLL_8
    for (unsigned f = lane; f < width; f += LANES) {
        float centered = operand(sub(from[static_cast<size_t>(f) * rows], mean));
        float value = fma_(mul(centered, inverse), gamma[f], beta[f]);
        to[static_cast<size_t>(f) * rows] = operand(value);
    }
}

// ---- Linear maps ------------------------------------------------------------------------------

// What becomes of a chain.
enum Epilogue : unsigned {
    // operand(c)
    OPERAND = 0,
    // c + bias
    BIAS = 1,
    // operand(c + bias)
    BIAS_OPERAND = 2,
    // operand(gelu(operand(c + bias)))
    BIAS_GELU = 3,
    // out + (c + bias)
    BIAS_RESIDUAL = 4,
};

struct FinishLinear {
    unsigned epilogue;
    const float* bias;
    float* out;
    unsigned rows;
    unsigned columns;
    unsigned first_row;
    unsigned first_column;

    DEVICE void operator()(int m, int n, float (&values)[4]) const {
        unsigned row = first_row + m;
        unsigned column = first_column + n;
        if (row >= rows || column >= columns) {
            return;
        }
        float* to = out + static_cast<size_t>(column) * rows + row;
        float before[4] = {};
        if (epilogue == BIAS_RESIDUAL) {
            load_16(to, before);
        }
        if (epilogue != OPERAND) {
            float added = bias[column];
            UNROLL
            for (int i = 0; i < 4; ++i) {
                values[i] = add(values[i], added);
            }
        }
        if (epilogue == BIAS_GELU) {
            UNROLL
            for (int i = 0; i < 4; ++i) {
                values[i] = gelu(operand(values[i]));
            }
        }
        UNROLL
        for (int i = 0; i < 4; ++i) {
            if (epilogue == BIAS_RESIDUAL) {
                values[i] = add(before[i], values[i]);
            } else if (epilogue != BIAS) {
                values[i] = operand(values[i]);
            }
        }
        store_16(to, values);
    }
};

// A weight [depth][stride] and what becomes of the chains.
struct Map {
    size_t stride;
    unsigned kind;
    unsigned depth;
    unsigned columns;
    unsigned rows;
    unsigned epilogue;
    const float* bias;
};

// out[n][m] = epilogue of the chain over k of x[k][m] * weight[k][n]. Blocks of neighboring rows
// follow each other, so that they share columns of the weight in the cache.
template <class S, class B>
DEVICE void linear(const float* x, const B* weight, const Map& map, float* out, float* memory) {
    unsigned across = (map.rows + S::BM - 1) / S::BM;
    unsigned m = blockIdx.x % across * S::BM;
    unsigned n = blockIdx.x / across * S::BN;
    unsigned width = static_cast<unsigned>(map.stride) - n;
    Factors<B> factors = {x + m, map.rows, map.rows - m, weight + n,
                          map.stride, width, map.kind, map.depth};
    tile<S>(factors, memory,
            FinishLinear{map.epilogue, map.bias, out, map.rows, map.columns, m, n});
}

#define LINEAR(name, S, B)                                                                        \
    KERNEL(name, S::THREADS, 2)                                                                   \
    (const float* x, const B* weight, size_t stride, unsigned kind, unsigned depth,               \
     unsigned columns, unsigned rows, unsigned epilogue, const float* bias, float* out) {         \
        alignas(16) __shared__ float memory[S::STAGES * S::STEP];                                 \
        linear<S>(x, weight, Map{stride, kind, depth, columns, rows, epilogue, bias}, out,        \
                  memory);                                                                        \
    }

LINEAR(linear_large, Large, float)
LINEAR(linear_medium, Medium, float)
LINEAR(linear_small, Small, float)
LINEAR(linear_large_half, Large, Half)
LINEAR(linear_medium_half, Medium, Half)
LINEAR(linear_small_half, Small, Half)

// ---- Attention --------------------------------------------------------------------------------

// Rotates queries and keys, the first 2 * width features of qkv, in place. The tables are
// `[half][positions]`; `blockIdx.y` counts pairs of features.
KERNEL(rotate, 256, 1)
(float* qkv, const unsigned* positions, const float* cosines, const float* sines, unsigned half,
 unsigned table_stride, unsigned pairs, unsigned rows) {
    unsigned row = blockIdx.x * 256 + threadIdx.x;
    if (row >= rows) {
        return;
    }
    unsigned position = positions[row];
    for (unsigned pair = blockIdx.y; pair < pairs; pair += gridDim.y) {
        unsigned i = pair % half;
        float* a = qkv + static_cast<size_t>(pair / half * 2 * half + i) * rows + row;
        float* b = a + static_cast<size_t>(half) * rows;
        float cosine = cosines[static_cast<size_t>(i) * table_stride + position];
        float sine = sines[static_cast<size_t>(i) * table_stride + position];
        float x = *a;
        float y = *b;
        *a = operand(fnma(y, sine, mul(x, cosine)));
        *b = operand(fma_(x, sine, mul(y, cosine)));
    }
}

constexpr int SQUARE = 32;

// Values row-major: to[r][h * padded + f] = values[h * width + f][r].
KERNEL(transpose, SQUARE * 8, 1)
(const float* values, unsigned width, unsigned padded, unsigned heads, unsigned rows, float* to) {
    __shared__ float square[SQUARE][SQUARE + 1];
    unsigned x = threadIdx.x % SQUARE;
    unsigned y = threadIdx.x / SQUARE;
    unsigned features = width * heads;
    for (unsigned first = blockIdx.y * SQUARE; first < features; first += gridDim.y * SQUARE) {
        unsigned row = blockIdx.x * SQUARE;
        for (unsigned i = y; i < SQUARE; i += 8) {
            if (first + i < features) {
                square[i][x] = values[static_cast<size_t>(first + i) * rows + row + x];
            }
        }
        barrier();
        unsigned feature = first + x;
        for (unsigned i = y; i < SQUARE; i += 8) {
            if (feature < features) {
                size_t line = static_cast<size_t>(row + i) * heads * padded;
                to[line + feature / width * padded + feature % width] = square[x][i];
            }
        }
        barrier();
    }
}

// Some queries of a chunk with the keys that they see. There are at most BM of them, and the last
// one's own key is the last one.
struct Queries {
    // The chunk's first row, whose key is the first one.
    unsigned chunk;
    // The first query's position in its chunk, a multiple of BM.
    unsigned first;
    unsigned count;
    unsigned keys;
    // Where the scores of head 0 begin, from the start of the list on: [keys][BM].
    unsigned long long scores;
};

// Where scores lie: those of a block of queries and a head of a wave. A wave is some blocks of a
// list and some heads, as much as there is memory for.
struct Wave {
    const Queries* list;
    // Where the scores of the wave's first block begin in the list.
    unsigned long long begin;
    // Floats of one head.
    unsigned long long head;
    float* scores;
};

DEVICE float* scores_of(const Wave& wave, const Queries& queries) {
    return wave.scores + (blockIdx.z * wave.head + (queries.scores - wave.begin));
}

struct FinishScores {
    float* scores;
    float scale;
    unsigned first_key;
    unsigned keys;
    unsigned width;

    DEVICE void operator()(int m, int n, float (&values)[4]) const {
        if (first_key + n < keys) {
            UNROLL
            for (int i = 0; i < 4; ++i) {
                values[i] = mul(operand(values[i]), scale);
            }
            store_16(scores + static_cast<size_t>(first_key + n) * width + m, values);
        }
    }
};

// scores[j][i] = operand(chain over f of q_i[f] * k_j[f]) * scale, for all keys of the block, those
// included that an earlier query does not see.
template <class S>
DEVICE void scores(const float* qkv, unsigned rows, unsigned width, unsigned dim, unsigned head,
                   float scale, const Wave& wave, float* memory) {
    Queries queries = wave.list[blockIdx.x];
    unsigned key = blockIdx.y * S::BN;
    if (key >= queries.keys) {
        return;
    }
    size_t feature = static_cast<size_t>(head + blockIdx.z) * width;
    unsigned query_row = queries.chunk + queries.first;
    unsigned key_row = queries.chunk + key;
    Factors<float> factors = {qkv + feature * rows + query_row, rows, rows - query_row,
                              qkv + (dim + feature) * rows + key_row, rows, rows - key_row,
                              FLOAT, width};
    float* to = scores_of(wave, queries);
    tile<S>(factors, memory, FinishScores{to, scale, key, queries.keys, S::BM});
}

constexpr int WEIGH_ROWS = 32;

// Turns scores into weights, exp(score - max) as operands, and adds them up; what a query does not
// see becomes +0, which a chain over the values does not change by. `tile` is the BM of the scores,
// and `blockIdx.y` counts queries.
KERNEL(weigh, LANES* WEIGH_ROWS, 1)
(const Queries* list, unsigned long long begin, unsigned long long head, float* scores,
 unsigned tile, float* sums) {
    __shared__ float lanes[LANES][WEIGH_ROWS];
    Queries queries = list[blockIdx.x];
    unsigned query = blockIdx.y * WEIGH_ROWS + threadIdx.x % WEIGH_ROWS;
    unsigned lane = threadIdx.x / WEIGH_ROWS;
    if (blockIdx.y * WEIGH_ROWS >= queries.count) {
        return;
    }
    unsigned seen = query < queries.count ? queries.first + query + 1 : 0;
    float* column = scores_of(Wave{list, begin, head, scores}, queries) + query;
    float max = with_bits(0xff800000u);
    UNROLL_8
    for (unsigned j = lane; j < seen; j += LANES) {
        max = Largest()(max, column[static_cast<size_t>(j) * tile]);
    }
    max = fold<WEIGH_ROWS>(lanes, max, Largest());
    float sum = 0.0f;
    UNROLL_8
    for (unsigned j = lane; j < queries.keys; j += LANES) {
        float* at = column + static_cast<size_t>(j) * tile;
        float weight = 0.0f;
        if (j < seen) {
            weight = softmax_term(*at, max);
            sum = add(sum, weight);
        }
        *at = weight;
    }
    sum = fold<WEIGH_ROWS>(lanes, sum, Sum());
    if (lane == 0) {
        sums[(static_cast<size_t>(blockIdx.z) * gridDim.x + blockIdx.x) * tile + query] = sum;
    }
}

struct FinishValues {
    const float* sums;
    float* out;
    unsigned rows;
    unsigned width;
    unsigned count;
    unsigned first;

    // Of the last four queries some may not exist: those are rows between chunks.
    DEVICE void operator()(int m, int n, float (&values)[4]) const {
        if (m < static_cast<int>(count) && first + n < width) {
            float divisors[4];
            load_16(sums + m, divisors);
            UNROLL
            for (int i = 0; i < 4; ++i) {
                values[i] = operand(divide(operand(values[i]), divisors[i]));
            }
            store_16(out + static_cast<size_t>(first + n) * rows + m, values);
        }
    }
};

// out[f][i] = operand(operand(chain over j of weight_ij * v_j[f]) / sum_i).
template <class S>
DEVICE void values(const float* transposed, unsigned rows, unsigned width, unsigned padded,
                   unsigned heads, unsigned head, const float* sums, const Wave& wave, float* out,
                   float* memory) {
    Queries queries = wave.list[blockIdx.x];
    unsigned first = blockIdx.y * S::BN;
    size_t stride = static_cast<size_t>(heads) * padded;
    const float* b = transposed + queries.chunk * stride + (head + blockIdx.z) * padded + first;
    Factors<float> factors = {scores_of(wave, queries), S::BM, S::BM, b,
                              stride, padded - first, FLOAT, queries.keys};
    const float* sum = sums + (static_cast<size_t>(blockIdx.z) * gridDim.x + blockIdx.x) * S::BM;
    float* to = out + static_cast<size_t>(head + blockIdx.z) * width * rows +
                (queries.chunk + queries.first);
    tile<S>(factors, memory, FinishValues{sum, to, rows, width, queries.count, first});
}

#define ATTENTION(scores_name, values_name, S)                                                    \
    KERNEL(scores_name, S::THREADS, 2)                                                            \
    (const float* qkv, unsigned rows, unsigned width, unsigned dim, unsigned head, float scale,   \
     const Queries* list, unsigned long long begin, unsigned long long head_floats, float* to) {  \
        alignas(16) __shared__ float memory[S::STAGES * S::STEP];                                 \
        scores<S>(qkv, rows, width, dim, head, scale, Wave{list, begin, head_floats, to},         \
                  memory);                                                                        \
    }                                                                                             \
    KERNEL(values_name, S::THREADS, 2)                                                            \
    (const float* transposed, unsigned rows, unsigned width, unsigned padded, unsigned heads,     \
     unsigned head, const float* sums, const Queries* list, unsigned long long begin,             \
     unsigned long long head_floats, float* weights, float* out) {                                \
        alignas(16) __shared__ float memory[S::STAGES * S::STEP];                                 \
        values<S>(transposed, rows, width, padded, heads, head, sums,                             \
                  Wave{list, begin, head_floats, weights}, out, memory);                          \
    }

ATTENTION(scores_medium, values_medium, Medium)
ATTENTION(scores_small, values_small, Small)

// ---- What a score is made of ------------------------------------------------------------------

constexpr int LOSS_ROWS = 8;

// nll[r] of the target of every row that has one. A logit that is not finite marks its row's chunk;
// rows between chunks have none.
KERNEL(likelihood, LANES* LOSS_ROWS, 1)
(const float* logits, const unsigned* targets, const unsigned* chunks, unsigned vocabulary,
 unsigned rows, float* nll, unsigned* broken) {
    __shared__ float lanes[LANES][LOSS_ROWS];
    unsigned row = blockIdx.x * LOSS_ROWS + threadIdx.x % LOSS_ROWS;
    unsigned lane = threadIdx.x / LOSS_ROWS;
    const float* from = logits + row;
    float max = with_bits(0xff800000u);
    bool finite = true;
    UNROLL_8
    for (unsigned n = lane; n < vocabulary; n += LANES) {
        float logit = from[static_cast<size_t>(n) * rows];
        finite = finite && is_finite(logit);
        max = Largest()(max, logit);
    }
    max = fold<LOSS_ROWS>(lanes, max, Largest());
    float sum = 0.0f;
    UNROLL_8
    for (unsigned n = lane; n < vocabulary; n += LANES) {
        sum = add(sum, softmax_term(from[static_cast<size_t>(n) * rows], max));
    }
    sum = fold<LOSS_ROWS>(lanes, sum, Sum());
    unsigned chunk = chunks[row];
    if (!finite && chunk != 0xffffffffu) {
        broken[chunk] = 1;
    }
    unsigned target = targets[row];
    if (lane == 0 && target != 0xffffffffu) {
        nll[row] = sub(ln(sum), sub(from[static_cast<size_t>(target) * rows], max));
    }
}

// The rows of a chunk.
struct Chunk {
    unsigned first;
    unsigned count;
};

// sums[chunk][f] = float64 sum over the chunk's rows, in order. A value that is not finite marks
// the chunk. `blockIdx.y` counts chunks.
KERNEL(sum_rows, 128, 1)
(const float* x, const Chunk* chunks, unsigned width, unsigned rows, double* sums,
 unsigned* broken) {
    unsigned feature = blockIdx.x * 128 + threadIdx.x;
    Chunk chunk = chunks[blockIdx.y];
    if (feature >= width) {
        return;
    }
    const float* from = x + static_cast<size_t>(feature) * rows + chunk.first;
    double sum = 0.0;
    bool finite = true;
    UNROLL_8
    for (unsigned r = 0; r < chunk.count; ++r) {
        float value = from[r];
        finite = finite && is_finite(value);
        sum = add_64(sum, static_cast<double>(value));
    }
    sums[static_cast<size_t>(blockIdx.y) * width + feature] = sum;
    if (!finite) {
        broken[blockIdx.y] = 1;
    }
}

constexpr int NODES = 16;

// SIGReg's sums over the rows of a chunk, in order, from projections as operands:
// sums[chunk][j][slice] of cos and, after all nodes, of sin. A thread has a direction and up to 16
// nodes, which `blockIdx.y` counts; the nodes before them are computed on the way. `blockIdx.z`
// counts chunks.
KERNEL(characteristic, 128, 1)
(const float* projections, const Chunk* chunks, double turns, unsigned nodes, unsigned slices,
 unsigned rows, float* sums) {
    unsigned slice = blockIdx.x * 128 + threadIdx.x;
    unsigned first = blockIdx.y * NODES;
    Chunk chunk = chunks[blockIdx.z];
    if (slice >= slices) {
        return;
    }
    float cosines[NODES], sines[NODES];
    UNROLL
    for (int j = 0; j < NODES; ++j) {
        cosines[j] = 0.0f;
        sines[j] = 0.0f;
    }
    const float* from = projections + static_cast<size_t>(slice) * rows + chunk.first;
    for (unsigned r = 0; r < chunk.count; ++r) {
        float sin_1, cos_1;
        sin_cos_turn(turn(from[r], turns), sin_1, cos_1);
        float sin = sin_1;
        float cos = cos_1;
        for (unsigned j = 0; j < first; ++j) {
            float next = fnma(sin, sin_1, mul(cos, cos_1));
            sin = fma_(cos, sin_1, mul(sin, cos_1));
            cos = next;
        }
        UNROLL
        for (int j = 0; j < NODES; ++j) {
            cosines[j] = add(cosines[j], cos);
            sines[j] = add(sines[j], sin);
            float next = fnma(sin, sin_1, mul(cos, cos_1));
            sin = fma_(cos, sin_1, mul(sin, cos_1));
            cos = next;
        }
    }
    float* to = sums + static_cast<size_t>(blockIdx.z) * 2 * nodes * slices + slice;
    UNROLL
    for (int j = 0; j < NODES; ++j) {
        if (first + j < nodes) {
            to[static_cast<size_t>(first + j) * slices] = cosines[j];
            to[static_cast<size_t>(nodes + first + j) * slices] = sines[j];
        }
    }
}

// ---- Self-test --------------------------------------------------------------------------------

// Every function at once: to[f][i] of x[i].
KERNEL(functions, 128, 1)(const float* x, unsigned count, float* to) {
    unsigned i = blockIdx.x * 128 + threadIdx.x;
    if (i >= count) {
        return;
    }
    float value = x[i];
    float positive = magnitude(value);
    float phase = turn(value, 0.3);
    float sin, cos;
    sin_cos_turn(phase, sin, cos);
    float results[9] = {
        exp_(value),
        ln(positive),
        erf_(value),
        gelu(value),
        sin,
        cos,
        divide(root(positive), 0.75f < value ? value : 0.75f),
        operand(value),
        softmax_term(negative(positive), 0.0f),
    };
    UNROLL
    for (int f = 0; f < 9; ++f) {
        to[static_cast<size_t>(f) * count + i] = results[f];
    }
}
