// Fuzzes files of healed tensors over a model that is whole: they are refused, or the model runs
// with them under their mask and no other. The input is a header, before bytes that make numbers;
// where it has a place for the hash, the right one is put there.
//   build/fuzz/fuzz_healed -max_total_time=60 -max_len=512 -dict=tests/fuzz/fuzz_safetensors.dict
// tests/fuzz/corpus/healed
#include "world.h"

#include "../tiny.h"

static tiny healed_base;

T_FN void healed_end(void) {
    tiny_end(&healed_base);
}

static fc_model *healed_open(const char *heal, fc_error *err) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&healed_base.world);
    desc.env.par.n_threads = 1;
    desc.heal = heal;
    return fc_model_open("t", &desc, err);
}

static void healed_run(fc_model *m) {
    static fuzz_rows rows;
    uint32_t ids[] = {1, 5, 9, 2};
    size_t starts[] = {0, 4};
    const fc_tokens text = {ids, starts, 1, {NULL, NULL}};
    const fc_healed *h = fc_model_healed(m);
    uint8_t mask[4];
    fc_error err;
    FUZZ_MUST(h && fuzz_logits(m, &text, NULL, &rows) == FC_OK);
    memcpy(mask, h->mask, 4);
    FUZZ_MUST(fuzz_logits(m, &text, mask, &rows) == FC_OK);
    for (int s = 0; s < 4; s++) {
        mask[s] ^= 1;
        FUZZ_MUST(fuzz_logits(m, &text, mask, &rows) == FC_ERR_MISMATCH);
        mask[s] ^= 1;
    }
    FUZZ_GOOD(fc_model_verify(m, NULL, &err) == FC_OK && h->content[0], err);
}

// The hash is the one that the refusal says it expected.
static fc_model *healed_seal(char *file, size_t n, fc_error *err) {
    static const char key[] = "\"finercut.content\":\"", got[] = ", got ";
    const char *hash = strstr(err->msg, "the file is damaged") ? strstr(err->msg, got) : NULL;
    const size_t m = sizeof key - 1;
    size_t at = 0;
    while (at + m + 16 < n && memcmp(file + at, key, m) != 0) at++;
    while (hash && strstr(hash + 1, got)) hash = strstr(hash + 1, got);
    if (!hash || at + m + 16 >= n) return NULL;
    memcpy(file + at + m, hash + sizeof got - 1, 16);
    return healed_open("h.safetensors", err);
}

FUZZ_TARGET(healed) {
    fc_error err;
    uint8_t *file = (uint8_t *)malloc(8 + size + 256);
    FUZZ_MUST(file != NULL);
    if (!healed_base.data) {
        tiny_llama(&healed_base, 2, 8, 2, 1, 16);
        fc_model_close(tiny_open(&healed_base, 0, 1, &err));
    }
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)size >> 8 * i);
    memcpy(file + 8, data, size);
    for (int i = 0; i < 256; i++) file[8 + size + (size_t)i] = (uint8_t)(i % 4 ? 60 : i);
    healed_base.world.n_files = 2;
    const long live = healed_base.world.live;
    memory_add(&healed_base.world, "h.safetensors", file, 8 + size + 256);
    fc_model *m = healed_open("h.safetensors", &err);
    if (!m) m = healed_seal((char *)file, 8 + size, &err);
    if (m) healed_run(m);
    fc_model_close(m);
    FUZZ_MUST(healed_base.world.live == live);
    free(file);
    return 0;
}
