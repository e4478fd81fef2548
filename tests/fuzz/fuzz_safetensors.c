// Fuzzes opening a safetensors file: the input as it is, and as a header whose length is right,
// before 64 zeros.
//   make build/fuzz/fuzz_safetensors && build/fuzz/fuzz_safetensors -max_total_time=60
// tests/fuzz/corpus/safetensors
#include "container.h"
#define FUZZ_SKIP 0
#include "mutate.h"

FUZZ_TARGET(safetensors) {
    if (size > 0 && data[0] == '{') {
        uint8_t *file = (uint8_t *)calloc(1, 8 + size + 64);
        for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)size >> 8 * i);
        memcpy(file + 8, data, size);
        fuzz_container(file, 8 + size + 64);
        free(file);
    }
    return fuzz_container(data, size);
}
