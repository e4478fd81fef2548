// Arrays of a test as fc_tokens, which own nothing. Include after finercut.h.
#ifndef TOKENS_H
#define TOKENS_H

static fc_tokens tokens_of(uint32_t *ids, size_t *starts, size_t n) {
    fc_tokens t;
    memset(&t, 0, sizeof t);
    t.ids = ids;
    t.starts = starts;
    t.n_sequences = n;
    return t;
}
#endif
