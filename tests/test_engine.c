// The engine: lanes in one wave are what each is alone, to the bit, wherever they enter; what
// enters behind a sublayer is what a mask without it gives; caches; masks; ticks; memory.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "engine.h"

#define DATA "tests/data/"

enum { N_SEQUENCES = 4, N_ROWS = 31, MOST_SUBLAYERS = 16 };

// Dense and with experts, parallel blocks, learned positions, windows, two ropes, a rope for long
// texts, norms behind sublayers, stored types.
static const char *const models[] = {DATA "llama_f32_bias", DATA "llama_q4_1.gguf", DATA "mixtral",
                                     DATA "mixtral.gguf",   DATA "qwen3_moe",       DATA "gpt_neox",
                                     DATA "gpt2",           DATA "mistral",         DATA "gemma2",
                                     DATA "gemma3",         DATA "phi3_long",       DATA "stablelm",
                                     DATA "olmo2",          DATA "granite",         DATA "smollm3"};

typedef struct world {
    memory memory;
    fc_model *m;
    size_t d, n_sublayers;
    uint32_t ids[N_ROWS];
    uint8_t all[MOST_SUBLAYERS], none[MOST_SUBLAYERS];
    float *trail[MOST_SUBLAYERS + 1]; // of every sequence alone [N_ROWS, d], the last at the head
} world;

static const size_t starts[N_SEQUENCES + 1] = {0, 12, 13, 28, N_ROWS};

static fc_model *open_model(world *w, const char *path, uint64_t limit, uint32_t threads) {
    fc_model_desc desc;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    desc.env.alloc = memory_env(&w->memory).alloc;
    desc.env.par.n_threads = threads;
    desc.compute = FC_COMPUTE_F32;
    desc.memory_limit = limit;
    fc_model *m = fc_model_open(path, &desc, &err);
    T_OK(m != NULL, "%s: %s", path, err.msg);
    return m;
}

static fci_lane lane_of(const world *w, size_t sequence) {
    fci_lane lane;
    memset(&lane, 0, sizeof lane);
    lane.ids = w->ids + starts[sequence];
    lane.length = (uint32_t)(starts[sequence + 1] - starts[sequence]);
    lane.sequence = (uint32_t)sequence;
    return lane;
}

static float *rows_of(const world *w, size_t sublayer, size_t sequence) {
    return w->trail[sublayer] + starts[sequence] * w->d;
}

static bool same(const world *w, const float *a, const float *b, size_t rows) {
    return memcmp(a, b, rows * w->d * sizeof *a) == 0;
}

static fci_engine engine_of(world *w, size_t rows) {
    fci_engine e;
    fc_error err;
    T_OK(open_engine(&e, w->m, N_ROWS, rows, 0, &err) == FC_OK, "%s", err.msg);
    return e;
}

// Runs every sequence alone and keeps its rows at each sublayer.
static bool world_begin(world *w, const char *path) {
    fc_error err;
    memset(w, 0, sizeof *w);
    w->m = open_model(w, path, 0, 1);
    if (!w->m) return false;
    w->d = fc_model_config(w->m)->hidden_size;
    w->n_sublayers = 2 * fc_model_config(w->m)->n_blocks;
    if (!T_OK(w->n_sublayers <= MOST_SUBLAYERS, "%s: too deep for this test", path)) return false;
    memset(w->all, 1, sizeof w->all);
    for (uint32_t i = 0; i < N_ROWS; i++)
        w->ids[i] = (i * i * 11 + i * 7 + 3) % fc_model_config(w->m)->vocab_size;
    for (size_t s = 0; s <= w->n_sublayers; s++)
        w->trail[s] = (float *)calloc(N_ROWS * w->d, sizeof(float));
    fci_engine e = engine_of(w, N_ROWS);
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        float *trail[MOST_SUBLAYERS + 1];
        fci_lane lane = lane_of(w, i);
        for (size_t s = 0; s <= w->n_sublayers; s++) trail[s] = rows_of(w, s, i);
        lane.trail = trail;
        T_OK(fci_wave_run(&e, &lane, 1, w->all, &err) == FC_OK && lane.row == 0, "%s: %s", path,
             err.msg);
        T_OK(same(w, e.x, rows_of(w, w->n_sublayers, i), lane.length),
             "%s: the last rows are the head's", path);
    }
    fci_engine_close(&e);
    return true;
}

static void world_end(world *w) {
    fc_model_close(w->m);
    for (size_t s = 0; s <= w->n_sublayers; s++) free(w->trail[s]);
    T_OK(w->memory.live == 0, "%ld left", w->memory.live);
}

// ---- lanes

// All sequences in one wave, backwards too, on several threads; some of their trails.
static void test_wave(world *w, const char *path) {
    fc_error err;
    for (int turned = 0; turned < 2; turned++) {
        float *kept = (float *)calloc(N_ROWS * w->d, sizeof(float)), *trail[MOST_SUBLAYERS + 1];
        fci_lane lanes[N_SEQUENCES];
        fci_engine e = engine_of(w, N_ROWS);
        for (size_t i = 0; i < N_SEQUENCES; i++)
            lanes[i] = lane_of(w, turned ? N_SEQUENCES - 1 - i : i);
        memset(trail, 0, sizeof trail);
        trail[w->n_sublayers - 1] = kept;
        lanes[2].trail = trail;
        T_OK(fci_wave_run(&e, lanes, N_SEQUENCES, w->all, &err) == FC_OK, "%s: %s", path,
             err.msg);
        for (size_t i = 0; i < N_SEQUENCES; i++)
            T_OK(same(w, e.x + lanes[i].row * w->d, rows_of(w, w->n_sublayers, lanes[i].sequence),
                      lanes[i].length),
                 "%s: sequence %u in a wave: other bits", path, lanes[i].sequence);
        T_OK(same(w, kept, rows_of(w, w->n_sublayers - 1, lanes[2].sequence), lanes[2].length),
             "%s: its trail: other bits", path);
        T_OK(kept[lanes[2].length * w->d] == 0, "%s: wrote behind a trail", path);
        fci_engine_close(&e);
        free(kept);
    }
}

// Lanes that enter at every block with the rows they had there end as they ended.
static void test_entries(world *w, const char *path) {
    fc_error err;
    const size_t n_blocks = w->n_sublayers / 2;
    fci_lane lanes[N_SEQUENCES * (MOST_SUBLAYERS / 2 + 1)];
    fci_engine e = engine_of(w, N_ROWS * (n_blocks + 1));
    size_t n = 0, bad = 0;
    for (size_t b = 0; b <= n_blocks; b++)
        for (size_t i = 0; i < N_SEQUENCES; i++) {
            lanes[n] = lane_of(w, i);
            lanes[n].entry = (uint32_t)(2 * b);
            lanes[n++].start = b || i % 2 ? rows_of(w, 2 * b, i) : NULL; // or from the tokens
        }
    T_OK(fci_wave_run(&e, lanes, n, w->all, &err) == FC_OK, "%s: %s", path, err.msg);
    for (size_t i = 0; i < n; i++)
        bad += !same(w, e.x + lanes[i].row * w->d, rows_of(w, w->n_sublayers, lanes[i].sequence),
                     lanes[i].length);
    T_OK(bad == 0, "%s: %d of %d entries: other bits", path, (int)bad, (int)n);
    fci_engine_close(&e);
}

// Every candidate of a search in one wave: entered behind sublayer s, and a run without s.
static void test_masks(world *w, const char *path) {
    fc_error err;
    fci_lane lanes[MOST_SUBLAYERS];
    fci_engine wave = engine_of(w, 15 * w->n_sublayers), alone = engine_of(w, N_ROWS);
    for (size_t s = 0; s < w->n_sublayers; s++) {
        lanes[s] = lane_of(w, 2);
        lanes[s].entry = (uint32_t)s + 1;
        lanes[s].start = rows_of(w, s, 2);
    }
    T_OK(fci_wave_run(&wave, lanes, w->n_sublayers, w->all, &err) == FC_OK, "%s: %s", path,
         err.msg);
    for (size_t s = 0; s < w->n_sublayers; s++) {
        uint8_t mask[MOST_SUBLAYERS];
        fci_lane lane = lane_of(w, 2);
        memcpy(mask, w->all, sizeof mask);
        mask[s] = 0;
        T_OK(fci_wave_run(&alone, &lane, 1, mask, &err) == FC_OK, "%s: %s", path, err.msg);
        T_OK(same(w, alone.x, wave.x + lanes[s].row * w->d, lane.length),
             "%s: without sublayer %d: other bits", path, (int)s);
        T_OK(!same(w, alone.x, rows_of(w, w->n_sublayers, 2), lane.length),
             "%s: sublayer %d does something", path, (int)s);
    }
    fci_lane lane = lane_of(w, 2); // nothing at all: the embeddings
    T_OK(fci_wave_run(&alone, &lane, 1, w->none, &err) == FC_OK &&
             same(w, alone.x, rows_of(w, 0, 2), lane.length),
         "%s: without any: other bits", path);
    fci_engine_close(&wave);
    fci_engine_close(&alone);
}

// ---- caches

// Two texts at once, each further on than the other by turns, in pieces.
static void test_caches(world *w, const char *path) {
    static const uint32_t pieces[][2] = {{1, 4}, {3, 1}, {7, 9}, {1, 1}};
    fc_error err;
    uint8_t masks[2][MOST_SUBLAYERS];
    fci_cache caches[2];
    fci_engine e = engine_of(w, N_ROWS);
    memcpy(masks[0], w->all, sizeof masks[0]);
    memcpy(masks[1], w->all, sizeof masks[1]);
    masks[1][2] = 0;
    for (int k = 0; k < 2; k++) { // the whole model, then without block 1's attention
        fci_lane lanes[2];
        float *whole[2], *got[2];
        size_t at[2] = {0, 0}, bad = 0;
        for (size_t i = 0; i < 2; i++) {
            const size_t sequence = 2 * i;
            fci_lane lane = lane_of(w, sequence);
            whole[i] = (float *)malloc(lane.length * w->d * sizeof(float));
            got[i] = (float *)calloc(lane.length * w->d, sizeof(float));
            T_OK(fci_wave_run(&e, &lane, 1, masks[k], &err) == FC_OK, "%s: %s", path, err.msg);
            memcpy(whole[i], e.x, lane.length * w->d * sizeof(float));
            T_OK(fci_cache_open(&caches[i], w->m, masks[k], lane.length, &err) == FC_OK, "%s: %s",
                 path, err.msg);
            caches[i].n_text = lane.length; // so that a rope of long texts turns all of it
            T_OK((caches[i].keys[1] == NULL) == (k == 1) && caches[i].keys[0] &&
                     caches[i].values[0],
                 "%s: room for the attentions that are there", path);
        }
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            for (size_t i = 0; i < 2; i++) {
                lanes[i] = lane_of(w, 2 * i);
                lanes[i].ids += at[i];
                if (lanes[i].length > at[i] + pieces[p][i])
                    lanes[i].length = (uint32_t)at[i] + pieces[p][i];
                lanes[i].length -= (uint32_t)at[i];
                lanes[i].cache = &caches[i];
            }
            T_OK(fci_wave_run(&e, lanes, 2, masks[k], &err) == FC_OK, "%s: %s", path, err.msg);
            for (size_t i = 0; i < 2; i++) {
                memcpy(got[i] + at[i] * w->d, e.x + lanes[i].row * w->d,
                       lanes[i].length * w->d * sizeof(float));
                at[i] += lanes[i].length;
                bad += caches[i].n_past != at[i];
            }
        }
        T_OK(at[0] == 12 && at[1] == 15 && bad == 0, "%s: %d and %d tokens", path, (int)at[0],
             (int)at[1]);
        for (size_t i = 0; i < 2; i++) {
            T_OK(same(w, whole[i], got[i], at[i]), "%s: text %d in pieces, mask %d: other bits",
                 path, (int)i, k);
            fci_cache_close(w->m, &caches[i]);
            free(whole[i]);
            free(got[i]);
        }
    }
    T_OK(fci_cache_bytes(w->m, w->none, 100) == 0, "%s: no attention, no cache", path);
    uint8_t other[sizeof w->all];
    for (size_t i = 0; i < sizeof other; i++) other[i] = w->all[i] ? 7 : 0; // also true
    T_OK(fci_cache_bytes(w->m, other, 9) == fci_cache_bytes(w->m, w->all, 9), "%s: a cache", path);
    fci_engine_close(&e);
}

// ---- ticks and costs

typedef struct ticks {
    double units;
    int n, stop_at;
} ticks;

static int hear(void *user, double units) {
    ticks *t = (ticks *)user;
    t->units += units;
    return ++t->n == t->stop_at;
}

static void test_ticks(world *w, const char *path) {
    fc_error err;
    fci_lane lanes[3];
    ticks t = {0, 0, 0};
    uint8_t mask[MOST_SUBLAYERS];
    double sum = 0;
    fci_engine e = engine_of(w, N_ROWS);
    memcpy(mask, w->all, sizeof mask);
    mask[w->n_sublayers - 1] = 0;
    for (size_t s = 0; s <= w->n_sublayers; s++) sum += e.sublayer_cost[s];
    T_OK(fabs(sum - 1) < 1e-12, "%s: all together are %.15g of a pass", path, sum);
    T_OK(fabs(fci_search_mask_cost(&e, mask, 2) - (1 - e.sublayer_cost[0] - e.sublayer_cost[1] -
                                                   e.sublayer_cost[w->n_sublayers - 1])) < 1e-12,
         "%s: cost of a mask", path);
    e.tick = hear;
    e.tick_user = &t;
    for (size_t i = 0; i < 3; i++) lanes[i] = lane_of(w, i);
    lanes[2].entry = 2;
    lanes[2].start = rows_of(w, 2, 2);
    T_OK(fci_wave_run(&e, lanes, 3, mask, &err) == FC_OK, "%s: %s", path, err.msg);
    const double want = 2 * (e.sublayer_cost[0] + e.sublayer_cost[1]) +
                        3 * (fci_search_mask_cost(&e, mask, 2) - e.sublayer_cost[w->n_sublayers]);
    T_OK(fabs(t.units - want) < 1e-12 && t.n == (int)w->n_sublayers - 1,
         "%s: %d ticks of %g, expected %g", path, t.n, t.units, want);
    t.n = 0;
    t.stop_at = 2;
    T_OK(fci_wave_run(&e, lanes, 3, mask, &err) == FC_ERR_CANCELLED && t.n == 2,
         "%s: stopped after %d: %s", path, t.n, err.msg);
    fci_engine_close(&e);
}

// ---- memory

static void test_limits(world *w, const char *path, size_t length) {
    fc_error err;
    fci_engine e;
    fc_model *m = open_model(w, path, 1000, 1);
    if (!m) return;
    char text[64];
    snprintf(text, sizeof text, "sequences of %d tokens, got 1000", (int)length);
    T_OK(open_engine(&e, m, length, 1000, 0, &err) == FC_ERR_LIMIT && strstr(err.msg, text),
         "%s: %s", path, err.msg);
    const char *says = strstr(err.msg, "at least ");
    const uint64_t least = says ? strtoull(says + 9, NULL, 10) : 0;
    size_t last = 0;
    fc_model_close(m);
    for (int i = -1; i < 8 && least; i++) {
        const uint64_t taken = 5000,
                       limit = taken + (i < 0 ? least - 1 : least + (uint64_t)i * least / 16);
        m = open_model(w, path, limit, 1);
        const long live = w->memory.live;
        const size_t before = w->memory.bytes;
        w->memory.peak = before;
        fc_code code = open_engine(&e, m, length, length + 1000, taken, &err);
        T_OK(code == (i < 0 ? FC_ERR_LIMIT : FC_OK), "%s: limit %d: %s", path, i, err.msg);
        T_OK(w->memory.peak - before <= limit - taken, "%s: limit %d: %d bytes of %d", path, i,
             (int)(w->memory.peak - before), (int)(limit - taken));
        if (!code)
            T_OK(e.capacity >= length && e.capacity >= last && e.head_rows >= 2 &&
                     (i > 0 || e.capacity == length),
                 "%s: limit %d: %d rows", path, i, (int)e.capacity);
        if (!code) last = e.capacity;
        fci_engine_close(&e);
        fci_engine_close(&e); // closed twice
        T_OK(w->memory.live == live, "%s: limit %d: %ld left", path, i, w->memory.live - live);
        fc_model_close(m);
    }
    T_OK(last > length, "%s: more memory, more rows: %d", path, (int)last);
}

// The n'th allocation fails, for every n.
static void test_allocations(world *w, const char *path) {
    fc_error err;
    fci_engine e;
    fci_cache cache;
    const long live = w->memory.live;
    for (long n = 1;; n++) {
        w->memory.allocs = 0;
        w->memory.fail_alloc = n;
        memset(&cache, 0, sizeof cache);
        fc_code code = open_engine(&e, w->m, 12, 24, 0, &err);
        if (!code) code = fci_cache_open(&cache, w->m, w->all, 12, &err);
        const bool done = w->memory.allocs < n;
        T_OK(code == (done ? FC_OK : FC_ERR_MEMORY), "%s: allocation %ld: %s", path, n,
             fc_code_name(code));
        fci_cache_close(w->m, &cache);
        fci_engine_close(&e);
        T_OK(w->memory.live == live, "%s: allocation %ld: %ld left", path, n,
             w->memory.live - live);
        if (done || n > 100) break;
    }
    w->memory.fail_alloc = 0;
}

// Sequences that the model has no positions for.
static void test_positions(void) {
    world w;
    fc_error err;
    size_t longest, ends[] = {0, 65};
    uint32_t ids[65];
    fc_tokens t;
    memset(&w, 0, sizeof w);
    memset(ids, 0, sizeof ids);
    memset(&t, 0, sizeof t);
    t.ids = ids;
    t.starts = ends;
    t.n_sequences = 1;
    w.m = open_model(&w, DATA "gpt2", 0, 1);
    if (!w.m) return;
    const size_t most = fc_model_config(w.m)->max_positions;
    for (ends[1] = most - 1; ends[1] <= most + 1 && ends[1] <= 65; ends[1]++)
        T_OK(fci_tokens_check(w.m, &t, 1, &longest, &err) ==
                 (ends[1] > most ? FC_ERR_ARGUMENT : FC_OK),
             "%d positions: %s", (int)ends[1], err.msg);
    T_OK(strstr(err.msg, "the model's positions") != NULL, "%s", err.msg);
    fc_model_close(w.m);
}

int main(void) {
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        world w;
        if (world_begin(&w, models[i])) {
            test_wave(&w, models[i]);
            test_entries(&w, models[i]);
            test_masks(&w, models[i]);
            test_caches(&w, models[i]);
            test_ticks(&w, models[i]);
            test_limits(&w, models[i], 12);
            test_limits(&w, models[i], 2000);
            test_allocations(&w, models[i]);
        }
        world_end(&w);
    }
    test_positions();
    return t_end("engine");
}
