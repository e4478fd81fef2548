// A tokenizer.json or a GGUF file with a vocabulary, and a text to run through it. The input: two
// bytes, how long the file is; itself; the text.
//   make build/fuzz/fuzz_tokenizer && build/fuzz/fuzz_tokenizer -max_total_time=60
// tests/fuzz/corpus/tokenizer
#include "fuzz.h"

static void tokenizer_text(const fc_tokenizer *t, const char *text, size_t n, unsigned flags) {
    fc_error err;
    fc_tokens tokens;
    fc_text back;
    if (fc_tokenize(t, text, n, flags, &tokens, &err)) return;
    for (size_t i = 0; i < tokens.starts[1]; i++)
        if (tokens.ids[i] >= fc_tokenizer_vocab_size(t)) abort();
    if (fc_detokenize(t, tokens.ids, tokens.starts[1], &back, &err)) abort();
    fc_text_free(&back);
    fc_tokens_free(&tokens);
}

FUZZ_TARGET(tokenizer) {
    memory m;
    fc_error err;
    if (size < 2) return 0;
    size_t n = (size_t)(data[0] | data[1] << 8);
    data += 2;
    size -= 2;
    if (n > size) n = size;
    memset(&m, 0, sizeof m);
    memory_add(&m, "file", data, n);
    fc_env env = fuzz_env(&m);
    fc_tokenizer *t = fc_tokenizer_open("file", &env, &err);
    if (!t && (err.code == FC_OK || !*err.msg)) abort();
    for (unsigned flags = 0; t && flags < 2; flags++)
        tokenizer_text(t, (const char *)data + n, size - n, flags);
    fc_tokenizer_close(t);
    if (m.live || m.bytes) abort();
    return 0;
}
