#ifdef __cplusplus
extern "C" {
#endif
/* An episode of a body begins, with what the brain remembers; -1 if there is no such body. A state
 * that is reset begins one of body 0. */
int brain_begin(brain_state *state, int body);
/* The action, a number for each part; -1, and no action, if its logits are not finite. A number of
 * the observation that is not finite is absent. It is the likeliest action, or with `noise`, a
 * number for each choice that is added to its logit, another: -log(-log(u)), u uniform in (0, 1),
 * draws each by its probability. */
int brain_act(brain_state *state, const double *observation, const double *noise, double *action);
#ifdef __cplusplus
}
#endif
