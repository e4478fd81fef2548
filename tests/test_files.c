// What the command line cannot show: hooks of a caller's fc_io, limits of texts, kinds of files.
#include "private.h"
#include "memory.h"
#include "t.h"

#define OUT "test_files.out"

static const char *failing; // the name of the file whose open gives `failure`
static int failure;

static int failing_open(void *user, const char *path, void **file, uint64_t *size) {
    if (failing && strcmp(fci_base_name(path), failing) == 0) return failure;
    return fci_platform_open(user, path, file, size);
}

// Every optional file of a model: absent is done without, any other failure is said.
static void test_optional(void) {
    static const char *const names[] = {"generation_config.json", "config.json",
                                        "model.safetensors", "tokenizer.json"};
    static const int failures[] = {ENOENT, ENOTDIR, EACCES, EIO, EMFILE, ELOOP, ENAMETOOLONG};
    fc_env env;
    fc_error err;
    memset(&env, 0, sizeof env);
    env.io = fci_platform_io();
    env.io.open = failing_open;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (size_t f = 0; f < sizeof failures / sizeof *failures; f++) {
            fc_model_desc desc;
            fc_tokens ends;
            int there = -1;
            char path[100];
            const bool absent = failures[f] == ENOENT || failures[f] == ENOTDIR;
            memset(&desc, 0, sizeof desc);
            desc.env = env;
            desc.env.par.n_threads = 1;
            failing = NULL;
            fc_model *m = fc_model_open("examples/demo", &desc, &err);
            if (!T_OK(m != NULL, "%s", err.msg)) return;
            failing = names[n];
            failure = failures[f];
            snprintf(path, sizeof path, "examples/demo/%s", names[n]);
            fc_code code = fc_file_there(path, &env, &there, &err);
            T_OK(there == 0 && code == (absent ? FC_OK : FC_ERR_IO), "%s, %d: %s", names[n],
                 failures[f], err.msg);
            if (n < 2) {
                code = fc_end_tokens(m, &ends, &err);
                T_OK(absent || n == 1 || code == FC_ERR_IO, "%s, %d: %s", names[n], failures[f],
                     err.msg);
                T_OK(!absent || code == FC_OK, "%s, %d: %s", names[n], failures[f], err.msg);
                fc_tokens_free(&ends);
            } else if (n == 3) {
                T_OK(!fc_model_tokenizer(m, &err) && err.code == FC_ERR_IO, "%s", err.msg);
            } else if (n == 2) {
                T_OK(!fc_container_open("examples/demo", &env, &err) && err.code == FC_ERR_IO, "%s",
                     err.msg);
            }
            fc_model_close(m);
        }
    failing = NULL;
}

static void test_limit(void) {
    fc_error err;
    fc_text text;
    char *bytes = (char *)calloc(1000001, 1);
    if (!bytes) return;
    T_OK(fc_file_write(OUT, NULL, bytes, 1000000, &err) == FC_OK, "%s", err.msg);
    T_OK(fc_file_read(OUT, NULL, &text, &err) == FC_OK && text.length == 1000000,
         "at the limit: %s", err.msg);
    fc_text_free(&text);
    T_OK(fc_file_write(OUT, NULL, bytes, 1000001, &err) == FC_OK, "%s", err.msg);
    T_OK(fc_file_read(OUT, NULL, &text, &err) == FC_ERR_LIMIT && !text.bytes, "above it: %s",
         err.msg);
    T_OK(fc_file_read("/dev/zero", NULL, &text, &err) != FC_OK && !text.bytes, "no end: %s",
         err.msg);
    remove(OUT);
    free(bytes);
}

static void test_kinds(void) {
    static const struct {
        const char *text;
        size_t n;
        fc_output_kind kind;
    } rows[] = {
#define ROW(text, kind) {text, sizeof text - 1, kind}
        ROW("{\"format\": \"finercut-plan-1\"}", FC_OUTPUT_PLAN),
        ROW(" \n{\"a\": [{\"format\": 1}, \"}\\\"\"], \"format\" :\n\"finercut-plan-2\"}",
            FC_OUTPUT_PLAN),
        ROW("\xef\xbb\xbf{\"format\":\"finercut-plan-1\"}", FC_OUTPUT_PLAN),
        ROW("{\"b\": {\"format\": \"finercut-plan-1\"}}", FC_OUTPUT_ANY),
        ROW("[\"format\", \"finercut-plan-1\"]", FC_OUTPUT_ANY),
        ROW("{\"format\": \"finercut\"}", FC_OUTPUT_ANY),
        ROW("{\"format\"", FC_OUTPUT_ANY),
        ROW("{", FC_OUTPUT_ANY),
        ROW("<svg xmlns=\"\" aria-labelledby=\"fc-title fc-desc\">", FC_OUTPUT_SVG),
        ROW("<svg xmlns=\"\">", FC_OUTPUT_ANY),
        ROW("a \"fc-title fc-desc\"", FC_OUTPUT_ANY),
        ROW("<html>", FC_OUTPUT_ANY),
        ROW("a <svg ", FC_OUTPUT_ANY),
        ROW("step,candidate,value,exact,removed\n", FC_OUTPUT_CSV),
        ROW("step,price\n", FC_OUTPUT_ANY),
        ROW("\x93NUMPY\x01", FC_OUTPUT_NPY),
        ROW("GGUF\x03\0\0\0\x10\0\0\0\0\0\0\0finercut.removed", FC_OUTPUT_GGUF),
        ROW("GGUF\x03\0\0\0\x0c\0\0\0\0\0\0\0general.name", FC_OUTPUT_ANY),
        ROW("GGU", FC_OUTPUT_ANY),
        ROW("\x02\0\0\0\0\0\0\0{}", FC_OUTPUT_SAFETENSORS),
        ROW(FCI_HTML_HEAD "0.2.0 -->\n<svg", FC_OUTPUT_HTML),
        ROW("<!doctype html>\n<html lang='en'>", FC_OUTPUT_ANY),
        ROW("\x89PNG\r\n\x1a\n", FC_OUTPUT_PNG),
        ROW("", FC_OUTPUT_COUNT)};
#undef ROW
    fci_context c;
    fc_error err;
    fc_output_kind kind;
    fci_context_basic(&c, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        T_OK(fc_file_write(OUT, NULL, rows[i].text, rows[i].n, &err) == FC_OK, "%s", err.msg);
        T_OK(fci_output_found(&c, OUT, &kind, &err) == FC_OK && kind == rows[i].kind, "row %d: %d",
             (int)i, (int)kind);
    }
    remove(OUT);
    T_OK(fci_output_found(&c, OUT, &kind, &err) == FC_OK && kind == FC_OUTPUT_COUNT,
         "nothing there");
}

// Two outputs of one name at once: the second is refused, and the first is not disturbed.
static void test_two_at_once(void) {
    fc_error err;
    fc_output *a = fc_output_open(OUT, FC_OUTPUT_NPY, NULL, &err);
    char *text;
    size_t n = 0;
    if (!T_OK(a != NULL, "%s", err.msg)) return;
    T_OK(fc_output_write(a, "\x93NUMPYa", 7, &err) == FC_OK, "%s", err.msg);
    T_OK(!fc_output_open(OUT, FC_OUTPUT_NPY, NULL, &err) && err.code == FC_ERR_IO &&
             strstr(err.msg, "another run is writing it"),
         "%s", err.msg);
    T_OK(fc_output_commit(a, &err) == FC_OK, "%s", err.msg);
    text = t_read(OUT, &n);
    T_OK(text && n == 7 && text[6] == 'a', "it is there");
    free(text);
    remove(OUT);
}

// A file that comes to an output's name after it was begun stays; what was there may change, or go.
// --force is for what was there.
static void test_came_since(void) {
    static const struct { const char *before, *since; } rows[] = {
        {NULL, "\x93NUMPYmine"}, {"\x93NUMPYold", "\x93NUMPYlonger"}, {"", "\x93NUMPYmine"},
        {NULL, NULL}, {"\x93NUMPYold", NULL}, {"", NULL}};
    fc_env env;
    memset(&env, 0, sizeof env);
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        const char *before = rows[i / 2].before, *since = rows[i / 2].since;
        fc_error err;
        char *text;
        size_t n = 0;
        env.force = (int)(i % 2);
        if (before) fc_file_write(OUT, NULL, before, strlen(before), &err);
        fc_output *o = fc_output_open(OUT, FC_OUTPUT_NPY, &env, &err);
        if (!T_OK(o && !fc_output_write(o, "\x93NUMPYnew", 9, &err), "%s", err.msg)) continue;
        remove(OUT);
        if (since) fc_file_write(OUT, NULL, since, strlen(since), &err);
        const fc_code code = fc_output_commit(o, &err);
        const bool came = since && !before;
        T_OK(code == (came ? FC_ERR_IO : FC_OK) &&
                 (!came || strstr(err.msg, OUT ": cannot finish: expected no file there")),
             "row %d: %s", (int)i, code ? err.msg : "replaced");
        if (!came) since = "\x93NUMPYnew";
        text = t_read(OUT, &n);
        T_OK(text && n == strlen(since) && !memcmp(text, since, n), "row %d: it stays", (int)i);
        free(text);
        remove(OUT);
    }
}

// What a folder holds that cannot be listed may be the output, which then is refused.
static void test_unlisted(void) {
#if defined(__unix__)
    char folder[64], config[80], output[80];
    fc_error err;
    snprintf(folder, sizeof folder, "test_files.%ld", (long)getpid());
    snprintf(config, sizeof config, "%s/config.json", folder);
    snprintf(output, sizeof output, "%s/plan.json", folder);
    const char *const inputs[] = {folder};
    const bool root = geteuid() == 0;
    T_OK(fci_platform_make_folder(folder) == 0 && fc_file_write(config, NULL, "{}", 2, &err) == 0,
         "%s", folder);
    T_OK(fc_output_check(output, FC_OUTPUT_PLAN, inputs, 1, NULL, &err) == FC_OK, "%s", err.msg);
    chmod(folder, 0333);
    const bool other = !root || seteuid(65534) == 0;
    if (other && fci_platform_is_folder(folder)) {
        const fc_code code = fc_output_check(output, FC_OUTPUT_PLAN, inputs, 1, NULL, &err);
        T_OK(code == FC_ERR_IO && strstr(err.msg, "cannot list"), "%s", code ? err.msg : "taken");
    } else t_skip("a folder that cannot be listed", "root may list all");
    if (root) T_OK(seteuid(0) == 0, "root again");
    chmod(folder, 0777);
    remove(config);
    fci_platform_remove(folder, true);
#endif
}

static int numbered_open(void *user, const char *path, void **file, uint64_t *size) {
    (void)path;
    ++*(int *)user;
    *file = NULL;
    *size = 2;
    return 0;
}

static int numbered_read(void *user, void *file, void *buffer, uint64_t offset, size_t length) {
    (void)user, (void)offset;
    memset(buffer, 'x', length);
    return file != NULL;
}

static void numbered_close(void *user, void *file) {
    (void)file;
    --*(int *)user;
}

// A handle of the caller's may be anything, NULL too: what was opened is closed.
static void test_null_handles(void) {
    fc_env env;
    fc_error err;
    fc_text text;
    int open = 0, there = 0;
    memset(&env, 0, sizeof env);
    env.io.open = numbered_open;
    env.io.read_at = numbered_read;
    env.io.close = numbered_close;
    env.io.user = &open;
    T_OK(fc_file_read("x", &env, &text, &err) == FC_OK && text.length == 2 && open == 0,
         "%d open after reading: %s", open, err.msg);
    fc_text_free(&text);
    T_OK(fc_file_there("x", &env, &there, &err) == FC_OK && there && open == 0, "%d open: %s", open,
         err.msg);
    T_OK(!fc_plan_load("x", &env, &err) && err.code == FC_ERR_FORMAT && open == 0,
         "%d open after a plan: %s", open, err.msg);
}

int main(void) {
    test_null_handles();
    (void)t_shared;
    (void)memory_env;
    test_optional();
    test_limit();
    test_kinds();
    test_two_at_once();
    test_came_since();
    test_unlisted();
    return t_end("test_files_c");
}
