// libFuzzer's mutator for inputs that are JSON, or lines of it, behind `FUZZ_SKIP` bytes: every
// other time a member or a value changes, else bytes do. Include in a target, after FUZZ_SKIP.
#ifndef FUZZ_REPLAY
#include "json.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    static fuzz_text t;
    uint8_t bytes[24];
    fuzz_input in = {bytes, sizeof bytes};
    if (seed & 1 || size <= FUZZ_SKIP || size > sizeof t.p)
        return LLVMFuzzerMutate(data, size, max_size);
    for (size_t i = 0; i < sizeof bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(seed >> 24);
    }
    t.n = 0;
    fuzz_json_put(&t, 0, 0, (const char *)data + FUZZ_SKIP, size - FUZZ_SKIP);
    if (bytes[sizeof bytes - 1] % 4) fuzz_json_edit(&t, &in);
    else fuzz_json_odd(&t, &in);
    if (t.n == 0 || FUZZ_SKIP + t.n > max_size) return LLVMFuzzerMutate(data, size, max_size);
    memcpy(data + FUZZ_SKIP, t.p, t.n);
    return FUZZ_SKIP + t.n;
}
#endif
#undef FUZZ_SKIP
