"""The names of metrics, the same in every algorithm, on the console, in CSV files and in TensorBoard.

A metric of an update is the mean over its gradient steps, unless its line says otherwise.
"""

from __future__ import annotations

METRICS: dict[str, str] = {
    # ------------------------------------------------------------------------------------- episodes
    "rollout/ep_return_mean": "mean return of the last 100 finished training episodes, in rewards",
    "rollout/ep_length_mean": "mean length of the last 100 finished training episodes, in environment steps",
    "rollout/episodes": "training episodes finished so far",
    "eval/return_mean": "mean return of an evaluation's episodes, in rewards",
    "eval/return_std": "standard deviation of the return over an evaluation's episodes, in rewards",
    "eval/return_min": "lowest return of an evaluation's episodes, in rewards",
    "eval/return_max": "highest return of an evaluation's episodes, in rewards",
    "eval/length_mean": "mean length of an evaluation's episodes, in environment steps",
    "eval/cut_episodes": "episodes that an evaluation left after eval_max_steps",
    # --------------------------------------------------------------------------------------- losses
    "loss/total": "what one optimiser minimises: the other losses, weighted and summed",
    "loss/policy": "the policy's loss, without entropy bonus and KL penalty",
    "loss/value": "the loss of V, in squared units of the (scaled) return, with popart of their deviation",
    "loss/q": "the loss of the critic Q, over all critics, in squared units of the (scaled) return",
    "loss/kl": "the penalty on the KL divergence from the old policy, multipliers included, in nats",
    "loss/alpha": "the loss of the KL multipliers",
    "loss/dual": "the dual loss of the temperatures",
    "loss/dae": "the loss of direct advantage estimation, over the fit of an update",
    "loss/reconstruction": "the loss of the reconstructed observations",
    # ------------------------------------------------------------------------------------- training
    "train/updates": "updates of the learner so far",
    "train/skipped": "gradient steps left out so far because their loss or gradient was not finite",
    "train/epochs": "passes over the rollout in an update; fewer than update_epochs where target_kl ended it",
    "train/approx_kl": "mean KL(π_old ‖ π) of an update, or its estimate from sampled actions, in nats",
    "train/clip_fraction": "share of rows whose probability ratio is clipped, in [0, 1]",
    "train/entropy": "mean entropy of the policy, in nats",
    "train/explained_variance": "1 − Var(target − V) / Var(target) over a rollout; at most 1",
    "train/learning_rate": "learning rate of the last gradient step",
    "train/ent_coef": "factor of the entropy bonus in an update",
    "train/kl_penalty": "factor of the KL penalty after an update",
    "train/early_stops": "updates so far that a KL above its target ended early",
    "grad/norm": "norm of the gradient before clipping, of all parameters",
    "grad/policy_norm": "norm of the policy's gradient before clipping",
    "grad/value_norm": "norm of the value function's gradient before clipping",
    "grad/q_norm": "norm of the critic's gradient before clipping",
    "grad/dae_norm": "norm of the gradient before clipping while advantages are fitted",
    # ----------------------------------------------------------------- maximum a posteriori methods
    "kl/mean": "KL(π_old ‖ π) of the mean, or of discrete actions, at the last gradient step, in nats",
    "kl/std": "KL(π_old ‖ π) of the deviation, at the last gradient step, in nats",
    "mpo/kl_mean_rel": "kl/mean over its bound",
    "mpo/kl_std_rel": "kl/std over its bound",
    "mpo/alpha_mean": "multiplier of the KL of the mean, or of discrete actions, averaged over dimensions",
    "mpo/alpha_std": "multiplier of the KL of the deviation, averaged over dimensions",
    "mpo/temperature": "temperature η of the E-step, in units of Q",
    "mpo/ess": "effective number of sampled actions per state in the E-step",
    "mpo/penalty_temperature": "temperature of the action penalty's E-step",
    "mpo/out_of_bounds": "mean distance of sampled actions from the bounds that they exceed",
    "sac/alpha": "temperature α of the entropy, in units of reward per nat",
    "q/target_mean": "mean target of the critic, in (scaled) return",
    "replay/transitions": "transitions in the replay",
    "replay/refused": "transitions left out of the replay so far because they were not finite",
    "vmpo/temperature": "temperature η of the E-step, in units of the advantage",
    "vmpo/alpha_mean": "multiplier of the KL of the mean, or of discrete actions",
    "vmpo/alpha_std": "multiplier of the KL of the covariance",
    "vmpo/kl_mean_rel": "kl/mean over its bound",
    "vmpo/kl_std_rel": "kl/std over its bound",
    "vmpo/m_steps": "gradient steps of an update; fewer than m_steps where kl_stop ended it",
    "vmpo/selected_frac": "share of the rows that the policy learns from, in [0, 1]",
    "vmpo/ess": "effective share of the selected rows under the weights of the E-step, in [0, 1]",
    "dae/loss_after": "loss of direct advantage estimation after the fit of an update",
    "dae/advantage_std": "standard deviation of Â under the policy, in units of the (scaled) return",
    # ----------------------------------------------------------------------------------------- time
    "time/env_steps_per_s": "environment steps per second of the last round of collecting and learning",
    "time/acting_s": "seconds of choosing actions since the last row",
    "time/environment_s": "seconds of stepping the environments since the last row",
    "time/storing_s": "seconds of writing transitions into the replay since the last row",
    "time/sampling_s": "seconds of drawing batches from the replay since the last row",
    "time/estimation_s": "seconds of computing learning targets since the last row",
    "time/learning_s": "seconds of updating the learner since the last row, fitting included",
    "time/fitting_s": "seconds of fitting direct advantages since the last row",
}

EVERY_ALGORITHM = (
    "rollout/episodes",
    "rollout/ep_return_mean",
    "rollout/ep_length_mean",
    "loss/policy",
    "train/updates",
    "train/entropy",
    "train/approx_kl",
    "time/env_steps_per_s",
    "time/acting_s",
    "time/environment_s",
    "time/learning_s",
)
"""What every algorithm gives; beside it loss/value and train/explained_variance where there is a V, else
loss/q."""
