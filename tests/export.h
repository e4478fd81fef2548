// What tests of exports share: paths of their own, logits of a few tokens, plans by names, folders
// that go whole.
#ifndef EXPORT_H
#define EXPORT_H
#include "t.h"

enum { N_IDS = 8 };
static char in[128], out[128], back[128]; // of this process

// In memory where there is such a folder: an export syncs every file.
T_FN void own_paths(const char *test) {
    const char *root = fci_platform_is_folder("/dev/shm") ? "/dev/shm" : "build";
    snprintf(in, sizeof in, "%s/%s.%d.in", root, test, (int)getpid());
    snprintf(out, sizeof out, "%s/%s.%d.out", root, test, (int)getpid());
    snprintf(back, sizeof back, "%s/%s.%d.back", root, test, (int)getpid());
    fci_platform_make_folder("build");
}

T_FN int remove_each(void *user, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", (const char *)user, name);
    if (fci_platform_is_folder(path)) fci_platform_list(path, remove_each, path);
    fci_platform_remove(path, fci_platform_is_folder(path));
    return 0;
}

T_FN void remove_tree(const char *path) {
    if (fci_platform_is_folder(path)) fci_platform_list(path, remove_each, (void *)(uintptr_t)path);
    fci_platform_remove(path, fci_platform_is_folder(path));
}

T_FN fc_model *open_f32(const char *path, fc_error *err) {
    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = 1;
    return fc_model_open(path, &desc, err);
}

typedef struct kept { // free rows
    float *rows;
    size_t n, columns;
} kept;

T_FN int keep(void *user, const float *rows, size_t n) {
    kept *k = (kept *)user;
    k->rows = (float *)realloc(k->rows, (k->n + n * k->columns) * sizeof *rows);
    memcpy(k->rows + k->n, rows, n * k->columns * sizeof *rows);
    k->n += n * k->columns;
    return 0;
}

T_FN kept logits_of(fc_model *m, const uint8_t *mask) {
    uint32_t ids[N_IDS] = {1, 5, 9, 30, 17, 33, 24, 2};
    size_t starts[] = {0, N_IDS};
    fc_error err;
    fc_tokens t = {ids, starts, 1, {NULL, NULL}};
    kept k = {NULL, 0, fc_model_config(m)->vocab_size};
    T_OK(fc_logits(m, &t, mask, NULL, keep, &k, &err) == FC_OK, "%s", err.msg);
    return k;
}

T_FN kept logits_under(fc_model *m, const fc_plan *plan) { // NULL: the whole model
    uint8_t mask[256];
    fc_error err;
    if (plan)
        T_OK(fc_plan_mask(plan, m, fc_plan_about(plan)->n_steps, mask, sizeof mask, &err) == FC_OK,
             "%s", err.msg);
    return logits_of(m, plan ? mask : NULL);
}

// The largest difference of two, which are freed; infinite where they are not of one size.
T_FN double apart(kept a, kept b) {
    double most = a.n && a.n == b.n ? 0 : (double)INFINITY;
    for (size_t i = 0; i < a.n && a.n == b.n; i++) {
        const double d = fabs((double)a.rows[i] - (double)b.rows[i]);
        if (!(d <= most)) most = d;
    }
    free(a.rows);
    free(b.rows);
    return most;
}

// A plan that removes what is named: "attn.0 ffn.1", or "block.0".
T_FN fc_plan *plan_of(const fc_model *m, const char *names) {
    fc_error err;
    fc_plan *p = fci_plan_new(NULL, &err);
    if (!T_OK(p != NULL, "%s", err.msg)) return NULL;
    snprintf(p->info.model.fingerprint, sizeof p->info.model.fingerprint, "%s",
             fc_model_fingerprint(m));
    p->info.model.n_blocks = fc_model_config(m)->n_blocks;
    p->info.candidates = names[0] == 'b' ? FC_CANDIDATES_BLOCKS : FC_CANDIDATES_SUBLAYERS;
    p->info.search = FC_SEARCH_RANDOM;
    p->info.compute = FC_COMPUTE_F32;
    while (*names) {
        const bool ffn = *names == 'f';
        char *end;
        const uint32_t block = (uint32_t)strtoul(strchr(names, '.') + 1, &end, 10);
        const uint32_t id = p->info.candidates == FC_CANDIDATES_BLOCKS ? block : 2 * block + ffn;
        T_OK(fci_plan_append(p, id, 0.5, NULL, 0, &err) == FC_OK, "%s", err.msg);
        names = *end ? end + 1 : end;
    }
    return p;
}
#endif
