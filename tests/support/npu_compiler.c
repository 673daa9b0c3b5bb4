/* A stand-in for Intel's NPU compiler library: it speaks the plugin's interface (VCL 7.10) and compiles nothing.
 *
 * By the variable STAND_IN_NPU_COMPILER it "compiles" (any other value), refuses every model ("refuse"), or says it is
 * too old ("old"). Built with -DEMPTY it has none of the functions that OpenVINO looks for.
 */
#ifdef EMPTY
int stand_in;
#else
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define INVALID_ARGUMENT 0x78000004
#define UNSUPPORTED 0x78000003
#define BLOB 4096

typedef struct { uint16_t major, minor; } version;
typedef struct { const char *id; version version; uint32_t opsets; } properties;
typedef struct { const uint8_t *model; uint64_t model_size; const char *options; uint64_t options_size; } description;
typedef struct allocator { uint8_t *(*allocate)(struct allocator *, uint64_t); int (*free)(struct allocator *, uint8_t *); } allocator;

static const char text[] = "stand-in";
static int handle;

static int is(const char *how) {
    const char *value = getenv("STAND_IN_NPU_COMPILER");
    return value != NULL && strcmp(value, how) == 0;
}

/* Asked twice: for the size, then for the text. */
static int answer(char *to, uint64_t *size) {
    if (to != NULL) memcpy(to, text, sizeof text);
    *size = sizeof text;
    return OK;
}

int vclGetVersion(version *compiler, version *profiling) {
    *compiler = (version){7, is("old") ? 0 : 10};
    *profiling = (version){2, 0};
    return OK;
}

int vclCompilerCreate(void *compiler, void *device, void **made, void **log) {
    (void)compiler, (void)device;
    *made = *log = &handle;
    return OK;
}

int vclCompilerGetProperties(void *compiler, properties *to) {
    (void)compiler;
    *to = (properties){text, {7, is("old") ? 0 : 10}, 11};
    return OK;
}

int vclAllocatedExecutableCreate4(void *compiler, description what, allocator *memory, uint8_t **blob, uint64_t *size,
                                  void **made) {
    (void)compiler, (void)what;
    if (is("refuse")) return INVALID_ARGUMENT;
    *blob = memory->allocate(memory, BLOB);
    memset(*blob, 0, BLOB);
    memcpy(*blob, text, sizeof text);
    *size = BLOB;
    *made = &handle;
    return OK;
}

int vclExecutableGetCompatibilityString(void *executable, char *to, uint64_t *size) { (void)executable; return answer(to, size); }
int vclLogHandleGetString(void *log, size_t *size, char *to) { (void)log; return answer(to, (uint64_t *)size); }
int vclGetCompilerSupportedOptions(void *compiler, char *to, uint64_t *size) { (void)compiler; return answer(to, size); }
int vclGetCompilerIsOptionSupported(void *compiler, const char *name, const char *value) { (void)compiler, (void)name, (void)value; return OK; }
int vclCompilerDestroy(void *compiler) { (void)compiler; return OK; }
int vclExecutableDestroy(void *executable) { (void)executable; return OK; }

/* Looked for when the library is loaded, and never called. */
int vclAllocatedExecutableCreate2(void) { return UNSUPPORTED; }
int vclAllocatedExecutableCreateWSOneShot2(void) { return UNSUPPORTED; }
int vclExecutableCreate(void) { return UNSUPPORTED; }
int vclExecutableGetSerializableBlob(void) { return UNSUPPORTED; }
int vclQueryNetworkCreate(void) { return UNSUPPORTED; }
int vclQueryNetwork(void) { return UNSUPPORTED; }
int vclQueryNetworkDestroy(void) { return UNSUPPORTED; }
int vclProfilingCreate(void) { return UNSUPPORTED; }
int vclGetDecodedProfilingBuffer(void) { return UNSUPPORTED; }
int vclProfilingDestroy(void) { return UNSUPPORTED; }
int vclProfilingGetProperties(void) { return UNSUPPORTED; }
#endif
