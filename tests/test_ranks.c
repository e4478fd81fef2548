/* Searches, evaluations and studies by several machines (fc_ranks): ranks are threads here, each
   with a model, memory and files of its own, and what they give goes through a table. The plan, the
   perplexity, and the files of a study are those of one machine. */
#include "private.h"
#include "memory.h"
#include "plans.h"
#include "t.h"
#include "tiny.h"
#include "tokens.h"

#if FCI_THREADS
enum { MOST = 4, SEQUENCES = 24, LENGTH = 16 };

typedef struct table { /* what ranks give: the others may be one call ahead, so two sides */
    fci_thread_mutex lock;
    fci_thread_signal changed;
    uint32_t n, arrived, turn;
    int broken;
    char *given[2][MOST];
} table;

typedef struct rank {
    table *hub;
    fc_prune_desc desc;
    fc_ranks ranks;
    fci_thread thread;
    tiny t;
    fc_model *m;
    uint64_t limit;
    long fail_alloc;      /* while it searches */
    long calls, fail_call;
    long starve_call;     /* the first allocation after it fails */
    long ticks, cancel_at;
    fc_plan *plan;
    fc_eval_desc judging; /* of the calibration, where there is no plan to make */
    fc_perplexity result, each[SEQUENCES];
    const fc_study_desc *studying; /* or NULL */
    int silent;           /* its evaluation is given no err */
    fc_error err;
} rank;

static int gather(void *user, const void *own, size_t size, void *all) {
    rank *r = (rank *)user;
    table *t = r->hub;
    FCI_LOCK(&t->lock);
    const uint32_t turn = t->turn;
    char **side = t->given[turn % 2];
    if (++r->calls == r->fail_call) {
        t->broken = 1;
        FCI_WAKE_ALL(&t->changed);
    }
    if (!t->broken) {
        side[r->ranks.rank] = (char *)realloc(side[r->ranks.rank], size + 1);
        if (!side[r->ranks.rank]) exit(2);
        memcpy(side[r->ranks.rank], own, size);
        if (++t->arrived == t->n) {
            t->arrived = 0;
            t->turn++;
            FCI_WAKE_ALL(&t->changed);
        }
        while (t->turn == turn && !t->broken) FCI_WAIT(&t->changed, &t->lock);
    }
    if (r->calls == r->starve_call) r->t.world.fail_alloc = r->t.world.allocs + 1;
    const int done = t->turn != turn;
    for (uint32_t i = 0; i < t->n && done; i++)
        memcpy((char *)all + i * size, side[i], size);
    FCI_UNLOCK(&t->lock);
    return done ? 0 : r->calls == r->fail_call ? 7 : 9;
}

static int tick(void *user, const fc_progress *p) {
    rank *r = (rank *)user;
    (void)p;
    return ++r->ticks == r->cancel_at;
}

static void study(rank *r) {
    fc_study_desc d = *r->studying;
    d.watch = r->desc.watch;
    d.ranks = r->desc.ranks;
    fc_study *s = fc_study_open(r->m, &d, &r->err);
    if (s) fc_study_run(s, &r->err);
    fc_study_close(s);
}

static void run(void *arg) {
    rank *r = (rank *)arg;
    memset(&r->err, 0, sizeof r->err);
    if (r->studying) study(r);
    else if (r->judging.each)
        r->err.code = fc_eval_sequences(r->m, r->desc.calibration, &r->judging, &r->result,
                                        r->silent ? NULL : &r->err);
    else r->plan = fc_prune(r->m, &r->desc, &r->err);
    const int ended = r->judging.each || r->studying ? r->err.code == FC_OK : r->plan != NULL;
    if (!ended && r->hub && r->calls == 0) { /* the others wait for one that never came */
        FCI_LOCK(&r->hub->lock);
        r->hub->broken = 1;
        FCI_WAKE_ALL(&r->hub->changed);
        FCI_UNLOCK(&r->hub->lock);
    }
}

static rank ranks[MOST];
static table hub;
static const fc_prune_desc *odd; /* of rank 1, where it is another */

static void begin(uint32_t n) {
    FCI_MUTEX_BEGIN(&hub.lock);
    FCI_SIGNAL_BEGIN(&hub.changed);
    hub.n = n;
    for (uint32_t i = 0; i < n; i++) {
        rank *r = &ranks[i];
        memset(r, 0, sizeof *r);
        r->hub = &hub;
        tiny_llama(&r->t, 3, 16, 2, 1, 48);
    }
}

static void search(const fc_prune_desc *desc, const double *shares) {
    hub.arrived = hub.turn = 0;
    hub.broken = 0;
    for (uint32_t i = 0; i < hub.n; i++) {
        rank *r = &ranks[i];
        if (!r->m) r->m = tiny_open(&r->t, r->limit, 1, &r->err);
        if (!r->m) exit(2);
        if (r->studying) {
            fc_env env = memory_env(&r->t.world);
            memory_writable(&env);
            r->m->c.io = env.io;
        }
        r->calls = r->ticks = 0;
        r->desc = i == 1 && odd ? *odd : *desc;
        r->desc.watch.progress = tick;
        r->desc.watch.user = r;
        if (hub.n > 1) r->desc.ranks = &r->ranks;
        r->ranks.rank = i;
        r->ranks.n_ranks = hub.n;
        r->ranks.shares = shares;
        r->ranks.gather = gather;
        r->ranks.user = r;
        r->ranks.lanes = 0;
        r->ranks.bytes = 0;
        r->judging.ranks = r->desc.ranks;
        r->judging.watch = r->desc.watch;
        r->t.world.allocs = r->t.world.writes = 0;
        r->t.world.fail_alloc = r->fail_alloc;
        if (i > 0 && !fci_thread_start(&r->thread, run, r)) exit(2);
    }
    run(&ranks[0]);
    for (uint32_t i = 1; i < hub.n; i++) fci_thread_join(&ranks[i].thread);
    for (uint32_t i = 0; i < hub.n; i++) ranks[i].t.world.fail_alloc = 0;
}

static void clear(void) { /* plans, not models */
    for (uint32_t i = 0; i < hub.n; i++) {
        fc_plan_free(ranks[i].plan);
        ranks[i].plan = NULL;
    }
}

static void end(const char *what) {
    clear();
    for (uint32_t i = 0; i < hub.n; i++) {
        fc_model_close(ranks[i].m);
        memory_forget(&ranks[i].t.world);
        T_OK(ranks[i].t.world.live == 0, "%s: rank %u: %ld leaks", what, i, ranks[i].t.world.live);
        tiny_end(&ranks[i].t);
    }
    for (int i = 0; i < 2 * MOST; i++) {
        free(hub.given[i / MOST][i % MOST]);
        hub.given[i / MOST][i % MOST] = NULL;
    }
    FCI_SIGNAL_END(&hub.changed);
    FCI_MUTEX_END(&hub.lock);
}

/* A plan's file without its seconds. */
static char *text_of(const fc_plan *p) {
    fc_text text = {0};
    fc_error err;
    char *copy, *at, *to;
    if (!p || fc_plan_save_memory(p, &text, &err)) return NULL;
    copy = (char *)malloc(text.length + 1);
    if (!copy) exit(2);
    memcpy(copy, text.bytes, text.length);
    copy[text.length] = 0;
    at = strstr(copy, "\"seconds\":");
    if (!T_OK(at != NULL, "a plan without seconds")) exit(2);
    for (to = at + 10; *to && *to != ',' && *to != '}';) to++;
    memmove(at, to, strlen(to) + 1);
    fc_text_free(&text);
    return copy;
}

/* A copy that needs nothing of the rank. */
static fc_plan *take(rank *r) {
    fc_text text = {0};
    fc_error err;
    fc_plan *p = NULL;
    if (r->plan && fc_plan_save_memory(r->plan, &text, &err) == FC_OK)
        p = fc_plan_load_memory(text.bytes, text.length, NULL, &err);
    T_OK(p != NULL, "no plan: %s", r->err.msg);
    fc_text_free(&text);
    return p;
}

static void same(const char *what, const char *want) {
    for (uint32_t i = 0; i < hub.n; i++) {
        char *got = text_of(ranks[i].plan);
        if (T_OK(got != NULL, "%s: rank %u of %u: %s", what, i, hub.n, ranks[i].err.msg))
            T_OK(strcmp(got, want) == 0, "%s: rank %u of %u has another plan:\n%s\n%s", what, i,
                 hub.n, want, got);
        free(got);
    }
}

static uint32_t ids[SEQUENCES * LENGTH];
static size_t starts[SEQUENCES + 1], ragged[SEQUENCES + 1];

static fc_prune_desc wish(const fc_tokens *t, fc_metric metric, fc_search mode) {
    fc_prune_desc d;
    memset(&d, 0, sizeof d);
    d.calibration = t;
    d.metric = metric;
    d.search = mode;
    d.seed = 5;
    return d;
}

/* Each rank ran its share, within 10 %; a race runs those sequences more that tell most, confident
   those that a few steps drew, so within 25 %. */
static void check_work(const char *what, const double *shares, double slack) {
    double all = 0, whole = 0;
    for (uint32_t i = 0; i < hub.n; i++) all += ranks[i].ranks.lanes;
    for (uint32_t i = 0; i < hub.n; i++) whole += shares ? shares[i] : 1;
    for (uint32_t i = 0; i < hub.n; i++) {
        const double want = all * (shares ? shares[i] : 1) / whole, got = ranks[i].ranks.lanes;
        T_OK(fabs(got - want) <= slack * want, "%s: rank %u of %u ran %.1f lanes of %.1f", what, i,
             hub.n, got, want);
    }
}

static char *alone(const fc_prune_desc *d, uint64_t limit) {
    begin(1);
    ranks[0].limit = limit;
    search(d, NULL);
    char *text = text_of(ranks[0].plan);
    T_OK(text != NULL, "alone: %s", ranks[0].err.msg);
    end("alone");
    return text;
}

/* All metrics and searches by 2, 3 and 4 ranks; what they give is not more than the distances. */
static void test_plans(void) {
    enum { ALL = FC_METRIC_COUNT * FC_SEARCH_COUNT };
    const fc_tokens t = tokens_of(ids, starts, SEQUENCES);
    char *want[ALL], what[64];
    for (uint32_t n = 1; n <= MOST; n++) {
        begin(n);
        for (int k = 0; k < ALL; k++) {
            const fc_metric metric = (fc_metric)(k % FC_METRIC_COUNT);
            const fc_search mode = (fc_search)(k / FC_METRIC_COUNT);
            const fc_prune_desc d = wish(&t, metric, mode);
            snprintf(what, sizeof what, "%s %s", fc_metric_name(metric), fc_search_name(mode));
            search(&d, NULL);
            if (n == 1) want[k] = text_of(ranks[0].plan);
            if (!T_OK(want[k] != NULL, "%s: %s", what, ranks[0].err.msg)) exit(1);
            same(what, want[k]);
            const int early = mode == FC_SEARCH_RACE || mode == FC_SEARCH_CONFIDENT;
            if (n > 1) check_work(what, NULL, early ? 0.25 : 0.1);
            for (uint32_t i = 0; i < n && n > 1 && mode == FC_SEARCH_EXHAUSTIVE; i++) {
                /* 6 + 5 + 4 + 3 + 2 candidates, and words */
                const size_t most = 20 * SEQUENCES / n * LENGTH * sizeof(double) +
                                    (size_t)ranks[i].calls * sizeof(fci_ranks_word) +
                                    sizeof(fci_search_peer);
                T_OK(ranks[i].ranks.bytes <= most, "%s: rank %u of %u gave %lu bytes, not %lu",
                     what, i, n, (unsigned long)ranks[i].ranks.bytes, (unsigned long)most);
            }
            clear();
        }
        end("plans");
    }
    for (int k = 0; k < ALL; k++) free(want[k]);
}

/* Sequences of all lengths, shares, units, texts to stop by; a rank without a sequence. */
static void test_settings(void) {
    static const double shares[MOST] = {1, 2, 3, 0.5};
    const fc_tokens t = tokens_of(ids, ragged, SEQUENCES), few = tokens_of(ids, starts, 2);
    for (int k = 0; k < 8; k++) {
        fc_prune_desc d = wish(k == 3 ? &few : &t, FC_METRIC_JS,
                               k % 2 ? FC_SEARCH_RACE : FC_SEARCH_CONFIDENT);
        if (k == 1) d.candidates = FC_CANDIDATES_BLOCKS;
        if (k == 2) d.last = 0.7;
        if (k == 4) d.per = FC_UNIT_PARAMS;
        if (k == 5) d.keep = "attn.1";
        if (k == 6) {
            d.until.unit = FC_UNIT_PERPLEXITY;
            d.until.most = 1.5;
            d.evaluation = &few;
        }
        if (k == 7) d.remove = 2;
        char *want = alone(&d, 0);
        begin(k == 2 ? 3 : 4);
        search(&d, k % 3 ? shares : NULL);
        same("settings", want);
        end("settings");
        free(want);
    }
}

static void test_shares(void) {
    static const double shares[] = {1, 3, 2};
    const fc_tokens t = tokens_of(ids, starts, SEQUENCES);
    const fc_prune_desc d = wish(&t, FC_METRIC_EUCLIDEAN, FC_SEARCH_EXHAUSTIVE);
    begin(3);
    search(&d, shares);
    check_work("shares", shares, 0.1);
    end("shares");
}

/* Seconds are those of rank 0 everywhere. */
static void test_time(void) {
    const fc_tokens t = tokens_of(ids, starts, SEQUENCES);
    fc_prune_desc d = wish(&t, FC_METRIC_JS, FC_SEARCH_RACE);
    d.per = FC_UNIT_TIME;
    begin(3);
    search(&d, NULL);
    char *first = text_of(ranks[0].plan);
    if (T_OK(first != NULL, "time: %s", ranks[0].err.msg)) same("time", first);
    free(first);
    end("time");
}

/* Less memory, and not the same on all: the steps are the same, and a rank needs less than one
   machine that has all of the trail. */
static void test_memory(void) {
    const fc_tokens t = tokens_of(ids, starts, SEQUENCES);
    const fc_prune_desc d = wish(&t, FC_METRIC_JS, FC_SEARCH_EXHAUSTIVE);
    size_t peak;
    begin(1);
    search(&d, NULL);
    fc_plan *want = take(&ranks[0]);
    peak = ranks[0].t.world.peak;
    end("memory");
    begin(4);
    search(&d, NULL);
    T_OK(ranks[0].t.world.peak < peak, "a rank took %lu bytes, alone it takes %lu",
         (unsigned long)ranks[0].t.world.peak, (unsigned long)peak);
    end("memory");
    for (uint64_t limit = 800000; limit < 940000; limit += 40000) {
        begin(3);
        ranks[1].limit = limit;
        search(&d, NULL);
        for (uint32_t i = 0; i < hub.n; i++)
            if (T_OK(ranks[i].plan != NULL, "limit %lu: %s", (unsigned long)limit,
                     ranks[i].err.msg))
                T_OK(plans_differ(ranks[i].plan, want) == 0, "limit %lu: rank %u: another plan",
                     (unsigned long)limit, i);
        end("memory");
    }
    fc_plan_free(want);
}

/* Steps by 3 ranks, the others by 2 and by one: as if by one machine that stopped there, too. */
static void test_resume(void) {
    const fc_tokens t = tokens_of(ids, starts, SEQUENCES);
    for (int mode = 0; mode < FC_SEARCH_COUNT; mode++) {
        fc_prune_desc d = wish(&t, FC_METRIC_JS, (fc_search)mode);
        char *want = NULL;
        fc_plan *part;
        d.remove = 2;
        begin(3);
        search(&d, NULL);
        part = take(&ranks[0]);
        end("resume");
        d.resume = part;
        d.remove = 5;
        for (uint32_t n = 1; part && n <= 2; n++) {
            begin(n);
            search(&d, NULL);
            if (n == 1) want = text_of(ranks[0].plan);
            if (T_OK(want != NULL, "resume: %s", ranks[0].err.msg)) same("resume", want);
            end("resume");
        }
        fc_plan_free(part);
        free(want);
    }
}

/* All ranks end, with the same code, and nothing is left. */
static void failed(const char *what, fc_code code, const char *part) {
    for (uint32_t i = 0; i < hub.n; i++) {
        const rank *r = &ranks[i];
        T_OK(!r->plan && r->err.code == code && strstr(r->err.msg, part),
             "%s: rank %u: expected %s with \"%s\", got %s: %s", what, i, fc_code_name(code), part,
             r->plan ? "a plan" : fc_code_name(r->err.code), r->err.msg);
    }
}

static void test_lost(void) { /* a call of gather that fails, each in turn */
    const fc_tokens t = tokens_of(ids, starts, 6);
    const fc_prune_desc d = wish(&t, FC_METRIC_JS, FC_SEARCH_RACE);
    begin(3);
    search(&d, NULL);
    const long calls = ranks[0].calls;
    clear();
    for (long k = 1; k <= calls; k++) {
        ranks[k % 3].fail_call = k;
        search(&d, NULL);
        failed("lost", FC_ERR_IO, "ranks: gather returned");
        T_OK(strstr(ranks[k % 3].err.msg, "returned 7") != NULL, "%s", ranks[k % 3].err.msg);
        ranks[k % 3].fail_call = 0;
    }
    T_OK(calls > 10, "lost: only %ld calls", calls);
    end("lost");
}

static void test_no_memory(void) { /* on one rank, at each allocation */
    const fc_tokens t = tokens_of(ids, starts, 6);
    const fc_prune_desc d = wish(&t, FC_METRIC_JS, FC_SEARCH_CONFIDENT);
    int stopped = 0;
    begin(3);
    for (long k = 1; k < 1000; k++) {
        ranks[1].fail_alloc = k;
        search(&d, NULL);
        if (ranks[1].plan) break; /* it needs no more */
        stopped++;
        if (ranks[1].calls) failed("memory", FC_ERR_MEMORY, "rank 1: ");
        clear();
    }
    T_OK(stopped > 20 && ranks[1].plan, "memory: %d allocations", stopped);
    end("no memory");
}

static void test_cancel(void) {
    const fc_tokens t = tokens_of(ids, starts, SEQUENCES);
    fc_prune_desc d = wish(&t, FC_METRIC_JS, FC_SEARCH_RACE);
    for (long k = 1; k <= 5; k++) {
        begin(3);
        ranks[k % 3].cancel_at = k;
        search(&d, NULL);
        for (uint32_t i = 0; i < 3; i++)
            T_OK(ranks[i].plan && ranks[i].err.code == FC_ERR_CANCELLED &&
                     plans_differ(ranks[i].plan, ranks[0].plan) == 0,
                 "cancel: rank %u: %s", i, ranks[i].err.msg);
        fc_plan *part = take(&ranks[2]);
        d.resume = part;
        end("cancel");
        begin(2);
        search(&d, NULL);
        T_OK(ranks[0].plan && ranks[1].plan && fc_plan_about(ranks[0].plan)->n_steps == 5,
             "cancel and resume: %s", ranks[0].err.msg);
        end("cancel");
        fc_plan_free(part);
        d.resume = NULL;
    }
}

static void judge(const fc_prune_desc *d, fc_protocol protocol, const double *shares) {
    for (uint32_t i = 0; i < hub.n; i++) {
        memset(ranks[i].each, 0, sizeof ranks[i].each);
        memset(&ranks[i].result, 0, sizeof ranks[i].result);
        ranks[i].judging.each = ranks[i].each;
        ranks[i].judging.protocol = protocol;
    }
    search(d, shares);
}

static int same_numbers(const fc_perplexity *a, const fc_perplexity *b) {
    return (a->nll == b->nll || (isnan(a->nll) && isnan(b->nll))) &&
           a->n_positions == b->n_positions && a->n_windows == b->n_windows;
}

/* Perplexity, and that of every sequence, have the bits of one machine. */
static void test_evaluation(void) {
    static const double shares[MOST] = {1, 2, 3, 2};
    const fc_tokens t[3] = {tokens_of(ids, ragged, SEQUENCES), tokens_of(ids, starts, SEQUENCES),
                            tokens_of(ids, starts, 2)};
    fc_perplexity want[6], each[6][SEQUENCES];
    for (uint32_t n = 1; n <= MOST; n++) {
        begin(n);
        for (int k = 0; k < 6; k++) {
            const fc_prune_desc d = wish(&t[k % 3], FC_METRIC_JS, FC_SEARCH_RACE);
            const double *mine = k < 3 ? NULL : shares;
            judge(&d, k < 3 ? FC_PROTOCOL_ALL : FC_PROTOCOL_LLAMA_CPP, mine);
            if (n == 1) want[k] = ranks[0].result;
            if (n == 1) memcpy(each[k], ranks[0].each, sizeof each[k]);
            if (n > 1 && k % 3 == 1) check_work("evaluation", mine, 0.01);
            for (uint32_t i = 0; i < n; i++) {
                const rank *r = &ranks[i];
                int same_all = r->err.code == FC_OK && same_numbers(&r->result, &want[k]);
                for (size_t q = 0; q < SEQUENCES; q++)
                    same_all = same_all && same_numbers(&r->each[q], &each[k][q]);
                T_OK(same_all && r->result.n_positions > 10,
                     "evaluation %d: rank %u of %u: %.17g, not %.17g: %s", k, i, n, r->result.nll,
                     want[k].nll, r->err.msg);
            }
        }
        end("evaluation");
    }
}

/* What ends one rank's evaluation ends all. */
static void test_evaluation_fails(void) {
    const fc_tokens t = tokens_of(ids, starts, 6),
                    others[] = {tokens_of(ids, ragged, 6), tokens_of(ids + 1, starts, 6)};
    const fc_prune_desc d = wish(&t, FC_METRIC_JS, FC_SEARCH_RACE);
    int stopped = 0;
    begin(3);
    for (int i = 0; i < 2; i++) {
        const fc_prune_desc mine = wish(&others[i], FC_METRIC_JS, FC_SEARCH_RACE);
        odd = &mine;
        judge(&d, FC_PROTOCOL_ALL, NULL);
        odd = NULL;
        failed("unlike", FC_ERR_MISMATCH, "rank 1: expected the model, text, settings");
    }
    ranks[2].cancel_at = 1;
    judge(&d, FC_PROTOCOL_ALL, NULL);
    failed("cancel", FC_ERR_CANCELLED, "rank 2: ");
    ranks[2].cancel_at = 0;
    judge(&d, FC_PROTOCOL_ALL, NULL);
    const long calls = ranks[0].calls;
    for (long k = 1; k <= calls; k++) {
        ranks[1].fail_call = k;
        judge(&d, FC_PROTOCOL_ALL, NULL);
        failed("lost", FC_ERR_IO, "ranks: gather returned");
        ranks[1].fail_call = 0;
    }
    ranks[1].silent = 1;
    for (long k = 1; k < 100; k++) {
        ranks[1].fail_alloc = k;
        judge(&d, FC_PROTOCOL_ALL, NULL);
        if (ranks[1].err.code == FC_OK) break;
        T_OK(ranks[1].err.code == FC_ERR_MEMORY, "silent: %s", fc_code_name(ranks[1].err.code));
    }
    ranks[1].silent = 0;
    for (long k = 1; k < 100; k++) {
        ranks[1].fail_alloc = k;
        judge(&d, FC_PROTOCOL_ALL, NULL);
        if (ranks[1].err.code == FC_OK) break;
        stopped++;
        if (ranks[1].calls) failed("memory", FC_ERR_MEMORY, "rank 1: ");
    }
    T_OK(stopped > 5 && ranks[1].err.code == FC_OK, "memory: %d allocations", stopped);
    T_OK(calls > 2, "lost: only %ld calls", calls);
    end("evaluation fails");
}

/* A file that rank 0 has written, or NULL. */
static const memory_output *file_of(const char *path) {
    for (const memory_output *o = ranks[0].t.world.outputs, *e = o + MEMORY_OUTPUTS; o < e; o++)
        if (o->whole && strcmp(o->path, path) == 0) return o;
    return NULL;
}

static const char *const files[] = {"s/study.json", "s/study.csv", "s/index.html"};
enum { FILES = sizeof files / sizeof *files };

/* Rank 0 has the files of one machine, the others none; and then, that they are gone. */
static void same_files(const char *what, char *want[FILES]) {
    for (uint32_t i = 0; i < hub.n; i++) {
        const rank *r = &ranks[i];
        T_OK(r->err.code == FC_OK, "%s: rank %u: %s", what, i, r->err.msg);
        T_OK(i == 0 || r->t.world.writes == 0, "%s: rank %u wrote", what, i);
    }
    for (int i = 0; i < FILES; i++) {
        const memory_output *o = file_of(files[i]);
        T_OK(o && o->size == strlen(want[i]) && memcmp(o->data, want[i], o->size) == 0,
             "%s: %s by %u ranks is another", what, files[i], hub.n);
    }
    memory_forget(&ranks[0].t.world);
}

static void begin_study(uint32_t n, const fc_study_desc *d) {
    begin(n);
    for (uint32_t i = 0; i < n; i++) ranks[i].studying = d;
}

/* What ends one rank's study ends all; where it stopped it goes on, with any number of ranks. */
static void test_study_fails(const fc_study_desc *d, const fc_prune_desc *p, char *want[FILES]) {
    long k = 1, calls, allocs;
    int stopped = 0;
    begin_study(2, d);
    search(p, NULL);
    calls = ranks[0].calls;
    allocs = ranks[1].t.world.allocs;
    same_files("before it fails", want);
    for (k = 1; k <= calls; k += k < 12 ? 1 : calls / 9) {
        ranks[k % 2].fail_call = k;
        search(p, NULL);
        failed("a study is lost", FC_ERR_IO, "ranks: gather returned");
        ranks[k % 2].fail_call = 0;
        memory_forget(&ranks[0].t.world);
    }
    for (k = 1; k < allocs; k += k < 70 ? 1 : allocs / 9) {
        ranks[1].fail_alloc = k;
        search(p, NULL);
        stopped += ranks[1].err.code == FC_ERR_MEMORY;
        if (ranks[1].err.code && ranks[1].calls) failed("a study's memory", FC_ERR_MEMORY, "");
        ranks[1].fail_alloc = 0;
        memory_forget(&ranks[0].t.world);
    }
    for (k = 1; k < 40; k++) { /* calls by all ranks that only one begins */
        ranks[1].starve_call = k;
        search(p, NULL);
        stopped += ranks[1].err.code == FC_ERR_MEMORY;
        if (ranks[1].err.code) failed("a study is starved", FC_ERR_MEMORY, "");
        ranks[1].starve_call = 0;
        memory_forget(&ranks[0].t.world);
    }
    T_OK(stopped > 70, "a study's memory: %d of %ld allocations", stopped, allocs);
    for (k = 0; k < 200; k++) { /* rank 0 cannot write its fourth file */
        ranks[0].t.world.fail_write = 12;
        search(p, NULL);
        if (ranks[0].err.code == FC_OK) break;
        T_OK(ranks[0].err.code == FC_ERR_IO && ranks[1].err.code, "rank 1: %s", ranks[1].err.msg);
    }
    T_OK(k > 3, "a study that cannot write: only %ld runs", k);
    same_files("a study that could not write", want);
    end("a study fails");
}

static void test_study(void) {
    static const double points[] = {0.2, 0.4}, shares[] = {1, 3, 2};
    const fc_tokens t = tokens_of(ids, ragged, 7), text = tokens_of(ids, starts, 5);
    const fc_prune_desc p = wish(&t, FC_METRIC_JS, FC_SEARCH_RACE); /* not used */
    char *want[FILES];
    fc_study_desc d, more;
    memset(&d, 0, sizeof d);
    d.folder = "s";
    d.calibration = &t;
    d.eval = &text;
    d.metrics = 1u << FC_METRIC_JS | 1u << FC_METRIC_EUCLIDEAN;
    d.points = points;
    d.n_points = 2;
    d.random_plans = 1;
    begin_study(1, &d);
    search(&p, NULL);
    for (int i = 0; i < FILES; i++) {
        const memory_output *o = file_of(files[i]);
        if (!T_OK(o != NULL, "%s: %s", files[i], ranks[0].err.msg)) exit(1);
        want[i] = (char *)calloc(1, o->size + 1);
        if (!want[i]) exit(2);
        memcpy(want[i], o->data, o->size);
    }
    end("study");
    for (uint32_t n = 2; n <= MOST; n++) {
        begin_study(n, &d);
        search(&p, n == 3 ? shares : NULL);
        check_work("study", n == 3 ? shares : NULL, 0.5);
        same_files("study", want);
        end("study");
    }
    test_study_fails(&d, &p, want);
    more = d;
    more.seed = 1;
    begin_study(3, &d);
    ranks[2].studying = &more;
    search(&p, NULL);
    failed("unlike studies", FC_ERR_MISMATCH, "rank 2: expected the model, text, settings");
    end("unlike studies");
    for (int i = 0; i < FILES; i++) free(want[i]);
}

static void test_unlike(void) { /* models, settings, texts, descriptions */
    const fc_tokens t = tokens_of(ids, starts, 6), other = tokens_of(ids, ragged, 6);
    const fc_prune_desc d = wish(&t, FC_METRIC_JS, FC_SEARCH_RACE);
    fc_error err;
    begin(3);
    ranks[2].t.data[7] += 1;
    search(&d, NULL);
    failed("unlike", FC_ERR_MISMATCH, "rank 2: has another model than rank 0");
    ranks[2].t.data[7] -= 1;
    end("unlike");
    for (int k = 0; k < 3; k++) {
        static const char *const says[] = {"rank 1: has another metric: expected js, got angular",
                                           "rank 1: has another calibration",
                                           "rank 1: has other settings than rank 0"};
        fc_prune_desc mine = d;
        if (k == 0) mine.metric = FC_METRIC_ANGULAR;
        if (k == 1) mine.calibration = &other;
        if (k == 2) mine.remove = 2;
        begin(2);
        odd = &mine;
        search(&d, NULL);
        odd = NULL;
        failed("unlike", FC_ERR_MISMATCH, says[k]);
        end("unlike");
    }
    begin(1);
    search(&d, NULL);
    for (int k = 0; k < 4; k++) {
        static const double shares[2][2] = {{1, 0}, {1, (double)INFINITY}};
        fc_prune_desc mine = d;
        fc_ranks r;
        memset(&r, 0, sizeof r);
        r.n_ranks = k == 0 ? 0 : 2;
        r.gather = k == 1 ? NULL : gather;
        r.shares = k > 1 ? shares[k - 2] : NULL;
        mine.ranks = &r;
        T_OK(!fc_prune(ranks[0].m, &mine, &err) && err.code == FC_ERR_ARGUMENT &&
                 strncmp(err.msg, "ranks: ", 7) == 0, "description %d: %s", k, err.msg);
    }
    end("unlike");
}

int main(void) {
    uint32_t state = 7;
    for (size_t i = 0; i < SEQUENCES * LENGTH; i++) {
        state = state * 1664525u + 1013904223u;
        ids[i] = (state >> 16) % 48;
    }
    for (size_t q = 0; q <= SEQUENCES; q++) starts[q] = q * LENGTH;
    for (size_t q = 0; q < SEQUENCES; q++) ragged[q + 1] = ragged[q] + 3 + q * 5 % 13;
    test_plans();
    test_settings();
    test_shares();
    test_time();
    test_memory();
    test_resume();
    test_lost();
    test_no_memory();
    test_cancel();
    test_evaluation();
    test_evaluation_fails();
    test_study();
    test_unlike();
    return t_end("ranks");
}
#else
int main(void) {
    t_skip("searches by several ranks", "this build has no threads");
    return t_end("ranks");
}
#endif
