// finercut prune, eval and study on several machines, by MPI: the same flags, the same plan, the
// same results. Each rank opens the model from its own path, runs its share of the sequences or
// items, and keeps the rows of those.
// Build: make mpi, or mpicc -O2 examples/finercut_mpi.c -o finercut_mpi -lm -pthread
// Run:   mpirun -n 4 ./finercut_mpi prune MODEL --text FILE --samples 32 -o plan.json
//        mpirun -n 4 ./finercut_mpi eval MODEL --text FILE --task arc_easy.jsonl --plan plan.json
//        mpirun -n 4 ./finercut_mpi study MODEL --text FILE --eval FILE -o DIR
//
// Rank 0 alone reads and writes plans and DIR, and says all there is to say. Where a rank is lost,
// all end; the same command goes on (prune with --resume), with any number of ranks.
#define FINERCUT_RANKS
#include "finercut.c"

#include <limits.h>
#include <mpi.h>

// As fc_ranks wants it.
static int gather(void *user, const void *own, size_t size, void *all) {
    const size_t unit = size % 8 ? 1 : 8; // counts are ints
    (void)user;
    if (size / unit > INT_MAX) return MPI_ERR_COUNT;
    const MPI_Datatype type = unit == 8 ? MPI_UINT64_T : MPI_BYTE;
    const int n = (int)(size / unit);
    return MPI_Allgather(own, n, type, all, n, type, MPI_COMM_WORLD);
}

// The highest table that all ranks have.
static void join_simd(session *s) {
    int own = (int)fc_simd_best(), least, there, everywhere;
    if (s->o->simd != FC_SIMD_AUTO && s->o->simd < own) own = s->o->simd;
    MPI_Allreduce(&own, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    there = fc_simd_there((fc_simd)least);
    MPI_Allreduce(&there, &everywhere, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    s->env.simd_max = everywhere ? (fc_simd)least : FC_SIMD_SCALAR;
    if (own != (int)s->env.simd_max && s->o->together->ranks.rank == 0)
        note(s, "all ranks use the %s kernels", fc_simd_name(s->env.simd_max));
}

// The plan that rank 0 goes on from is everybody's.
static int join_plan(session *s) {
    fc_text text;
    memset(&text, 0, sizeof text);
    if (s->plan && fc_plan_save_memory(s->plan, &text, &s->err)) return failed(s);
    uint64_t length = text.length;
    MPI_Bcast(&length, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (length == 0) return STATUS_OK;
    char *bytes = (char *)malloc((size_t)length);
    if (!bytes || length > INT_MAX) return fail("%s: out of memory", s->o->output);
    if (text.length) memcpy(bytes, text.bytes, text.length);
    fc_text_free(&text);
    MPI_Bcast(bytes, (int)length, MPI_BYTE, 0, MPI_COMM_WORLD);
    if (!s->plan) s->plan = fc_plan_load_memory(bytes, (size_t)length, &s->env, &s->err);
    free(bytes);
    return s->plan ? STATUS_OK : failed(s);
}

static int join(session *s) {
    join_simd(s);
    return join_plan(s);
}

// each: NULL: only checks them.
static int given_shares(const command *c, const options *o, uint32_t n, double *each) {
    const char *p = o->rank_shares, *end = p;
    uint32_t i = 0;
    for (; i < n && *p; i++, p = end) {
        char *stop;
        const double share = strtod(p + (i > 0 && *p == ','), &stop);
        end = stop;
        if (each) each[i] = share;
        if (!(share > 0 && share < 1e9) || (*end && *end != ',')) break;
    }
    if (i == n && !*end) return STATUS_OK;
    return misused(c, "--shares: expected %lu numbers above 0 with commas "
                   "between them, got \"%s\"", (unsigned long)n, o->rank_shares);
}

static int measured_shares(session *s, double *each) {
#ifndef FINERCUT_NO_BENCH
    fc_speed speed;
    fc_speed_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.repeat = 2;
    if (fc_speed_prompt(s->model, &desc, &speed, &s->err)) return failed(s);
    if (gather(NULL, &speed.per_second, sizeof *each, each))
        return fail("--balance: the ranks cannot be reached");
    for (uint32_t i = 0; i < s->o->together->ranks.n_ranks; i++)
        note(s, "rank %lu: %.0f tokens a second", (unsigned long)i, each[i]);
    return STATUS_OK;
#else
    (void)each;
    return misused(s->command, "--balance: expected --shares, as this build measures no speed");
#endif
}

static int divide(session *s) {
    fc_ranks *r = &s->o->together->ranks;
    if (s->tokens.ids && s->tokens.n_sequences < r->n_ranks && r->rank == 0)
        note(s, "%llu %s for %lu ranks: some have nothing to do",
             COUNTED(s->tokens.n_sequences, "sequence"), (unsigned long)r->n_ranks);
    if (!s->o->rank_shares && !s->o->balance) return STATUS_OK;
    double *each = (double *)malloc(r->n_ranks * sizeof *each);
    r->shares = each; // freed by main
    if (!each) return fail("out of memory");
    return s->o->balance ? measured_shares(s, each)
                         : given_shares(s->command, s->o, r->n_ranks, each);
}

// Whether the work has ended everywhere, and then what it took.
static int part(session *s) {
    together *t = s->o->together;
    const uint32_t n = t->ranks.n_ranks;
    const double own = t->ranks.lanes;
    double least, most, all;
    uint64_t given;
    t->ended = n == 1 || t->ranks.bytes > 0;
    if (!t->ended) return STATUS_FAILED;
    MPI_Reduce(&own, &least, 1, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
    MPI_Reduce(&own, &most, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(&own, &all, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Reduce(&t->ranks.bytes, &given, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    if (n > 1 && t->ranks.rank == 0 && all > 0)
        note(s, "%lu ranks ran %.1f %% to %.1f %% of the work each, and gave %.0f KB in all",
             (unsigned long)n, 100 * least / all, 100 * most / all, (double)given / 1024);
    return STATUS_OK;
}

static int check_ranks(const command *c, const options *o, int n) {
    const char *names[2];
    if (n > 1 && standard_inputs(c, o, names) > 0)
        return misused(c, "standard input is rank 0's alone: expected a file, got -");
    if (o->rank_shares && o->balance)
        return misused(c, "expected one of --shares and --balance, got both");
    return o->rank_shares ? given_shares(c, o, (uint32_t)n, NULL) : STATUS_OK;
}

// What ranks cannot share, or is asked for wrongly, is rank 0's alone. 1: all go on.
static int all_go(int argc, char **argv, int rank, int n, int *status) {
    const command *c = argc > 1 ? find_command(argv[1]) : NULL;
    int go = c && c->run && (c->run == run_prune || c->run == run_eval || c->run == run_study);
    options o;
    memset(&o, 0, sizeof o);
    if (go && rank == 0) {
        *status = parse(c, argc - 2, argv + 2, &o);
        if (!*status && !o.help) *status = check_ranks(c, &o, n);
        go = !*status && !o.help;
    }
    if (!go && rank == 0 && !*status) *status = finish(dispatch(argc, argv, NULL));
    MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return go;
}

int main(int argc, char **argv) {
    together t;
    int rank, n, thread, status = STATUS_OK;
    prepare();
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &thread);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &n);
    memset(&t, 0, sizeof t);
    t.ranks.rank = (uint32_t)rank;
    t.ranks.n_ranks = (uint32_t)n;
    t.ranks.gather = gather;
    t.join = join;
    t.divide = divide;
    t.part = part;
    if (all_go(argc, argv, rank, n, &status)) {
        status = dispatch(argc, argv, &t);
        if (status == STATUS_OK && rank == 0) status = finish(status);
        if (status != STATUS_OK && !t.ended && n > 1) { // the others wait
            fail("rank %d: failed, so all ranks end", rank);
            MPI_Abort(MPI_COMM_WORLD, status);
        }
    }
    free((void *)(uintptr_t)t.ranks.shares);
    MPI_Finalize();
    return status;
}
