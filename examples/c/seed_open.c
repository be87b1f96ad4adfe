/* Opens an exported file on LiteRT, and refuses what it cannot run. */
#include "seed_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libLiteRt.so"
#define ALIGNMENT 64

bool seed_fail(seed_brain *brain, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(brain->error, sizeof brain->error, format, arguments);
    va_end(arguments);
    return false;
}

/* Zeros, until the brain is closed; NULL if there is no memory. */
void *seed_allocate(seed_brain *brain, size_t count, size_t bytes) {
    void *memory;
    if (count > MAX_FILE_BYTES / bytes
        || posix_memalign(&memory, ALIGNMENT, ALIGNMENT + count * bytes)) {
        seed_fail(brain, "%s does not fit into memory: use a smaller brain", brain->name);
        return NULL;
    }
    memset(memory, 0, ALIGNMENT + count * bytes);
    *(void **)memory = brain->blocks;
    brain->blocks = memory;
    return (char *)memory + ALIGNMENT;
}

static bool read_file(seed_brain *brain, const char *path) {
    brain->name = (char *)seed_allocate(brain, strlen(path) + 1, 1);
    if (!brain->name) return false;
    strcpy(brain->name, path);
    long size = read_regular(path, NULL, MAX_FILE_BYTES, false);
    if (size >= 0) {
        brain->data = (uint8_t *)seed_allocate(brain, (size_t)size + 1, 1);
        if (!brain->data) return false;
        size = read_regular(path, brain->data, (size_t)size, false);
    }
    if (size == -1)
        return seed_fail(brain, "%s: %s; name an exported brain", path, strerror(errno));
    if (size < 0) return seed_fail(brain, "%s is not a file: name an exported brain", path);
    brain->data_bytes = (size_t)size;
    const char *reason = description_of(brain->data, brain->data_bytes, &brain->description);
    return !reason || seed_fail(brain, "%s %s", path, reason);
}

static bool load_functions(seed_brain *brain, const char *library) {
    /* It stays loaded: unloading would free what its other brains use. */
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL), *symbol;
    if (!handle)
        return seed_fail(brain, "no LiteRT: %.200s; pip install ai-edge-litert, and name its %s",
                         dlerror(), LIBRARY);
#define BIND(name, result, arguments) \
    symbol = dlsym(handle, "LiteRt" #name); \
    if (!symbol) \
        return seed_fail(brain, "%s has no LiteRt%s: use that of ai-edge-litert 2.1.6 or newer", \
                         library, #name); \
    memcpy(&brain->api.name, &symbol, sizeof symbol);
    LITERT_FUNCTIONS(BIND)
#undef BIND
    return true;
}

static void keep_payload(void *payload) { (void)payload; }   /* it is a constant */

static bool compile(seed_brain *brain) {
    static char one_thread[] = "num_threads = 1\n";
    const litert *api = &brain->api;
    litert_option settings[] = {{LITERT_ACCELERATORS, {LITERT_ANY_INT, LITERT_CPU}},
                                {LITERT_MIN_SEVERITY, {LITERT_ANY_INT, LITERT_ERROR}}};
    void *options = NULL, *threads = NULL;
    int code = api->CreateEnvironment(2, settings, &brain->environment);
    if (!code)
        code = api->CreateModelFromBuffer(brain->environment, brain->data, brain->data_bytes,
                                          &brain->model);
    if (!code) code = api->CreateOptions(&options);
    if (!code) code = api->SetOptionsHardwareAccelerators(options, LITERT_CPU);
    if (!code) code = api->CreateOpaqueOptions("xnnpack", one_thread, keep_payload, &threads);
    if (!code) code = api->AddOpaqueOptions(options, threads);
    if (!code)
        code = api->CreateCompiledModel(brain->environment, brain->model, options,
                                        &brain->compiled);
    if (options) api->DestroyOptions(options);
    return !code || seed_fail(brain, "%s cannot be run: LiteRT says %d; export it again, or use "
                              "ai-edge-litert 2.1.6 or newer", brain->name, code);
}

/* A tensor of a signature with its memory; 0 if all is well. */
static int make_tensor(seed_brain *brain, void *handle, signature *out, int side, size_t i) {
    const litert *api = &brain->api;
    void *tensor, *needs;
    size_t size;
    litert_tensor *type = out->types[side] + i;
    int code = side == INPUT ? api->GetSignatureInputName(handle, i, out->names[side] + i)
                             : api->GetSignatureOutputName(handle, i, out->names[side] + i);
    if (!code)
        code = side == INPUT ? api->GetSignatureInputTensorByIndex(handle, i, &tensor)
                             : api->GetSignatureOutputTensorByIndex(handle, i, &tensor);
    if (!code) code = api->GetRankedTensorType(tensor, type);
    if (!code)
        code = side == INPUT ? api->GetCompiledModelInputBufferRequirements(
                                   brain->compiled, out->index, i, &needs)
                             : api->GetCompiledModelOutputBufferRequirements(
                                   brain->compiled, out->index, i, &needs);
    if (!code)
        code = api->CreateManagedTensorBufferFromRequirements(brain->environment, type, needs,
                                                              out->buffers[side] + i);
    if (!code) code = api->GetTensorBufferHostMemory(out->buffers[side][i], out->data[side] + i);
    if (!code) code = api->GetTensorBufferSize(out->buffers[side][i], &size);
    if (!code) memset(out->data[side][i], 0, size);   /* a tick reads a byte, if none was before */
    return code;
}

static bool bind_signature(seed_brain *brain, const char *key, signature *out) {
    const litert *api = &brain->api;
    void *handle;
    const char *name;
    size_t count = 0;
    int code = api->GetNumModelSignatures(brain->model, &count);
    for (out->index = 0; !code && out->index < count; out->index++) {
        code = api->GetModelSignature(brain->model, out->index, &handle);
        if (!code) code = api->GetSignatureKey(handle, &name);
        if (!code && !strcmp(name, key)) break;
    }
    if (code || out->index == count)
        return seed_fail(brain, "%s has no signature %s: export it again", brain->name, key);
    code = api->GetNumSignatureInputs(handle, &out->count[INPUT]);
    if (!code) code = api->GetNumSignatureOutputs(handle, &out->count[OUTPUT]);
    for (int side = INPUT; !code && side <= OUTPUT; side++) {
        size_t n = out->count[side];
        out->names[side] = (const char **)seed_allocate(brain, n + 1, sizeof(char *));
        out->types[side] = (litert_tensor *)seed_allocate(brain, n + 1, sizeof(litert_tensor));
        out->data[side] = (void **)seed_allocate(brain, n + 1, sizeof(void *));
        void **buffers = (void **)seed_allocate(brain, n + 1, sizeof(void *));
        if (!out->names[side] || !out->types[side] || !out->data[side] || !buffers) return false;
        out->buffers[side] = buffers;
        for (size_t i = 0; !code && i < n; i++) code = make_tensor(brain, handle, out, side, i);
    }
    return !code || seed_fail(brain, "%s has a signature %s that cannot be run: LiteRT says %d; "
                              "export it again", brain->name, key, code);
}

/* The memory of a tensor that has to be there with that name and that many numbers. */
static void *tensor_of(seed_brain *brain, signature *in, int side, span name, const char *ending,
                       int type, size_t count) {
    size_t length = (size_t)(name.end - name.start);
    for (size_t i = 0; i < in->count[side]; i++) {
        const litert_tensor *t = in->types[side] + i;
        const char *tensor = in->names[side][i];
        size_t numbers = 1;
        if (strncmp(tensor, name.start, length) || strcmp(tensor + length, ending)) continue;
        for (unsigned d = 0; d < t->rank && d < LITERT_MAX_RANK; d++)
            numbers *= t->dimensions[d] > 0 ? (size_t)t->dimensions[d] : 0;
        if (t->type != type || numbers != count) break;
        in->used[side]++;
        return in->data[side][i];
    }
    seed_fail(brain, "%s has a signature without a right tensor %.*s%s: export it again",
              brain->name, (int)length, name.start, ending);
    return NULL;
}

static float *floats_of(seed_brain *brain, signature *in, int side, const char *name,
                        size_t count) {
    span whole = {name, name + strlen(name)};
    return (float *)tensor_of(brain, in, side, whole, "", LITERT_FLOAT32, count);
}

static bool bind_step(seed_brain *brain) {
    static const char token[] = "token";
    span name = {token, token + strlen(token)};
    signature *step = &brain->step;
    if (!bind_signature(brain, "step", step)) return false;
    brain->token = (int32_t *)tensor_of(brain, step, INPUT, name, "", LITERT_INT32, 1);
    brain->logits = floats_of(brain, step, OUTPUT, "logits", SEED_LOGITS);
    if (!brain->token || !brain->logits) return false;
    if (!brain->body_count) return true;
    brain->present = floats_of(brain, step, INPUT, "present", 1);
    brain->weights = floats_of(brain, step, INPUT, "weights", (size_t)brain->weights_count);
    brain->control_out = floats_of(brain, step, OUTPUT, "control", (size_t)brain->control_count);
    if (brain->hidden_count)
        brain->hidden_out = floats_of(brain, step, OUTPUT, "hidden", (size_t)brain->hidden_count);
    return brain->present && brain->weights && brain->control_out
        && (brain->hidden_out || !brain->hidden_count);
}

/* `in` takes the states, and `out` gives them. */
static bool bind_states(seed_brain *brain, signature *in, signature *out, const char *ending) {
    for (state *s = brain->states; s < brain->states + brain->state_count; s++) {
        span name = {s->name.start + 1, s->name.end - 1};
        s->in = (float *)tensor_of(brain, in, INPUT, name, "", LITERT_FLOAT32, s->count);
        s->out = (float *)tensor_of(brain, out, OUTPUT, name, ending, LITERT_FLOAT32, s->count);
        if (!s->in || !s->out) return false;
    }
    return true;
}

/* A signature that takes and gives nothing that matters, beside states. */
static bool bind_call(seed_brain *brain, const char *key, signature *called) {
    return bind_signature(brain, key, called) && floats_of(brain, called, INPUT, "unused", 1)
        && floats_of(brain, called, OUTPUT, "done", 1);
}

static bool bind_all(seed_brain *brain) {
    signature *all[] = {&brain->step, &brain->reset, &brain->save, &brain->load};
    brain->can_save = brain->is_explicit || brain->body_count;
    if (!bind_step(brain)) return false;
    if (brain->is_explicit && !bind_states(brain, &brain->step, &brain->step, "_out"))
        return false;
    if (!brain->is_explicit && !bind_call(brain, "reset", &brain->reset)) return false;
    if (brain->can_save && !brain->is_explicit
        && (!bind_call(brain, "save", &brain->save) || !bind_call(brain, "load", &brain->load)
            || !bind_states(brain, &brain->load, &brain->save, "")))
        return false;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (memcmp(all[i]->used, all[i]->count, sizeof all[i]->used))
            return seed_fail(brain, "%s has tensors that its description lacks: export it again",
                             brain->name);
    return true;
}

/* What later calls need. */
static bool make_room(seed_brain *brain) {
    size_t numbers = (size_t)brain->control_count + (size_t)brain->hidden_count + MAX_PARTS;
    brain->scratch_bytes = brain->state_bytes + MAX_NUMBER * numbers + 1024
        + (brain->body_count ? (size_t)(brain->description.end - brain->description.start) : 0);
    brain->scratch = (char *)seed_allocate(brain, brain->scratch_bytes, 1);
    brain->control = (float *)seed_allocate(brain, (size_t)brain->control_count + 1, 4);
    brain->hidden = (float *)seed_allocate(brain, (size_t)brain->hidden_count + 1, 4);
    return brain->scratch && brain->control && brain->hidden;
}

seed_brain *seed_open(const char *path, const char *library, char error[SEED_ERROR_BYTES]) {
    seed_brain *brain = (seed_brain *)calloc(1, sizeof *brain);
    locale_t point = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!brain || !point) {
        if (error) snprintf(error, SEED_ERROR_BYTES, "no memory for a brain: end other programs");
        free(brain);
        if (point) freelocale(point);
        return NULL;
    }
    brain->locale = point;
    locale_t before = uselocale(point);
    bool is_open = read_file(brain, path ? path : "") && seed_read_description(brain)
        && load_functions(brain, library ? library : LIBRARY) && compile(brain)
        && bind_all(brain) && make_room(brain) && !seed_reset(brain);
    uselocale(before);
    if (is_open) return brain;
    if (error) snprintf(error, SEED_ERROR_BYTES, "%s", brain->error);
    seed_close(brain);
    return NULL;
}

void seed_close(seed_brain *brain) {
    if (!brain) return;
    signature *all[] = {&brain->step, &brain->reset, &brain->save, &brain->load};
    const litert *api = &brain->api;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int side = INPUT; side <= OUTPUT; side++)
            for (size_t j = 0; all[i]->buffers[side] && j < all[i]->count[side]; j++)
                if (all[i]->buffers[side][j]) api->DestroyTensorBuffer(all[i]->buffers[side][j]);
    if (brain->compiled) api->DestroyCompiledModel(brain->compiled);
    if (brain->model) api->DestroyModel(brain->model);
    if (brain->environment) api->DestroyEnvironment(brain->environment);
    while (brain->blocks) {
        void *next = *(void **)brain->blocks;
        free(brain->blocks);
        brain->blocks = next;
    }
    freelocale(brain->locale);
    free(brain);
}

const char *seed_error(const seed_brain *brain) { return brain->error; }
