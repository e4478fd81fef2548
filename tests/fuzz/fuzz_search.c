// A search in a model of any bytes: race and exhaustive agree in every bit, a plan that is saved
// half-way and resumed is the plan that was not, and a plan's mask runs.
//   build/fuzz/fuzz_search -max_total_time=60 -max_len=96 build/fuzz/corpus/fuzz_search
// tests/fuzz/corpus/search
#include "world.h"
#include "../plans.h"

static fc_plan *search_prune(fc_model *m, const fc_prune_desc *desc) {
    fc_error err;
    fc_plan *p = fc_prune(m, desc, &err);
    FUZZ_MUST((p != NULL) == (err.code == FC_OK));
    return p;
}

// Through a file and on from there.
static void search_resume(fuzz_world *w, fc_model *m, fc_prune_desc desc, const fc_plan *whole) {
    fc_env env = fuzz_disk_env(&w->disk);
    fc_error err;
    uint32_t n = (uint32_t)fc_plan_about(whole)->n_steps;
    if (n < 2) return;
    desc.remove = n / 2;
    desc.fraction = 0;
    fc_plan *half = search_prune(m, &desc);
    FUZZ_GOOD(half && !fc_plan_save(half, "half.json", &err), err);
    fc_plan *loaded = fc_plan_load("half.json", &env, &err);
    FUZZ_GOOD(loaded && !plans_differ(half, loaded), err);
    desc.resume = loaded;
    desc.remove = n;
    fc_plan *again = search_prune(m, &desc);
    // What a search learned in its first steps is not in the plan.
    FUZZ_MUST(again && (desc.search == FC_SEARCH_CONFIDENT || !plans_differ(whole, again)));
    fc_plan_free(half);
    fc_plan_free(loaded);
    fc_plan_free(again);
}

static void search_model(fuzz_world *w, fc_model *m, fuzz_input how, uint32_t *ids) {
    static fuzz_rows rows;
    size_t a = 2 + fuzz_below(&how, 4), starts[3] = {0, a, 2 * a - fuzz_below(&how, 2)};
    uint8_t mask[2 * 8];
    fc_tokens text;
    fc_prune_desc desc;
    fc_error err;
    memset(&text, 0, sizeof text);
    memset(&desc, 0, sizeof desc);
    text.ids = ids;
    text.starts = starts;
    text.n_sequences = 1 + fuzz_below(&how, 2);
    desc.calibration = &text;
    desc.metric = (fc_metric)fuzz_below(&how, FC_METRIC_COUNT);
    desc.candidates = (fc_candidates)fuzz_below(&how, FC_CANDIDATES_COUNT);
    desc.search = (fc_search)fuzz_below(&how, FC_SEARCH_COUNT);
    desc.remove = 1 + (uint32_t)fuzz_below(&how, 3);
    desc.seed = fuzz_byte(&how);
    fc_plan *p = search_prune(m, &desc);
    if (!p) return;
    FUZZ_MUST(fc_plan_about(p)->n_steps == desc.remove);
    const uint32_t then = fuzz_byte(&how) % 3;
    FUZZ_MUST(fc_plan_mask(p, m, 1 + fuzz_below(&how, desc.remove), mask, sizeof mask, &err) ==
              FC_OK);
    if (then == 0) fuzz_logits(m, &text, mask, &rows);
    if (then == 1) search_resume(w, m, desc, p);
    if (then == 2 && desc.search == FC_SEARCH_RACE) {
        desc.search = FC_SEARCH_EXHAUSTIVE;
        fc_plan *other = search_prune(m, &desc);
        FUZZ_MUST(other && !plans_differ(p, other));
        fc_plan_free(other);
    }
    fc_plan_free(p);
}

FUZZ_TARGET(search) {
    fuzz_input in = {data, size};
    fuzz_world *w = fuzz_world_make(&in);
    uint8_t how[12];
    uint32_t ids[12];
    for (size_t i = 0; i < sizeof how; i++) how[i] = (uint8_t)fuzz_byte(&in);
    fuzz_world_change(w, &in);
    fc_model *m = fuzz_world_open(w, NULL, FC_SIMD_AUTO, 0);
    if (m && !fuzz_is_slow(m)) {
        fuzz_input options = {how, sizeof how};
        for (uint32_t i = 0; i < 12; i++) ids[i] = (i * 37 + how[11]) % m->config.vocab_size;
        search_model(w, m, options, ids);
    }
    fc_model_close(m);
    fuzz_world_end(w);
    return 0;
}
