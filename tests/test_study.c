// Studies: correlations against values by hand, distances of a set against those of the plan that
// removed it, and a study that is stopped at each of its writes, which comes to the same bytes.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "tiny.h"
#include "tokens.h"

static fc_error err;

static int near(double a, double b, double within) {
    return fabs(a - b) <= within * (1 + fabs(b));
}

static void test_correlations(void) {
    const double x[] = {1, 2, 2, 3}, y[] = {1, 3, 2, 4}, line[] = {-10, 0, 10, 20},
                 bent[] = {1, 10, 100, 1e6}, down[] = {4, 3, 2, 1}, flat[] = {5, 5, 5, 5},
                 thirds[] = {0.1, 0.1, 0.1};
    double scratch[8];
    // ranks of x are 1, 2.5, 2.5, 4, and y is its ranks: 4.5 / sqrt(4.5 * 5)
    T_OK(near(fci_study_spearman(x, y, 4, scratch), 4.5 / sqrt(22.5), 1e-15), "ties: Spearman");
    // of six pairs one is a tie of x, five agree: 5 / sqrt(5 * 6)
    T_OK(near(fci_study_kendall(x, y, 4, scratch), 5 / sqrt(30), 1e-15), "ties: Kendall");
    T_OK(near(fci_study_pearson(x, y, 4, scratch), 3 / sqrt(10), 1e-15), "ties: Pearson");
    T_OK(near(fci_study_pearson(line, y, 4, scratch), 4 / 5.0, 1e-15), "Pearson");
    T_OK(near(fci_study_spearman(line, bent, 4, scratch), 1, 1e-15) &&
             near(fci_study_kendall(line, bent, 4, scratch), 1, 1e-15) &&
             fci_study_pearson(line, bent, 4, scratch) < 0.8,
         "one order, no line");
    for (size_t n = 2; n <= 12; n++) { // sums of squares are rounded
        double tenths[12], more[24];
        for (size_t i = 0; i < n; i++) tenths[i] = 0.1 * (double)(i * i);
        for (int i = 0; i < FCI_STUDY_RELATIONS; i++)
            T_OK(fci_study_relations[i].of(tenths, tenths, n, more) <= 1, "%s of %d: at most 1",
                 fci_study_relations[i].name, (int)n);
    }
    for (int i = 0; i < FCI_STUDY_RELATIONS; i++) {
        T_OK(near(fci_study_relations[i].of(line, down, 4, scratch), -1, 1e-15), "%s: the reverse",
             fci_study_relations[i].name);
        T_OK(isnan(fci_study_relations[i].of(flat, y, 4, scratch)) &&
                 isnan(fci_study_relations[i].of(y, flat, 4, scratch)),
             "%s: of a constant", fci_study_relations[i].name);
        T_OK(isnan(fci_study_relations[i].of(thirds, y, 3, scratch)), "%s: of a rounded constant",
             fci_study_relations[i].name);
    }
}

static uint32_t ids[96];
static size_t starts[] = {0, 20, 44, 48, 96};

static fc_model *open_tiny(tiny *t, uint64_t limit) {
    tiny_llama(t, 7, 16, 4, 2, 40);
    fc_model *m = tiny_open(t, limit, limit ? 2 : 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) exit(1);
    fc_env env = memory_env(&t->world);
    memory_writable(&env);
    m->c.io = env.io;
    for (size_t i = 0; i < 96; i++) ids[i] = (uint32_t)(i * i * 7 + i * 3) % 40;
    return m;
}

// What a plan says of each of its prefixes is what the set is measured to have.
// Distances that rank alike are all the best, in each draw and in words.
static void test_best(void) {
    double of[FC_METRIC_COUNT][4] = {{1, 2, 3, 4}, {10, 20, 30, 40}, {4, 3, 2, 1}, {.1, .2, .3, .4},
                                     {5, 5, 5, 5}, {2, 1, 4, 3}};
    double losses[] = {1, 4, 9, 16}, drawn[8], drawn_losses[8], scratch[16];
    size_t runs[] = {0, 4};
    static double draws[FC_METRIC_COUNT * FCI_STUDY_RELATIONS * FCI_STUDY_DRAWS];
    fci_study_finding f[FC_METRIC_COUNT];
    fci_study_sample x;
    fc_study s;
    memset(&x, 0, sizeof x);
    memset(&s, 0, sizeof s);
    memset(f, 0, sizeof f);
    for (int k = 0; k < FC_METRIC_COUNT; k++) x.distances[k] = of[k];
    x.n = 4;
    x.n_plans = 1;
    x.losses = losses;
    x.starts = runs;
    x.drawn = drawn;
    x.drawn_losses = drawn_losses;
    x.scratch = scratch;
    x.draws = draws;
    fci_study_find(&x, f);
    s.findings = f;
    for (int k = 0; k < FC_METRIC_COUNT; k++)
        T_OK(near(f[k].best, k == 0 || k == 1 || k == 3, 0), "distance %d: best %g", k, f[k].best);
    f[1].of[0][0] -= 1e-15;
    T_OK(fci_study_best(&s, 0) == 11, "named: %x", fci_study_best(&s, 0));
    for (int k = 0; k < FC_METRIC_COUNT; k++) f[k].of[0][0] = (double)NAN;
    T_OK(fci_study_best(&s, 0) == 0, "none: %x", fci_study_best(&s, 0));
}

static void test_distances(void) {
    tiny t;
    fc_model *m = open_tiny(&t, 0);
    const fc_tokens tokens = tokens_of(ids, starts, 4);
    uint8_t mask[14];
    double out[FC_METRIC_COUNT];
    for (int metric = 0; metric < FC_METRIC_COUNT; metric++) {
        const int reduced = metric == FC_METRIC_ANGULAR || metric == FC_METRIC_EUCLIDEAN;
        fc_prune_desc d;
        memset(&d, 0, sizeof d);
        d.calibration = &tokens;
        d.metric = (fc_metric)metric;
        d.remove = 5;
        fc_plan *p = fc_prune(m, &d, &err);
        if (!T_OK(p != NULL, "%s", err.msg)) continue;
        for (size_t n = 1; n <= 5; n++) {
            const double want = fc_plan_step(p, n - 1)->score;
            T_OK(fc_plan_mask(p, m, n, mask, sizeof mask, &err) == FC_OK &&
                     fc_distances(m, &tokens, mask, NULL, out, &err) == FC_OK,
                 "%s", err.msg);
            T_OK(near(out[metric], want, reduced ? 1e-4 : 0), "%s, %d steps: %.17g, not %.17g",
                 fc_metric_name((fc_metric)metric), (int)n, out[metric], want);
        }
        fc_plan_free(p);
    }
    T_OK(fc_distances(m, &tokens, NULL, NULL, out, &err) == FC_OK, "%s", err.msg);
    for (int metric = 0; metric < FC_METRIC_NLL; metric++)
        T_OK(out[metric] < 1e-12, "the whole model: %s %g", fc_metric_name((fc_metric)metric),
             out[metric]);
    fc_model_close(m);
    T_OK(t.world.live == 0, "all was given back: %ld", t.world.live);
    tiny_end(&t);
}

static fc_study_desc study_of(const fc_tokens *calibration, const fc_tokens *eval) {
    fc_study_desc d;
    memset(&d, 0, sizeof d);
    d.folder = "s/";
    d.calibration = calibration;
    d.eval = eval;
    d.metrics = 1u << FC_METRIC_KL | 1u << FC_METRIC_ANGULAR;
    d.random_plans = 2;
    return d;
}

// The curves are of the sets that the plans' prefixes are.
static void test_curves(const fc_study *s, const fc_page_table *t) {
    int columns = 0, random = 0;
    for (size_t c = 1; c < t->n_columns; c++)
        for (size_t a = 0; a < s->n_arms; a++)
            for (size_t k = 0; k < s->arms[a].n_prefixes; k++) {
                const fci_study_prefix *x = &s->arms[a].prefixes[k];
                const char *cell = t->cells[(x->point + 1) * t->n_columns + c];
                const double value = s->sets[x->set].values[FC_METRIC_COUNT];
                if (x->equal || strcmp(s->arms[a].name, t->columns[c].name) != 0) continue;
                T_OK(cell && near(strtod(cell, NULL), value, 1e-4), "%s: %s, not %g",
                     s->arms[a].name, cell ? cell : "nothing", value);
                columns += k == 0;
            }
    for (size_t c = 0; c < t->n_columns; c++)
        random += strncmp(t->columns[c].name, "random", 6) == 0;
    T_OK(columns == (int)t->n_columns - 2 && random == 1, "%d curves, %d random", columns, random);
}

// What a plan's prefix is said to be is a place in the list of sets, which has the known ones.
static void test_place(fc_study *s) {
    const fci_study_arm *a = &s->arms[0];
    char want[40];
    fci_buffer b = fci_buffer_of(&s->c);
    if (!T_OK(a->n_prefixes && a->prefixes[0].set && s->sets[0].known, "sets")) return;
    snprintf(want, sizeof want, "\"set\": %llu}", (unsigned long long)a->prefixes[0].set - 1);
    s->sets[0].known = false;
    fci_study_put_arm(s, a, &b);
    fci_put(&b, "", 1);
    s->sets[0].known = true;
    T_OK(strstr(b.p, want) != NULL, "%s: %s", want, b.p);
    fci_buffer_free(&b);
}

// The table of correlations has each with the ends of its interval.
static void test_relations(const fc_study *s, const fc_page_table *t) {
    for (size_t i = 0; i < t->n_rows * FCI_STUDY_RELATIONS; i++) {
        const double *of = s->findings[i / FCI_STUDY_RELATIONS].of[i % FCI_STUDY_RELATIONS];
        const char *cell = t->cells[i / FCI_STUDY_RELATIONS * 7 + 3 + i % FCI_STUDY_RELATIONS];
        double v[3] = {9, 9, 9};
        int good = cell && sscanf(cell, "%lf [%lf, %lf]", &v[0], &v[1], &v[2]) == 3;
        for (int e = 0; e < 3; e++) good = good && fabs(v[e] - of[e]) < 6e-4;
        T_OK(isfinite(of[0]) ? good : !cell, "%s, not %g [%g, %g]", cell ? cell : "nothing", of[0],
             of[1], of[2]);
    }
}

// Each line of study.csv names as many sublayers as it says are removed.
static void test_csv(const memory_output *csv) {
    for (const char *p = strchr(csv->data, '\n') + 1, *end; *p; p = end + 1) {
        unsigned long said = strtoul(strchr(p, ',') + 1, NULL, 10), named = 0;
        char names[200] = "";
        uint8_t gone[128] = {0};
        end = strchr(p, '\n');
        const char *last = end;
        while (last[-1] != ',') last--;
        for (size_t i = 0; last + i < end && i + 1 < sizeof names; i++)
            names[i] = last[i] == ' ' ? ',' : last[i];
        if (*names) fc_sublayers_parse(names, 64, gone, sizeof gone, &err);
        for (size_t i = 0; i < sizeof gone; i++) named += gone[i];
        T_OK(said == named, "%lu of %lu: %.*s", named, said, (int)(end - p), p);
    }
}

static fc_code run(fc_model *m, const fc_study_desc *d, fc_study_info *about) {
    fc_study *s = fc_study_open(m, d, &err);
    if (!s) return err.code;
    *about = *fc_study_about(s);
    const fc_code code = fc_study_run(s, &err);
    size_t n = 5;
    const fc_page_table *tables = fc_study_tables(s, &n);
    T_OK(code ? !tables && n == 0 : tables && n == 5, "%d tables", (int)n);
    if (tables) test_curves(s, tables);
    if (tables) test_relations(s, &tables[3]);
    if (tables) test_place(s);
    const double done = s->done + s->part, off = done - s->all;
    T_OK(code || (off < 1e-9 * done + 1e-9 && off > -1e-9 * done - 1e-9),
         "at the end %g of %g tokens are done", done, s->all);
    fc_study_close(s);
    return code;
}

static memory_output *written(memory *w, const char *path) {
    for (int i = 0; i < MEMORY_OUTPUTS; i++)
        if (w->outputs[i].whole && strcmp(w->outputs[i].path, path) == 0) return &w->outputs[i];
    T_OK(0, "%s: is not there", path);
    exit(1);
}

static size_t count(const memory_output *o, const char *words) {
    size_t n = 0;
    o->data[o->size] = 0; // (there is room)
    for (const char *p = o->data; (p = strstr(p, words)) != NULL; p++) n++;
    return n;
}

static int stop(void *user, const fc_progress *p) {
    (void)user;
    return p->done >= 0;
}

static void test_interrupted(void) {
    static const char *const results[] = {"s/study.json", "s/study.csv"};
    tiny a, b;
    fc_model *m = open_tiny(&a, 0), *other = open_tiny(&b, 11 << 20);
    const fc_tokens calibration = tokens_of(ids, starts, 3), eval = tokens_of(ids, starts, 4);
    fc_study_desc d = study_of(&calibration, &eval);
    fc_study_info about, again = {0, 0, 0, 0, 0, 0};
    int runs = 0;
    T_OK(run(m, &d, &about) == FC_OK, "%s", err.msg);
    T_OK(about.n_plans == 9 && about.n_plans_there == 0 && about.n_sets_there == 0 &&
             about.n_sets > 20 && about.tokens > 0 && about.seconds > 0,
         "%u plans, %u sets", about.n_plans, about.n_sets);
    const memory_output *json = written(&a.world, results[0]), *csv = written(&a.world, results[1]);
    const size_t sets = count(json, "{\"removed\": ");
    T_OK(sets == count(csv, "\n") - 1 && sets < about.n_sets && sets > 15, "each set once: %d, %d",
         (int)sets, (int)count(csv, "\n"));
    test_csv(csv);
    T_OK(count(json, "\"correlations\"") == 1 && count(json, "\"loss\": ") == FC_METRIC_COUNT, "%s",
         json->data);
    T_OK(written(&a.world, "s/index.html")->size > 1000, "a page");
    T_OK(count(written(&a.world, "s/plan-kl.json"), "finercut-plan-1") == 1, "a plan");
    const long writes = a.world.writes;
    T_OK(run(m, &d, &again) == FC_OK && again.n_plans_there == 9 && again.n_sets == sets &&
             again.n_sets_there == sets && again.tokens == 0,
         "a second time: %s, %u of %u", err.msg, again.n_sets_there, again.n_sets);
    T_OK(a.world.writes - writes < 12, "and nothing new is done: %ld", a.world.writes - writes);
    d.watch.progress = stop;
    T_OK(run(other, &d, &again) == FC_ERR_CANCELLED, "cancelled: %s", err.msg);
    d.watch.progress = NULL;
    for (;; runs++) { // each run dies when its fourth file is being written
        b.world.writes = 0;
        b.world.fail_write = 12;
        const fc_code code = run(other, &d, &again);
        if (code != FC_ERR_IO || runs > 500) break;
    }
    T_OK(err.code == FC_OK && runs > 15, "%d runs: %s", runs, err.msg);
    for (int i = 0; i < 2; i++) {
        const memory_output *x = written(&a.world, results[i]), *y = written(&b.world, results[i]);
        T_OK(x->size == y->size && memcmp(x->data, y->data, x->size) == 0,
             "%s: the same after %d runs in less memory", results[i], runs);
    }
    fc_model_close(m);
    fc_model_close(other);
    memory_forget(&a.world);
    memory_forget(&b.world);
    T_OK(a.world.live == 0 && b.world.live == 0, "all was given back");
    tiny_end(&a);
    tiny_end(&b);
}

// What another study left is not taken for this one's.
// A model of one block has too few blocks, attentions and FFNs for plans of these.
static void test_one_block(void) {
    tiny t;
    tiny_llama(&t, 1, 16, 4, 2, 40);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    fc_env env = memory_env(&t.world);
    memory_writable(&env);
    m->c.io = env.io;
    const fc_tokens calibration = tokens_of(ids, starts, 3), eval = tokens_of(ids, starts, 4);
    fc_study_desc d = study_of(&calibration, &eval);
    fc_study *s = fc_study_open(m, &d, &err);
    T_OK(s && fc_study_run(s, &err) == FC_OK, "one block: %s", err.msg);
    fc_study_close(s);
    fc_model_close(m);
    memory_forget(&t.world);
    T_OK(t.world.live == 0, "all was given back");
    tiny_end(&t);
}

static void test_others(void) {
    tiny t;
    fc_model *m = open_tiny(&t, 0);
    const fc_tokens calibration = tokens_of(ids, starts, 3), eval = tokens_of(ids, starts, 4);
    fc_study_desc d = study_of(&calibration, &eval), e = d;
    const char *const inputs[] = {"x", "s/study.csv"};
    fc_study_info about;
    T_OK(run(m, &d, &about) == FC_OK, "%s", err.msg);
    e.calibration = &eval;
    T_OK(run(m, &e, &about) == FC_ERR_MISMATCH && strstr(err.msg, "another calibration"), "%s",
         err.msg);
    e = d;
    e.date = 20240726;
    T_OK(run(m, &e, &about) == FC_ERR_MISMATCH && strstr(err.msg, "another calibration") &&
             strstr(err.msg, "3 sequences, date 2024-07-26\""), "%s", err.msg);
    e = d;
    e.eval = &calibration;
    T_OK(run(m, &e, &about) == FC_ERR_MISMATCH && strstr(err.msg, "another text to measure"), "%s",
         err.msg);
    e = d;
    e.search = FC_SEARCH_EXHAUSTIVE;
    T_OK(run(m, &e, &about) == FC_ERR_MISMATCH && strstr(err.msg, "s/plan-angular.json: ") &&
             strstr(err.msg, "another search: expected race, got exhaustive"),
         "%s", err.msg);
    m->c.force = true;
    T_OK(run(m, &e, &about) == FC_OK && about.n_plans_there == 0, "by force: %s", err.msg);
    m->c.force = false;
    d = e;
    d.metrics |= 1u << FC_METRIC_NLL; // more of the same goes on
    T_OK(run(m, &d, &about) == FC_OK && about.n_plans_there == 9, "%u there: %s",
         about.n_plans_there, err.msg);
    const memory_output *json = written(&t.world, "s/study.json");
    char *at = strstr(json->data, "\"perplexity\": ");
    if (T_OK(at != NULL, "a perplexity")) {
        at[14] = '-';
        T_OK(run(m, &d, &about) == FC_ERR_FORMAT &&
                 strstr(err.msg, "set 0: perplexity: expected a number from 1 to 3.4e+38, got -"),
             "%s", err.msg);
        at[14] = '9';
    }
    d.inputs = inputs;
    d.n_inputs = 2;
    T_OK(run(m, &d, &about) == FC_ERR_ARGUMENT && strstr(err.msg, "s/study.csv"), "%s", err.msg);
    fc_model_close(m);
    memory_forget(&t.world);
    T_OK(t.world.live == 0, "all was given back");
    tiny_end(&t);
}

// study.json is believed only where it does not contradict itself; what it lacks is measured again.
static void test_contradictions(void) {
    static const struct { const char *from, *to, *error; } cases[] = {
        {"    {\"removed\": \"\"", "    {\"another\": \"\"", "set 0: removed: expected a string"},
        {"\"js\": 0,", "\"js\": 5,", "set 0: js: expected a number from 0 to 0, got 5"},
        {"\"nll\": ", "\"nll\":-", "set 0: nll: expected a number from 0 to 6.9e+38, got -"},
        {"\"js\": 0.", "\"js\": 2.", "set 1: js: expected a number from 0 to 0.693148, got 2."},
        {"\"angular\": 0.", "\"angular\": 4.", "angular: expected a number from 0 to 3.14159, "},
        {"\"sublayers\": 1,", "\"sublayers\": 7,", "sublayers: expected 1, got 7"},
        {"\"parameters\": 0,", "\"parameters\": 9,", "set 0: parameters: expected 0, got 9"},
        {"\"perplexity\": ", "\"perplexity\":0", "expected"},
    };
    tiny t;
    fc_model *m = open_tiny(&t, 0);
    const fc_tokens calibration = tokens_of(ids, starts, 3), eval = tokens_of(ids, starts, 4);
    fc_study_desc d = study_of(&calibration, &eval);
    fc_study_info about;
    T_OK(run(m, &d, &about) == FC_OK, "%s", err.msg);
    memory_output *json = written(&t.world, "s/study.json");
    const size_t size = json->size;
    char *kept = (char *)malloc(size);
    memcpy(kept, json->data, size);
    json->data[size] = 0; // (there is room)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *at = strstr(json->data, cases[i].from);
        if (!T_OK(at != NULL, "%s: is not there", cases[i].from)) continue;
        memcpy(at, cases[i].to, strlen(cases[i].to));
        T_OK(run(m, &d, &about) == FC_ERR_FORMAT && strstr(err.msg, cases[i].error) &&
                 strstr(err.msg, "; `force` begins anew"), "%s: %s", cases[i].to, err.msg);
        memcpy(json->data, kept, size);
    }
    for (int what = 0; what < 3; what++) { // on the line of a set
        char *line = strstr(json->data,
                            what ? "    {\"removed\": \"attn." : "    {\"removed\": \"\""),
             *at = line && what == 1 ? strstr(line, "\"perplexity\": ") : line;
        if (!T_OK(at != NULL, "no set")) continue;
        const char *to[] = {"", "\"perplexity\": null},", "{\"removed\": \"\"},"};
        memset(at, ' ', strcspn(at, "\n"));
        memcpy(at, to[what], strlen(to[what]));
        const fc_code code = run(m, &d, &about);
        json = written(&t.world, "s/study.json");
        if (what == 2)
            T_OK(code == FC_ERR_FORMAT && strstr(err.msg, "removed: expected each set once, got"),
                 "twice: %s", err.msg);
        else
            T_OK(code == FC_OK && about.n_sets - about.n_sets_there == 1 && json->size == size &&
                     memcmp(json->data, kept, size) == 0, "measured again: %s", err.msg);
    }
    memcpy(json->data, kept, size);
    for (int i = 0; i < 2; i++) { // a distance as another build may have it; doubled
        char *at = strstr(json->data, "    {\"removed\": \"attn."), changed[32];
        if (!T_OK(at && (at = strstr(at, "\"angular\": ")) != NULL, "no set")) continue;
        at += strlen("\"angular\": ");
        const int n = (int)strcspn(at, ",");
        snprintf(changed, sizeof changed, "%-*.9f", n, strtod(at, NULL) * (i ? 2 : 1.0001));
        memcpy(at, changed, (size_t)n);
        const fc_code code = run(m, &d, &about);
        T_OK(i ? code == FC_ERR_FORMAT && strstr(err.msg, "s/study.json: angular after step ") &&
                     strstr(err.msg, " of s/plan-") && strstr(err.msg, "; `force` begins anew")
               : code == FC_OK,
             "%s: %s", changed, err.msg);
        json = written(&t.world, "s/study.json");
    }
    free(kept);
    fc_model_close(m);
    memory_forget(&t.world);
    tiny_end(&t);
}

static void test_out_of_memory(void) {
    tiny t;
    fc_model *m = open_tiny(&t, 0);
    const fc_tokens calibration = tokens_of(ids, starts, 1), eval = tokens_of(ids, starts, 2);
    fc_study_desc d = study_of(&calibration, &eval);
    fc_study_info about;
    const double points[] = {0.25};
    d.points = points;
    d.n_points = d.random_plans = 1;
    d.metrics = 1;
    T_OK(run(m, &d, &about) == FC_OK, "%s", err.msg);
    memory_forget(&t.world);
    const long all = t.world.allocs, live = t.world.live;
    int failures = 0;
    for (long n = 1; n < all; n += n < 60 ? 1 : all / 25) {
        t.world.allocs = 0;
        t.world.fail_alloc = n;
        t.world.fail_always = 1;
        const fc_code code = run(m, &d, &about);
        T_OK(code == FC_OK || code == FC_ERR_MEMORY, "allocation %ld: %s", n, err.msg);
        failures += code == FC_ERR_MEMORY;
        t.world.fail_alloc = 0;
        memory_forget(&t.world);
        T_OK(t.world.live == live, "allocation %ld: %ld are left, not %ld", n, t.world.live, live);
    }
    T_OK(failures > 50, "%d failures", failures);
    fc_model_close(m);
    tiny_end(&t);
}

int main(void) {
    test_correlations();
    test_best();
    test_distances();
    test_interrupted();
    test_one_block();
    test_others();
    test_contradictions();
    test_out_of_memory();
    return t_end("study");
}
