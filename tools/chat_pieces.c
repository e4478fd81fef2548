/* Prints the hashes of the pieces of chat templates, which fci_chat_pieces in finercut.h lists: of
   real templates that were compared with transformers (tools/check_chat.py). With -v with the text.
   Build: cc -O1 tools/chat_pieces.c -o build/chat_pieces -lm -pthread
   Run: build/chat_pieces [-v] TEMPLATE.jinja... | sort -u */
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
            fprintf(stderr, "chat_pieces: %s\n", err.msg);
            return 1;
        }
        fci_buffer b = fci_buffer_of(&c);
        fci_puts(&b, "");
        fci_chat_plain(fci_sn(file.bytes, file.length), &b);
        for (const char *p = b.p, *start = p; p && *p; start = p) {
            const uint32_t h = fci_chat_piece(&p);
            printf("0x%08lx%s%.*s\n", (unsigned long)h, verbose ? " " : "",
                   verbose ? (int)(p - start) : 0, start);
        }
        fci_buffer_free(&b);
        fc_text_free(&file);
    }
    return 0;
}
