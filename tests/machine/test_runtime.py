"""Device and precision: what `precision` means on this machine; copies that others wait for."""

import pytest
import torch

from wsss.machine.runtime import Runtime, fetch

ON_GPU = torch.cuda.is_available()


@pytest.mark.parametrize(
    ("precision", "products", "name"),
    [("fp32", False, "fp32"), ("tf32", True, "tf32")],
)
def test_tf32_is_for_matrix_products_on_a_gpu_alone(
    precision: str, products: bool, name: str
) -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        runtime = Runtime.start(precision)
        assert runtime.dtype == torch.float32
        assert runtime.precision == (name if ON_GPU else "fp32")
        assert torch.backends.cuda.matmul.allow_tf32 == (products if ON_GPU else before)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_a_fetched_tensor_has_the_values_of_the_device() -> None:
    values = torch.arange(12.0, device="cuda" if ON_GPU else "cpu").view(3, 4)
    copy = fetch(values)
    assert copy().device.type == "cpu"
    assert torch.equal(copy(), torch.arange(12.0).view(3, 4))


def test_pictures_become_a_batch_on_the_device() -> None:
    pictures = [torch.full((2, 3, 3), value, dtype=torch.uint8) for value in (1, 2)]
    batch = Runtime.start("fp32").stack(pictures)
    assert batch.device.type == ("cuda" if ON_GPU else "cpu")
    assert torch.equal(batch.cpu(), torch.stack(pictures))
