// FINERCUT_NO_POSIX: what holds of outputs where the C library alone has to tell files apart.
#define FINERCUT_NO_POSIX
#define FINERCUT_NO_SIMD
#define FINERCUT_NO_EXPORT
#define FINERCUT_NO_REPORT
#define FINERCUT_NO_GENERATE
#define FINERCUT_NO_TOKENIZER
#define FINERCUT_NO_QUANTS
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"
#include "t.h"

static char folder[64]; // of a random name: the C library has no process id
static fc_error err;

static const char *at(const char *name) { // in one of four rooms, so that calls may be nested
    static char paths[4][128];
    static unsigned n;
    char *path = paths[n++ % 4];
    snprintf(path, sizeof paths[0], "%s.%s", folder, name);
    return path;
}

static void put(const char *name, const char *text) {
    FILE *f = fopen(at(name), "wb");
    if (!T_OK(f != NULL, "%s", at(name))) return;
    fputs(text, f);
    fclose(f);
}

static void holds(const char *name, const char *text) {
    char *is = t_read(at(name), NULL);
    T_OK(is && strcmp(is, text) == 0, "%s: expected %s, got %s", name, text, is ? is : "nothing");
    free(is);
}

static fc_code check(const char *output, const char *input, int force) {
    const char *const inputs[] = {input};
    fc_env env;
    memset(&env, 0, sizeof env);
    env.force = force;
    return fc_output_check(output, FC_OUTPUT_NPY, inputs, 1, &env, &err);
}

static void write_all(const char *path, const char *text, int keep) {
    fc_output *o = fc_output_open(path, FC_OUTPUT_NPY, NULL, &err);
    if (!T_OK(o != NULL, "%s", err.msg)) return;
    T_OK(fc_output_write(o, text, strlen(text), &err) == FC_OK, "%s", err.msg);
    if (keep) T_OK(fc_output_commit(o, &err) == FC_OK, "%s", err.msg);
    else fc_output_discard(o);
}

int main(void) {
    (void)t_shared;
    snprintf(folder, sizeof folder, "test_c_library.%08lx",
             (unsigned long)(fci_drafts_random() & 0xffffffffu));
    put("in.npy", "\x93NUMPY1");
    put("copy.npy", "\x93NUMPY1");
    put("out.npy", "\x93NUMPY2");
    put("long.npy", "\x93NUMPY12");
    put("empty", "");
    put("none", "");
    T_OK(check(at("in.npy"), at("in.npy"), 1) == FC_ERR_ARGUMENT, "over itself");
    T_OK(check(at("copy.npy"), at("in.npy"), 1) == FC_ERR_ARGUMENT, "another name of it");
    T_OK(check(at("out.npy"), at("in.npy"), 0) == FC_OK, "another file: %s", err.msg);
    T_OK(check(at("long.npy"), at("in.npy"), 0) == FC_OK, "it goes on: %s", err.msg);
    T_OK(check(at("in.npy"), at("long.npy"), 0) == FC_OK, "it ends before: %s", err.msg);
    T_OK(check(at("empty"), at("none"), 0) == FC_OK, "both are empty: %s", err.msg);
    T_OK(check(at("new.npy"), at("in.npy"), 0) == FC_OK, "a new one: %s", err.msg);
    T_OK(check("examples/demo/config.json", "examples/demo", 1) == FC_ERR_ARGUMENT,
         "a model's file");
    T_OK(check("examples/demo/vocab.json", at("in.npy"), 1) == FC_ERR_ARGUMENT,
         "a new one of its parts");
    write_all(at("out.npy"), "\x93NUMPY3", 0);
    holds("out.npy", "\x93NUMPY2");
    write_all(at("out.npy"), "\x93NUMPY3", 1);
    holds("out.npy", "\x93NUMPY3");
    write_all(at("empty"), "lost", 0);
    holds("empty", "");
    write_all(at("empty"), "kept", 1);
    holds("empty", "kept");
    void *file = NULL;
    FILE *null = fopen("/dev/null", "rb");
    if (null && T_OK(fci_platform_start("/dev/null", false, false, &file) == 0, "a device")) {
        T_OK(fci_platform_beside(file) == NULL, "a device is written in place");
        fci_platform_discard(NULL, file);
    }
    if (null) fclose(null);
    else t_skip("a device as an output", "no /dev/null");
    static const char *const names[] = {"in.npy", "copy.npy", "out.npy", "long.npy", "empty",
                                        "none"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        T_OK(remove(at(names[i])) == 0, "%s", names[i]);
    return t_end("test_c_library_c");
}
