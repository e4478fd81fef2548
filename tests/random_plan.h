// Plans of any size that say at random what a search might have found. Include after finercut.h.
#ifndef RANDOM_PLAN_H
#define RANDOM_PLAN_H
#include <stdlib.h>

static uint64_t random_state = 88172645463325252u;

static uint64_t random_bits(void) { /* xorshift */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static double random_score(void) { /* any finite bits that a distance can have */
    double d;
    do {
        uint64_t bits = random_bits() >> 1;
        memcpy(&d, &bits, sizeof d);
    } while (!isfinite(d));
    return d;
}

// Plans of every kind, from none and one step to all that there are.
static const struct plan_case {
    fc_candidates kind;
    uint32_t blocks, first;
    size_t steps;
    int wild;
} plan_cases[] = {
    {FC_CANDIDATES_SUBLAYERS, 30, 0, 15, 0}, {FC_CANDIDATES_SUBLAYERS, 2, 0, 1, 0},
    {FC_CANDIDATES_SUBLAYERS, 1, 0, 0, 0},   {FC_CANDIDATES_BLOCKS, 48, 19, 12, 0},
    {FC_CANDIDATES_FFN, 5, 4, 1, 1},         {FC_CANDIDATES_SUBLAYERS, 126, 0, 200, 0},
    {FC_CANDIDATES_ATTENTION, 80, 0, 79, 1}, {FC_CANDIDATES_SUBLAYERS, 300, 0, 3, 1},
    {FC_CANDIDATES_SUBLAYERS, 12, 3, 20, 1}, {FC_CANDIDATES_SUBLAYERS, 126, 0, 251, 0},
    {FC_CANDIDATES_SUBLAYERS, 126, 0, 100, 0},
};
enum { PLAN_CASES = sizeof plan_cases / sizeof *plan_cases };

// A plan of that many steps.
static fc_plan *make_plan(const fc_env *env, fc_candidates candidates, uint32_t blocks,
                          uint32_t first, size_t steps, int wild) {
    fc_error err;
    fc_plan *p = fci_plan_new(env, &err);
    if (!p) return NULL;
    strcpy(p->info.model.fingerprint, "0123456789abcdef");
    strcpy(p->info.model.content, steps % 2 ? "fedcba9876543210" : "");
    strcpy(p->info.model.name, "A \"model\" <b>&amp; 'more'\\ \xe6\xbc\xa2");
    strcpy(p->info.model.architecture, "llama");
    p->info.model.n_blocks = blocks;
    p->info.model.n_parameters = UINT64_MAX;
    p->info.metric = FC_METRIC_ANGULAR;
    p->info.candidates = candidates;
    p->info.compute = FC_COMPUTE_F32;
    p->info.simd = FC_SIMD_SCALAR;
    p->info.first_block = first;
    p->info.search = FC_SEARCH_CONFIDENT;
    p->info.confidence = 4;
    p->info.margin = 4.25;
    p->info.seed = UINT64_MAX - steps;
    strcpy(p->info.calibration.source, "dir/wiki & <text>.txt");
    strcpy(p->info.calibration.given, "--text 'wiki & <text>.txt' --samples 10");
    p->info.calibration.n_sequences = 10;
    p->info.calibration.n_positions = 2560;
    p->info.calibration.length = 256;
    p->info.calibration.hash = 0x00ff00ff12345678u;
    p->info.cost.lanes = 1.0 / 3;
    p->info.cost.exhaustive_lanes = 100;
    p->info.cost.seconds = 0.1;
    uint32_t ids = fci_plan_ids(&p->info);
    uint8_t *gone = (uint8_t *)calloc(ids, 1);
    fc_score *scores = (fc_score *)calloc(ids, sizeof *scores);
    for (size_t i = 0; i < steps; i++) {
        size_t n = 0, pick;
        for (uint32_t id = 0; id < ids; id++) {
            if (gone[id] || !fci_plan_eligible(&p->info, id)) continue;
            scores[n].candidate = id;
            scores[n].exact = (int)(random_bits() % 2);
            scores[n].estimate = !scores[n].exact && random_bits() % 2;
            scores[n].positions = scores[n].estimate ? random_bits() % 2561 : 0;
            scores[n].margin = scores[n].estimate ? 4.25 + random_score() : 0;
            scores[n].value =
                wild ? random_score() : 0.001 * (double)(i + 1) * (double)(1 + random_bits() % 50);
            if (wild && random_bits() % 16 == 0) scores[n].value = (double)NAN;
            scores[n].expected = (double)NAN;
            if (!scores[n].exact && !scores[n].estimate && random_bits() % 2)
                scores[n].expected = scores[n].value + scores[n].value / 3;
            if (!isfinite(scores[n].expected)) scores[n].expected = (double)NAN;
            n++;
        }
        if (n == 0) break;
        pick = 0;
        for (size_t k = 1; k < n; k++)
            if (fci_plan_before(scores[k].value, scores[k].candidate, scores[pick].value,
                                scores[pick].candidate))
                pick = k;
        if (isnan(scores[pick].value)) scores[pick].value = random_score();
        scores[pick].expected = (double)NAN;
        scores[pick].exact = 1;
        scores[pick].estimate = 0;
        scores[pick].positions = 0;
        scores[pick].margin = 0;
        gone[scores[pick].candidate] = 1;
        if (fci_plan_append(p, scores[pick].candidate, scores[pick].value, scores,
                            first && steps % 2 ? 0 : n, &err)) {
            fc_plan_free(p);
            p = NULL;
            break;
        }
    }
    free(gone);
    free(scores);
    return p;
}
#endif
