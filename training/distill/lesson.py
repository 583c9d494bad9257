"""The lesson: steps over the views, the averaged student, and a state from which a killed run goes on unchanged."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor
from torch.nn import functional as F

from app.reid.errors import ConfigError
from training.distill.config import DistillConfig
from training.distill.student import Student, change_light
from training.distill.targets import Targets
from training.distill.whitening import whiten_neck
from training.export import round_to_half
from training.interrupt import interrupt_flag
from training.optim import WeightAverage, rate_factor
from training.start import build_model
from training.state import STATE, RunFolder
from training.train import MAX_BAD_STEPS, InterruptedRunError, TrainingDivergedError

_MEASURED = 100  # views in a batch that only measures
_WHITENED_ON = 4_000  # views

Tell = Callable[[str, int, int], None]
"""What is being done, how much of it, of how much."""


class Lesson:
    """The student, its optimiser and where it stands."""

    def __init__(self, config: DistillConfig, views: NDArray[np.uint8], targets: Targets) -> None:
        """The first `pictures.held_out` views only measure."""
        torch.manual_seed(config.seed)
        self.config = config
        self._views, self._targets = views, targets
        model = build_model(config.model)
        if config.model.pretrained != "none":  # its neck answers what another lesson asked
            model.linear.reset_parameters()
            model.batch_norm.reset_parameters()
        self.student = Student(model, targets.places.shape[1], targets.middle.shape[1])
        self.student.to(memory_format=torch.channels_last)
        self.average = WeightAverage(model, config.learning.ema_decay)
        self.step = 0
        decayed = [one for one in self.student.parameters() if one.ndim > 1]
        plain = [one for one in self.student.parameters() if one.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": config.learning.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=config.learning.learning_rate, betas=(0.9, 0.98))
        self._mean = torch.tensor(config.preprocess.mean)[:, None, None]
        self._std = torch.tensor(config.preprocess.std)[:, None, None]

    def run(self, folder: RunFolder, tell: Tell) -> None:
        """Learns to the last step.

        Raises:
            TrainingDivergedError, InterruptedRunError: see `distill`.
        """
        learning, bad = self.config.learning, 0
        with interrupt_flag() as interrupted:
            while self.step < learning.steps:
                bad = 0 if self._learn() else bad + 1
                self.step += 1
                tell("learning", self.step, learning.steps)
                if bad >= MAX_BAD_STEPS:
                    raise TrainingDivergedError(
                        f"{bad} steps in a row had a loss that is not finite (the last is step {self.step}); the last"
                        f" good state is kept in {folder.path}. A lower learning.learning_rate helps"
                    )
                if self.step % learning.save_every == 0 or self.step == learning.steps or interrupted():
                    folder.save(STATE, self.state())
                if interrupted():
                    raise InterruptedRunError(f"interrupted at step {self.step}; --resume goes on from there")
                if self.step % learning.save_every == 0:
                    folder.append_metrics({"step": self.step, **self.measure()})

    def measure(self) -> dict[str, JsonValue]:
        """Of the held-out views (of pictures it knows) through the averaged network: the mean cosine to the teacher."""
        held = self.config.pictures.held_out
        cosines = F.cosine_similarity(self._answers(range(held)), self._targets.pooled[:held])
        return {"held_out_views": held, "teacher_cosine": float(cosines.mean())}

    def finish(self) -> None:
        """What comes after the last step, on the averaged network: its neck is whitened, its numbers are rounded."""
        model, power, held = self.average.model, self.config.learning.whiten, self.config.pictures.held_out
        if power:
            whiten_neck(model, self._answers(range(held, min(len(self._views), held + _WHITENED_ON))), power)
        round_to_half(model)  # two files in full would take the bundle beyond what a clone should carry

    def _answers(self, rows: range) -> Tensor:
        """(R, D) of these views at the size of a photo: what the averaged network says before the unit sphere."""
        side, answers = self.config.preprocess.size[0], []
        with torch.inference_mode():
            for start in range(0, len(rows), _MEASURED):
                images = self._resized(self._images(np.array(rows[start : start + _MEASURED])), side)
                answers.append(self.average.model.neck_output((images - self._mean) / self._std))
        return torch.cat(answers)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "config": self.config.model_dump_json(exclude={"compute"}),
            "student": self.student.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes back to a saved state.

        Raises:
            ConfigError: it belongs to another config.
        """
        if state["config"] != self.config.model_dump_json(exclude={"compute"}):
            raise ConfigError("--resume: the run was started with another config")
        self.student.load_state_dict(state["student"])
        self.average.model.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def _learn(self) -> bool:
        """One step; False where the loss was not finite, and then nothing changed but BatchNorm's statistics."""
        learning = self.config.learning
        chance = torch.Generator().manual_seed((self.config.seed << 32) + self.step)
        rows = self._rows()
        images, pooled, places, middle = self._batch(rows, chance)
        size = learning.sizes[int(torch.randint(len(learning.sizes), (), generator=chance))]
        images = (self._resized(images, size) - self._mean) / self._std
        self.student.train()
        losses = self.student.losses(images.contiguous(memory_format=torch.channels_last), pooled, places, middle)
        total = losses.total(learning)
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), learning.clip_norm)
        if not bool(torch.isfinite(norm)):
            return False
        factor = rate_factor(self.step, warmup=learning.warmup, total=learning.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = learning.learning_rate * factor
        self._optimizer.step()
        self.average.update(self.student.model, self.step)
        return True

    def _rows(self) -> NDArray[np.int64]:
        """The step's views: every pass goes over all of them in another order."""
        held, batch = self.config.pictures.held_out, self.config.learning.batch
        steps = (len(self._views) - held) // batch
        number, place = divmod(self.step, steps)
        order = np.random.default_rng((self.config.seed, number)).permutation(len(self._views) - held)
        return held + np.sort(order[place * batch : (place + 1) * batch])

    def _batch(self, rows: NDArray[np.int64], chance: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images in [0, 1] under changed light and the targets; some of the views are mirrored, with their maps."""
        images = self._images(rows)
        places = torch.from_numpy(self._targets.places[rows].astype(np.float32))
        middle = torch.from_numpy(self._targets.middle[rows].astype(np.float32))
        mirrored = torch.rand(len(rows), generator=chance) < self.config.learning.mirror
        for maps in (images, places, middle):
            maps[mirrored] = maps[mirrored].flip(3)
        return change_light(images, chance), self._targets.pooled[rows], places, middle

    def _images(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._views[rows]).permute(0, 3, 1, 2).float() / 255.0

    def _resized(self, images: Tensor, side: int) -> Tensor:
        if images.shape[-1] == side:
            return images
        return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
