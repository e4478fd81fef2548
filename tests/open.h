// A model opened by a test, computed in f32. Include after finercut.h and t.h.
#ifndef OPEN_H
#define OPEN_H

// alloc: the test's own, or NULL; heal: a file of healed tensors, or NULL; limit 0: none.
static fc_model *open_f32(const char *path, const char *heal, const fc_alloc *alloc,
                          uint32_t threads, uint64_t limit) {
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = threads;
    desc.heal = heal;
    desc.memory_limit = limit;
    if (alloc) desc.env.alloc = *alloc;
    fc_model *m = fc_model_open(path, &desc, &err);
    T_OK(m != NULL, "%s: %s", path, err.msg);
    return m;
}
#endif
