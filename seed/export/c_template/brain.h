#ifdef __cplusplus
extern "C" {
#endif
void brain_reset(brain_state *state);   /* the state before the first byte */
void brain_step(brain_state *state, uint8_t byte, float logits[256]); /* of the byte after it */
#ifdef __cplusplus
}
#endif
