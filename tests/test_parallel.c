// The pool: every task once, by a worker that runs one at a time, for any number of tasks and
// threads, in pools that are nested, with fewer threads than were asked for, and in the caller's
// own. What a model computes does not depend on any of it.
#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#if !defined(_WIN32) && !defined(FINERCUT_NO_THREADS) && !defined(FINERCUT_NO_POSIX)
#define CAN_REFUSE 1
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
static int n_created, n_allowed = 1 << 30; // threads so far, and how many may be
static pthread_mutex_t create_lock = PTHREAD_MUTEX_INITIALIZER;
static int create_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                         void *arg) {
    pthread_mutex_lock(&create_lock);
    const int n = n_created++;
    pthread_mutex_unlock(&create_lock);
    return n < n_allowed ? pthread_create(thread, attributes, run, arg) : 11;
}
#define pthread_create create_thread
static int n_locks; // of all mutexes
static int count_lock(pthread_mutex_t *m) {
    __atomic_fetch_add(&n_locks, 1, __ATOMIC_RELAXED);
    return pthread_mutex_lock(m);
}
#define pthread_mutex_lock count_lock
#else
static int n_locks;
#define CAN_REFUSE 0
static int n_created, n_allowed = 1 << 30;
#endif
// As on a command line, where other switches may be: 1.
#define FINERCUT_NO_EXPORT 1
#define FINERCUT_NO_REPORT 1
#define FINERCUT_NO_GENERATE 1
#define FINERCUT_NO_TOKENIZER 1
#define FINERCUT_NO_QUANTS 1
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"
#include "memory.h"
#include "t.h"
#include "tiny.h"

enum { MOST_TASKS = 3000, MOST_WORKERS = 128 };

// Each task is only its own worker's, so plain words are enough; the thread sanitizer looks on.
typedef struct job {
    int runs[MOST_TASKS];
    uint64_t result[MOST_TASKS];
    struct {
        int busy, count, overlaps;
        char apart[64];
    } of[MOST_WORKERS];
    uint32_t n_threads;
    int strangers;            // tasks of a worker that is none
    const fci_context *inner; // a context of another pool, which each task uses
} job;

static void inner_task(void *arg, size_t task, uint32_t worker) {
    (void)worker;
    ((uint64_t *)arg)[task] = task * task;
}

static void run_task(void *arg, size_t task, uint32_t worker) {
    job *j = (job *)arg;
    uint64_t h = task + 1, squares[20];
    if (worker >= j->n_threads) {
        j->strangers++;
        return;
    }
    if (j->of[worker].busy++) j->of[worker].overlaps++;
    j->of[worker].count++;
    for (int i = 0; i < 200; i++) h = h * 6364136223846793005u + 1442695040888963407u;
    if (j->inner) {
        fci_parallel_for(j->inner, 20, inner_task, squares);
        for (uint64_t i = 0; i < 20; i++) h += squares[i] == i * i ? 0 : 1;
    }
    j->result[task] = h;
    j->runs[task]++;
    j->of[worker].busy--;
}

static fci_context begin(uint32_t threads, fc_error *err) {
    fc_env env;
    fci_context c;
    memset(&env, 0, sizeof env);
    env.par.n_threads = threads;
    T_OK(fci_context_begin(&c, &env, err) == FC_OK, "%u threads: %s", threads, err->msg);
    return c;
}

// Runs n tasks and says whether each was run once, by workers that there are.
static bool all_once(const fci_context *c, size_t n, const fci_context *inner, job *j) {
    int bad = 0, done = 0;
    memset(j, 0, sizeof *j);
    j->n_threads = c->n_threads;
    j->inner = inner;
    fci_parallel_for(c, n, run_task, j);
    for (size_t i = 0; i < MOST_TASKS; i++) bad += j->runs[i] != (i < n ? 1 : 0);
    for (size_t i = 0; i < MOST_WORKERS; i++) bad += j->of[i].overlaps, done += j->of[i].count;
    return bad == 0 && j->strangers == 0 && done == (int)n;
}

static void test_counts(void) {
    static const size_t counts[] = {0, 1, 2, 3, 7, 100, MOST_TASKS};
    static job first, other;
    fc_error err;
    for (uint32_t threads = 1; threads <= 9; threads += threads < 4 ? 1 : 5) {
        fci_context c = begin(threads, &err);
        T_OK(c.n_threads == threads || !FCI_THREADS, "%u threads: %u", threads, c.n_threads);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            T_OK(all_once(&c, counts[i], NULL, threads == 1 ? &first : &other),
                 "%u threads, %d tasks", threads, (int)counts[i]);
        T_OK(threads == 1 || memcmp(first.result, other.result, sizeof first.result) == 0,
             "%u threads: other results", threads);
        for (int i = 0; i < 300;
             i++) // one job after another, some of them shorter than waking a thread
            if (!all_once(&c, (size_t)(i * 31 % 17), NULL, &other))
                T_OK(0, "%u threads, job %d", threads, i);
        fci_context_end(&c);
        fci_context_end(&c); // gives back what is there
    }
    T_OK(first.of[0].count == MOST_TASKS, "one thread is the caller");
}

// Many more threads than cores: every task once, and locks for jobs, not for tasks.
static void test_many(void) {
    static job j;
    fc_error err;
    fci_context c = begin(MOST_WORKERS, &err);
    T_OK(c.n_threads == MOST_WORKERS || !FCI_THREADS, "%u threads", c.n_threads);
    T_OK(all_once(&c, MOST_TASKS, NULL, &j), "a first job of 128 threads");
    __atomic_store_n(&n_locks, 0, __ATOMIC_RELAXED);
    T_OK(all_once(&c, MOST_TASKS, NULL, &j), "a second job of 128 threads");
    const int locks = __atomic_load_n(&n_locks, __ATOMIC_RELAXED);
    T_OK(locks < 4 * MOST_WORKERS, "%d tasks, %d locks", MOST_TASKS, locks);
    for (size_t i = 0; i < 40; i++)
        T_OK(all_once(&c, i * 37 % 300, NULL, &j), "job %d of 128 threads", (int)i);
    fci_context_end(&c);
}

// Products of ten sequences of 256 tokens are cut into enough tasks for 128 threads.
static void test_split(void) {
    static const size_t columns[] = {192, 576, 1536, 4096, 8192}, ks[] = {576, 1536, 4096};
    fci_context c;
    memset(&c, 0, sizeof c);
    c.n_threads = 128;
    for (int simd = FC_SIMD_SCALAR; simd < FC_SIMD_COUNT; simd++) {
        c.kernels = fci_kernels_pick((fc_simd)simd);
        for (size_t n = 0; n < sizeof columns / sizeof *columns; n++)
            for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
                fci_gemm_job j;
                memset(&j, 0, sizeof j);
                j.c = &c;
                j.tile = fci_gemm_tile(&c, FC_COMPUTE_F32);
                j.m = 2560;
                j.packed = fci_gemm_packed_of(&c, FC_COMPUTE_F32, NULL, j.m, ks[k]);
                j.unit = 1;
                j.column_panels = (columns[n] + j.tile->nr - 1) / j.tile->nr;
                const size_t tasks = fci_gemm_split(&j);
                T_OK(tasks >= 128, "%s, %d columns of %d: %d tasks",
                     fc_simd_name(c.kernels->simd), (int)columns[n], (int)ks[k], (int)tasks);
            }
    }
}

// A task may use another pool, as one model's work may use another model.
static void test_nested(void) {
    static job j;
    fc_error err;
    fci_context outer = begin(1, &err), inner = begin(3, &err);
    T_OK(all_once(&outer, 200, &inner, &j), "a pool inside one thread");
    fci_context_end(&outer);
    outer = begin(4, &err);
    fci_context alone = begin(1, &err);
    T_OK(all_once(&outer, 200, &alone, &j), "one thread inside a pool");
    fci_context_end(&outer);
    fci_context_end(&inner);
    fci_context_end(&alone);
}

typedef struct nest { // each task has a pool of its own
    size_t good[6];
} nest;

static void nest_task(void *arg, size_t task, uint32_t worker) {
    nest *n = (nest *)arg;
    fc_env env;
    fci_context c;
    uint64_t squares[50];
    (void)worker;
    memset(&env, 0, sizeof env);
    env.par.n_threads = 2 + (uint32_t)task % 2;
    if (fci_context_begin(&c, &env, NULL)) return;
    for (int i = 0; i < 20; i++) {
        memset(squares, 0, sizeof squares);
        fci_parallel_for(&c, 50, inner_task, squares);
        for (uint64_t k = 0; k < 50; k++) n->good[task] += squares[k] == k * k;
    }
    fci_context_end(&c);
}

static void test_pools_in_tasks(void) {
    fc_error err;
    nest n;
    fci_context c = begin(3, &err);
    memset(&n, 0, sizeof n);
    fci_parallel_for(&c, 6, nest_task, &n);
    for (size_t i = 0; i < 6; i++)
        T_OK(n.good[i] == 20 * 50, "task %d: %d of 1000", (int)i, (int)n.good[i]);
    fci_context_end(&c);
}

// ---- threads that cannot be started

static void hear(void *user, int level, const char *message) {
    if (level == 0) snprintf((char *)user, 100, "%s", message);
}

static void test_refused(void) {
    static job j;
    fc_error err;
    for (int allowed = 0; allowed <= 5; allowed++) {
        char warning[100] = "", want[100] = "";
        memory w;
        fc_env env;
        fci_context c;
        memset(&w, 0, sizeof w);
        env = memory_env(&w);
        env.par.n_threads = 5;
        env.log.fn = hear;
        env.log.user = warning;
        n_created = 0;
        n_allowed = allowed;
        T_OK(fci_context_begin(&c, &env, &err) == FC_OK, "%s", err.msg);
        const uint32_t got = allowed < 4 ? (uint32_t)allowed + 1 : 5;
        if (allowed < 4) snprintf(want, sizeof want, "only %u of 5 threads could be started", got);
        T_OK(c.n_threads == got && n_created == (allowed < 4 ? allowed + 1 : 4),
             "%d allowed: %u threads", allowed, c.n_threads);
        T_OK(strcmp(warning, want) == 0, "%d allowed: \"%s\"", allowed, warning);
        T_OK(all_once(&c, 500, NULL, &j), "%d allowed: every task is run", allowed);
        fci_context_end(&c);
        T_OK(w.live == 0, "%ld left", w.live);
    }
    n_allowed = 1 << 30;
}

static void test_limits(void) {
    memory w;
    fc_env env;
    fc_error err;
    fci_context c;
    memset(&w, 0, sizeof w);
    env = memory_env(&w);
    env.par.n_threads = 1025;
    T_OK(fci_context_begin(&c, &env, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "1 to 1024, got 1025"),
         "%s", err.msg);
    env.par.n_threads = 0;
    T_OK(fci_context_begin(&c, &env, &err) == FC_OK &&
             c.n_threads == (FCI_THREADS ? fci_platform_cores() : 1),
         "every core: %u", c.n_threads);
    fci_context_end(&c);
    w.fail_alloc = w.allocs + 1;
    env.par.n_threads = 2;
    T_OK(fci_context_begin(&c, &env, &err) == (FCI_THREADS ? FC_ERR_MEMORY : FC_OK),
         "no memory for a pool: %s", err.msg);
    fci_context_end(&c);
    T_OK(w.live == 0, "%ld left", w.live);
}

// ---- the caller's own

typedef struct own {
    int calls, small; // of one task or none
} own;

static void backwards(void *user, size_t n_tasks,
                      void (*fn)(void *arg, size_t task, uint32_t worker), void *arg) {
    own *o = (own *)user;
    o->calls++;
    o->small += n_tasks < 2;
    for (size_t i = n_tasks; i-- > 0;) fn(arg, i, (uint32_t)(i % 3));
}

static void test_own(void) {
    static job j;
    own o = {0, 0};
    fc_env env;
    fc_error err;
    fci_context c;
    memset(&env, 0, sizeof env);
    env.par.n_threads = 3;
    env.par.parallel_for = backwards;
    env.par.user = &o;
    n_created = 0;
    T_OK(fci_context_begin(&c, &env, &err) == FC_OK && c.n_threads == 3 && !c.pool &&
             n_created == 0,
         "no threads of ours: %s", err.msg);
    T_OK(all_once(&c, 50, NULL, &j) && o.calls == 1 && j.of[2].count == 16, "its workers: %d",
         j.of[2].count);
    T_OK(all_once(&c, 1, NULL, &j) && all_once(&c, 0, NULL, &j) && o.calls == 1 && o.small == 0,
         "one task needs no pool");
    fci_context_end(&c);
}

// ---- a model's results

typedef struct results {
    float rows[40 * 90];
    size_t n;
    double nll;
    uint32_t removed[5];
    double scores[5];
} results;

static int keep(void *user, const float *rows, size_t n) {
    results *r = (results *)user;
    memcpy(r->rows + r->n, rows, n * 90 * sizeof *rows);
    r->n += n * 90;
    return 0;
}

static void compute(fc_model *m, const char *what, results *r) {
    uint32_t ids[40];
    size_t starts[] = {0, 13, 14, 40};
    fc_tokens t;
    fc_perplexity p;
    fc_prune_desc desc;
    fc_error err;
    memset(r, 0, sizeof *r);
    memset(&p, 0, sizeof p);
    memset(&t, 0, sizeof t);
    memset(&desc, 0, sizeof desc);
    t.ids = ids;
    t.starts = starts;
    t.n_sequences = 3;
    for (uint32_t i = 0; i < 40; i++) ids[i] = i * 53 % 90;
    desc.calibration = &t;
    desc.remove = 5;
    T_OK(fc_logits(m, &t, NULL, NULL, keep, r, &err) == FC_OK &&
             fc_eval_perplexity(m, &t, NULL, NULL, &p, &err) == FC_OK,
         "%s: %s", what, err.msg);
    r->nll = p.nll;
    fc_plan *plan = fc_prune(m, &desc, &err);
    T_OK(plan != NULL, "%s: %s", what, err.msg);
    for (size_t i = 0; plan && i < 5; i++) {
        r->removed[i] = fc_plan_step(plan, i)->removed;
        r->scores[i] = fc_plan_step(plan, i)->score;
    }
    fc_plan_free(plan);
    fc_model_close(m);
}

static void test_same(void) {
    static const uint32_t threads[] = {2, 3, 4, 8, 128};
    static results one, more;
    static tiny t;
    fc_error err;
    fc_model_desc desc;
    own o = {0, 0};
    tiny_llama(&t, 3, 32, 4, 2, 90);
    fc_model *m = tiny_open(&t, 0, 1, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    compute(m, "one thread", &one);
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        m = tiny_open(&t, 0, threads[i], &err);
        if (T_OK(m != NULL, "%s", err.msg)) compute(m, "threads", &more);
        T_OK(memcmp(&one, &more, sizeof one) == 0, "%u threads: other bits", threads[i]);
    }
    n_created = 0;
    n_allowed = 1;
    m = tiny_open(&t, 0, 4, &err);
    if (T_OK(m && (fc_model_config(m)->n_threads == 2 || !CAN_REFUSE),
             "fewer threads than asked for: %s", err.msg))
        compute(m, "fewer", &more);
    T_OK(memcmp(&one, &more, sizeof one) == 0, "fewer threads than asked for: other bits");
    n_allowed = 1 << 30;
    memset(&desc, 0, sizeof desc);
    desc.env = memory_env(&t.world);
    desc.env.par.n_threads = 3;
    desc.env.par.parallel_for = backwards;
    desc.env.par.user = &o;
    m = fc_model_open("t", &desc, &err);
    if (T_OK(m != NULL, "%s", err.msg)) compute(m, "the caller's pool", &more);
    T_OK(memcmp(&one, &more, sizeof one) == 0 && o.calls > 50 && o.small == 0,
         "the caller's pool: other bits, or %d calls", o.calls);
    T_OK(t.world.live == 0, "%ld left", t.world.live);
    tiny_end(&t);
}

#if CAN_REFUSE
static void count_task(void *arg, size_t task, uint32_t worker) {
    (void)worker;
    ((char *)arg)[task] = 1;
}

// A child has none of its parent's threads, and none to join.
static void test_fork(void) {
    fci_context c;
    fc_env env;
    fc_error err;
    char done[100];
    int status = 1;
    memset(&env, 0, sizeof env);
    env.par.n_threads = 4;
    if (!T_OK(fci_context_begin(&c, &env, &err) == FC_OK, "%s", err.msg)) return;
    fci_parallel_for(&c, sizeof done, count_task, done);
    const pid_t child = fork();
    if (child == 0) {
        alarm(10); // ends it
        fci_context_end(&c);
        _exit(0);
    }
    T_OK(child > 0 && waitpid(child, &status, 0) == child && status == 0,
         "a child closes its parent's pool: status %d", status);
    fci_context_end(&c);
}
#endif

int main(void) {
    test_counts();
    if (CAN_REFUSE) test_many();
    else t_skip("128 threads", "this build has no pthreads");
    test_split();
    test_nested();
    test_pools_in_tasks();
    if (CAN_REFUSE) test_refused();
    else t_skip("threads that cannot be started", "this build has no pthread_create");
#if CAN_REFUSE
    test_fork();
#endif
    test_limits();
    test_own();
    test_same();
    return t_end("parallel");
}
