// A tokenizer.json and a text to run through it. The input: two bytes, how long the tokenizer.json is; itself; the text.
//   clang -std=c99 -O1 -g -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_tokenizer.c -o fuzz_tokenizer -lm -pthread
//   ./fuzz_tokenizer -dict=tests/fuzz/fuzz_tokenizer.dict -max_total_time=60 corpus tests/fuzz/corpus/tokenizer
#define FINERCUT_IMPLEMENTATION
#include "../../finercut.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fci_context c;
    fc_error err;
    if (size < 2) return 0;
    size_t n = (size_t)(data[0] | data[1] << 8);
    const char *text = (const char *)data + 2;
    size -= 2;
    if (n > size) n = size;
    fci_context_basic(&c, NULL);
    fc_tokenizer *t = fci_tokenizer_from_json(&c, text, n, &err);
    if (!t && (err.code == FC_OK || !*err.msg)) abort();
    for (unsigned flags = 0; t && flags < 2; flags++) {
        fc_tokens tokens;
        fc_text back;
        if (fc_tokenize(t, text + n, size - n, flags, &tokens, &err)) continue;
        for (size_t i = 0; i < tokens.starts[1]; i++)
            if (tokens.ids[i] >= fc_tokenizer_vocab_size(t)) abort();
        if (fc_detokenize(t, tokens.ids, tokens.starts[1], &back, &err)) abort();
        fc_text_free(&back);
        fc_tokens_free(&tokens);
    }
    fc_tokenizer_close(t);
    return 0;
}
