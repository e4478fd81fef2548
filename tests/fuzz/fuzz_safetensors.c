// Fuzzes opening a safetensors file: the input as it is, and as a header whose length is right, before 64 zeros.
//   clang -std=c99 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all tests/fuzz/fuzz_safetensors.c -o build/fuzz/fuzz_safetensors -lm -pthread
//   build/fuzz/fuzz_safetensors -max_total_time=60 -dict=tests/fuzz/fuzz_safetensors.dict build/fuzz/corpus/fuzz_safetensors ../shared/data/corpora/safetensors_cases/files
#include "container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 0 && data[0] == '{') {
        uint8_t *file = (uint8_t *)calloc(1, 8 + size + 64);
        for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)size >> 8 * i);
        memcpy(file + 8, data, size);
        fuzz_container(file, 8 + size + 64);
        free(file);
    }
    return fuzz_container(data, size);
}
