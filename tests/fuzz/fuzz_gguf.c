// Fuzzes opening a GGUF file.
//   make build/fuzz/fuzz_gguf && build/fuzz/fuzz_gguf -max_total_time=60 tests/fuzz/corpus/gguf
#include "container.h"

FUZZ_TARGET(gguf) {
    return fuzz_container(data, size);
}
