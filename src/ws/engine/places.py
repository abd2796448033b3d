"""The places of workers: one per GPU, or as many as the cores allow; each is the environment a worker is started with."""

import os

# every library that would otherwise take all cores in every worker
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
GPUS = "CUDA_VISIBLE_DEVICES"
ANY_GPU = ("auto", "cuda")


def places_of(workers: int | None, *, threads: int, device: str = "auto", spread: bool = False) -> list[dict[str, str]]:
    """The environment of each worker; with `spread` there is one, which sees every device.

    The number of threads is the same for any number of workers, because it can change the last bits of a result.
    """
    environment = {name: str(threads) for name in THREADS}
    if spread:
        return [environment]
    if gpus := gpus_of(device):
        return [{**environment, GPUS: gpus[i % len(gpus)]} for i in range(workers or len(gpus))]
    return [environment] * (workers or workers_of(threads))


def workers_of(threads: int) -> int:
    """The number of workers that the cores allow, at so many threads each."""
    return max(1, cores() // threads)


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus_of(device: str) -> list[str]:
    """The names by which each GPU of this machine can be given to one process; none where the device is no GPU, or one."""
    if device not in ANY_GPU:
        return []
    import torch

    count = torch.cuda.device_count()
    visible = [x for x in os.environ.get(GPUS, "").split(",") if x]
    return visible[:count] or [str(i) for i in range(count)]
