/* Do better sets than the greedy search's pay? For shares of the sublayers: the greedy set; the
   same after exchanges (one removed sublayer comes back, the best other one goes in its place, as
   long as the distance falls: a race in which the one that came back leads); beams of several sets.
   Distance on the calibration, perplexity on another text, work in forward passes of one sequence.
   Build: cc -O2 tools/exchange.c -o build/exchange -lm -pthread
   Run: build/exchange MODEL TEXT OTHER-TEXT SAMPLES LENGTH BEAMS PERCENT...
   (BEAMS: 1 none, 3 beams of 2 and 3.) */
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

enum { MOST = 512, BEAM = 4 };

typedef struct set {
    uint8_t mask[MOST];
    double score;
} set;

static fc_error err;
static fc_tokens windows;

static void need(int good) {
    if (good) return;
    fprintf(stderr, "exchange: %s\n", err.msg);
    exit(1);
}

static void begin(fci_search *s, fc_model *m, const fc_prune_desc *d) {
    memset(s, 0, sizeof *s);
    s->m = m;
    s->desc = d;
    s->tokens = d->calibration;
    s->plan = fci_plan_new(NULL, &err);
    need(s->plan != NULL);
    fci_search_describe(m, d, &s->plan->info);
    need(!fci_search_open(s, &err) && !fci_search_calibrate(s, &err));
}

static void end(fci_search *s) {
    fci_search_close(s);
    fc_plan_free(s->plan);
}

/* The set that is removed next becomes this one; the trail is made anew where it differs. */
static void go_to(fci_search *s, const uint8_t *mask) {
    const size_t n = fci_search_n_sublayers(s);
    size_t from = 0;
    while (from < n && mask[from] == s->mask[from]) from++;
    memcpy(s->mask, mask, n);
    if (from < n) need(!fci_search_trail(s, (uint32_t)from, &err));
    fci_search_runners(s);
}

static void tell(fc_model *m, const char *what, const set *x, double lanes, double seconds) {
    fc_perplexity p;
    need(!fc_eval_perplexity(m, &windows, x->mask, NULL, &p, &err));
    printf("%-12s distance %.6f perplexity %.4f work %.1f (%.0f s)\n", what, x->score, p.perplexity,
           lanes, seconds);
    fflush(stdout);
}

static size_t exchange(fci_search *s, set *x) {
    const uint32_t n = (uint32_t)fci_search_n_sublayers(s);
    size_t made = 0, removed = 0, failed = 0;
    for (uint32_t k = 0; k < n; k++) removed += s->m->present[k] && !x->mask[k];
    for (uint32_t k = 0; failed < removed; k = (k + 1) % n) {
        const fci_search_runner *winner = NULL;
        if (x->mask[k] || !s->m->present[k]) continue;
        x->mask[k] = 1;
        go_to(s, x->mask);
        for (size_t i = 0; i < s->n_runners; i++)
            s->runners[i].guess =
                x->score * s->divisor * (s->runners[i].candidate == k ? 1 : 1.3);
        need(!fci_search_race(s, &winner, &err));
        x->mask[winner->candidate] = 0;
        made += winner->candidate != k;
        failed = winner->candidate == k ? failed + 1 : 1;
        x->score = winner->value;
    }
    return made;
}

/* Puts a set among the best `width`, unless it is there. */
static void keep(set *best, size_t *n, size_t width, const set *x, size_t bytes) {
    size_t at = *n;
    for (size_t i = 0; i < *n; i++)
        if (memcmp(best[i].mask, x->mask, bytes) == 0) return;
    if (isnan(x->score)) return;
    while (at > 0 && x->score < best[at - 1].score) at--;
    if (at == width) return;
    if (*n < width) ++*n;
    memmove(best + at + 1, best + at, (*n - at - 1) * sizeof *best);
    best[at] = *x;
}

static void beam(fci_search *s, size_t width, size_t steps, set *out) {
    static set old[BEAM], next[BEAM + 1];
    size_t n_old = 1, n = 0;
    memcpy(old[0].mask, s->m->present, fci_search_n_sublayers(s));
    for (size_t step = 0; step < steps; step++, n_old = n) {
        n = 0;
        for (size_t i = 0; i < n_old; i++) {
            const fci_search_runner *winner;
            go_to(s, old[i].mask);
            need(!fci_search_exhaust(s, &winner, &err));
            for (size_t k = 0; k < s->n_runners; k++) {
                set x = old[i];
                x.mask[s->runners[k].candidate] = 0;
                x.score = s->runners[k].value;
                keep(next, &n, width, &x, fci_search_n_sublayers(s));
            }
        }
        memcpy(old, next, n * sizeof *next);
    }
    *out = old[0];
}

int main(int argc, char **argv) {
    fc_tokens calibration, text;
    fc_text file;
    fc_prune_desc d;
    set x;
    if (argc < 8) return fprintf(stderr, "usage: see tools/exchange.c\n"), 2;
    fc_model *m = fc_model_open(argv[1], NULL, &err);
    need(m != NULL);
    const fc_tokenizer *t = fc_model_tokenizer(m, &err);
    need(t && !fc_file_read(argv[2], NULL, &file, &err) &&
         !fc_calibration_cut(t, file.bytes, file.length, (uint32_t)atoi(argv[4]),
                             (uint32_t)atoi(argv[5]), &calibration, &err));
    need(!fc_file_read(argv[3], NULL, &file, &err) &&
         !fc_tokenize(t, file.bytes, fci_min(file.length, 40000), FINERCUT_TOKENIZE_SPECIAL, &text,
                      &err) &&
         !fc_tokens_windows(&text, 512, &windows, &err));
    for (int i = 7; i < argc; i++) {
        fci_search s;
        char what[40];
        memset(&d, 0, sizeof d);
        d.calibration = &calibration;
        d.fraction = atof(argv[i]) / 100;
        fc_plan *p = fc_prune(m, &d, &err);
        need(p != NULL);
        const size_t n = fc_plan_about(p)->n_steps;
        printf("%s %%: %d of %u sublayers\n", argv[i], (int)n, m->config.n_sublayers);
        need(!fc_plan_mask(p, m, n, x.mask, sizeof x.mask, &err));
        x.score = fc_plan_step(p, n - 1)->score;
        tell(m, "greedy", &x, p->info.cost.lanes, p->info.cost.seconds);
        begin(&s, m, &d);
        double start = fci_platform_seconds();
        snprintf(what, sizeof what, "%d exchanges", (int)exchange(&s, &x));
        tell(m, what, &x, s.plan->info.cost.lanes, fci_platform_seconds() - start);
        for (int width = 2; width <= atoi(argv[6]) && width <= BEAM; width++) {
            s.plan->info.cost.lanes = 0;
            start = fci_platform_seconds();
            beam(&s, (size_t)width, n, &x);
            snprintf(what, sizeof what, "beam of %d", width);
            tell(m, what, &x, s.plan->info.cost.lanes, fci_platform_seconds() - start);
        }
        end(&s);
        fc_plan_free(p);
    }
    return 0;
}
