// A driver without a card: the functions of the CUDA driver that `crates/model/src/device` calls,
// with the kernels compiled for the host. Only tests load it.
//
// Memory of the emulated card ends at a page that cannot be touched and is full of NaN at first, so
// that reading what was never written, or beyond the end, does not go unnoticed. Tests limit it,
// and let calls fail, through `emulated_memory` and `emulated_failure`.
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
bool is_descending;

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
            unsigned i = is_descending ? threads - 1 - turn : turn;
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
    NAMED(widen),         NAMED(embed),         NAMED(normalize),    NAMED(linear_large),
    NAMED(linear_medium), NAMED(linear_small),  NAMED(rotate),       NAMED(transpose),
    NAMED(scores_medium), NAMED(weigh_medium),  NAMED(values_medium), NAMED(scores_small),
    NAMED(weigh_small),   NAMED(values_small),  NAMED(likelihood),   NAMED(sum_rows),
    NAMED(characteristic), NAMED(functions),
};

// ---- Memory -----------------------------------------------------------------------------------

struct Block {
    char* map;
    size_t map_bytes;
    size_t bytes;
};
std::map<uint64_t, Block> blocks;
size_t used;
size_t memory_bytes = size_t(8) << 30;
// Calls that still succeed; -1: all.
long calls_left = -1;
int context_object, module_object;

constexpr int SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500,
              LAUNCH_FAILED = 719;

bool fails() {
    if (calls_left < 0) {
        return false;
    }
    if (calls_left > 0) {
        --calls_left;
    }
    return calls_left == 0;
}

}  // namespace

void barrier() { swapcontext(&running->context, &scheduler); }

#define API extern "C" __attribute__((visibility("default")))

API void emulated_memory(uint64_t bytes) {
    Locked locked(lock);
    memory_bytes = bytes;
}
// The last of so many calls from here on fails, and all after it; -1: none.
API void emulated_failure(int64_t calls) {
    Locked locked(lock);
    calls_left = calls;
}
API void emulated_order(int descending) {
    Locked locked(lock);
    is_descending = descending != 0;
}
API uint64_t emulated_used() {
    Locked locked(lock);
    return used;
}

API int cuInit(unsigned) { return SUCCESS; }
API int cuDriverGetVersion(int* version) {
    *version = 12080;
    return SUCCESS;
}
API int cuDeviceGetCount(int* count) {
    *count = 1;
    return SUCCESS;
}
API int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_VALUE;
}
API int cuDeviceGetName(char* name, int bytes, int) {
    std::strncpy(name, "emulated", bytes);
    return SUCCESS;
}
API int cuDeviceGetAttribute(int* value, int attribute, int) {
    // Multiprocessors, and the compute capability.
    *value = attribute == 16 ? 2 : attribute == 75 ? 8 : 0;
    return SUCCESS;
}
API int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &context_object;
    return SUCCESS;
}
API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API int cuCtxSetCurrent(void*) { return SUCCESS; }
API int cuModuleLoadData(void** module, const void*) {
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
    *text = error == OUT_OF_MEMORY ? "out of memory" : "emulated failure";
    return SUCCESS;
}
API int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    Locked locked(lock);
    if (fails()) {
        return LAUNCH_FAILED;
    }
    if (bytes == 0 || bytes > memory_bytes || used > memory_bytes - bytes) {
        return bytes == 0 ? INVALID_VALUE : OUT_OF_MEMORY;
    }
    size_t page = sysconf(_SC_PAGESIZE);
    size_t whole = (bytes + page - 1) / page * page;
    void* map = mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        return OUT_OF_MEMORY;
    }
    char* start = static_cast<char*>(map);
    mprotect(start + whole, page, PROT_NONE);
    std::memset(start, 0xff, whole);
    // As far towards the page that cannot be touched as a card's alignment allows.
    *address = reinterpret_cast<uint64_t>(start + (whole - bytes) / 256 * 256);
    blocks[*address] = Block{start, whole + page, bytes};
    used += bytes;
    return SUCCESS;
}
API int cuMemFree_v2(uint64_t address) {
    Locked locked(lock);
    auto block = blocks.find(address);
    if (block == blocks.end()) {
        return INVALID_VALUE;
    }
    used -= block->second.bytes;
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
    if (fibers.size() < threads) {
        fibers.resize(threads);
    }
    body = reinterpret_cast<Body>(function);
    body_arguments = arguments;
    gridDim = Index{x, y, z};
    for (unsigned block = 0; block < x * y * z; ++block) {
        unsigned at = is_descending ? x * y * z - 1 - block : block;
        blockIdx = Index{at % x, at / x % y, at / x / y};
        run_block(threads);
    }
    return SUCCESS;
}
