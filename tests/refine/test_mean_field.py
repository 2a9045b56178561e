"""The CRF in PyTorch against pydensecrf on photographs, and where the CRF of a stage runs."""

import sys
from pathlib import Path

import pytest
import torch
from crf_agreement import samples, shares

from wsss.errors import ConfigError, MissingError
from wsss.machine.accelerator import crf_device, device_name
from wsss.refine.crf import check_installed
from wsss.refine.permutohedral import Lattice
from wsss.settings.base import CRF_SETS

AGREE = 0.999  # share of the pixels of a photograph that have the same label


@pytest.mark.parametrize("crf_set", CRF_SETS)
def test_every_set_gives_the_labels_of_the_library_on_photographs(crf_set: str) -> None:
    pytest.importorskip("pydensecrf")
    assert min(shares(samples((60, 80))[:1], 3, crf_set)) >= AGREE


@pytest.mark.slow
@pytest.mark.parametrize("crf_set", CRF_SETS)
def test_every_set_gives_the_labels_of_the_library_on_larger_photographs(crf_set: str) -> None:
    pytest.importorskip("pydensecrf")
    assert min(shares(samples((188, 250)), 3, crf_set)) >= AGREE


def test_values_added_as_integers_are_those_added_as_floats_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(300, 5, generator=generator) * 4
    values = torch.rand(300, 2, generator=generator)
    exact = Lattice(points).blur(values, fixed_point=True)
    assert torch.allclose(exact, Lattice(points).blur(values), atol=1e-5)
    order = torch.randperm(300, generator=generator)
    shuffled = Lattice(points[order]).blur(values[order], fixed_point=True)
    assert torch.equal(shuffled, exact[order])


def test_images_in_one_lattice_do_not_meet() -> None:
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(1))
    values = torch.zeros(80, 1)
    values[:40] = 1.0
    images = torch.arange(2).repeat_interleave(40)
    blurred = Lattice(torch.cat([points, points]), images).blur(values, fixed_point=True)
    alone = Lattice(points).blur(values[:40], fixed_point=True)
    assert torch.equal(blurred[:40], alone)
    assert (blurred[40:] == 0).all()


def test_without_a_gpu_the_crf_runs_in_the_library(tmp_path: Path) -> None:
    assert crf_device("auto", tmp_path) is None
    assert crf_device("cpu", tmp_path) is None
    assert device_name(None) == "cpu"
    with pytest.raises(ConfigError, match=r"crf.device is gpu, but .* Set crf.device: auto"):
        crf_device("gpu", tmp_path)


def test_a_driver_counts_if_pytorch_can_use_its_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia0").touch()
    for is_available, device in ((True, "cuda"), (False, None)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=is_available: answer)
        assert crf_device("auto", tmp_path) == device
        assert crf_device("cpu", tmp_path) is None


def test_pytorch_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    check_installed("none")
    check_installed("psa", "cuda")
    with pytest.raises(MissingError, match="pydensecrf2 is not installed"):
        check_installed("psa")
