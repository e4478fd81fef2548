// FinerCut in one page: removes a quarter of a model's sublayers, saves the plan and tells what it
// cost.
//   cc -O2 examples/prune.c -o prune -lm -pthread
//   ./prune examples/demo examples/demo/calibration.txt examples/demo/heldout.txt
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

#include <stdio.h>

static int on_progress(void *user, const fc_progress *p) {
    (void)user;
    fprintf(stderr, "\rstep %zu of %zu, %3.0f %%", p->step, p->n_steps, 100 * p->done);
    return 0; // anything else stops the search, which then returns the plan so far
}

static fc_plan *plan_removal(fc_model *m, const fc_tokens *calibration, fc_error *err) {
    fc_prune_desc desc = {0}; // zero means the default everywhere
    desc.calibration = calibration;
    desc.metric = FC_METRIC_JS;
    desc.fraction = 0.25;
    desc.watch.progress = on_progress;
    return fc_prune(m, &desc, err);
}

// Perplexity over windows of 256 tokens with `mask` (NULL: the whole model), or a negative number.
static double perplexity(fc_model *m, const fc_text *text, const uint8_t *mask, fc_error *err) {
    fc_tokens whole = {0}, windows = {0};
    fc_perplexity result = {0};
    int ok = !fc_tokenize(fc_model_tokenizer(m, err), text->bytes, text->length,
                          FINERCUT_TOKENIZE_SPECIAL, &whole, err) &&
             !fc_tokens_windows(&whole, 256, &windows, err) &&
             !fc_eval_perplexity(m, &windows, mask, NULL, &result, err);
    fc_tokens_free(&windows);
    fc_tokens_free(&whole);
    return ok ? result.perplexity : -1;
}

static int prune(fc_model *m, const fc_text *calibration_text, const fc_text *text, fc_error *err) {
    fc_tokens calibration = {0};
    const fc_tokenizer *t = fc_model_tokenizer(m, err);
    if (!t || fc_calibration_cut(t, calibration_text->bytes, calibration_text->length, 10, 256,
                                 &calibration, err))
        return 1;
    fc_plan *plan = plan_removal(m, &calibration, err);
    fc_tokens_free(&calibration);
    size_t size = 2 * (size_t)fc_model_config(m)->n_blocks;
    uint8_t *mask = (uint8_t *)calloc(size, 1);
    size_t n = plan ? fc_plan_about(plan)->n_steps : 0;
    int ok = plan && mask && !fc_plan_save(plan, "plan.json", err) &&
             !fc_plan_mask(plan, m, n, mask, size, err);
    double before = ok ? perplexity(m, text, NULL, err) : -1;
    double after = before > 0 ? perplexity(m, text, mask, err) : -1;
    if (after > 0)
        printf("\nremoved %zu sublayers: perplexity %.4g before, %.4g after\n", n, before, after);
    free(mask);
    fc_plan_free(plan);
    return !(after > 0);
}

int main(int argc, char **argv) {
    fc_error err = {FC_OK, 0, "out of memory"};
    fc_text calibration = {0}, text = {0};
    if (argc != 4) {
        fprintf(stderr, "usage: prune MODEL CALIBRATION.txt HELDOUT.txt\n");
        return 2;
    }
    fc_model *m = fc_model_open(argv[1], NULL, &err);
    int bad = !m || fc_file_read(argv[2], NULL, &calibration, &err) ||
              fc_file_read(argv[3], NULL, &text, &err) || prune(m, &calibration, &text, &err);
    if (bad) fprintf(stderr, "prune: %s\n", err.msg);
    fc_text_free(&calibration);
    fc_text_free(&text);
    fc_model_close(m);
    return bad;
}
