// Opens the input as a container held in memory, mapped and read, and uses all that it says.
#ifndef FUZZ_CONTAINER_H
#define FUZZ_CONTAINER_H
#include "fuzz.h"

static uint64_t fuzz_sum; // keeps the reads

static void fuzz_use(const fc_container *c) {
    char text[64];
    for (size_t i = 0; i < fc_container_tensor_count(c); i++) {
        const fc_tensor *t = fc_container_tensor(c, i);
        const unsigned char *p = (const unsigned char *)t->data;
        for (uint64_t k = 0; k < t->bytes; k++) fuzz_sum += p[k];
        if (strlen(t->name) == t->name_length && fc_container_find(c, t->name) != t) abort();
    }
    for (size_t i = 0; i < fc_container_metadata_count(c); i++) {
        const fci_kv *kv = fci_gguf_find(c, fc_container_metadata_key(c, i));
        uint64_t u = 0, position = 0;
        double d;
        fci_str s;
        fci_kv item;
        fc_container_metadata_text(c, i, text, sizeof text);
        if (strlen(text) >= sizeof text) abort();
        fuzz_sum += fci_kv_u64(kv, &u) ? u : 1;
        fuzz_sum += fci_kv_f64(kv, &d) || fci_kv_f64(fci_kv_item(kv, 0, &item), &d) ? 1 : 0;
        while (fci_kv_next_string(kv, &position, &s))
            for (size_t k = 0; k < s.n; k++) fuzz_sum += (unsigned char)s.p[k];
    }
}

T_FN int fuzz_container(const uint8_t *data, size_t size) {
    for (int map = 0; map < 2; map++) {
        memory m;
        fc_error err;
        memset(&m, 0, sizeof m);
        m.map = map;
        memory_add(&m, "file", data, size);
        fc_env env = fuzz_env(&m);
        fc_container *c = fc_container_open("file", &env, &err);
        if ((c != NULL) != (err.code == FC_OK) || err.where > size + 8) abort();
        if (c) fuzz_use(c);
        fc_container_close(c);
        if (m.live || m.bytes) abort();
    }
    return 0;
}
#endif
