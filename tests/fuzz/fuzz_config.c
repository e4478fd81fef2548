// A config.json beside the weights of tests/data/llama_f32_bias; what opens is run on three tokens. From the top folder:
//   clang -std=c99 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all tests/fuzz/fuzz_config.c -o build/fuzz/fuzz_config -lm -pthread
//   build/fuzz/fuzz_config -max_total_time=60 -dict=tests/fuzz/fuzz_config.dict build/fuzz/corpus/fuzz_config tests/fuzz/corpus/config
#define FINERCUT_IMPLEMENTATION
#include "../../finercut.h"
#include "../memory.h"

static fc_text fuzz_weights; // read once

static int fuzz_sink(void *user, const float *rows, size_t n_rows) {
    *(float *)user += rows[0] + (float)n_rows;
    return 0;
}

static void fuzz_run(fc_model *m) {
    uint32_t ids[3] = {0, 1, 2};
    size_t starts[2] = {0, 3};
    float sum = 0;
    fc_tokens tokens;
    fc_error err;
    memset(&tokens, 0, sizeof tokens);
    tokens.ids = ids;
    tokens.starts = starts;
    tokens.n_sequences = 1;
    if (fc_logits(m, &tokens, NULL, fuzz_sink, &sum, &err) != err.code) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    memory files;
    fc_model_desc desc;
    fc_error err;
    if (!fuzz_weights.bytes && fc_file_read("tests/data/llama_f32_bias/model.safetensors", NULL, &fuzz_weights, &err)) abort();
    memset(&files, 0, sizeof files);
    memory_add(&files, "m/config.json", data, size);
    memory_add(&files, "m/model.safetensors", fuzz_weights.bytes, fuzz_weights.length);
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&files);
    desc.env.par.n_threads = 1;
    desc.memory_limit = (uint64_t)256 << 20;
    fc_model *m = fc_model_open("m", &desc, &err);
    if ((m != NULL) != (err.code == FC_OK)) abort();
    if (m) fuzz_run(m);
    fc_model_close(m);
    if (files.live || files.bytes) abort();
    return 0;
}
