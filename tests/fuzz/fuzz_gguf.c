// Fuzzes opening a GGUF file.
//   clang -std=c99 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all tests/fuzz/fuzz_gguf.c -o build/fuzz/fuzz_gguf -lm -pthread
//   build/fuzz/fuzz_gguf -max_total_time=60 -dict=tests/fuzz/fuzz_gguf.dict build/fuzz/corpus/fuzz_gguf ../shared/data/corpora/gguf_cases/files
#include "container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_container(data, size);
}
