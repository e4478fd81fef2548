// Lists of token ids as JSON: what is read, written out and read again is the same.
//   build/fuzz/fuzz_tokens -max_total_time=60 -max_len=64 build/fuzz/corpus/fuzz_tokens
// tests/fuzz/corpus/tokens
#include "fuzz.h"
#define FUZZ_SKIP 0
#include "mutate.h"

static size_t tokens_write(const fc_tokens *t, char *out, size_t size) {
    size_t n = (size_t)snprintf(out, size, "[");
    for (size_t i = 0; i < t->n_sequences; i++) {
        n += (size_t)snprintf(out + n, size - n, i ? ",[" : "[");
        for (size_t k = t->starts[i]; k < t->starts[i + 1]; k++)
            n += (size_t)snprintf(out + n, size - n, k > t->starts[i] ? ",%u" : "%u", t->ids[k]);
        n += (size_t)snprintf(out + n, size - n, "]");
    }
    return n + (size_t)snprintf(out + n, size - n, "]");
}

FUZZ_TARGET(tokens) {
    memory m;
    fc_tokens t, again;
    fc_error err;
    memset(&m, 0, sizeof m);
    fc_env env = fuzz_env(&m);
    char *text = (char *)malloc(size); // of exactly its size
    FUZZ_MUST(text || !size);
    if (size) memcpy(text, data, size);
    fc_code code = fc_tokens_parse_json(text, size, &env, &t, &err);
    FUZZ_MUST(code == err.code && (code != FC_OK) == (*err.msg != 0) && err.where <= size);
    if (!code) {
        size_t room = 16 + 12 * t.starts[t.n_sequences] + 4 * t.n_sequences;
        char *out = (char *)malloc(room);
        FUZZ_MUST(out && t.n_sequences > 0);
        size_t n = tokens_write(&t, out, room);
        FUZZ_MUST(fc_tokens_parse_json(out, n, &env, &again, &err) == FC_OK);
        FUZZ_MUST(again.n_sequences == t.n_sequences);
        FUZZ_MUST(!memcmp(again.starts, t.starts, (t.n_sequences + 1) * sizeof *t.starts));
        FUZZ_MUST(!memcmp(again.ids, t.ids, t.starts[t.n_sequences] * sizeof *t.ids));
        fc_tokens_free(&again);
        free(out);
        fc_tokens_free(&t);
    }
    free(text);
    FUZZ_MUST(m.live == 0 && m.bytes == 0);
    return 0;
}
