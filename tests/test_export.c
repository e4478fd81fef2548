// Exports read back: the same logits as the masked model, kept bytes unchanged, nothing left by a
// failure.
#include "private.h"
#include "memory.h"
#include "export.h"

static bool out_exists(void) {
    return fci_platform_same(out, out);
}

static void check_export(const char *path, fc_export_format format, const char *names,
                         double tolerance) {
    fc_error err;
    fc_export_desc desc;
    fc_model *m = open_f32(path, &err), *again;
    if (!T_OK(m != NULL, "%s: %s", path, err.msg)) return;
    fc_plan *plan = plan_of(m, names);
    memset(&desc, 0, sizeof desc);
    desc.format = format;
    desc.path = out;
    remove_tree(out);
    fc_code code = fc_export(m, plan, &desc, &err);
    if (T_OK(code == FC_OK, "%s to %s: %s", path, fc_export_format_name(format), err.msg) &&
        T_OK((again = open_f32(out, &err)) != NULL, "%s to %s: %s", path,
             fc_export_format_name(format), err.msg)) {
        const double d = apart(logits_under(m, plan), logits_of(again, NULL));
        T_OK(d <= tolerance, "%s to %s: logits differ by %g", path, fc_export_format_name(format),
             d);
        fc_model_close(again);
    }
    T_OK(format == FC_EXPORT_GGUF || format == FC_EXPORT_GGUF_MASKED ||
             fc_export(m, plan, &desc, &err) == FC_ERR_IO,
         "a folder with files is not overwritten");
    fc_plan_free(plan);
    fc_model_close(m);
    remove_tree(out);
}

static void test_forms(void) {
    // The first block without attention, the second with nothing, the last without FFN.
    static const char mixed[] = "attn.0 attn.1 ffn.1 ffn.11",
                      whole[] = "attn.11 ffn.11 ffn.3 attn.3";
    static const char *const inputs[] = {
        "tests/data/llama_f32_bias",        "tests/data/llama_f16_sharded",
        "tests/data/llama_bf16_old_config", "tests/data/llama_f16.gguf",
        "tests/data/llama_q4_1.gguf",       "tests/data/llama_q8_0.gguf"};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        for (int f = 0; f < FC_EXPORT_COUNT; f++) {
            const bool gguf = strstr(inputs[i], ".gguf") != NULL,
                       to_gguf = f == FC_EXPORT_GGUF || f == FC_EXPORT_GGUF_MASKED;
            check_export(inputs[i], (fc_export_format)f, "attn.0 ffn.1",
                         gguf == to_gguf ? 0 : 2e-5);
            check_export(inputs[i], (fc_export_format)f, "", gguf == to_gguf ? 0 : 2e-5);
        }
    for (int f = 0; f < FC_EXPORT_COUNT; f++) {
        const double tolerance = f == FC_EXPORT_GGUF || f == FC_EXPORT_GGUF_MASKED ? 2e-5 : 0;
        check_export("examples/demo", (fc_export_format)f, mixed, tolerance);
        check_export("examples/demo", (fc_export_format)f, whole, tolerance);
    }
}

// Every kept tensor of a quantised file has the bytes it had.
static void test_bytes(void) {
    fc_error err;
    fc_export_desc desc;
    fc_model *m = fc_model_open("tests/data/llama_q4_1.gguf", NULL, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    fc_plan *plan = plan_of(m, "ffn.0");
    memset(&desc, 0, sizeof desc);
    desc.format = FC_EXPORT_GGUF;
    desc.path = out;
    T_OK(fc_export(m, plan, &desc, &err) == FC_OK, "%s", err.msg);
    fc_container *c = fc_container_open(out, NULL, &err);
    if (T_OK(c != NULL, "%s", err.msg)) {
        const fc_container *was = fc_model_container(m);
        for (size_t i = 0; i < fc_container_tensor_count(was); i++) {
            const fc_tensor *t = fc_container_tensor(was, i), *now = fc_container_find(c, t->name);
            if (strncmp(t->name, "blk.0.ffn", 9) == 0) continue;
            T_OK(now && now->type == t->type && now->bytes == t->bytes &&
                     memcmp(now->data, t->data, (size_t)t->bytes) == 0,
                 "%s", t->name);
        }
    }
    fc_container_close(c);
    fc_plan_free(plan);
    fc_model_close(m);
    remove_tree(out);
}

static void test_refused(void) {
    fc_error err;
    fc_export_desc desc;
    fc_model *m = fc_model_open("tests/data/llama_f16.gguf", NULL, &err),
             *other = fc_model_open("tests/data/llama_f32_bias", NULL, &err);
    if (!T_OK(m && other, "%s", err.msg)) return;
    fc_plan *plan = plan_of(other, "ffn.0");
    memset(&desc, 0, sizeof desc);
    desc.format = FC_EXPORT_GGUF;
    desc.path = out;
    T_OK(fc_export(m, plan, &desc, &err) == FC_ERR_MISMATCH, "a plan of another model: %s",
         err.msg);
    desc.path = "tests/data/llama_f16.gguf";
    T_OK(fc_export(m, NULL, &desc, &err) == FC_ERR_ARGUMENT && strstr(err.msg, "another path"),
         "output = input: %s", err.msg);
    desc.path = out;
    desc.format = FC_EXPORT_HF;
    desc.type = FC_DTYPE_Q8_0;
    T_OK(fc_export(m, NULL, &desc, &err) == FC_ERR_ARGUMENT, "blocks in safetensors: %s", err.msg);
    T_OK(fc_export(other, NULL, &desc, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "expected one of F32, F16, BF16 for a directory, got Q8_0"),
         "blocks from a directory to a directory: %s", err.msg);
    desc.format = FC_EXPORT_GGUF;
    desc.type = FC_DTYPE_Q8_0;
    T_OK(fc_export(m, NULL, &desc, &err) == FC_OK, "type from GGUF: %s", err.msg);
    desc.type = FC_DTYPE_Q2_K;
    T_OK(fc_export(m, NULL, &desc, &err) == FC_ERR_ARGUMENT &&
             strstr(err.msg, "for a GGUF file, got Q2_K"),
         "no encoder: %s", err.msg);
    desc.type = FC_DTYPE_Q8_0;
    T_OK(fc_export(other, NULL, &desc, &err) == FC_OK, "type from safetensors: %s", err.msg);
    T_OK(!fci_platform_same(back, out) && out_exists(), "it is there");
    fci_rope *rope = &other->hyper.ropes[0], was = *rope;
    rope->scaling = FCI_ROPE_YARN;
    rope->factor = rope->low = 1;
    rope->high = 8;
    rope->whole_dims = true;
    T_OK(fc_export(other, NULL, &desc, &err) == FC_ERR_UNSUPPORTED &&
             strstr(err.msg, "beta_fast 32"),
         "yarn llama.cpp does not know: %s", err.msg);
    *rope = was;
    desc.path = "tests/data/llama_f32_bias/config.json";
    T_OK(fc_export(other, NULL, &desc, &err) == FC_ERR_ARGUMENT && strstr(err.msg, "another path"),
         "a file of the model's: %s", err.msg);
    desc.path = "tests/data/README.md";
    T_OK(fc_export(other, NULL, &desc, &err) == FC_ERR_MISMATCH &&
             strstr(err.msg, "GGUF file of finercut to replace"),
         "a file of another kind: %s", err.msg);
    desc.path = "/proc/x";
    desc.type = FC_DTYPE_INVALID;
    if (fci_platform_free_bytes("/proc/") == 0) {
        T_OK(fc_export(m, NULL, &desc, &err) == FC_ERR_IO &&
                 strstr(err.msg, "bytes of free space, got 0"),
             "no room: %s", err.msg);
        desc.format = FC_EXPORT_HF;
        T_OK(fc_export(m, NULL, &desc, &err) == FC_ERR_IO &&
                 strstr(err.msg, "bytes of free space, got 0"),
             "no room: %s", err.msg);
    } else t_skip("no room for an export", "no file system without room here");
    remove_tree(out);
    fc_plan_free(plan);
    fc_model_close(m);
    fc_model_close(other);
}

// Placeholders are known by what they add, not by their bytes: other programs write zeros of other
// types.
static void test_placeholders(void) {
    static const unsigned char q4_0[18] = {0,    0x80, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88,
                                           0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88};
    unsigned char one[18], minus[2] = {0, 0x80};
    fc_tensor zeros = {0};
    fc_error err;
    fc_export_desc desc;
    memcpy(one, q4_0, sizeof one);
    one[1] = 0x3c;
    one[9] = 0x98;
    zeros.type = FC_DTYPE_Q4_0;
    zeros.rank = 1;
    zeros.shape[0] = 32;
    zeros.data = q4_0;
    T_OK(fci_config_all_zero(&zeros), "Q4_0 of a scale of -0");
    zeros.data = one;
    T_OK(!fci_config_all_zero(&zeros), "Q4_0 with a number in it");
    memset(&desc, 0, sizeof desc);
    desc.format = FC_EXPORT_GGUF;
    desc.path = out;
    remove_tree(out);
    fc_model *m = fc_model_open("examples/demo", NULL, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    fc_plan *plan = plan_of(m, "attn.0 attn.1 ffn.1 ffn.11");
    T_OK(fc_export(m, plan, &desc, &err) == FC_OK, "%s", err.msg);
    fc_plan_free(plan);
    fc_model_close(m);
    fc_container *c = fc_container_open(out, NULL, &err);
    // the last: block 1 is gone
    const fc_tensor *t = c ? fc_container_find(c, "blk.10.ffn_down.weight") : NULL;
    const uint64_t at = t ? t->offset : 0, n = t ? t->bytes : 0;
    T_OK(t && fci_config_all_zero(t), "a placeholder: %s", err.msg);
    fc_container_close(c);
    FILE *f = fopen(out, "r+b");
    if (!T_OK(f && n, "%s", out)) return;
    fseek(f, (long)at, SEEK_SET);
    for (uint64_t i = 0; i < n; i += 2) fwrite(minus, 1, 2, f);
    fclose(f);
    m = fc_model_open(out, NULL, &err);
    T_OK(m && fc_model_config(m)->n_sublayers == 20, "%s", err.msg);
    fc_model_close(m);
    remove_tree(out);
}

static int demo_open(void *user, const char *path, void **file, uint64_t *size) {
    const size_t n = strlen(in);
    char demo[256];
    snprintf(demo, sizeof demo, "examples/demo%s", path + (strncmp(path, in, n) == 0 ? n : 0));
    return fci_platform_open(user, strncmp(path, in, n) == 0 ? demo : path, file, size);
}

// A folder of the caller's fc_io, which cannot list: its files go along by their names, and nothing
// is asked of the system's folder of that name.
static void test_own_io(void) {
    char path[256];
    fc_model_desc desc;
    fc_export_desc to;
    fc_error err;
    memset(&desc, 0, sizeof desc);
    memset(&to, 0, sizeof to);
    desc.env.io = fci_platform_io();
    desc.env.io.open = demo_open;
    to.format = FC_EXPORT_HF_MASKED;
    to.path = out;
    for (int there = 0; there < 2; there++) { // in the system, too: with a template
        fc_model *m = fc_model_open(in, &desc, &err);
        if (!T_OK(m != NULL, "%s", err.msg)) return;
        T_OK(fc_export(m, NULL, &to, &err) == FC_OK, "%s", err.msg);
        fc_chat *chat = fc_chat_open(m, NULL, &err);
        T_OK(!chat && err.code == FC_ERR_MISMATCH, "no template: %s", err.msg);
        fc_chat_close(chat);
        fc_model_close(m);
        snprintf(path, sizeof path, "%s/tokenizer.json", out);
        T_OK(fci_platform_same(path, path), "%s", path);
        remove_tree(out);
        if (there) break;
        snprintf(path, sizeof path, "%s/" FCI_TEMPLATES_FOLDER, in);
        T_OK(!fci_platform_make_folder(in) && !fci_platform_make_folder(path), "%s", path);
        strcat(path, "/default.jinja");
        FILE *f = fopen(path, "wb");
        T_OK(f && fputs("x", f) >= 0 && !fclose(f), "%s", path);
    }
    remove_tree(in);
}

static long writes_left; // -1: all succeed

static int failing_write(void *user, void *file, const void *data, size_t n) {
    if (writes_left >= 0 && writes_left-- == 0) return ENOSPC;
    return fci_drafts_write(user, file, data, n);
}

// Every write and every allocation fails in turn: an error, and nothing under the final name.
static void test_failures(const char *path, fc_export_format format) {
    memory world;
    fc_error err;
    fc_model_desc model;
    fc_export_desc desc;
    fc_code code = FC_ERR_IO;
    memset(&world, 0, sizeof world);
    memset(&model, 0, sizeof model);
    memset(&desc, 0, sizeof desc);
    model.env.io = fci_platform_io();
    model.env.io.write = failing_write;
    model.env.alloc.realloc = memory_realloc;
    model.env.alloc.user = &world;
    model.env.par.n_threads = 1;
    fc_model *m = fc_model_open(path, &model, &err);
    if (!T_OK(m != NULL, "%s", err.msg)) return;
    fc_plan *plan = plan_of(m, "attn.0 ffn.1");
    desc.format = format;
    desc.path = out;
    fc_model_tokenizer(m, &err); // it stays with the model
    long n, live = world.live;
    for (n = 0; n < 2000 && code; n++) {
        writes_left = n;
        code = fc_export(m, plan, &desc, &err);
        if (code)
            T_OK(code == FC_ERR_IO && !out_exists() && world.live == live, "write %ld: %s", n,
                 err.msg);
    }
    T_OK(code == FC_OK && n > 3, "%s: all writes: %s", path, err.msg);
    remove_tree(out);
    writes_left = -1;
    code = FC_ERR_MEMORY;
    for (n = 1; n < 5000 && code; n++) {
        world.allocs = 0;
        world.fail_alloc = n;
        code = fc_export(m, plan, &desc, &err);
        if (code)
            T_OK(code == FC_ERR_MEMORY && !out_exists() && world.live == live, "allocation %ld: %s",
                 n, err.msg);
    }
    world.fail_alloc = 0;
    T_OK(code == FC_OK && n > 3, "%s: all allocations: %s", path, err.msg);
    remove_tree(out);
    fc_plan_free(plan);
    fc_model_close(m);
    T_OK(world.live == 0, "%ld allocations stay", world.live);
}

// Text becomes the same tokens in what is written, there and back.
static void test_tokenizers(void) {
    static const char text[] =
        "In the beginning God created\nthe heaven, 1234 times; and\t\xc3\xa9 \xe2\x82\xac.";
    fc_error err;
    fc_export_desc desc;
    fc_tokens t[3];
    const char *const paths[] = {"examples/demo", out, back};
    memset(&desc, 0, sizeof desc);
    memset(t, 0, sizeof t);
    for (size_t i = 0; i < 3; i++) {
        fc_model *m = fc_model_open(paths[i], NULL, &err);
        if (!T_OK(m != NULL, "%s: %s", paths[i], err.msg)) break;
        desc.format = i == 0 ? FC_EXPORT_GGUF : FC_EXPORT_HF_MASKED;
        desc.path = paths[i + (i < 2)];
        T_OK(i == 2 || fc_export(m, NULL, &desc, &err) == FC_OK, "%s", err.msg);
        fc_code code =
            fc_tokenize(fc_model_tokenizer(m, &err), text, sizeof text - 1, 1, &t[i], &err);
        T_OK(code == FC_OK && t[i].starts[1] == t[0].starts[1] &&
                 memcmp(t[i].ids, t[0].ids, t[0].starts[1] * sizeof *t[0].ids) == 0,
             "%s: other tokens: %s", paths[i], err.msg);
        fc_model_close(m);
    }
    for (size_t i = 0; i < 3; i++) fc_tokens_free(&t[i]);
    remove_tree(out);
    remove_tree(back);
}

#define TEN "0123456789"
#define LONG_KEY "llama." TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

// Writes one of two parts of a GGUF model: every second tensor, and in the first all keys.
static void write_part(const fc_container *c, uint32_t no, const char *path) {
    const size_t n = fc_container_tensor_count(c);
    fc_error err;
    fci_context context;
    fci_context_basic(&context, NULL);
    fci_keys keys = {fci_buffer_of(&context), 0};
    fci_buffer head = keys.b, data = keys.b;
    for (size_t i = 0; i < c->n_kvs && no == 0; i++)
        fci_keys_copy(&keys, c->kvs[i].key.p, &c->kvs[i]);
    if (no == 0) fci_keys_u32(&keys, LONG_KEY, 7);
    fci_keys_u32(&keys, "split.no", no);
    fci_keys_u32(&keys, "split.count", 2);
    fci_keys_u32(&keys, "split.tensors.count", n);
    fci_puts(&head, "GGUF");
    fci_keys_number(&head, 3, 4);
    fci_keys_number(&head, (n + 1 - no) / 2, 8);
    fci_keys_number(&head, keys.n, 8);
    fci_put(&head, keys.b.p, keys.b.n);
    for (size_t i = no; i < n; i += 2) {
        const fc_tensor *t = fc_container_tensor(c, i);
        fci_keys_text(&head, fci_s(t->name));
        fci_keys_number(&head, t->rank, 4);
        for (uint32_t d = t->rank; d-- > 0;) fci_keys_number(&head, t->shape[d], 8);
        fci_keys_number(&head, (uint64_t)fci_dtype_info(t->type)->gguf, 4);
        fci_keys_number(&head, data.n, 8);
        fci_put(&data, t->data, (size_t)t->bytes);
        while (data.n % 32) fci_put(&data, "", 1);
    }
    while (head.n % 32) fci_put(&head, "", 1);
    fci_put(&head, data.p, data.n);
    T_OK(fc_file_write(path, NULL, head.p, head.n, &err) == FC_OK, "%s", err.msg);
    fci_buffer_free(&keys.b);
    fci_buffer_free(&head);
    fci_buffer_free(&data);
}

// A model in two files becomes the one file that the whole model becomes.
static void test_parts(void) {
    char parts[2][160];
    fc_error err;
    fc_export_desc desc;
    fc_model *whole = open_f32("tests/data/llama_f16.gguf", &err);
    if (!T_OK(whole != NULL, "%s", err.msg)) return;
    for (uint32_t no = 0; no < 2; no++) {
        snprintf(parts[no], sizeof parts[no], "%s-%05u-of-00002.gguf", in, no + 1);
        write_part(fc_model_container(whole), no, parts[no]);
    }
    fc_model *split = open_f32(parts[0], &err);
    memset(&desc, 0, sizeof desc);
    for (int masked = 0; masked < 2 && T_OK(split != NULL, "%s", err.msg); masked++) {
        desc.format = masked ? FC_EXPORT_GGUF_MASKED : FC_EXPORT_GGUF;
        desc.path = out;
        T_OK(fc_export(whole, NULL, &desc, &err) == FC_OK, "whole: %s", err.msg);
        desc.path = back;
        T_OK(fc_export(split, NULL, &desc, &err) == FC_OK, "in parts: %s", err.msg);
        fc_container *a = fc_container_open(out, NULL, &err),
                     *b = fc_container_open(back, NULL, &err);
        T_OK(a && b && fc_container_tensor_count(a) == fc_container_tensor_count(b), "%s", err.msg);
        for (size_t i = 0; a && b && i < fc_container_tensor_count(a); i++) {
            const fc_tensor *t = fc_container_tensor(a, i), *o = fc_container_find(b, t->name);
            T_OK(o && o->bytes == t->bytes && memcmp(o->data, t->data, (size_t)t->bytes) == 0,
                 "%s differs", t->name);
        }
        T_OK(b && fci_gguf_find(b, LONG_KEY), "a long key");
        fc_container_close(a);
        fc_container_close(b);
        remove_tree(out);
        remove_tree(back);
    }
    fc_model_close(split);
    fc_model_close(whole);
    for (int no = 0; no < 2; no++) remove_tree(parts[no]);
}

int main(void) {
    (void)memory_env;
    (void)t_read;
    (void)t_shared;
    own_paths("test_export");
    test_forms();
    test_bytes();
    test_parts();
    test_placeholders();
    test_refused();
    test_failures("tests/data/llama_f16.gguf", FC_EXPORT_GGUF);
    test_failures("tests/data/llama_f16_sharded", FC_EXPORT_GGUF_MASKED);
    test_failures("tests/data/llama_f32_bias", FC_EXPORT_HF);
    test_failures("tests/data/llama_q8_0.gguf", FC_EXPORT_HF_MASKED);
    test_tokenizers();
    test_own_io();
    return t_end("test_export");
}
