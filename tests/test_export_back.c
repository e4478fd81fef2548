// Every family in every format, under plans that leave much, little or nothing: what fc_export writes is the model that
// was meant, to the logits; what it cannot write it refuses before anything is there.
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"
#include "memory.h"
#include "t.h"

static char out[256];
static int n_written, n_refused;

typedef struct kept {
    fci_buffer *b;
    size_t columns;
} kept;

static int keep(void *user, const float *rows, size_t n) {
    kept *k = (kept *)user;
    fci_put(k->b, rows, n * k->columns * sizeof *rows);
    return 0;
}

static int remove_each(void *user, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", (const char *)user, name);
    if (fci_platform_is_folder(path)) fci_platform_list(path, remove_each, path);
    fci_platform_remove(path, fci_platform_is_folder(path));
    return 0;
}

static void remove_out(void) {
    if (fci_platform_is_folder(out)) fci_platform_list(out, remove_each, out);
    fci_platform_remove(out, fci_platform_is_folder(out));
}

// Sublayer s is removed where what(s, n) says so.
typedef bool (*choice)(uint32_t s, uint32_t n);
static bool none(uint32_t s, uint32_t n) { (void)s; (void)n; return false; }
static bool attentions(uint32_t s, uint32_t n) { (void)n; return s % 2 == FC_KIND_ATTENTION; }
static bool ffns(uint32_t s, uint32_t n) { (void)n; return s % 2 == FC_KIND_FFN; }
static bool all(uint32_t s, uint32_t n) { (void)s; (void)n; return true; }
static bool but_last_block(uint32_t s, uint32_t n) { return s + 2 < n; }
static bool but_first_attention(uint32_t s, uint32_t n) { (void)n; return s != 0; }
static bool but_last_ffn(uint32_t s, uint32_t n) { return s + 1 != n; }
static bool first_block(uint32_t s, uint32_t n) { (void)n; return s < 2; }
static bool some(uint32_t s, uint32_t n) { (void)n; return s == 0 || s == 3; }

static const struct {
    const char *name;
    choice what;
} choices[] = {{"nothing", none}, {"attentions", attentions}, {"FFNs", ffns}, {"everything", all},
               {"all but the last block", but_last_block}, {"all but attn.0", but_first_attention},
               {"all but the last FFN", but_last_ffn}, {"the first block", first_block}, {"attn.0, ffn.1", some}};

static fc_plan *make_plan(const fc_model *m, choice what) {
    fc_error err;
    fci_context c;
    fci_buffer b;
    const uint32_t n = 2 * fc_model_config(m)->n_blocks;
    size_t step = 0;
    char name[24];
    fci_context_basic(&c, NULL);
    memset(&b, 0, sizeof b);
    b.c = &c;
    fci_putf(&b, "{\"format\":\"finercut-plan-1\",\"model\":{\"fingerprint\":\"%s\",\"n_blocks\":%u},\"metric\":\"js\","
             "\"candidates\":\"sublayers\",\"search\":\"race\",\"compute\":\"f32\",\"steps\":[", fc_model_fingerprint(m), n / 2);
    for (uint32_t s = 0; s < n; s++)
        if (what(s, n)) {
            step++;
            fci_putf(&b, "%s{\"step\":%u,\"removed\":\"%s\",\"score\":0.5}", step > 1 ? "," : "", (unsigned)step,
                     fc_candidate_name(FC_CANDIDATES_SUBLAYERS, s, name, sizeof name));
        }
    fci_puts(&b, "]}");
    fc_plan *p = fci_plan_read(b.p, b.n, NULL, &err);
    T_OK(p != NULL, "%s", err.msg);
    fci_buffer_free(&b);
    return p;
}

// Logits of a model under a plan, in float32.
static void logits(fc_model *m, const fc_plan *plan, fci_buffer *b) {
    static uint32_t ids[] = {1, 5, 9, 30, 17, 33, 24, 2};
    static size_t starts[] = {0, 8};
    fc_error err;
    fc_tokens t = {ids, starts, 1, {NULL, NULL}};
    uint8_t mask[256];
    kept k = {b, fc_model_config(m)->vocab_size};
    if (plan) T_OK(fc_plan_mask(plan, m, fc_plan_about(plan)->n_steps, mask, sizeof mask, &err) == FC_OK, "%s", err.msg);
    T_OK(fc_logits(m, &t, plan ? mask : NULL, keep, &k, &err) == FC_OK, "%s", err.msg);
}

static double largest_difference(const fci_buffer *a, const fci_buffer *b) {
    double most = 0;
    for (size_t i = 0; i < a->n / sizeof(float) && a->n == b->n; i++) {
        double d = fabs((double)((const float *)(void *)a->p)[i] - (double)((const float *)(void *)b->p)[i]);
        if (!(d <= most)) most = d;
    }
    return a->n && a->n == b->n ? most : INFINITY;
}

static uint32_t count(choice what, uint32_t n) {
    uint32_t gone = 0;
    for (uint32_t s = 0; s < n; s++) gone += what(s, n);
    return gone;
}

// Refused: by name, before anything is written, and in the words of one who has looked first.
static void check_refusal(const fc_error *err, const char *what) {
    n_refused++;
    T_OK((err->code == FC_ERR_UNSUPPORTED || err->code == FC_ERR_ARGUMENT) && strncmp(err->msg, "format ", 7) == 0 &&
             !strstr(err->msg, "what was written"), "%s: %s", what, err->msg);
    T_OK(!fci_platform_same(out, out), "%s: nothing is left", what);
}

static void check_back(fc_model *m, const fc_plan *plan, choice removed, fc_export_format format, const char *what) {
    fc_error err;
    fc_model_desc desc;
    fci_context c;
    fci_buffer a, b;
    const uint32_t n = 2 * fc_model_config(m)->n_blocks;
    const bool masked = format == FC_EXPORT_HF_MASKED || format == FC_EXPORT_GGUF_MASKED;
    memset(&desc, 0, sizeof desc);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = 1;
    fc_model *back = fc_model_open(out, &desc, &err);
    if (!T_OK(back != NULL, "%s: %s", what, err.msg)) return;
    T_OK(fc_model_config(back)->n_sublayers == (masked ? n : n - count(removed, n)), "%s: %u sublayers", what,
         fc_model_config(back)->n_sublayers);
    fci_context_basic(&c, NULL);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    a.c = b.c = &c;
    logits(m, plan, &a);
    logits(back, NULL, &b);
    double d = largest_difference(&a, &b);
    T_OK(d <= 1e-4, "%s: logits differ by %g", what, d);
    n_written++;
    fci_buffer_free(&a);
    fci_buffer_free(&b);
    fc_model_close(back);
}

static void check_model(const char *path) {
    fc_error err;
    fc_model_desc desc;
    fc_export_desc export;
    char what[400];
    memset(&desc, 0, sizeof desc);
    memset(&export, 0, sizeof export);
    desc.compute = FC_COMPUTE_F32;
    desc.env.par.n_threads = 1;
    fc_model *m = fc_model_open(path, &desc, &err);
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    export.path = out;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        fc_plan *plan = make_plan(m, choices[i].what);
        for (int f = 0; f < FC_EXPORT_COUNT && plan; f++) {
            export.format = (fc_export_format)f;
            snprintf(what, sizeof what, "%s without %s to %s", path, choices[i].name, fc_export_format_name(export.format));
            remove_out();
            if (fc_export(m, plan, &export, &err)) check_refusal(&err, what);
            else check_back(m, plan, choices[i].what, export.format, what);
        }
        fc_plan_free(plan);
    }
    remove_out();
    fc_model_close(m);
}

static int each_model(void *user, const char *name) {
    char path[256];
    const char *end = strrchr(name, '.');
    (void)user;
    snprintf(path, sizeof path, "tests/data/%s", name);
    if (fci_platform_is_folder(path) || (end && strcmp(end, ".gguf") == 0)) check_model(path);
    return 0;
}

int main(void) {
    (void)memory_env;
    (void)t_read;
    (void)t_shared;
    // Hundreds of small files, each of them synced: in memory where there is such a folder.
    snprintf(out, sizeof out, "%s/test_export_back.%d", fci_platform_is_folder("/dev/shm") ? "/dev/shm" : "build", (int)getpid());
    fci_platform_make_folder("build");
    T_OK(fci_platform_list("tests/data", each_model, NULL) == 0, "tests/data");
    T_OK(n_written > 600 && n_refused > 20, "%d exports read back, %d refused", n_written, n_refused);
    printf("%d exports read back, %d refused\n", n_written, n_refused);
    return t_end("test_export_back");
}
