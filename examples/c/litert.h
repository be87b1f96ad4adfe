/* What seed_brain.c calls of LiteRT, the TFLite runtime of the wheel ai-edge-litert, which brings
 * libLiteRt.so but no headers. Names, arguments and numbers are those of litert/c/ in
 * github.com/google-ai-edge/LiteRT, the same in its releases 2.1.6 and 2.2.0 and in the library of
 * 2.3.0; its handles are void pointers here. Each function returns 0 if it succeeds. */
#ifndef LITERT_H
#define LITERT_H
#include <stddef.h>
#include <stdint.h>

#define LITERT_CPU 1                /* LiteRtHwAccelerators */
#define LITERT_FLOAT32 1            /* LiteRtElementType */
#define LITERT_INT32 2
#define LITERT_MAX_RANK 8
#define LITERT_ACCELERATORS 24      /* LiteRtEnvOptionTag: which are looked for */
#define LITERT_MIN_SEVERITY 25      /* and from which severity on it prints */
#define LITERT_ERROR 3              /* LiteRtLogSeverity */
#define LITERT_ANY_INT 2            /* LiteRtAnyType */

typedef struct {                    /* LiteRtEnvOption */
    int tag;
    struct {                        /* LiteRtAny */
        int type;
        int64_t value;
    } any;
} litert_option;

typedef struct {                    /* LiteRtRankedTensorType with a LiteRtLayout */
    int type;
    unsigned int rank : 7, has_strides : 1;
    int32_t dimensions[LITERT_MAX_RANK];
    uint32_t strides[LITERT_MAX_RANK];
} litert_tensor;

/* Name behind LiteRt, result, arguments. */
#define LITERT_FUNCTIONS(F) \
    F(CreateEnvironment, int, (int, const litert_option *, void **)) \
    F(DestroyEnvironment, void, (void *)) \
    F(CreateModelFromBuffer, int, (void *, const void *, size_t, void **)) \
    F(DestroyModel, void, (void *)) \
    F(CreateOptions, int, (void **)) \
    F(SetOptionsHardwareAccelerators, int, (void *, int)) \
    F(CreateOpaqueOptions, int, (const char *, void *, void (*)(void *), void **)) \
    F(AddOpaqueOptions, int, (void *, void *)) \
    F(DestroyOptions, void, (void *)) \
    F(CreateCompiledModel, int, (void *, void *, void *, void **)) \
    F(DestroyCompiledModel, void, (void *)) \
    F(GetNumModelSignatures, int, (void *, size_t *)) \
    F(GetModelSignature, int, (void *, size_t, void **)) \
    F(GetSignatureKey, int, (void *, const char **)) \
    F(GetNumSignatureInputs, int, (void *, size_t *)) \
    F(GetNumSignatureOutputs, int, (void *, size_t *)) \
    F(GetSignatureInputName, int, (void *, size_t, const char **)) \
    F(GetSignatureOutputName, int, (void *, size_t, const char **)) \
    F(GetSignatureInputTensorByIndex, int, (void *, size_t, void **)) \
    F(GetSignatureOutputTensorByIndex, int, (void *, size_t, void **)) \
    F(GetRankedTensorType, int, (void *, litert_tensor *)) \
    F(GetCompiledModelInputBufferRequirements, int, (void *, size_t, size_t, void **)) \
    F(GetCompiledModelOutputBufferRequirements, int, (void *, size_t, size_t, void **)) \
    F(CreateManagedTensorBufferFromRequirements, int, \
      (void *, const litert_tensor *, void *, void **)) \
    F(GetTensorBufferHostMemory, int, (void *, void **)) \
    F(GetTensorBufferSize, int, (void *, size_t *)) \
    F(DestroyTensorBuffer, void, (void *)) \
    F(RunCompiledModel, int, (void *, size_t, size_t, void **, size_t, void **))

typedef struct {
#define FIELD(name, result, arguments) result (*name) arguments;
    LITERT_FUNCTIONS(FIELD)
#undef FIELD
} litert;

#endif
