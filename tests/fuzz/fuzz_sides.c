// generation_config.json, and tokenizer_config.json and a chat template beside a tokenizer: the
// tokens that end a text, and what an export to GGUF takes along. Input: a byte says which of them
// it is; then itself.
//   build/fuzz/fuzz_sides -max_total_time=60 -max_len=256 build/fuzz/corpus/fuzz_sides
// tests/fuzz/corpus/sides
#include "world.h"
#define FUZZ_SKIP 2
#include "mutate.h"

FUZZ_TARGET(sides) {
    static const char *const names[] = {"m/generation_config.json", "m/tokenizer_config.json",
                                        "m/chat_template.jinja",    "m/special_tokens_map.json",
                                        "m/added_tokens.json",      "m/README.md",
                                        "m/chat_template.json"};
    uint8_t base = 12; // a small directory
    fuzz_input in = {data, size}, from = {&base, 1}, nothing = {NULL, 0};
    size_t which = fuzz_below(&in, 7), tokenizer = 1 + fuzz_below(&in, 7);
    fc_export_desc desc;
    fc_error err;
    fc_tokens ends;
    fuzz_world *w = fuzz_world_make(&from);
    fuzz_world_tokenizer(w, tokenizer);
    if (which < 2) (which ? &w->settings : &w->generation)->n = 0;
    fuzz_world_change(w, &nothing);
    memory_add(&w->disk.files, names[which], in.p, in.n);
    fc_model *m = fuzz_world_open(w, NULL, FC_SIMD_AUTO, 0);
    FUZZ_GOOD(m != NULL, err);
    fc_code code = fc_end_tokens(m, &ends, &err);
    FUZZ_MUST(code == err.code && (code != FC_OK) == (*err.msg != 0));
    if (!code) fc_tokens_free(&ends);
    memset(&desc, 0, sizeof desc);
    desc.format = FC_EXPORT_GGUF;
    desc.path = "out.gguf";
    if (which && fc_export(m, NULL, &desc, &err) == FC_OK) {
        fc_env env = fuzz_disk_env(&w->disk);
        fc_container *c = fc_container_open("out.gguf", &env, &err);
        FUZZ_GOOD(c != NULL, err);
        fc_container_close(c);
        fc_tokenizer *t = fc_tokenizer_open("out.gguf", &env, &err);
        FUZZ_GOOD(t != NULL, err);
        fc_tokenizer_close(t);
    }
    fc_model_close(m);
    fuzz_world_end(w);
    return 0;
}
