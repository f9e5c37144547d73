"""What each step asks of a cluster, in one place; a local run asks for nothing."""

from __future__ import annotations

from dataclasses import dataclass

from kfp.dsl import PipelineTask


@dataclass(frozen=True)
class Pod:
    """Requests and, at the same figures, limits: the pod is of class Guaranteed and nobody's neighbour slows it."""

    cpus: int
    memory: str
    gpus: int = 0


_SMALL = Pod(cpus=1, memory="2Gi")


@dataclass(frozen=True)
class Resources:
    """A pod for each step, the name of the accelerator, and how often a pod that failed is started again.

    Whole CPUs for `export`, because it times: with a fraction of one the kernel would throttle it.
    """

    data_prep: Pod = _SMALL
    candidates: Pod = _SMALL
    training: Pod = Pod(cpus=2, memory="8Gi", gpus=1)
    attack_evaluation: Pod = Pod(cpus=2, memory="8Gi", gpus=1)
    export: Pod = Pod(cpus=2, memory="4Gi")
    full_evaluation: Pod = Pod(cpus=2, memory="8Gi", gpus=1)
    front: Pod = _SMALL
    report: Pod = _SMALL
    accelerator: str = "nvidia.com/gpu"
    retries: int = 2
    backoff: str = "30s"

    @property
    def gpus(self) -> bool:
        """Whether any step asks for an accelerator."""
        return any(pod.gpus for pod in (self.training, self.attack_evaluation, self.full_evaluation))

    def request(self, task: PipelineTask, step: str, device: str) -> None:
        """Set on `task` what `step` asks for; no accelerator where `device` is cpu."""
        pod: Pod = getattr(self, step)
        task.set_cpu_request(str(pod.cpus)).set_cpu_limit(str(pod.cpus))
        task.set_memory_request(pod.memory).set_memory_limit(pod.memory)
        if pod.gpus and device != "cpu":
            task.set_accelerator_type(self.accelerator).set_accelerator_limit(pod.gpus)
        task.set_retry(num_retries=self.retries, backoff_duration=self.backoff, backoff_factor=2.0)
