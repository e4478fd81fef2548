// The header and what it keeps private, for a test. With T_LINKED the functions come from one
// object, tests/private.c, and each test compiles what is its own: gcc and clang skip the bodies of
// `extern inline` functions in GNU's old sense. A test that changes how the header compiles
// includes finercut.h itself, and compiles all of it.
#ifndef T_PRIVATE_H
#define T_PRIVATE_H
#ifdef T_LINKED
#  pragma GCC system_header // such functions may not use static data; these are never emitted
#  define FINERCUT_API extern __inline__ __attribute__((__gnu_inline__, __unused__))
#  define FCI_FN FINERCUT_API
#endif
// Limits of another size, which a test meets.
#define FCI_HEAL_PAUSE (-1.0) // a checkpoint after every sublayer
#define FCI_TEXT_READ_LIMIT ((uint64_t)1000000)
#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

#if defined(__GNUC__) || defined(__clang__)
#  define T_FN static __attribute__((unused)) // a test need not call all that a header has
#else
#  define T_FN static
#endif
#endif
