// A config.json beside the weights of tests/data/llama_f32_bias; what opens is run on three tokens.
//   make build/fuzz/fuzz_config && build/fuzz/fuzz_config -max_total_time=60
// tests/fuzz/corpus/config
#include "fuzz.h"
#define FUZZ_SKIP 0
#include "mutate.h"

static fc_text config_weights; // read once

static int config_sink(void *user, const float *rows, size_t n_rows) {
    *(float *)user += rows[0] + (float)n_rows;
    return 0;
}

static void config_run(fc_model *m) {
    uint32_t ids[3] = {0, 1, 2};
    size_t starts[2] = {0, 3};
    float sum = 0;
    fc_tokens tokens;
    fc_error err;
    memset(&tokens, 0, sizeof tokens);
    tokens.ids = ids;
    tokens.starts = starts;
    tokens.n_sequences = 1;
    if (fc_logits(m, &tokens, NULL, NULL, config_sink, &sum, &err) != err.code) abort();
}

T_FN void config_end(void) {
    fc_text_free(&config_weights);
}

FUZZ_TARGET(config) {
    memory files;
    fc_model_desc desc;
    fc_error err;
    if (!config_weights.bytes &&
        fc_file_read("tests/data/llama_f32_bias/model.safetensors", NULL, &config_weights, &err))
        abort();
    memset(&files, 0, sizeof files);
    files.map = 1;
    memory_add(&files, "m/config.json", data, size);
    memory_add(&files, "m/model.safetensors", config_weights.bytes, config_weights.length);
    memset(&desc, 0, sizeof desc);
    desc.env = fuzz_env(&files);
    desc.memory_limit = (uint64_t)256 << 20;
    fc_model *m = fc_model_open("m", &desc, &err);
    if ((m != NULL) != (err.code == FC_OK)) abort();
    if (m) config_run(m);
    fc_model_close(m);
    if (files.live || files.bytes) abort();
    return 0;
}
