// The JSON reader and string writer, against tables here and, where they are, against JSONTestSuite
// and number lists.
#include "private.h"
#include "memory.h"
#include "t.h"
#include "tree.h"
#include <dirent.h>
#include <locale.h>

typedef struct parsed {
    memory m;
    fci_context c;
    fci_arena arena;
    char *text; // of exactly n bytes, so that a sanitizer sees reads past the end
    const fci_json *root;
    fc_code code;
    fc_error err;
} parsed;

static void begin(parsed *p, const char *text, size_t n) {
    memset(p, 0, sizeof *p);
    fc_env env = memory_env(&p->m);
    fci_context_basic(&p->c, &env);
    p->arena.c = &p->c;
    p->text = (char *)malloc(n ? n : 1);
    memcpy(p->text, text, n);
}

static void end(parsed *p) {
    fci_arena_free(&p->arena);
    T_OK(p->m.live == 0, "%ld allocations leaked", p->m.live);
    free(p->text);
}

static fc_code parse(parsed *p, const char *text, size_t n) {
    begin(p, text, n);
    p->code = fci_json_parse(&p->c, &p->arena, p->text, n, 0, &p->root, &p->err);
    T_OK((p->code == FC_OK) == (p->root != NULL) && p->code == p->err.code,
         "code, root and error agree");
    if (p->code)
        T_OK(p->err.msg[0] && !strchr(p->err.msg, '\n') && p->err.where <= n,
             "one line, place within: %s", p->err.msg);
    return p->code;
}

static fc_code verdict(const char *text, size_t n) {
    parsed p;
    fc_code code = parse(&p, text, n);
    end(&p);
    return code;
}

static void test_grammar(void) {
    static const char *const good[] = {
        "null",
        " true ",
        "\t[]\r\n",
        "{}",
        "[1,[2,{\"a\":[]}],{}]",
        "{\"a\":{\"b\":{\"c\":null}},\"d\":\"\"}",
        "0",
        "-0",
        "1.5e+3",
        "\"\\u0000\\ud83d\\ude00\\/\"",
        "[ ]",
        "{ }",
        "{\"\":0}",
        "\"\xc3\xa9\xf4\x8f\xbf\xbf\"",
        "[1e-999]",
        "{\"a\":1,\"A\":2}",
        "18446744073709551616",
        "\"\x7f\"",
        "\"\\udbff\\udfff\\ud800\\udc00\\ud7ff\\ue000\"",
    };
    static const struct {
        const char *text;
        uint64_t where;
        const char *says;
    } bad[] = {
        {"", 0, "line 1, column 1: expected a value, got the end"},
        {"  ", 2, "the end"},
        {"[", 1, "expected a value, got the end"},
        {"[1", 2, "expected ',' or ']'"},
        {"[1,]", 3, "expected a value, got ']'"},
        {"[,1]", 1, "expected a value"},
        {"[1 2]", 3, "expected ',' or ']'"},
        {"[1}", 2, "expected ',' or ']'"},
        {"{", 1, "expected a key or '}'"},
        {"{,}", 1, "expected a key or '}'"},
        {"{\"a\"}", 4, "expected ':'"},
        {"{\"a\":}", 5, "expected a value"},
        {"{\"a\":1,}", 7, "expected a key"},
        {"{\"a\":1]", 6, "expected ',' or '}'"},
        {"{a:1}", 1, "expected a key or '}'"},
        {"{\"a\":1 \"b\":2}", 7, "expected ',' or '}'"},
        {"{}{}", 2, "expected nothing after the value"},
        {"1 x", 2, "expected nothing after the value"},
        {"[]\f", 2, "expected nothing"},
        {"\n\n [tru]", 4, "line 3, column 3: expected a value, got 'tru]'"},
        {"nul", 0, "expected a value"},
        {"nulll", 4, "expected nothing"},
        {"NaN", 0, "expected a value"},
        {"[Infinity]", 1, "expected a value"},
        {"-", 1, "expected a digit, got the end"},
        {"-x", 1, "expected a digit"},
        {"+1", 0, "expected a value"},
        {".5", 0, "expected a value"},
        {"1.", 2, "a digit after the point"},
        {"1.e3", 2, "a digit after the point"},
        {"1e", 2, "a digit of the exponent"},
        {"1e+", 3, "a digit of the exponent"},
        {"01", 0, "no leading zero"},
        {"-01", 1, "no leading zero"},
        {"0x10", 1, "expected nothing"},
        {"1e999", 0, "a number that fits a double"},
        {"-1e999", 0, "a number that fits a double"},
        {"\"", 1, "'\"' at the end of a string"},
        {"\"abc", 4, "'\"' at the end of a string"},
        {"\"\\", 1, "an escape sequence"},
        {"\"\\x\"", 1, "an escape sequence"},
        {"\"\\u12\"", 1, "four hexadecimal digits"},
        {"\"\\u12g4\"", 1, "four hexadecimal digits"},
        {"\"\\ud800\"", 1, "a pair of surrogates"},
        {"\"\\udc00\"", 1, "a pair of surrogates"},
        {"\"\\ud800\\u0041\"", 1, "a pair of surrogates"},
        {"\"\\ud800\\ud800\"", 1, "a pair of surrogates"},
        {"\"\\ud800\\ue000\"", 1, "a pair of surrogates"},
        {"\"\\udfff\"", 1, "a pair of surrogates"},
        {"\"a\tb\"", 2, "control characters to be escaped"},
        {"\"01234567\nb\"", 9, "control characters to be escaped"},
        {"\"\x80\"", 1, "valid UTF-8"},
        {"\"\xc0\xaf\"", 1, "valid UTF-8"},
        {"\"\xed\xa0\x80\"", 1, "valid UTF-8"},
        {"\"\xe0\x9f\xbf\"", 1, "valid UTF-8"},
        {"\"\xf0\x8f\xbf\xbf\"", 1, "valid UTF-8"},
        {"\"\xf4\x90\x80\x80\"", 1, "valid UTF-8"},
        {"\"\xf5\x80\x80\x80\"", 1, "valid UTF-8"},
        {"\"\xe2\x82\"", 1, "valid UTF-8"},
        {"\"\xe2\x82", 1, "valid UTF-8"},
        {"\"a\\nb\xff\"", 5, "valid UTF-8"},
        {"\xef\xbb\xbf{}", 0, "expected a value"}, // a mark is for files (test_files)
        {"{\"a\":1,\"b\":2,\"a\":3}", 13, "key \"a\" only once"},
        {"{\"a\":1,\"\\u0061\":3}", 7, "key \"a\" only once"},
        {"[{},{\"x\":{\"\":1,\"\":2}}]", 15, "key \"\" only once"},
        {"// c\n1", 0, "expected a value"},
        {"'a'", 0, "expected a value"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        T_OK(verdict(good[i], strlen(good[i])) == FC_OK, "accepts %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        parsed p;
        parse(&p, bad[i].text, strlen(bad[i].text));
        T_OK(p.code == FC_ERR_FORMAT && p.err.where == bad[i].where &&
                 strstr(p.err.msg, bad[i].says),
             "%s: expected \"%s\" at %d, got \"%s\" at %d", bad[i].text, bad[i].says,
             (int)bad[i].where, p.err.msg, (int)p.err.where);
        end(&p);
    }
    T_OK(verdict("[1]\0", 4) == FC_ERR_FORMAT && verdict("\"\0\"", 3) == FC_ERR_FORMAT,
         "NUL is not white space nor plain");
    T_OK(fci_json_parse(NULL, &(fci_arena){0}, "", SIZE_MAX, 0, &(const fci_json *){0}, NULL) ==
             FC_ERR_LIMIT,
         "4 GiB are too much");
}

static void test_depth(void) {
    char text[3 * FCI_JSON_DEPTH + 16];
    for (int more = 0; more < 2; more++) {
        size_t depth = FCI_JSON_DEPTH + (size_t)more;
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        T_OK(verdict(text, 2 * depth) == (more ? FC_ERR_LIMIT : FC_OK), "%d arrays deep",
             (int)depth);
    }
    size_t n = (size_t)1 << 20;
    char *deep = (char *)malloc(n);
    memset(deep, '[', n);
    T_OK(verdict(deep, n) == FC_ERR_LIMIT, "a million arrays");
    for (size_t i = 0; i + 5 <= n; i += 5) memcpy(deep + i, "{\"\":[", 5);
    T_OK(verdict(deep, n) == FC_ERR_LIMIT, "objects in arrays in objects");
    free(deep);
}

static void test_tree(void) {
    static const char text[] = "{\"a\": [1, {\"b\": null}, []], \"n\": -2.5e1, \"t\": true, \"s\": "
                               "\"x\\n\\u00e9\\ud83d\\ude00\", \"e\": {}}";
    parsed p;
    if (!T_OK(parse(&p, text, strlen(text)) == FC_OK, "%s", p.err.msg)) return;
    const fci_json *a = fci_json_get(p.root, "a"), *n = fci_json_get(p.root, "n"),
                   *s = fci_json_get(p.root, "s");
    T_OK(p.root->type == FCI_JSON_OBJECT && p.root->count == 5 && p.root->skip == 16 &&
             p.root->at == 0,
         "root");
    T_OK(a && a->type == FCI_JSON_ARRAY && a->count == 3 && a->skip == 6 && a->at == 6, "array");
    const fci_json *first = fci_json_first(a), *second = fci_json_next(first),
                   *third = fci_json_next(second);
    T_OK(first->is_integer && first->integer == 1 && first->number == 1, "first");
    T_OK(second->type == FCI_JSON_OBJECT && fci_json_get(second, "b")->type == FCI_JSON_NULL,
         "second");
    T_OK(third->type == FCI_JSON_ARRAY && third->count == 0 && third->skip == 1, "third");
    T_OK(n && !n->is_integer && n->number == -25 && fci_is(n->text, "-2.5e1"), "number");
    T_OK(fci_json_get(p.root, "t")->truth, "true");
    T_OK(s && fci_is(s->text, "x\n\xc3\xa9\xf0\x9f\x98\x80"), "string");
    T_OK(!fci_json_get(p.root, "b") && !fci_json_get(a, "b") && !fci_json_get(NULL, "b"), "absent");
    T_OK(!strcmp(fci_json_type_name(a), "an array") && !strcmp(fci_json_type_name(NULL), "nothing"),
         "type names");
    end(&p);
}

static void test_integers(void) {
    static const struct {
        const char *text;
        bool is;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"9007199254740993", true, 9007199254740993u},
        {"9223372036854775808", true, 9223372036854775808u},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"-0", false, 0},
        {"-1", false, 0},
        {"1.0", false, 0},
        {"1e0", false, 0},
        {"99999999999999999999", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parsed p;
        parse(&p, cases[i].text, strlen(cases[i].text));
        T_OK(p.root && p.root->is_integer == cases[i].is && p.root->integer == cases[i].value, "%s",
             cases[i].text);
        T_OK(p.root && p.root->number == strtod(cases[i].text, NULL), "%s as double",
             cases[i].text);
        end(&p);
    }
}

// Reads text as one number and compares with `want` bit for bit.
static void same_double(const char *text, double want, const char *why) {
    parsed p;
    begin(&p, text, strlen(text));
    p.code = fci_json_parse(&p.c, &p.arena, p.text, strlen(text), 0, &p.root, &p.err);
    if (isinf(want)) T_OK(p.code == FC_ERR_FORMAT, "%s: %.60s is too large", why, text);
    else
        T_OK(p.root && p.root->type == FCI_JSON_NUMBER &&
                 memcmp(&p.root->number, &want, sizeof want) == 0,
             "%s: %.60s: expected %a, got %a", why, text, want, p.root ? p.root->number : 0.0);
    end(&p);
}

static uint64_t next_random(uint64_t *state) { // splitmix64
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void test_doubles(const char *why) {
    static const struct {
        const char *text;
        double value;
    } known[] = {
        {"0.1", 0x1.999999999999ap-4},
        {"1e-05", 0x1.4f8b588e368f1p-17},
        {"1e23", 0x1.52d02c7e14af6p+76},
        {"9007199254740993", 0x1p+53},
        {"9007199254740993.0000000000000000000000000000000000000000000000001",
         0x1.0000000000001p+53},
        {"2.2250738585072011e-308", 0x0.fffffffffffffp-1022},
        {"5e-324", 0x0.0000000000001p-1022},
        {"2.4703282292062327e-324", 0},
        {"2.4703282292062328e-324", 0x0.0000000000001p-1022},
        {"1.7976931348623157e308", 0x1.fffffffffffffp+1023},
        {"1.7976931348623158e308", 0x1.fffffffffffffp+1023},
        {"1.7976931348623159e308", INFINITY},
        {"-0.0", -0.0},
        {"0e99999999999", 0},
        {"-0e-99999999999", -0.0},
        {"1e-99999999999999999999", 0},
        {"1.00000000000000011102230246251565404236316680908203125", 1},
        {"1.00000000000000011102230246251565404236316680908203126", 0x1.0000000000001p+0},
        {"0.000001e6", 1},
        {"1000000e-6", 1},
        {"123456789012345678901e-20", 0x1.3c0ca428c59fbp+0},
    };
    char text[2600];
    uint64_t state = 1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        same_double(known[i].text, known[i].value, why);
    for (int i = 0; i < 4000; i++) { // what is printed with 17 digits comes back
        uint64_t bits = next_random(&state);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        fci_format_g(text, sizeof text, 17, value);
        same_double(text, value, why);
    }
    // Half way between two doubles, written out: even wins; a digit far beyond all doubles' digits
    // decides.
    size_t n = (size_t)sprintf(text, "9007199254740993.");
    memset(text + n, '0', 2000);
    text[n + 2000] = 0;
    same_double(text, 0x1p+53, why);
    text[n + 1999] = '1';
    same_double(text, 0x1.0000000000001p+53, why);
    memset(text, '0', 2000);
    memcpy(text, "0.", 2);
    strcpy(text + 2000, "25e2000");
    same_double(text, 25.0, why);
}

static void test_locale(void) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE",
                                        "fr_FR.UTF-8", "fr_FR.utf8", "pt_BR.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!setlocale(LC_NUMERIC, names[i]) || strcmp(localeconv()->decimal_point, ",") != 0)
            continue;
        test_doubles(names[i]);
        setlocale(LC_NUMERIC, "C");
        return;
    }
    setlocale(LC_NUMERIC, "C");
    t_skip("numbers under a comma locale", "none is installed");
}

static void test_many_keys(void) {
    const int n = 200000;
    char *text = (char *)malloc((size_t)n * 16 + 64), *p = text;
    *p++ = '{';
    for (int i = 0; i < n; i++) p += sprintf(p, "\"key%d\":%d,", i, i % 10);
    char *last = p;
    p += sprintf(p, "\"other\":0}");
    T_OK(verdict(text, (size_t)(p - text)) == FC_OK, "%d keys", n);
    p = last + sprintf(last, "\"k\\u0065y777\":0}");
    T_OK(verdict(text, (size_t)(p - text)) == FC_ERR_FORMAT, "%d keys and one again", n);
    for (int count = 1; count < 40; count++) // both ways to compare keys, and where they meet
        for (int twice = 0; twice <= count; twice++) {
            p = text + sprintf(text, "{\"k0\":[{}]");
            for (int i = 1; i < count; i++) p += sprintf(p, ",\"k%d\":0", i);
            if (twice < count) p += sprintf(p, ",\"k%d\":1", twice);
            p += sprintf(p, "}");
            T_OK(verdict(text, (size_t)(p - text)) == (twice < count ? FC_ERR_FORMAT : FC_OK),
                 "%d keys, %d again", count, twice);
        }
    free(text);
}

// Every cut of a text fails, every changed byte and every failing allocation ends well.
static void test_damage(void) {
    static const char text[] = "{\"model\": {\"vocab\": {\"a\\u00e9\": 0, \"b\": 1.5}, \"merges\": "
                               "[\"a b\", \"\xc3\xa9 \xf0\x9f\x98\x80\"]},"
                               " \"k\": [true, false, null, -1e-7]}";
    const size_t n = sizeof text - 1;
    char copy[sizeof text];
    for (size_t cut = 0; cut < n; cut++) T_OK(verdict(text, cut) != FC_OK, "cut at %d", (int)cut);
    for (size_t at = 0; at < n; at++)
        for (int byte = 0; byte < 256; byte += at % 5 ? 17 : 1) {
            memcpy(copy, text, sizeof text);
            copy[at] = (char)byte;
            verdict(copy, n);
        }
    for (long fail = 1;; fail++) {
        parsed p;
        begin(&p, text, n);
        p.m.fail_alloc = fail;
        p.code = fci_json_parse(&p.c, &p.arena, p.text, n, 0, &p.root, &p.err);
        T_OK(p.code == (p.m.allocs < fail ? FC_OK : FC_ERR_MEMORY), "allocation %ld fails: %s",
             fail, p.err.msg);
        bool over = p.code == FC_OK;
        end(&p);
        if (over) break;
    }
}

static void test_writer(void) {
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } cases[] = {
        {"", 0, "\"\""},
        {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
        {"\b\f\n\r\t\0\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\""},
        {"\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\""},
        {"a\xff"
         "b",
         3,
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    parsed p;
    begin(&p, "", 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fci_buffer b;
        memset(&b, 0, sizeof b);
        b.c = &p.c;
        fci_json_put_string(&b, fci_sn(cases[i].in, cases[i].n));
        T_OK(strcmp(b.p, cases[i].out) == 0, "written as %s, got %s", cases[i].out, b.p);
        T_OK(verdict(b.p, b.n) == FC_OK, "%s is valid", b.p);
        fci_buffer_free(&b);
    }
    char all[256];
    for (int i = 0; i < 256; i++) all[i] = (char)(i * 37 + 11);
    for (size_t n = 0; n <= 256; n++) {
        fci_buffer b;
        memset(&b, 0, sizeof b);
        b.c = &p.c;
        fci_json_put_string(&b, fci_sn(all, n));
        T_OK(verdict(b.p, b.n) == FC_OK, "%d bytes of all kinds", (int)n);
        fci_buffer_free(&b);
    }
    end(&p);
}

// JSONTestSuite leaves these to the reader (i_); of those it wants accepted (y_), two have
// duplicate keys.
static const struct { const char *name; int accepted; } verdicts[] = {
    {"y_object_duplicated_key.json", 0}, {"y_object_duplicated_key_and_value.json", 0},
    {"i_number_double_huge_neg_exp.json", 1}, {"i_number_huge_exp.json", 0}, {"i_number_neg_int_hug"
     "e_exp.json", 0},
    {"i_number_pos_double_huge_exp.json", 0}, {"i_number_real_neg_overflow.json", 0}, {
     "i_number_real_pos_overflow.json", 0},
    {"i_number_real_underflow.json", 1}, {"i_number_too_big_neg_int.json", 1}, {
     "i_number_too_big_pos_int.json", 1},
    {"i_number_very_big_negative_int.json", 1}, {"i_object_key_lone_2nd_surrogate.json", 0},
    {"i_string_1st_surrogate_but_2nd_missing.json", 0}, {"i_string_1st_valid_surrogate_2nd_invalid."
     "json", 0},
    {"i_string_UTF-16LE_with_BOM.json", 0}, {"i_string_UTF-8_invalid_sequence.json", 0}, {
     "i_string_UTF8_surrogate_U+D800.json", 0},
    {"i_string_incomplete_surrogate_and_escape_valid.json", 0}, {"i_string_incomplete_surrogate_pai"
     "r.json", 0},
    {"i_string_incomplete_surrogates_escape_valid.json", 0}, {"i_string_invalid_lonely_surrogate.js"
     "on", 0},
    {"i_string_invalid_surrogate.json", 0}, {"i_string_invalid_utf-8.json", 0}, {
     "i_string_inverted_surrogates_U+1D11E.json", 0},
    {"i_string_iso_latin_1.json", 0}, {"i_string_lone_second_surrogate.json", 0}, {
     "i_string_lone_utf8_continuation_byte.json", 0},
    {"i_string_not_in_unicode_range.json", 0}, {"i_string_overlong_sequence_2_bytes.json", 0},
    {"i_string_overlong_sequence_6_bytes.json", 0}, {"i_string_overlong_sequence_6_bytes_null.json",
     0},
    {"i_string_truncated-utf-8.json", 0}, {"i_string_utf16BE_no_BOM.json", 0}, {
     "i_string_utf16LE_no_BOM.json", 0},
    {"i_structure_500_nested_arrays.json", 0}, {"i_structure_UTF-8_BOM_empty_object.json", 0},
    {"utf8.json", 1}, // of json_extra/test_encoding, the only one that is UTF-8 without a mark
};

static int wanted(const char *name) { // 1 accept, 0 reject, -1 unknown
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++)
        if (strcmp(name, verdicts[i].name) == 0) return verdicts[i].accepted;
    return name[0] == 'y' ? 1 : name[0] == 'n' ? 0 : strncmp(name, "utf", 3) == 0 ? 0 : -1;
}

static int for_each(const char *directory,
                    void (*fn)(const char *name, const char *text, size_t n)) {
    char path[1024];
    snprintf(path, sizeof path, "%s/data/corpora/%s", t_shared(), directory);
    DIR *d = opendir(path);
    int count = 0;
    if (!d) {
        t_skip(directory, "not there");
        return 0;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = 0;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/data/corpora/%s/%s", t_shared(), directory, e->d_name);
        char *text = t_read(path, &n);
        if (!T_OK(text != NULL, "%s: cannot be read", path)) continue;
        fn(e->d_name, text, n);
        free(text);
        count++;
    }
    closedir(d);
    return count;
}

static void suite_file(const char *name, const char *text, size_t n) {
    int want = wanted(name);
    T_OK(want >= 0, "%s: no verdict is known", name);
    T_OK((verdict(text, n) == FC_OK) == (want == 1), "%s: expected to %s", name,
         want ? "be accepted" : "be refused");
}

static void roundtrip_file(const char *name, const char *text, size_t n) {
    parsed p;
    fci_buffer b;
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--;
    // the same key
    bool twice = strcmp(name, "roundtrip118.json") == 0 || strcmp(name, "roundtrip119.json") == 0;
    T_OK((parse(&p, text, n) == FC_OK) == !twice, "%s: %s", name, p.err.msg);
    if (p.root) {
        memset(&b, 0, sizeof b);
        b.c = &p.c;
        json_write(&b, p.root);
        T_OK(b.n == n && memcmp(b.p, text, n) == 0, "%s: written as it was read: %s", name, b.p);
        fci_buffer_free(&b);
    }
    end(&p);
}

static void number_file(const char *name, const char *text, size_t n) {
    bool fails = strstr(name, "fail") || strstr(name, "literal");
    if (!strstr(name, ".txt")) return;
    for (const char *line = text; line < text + n;) {
        size_t length = strcspn(line, "\r\n");
        char *one = (char *)malloc(length + 1);
        memcpy(one, line, length);
        one[length] = 0;
        if (length && one[0] != '#') {
            if (fails) T_OK(verdict(one, length) != FC_OK, "%s: %s refused", name, one);
            else same_double(one, strtod(one, NULL), name);
        }
        free(one);
        line += length + strspn(line + length, "\r\n");
    }
}

// Templates: quotes, values of every kind, commas only between members.
static void test_template(void) {
    static const char want[] =
        "{\"a\": \"x\\\"\", \"b\": [\"it's\",-0.5,null,true,false], \"c\": 7, "
        "\"d\": 18446744073709551615, \"e\": \"00000000000000ff\", \"f\": {\n}}";
    fci_context c;
    fci_buffer b;
    fci_context_basic(&c, NULL);
    memset(&b, 0, sizeof b);
    b.c = &c;
    fci_puts(&b, "{");
    fci_json_put(&b, ", %s: %.*s", "a", 2, "x\"y");
    fci_json_put(&b, ", 'b': [");
    fci_json_put(&b, ",%s", "it's");
    fci_json_put(&b, ",%g,%g,%i,%i], 'c': %u", -0.5, (double)NAN, 1, 0, 7u);
    fci_json_put(&b, ", 'd': %llu, 'e': '%016llx'", ~0ull, 255ull);
    fci_json_put(&b, ", 'f': {");
    fci_json_put(&b, ",\n}");
    fci_json_put(&b, "}");
    T_OK(b.p && strcmp(b.p, want) == 0, "templates: %s", b.p);
    fci_buffer_free(&b);
}

// Every character, and bytes that are none, as JSON: read back they are the same; and nothing that
// is shown steers.
static void test_escapes(void) {
    char text[5], shown[8], quoted[10], tiny[4];
    for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 251) {
        if (c >= 0xd800 && c < 0xe000) continue;
        const size_t n = fci_utf8_put(text, c);
        parsed p;
        size_t took = fc_escape_next(FC_ESCAPE_JSON, text, n, shown, sizeof shown);
        snprintf(quoted, sizeof quoted, "\"%s\"", shown);
        T_OK(took == n && parse(&p, quoted, strlen(quoted)) == FC_OK && p.root->text.n == n &&
                 !memcmp(p.root->text.p, text, n),
             "U+%04x: %s", c, shown);
        end(&p);
        const bool steers =
            c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x202e || c == 0x2028 || c == 0x200f;
        took = fc_escape_next(FC_ESCAPE_TERMINAL, text, n, shown, sizeof shown);
        T_OK(took == n && (shown[0] == '\\' || !steers) && (strlen(shown) == n || shown[0] == '\\'),
             "U+%04x: %s", c, shown);
        took = fc_escape_next(FC_ESCAPE_ASCII, text, n, shown, sizeof shown);
        T_OK(took == 1 &&
                 (n == 1 && !steers ? shown[0] == text[0] : shown[0] == '\\' && shown[1] == 'x'),
             "U+%04x: %s", c, shown);
    }
    static const struct {
        fc_escape how;
        const char *text, *want;
    } rows[] = {
        {FC_ESCAPE_ASCII, "\xff", "\\xff"},   {FC_ESCAPE_TERMINAL, "\xff", "\\xff"},
        {FC_ESCAPE_JSON, "\xff", "\\ufffd"},  {FC_ESCAPE_TERMINAL, "\x1b", "\\x1b"},
        {FC_ESCAPE_JSON, "\n", "\\u000a"},    {FC_ESCAPE_JSON, "\"", "\\\""},
        {FC_ESCAPE_TERMINAL, "\"", "\""},     {FC_ESCAPE_TERMINAL, "\xe2\x80\xae", "\\u202e"},
        {FC_ESCAPE_TERMINAL, "\xc3", "\\xc3"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fc_escape_next(rows[i].how, rows[i].text, strlen(rows[i].text), shown, sizeof shown);
        T_OK(!strcmp(shown, rows[i].want), "%s: expected %s", shown, rows[i].want);
    }
    T_OK(fc_escape_next(FC_ESCAPE_JSON, NULL, 5, shown, 8) == 0 && !shown[0] &&
             fc_escape_next(FC_ESCAPE_JSON, "x", 0, shown, 8) == 0 &&
             fc_escape_next(FC_ESCAPE_JSON, "x", 1, NULL, 8) == 0 &&
             fc_escape_next(FC_ESCAPE_JSON, "x", 1, shown, 0) == 0 &&
             fc_escape_next((fc_escape)99, "\xc3\xa9", 2, shown, 8) == 1,
         "nothing");
    T_OK(fc_escape_next(FC_ESCAPE_TERMINAL, "\x1b", 1, tiny, sizeof tiny) == 1 &&
             !strcmp(tiny, "\\x1"),
         "cut: %s", tiny);
}

int main(void) {
    test_escapes();
    test_grammar();
    test_depth();
    test_tree();
    test_integers();
    test_doubles("here");
    test_locale();
    test_many_keys();
    test_damage();
    test_writer();
    test_template();
    int files = for_each("json_test_suite/test_parsing", suite_file);
    T_OK(files == 0 || files == 318, "318 files of JSONTestSuite, got %d", files);
    for_each("json_extra/test/data/json/test_encoding", suite_file);
    for_each("json_extra/test/data/json/test_roundtrip", roundtrip_file);
    for_each("json_extra/test/data/num", number_file);
    return t_end("json");
}
