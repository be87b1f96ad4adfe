"""The model, its optimizer and their captured graphs, as the loop sees them."""
from collections.abc import Sequence

import numpy as np

from seed.config import Profile
from seed.curriculum.dataset import Batch, SoftTargetBatch
from seed.curriculum.vocab import END
from seed.rng import Stream, stream
from seed.evaluation.forward_pass import ForwardByLength
from seed.training.optim import Optimizer
from seed.practice.selfplay import Answer
from seed.training.step import StepResult, TrainStep
from seed.wavecore.decode import Rollouts
from seed.wavecore.model import WaveCore, init_params


class Learner:
    """A brain in training; nothing is compiled before it is used."""

    def __init__(self, profile: Profile, threads: int):
        config = profile.train
        self.model = WaveCore(profile.model, init_params(profile.model, config.seed), threads)
        self.optim = Optimizer(self.model, config)
        self.step_graph = TrainStep(self.model, self.optim, config.batch_size, config.seq_len,
                                    config.grad_accum_steps,
                                    profile.distill if profile.distill.parent else None)
        self.forward = ForwardByLength(self.model)
        self._rollouts: Rollouts | None = None

    def step(self, batch: Batch | SoftTargetBatch, lr: float) -> StepResult:
        """One optimizer step."""
        return self.step_graph.run(batch, lr)

    def rollout(self, prompts: Sequence[bytes], longest: int, temperature: float, seed: int,
                index: int) -> list[Answer]:
        """Answers of the brain as it is now; a pure function of it and the arguments."""
        if self._rollouts is None or self._rollouts.rows < len(prompts):
            self._rollouts = Rollouts(self.model, len(prompts))
        rng = stream(seed, Stream.ROLLOUT, index)
        return [Answer(*said) for said in self._rollouts.answer(prompts, longest, END, temperature,
                                                                rng)]

    def state_dict(self) -> dict[str, np.ndarray]:
        return {**self.model.state_dict(), **self.optim.state_dict()}

    def load_state_dict(self, tensors: dict[str, np.ndarray]) -> None:
        self.optim.load_state_dict(tensors)
        self.model.load_state_dict({key: tensors[key] for key in self.model.state_dict()})
