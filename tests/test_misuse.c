// Every public function called wrongly: NULL where something must be given, zero and huge numbers,
// values that no enum has, tokens that contradict themselves, a world with holes. Each answers with
// an error that says what was expected, or with nothing; none crashes, and `out` is safe to free.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "tokens.h"

static fc_error err;
static fc_model *model;
static fc_tokens good;

static int refused(fc_code want, fc_code code, const char *words, const char *what) {
    return T_OK(code == want && err.code == want && strstr(err.msg, words) &&
                    !strchr(err.msg, '\n'),
                "%s: %s, \"%s\" without \"%s\"", what, fc_code_name(code), err.msg, words);
}
#define REFUSED(wanted, call, words) (memset(&err, 0, sizeof err), refused(FC_ERR_##wanted, call, \
    words, #call))
#define NO_HANDLE(wanted, call, words) (memset(&err, 0, sizeof err), T_OK(!(call), "%s: no NULL", \
    #call), refused(FC_ERR_##wanted, err.code, words, #call))

static int sink(void *user, const float *rows, size_t n) {
    (void)user, (void)rows, (void)n;
    return 0;
}

// Every value of an enum has a name that gives the value back; no other has.
#define NAMES(type, count)                                                                         \
    do {                                                                                           \
        type value;                                                                                \
        for (int i = 0; i < (int)(count); i++)                                                     \
            T_OK(type##_parse(type##_name((type)i), &value, NULL) == FC_OK && (int)value == i,     \
                 #type " %d: %s", i, type##_name((type)i));                                        \
        T_OK(!strcmp(type##_name((type)(count)), "unknown") &&                                     \
             !strcmp(type##_name((type)-1), "unknown"), #type ": names of what is not there");     \
        value = (type)1;                                                                           \
        REFUSED(ARGUMENT, type##_parse(NULL, &value, &err), "got NULL");                           \
        REFUSED(ARGUMENT, type##_parse("", &value, &err), type##_name((type)0));                   \
        REFUSED(ARGUMENT, type##_parse("Wrong", &value, &err), "got \"Wrong\"");                   \
        REFUSED(ARGUMENT, type##_parse(type##_name((type)0), NULL, &err), "a place");              \
        T_OK((int)value == 1, #type ": what fails changes nothing");                               \
    } while (0)

static void test_names(void) {
    char name[24];
    NAMES(fc_code, FC_CODE_COUNT);
    NAMES(fc_simd, FC_SIMD_COUNT);
    NAMES(fc_dtype, FC_DTYPE_COUNT);
    NAMES(fc_compute, FC_COMPUTE_COUNT);
    NAMES(fc_kind, FC_KIND_COUNT);
    NAMES(fc_metric, FC_METRIC_COUNT);
    NAMES(fc_candidates, FC_CANDIDATES_COUNT);
    NAMES(fc_search, FC_SEARCH_COUNT);
    NAMES(fc_page_use, FC_PAGE_COUNT);
    NAMES(fc_output_kind, FC_OUTPUT_COUNT);
    NAMES(fc_escape, FC_ESCAPE_COUNT);
    NAMES(fc_role, FC_ROLE_COUNT);
    NAMES(fc_protocol, FC_PROTOCOL_COUNT);
    NAMES(fc_export_format, FC_EXPORT_COUNT);
    T_OK(!fc_candidate_name(FC_CANDIDATES_SUBLAYERS, 1, NULL, 24) &&
             !fc_candidate_name(FC_CANDIDATES_SUBLAYERS, 1, name, 0),
         "no room for a name");
    T_OK(!strcmp(fc_candidate_name(FC_CANDIDATES_SUBLAYERS, 3, name, 4), "ffn"), "cut: %s", name);
    T_OK(strcmp(fc_candidate_name((fc_candidates)99, UINT32_MAX, name, sizeof name),
                "ffn.2147483647") == 0,
         "the longest name: %s", name);
    T_OK(strcmp(fc_candidate_name(FC_CANDIDATES_BLOCKS, UINT32_MAX, name, sizeof name),
                "block.4294967295") == 0,
         "the longest name: %s", name);
    T_OK(strstr(fc_build_info(), FINERCUT_VERSION) != NULL &&
             strstr(fc_build_info(), fc_simd_name(fc_simd_best())) != NULL,
         "%s", fc_build_info());
    snprintf(name, sizeof name, "%d.%d.%d", FINERCUT_VERSION_MAJOR, FINERCUT_VERSION_MINOR,
             FINERCUT_VERSION_PATCH);
    T_OK(!strcmp(name, FINERCUT_VERSION) && fc_version() == FINERCUT_VERSION_NUMBER &&
             fc_version() == 10000 * FINERCUT_VERSION_MAJOR + 100 * FINERCUT_VERSION_MINOR +
                                 FINERCUT_VERSION_PATCH,
         "%s, %u", name, fc_version());
}

static void test_files(void) {
    fc_text text;
    REFUSED(ARGUMENT, fc_file_read(NULL, NULL, &text, &err), "fc_file_read: expected a path");
    REFUSED(ARGUMENT, fc_file_read("x", NULL, NULL, &err), "fc_file_read");
    REFUSED(ARGUMENT, fc_file_write(NULL, NULL, "x", 1, &err), "fc_file_write");
    REFUSED(ARGUMENT, fc_file_write("", NULL, "x", 1, &err), "an empty one");
    REFUSED(ARGUMENT, fc_file_write("/nowhere/x", NULL, NULL, 1, &err), "fc_file_write");
    REFUSED(IO, fc_file_write("/nowhere/x", NULL, "x", 1, &err), "/nowhere/x");
    REFUSED(IO, fc_file_read("/nowhere/x", NULL, &text, &err), "/nowhere/x");
    T_OK(text.bytes == NULL && text.length == 0, "nothing was read");
    T_OK(fc_file_read(NULL, NULL, NULL, NULL) == FC_ERR_ARGUMENT &&
             fc_file_write(NULL, NULL, NULL, 0, NULL) == FC_ERR_ARGUMENT,
         "nowhere to tell");
    fc_output *o = fc_output_open("/nowhere/x", FC_OUTPUT_ANY, NULL, &err);
    T_OK(!o && err.code == FC_ERR_IO, "/nowhere: %s", err.msg);
    NO_HANDLE(ARGUMENT, fc_output_open(NULL, FC_OUTPUT_ANY, NULL, &err),
              "output: expected the path");
    NO_HANDLE(ARGUMENT, fc_output_open("x", FC_OUTPUT_COUNT, NULL, &err),
              "output: expected the path");
    REFUSED(ARGUMENT, fc_output_write(NULL, "x", 1, &err), "fc_output_write: expected an output");
    REFUSED(ARGUMENT, fc_output_commit(NULL, &err), "fc_output_commit: expected an output");
    fc_output_discard(NULL);
    REFUSED(ARGUMENT, fc_output_check(NULL, FC_OUTPUT_PLAN, NULL, 0, NULL, &err),
            "output: expected a path");
    REFUSED(ARGUMENT, fc_output_check("", FC_OUTPUT_PLAN, NULL, 0, NULL, &err),
            "output: expected a path");
    REFUSED(ARGUMENT, fc_output_check("x", (fc_output_kind)-1, NULL, 0, NULL, &err),
            "an unknown kind");
    REFUSED(ARGUMENT, fc_output_check("x", FC_OUTPUT_PLAN, NULL, 1, NULL, &err),
            "x: expected its inputs, got NULL");
    int there = 0;
    REFUSED(ARGUMENT, fc_file_there(NULL, NULL, &there, &err), "fc_file_there: expected a path");
    REFUSED(ARGUMENT, fc_file_there("x", NULL, NULL, &err), "fc_file_there");
    fc_text_free(NULL);
    fc_tokens_free(NULL);
    fc_text_free(&text);
    fc_text_free(&text);
}

// Every call that takes a world refuses one that is there in part.
static void part_of_a_world(const fc_io *io) {
    static const char words[] = "fc_io: expected open, read_at and close";
    fc_env env;
    fc_model_desc desc;
    fc_tokens tokens;
    fc_text text;
    int there;
    memset(&env, 0, sizeof env);
    env.io = *io;
    memset(&desc, 0, sizeof desc);
    desc.env = env;
    REFUSED(ARGUMENT, fc_file_read("x", &env, &text, &err), words);
    REFUSED(ARGUMENT, fc_file_write("x", &env, "1", 1, &err), words);
    REFUSED(ARGUMENT, fc_file_there("x", &env, &there, &err), words);
    REFUSED(ARGUMENT, fc_output_check("x", FC_OUTPUT_PLAN, NULL, 0, &env, &err), words);
    NO_HANDLE(ARGUMENT, fc_output_open("x", FC_OUTPUT_PLAN, &env, &err), words);
    NO_HANDLE(ARGUMENT, fc_container_open("x", &env, &err), words);
    NO_HANDLE(ARGUMENT, fc_tokenizer_open("x", &env, &err), words);
    NO_HANDLE(ARGUMENT, fc_model_open("x", &desc, &err), words);
    NO_HANDLE(ARGUMENT, fc_plan_load("x", &env, &err), words);
    REFUSED(ARGUMENT, fc_plan_replaceable("x", &env, &err), words);
    REFUSED(ARGUMENT, fc_tokens_parse_json("[[1]]", 5, &env, &tokens, &err), words);
    REFUSED(ARGUMENT, fc_prune_file("x", "y", NULL, "z", &env, &err), words);
}

// Worlds with a hole, and with one function alone.
static void test_world(void) {
    memory files;
    fc_text text;
    memset(&files, 0, sizeof files);
    memory_add(&files, "x", "1", 1);
    for (int hole = 0; hole < 18; hole++) {
        fc_env whole = memory_env(&files);
        fc_io none, *io = hole < 9 ? &whole.io : &none, *from = hole < 9 ? &none : &whole.io;
        memory_writable(&whole);
        memset(&none, 0, sizeof none);
        switch (hole % 9) {
        case 0: io->open = from->open; break;
        case 1: io->read_at = from->read_at; break;
        case 2: io->close = from->close; break;
        case 3: io->map = from->map; break;
        case 4: io->unmap = from->unmap; break;
        case 5: io->create = from->create; break;
        case 6: io->write = from->write; break;
        case 7: io->commit = from->commit; break;
        default: io->discard = from->discard;
        }
        part_of_a_world(io);
    }
    fc_env env = memory_env(&files);
    REFUSED(ARGUMENT, fc_file_write("y", &env, "x", 1, &err), "the fc_io in use cannot write");
    REFUSED(ARGUMENT, fc_output_check("y", FC_OUTPUT_ANY, NULL, 0, &env, &err),
            "y: the fc_io in use cannot write");
    NO_HANDLE(ARGUMENT, fc_output_open("y", FC_OUTPUT_ANY, &env, &err),
              "y: the fc_io in use cannot write");
    env.io.map = NULL;
    env.io.unmap = NULL;
    T_OK(fc_file_read("x", &env, &text, &err) == FC_OK && text.length == 1,
         "files that are only read: %s", err.msg);
    fc_text_free(&text);
    T_OK(files.live == 0, "%ld left open", files.live);

    fc_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.env.par.n_threads = 100000;
    NO_HANDLE(ARGUMENT, fc_model_open("examples/demo", &desc, &err),
              "threads: expected 1 to 1024, got 100000");
    memset(&desc, 0, sizeof desc);
    desc.memory_limit = 1;
    fc_model *m = fc_model_open("examples/demo", &desc, &err);
    if (m) REFUSED(LIMIT, fc_logits(m, &good, NULL, NULL, sink, NULL, &err), "memory");
    else refused(FC_ERR_LIMIT, err.code, "memory", "a limit of one byte");
    fc_model_close(m);
}

static void test_containers(void) {
    char text[8] = "before";
    NO_HANDLE(ARGUMENT, fc_container_open(NULL, NULL, &err), "fc_container_open: expected a path");
    NO_HANDLE(IO, fc_container_open("/nowhere", NULL, &err), "/nowhere");
    fc_container_close(NULL);
    T_OK(fc_container_kind(NULL)[0] == 0 && fc_container_bytes(NULL) == 0 &&
             fc_container_tensor_count(NULL) == 0 && !fc_container_tensor(NULL, 0) &&
             !fc_container_find(NULL, "x") && fc_container_metadata_count(NULL) == 0 &&
             !fc_container_metadata_key(NULL, 0),
         "no container");
    T_OK(fc_container_metadata_text(NULL, 0, text, sizeof text) == 0 && text[0] == 0,
         "no container has no text");
    const fc_container *c = fc_model_container(model);
    T_OK(!fc_container_tensor(c, SIZE_MAX) &&
             !fc_container_tensor(c, fc_container_tensor_count(c)) && !fc_container_find(c, NULL) &&
             !fc_container_find(c, ""),
         "tensors that are not there");
    T_OK(!fc_container_metadata_key(c, SIZE_MAX) &&
             fc_container_metadata_text(c, SIZE_MAX, text, sizeof text) == 0,
         "metadata that is not there");
    T_OK(fc_container_metadata_text(c, 0, NULL, 100) == fc_container_metadata_text(c, 0, text, 0),
         "no room for the text");
}

static void test_tokenizers(void) {
    const fc_tokenizer *t = fc_model_tokenizer(model, &err);
    const uint32_t ids[] = {UINT32_MAX, 0};
    fc_tokens out;
    fc_text text;
    if (!T_OK(t != NULL, "tokenizer: %s", err.msg)) return;
    NO_HANDLE(ARGUMENT, fc_tokenizer_open(NULL, NULL, &err), "fc_tokenizer_open: expected a path");
    NO_HANDLE(ARGUMENT, fc_model_tokenizer(NULL, &err), "fc_model_tokenizer");
    fc_tokenizer_close(NULL);
    T_OK(fc_tokenizer_vocab_size(NULL) == 0 && fc_tokenizer_description(NULL)[0] == 0,
         "no tokenizer");
    REFUSED(ARGUMENT, fc_tokenize(NULL, "x", 1, 0, &out, &err),
            "fc_tokenize: expected a tokenizer");
    REFUSED(ARGUMENT, fc_eval_windows(NULL, "a", 1, FC_PROTOCOL_ALL, 1, &out, &err), "a tokenizer");
    REFUSED(ARGUMENT, fc_eval_windows(t, NULL, 1, FC_PROTOCOL_ALL, 1, &out, &err), "a text");
    REFUSED(ARGUMENT, fc_eval_windows(t, "a", 1, FC_PROTOCOL_ALL, 1, NULL, &err), "a place");
    REFUSED(ARGUMENT, fc_eval_windows(t, "a", 1, (fc_protocol)7, 1, &out, &err), "protocol");
    REFUSED(ARGUMENT, fc_eval_windows(t, "a", 1, FC_PROTOCOL_ALL, 0, &out, &err), "length");
    REFUSED(ARGUMENT, fc_eval_windows(t, "", 0, FC_PROTOCOL_ALL, 1, &out, &err), "one token");
    REFUSED(ARGUMENT, fc_tokenize(t, NULL, 1, 0, &out, &err), "fc_tokenize");
    REFUSED(ARGUMENT, fc_tokenize(t, "x", 1, 0, NULL, &err), "fc_tokenize");
    REFUSED(ARGUMENT, fc_tokenize(t, "x", 1, 8, &out, &err), "unknown flags 8");
    T_OK(fc_tokenize(t, NULL, 0, 0, &out, &err) == FC_OK && out.n_sequences == 1,
         "no text is a text: %s", err.msg);
    fc_tokens_free(&out);
    REFUSED(ARGUMENT, fc_detokenize(NULL, ids, 1, &text, &err), "fc_detokenize");
    REFUSED(ARGUMENT, fc_detokenize(t, NULL, 1, &text, &err), "fc_detokenize");
    REFUSED(ARGUMENT, fc_detokenize(t, ids, 1, NULL, &err), "fc_detokenize");
    T_OK(fc_detokenize(t, ids, 1, &text, &err) == FC_OK && text.length == 0,
         "an id without a token adds nothing");
    fc_text_free(&text);
    REFUSED(ARGUMENT, fc_calibration_cut(NULL, "x", 1, 1, 1, &out, &err), "fc_calibration_cut");
    REFUSED(ARGUMENT, fc_calibration_cut(t, NULL, 1, 1, 1, &out, &err), "fc_calibration_cut");
    REFUSED(ARGUMENT, fc_calibration_cut(t, "x", 1, 1, 1, NULL, &err), "fc_calibration_cut");
    REFUSED(ARGUMENT, fc_calibration_cut(t, "x", 1, 0, 1, &out, &err), "samples");
    REFUSED(ARGUMENT, fc_calibration_cut(t, "x", 1, 1, 0, &out, &err), "length");
    REFUSED(ARGUMENT, fc_calibration_cut(t, "\n\r\n", 3, 1, 1, &out, &err), "text");
    T_OK(fc_calibration_cut(t, "some words", 10, UINT32_MAX, UINT32_MAX, &out, &err) == FC_OK &&
             out.n_sequences == 1,
         "one short sequence: %s", err.msg);
    fc_tokens_free(&out);
    REFUSED(ARGUMENT, fc_tokens_parse_json(NULL, 1, NULL, &out, &err), "fc_tokens_parse_json");
    REFUSED(ARGUMENT, fc_tokens_parse_json("[[1]]", 5, NULL, NULL, &err), "fc_tokens_parse_json");
    REFUSED(FORMAT, fc_tokens_parse_json(NULL, 0, NULL, &out, &err), "");
    fc_tokens_free(&out);
}

// Tokens that contradict themselves, wherever tokens are taken.
static void test_tokens(void) {
    uint32_t ids[] = {1, 2, 3, 4}, wild[] = {1, UINT32_MAX};
    size_t starts[] = {0, 4}, back[] = {0, 3, 1}, none[] = {0, 0}, two[] = {0, 2}, late[] = {1, 4};
    const struct {
        fc_tokens tokens;
        const char *words;
    } cases[] = {{tokens_of(NULL, starts, 1), "at least one sequence"},
                 {tokens_of(ids, NULL, 1), "at least one sequence"},
                 {tokens_of(ids, starts, 0), "at least one sequence"},
                 {tokens_of(ids, back, 2), "end after its start"},
                 {tokens_of(ids, none, 1), "at least 1 token"},
                 {tokens_of(wild, two, 1), "expected an id below"}};
    fc_perplexity perplexity;
    fc_prune_desc desc;
    fc_tokens out;
    memset(&desc, 0, sizeof desc);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        desc.calibration = &cases[i].tokens;
        REFUSED(ARGUMENT,
                fc_eval_perplexity(model, &cases[i].tokens, NULL, NULL, &perplexity, &err),
                cases[i].words);
        REFUSED(ARGUMENT, fc_logits(model, &cases[i].tokens, NULL, NULL, sink, NULL, &err),
                cases[i].words);
        NO_HANDLE(ARGUMENT, fc_prune(model, &desc, &err), cases[i].words);
    }
    const fc_tokens part = tokens_of(ids, late, 1);
    desc.calibration = &part;
    NO_HANDLE(ARGUMENT, fc_prune(model, &desc, &err), "expected it to start at 0, got 1");
    REFUSED(ARGUMENT, fc_eval_perplexity(model, NULL, NULL, NULL, &perplexity, &err),
            "at least one sequence");
    REFUSED(ARGUMENT, fc_eval_perplexity(NULL, &good, NULL, NULL, &perplexity, &err),
            "fc_eval_perplexity");
    REFUSED(ARGUMENT, fc_eval_perplexity(model, &good, NULL, NULL, NULL, &err),
            "fc_eval_perplexity");
    REFUSED(ARGUMENT, fc_eval_sequences(NULL, &good, NULL, &perplexity, &err), "a model");
    REFUSED(ARGUMENT, fc_eval_sequences(model, &good, NULL, NULL, &err), "a place");
    REFUSED(ARGUMENT, fc_eval_sequences(model, NULL, NULL, &perplexity, &err), "one sequence");
    fc_eval_desc strange;
    memset(&strange, 0, sizeof strange);
    strange.protocol = (fc_protocol)99;
    REFUSED(ARGUMENT, fc_eval_sequences(model, &good, &strange, &perplexity, &err), "protocol");
    REFUSED(ARGUMENT, fc_logits(NULL, &good, NULL, NULL, sink, NULL, &err), "fc_logits");
    REFUSED(ARGUMENT, fc_logits(model, &good, NULL, NULL, NULL, NULL, &err), "fc_logits");
    REFUSED(ARGUMENT, fc_tokens_windows(NULL, 4, &out, &err), "fc_tokens_windows");
    REFUSED(ARGUMENT, fc_tokens_windows(&cases[0].tokens, 4, &out, &err), "fc_tokens_windows");
    REFUSED(ARGUMENT, fc_tokens_windows(&good, 4, NULL, &err), "fc_tokens_windows");
    REFUSED(ARGUMENT, fc_tokens_join(NULL, &good, &out, &err), "fc_tokens_join");
    REFUSED(ARGUMENT, fc_tokens_join(&good, &good, NULL, &err), "fc_tokens_join");
    out = good;
    REFUSED(ARGUMENT, fc_tokens_windows(&out, 1, &out, &err), "expected another place");
    REFUSED(ARGUMENT, fc_tokens_join(&out, &good, &out, &err), "expected another place");
    REFUSED(ARGUMENT, fc_tokens_join(&good, &out, &out, &err), "expected another place");
    T_OK(out.ids == good.ids && out.starts == good.starts, "tokens in their result's place stay");
    REFUSED(ARGUMENT, fc_tokens_windows(&good, 0, &out, &err), "length");
    REFUSED(ARGUMENT, fc_tokens_windows(&cases[4].tokens, 1, &out, &err), "at least one token");
    T_OK(fc_tokens_windows(&good, UINT32_MAX, &out, &err) == FC_OK && out.n_sequences == 1,
         "one window: %s", err.msg);
    fc_tokens_free(&out);
    for (int i = 0; i < 2; i++) {
        const fc_tokens *wrong = &cases[3].tokens;
        memset(&out, 1, sizeof out);
        REFUSED(ARGUMENT, fc_tokens_join(i ? wrong : &good, i ? &good : wrong, &out, &err),
                cases[3].words);
        T_OK(!out.ids && !out.starts, "joined to what goes back: safe to free");
    }
    memset(&out, 1, sizeof out);
    REFUSED(ARGUMENT, fc_tokens_windows(&cases[3].tokens, 1, &out, &err), cases[3].words);
    T_OK(!out.ids && !out.starts, "windows of what goes back: safe to free");
    T_OK(fc_tokens_join(&part, &part, &out, &err) == FC_OK && out.n_sequences == 2 &&
             out.starts[1] == 3 && out.starts[2] == 6 && out.ids[0] == 2 && out.ids[3] == 2,
         "what begins late: %s", err.msg);
    fc_tokens_free(&out);
    T_OK(fc_tokens_join(&good, &good, &out, &err) == FC_OK && out.n_sequences == 2 &&
             out.starts[2] == 2 * good.starts[1] && out.ids[good.starts[1]] == good.ids[0],
         "tokens without an allocator: %s", err.msg);
    fc_tokens_free(&out);
}

static void test_models(void) {
    NO_HANDLE(ARGUMENT, fc_model_open(NULL, NULL, &err), "fc_model_open: expected a path");
    NO_HANDLE(IO, fc_model_open("/nowhere", NULL, &err), "/nowhere");
    T_OK(!fc_model_open(NULL, NULL, NULL), "nowhere to tell");
    fc_model_close(NULL);
    T_OK(!fc_model_config(NULL) && !fc_model_container(NULL) &&
             fc_model_fingerprint(NULL)[0] == 0 && fc_model_content(NULL)[0] == 0 &&
             fc_model_sublayer_parameters(NULL, 0, FC_KIND_FFN) == 0,
         "no model");
    T_OK(fc_model_sublayer_parameters(model, UINT32_MAX, FC_KIND_FFN) == 0 &&
             fc_model_sublayer_parameters(model, 0, (fc_kind)2) == 0,
         "a sublayer that is not there");
}

static void test_prune(void) {
    fc_prune_desc desc, bad;
    fc_estimate estimate;
    uint32_t n;
    memset(&desc, 0, sizeof desc);
    desc.calibration = &good;
    desc.remove = 1;
    NO_HANDLE(ARGUMENT, fc_prune(model, NULL, &err), "expected a model and a description");
    NO_HANDLE(ARGUMENT, fc_prune(NULL, &desc, &err), "expected a model and a description");
    T_OK(!fc_prune(NULL, NULL, NULL), "nowhere to tell");
    REFUSED(ARGUMENT, fc_prune_count(NULL, &desc, &n, &err), "fc_prune_count");
    T_OK(fc_prune_count(model, NULL, &n, &err) == FC_OK &&
             n == 2 * fc_model_config(model)->n_blocks - 1,
         "all but one by default: %u, %s", n, err.msg);
    REFUSED(ARGUMENT, fc_prune_count(model, &desc, NULL, &err), "fc_prune_count");
    REFUSED(ARGUMENT, fc_prune_estimate(NULL, &desc, &estimate, &err), "fc_prune_estimate");
    REFUSED(ARGUMENT, fc_prune_estimate(model, NULL, &estimate, &err), "fc_prune_estimate");
    REFUSED(ARGUMENT, fc_prune_estimate(model, &desc, NULL, &err), "fc_prune_estimate");
    T_OK(fc_prune_estimate(NULL, NULL, NULL, NULL) == FC_ERR_ARGUMENT, "nowhere to tell");
    T_OK(fc_prune_estimate(model, &desc, &estimate, NULL) == FC_OK, "without an error");
#define WRONG(field, value, words)                                                                 \
 bad = desc, bad.field = value, NO_HANDLE(ARGUMENT, fc_prune(model, &bad, &err), words);           \
 REFUSED(ARGUMENT, fc_prune_estimate(model, &bad, &estimate, &err), words)
    WRONG(calibration, NULL, "at least one sequence");
    WRONG(metric, (fc_metric)99, "metric");
    WRONG(candidates, (fc_candidates)-1, "candidates");
    WRONG(search, FC_SEARCH_COUNT, "search");
    WRONG(remove, UINT32_MAX, "remove");
    WRONG(fraction, 1.5, "share");
    WRONG(fraction, (double)NAN, "share");
    WRONG(last, -1, "share of last");
    WRONG(last, 1.5, "share of last");
    WRONG(confidence, -1, "confidence");
    WRONG(confidence, 1e9, "confidence");
#undef WRONG
    REFUSED(ARGUMENT, fc_prune_file(NULL, "x", NULL, "y", NULL, &err), "fc_prune_file");
    REFUSED(ARGUMENT, fc_prune_file("x", NULL, NULL, "y", NULL, &err), "fc_prune_file");
    REFUSED(ARGUMENT, fc_prune_file("x", "y", NULL, NULL, NULL, &err), "fc_prune_file");
    T_OK(fc_prune_file("/nowhere", "y", NULL, "/nowhere/plan.json", NULL, NULL) != FC_OK,
         "nowhere to tell");
}

static void test_plans(void) {
    uint8_t mask[256];
    fc_prune_desc desc;
    fc_export_desc export_desc;
    memset(&export_desc, 0, sizeof export_desc);
    memset(&desc, 0, sizeof desc);
    desc.calibration = &good;
    desc.remove = 1;
    fc_plan *p = fc_prune(model, &desc, &err);
    if (!T_OK(p != NULL, "a plan: %s", err.msg)) return;
    fc_plan_free(NULL);
    T_OK(!fc_plan_about(NULL) && !fc_plan_step(NULL, 0) && !fc_plan_step(p, 1) &&
             !fc_plan_step(p, SIZE_MAX),
         "steps that are not there");
    NO_HANDLE(ARGUMENT, fc_plan_load(NULL, NULL, &err), "expected a path");
    NO_HANDLE(IO, fc_plan_load("/nowhere", NULL, &err), "/nowhere");
    REFUSED(ARGUMENT, fc_plan_save(NULL, "x", &err), "expected a plan");
    REFUSED(ARGUMENT, fc_plan_save(p, NULL, &err), "expected a plan");
    REFUSED(ARGUMENT, fc_model_verify(NULL, NULL, &err), "fc_model_verify");
    REFUSED(ARGUMENT, fc_plan_replaceable(NULL, NULL, &err), "fc_plan_replaceable");
    REFUSED(ARGUMENT, fc_plan_mask(NULL, model, 0, mask, sizeof mask, &err), "fc_plan_mask");
    REFUSED(ARGUMENT, fc_plan_mask(p, NULL, 0, mask, sizeof mask, &err), "fc_plan_mask");
    REFUSED(ARGUMENT, fc_plan_mask(p, model, 0, NULL, 8, &err), "fc_plan_mask");
    REFUSED(ARGUMENT, fc_plan_mask(p, model, 0, mask, 0, &err), "expected room for");
    REFUSED(ARGUMENT, fc_plan_mask(p, model, SIZE_MAX, mask, sizeof mask, &err), "at most its 1");
    REFUSED(ARGUMENT, fc_report_svg(NULL, "x", &err), "expected a plan");
    REFUSED(ARGUMENT, fc_report_svg(p, NULL, &err), "expected a plan");
    REFUSED(ARGUMENT, fc_report_csv(NULL, "x", &err), "expected a plan");
    REFUSED(ARGUMENT, fc_report_csv(p, NULL, &err), "expected a plan");
    REFUSED(ARGUMENT, fc_export(NULL, p, &export_desc, &err), "expected a model");
    REFUSED(ARGUMENT, fc_export(model, p, NULL, &err), "expected a model");
    REFUSED(ARGUMENT, fc_export(model, p, &export_desc, &err), "path");
    export_desc.path = "/nowhere/x";
    export_desc.format = (fc_export_format)99;
    REFUSED(ARGUMENT, fc_export(model, p, &export_desc, &err), "format");
    export_desc.format = FC_EXPORT_HF;
    export_desc.steps = 2;
    REFUSED(ARGUMENT, fc_export(model, p, &export_desc, &err), "step");
    export_desc.steps = FINERCUT_NO_STEPS;
    REFUSED(IO, fc_export(model, p, &export_desc, &err), "/nowhere");
    export_desc.steps = 0;
    export_desc.type = (fc_dtype)999;
    T_OK(fc_export(model, p, &export_desc, &err) != FC_OK && err.msg[0],
         "a type that is not there: %s", err.msg);
    fc_text text;
    NO_HANDLE(ARGUMENT, fc_plan_load_memory(NULL, 1, NULL, &err),
              "fc_plan_load_memory: expected data");
    NO_HANDLE(FORMAT, fc_plan_load_memory(NULL, 0, NULL, &err), "");
    NO_HANDLE(LIMIT, fc_plan_load_memory("{}", SIZE_MAX, NULL, &err), "at most");
    REFUSED(ARGUMENT, fc_plan_save_memory(NULL, &text, &err), "expected a plan");
    REFUSED(ARGUMENT, fc_plan_save_memory(p, NULL, &err), "expected a plan");
    REFUSED(ARGUMENT, fc_report_svg_memory(NULL, &text, &err), "expected a plan");
    REFUSED(ARGUMENT, fc_report_svg_memory(p, NULL, &err), "expected a plan");
    REFUSED(ARGUMENT, fc_report_csv_memory(NULL, &text, &err), "expected a plan");
    REFUSED(ARGUMENT, fc_report_csv_memory(p, NULL, &err), "expected a plan");
    char advice[8] = "before";
    T_OK(!fc_plan_advice(p, NULL, 9) && !strcmp(fc_plan_advice(p, advice, 0), "before") &&
             strlen(fc_plan_advice(p, advice, sizeof advice)) < sizeof advice &&
             !*fc_plan_advice(NULL, advice, sizeof advice),
         "advice without a plan or a place");
    fc_plan_free(p);
}

static void test_heal(void) {
    uint8_t mask[256];
    fc_heal_desc heal;
    memset(mask, 1, sizeof mask);
    mask[1] = 0;
    memset(&heal, 0, sizeof heal);
    heal.mask = mask;
    heal.text = &good;
    heal.path = "/nowhere/healed.safetensors";
    heal.n_inputs = 3;
    REFUSED(ARGUMENT, fc_heal(model, &heal, NULL, &err), "expected its inputs, got NULL");
}

static void test_pages(void) {
    const fc_page_column column = {"a", FC_PAGE_X}, two[2] = {{"a", FC_PAGE_X}, {"b", FC_PAGE_X}};
    const char *const cell = NULL;
    const fc_memory_file none = {NULL, NULL, 0}, holes = {"x", NULL, 9}, text_file = {"x", "{}", 2};
    fc_page_table table = {"t", NULL, &column, 1, 1, &cell};
    fc_page_desc desc;
    fc_text text;
    memset(&desc, 0, sizeof desc);
    REFUSED(ARGUMENT, fc_report_page(NULL, "x", &err), "expected a request");
    REFUSED(ARGUMENT, fc_report_page(&desc, NULL, &err), "expected a request");
    REFUSED(ARGUMENT, fc_report_page_memory(NULL, &text, &err), "expected a request");
    REFUSED(ARGUMENT, fc_report_page_memory(&desc, NULL, &err), "expected a request");
    REFUSED(ARGUMENT, fc_report_page_memory(&desc, &text, &err), "got none of them");
    desc.n_plans = SIZE_MAX;
    REFUSED(ARGUMENT, fc_report_page_memory(&desc, &text, &err), "got none of them");
    desc.n_plans = 0;
    desc.n_files = 1;
    REFUSED(ARGUMENT, fc_report_page_memory(&desc, &text, &err), "got none of them");
    desc.files = &none;
    REFUSED(ARGUMENT, fc_report_page_memory(&desc, &text, &err), "files[0]");
    desc.files = &holes;
    REFUSED(ARGUMENT, fc_report_page_memory(&desc, &text, &err), "files[0]");
    desc.files = &text_file;
    REFUSED(FORMAT, fc_report_page_memory(&desc, &text, &err), "x: content: expected a plan");
    desc.n_files = 0;
    desc.n_tables = 1;
    desc.tables = &table;
    T_OK(fc_report_page_memory(&desc, &text, &err) == FC_OK, "a table alone: %s", err.msg);
    fc_text_free(&text);
    const fc_page_table wrong[] = {
        {NULL, NULL, &column, 1, 1, &cell},     {"t", NULL, NULL, 1, 1, &cell},
        {"t", NULL, &column, 0, 1, &cell},      {"t", NULL, &column, 1, 1, NULL},
        {"t", NULL, two, 2, SIZE_MAX, &cell},   {"t", NULL, two, 2, 0, &cell}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        desc.tables = &wrong[i];
        REFUSED(ARGUMENT, fc_report_page_memory(&desc, &text, &err), "tables[0]");
        T_OK(!text.bytes, "table %d: text that failed", (int)i);
    }
    const fc_plan *const no_plan = NULL;
    desc.n_tables = 0;
    desc.plans = &no_plan;
    desc.n_plans = 1;
    REFUSED(ARGUMENT, fc_report_page_memory(&desc, &text, &err), "plans[0]");
}

static void test_studies(void) {
    const fc_task_desc twice[] = {{"piqa", "x", "", 0, 0, 0, 0, NULL},
                                  {"piqa", "x", "", 0, 0, 0, 0, NULL}};
    const fc_task_desc odd = {"mmlu_a,b", "x", "", 0, 0, 0, 0, NULL};
    const double points[] = {0.5, 0.5};
    double out[FC_METRIC_COUNT];
    size_t n = 5;
    fc_study_desc d;
    memset(&d, 0, sizeof d);
    NO_HANDLE(ARGUMENT, fc_study_open(NULL, &d, &err), "fc_study_open");
    NO_HANDLE(ARGUMENT, fc_study_open(model, NULL, &err), "fc_study_open");
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "a folder");
    d.folder = "/nowhere/study";
    d.calibration = d.eval = &good;
    fc_study *s = fc_study_open(model, &d, &err);
    T_OK(s != NULL, "%s", err.msg);
    REFUSED(IO, fc_study_run(s, &err), "/nowhere");
    fc_study_close(s);
    d.search = FC_SEARCH_RANDOM;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "search");
    d.search = FC_SEARCH_RACE;
    d.metrics = UINT_MAX;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "metrics");
    d.metrics = 0;
    d.random_plans = UINT32_MAX;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "random_plans");
    d.random_plans = 0;
    d.n_points = 2;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "a folder");
    d.points = points;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "growing shares");
    d.n_points = SIZE_MAX;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "at most 16");
    d.n_points = 1;
    d.fraction = (double)NAN;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "fraction");
    d.fraction = 0;
    d.search = FC_SEARCH_CONFIDENT;
    d.confidence = 1e9;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "confidence");
    d.search = FC_SEARCH_RACE;
    d.n_tasks = 2;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "fc_study_open");
    d.tasks = twice;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "each once, got piqa");
    d.tasks = &odd;
    d.n_tasks = 1;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "got \"mmlu_a,b\"");
    d.n_tasks = 0;
    d.n_inputs = 1;
    NO_HANDLE(ARGUMENT, fc_study_open(model, &d, &err), "expected its inputs, got NULL");
    REFUSED(ARGUMENT, fc_study_run(NULL, &err), "a study");
    T_OK(!fc_study_about(NULL) && !fc_study_tables(NULL, &n) && n == 0 &&
             !fc_study_tables(NULL, NULL),
         "of no study");
    fc_study_close(NULL);
    REFUSED(ARGUMENT, fc_distances(NULL, &good, NULL, NULL, out, &err), "fc_distances");
    REFUSED(ARGUMENT, fc_distances(model, NULL, NULL, NULL, out, &err), "tokens");
    REFUSED(ARGUMENT, fc_distances(model, &good, NULL, NULL, NULL, &err), "fc_distances");
}

// Lists of files in memory that are none.
static void test_memory(void) {
    const fc_memory_file unnamed = {NULL, "1", 1}, nothing = {"x", NULL, 1}, empty = {"x", NULL, 0};
    const struct {
        const fc_memory_file *files;
        size_t n;
    } cases[] = {{NULL, 0}, {NULL, 1}, {&empty, 0}, {&unnamed, 1}, {&nothing, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const fc_memory_file *f = cases[i].files;
        const size_t n = cases[i].n;
        NO_HANDLE(ARGUMENT, fc_model_open_memory(f, n, NULL, &err), "expected files with names");
        NO_HANDLE(ARGUMENT, fc_container_open_memory(f, n, NULL, &err),
                  "expected files with names");
        NO_HANDLE(ARGUMENT, fc_tokenizer_open_memory(f, n, NULL, &err),
                  "expected files with names");
    }
    T_OK(!fc_model_open_memory(&empty, 1, NULL, &err) && err.code && err.msg[0], "empty: %s",
         err.msg);
    T_OK(!fc_container_open_memory(&empty, 1, NULL, &err) && err.code && err.msg[0], "empty: %s",
         err.msg);
    T_OK(!fc_tokenizer_open_memory(&empty, 1, NULL, &err) && err.code && err.msg[0], "empty: %s",
         err.msg);
}

static void test_generation(void) {
    const uint32_t ids[] = {1, UINT32_MAX};
    fc_sampling how = {-1, 0, 0};
    fc_generated out;
    fc_tokens ends;
    fc_speed speed;
    uint32_t id;
    size_t n = 5;
    NO_HANDLE(ARGUMENT, fc_generator_open(NULL, NULL, 8, &err), "fc_generator_open");
    NO_HANDLE(ARGUMENT, fc_generator_open(model, NULL, UINT32_MAX, &err), "positions");
    fc_generator_close(NULL);
    fc_generator_rewind(NULL, 0);
    T_OK(!fc_generator_tokens(NULL, &n) && n == 0 && !fc_generator_tokens(NULL, NULL),
         "no generator");
    NO_HANDLE(ARGUMENT, fc_generator_logits(NULL, &err), "fc_generator_logits");
    fc_generator *g = fc_generator_open(model, NULL, 4, &err);
    if (T_OK(g != NULL, "a generator: %s", err.msg)) {
        REFUSED(ARGUMENT, fc_generator_feed(NULL, ids, 1, &err), "fc_generator_feed");
        REFUSED(ARGUMENT, fc_generator_feed(g, NULL, 1, &err), "fc_generator_feed");
        REFUSED(ARGUMENT, fc_generator_feed(g, ids, 2, &err), "token 1: expected an id below");
        REFUSED(LIMIT, fc_generator_feed(g, ids, SIZE_MAX, &err), "at most 4");
        NO_HANDLE(ARGUMENT, fc_generator_logits(g, &err), "at least one token");
        REFUSED(ARGUMENT, fc_generator_next(NULL, NULL, &id, &err), "fc_generator_next");
        REFUSED(ARGUMENT, fc_generator_next(g, NULL, NULL, &err), "fc_generator_next");
        REFUSED(ARGUMENT, fc_generator_next(g, &how, &id, &err), "temperature");
        how.temperature = 1;
        how.top_p = 2;
        REFUSED(ARGUMENT, fc_generator_next(g, &how, &id, &err), "top");
        fc_generator_rewind(g, SIZE_MAX);
        T_OK(fc_generator_tokens(g, NULL) != NULL || 1, "without a count");
        fc_generator_tokens(g, &n);
        T_OK(n == 0, "nothing was appended by what failed: %d", (int)n);
    }
    fc_generator_close(g);
    REFUSED(ARGUMENT, fc_end_tokens(NULL, &ends, &err), "fc_end_tokens");
    REFUSED(ARGUMENT, fc_end_tokens(model, NULL, &err), "fc_end_tokens");
    REFUSED(ARGUMENT, fc_generate(NULL, "x", 1, NULL, &out, &err), "fc_generate");
    REFUSED(ARGUMENT, fc_generate(model, NULL, 1, NULL, &out, &err), "fc_generate");
    REFUSED(ARGUMENT, fc_generate(model, "x", 1, NULL, NULL, &err), "fc_generate");
    REFUSED(ARGUMENT,
            fc_speed_prompt(NULL, &(fc_speed_desc){.tokens = 1, .repeat = 1}, &speed, &err),
            "fc_speed_prompt");
    REFUSED(ARGUMENT,
            fc_speed_prompt(model, &(fc_speed_desc){.tokens = 1, .repeat = 1}, NULL, &err),
            "fc_speed_prompt");
    REFUSED(ARGUMENT, fc_speed_prompt(NULL, NULL, &speed, &err), "fc_speed_prompt");
    REFUSED(LIMIT,
            fc_speed_prompt(
                model, &(fc_speed_desc){.tokens = UINT32_MAX, .sequences = UINT32_MAX, .repeat = 1},
                &speed, &err),
            "at most");
    REFUSED(ARGUMENT,
            fc_speed_generate(NULL, &(fc_speed_desc){.tokens = 1, .repeat = 1}, &speed, &err),
            "fc_speed_generate");
    REFUSED(ARGUMENT,
            fc_speed_generate(model, &(fc_speed_desc){.tokens = 1, .repeat = 1}, NULL, &err),
            "fc_speed_generate");
    REFUSED(
        ARGUMENT,
        fc_speed_generate(model, &(fc_speed_desc){.tokens = UINT32_MAX, .repeat = 1}, &speed, &err),
        "tokens");
}

static void test_chat(void) {
    // the demo's model, with a template, is in test_chat.c; this one has no tokenizer
    const fc_message hi = {FC_ROLE_USER, "Hi", 2};
    fc_text text;
    fc_tokens tokens;
    NO_HANDLE(ARGUMENT, fc_chat_open(NULL, NULL, &err), "fc_chat_open: expected a model");
    T_OK(!fc_chat_open(model, NULL, &err) && err.code, "a model without a chat: %s", err.msg);
    fc_chat_close(NULL);
    T_OK(!fc_chat_name(NULL) && !fc_chat_date(NULL), "no chat, no name and no day");
    REFUSED(ARGUMENT, fc_chat_render(NULL, &hi, 1, 0, &text, &err), "fc_chat_render");
    REFUSED(ARGUMENT, fc_lines_chat(NULL, "", 0, &tokens, &err), "fc_lines_chat");
    REFUSED(ARGUMENT, fc_lines_text(NULL, 1, "a", NULL, &text, &err), "fc_lines_text");
    REFUSED(ARGUMENT, fc_lines_text("", 0, NULL, NULL, &text, &err), "fc_lines_text");
    REFUSED(ARGUMENT, fc_lines_text("", 0, "a", NULL, NULL, &err), "fc_lines_text");
    REFUSED(FORMAT, fc_lines_text(NULL, 0, "a", NULL, &text, &err), "got no line");
}

static void test_kernels(void) {
    float x[64], y[64];
    fc_speed speed;
    fc_env env;
    memset(x, 0, sizeof x);
    memset(&env, 0, sizeof env);
    REFUSED(ARGUMENT,
            fc_matmul(&(fc_product){.m = 1, .n = 1, .k = 1, .w = x, .y = y, .type = FC_DTYPE_F32},
                      NULL, &err),
            "fc_matmul");
    REFUSED(ARGUMENT,
            fc_matmul(&(fc_product){.m = 1, .n = 1, .k = 1, .x = x, .y = y, .type = FC_DTYPE_F32},
                      NULL, &err),
            "fc_matmul");
    REFUSED(ARGUMENT,
            fc_matmul(&(fc_product){.m = 1, .n = 1, .k = 1, .x = x, .w = x, .type = FC_DTYPE_F32},
                      NULL, &err),
            "fc_matmul");
    REFUSED(
        UNSUPPORTED,
        fc_matmul(
            &(fc_product){.m = 1, .n = 1, .k = 1, .x = x, .w = x, .y = y, .type = (fc_dtype)999},
            NULL, &err),
        "unknown");
    REFUSED(
        ARGUMENT,
        fc_matmul(
            &(fc_product){.m = 1, .n = 1, .k = 33, .x = x, .w = x, .y = y, .type = FC_DTYPE_Q8_0},
            NULL, &err),
        "multiple of 32");
    REFUSED(LIMIT,
            fc_matmul(
                &(fc_product){
                    .m = SIZE_MAX, .n = 1, .k = 1, .x = x, .w = x, .y = y, .type = FC_DTYPE_F32},
                NULL, &err),
            "below 2^30");
    REFUSED(LIMIT,
            fc_matmul(
                &(fc_product){
                    .m = 1, .n = 1, .k = SIZE_MAX, .x = x, .w = x, .y = y, .type = FC_DTYPE_F32},
                NULL, &err),
            "below 2^30");
    REFUSED(LIMIT,
            fc_matmul(
                &(fc_product){
                    .m = 1, .n = SIZE_MAX, .k = 1, .x = x, .w = x, .y = y, .type = FC_DTYPE_F32},
                NULL, &err),
            "below 2^30");
    env.par.n_threads = 5000;
    REFUSED(ARGUMENT,
            fc_matmul(
                &(fc_product){.m = 1, .n = 1, .k = 1, .x = x, .w = x, .y = y, .type = FC_DTYPE_F32},
                &env, &err),
            "threads");
    REFUSED(ARGUMENT, fc_decode(FC_DTYPE_F32, NULL, 0, 1, y, &err), "fc_decode");
    REFUSED(LIMIT, fc_decode(FC_DTYPE_F32, x, 0, UINT64_MAX, y, &err), "at most");
    REFUSED(LIMIT, fc_decode(FC_DTYPE_F32, x, UINT64_MAX, 1, y, &err), "at most");
    fc_product odd = {.m = 1, .n = 1, .k = 1, .x = x, .w = x, .y = y, .type = FC_DTYPE_F32};
    fc_env strange;
    memset(&strange, 0, sizeof strange);
    strange.simd_max = (fc_simd)99;
    REFUSED(ARGUMENT, fc_matmul(&odd, &strange, &err), "simd_max: unknown value 99");
    odd.compute = (fc_compute)99;
    REFUSED(ARGUMENT, fc_matmul(&odd, NULL, &err), "compute: unknown value 99");
    REFUSED(ARGUMENT, fc_decode(FC_DTYPE_F32, x, 0, 1, NULL, &err), "fc_decode");
    REFUSED(ARGUMENT, fc_decode(FC_DTYPE_Q4_K, x, 32, 256, y, &err), "multiples of 256");
    REFUSED(UNSUPPORTED, fc_decode(FC_DTYPE_IQ1_S, x, 0, 256, y, &err), "IQ1_S");
    REFUSED(ARGUMENT, fc_peak(FC_COMPUTE_F32, NULL, NULL, &err), "fc_peak");
    REFUSED(ARGUMENT,
            fc_speed_matmul(NULL,
                            &(fc_product){.m = 1, .n = 1, .k = 1, .w = x, .type = FC_DTYPE_F32},
                            &(fc_speed_desc){.repeat = 1}, &speed, &err),
            "fc_speed_matmul");
    REFUSED(ARGUMENT,
            fc_speed_matmul(model,
                            &(fc_product){.m = 1, .n = 1, .k = 1, .w = NULL, .type = FC_DTYPE_F32},
                            &(fc_speed_desc){.repeat = 1}, &speed, &err),
            "fc_speed_matmul");
    REFUSED(ARGUMENT,
            fc_speed_matmul(model,
                            &(fc_product){.m = 1, .n = 1, .k = 1, .w = x, .type = FC_DTYPE_F32},
                            &(fc_speed_desc){.repeat = 1}, NULL, &err),
            "fc_speed_matmul");
    REFUSED(ARGUMENT,
            fc_speed_matmul(model,
                            &(fc_product){.m = 0, .n = 1, .k = 1, .w = x, .type = FC_DTYPE_F32},
                            &(fc_speed_desc){.repeat = 1}, &speed, &err),
            "above 0");
    REFUSED(LIMIT,
            fc_speed_matmul(
                model, &(fc_product){.m = SIZE_MAX, .n = 1, .k = 1, .w = x, .type = FC_DTYPE_F32},
                &(fc_speed_desc){.repeat = 1}, &speed, &err),
            "below 2^30");
    for (int metric = -1; metric <= FC_METRIC_COUNT; metric++)
        T_OK(isnan(fc_distance((fc_metric)metric, NULL, x, 0, 8, FC_SIMD_AUTO)) &&
                 isnan(fc_distance((fc_metric)metric, x, NULL, 0, 8, FC_SIMD_AUTO)) &&
                 isnan(fc_distance((fc_metric)metric, x, y, 8, 8, FC_SIMD_AUTO)) &&
                 isnan(fc_distance((fc_metric)metric, x, y, 0, 0, FC_SIMD_AUTO)),
             "metric %d of nothing is no number", metric);
}

// Results are empty after a call that got NULL for a handle or an input, so they can be freed.
#define EMPTY(out, call)                                                                           \
    do {                                                                                           \
        const unsigned char *bytes = (const unsigned char *)&(out);                                \
        size_t n = 0;                                                                              \
        memset(&(out), 1, sizeof(out));                                                            \
        REFUSED(ARGUMENT, call, "expected");                                                       \
        while (n < sizeof(out) && !bytes[n]) n++;                                                  \
        T_OK(n == sizeof(out), #call ": byte %d of the result is as it was", (int)n);              \
    } while (0)

static void test_empty(void) {
    fc_text text;
    fc_tokens tokens;
    fc_generated generated;
    fc_perplexity perplexity;
    fc_estimate estimate;
    fc_heal_result healed;
    fc_speed speed;
    fc_peak_info peak;
    double distances[FC_METRIC_COUNT];
    fc_env part;
    memset(&part, 0, sizeof part);
    part.simd_max = (fc_simd)99;
    EMPTY(text, fc_file_read(NULL, NULL, &text, &err));
    EMPTY(text, fc_detokenize(NULL, NULL, 0, &text, &err));
    EMPTY(text, fc_plan_save_memory(NULL, &text, &err));
    EMPTY(text, fc_chat_render(NULL, NULL, 0, 0, &text, &err));
    EMPTY(text, fc_lines_text(NULL, 1, NULL, NULL, &text, &err));
    EMPTY(text, fc_report_svg_memory(NULL, &text, &err));
    EMPTY(text, fc_report_csv_memory(NULL, &text, &err));
    EMPTY(text, fc_report_page_memory(NULL, &text, &err));
    EMPTY(tokens, fc_tokenize(NULL, "x", 1, 0, &tokens, &err));
    EMPTY(tokens, fc_tokens_join(NULL, &good, &tokens, &err));
    EMPTY(tokens, fc_tokens_windows(NULL, 4, &tokens, &err));
    EMPTY(tokens, fc_calibration_cut(NULL, "x", 1, 1, 1, &tokens, &err));
    EMPTY(tokens, fc_tokens_parse_json(NULL, 1, NULL, &tokens, &err));
    EMPTY(tokens, fc_lines_chat(NULL, "", 0, &tokens, &err));
    EMPTY(tokens, fc_eval_windows(NULL, "x", 1, FC_PROTOCOL_ALL, 1, &tokens, &err));
    EMPTY(tokens, fc_end_tokens(NULL, &tokens, &err));
    EMPTY(tokens, fc_tokens_own(NULL, NULL, &tokens, &err));
    EMPTY(generated, fc_generate(NULL, "x", 1, NULL, &generated, &err));
    EMPTY(perplexity, fc_eval_sequences(NULL, &good, NULL, &perplexity, &err));
    EMPTY(perplexity, fc_eval_perplexity(NULL, &good, NULL, NULL, &perplexity, &err));
    EMPTY(distances, fc_distances(NULL, &good, NULL, NULL, distances, &err));
    EMPTY(estimate, fc_prune_estimate(NULL, NULL, &estimate, &err));
    EMPTY(healed, fc_heal(NULL, NULL, &healed, &err));
    EMPTY(speed, fc_speed_prompt(NULL, NULL, &speed, &err));
    EMPTY(speed, fc_speed_generate(NULL, NULL, &speed, &err));
    EMPTY(speed, fc_speed_matmul(NULL, NULL, NULL, &speed, &err));
    memset(&peak, 1, sizeof peak);
    REFUSED(ARGUMENT, fc_peak(FC_COMPUTE_F32, &part, &peak, &err), "simd_max");
    T_OK(peak.gflops == 0 && peak.n_threads == 0, "a peak that failed");
}

int main(void) {
    uint32_t ids[] = {1, 2, 3, 4};
    size_t starts[] = {0, 4};
    good = tokens_of(ids, starts, 1);
    test_names();
    test_files();
    test_memory();
    test_empty();
    model = fc_model_open("examples/demo", NULL, &err);
    if (T_OK(model != NULL, "the demo: %s", err.msg)) {
        test_chat();
        test_kernels();
        test_world();
        test_containers();
        test_tokenizers();
        test_tokens();
        test_models();
        test_prune();
        test_plans();
    test_heal();
    test_pages();
    test_studies();
        test_generation();
    }
    fc_model_close(model);
    return t_end("misuse");
}
