"""Device, precision and processes: no other module depends on the machine that runs it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wsss.machine.gpu_locks import take_gpus
from wsss.machine.gpus import check_gpu_count, gpu_count

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CUBLAS_WORKSPACE = ":4096:8"  # CUBLAS_WORKSPACE_CONFIG under which products are deterministic (NVIDIA's documentation)


@dataclass(frozen=True)
class Runtime:
    """Where this process runs: device, precision, and rank among `world` processes.

    tf32: a GPU computes matrix products of float32 in TF32, with 10 bits after the point.
    """

    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    world: int = 1
    tf32: bool = False

    @classmethod
    def start(cls, precision: str = "fp32") -> Runtime:
        """Take a GPU, join the process group of torchrun, if there is one, and choose the precision."""
        take_gpus(1)
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        device, gpus = torch.device("cpu"), gpu_count()
        if gpus:
            place = int(os.environ.get("LOCAL_RANK", 0))
            check_gpu_count(int(os.environ.get("LOCAL_WORLD_SIZE", place + 1)), gpus)
            device = torch.device("cuda", place)
            torch.cuda.set_device(device)
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        tf32 = precision == "tf32" and device.type == "cuda"
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = True  # of convolutions: PyTorch's default, and fp32's
            torch.backends.cuda.matmul.allow_tf32 = tf32
        return cls(device, _dtype(precision, device), rank, world, tf32)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """The device's name, for records."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    @property
    def precision(self) -> str:
        """The name of the precision, for records."""
        if self.tf32:
            return "tf32"
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context for forward passes: mixed precision, unless the precision is float32."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler; it has an effect in float16 only."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device in channels-last memory format, the fastest for convolutions."""
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def send(self, images: Tensor) -> Tensor:
        """Move images (B, 3, H, W) to the device in channels-last memory format."""
        return images.to(self.device, non_blocking=True, memory_format=torch.channels_last)

    def stack(self, pictures: Sequence[Tensor]) -> Tensor:
        """Return tensors of one shape as a batch on the device; pinned ones move asynchronously."""
        return torch.stack([picture.to(self.device, non_blocking=True) for picture in pictures])

    def parallel(self, module: nn.Module) -> nn.Module:
        """Place a module on the device and average its gradients over the processes.

        On GPUs, BatchNorm uses the statistics of all processes; torch has no such layer for CPUs.
        """
        self.place(module)
        if self.world == 1:
            return module
        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=True)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.world
        return value

    def wait(self) -> None:
        """Wait until all processes reach this point."""
        if self.world > 1:
            dist.barrier()


def fetch(tensor: Tensor) -> Callable[[], Tensor]:
    """Start to copy a tensor to the processor's memory; return a function that waits for the copy.

    A GPU goes on with later work meanwhile, and any thread may wait.
    """
    if tensor.device.type != "cuda":
        return lambda: tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait


def release_memory() -> None:
    """Give cached memory of the GPU back, so that pieces of it can be used for larger tensors."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def gather(values: Tensor) -> Tensor:
    """Return the rows of `values` (N, ...) of all processes, in rank order; gradients are cut."""
    if not dist.is_initialized():
        return values
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.detach().contiguous())
    return torch.cat(parts)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "tf32":
        return torch.float32
    if precision != "auto":
        return DTYPES[precision]
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


@contextlib.contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Run the block with algorithms that give equal bytes in every run on one GPU, if `enabled`.

    cuBLAS reads its variable when a process multiplies on the GPU for the first time.
    """
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run the block with `module` in evaluation mode and without gradients; then restore the mode."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(was_training)
