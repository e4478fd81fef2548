// Fuzzes the JSON reader: any bytes end in a tree or an error; a tree, written out, reads back as
// the same tree.
//   make build/fuzz/fuzz_json && build/fuzz/fuzz_json -max_total_time=60 tests/fuzz/corpus/json
#include "fuzz.h"

#include "../tree.h"

static bool json_same(const fci_json *a, const fci_json *b) {
    if (a->skip != b->skip) return false;
    for (uint32_t i = 0; i < a->skip; i++)
        if (a[i].type != b[i].type || a[i].count != b[i].count || a[i].truth != b[i].truth ||
            a[i].integer != b[i].integer ||
            memcmp(&a[i].number, &b[i].number, sizeof a[i].number) != 0 ||
            !fci_eq(a[i].text, b[i].text))
            return false;
    return true;
}

FUZZ_TARGET(json) {
    fci_context c;
    fci_arena arena;
    fc_error err;
    const fci_json *root, *again;
    memory m;
    memset(&m, 0, sizeof m);
    fc_env env = fuzz_env(&m);
    fci_context_basic(&c, &env);
    memset(&arena, 0, sizeof arena);
    memset(&err, 0, sizeof err);
    arena.c = &c;
    fc_code code = fci_json_parse(&c, &arena, (const char *)data, size, 0, &root, &err);
    if (code != err.code || (code == FC_OK) != (root != NULL) || err.where > size) abort();
    if (root) {
        fci_buffer b;
        memset(&b, 0, sizeof b);
        b.c = &c;
        json_write(&b, root);
        FUZZ_MUST(!fci_json_parse(&c, &arena, b.p, b.n, 0, &again, &err));
        FUZZ_MUST(json_same(root, again));
        fci_buffer_free(&b);
    }
    fci_arena_free(&arena);
    FUZZ_MUST(!m.live && !m.bytes);
    return 0;
}
