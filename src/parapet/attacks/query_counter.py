"""Counts an attack's queries with and without gradients, and detects answers that are not finite."""

from __future__ import annotations

from torch import Tensor

from parapet.attacks.inputs import Model


class QueryCounter:
    """Counts queried images, with and without gradients, and tells whether all logits were finite."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set all counts to 0."""
        self.with_gradient = self.queries = 0
        self._finite: Tensor | None = None

    @property
    def finite(self) -> bool:
        """Whether every logit since `reset` was finite; reading it synchronises with the device."""
        return self._finite is None or bool(self._finite)

    def of(self, model: Model) -> Model:
        """The model, with its queries counted."""
        def counted(images: Tensor) -> Tensor:
            logits = model(images)
            if images.requires_grad:
                self.with_gradient += len(images)
            else:
                self.queries += len(images)
            finite = logits.detach().isfinite().all()
            self._finite = finite if self._finite is None else self._finite & finite
            return logits
        return counted
