// A driver without a card: the functions of the CUDA driver that `crates/model/src/device` calls,
// with the kernels compiled for the host. Only tests load it.
//
// Memory of the emulated card ends at a page that cannot be touched and is full of NaN at first, so
// that reading what was never written, or beyond the end, does not go unnoticed. Tests change what
// the card does, and ask what it did, with `emulated_set` and `emulated_get`.
#include "kernels.cu"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

namespace {

std::recursive_mutex lock;
using Locked = std::lock_guard<std::recursive_mutex>;

// ---- Threads of a block -----------------------------------------------------------------------

constexpr size_t STACK_BYTES = 128 << 10;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK_BYTES);
    Copies copies;
    bool is_done;
};

std::vector<Fiber> fibers;
ucontext_t scheduler;
Fiber* running;
void (*body)(void**);
void** body_arguments;

// What tests choose.
struct Choices {
    int64_t memory = int64_t(8) << 30;
    // Bytes of the largest block: less is free in one piece than altogether.
    int64_t largest = int64_t(8) << 30;
    // The last of so many calls from now on fails, and all after it; -1: none.
    int64_t failure = -1;
    // Whether blocks and threads run from the last to the first.
    int64_t descending = 0;
    int64_t cards = 1;
    int64_t capability = 8;
    // Whether the kernels cannot be compiled.
    int64_t uncompilable = 0;
};
Choices choices;

// What tests may ask for.
struct Facts {
    int64_t used = 0;
    // Bytes that were copied to the card.
    int64_t written = 0;
    // Blocks that there was no memory for.
    int64_t refused = 0;
    // How often the driver was initialized.
    int64_t opened = 0;
};
Facts facts;

void run_fiber() {
    body(body_arguments);
    // What nobody waited for never happens.
    running->is_done = true;
    swapcontext(&running->context, &scheduler);
}

void run_block(unsigned threads) {
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& fiber = fibers[i];
        fiber.is_done = false;
        fiber.copies.assign(1, {});
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK_BYTES;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (unsigned left = threads; left > 0;) {
        for (unsigned turn = 0; turn < threads; ++turn) {
            unsigned i = choices.descending ? threads - 1 - turn : turn;
            if (fibers[i].is_done) {
                continue;
            }
            running = &fibers[i];
            copies = &running->copies;
            threadIdx = Index{i, 0, 0};
            swapcontext(&scheduler, &running->context);
            left -= running->is_done;
        }
    }
}

void run_grid(Index grid, unsigned threads) {
    if (fibers.size() < threads) {
        fibers.resize(threads);
    }
    gridDim = grid;
    unsigned count = grid.x * grid.y * grid.z;
    for (unsigned block = 0; block < count; ++block) {
        unsigned at = choices.descending ? count - 1 - block : block;
        blockIdx = Index{at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y};
        run_block(threads);
    }
}

// ---- Kernels by name --------------------------------------------------------------------------

template <auto KERNEL_FUNCTION, class... P, size_t... I>
void call(void (*)(P...), void** arguments, std::index_sequence<I...>) {
    KERNEL_FUNCTION(*static_cast<P*>(arguments[I])...);
}

template <auto KERNEL_FUNCTION, class... P>
void unpack_as(void (*kernel)(P...), void** arguments) {
    call<KERNEL_FUNCTION>(kernel, arguments, std::index_sequence_for<P...>{});
}

template <auto KERNEL_FUNCTION>
void unpack(void** arguments) {
    unpack_as<KERNEL_FUNCTION>(KERNEL_FUNCTION, arguments);
}

using Body = void (*)(void**);
#define NAMED(name) {#name, unpack<name>}
const std::map<std::string, Body> KERNELS = {
    NAMED(place_weights),      NAMED(embed),              NAMED(normalize),
    NAMED(linear_large),       NAMED(linear_medium),      NAMED(linear_small),
    NAMED(linear_large_half),  NAMED(linear_medium_half), NAMED(linear_small_half),
    NAMED(rotate),             NAMED(transpose),          NAMED(scores_medium),
    NAMED(values_medium),      NAMED(scores_small),       NAMED(values_small),
    NAMED(weigh),              NAMED(likelihood),         NAMED(sum_rows),
    NAMED(characteristic),     NAMED(functions),
};

// ---- Memory -----------------------------------------------------------------------------------

struct Block {
    char* map;
    size_t map_bytes;
    size_t bytes;
};
std::map<uint64_t, Block> blocks;
int context_object, module_object;

constexpr int SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500,
              INVALID_PTX = 218, MISALIGNED = 716, LAUNCH_FAILED = 719;

bool fails() {
    if (choices.failure > 0) {
        --choices.failure;
    }
    return choices.failure == 0;
}

// A mistake on purpose: thread 0 lets a copy overwrite what thread 1 has not read yet.
KERNEL(careless, 2, 1)(const float* from, float* seen) {
    alignas(16) __shared__ float four[4];
    if (threadIdx.x == 0) {
        store_16(four, {1.0f, 1.0f, 1.0f, 1.0f});
    }
    barrier();
    if (threadIdx.x == 0) {
        copy_16(four, from);
        group_copies();
    }
    barrier();
    if (threadIdx.x == 1) {
        *seen = four[0];
    }
    barrier();
    copies_done<0>();
}

}  // namespace

void barrier() { swapcontext(&running->context, &scheduler); }

#define API extern "C" __attribute__((visibility("default")))

API void emulated_reset() {
    Locked locked(lock);
    choices = Choices();
    is_early = false;
    forgotten = 0;
}
API void emulated_set(const char* name, int64_t value) {
    Locked locked(lock);
    const std::map<std::string, int64_t*> NAMES = {
        {"memory", &choices.memory},         {"largest", &choices.largest},
        {"failure", &choices.failure},       {"descending", &choices.descending},
        {"cards", &choices.cards},           {"capability", &choices.capability},
        {"uncompilable", &choices.uncompilable},
    };
    if (name == std::string("early")) {
        is_early = value != 0;
    } else if (name == std::string("forgotten")) {
        forgotten = value;
    } else {
        *NAMES.at(name) = value;
    }
}
API int64_t emulated_get(const char* name) {
    Locked locked(lock);
    const std::map<std::string, int64_t> NAMES = {{"used", facts.used},
                                                  {"written", facts.written},
                                                  {"refused", facts.refused},
                                                  {"opened", facts.opened}};
    return NAMES.at(name);
}

API int cuInit(unsigned) {
    Locked locked(lock);
    ++facts.opened;
    return fails() ? LAUNCH_FAILED : SUCCESS;
}
API int cuDriverGetVersion(int* version) {
    *version = 12080;
    return SUCCESS;
}
API int cuDeviceGetCount(int* count) {
    *count = static_cast<int>(choices.cards);
    return SUCCESS;
}
API int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal < choices.cards ? SUCCESS : INVALID_VALUE;
}
API int cuDeviceGetName(char* name, int bytes, int) {
    std::strncpy(name, "emulated", bytes);
    return SUCCESS;
}
API int cuDeviceGetAttribute(int* value, int attribute, int) {
    // Multiprocessors, and the compute capability.
    *value = attribute == 16 ? 2 : attribute == 75 ? static_cast<int>(choices.capability) : 0;
    return SUCCESS;
}
API int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &context_object;
    return SUCCESS;
}
API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API int cuCtxSetCurrent(void*) { return SUCCESS; }
API int cuModuleLoadDataEx(void** module, const void*, unsigned count, const int* options,
                           void* const* values) {
    // The options are the log of errors and its length.
    if (count != 2 || options[0] != 5 || options[1] != 6) {
        return INVALID_VALUE;
    }
    if (choices.uncompilable) {
        std::strncpy(static_cast<char*>(values[0]), "ptxas fatal: emulated\nsecond line",
                     reinterpret_cast<size_t>(values[1]));
        return INVALID_PTX;
    }
    *module = &module_object;
    return SUCCESS;
}
API int cuModuleUnload(void*) { return SUCCESS; }
API int cuModuleGetFunction(void** function, void*, const char* name) {
    auto kernel = KERNELS.find(name);
    if (kernel == KERNELS.end()) {
        return NOT_FOUND;
    }
    *function = reinterpret_cast<void*>(kernel->second);
    return SUCCESS;
}
API int cuGetErrorString(int error, const char** text) {
    *text = error == OUT_OF_MEMORY ? "out of memory"
            : error == MISALIGNED  ? "misaligned address"
                                   : "emulated failure";
    return SUCCESS;
}
API int cuMemGetInfo_v2(size_t* free, size_t* total) {
    Locked locked(lock);
    *free = facts.used < choices.memory ? choices.memory - facts.used : 0;
    *total = choices.memory;
    return SUCCESS;
}
API int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    Locked locked(lock);
    if (fails()) {
        return LAUNCH_FAILED;
    }
    if (bytes == 0) {
        return INVALID_VALUE;
    }
    int64_t wanted = static_cast<int64_t>(bytes);
    if (wanted > choices.largest || facts.used + wanted > choices.memory) {
        ++facts.refused;
        return OUT_OF_MEMORY;
    }
    size_t page = sysconf(_SC_PAGESIZE);
    size_t whole = (bytes + page - 1) / page * page;
    void* map = mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0);
    if (map == MAP_FAILED) {
        return OUT_OF_MEMORY;
    }
    char* start = static_cast<char*>(map);
    mprotect(start + whole, page, PROT_NONE);
    std::memset(start, 0xff, whole);
    // As far towards the page that cannot be touched as a card's alignment allows.
    *address = reinterpret_cast<uint64_t>(start + (whole - bytes) / 256 * 256);
    blocks[*address] = Block{start, whole + page, bytes};
    facts.used += wanted;
    return SUCCESS;
}
API int cuMemFree_v2(uint64_t address) {
    Locked locked(lock);
    auto block = blocks.find(address);
    if (block == blocks.end()) {
        return INVALID_VALUE;
    }
    facts.used -= static_cast<int64_t>(block->second.bytes);
    munmap(block->second.map, block->second.map_bytes);
    blocks.erase(block);
    return SUCCESS;
}
API int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) {
    Locked locked(lock);
    if (fails()) {
        return LAUNCH_FAILED;
    }
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    facts.written += static_cast<int64_t>(bytes);
    return SUCCESS;
}
API int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) {
    Locked locked(lock);
    if (fails()) {
        return LAUNCH_FAILED;
    }
    std::memcpy(to, reinterpret_cast<void*>(from), bytes);
    return SUCCESS;
}
API int cuMemsetD32_v2(uint64_t to, unsigned value, size_t count) {
    Locked locked(lock);
    unsigned* words = reinterpret_cast<unsigned*>(to);
    for (size_t i = 0; i < count; ++i) {
        words[i] = value;
    }
    return SUCCESS;
}
API int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads,
                       unsigned, unsigned, unsigned, void*, void** arguments, void**) {
    Locked locked(lock);
    if (fails()) {
        return LAUNCH_FAILED;
    }
    if (x == 0 || y == 0 || z == 0 || y > 65535 || z > 65535 || threads > 1024) {
        return INVALID_VALUE;
    }
    body = reinterpret_cast<Body>(function);
    body_arguments = arguments;
    run_grid(Index{x, y, z}, threads);
    return std::exchange(is_misaligned, false) ? MISALIGNED : SUCCESS;
}

// What the other thread of a careless kernel sees: 1 if copies are late, 2 if they are early.
API float emulated_careless() {
    Locked locked(lock);
    alignas(16) const float from[4] = {2.0f, 2.0f, 2.0f, 2.0f};
    float seen;
    const float* first = from;
    float* second = &seen;
    void* arguments[] = {&first, &second};
    body = unpack<careless>;
    body_arguments = arguments;
    run_grid(Index{1, 1, 1}, 2);
    return seen;
}
