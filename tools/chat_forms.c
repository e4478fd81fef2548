/* Prints the hashes of the forms of chat templates, which fci_chat_rows in finercut.h lists: those
   of real ones, compared with transformers (tools/check_chat.py). With -v the forms, too.
   Build: cc -O1 tools/chat_forms.c -o build/chat_forms -lm -pthread
   Run: build/chat_forms [-v] TEMPLATE.jinja... */
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

int main(int argc, char **argv) {
    const int verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
    fci_context c;
    fci_context_basic(&c, NULL);
    for (int i = 1 + verbose; i < argc; i++) {
        fc_error err;
        fc_text file;
        if (fc_file_read(argv[i], NULL, &file, &err)) {
            fprintf(stderr, "chat_forms: %s\n", err.msg);
            return 1;
        }
        fci_buffer plain = fci_buffer_of(&c), form = fci_buffer_of(&c);
        fci_puts(&plain, "");
        fci_puts(&form, "");
        fci_chat_plain(fci_sn(file.bytes, file.length), &plain);
        if (plain.p) fci_chat_form(plain.p, &form);
        if (form.p)
            printf("0x%016llx %s%s%s\n", (unsigned long long)fci_chat_hash(form.p), argv[i],
                   verbose ? "\n" : "", verbose ? form.p : "");
        fci_buffer_free(&plain);
        fci_buffer_free(&form);
        fc_text_free(&file);
    }
    return 0;
}
